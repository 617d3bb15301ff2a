"""What the model card of models/latent-mini promises, measured through the server.

Held-out documents, and twenty greedy samples of transformers that tools/train/golden.py wrote.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import tokenizers
from conftest import ROOT, Server

MODEL = ROOT / "models/latent-mini"
DATA = ROOT / "tests/data/latent-mini"
SAMPLES = json.loads((DATA / "greedy.json").read_text())
DECISIVE_GAP = 1e-3  # between two logits; below it another choice is as good


@pytest.fixture(scope="module")
def bundled(start_server):
    # Transformers' results are in fp32, and with a bf16 cache, the default, other words would be likeliest here and there.
    exact = ["--dtype", "fp32", "--kv-cache-dtype", "fp32", "--batch-invariant"]
    server = start_server("--kv-cache-tokens", "16384", *exact, model=MODEL)
    yield server
    assert server.stop() == 0


def promised_loss() -> float:
    """The number of the model card's row that names the committed documents."""
    found = re.findall(r"^\| .*held-out\.jsonl.*\| ([\d.]+) \|$", (MODEL / "README.md").read_text(), re.M)
    assert len(found) == 1, "the model card needs one row '| ... held-out.jsonl ... | LOSS |'"
    return float(found[0])


def documents(path: Path) -> list[list[int]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def log_probabilities(server: Server, prompts: list[list[int]]) -> list[float]:
    """Of every token after the first of every prompt."""
    answer = server.client().completions.create(
        model="latent-mini", prompt=prompts, max_tokens=1, temperature=0, logprobs=1, echo=True, timeout=300
    )
    return [value for choice in answer.choices for value in choice.logprobs.token_logprobs[1:-1]]


def test_the_loss_on_held_out_text_is_the_model_cards(bundled):
    held = documents(DATA / "held-out.jsonl")
    values = [v for start in range(0, len(held), 10) for v in log_probabilities(bundled, held[start : start + 10])]
    assert len(values) == sum(len(ids) - 1 for ids in held) > 10_000
    assert -sum(values) / len(values) == pytest.approx(promised_loss(), rel=0.01)


def write_greedily(server: Server) -> list:
    return (
        server.client()
        .completions.create(
            model="latent-mini",
            prompt=[sample["prompt_ids"] for sample in SAMPLES["samples"]],
            max_tokens=SAMPLES["max_tokens"],
            temperature=0,
            extra_body={"return_token_ids": True},
            timeout=300,
        )
        .choices
    )


@pytest.fixture(scope="module")
def written(bundled) -> list:
    return write_greedily(bundled)


def test_greedy_samples_are_those_of_transformers(written):
    """Ids and text. After a choice between two tokens of nearly equal logits a sample may go either way."""
    same = 0
    for choice, sample in zip(written, SAMPLES["samples"], strict=True):
        pairs = zip(choice.token_ids, sample["greedy_ids"], sample["top2_gaps"], strict=False)
        differs = next((gap for actual, expected, gap in pairs if actual != expected), None)
        if differs is None:
            assert choice.token_ids == sample["greedy_ids"] and choice.text == sample["text"], sample["prompt"]
            same += 1
        else:
            assert differs < DECISIVE_GAP, sample["prompt"]
    assert same >= 15


def test_greedy_samples_say_the_same_every_time(bundled, written):
    again = write_greedily(bundled)
    assert [choice.token_ids for choice in again] == [choice.token_ids for choice in written]
    assert [choice.text for choice in again] == [choice.text for choice in written]


def repeated(text: str, length: int = 8) -> list[str]:
    """Runs of `length` words that stand in `text` more than once."""
    words = re.findall(r"[\w']+", text.lower())
    runs = Counter(" ".join(words[i : i + length]) for i in range(len(words) - length + 1))
    return [run for run, count in runs.items() if count > 1]


def test_repetitions_are_found():
    sentence = "the cat went to the lake and saw a duck"
    assert repeated(f"{sentence}. It was cold. {sentence}!") == [
        " ".join(sentence.split()[i : i + 8]) for i in (0, 1, 2)
    ]
    assert not repeated(f"{sentence}. It was cold. The dog saw a duck")


def test_no_greedy_sample_goes_in_circles(written):
    """Each ends by itself, and no eight words follow each other twice."""
    assert len(written) == 20
    for choice in written:
        assert choice.finish_reason == "stop" and len(choice.text.split()) > 20, choice.text
        assert not repeated(choice.text), choice.text
