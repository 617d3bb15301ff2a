"""A LlamaForCausalLM checkpoint through the doors: the text of transformers, whatever runs beside it."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import struct
from pathlib import Path

import pytest
from conftest import ROOT, byte_alphabet

TINY = ROOT / "tests/data/tiny/llama-gqa-bf16"
# One printable byte a token, and the line feed: the checkpoint's 96 tokens.
ALPHABET = [byte for byte in range(0x20, 0x7F)] + [0x0A]


def golden(name: str) -> list[int]:
    """A tensor of 32-bit integers that transformers made (tools/golden)."""
    data = (TINY / "golden.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    begin, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    return list(struct.unpack(f"<{(end - begin) // 4}i", data[8 + length + begin : 8 + length + end]))


@pytest.fixture(scope="module")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "llama"
    shutil.copytree(TINY, path)
    spelling = {byte: char for char, byte in byte_alphabet().items()}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    vocab = {spelling[byte]: token for token, byte in enumerate(ALPHABET)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


@pytest.fixture(scope="module")
def llama(start_server, llama_dir):
    flags = ["--kv-cache-dtype", "fp32", "--kv-cache-tokens", "4096", "--batch-invariant"]
    server = start_server(*flags, model=llama_dir)
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("length", ["short", "long"])
def test_it_says_what_transformers_says(llama, length):
    answer = llama.client().completions.create(
        model="llama",
        prompt=golden(f"prompt.{length}"),
        max_tokens=64,
        temperature=0,
        extra_body={"ignore_eos": True, "return_token_ids": True},
    )
    assert answer.choices[0].token_ids == golden(f"greedy.{length}")
    assert answer.choices[0].text == bytes(ALPHABET[token] for token in golden(f"greedy.{length}")).decode()


def test_text_and_logprobs_do_not_depend_on_neighbours(llama):
    client = llama.client()

    def ask(prompt: str, seed: int) -> tuple[str, list[float]]:
        answer = client.completions.create(
            model="llama",
            prompt=prompt,
            max_tokens=60,
            temperature=1.0,
            seed=seed,
            logprobs=3,
            extra_body={"ignore_eos": True},
        )
        choice = answer.choices[0]
        return choice.text, choice.logprobs.token_logprobs

    prompts = [("Keys and values, " * (1 + i % 4), i) for i in range(12)]
    alone = [ask(*prompt) for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(lambda prompt: ask(*prompt), prompts)) == alone
    assert llama.metrics()["latentd_prefix_cache_hits_total"] > 0


def test_its_cache_is_counted(llama):
    metrics = llama.wait_until_idle()
    # 2 layers of keys and values, 2 heads of 16 for 4 of queries, fp32.
    assert metrics["latentd_kv_bytes_per_token"] == 512
    assert metrics["latentd_kv_bytes_per_token_mha"] == 1024
    llama.wait_for_line(r"\bloaded\b.*attention\W+GQA.*kv-bytes-per-token\W+512")
