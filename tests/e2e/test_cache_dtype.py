"""The types of the latent cache, as users choose them: what they cost, what they change, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import cache_loss  # noqa: E402

PROMPT = "Once upon a time, there was a shy girl named Anna."
LAYERS = json.loads((cache_loss.MODEL / "config.json").read_text())["num_hidden_layers"]
BYTES_PER_TOKEN = {
    "fp32": LAYERS * 160 * 4,
    "bf16": LAYERS * 160 * 2,
    "fp8": LAYERS * (128 + 4 + 2 * 32),
}


@pytest.fixture(scope="module")
def servers(start_server):
    flags = ["--kv-cache-tokens", "16384", "--served-model-name", "model", "--batch-invariant"]
    started = {
        cache: start_server(*flags, "--kv-cache-dtype", cache, model=cache_loss.MODEL) for cache in BYTES_PER_TOKEN
    }
    yield started
    for server in started.values():
        assert server.stop() == 0


def test_the_loss_on_stories_stays_within_a_fifth_of_a_percent_of_bf16(servers):
    prompts = cache_loss.documents(cache_loss.TEXTS, cache_loss.MODEL)[:30]
    assert sum(map(len, prompts)) > 5_000
    bf16, fp8 = (cache_loss.loss(servers[cache].url, "model", prompts) for cache in ("bf16", "fp8"))
    assert fp8 == pytest.approx(bf16, rel=0.002)
    assert fp8 != bf16, "one of the two was not what was asked for"


def test_a_token_costs_its_planes_and_everybody_hears_of_it(servers):
    for cache, cost in BYTES_PER_TOKEN.items():
        server = servers[cache]
        with urllib.request.urlopen(server.url + "/metrics", timeout=30) as answer:
            metrics = answer.read().decode()
        assert any("latentd_kv_bytes_per_token{" in line and line.endswith(f" {cost}") for line in metrics.splitlines())
        assert f'cache_dtype="{cache}"' in metrics
        assert any(f"kv-cache-dtype={cache}" in line and f"kv-bytes-per-token={cost}" in line for line in server.lines)


def test_an_answer_has_the_same_bits_alone_and_among_others(servers):
    client = servers["fp8"].client()
    arguments = {"model": "model", "max_tokens": 24, "temperature": 0.9, "seed": 5, "logprobs": 2}
    alone = client.completions.create(prompt=PROMPT, **arguments).choices[0]
    crowd = client.completions.create(prompt=["The dog", PROMPT, "One day, " * 40], **arguments).choices[1]
    assert (crowd.text, crowd.logprobs) == (alone.text, alone.logprobs)


def test_inspect_counts_the_bytes_that_serve_takes(request):
    for cache, cost in BYTES_PER_TOKEN.items():
        command = [request.config.getoption("--latentd"), "inspect", str(cache_loss.MODEL)]
        shown = subprocess.run(
            [*command, "--kv-cache-dtype", cache, "--json"], check=True, capture_output=True, text=True
        ).stdout
        assert json.loads(shown)["kv_cache_dtype"] == cache
        assert json.loads(shown)["caches"][0]["bytes_per_token"] == cost


def test_what_cannot_be_had_is_refused_by_name(request):
    def refusal(*flags: str) -> str:
        command = [request.config.getoption("--latentd"), "serve", "--model", str(cache_loss.MODEL), *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode != 0
        return ended.stderr

    assert "{auto,fp32,bf16,fp8}" in refusal("--kv-cache-dtype", "fp4")
