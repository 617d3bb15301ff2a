"""A CUDA device that breaks under the running server (tests/e2e/trap.cu, preloaded)."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import openai
import pytest
from conftest import eventually

TRAP = os.environ.get("LATENTD_TEST_TRAP", "")

pytestmark = pytest.mark.skipif(not TRAP, reason="LATENTD_TEST_TRAP names no library; needs a CUDA device")


ERRORS = 'latentd_gpu_errors_total{kind="fatal"}'


def stalled_reader(port: int) -> socket.socket:
    """A stream whose reader takes its first bytes and no more: what is left for it outlasts the engine."""
    body = json.dumps({"prompt": "run", "stream": True, "ignore_eos": True, "max_tokens": 16000, "logprobs": 20})
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", port))
    head = "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert sock.recv(16).startswith(b"HTTP/1.1 200 OK")
    return sock


def test_a_broken_device_fails_streams_with_a_retryable_error_and_ends_the_process(start_server, tmp_path: Path):
    trap_file = tmp_path / "trap"
    server = start_server(
        "--metrics-port", "0", LATENTD_DEVICE="cuda", LD_PRELOAD=TRAP, LATENTD_TEST_TRAP_FILE=str(trap_file)
    )
    assert server.metrics()[ERRORS] == 0
    # Its backlog keeps the doors open for their last words, and the metrics with them.
    stalled = stalled_reader(server.http_port)
    eventually(lambda: server.metrics()["latentd_generation_tokens_total"] > 1000)
    errors: list[Exception | None] = []
    begun = threading.Semaphore(0)

    def read() -> None:
        stream = server.client().completions.create(
            model=server.client().models.list().data[0].id, prompt="abc", max_tokens=16000, stream=True,
            extra_body={"ignore_eos": True},
        )
        try:
            for number, _ in enumerate(stream):
                if number == 2:
                    begun.release()
            errors.append(None)
        except openai.APIError as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert begun.acquire(timeout=20)
    trap_file.touch()
    server.wait_for_line("the engine has failed")
    assert server.metrics()[ERRORS] == 1
    for reader in readers:
        reader.join(20)
    assert len(errors) == 4 and all(error is not None for error in errors), errors
    assert any("retry" in str(error) for error in errors), errors
    assert server.process.wait(20) == 1
    stalled.close()
