"""A CUDA device that breaks under the running server (tests/e2e/trap.cu, preloaded)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import openai
import pytest
from conftest import eventually

TRAP = os.environ.get("LATENTD_TEST_TRAP", "")

pytestmark = pytest.mark.skipif(not TRAP, reason="LATENTD_TEST_TRAP names no library; needs a CUDA device")


def test_a_broken_device_fails_streams_with_a_retryable_error_and_ends_the_process(start_server, tmp_path: Path):
    trap_file = tmp_path / "trap"
    server = start_server(
        LATENTD_DEVICE="cuda", LD_PRELOAD=TRAP, LATENTD_TEST_TRAP_FILE=str(trap_file)
    )
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
    for reader in readers:
        reader.join(20)
    assert len(errors) == 4 and all(error is not None for error in errors), errors
    assert any("retry" in str(error) for error in errors), errors
    assert server.process.wait(20) == 1
    eventually(lambda: any("the engine has failed" in line for line in server.lines))
