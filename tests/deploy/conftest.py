"""What the tests of deploy/ share: the binary, its options, Prometheus."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
MODEL = ROOT / "models/latent-mini"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--latentd", default=str(ROOT / "build/release/latentd"), help="the binary under test")


@pytest.fixture(scope="session")
def latentd(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--latentd")


def help_of(binary: str, *command: str) -> str:
    return subprocess.run([binary, *command, "--help"], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def variables(latentd: str) -> set[str]:
    """The LATENTD_* variables that `serve` reads."""
    found = set(re.findall(r"\(Env:(\w+)\)", help_of(latentd, "serve")))
    assert len(found) > 20
    return found


def folder_from(script: str) -> Path:
    """What tests/deploy/get-* prints: a folder of programs."""
    result = subprocess.run([ROOT / "tests/deploy" / script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{script}: {result.stderr[-500:]}"
    return Path(result.stdout.strip())


@pytest.fixture(scope="session")
def prometheus_tools() -> Path:
    """The folder of `prometheus` and `promtool`."""
    return folder_from("get-prometheus")


@pytest.fixture(scope="session")
def kubectl() -> Path:
    return folder_from("get-kubectl") / "kubectl"


def serve(binary: str, *flags: str) -> tuple[subprocess.Popen[str], str]:
    """A small server that is ready, and its URL."""
    ports = ["--http-port", "0", "--grpc-port", "0", "--cpu-threads", "1", "--kv-cache-tokens", "65536"]
    process = subprocess.Popen(
        [binary, "serve", "--model", MODEL, *ports, *flags], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stderr is not None
    port = None
    for line in process.stderr:
        if match := re.search(r"listening\W+http\W+127\.0\.0\.1:(\d+)", line):
            port = int(match[1])
        if re.search(r"\bready\W+model\b", line):
            break
    assert port, "the server did not start"
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process, f"{'https' if '--tls-cert' in flags else 'http'}://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def start_server(latentd: str) -> Iterator[Callable[..., str]]:
    """Starts servers with more flags and gives their URLs; all are stopped at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> str:
        process, url = serve(latentd, *flags)
        started.append(process)
        return url

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that its own key has signed, good for 90 days, and that key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90"]
    command += ["-subj", "/CN=latentd", "-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


# Whom these tests talk to they have started themselves; tests/e2e/test_tls.py is about trust.
ANY_SERVER = ssl._create_unverified_context()


def get(url: str, timeout: float = 10) -> str:
    with urllib.request.urlopen(url, timeout=timeout, context=ANY_SERVER) as response:
        return response.read().decode()


def complete(url: str, tokens: int, prompt: str, key: str = "") -> None:
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url + "/v1/completions", body, headers)
    with urllib.request.urlopen(request, timeout=60, context=ANY_SERVER) as response:
        assert json.load(response)["choices"]


def eventually(probe: Callable[[], Any], timeout: float = 60):
    """The first truthy answer of `probe`."""
    deadline, last = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        try:
            if answer := probe():
                return answer
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"it did not happen in time: {last}")
