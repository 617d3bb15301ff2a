"""What the end-to-end tests of the load test share: programs as child processes, reports as dictionaries."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/latent-mini"


class Server:
    """A server process that says on which ports it listens, and with `ready` when it serves."""

    def __init__(self, command: list[str], pattern: str, ready: str = ""):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if match := re.search(pattern, line):
                self.ports = [int(port) for port in match.groups()]
            if hasattr(self, "ports") and re.search(ready, line):
                break
        else:
            raise AssertionError("".join(seen))
        # What it says later must not fill the pipe.
        self._drain = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)

    @classmethod
    def null(cls, loadtest: str, *flags: str) -> Server:
        """Its ports are those of HTTP and gRPC."""
        command = [loadtest, "null-server", "--port", "0", "--grpc-port", "0", *flags]
        return cls(command, r"http://127\.0\.0\.1:(\d+), grpc 127\.0\.0\.1:(\d+)")

    @classmethod
    def latentd(cls, latentd: str, *flags: str) -> Server:
        command = [latentd, "serve", "--model", str(MODEL), "--http-port", "0", "--grpc-port", "0",
                   "--drain-propagation", "0", *flags]  # fmt: skip
        return cls(command, r"listening\W+http\W+127\.0\.0\.1:(\d+)\W+grpc\W+127\.0\.0\.1:(\d+)", r"\bready\b")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        assert code == 0, f"the server ended with {code}"
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._drain.wait(20)


class LoadTest(unittest.TestCase):
    loadtest: str
    directory: Path

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)

    def run_tool(self, *flags: str, report: str = "report.json") -> tuple[dict, list[dict]]:
        """The report of `latentd-loadtest run` and its lines, one a request."""
        path, lines = self.directory / report, self.directory / "requests.jsonl"
        command = [self.loadtest, "run", "--no-progress", "--json", str(path), "--requests-out", str(lines)]
        subprocess.run(command + list(flags), check=True, stdout=subprocess.DEVNULL, timeout=500)
        return json.loads(path.read_text()), [json.loads(line) for line in lines.read_text().splitlines()]

    def scenario(self, text: str) -> str:
        path = self.directory / "scenario.yaml"
        path.write_text(text)
        return str(path)
