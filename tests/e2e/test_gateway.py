"""The gateway `smg` before latentd: it fetches the tokenizer, renders and tokenises itself, and follows the prefix cache."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Server, eventually

PATIENCE = 120  # seconds; it takes a few


@pytest.fixture(scope="module")
def mini(start_server) -> Server:
    flags = ["--served-model-name", "mini", "--kv-cache-tokens", "8192", "--page-tokens", "16"]
    return start_server(*flags, model=ROOT / "models/latent-mini")


class Gateway:
    def __init__(self, mini: Server, log: Path):
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(str(free.getsockname()[1]))
        command = [Path(sys.executable).parent / "smg", "launch", "--host", "127.0.0.1", "--port", ports[0]]
        worker = ["--worker-urls", f"grpc://127.0.0.1:{mini.grpc_port}", "--policy", "cache_aware"]
        flags = ["--prometheus-port", ports[1], "--log-level", "info"]
        self.url, self.log = f"http://127.0.0.1:{ports[0]}", log
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # what it needs it gets from its worker
        with log.open("w") as out:
            self.process = subprocess.Popen([*command, *worker, *flags], stdout=out, stderr=out, env=os.environ | nowhere)

    def ask(self, path: str, body: dict | None = None) -> dict | None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except OSError:  # not there yet, or not ready
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            return None

    def has_said(self, words: str) -> bool:
        return re.search(words, re.sub(r"\x1b\[[\d;]*m", "", self.log.read_text())) is not None


@pytest.fixture(scope="module")
def gateway(mini, tmp_path_factory) -> Iterator[Gateway]:
    gateway = Gateway(mini, tmp_path_factory.mktemp("smg") / "log")
    yield gateway
    gateway.process.terminate()
    try:
        gateway.process.wait(20)
    except subprocess.TimeoutExpired:
        gateway.process.kill()
        gateway.process.wait()


CHAT = {
    "model": "mini",
    "messages": [{"role": "user", "content": "Tell me about a fox that lives in the deep forest and loves the moon."}],
    "max_tokens": 30,
    "temperature": 0,
}


def test_it_answers_with_what_the_model_says(gateway, mini):
    answer = eventually(lambda: gateway.ask("/v1/chat/completions", CHAT), PATIENCE)
    direct = mini.client().chat.completions.create(**CHAT)
    assert answer["choices"][0]["message"]["content"] == direct.choices[0].message.content
    assert answer["usage"]["completion_tokens"] == direct.usage.completion_tokens
    assert answer["usage"]["prompt_tokens"] == direct.usage.prompt_tokens
    assert gateway.has_said("Fetching tokenizer from worker") and gateway.has_said("Successfully loaded tokenizer")


def test_it_follows_the_prefix_cache(gateway):
    eventually(lambda: gateway.ask("/v1/chat/completions", CHAT), PATIENCE)
    eventually(lambda: gateway.has_said("KV event relay snapshot applied"), PATIENCE)
    eventually(lambda: gateway.has_said(r"Learned block_size from KV event.* block_size=16"), PATIENCE)
