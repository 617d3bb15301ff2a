"""What the tests of deploy/ share: the binary, its options, Prometheus."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


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


@pytest.fixture(scope="session")
def prometheus_tools() -> Path:
    """The folder of `prometheus` and `promtool`."""
    if installed := shutil.which("promtool"):
        return Path(installed).parent
    result = subprocess.run([ROOT / "tests/deploy/get-prometheus"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip("promtool is not to be had here: " + result.stderr[-200:])
    return Path(result.stdout.strip())
