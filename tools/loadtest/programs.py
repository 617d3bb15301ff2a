"""What the measuring scripts share: latentd and its load test as child processes, pinned to cores."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/latent-mini"


def pinned(core: int | None, command: list[str]) -> list[str]:
    return command if core is None else ["taskset", "-c", str(core), *command]


class Server:
    """A server that writes its ports into a log; ready when the context begins, stopped when it ends."""

    def __init__(self, command: list[str], log: Path, ports: str, ready: str, environment: dict | None = None):
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )
        while not (re.search(ready, text := log.read_text()) and (found := re.search(ports, text))):
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended:\n{text[-2000:]}")
            time.sleep(0.02)
        self.ports = [int(port) for port in found.groups()]
        self.url = f"http://127.0.0.1:{self.ports[0]}"

    @classmethod
    def latentd(cls, program: list[str], model: Path, log: Path, flags: list[str], environment: dict | None = None) -> Server:
        command = [*program, "serve", "--model", str(model), "--http-port", "0", "--grpc-port", "0",
                   "--drain-propagation", "0", *flags]  # fmt: skip
        return cls(command, log, r"listening\W+http\W+[\d.]+:(\d+)\W+grpc\W+[\d.]+:(\d+)", r"\bready\b", environment)

    @classmethod
    def null(cls, program: list[str], log: Path, flags: list[str]) -> Server:
        return cls([*program, "null-server", "--port", "0", *flags], log, r"127\.0\.0\.1:(\d+)", "listening")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_load(program: list[str], url: str, out: Path, flags: list[str], html: Path | None = None) -> dict:
    command = [*program, "run", "--no-progress", "--url", url, "--json", str(out), *flags]
    if html:
        command += ["--html", str(html)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"
