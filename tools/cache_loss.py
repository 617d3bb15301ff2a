#!/usr/bin/env python3
"""What a narrow latent cache costs a model: the loss on held-out text, once for each type of cache.

    tools/cache_loss.py [--latentd PROGRAM] [--model DIR] [--texts FILE.jsonl] [--caches fp32 bf16 fp8]

Starts `latentd serve` once a type and asks it for the log probabilities of every token of every text, {"text": ...} a
line, so that what is measured is what is served. Prints nats a token and the change against the first type. Needs the
package `tokenizers`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tokenizers

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models/latent-mini"
TEXTS = ROOT / "tests/data/latent-mini/held-out.jsonl"
AT_ONCE = 8  # texts a request


def documents(texts: Path, model: Path) -> list[list[int]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    lines = texts.read_text(encoding="utf-8").splitlines()
    return [tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids for line in lines]


def log_probabilities(url: str, model: str, prompts: list[list[int]]) -> list[float]:
    """Of every token but the first of every prompt."""
    body = {"model": model, "prompt": prompts, "max_tokens": 0, "echo": True, "logprobs": 0}
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        choices = json.load(answer)["choices"]
    return [value for choice in choices for value in choice["logprobs"]["token_logprobs"][1:]]


def loss(url: str, model: str, prompts: list[list[int]]) -> float:
    """Nats a token over all prompts."""
    values: list[float] = []
    for first in range(0, len(prompts), AT_ONCE):
        values += log_probabilities(url, model, prompts[first : first + AT_ONCE])
    assert len(values) == sum(len(ids) - 1 for ids in prompts)
    return -sum(values) / len(values)


@contextmanager
def serving(latentd: str, model: Path, cache: str) -> Iterator[str]:
    """The URL of a server with this type of cache."""
    command = [latentd, "serve", "--model", str(model), "--served-model-name", "model", "--http-port", "0"]
    command += ["--grpc-port", "0", "--device", "cpu", "--kv-cache-dtype", cache, "--drain-propagation", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        url, log = "", []
        for line in process.stderr:
            log.append(line)
            if match := re.search(r"listening\W+http\W+(127\.0\.0\.1:\d+)", line):
                url = f"http://{match[1]}"
            if re.search(r"\bready\W+model\b", line):
                break
        else:
            raise SystemExit("".join(log))
        yield url
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latentd", default=str(ROOT / "build/release/latentd"))
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--texts", type=Path, default=TEXTS)
    parser.add_argument("--caches", nargs="+", default=["bf16", "fp8", "fp32"])
    arguments = parser.parse_args()
    prompts = documents(arguments.texts, arguments.model)
    print(f"{len(prompts)} texts, {sum(map(len, prompts))} tokens")
    first = None
    for cache in arguments.caches:
        with serving(arguments.latentd, arguments.model, cache) as url:
            value = loss(url, "model", prompts)
        first = value if first is None else first
        print(f"{cache:5} {value:.5f} nats a token, {100 * (value / first - 1):+.3f} %", flush=True)


if __name__ == "__main__":
    main()
