"""What all end-to-end tests share: a small model, servers of the real binary, clients.

The model is a committed tiny checkpoint with a tokenizer whose tokens are bytes and a context long enough that
requests can be caught while they run. It says nothing sensible, and says the same every time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import openai
import pytest
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/data/tiny/v3-one-group-fp32"
CONTEXT = 16384
END_TOKEN = 1

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--latentd", default=str(ROOT / "build/release/latentd"), help="the binary under test")


def byte_alphabet() -> dict[str, int]:
    """The byte-level alphabet of GPT-2: printable bytes as themselves, the others from U+0100 up."""
    alphabet, extra = {}, 0x100
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE:
            alphabet[chr(byte)] = byte
        else:
            alphabet[chr(extra)] = byte
            extra += 1
    return alphabet


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(TINY, path)
    config = json.loads((path / "config.json").read_text())
    config["max_position_embeddings"] = CONTEXT
    config["eos_token_id"] = END_TOKEN
    (path / "config.json").write_text(json.dumps(config))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": byte_alphabet(), "merges": []},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


class Server:
    """A running latentd. Ports are the ones it picked itself."""

    def __init__(self, binary: str, model: Path, flags: list[str], env: dict[str, str]):
        command = [binary, "serve", "--model", str(model), "--http-port", "0", "--grpc-port", "0"]
        defaults = ["--cpu-threads", "1", "--drain-propagation", "0", "--kv-cache-tokens", str(8 * CONTEXT)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command + defaults + flags, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False  # the process has closed its stderr
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        listening = self.wait_for_line(r"listening\W+http\W+127\.0\.0\.1:(\d+)\W+grpc\W+127\.0\.0\.1:(\d+)")
        self.http_port, self.grpc_port = int(listening[1]), int(listening[2])
        self.url = f"http://127.0.0.1:{self.http_port}"
        line = listening.string
        self.metrics_port = int(found[1]) if (found := re.search(r"metrics\W+127\.0\.0\.1:(\d+)", line)) else None
        self.admin_port = int(found[1]) if (found := re.search(r"admin\W+127\.0\.0\.1:(\d+)", line)) else None

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for_line(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    if match := re.search(pattern, line):
                        return match
                seen = len(self.lines)
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no line {pattern!r} in:\n" + "\n".join(self.lines))

    def stop(self, timeout: float = 20) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0, timeout=30)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")

    def metrics(self, key: str | None = None) -> dict[str, float]:
        """name{labels without engine and model_name} -> value."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"http://127.0.0.1:{self.metrics_port}" if self.metrics_port else self.url
        request = urllib.request.Request(url + "/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read().decode()
        values = {}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            name, value = line.rsplit(" ", 1)
            name = re.sub(r'engine="0",model_name="[^"]*",?', "", name).replace("{}", "")
            values[name] = float(value)
        return values

    def wait_until_idle(self, timeout: float = 10) -> dict[str, float]:
        """Metrics once no page is in use or promised and nothing runs or waits."""

        def idle() -> dict[str, float] | None:
            values = self.metrics()
            busy = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"]
            is_idle = all(values["latentd_" + name] == 0 for name in busy)
            return values if is_idle and values['latentd_kv_pages{state="used"}'] == 0 else None

        return eventually(idle, timeout)


def eventually(probe: Callable[[], T | None], timeout: float = 10) -> T:
    """The first truthy answer of `probe`."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if answer := probe():
            return answer
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture(scope="session")
def start_server(request: pytest.FixtureRequest, model_dir: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers with more flags; all are stopped at the end."""
    servers: list[Server] = []

    def start(*flags: str, model: Path = model_dir, ready: bool = True, **env: str) -> Server:
        server = Server(request.config.getoption("--latentd"), model, list(flags), env)
        servers.append(server)
        if ready:
            server.wait_for_line(r"\bready\W+model\b")
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server]) -> Server:
    """The server that tests share unless they end it or need other flags."""
    return start_server("--served-model-name", "tiny", "--served-model-name", "org/tiny")


@pytest.fixture(scope="session")
def proto(tmp_path_factory: pytest.TempPathFactory):
    """The messages and stubs of latentd.v1, generated from the committed contract."""
    out = tmp_path_factory.mktemp("stubs")
    arguments = [f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(["protoc", *arguments, "latentd/v1/generation.proto"]) == 0
    sys.path.insert(0, str(out))
    from latentd.v1 import generation_pb2, generation_pb2_grpc

    class Proto:
        messages = generation_pb2
        stubs = generation_pb2_grpc

    return Proto


@pytest.fixture
def stub(server: Server, proto) -> Iterator:
    with server.channel() as channel:
        yield proto.stubs.GenerationStub(channel)


# What makes a tiny model say one token after another, none twice: see scripted_model.
NEVER_TWICE = {"temperature": 0, "presence_penalty": 2, "extra_body": {"repetition_penalty": 10}}


@pytest.fixture(scope="session")
def scripted_model(server: Server, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Models that say what they are told, piece by piece, when asked with NEVER_TWICE.

    Greedy and held from repeating itself, the tiny model goes on from a prompt with the same tokens every time,
    each another one. The tokenizer of a scripted model gives those tokens the wanted pieces; the token after the
    last ends the text. Its chat template is always the same prompt; `template` adds to its source.
    """
    prompt = "ab"
    answer = server.client().completions.create(
        model="tiny", prompt=prompt, max_tokens=40, **NEVER_TWICE | {
            "extra_body": {"repetition_penalty": 10, "return_token_ids": True, "ignore_eos": True}
        },
    )
    said = answer.choices[0].token_ids
    assert len(set(said)) == len(said) and not set(said) & set(prompt.encode())

    def make(pieces: list[str], template: str = "") -> Path:
        assert len(set(pieces)) == len(pieces) < len(said)
        path = tmp_path_factory.mktemp("scripted") / "scripted"
        shutil.copytree(model_dir, path)
        config = json.loads((path / "config.json").read_text())
        config["eos_token_id"] = said[len(pieces)]
        (path / "config.json").write_text(json.dumps(config))
        tokenizer = json.loads((path / "tokenizer.json").read_text())
        spelling = {byte: char for char, byte in byte_alphabet().items()}
        vocab = {char: byte for char, byte in byte_alphabet().items() if byte not in said}
        for token, piece in zip(said, pieces, strict=False):
            vocab["".join(spelling[byte] for byte in piece.encode())] = token
        tokenizer["model"]["vocab"] = vocab
        (path / "tokenizer.json").write_text(json.dumps(tokenizer))
        (path / "chat_template.jinja").write_text("{# " + template + " #}" + prompt)
        return path

    return make
