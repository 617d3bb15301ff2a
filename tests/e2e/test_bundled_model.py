"""models/latent-mini, as ./quickstart serves it."""

from __future__ import annotations

import pytest
import tokenizers
from conftest import ROOT

MODEL = ROOT / "models/latent-mini"
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def bundled(start_server):
    server = start_server("--kv-cache-tokens", "16384", model=MODEL)
    yield server
    assert server.stop() == 0


def test_it_writes_english(bundled):
    answer = bundled.client().completions.create(model="latent-mini", prompt=PROMPT, max_tokens=60, temperature=0)
    text = answer.choices[0].text
    assert len(text) > 80 and sum(c.isalpha() or c in " ,.!?'\"\n-" for c in text) > 0.98 * len(text)
    assert {"the", "a", "and", "to", "was"} & set(text.split())


def test_both_doors_and_both_shapes_say_the_same(bundled, proto):
    arguments = {"model": "latent-mini", "prompt": PROMPT, "max_tokens": 30, "temperature": 0.9, "seed": 3}
    whole = bundled.client().completions.create(**arguments).choices[0].text
    stream = bundled.client().completions.create(**arguments, stream=True)
    assert "".join(piece.choices[0].text for piece in stream) == whole
    messages = proto.messages
    request = messages.GenerateRequest(
        text=PROMPT,
        sampling=messages.SamplingParams(temperature=0.9, seed=3),
        stopping=messages.StoppingParams(max_tokens=30),
    )
    with bundled.channel() as channel:
        answers = list(proto.stubs.GenerationStub(channel).Generate(request, timeout=30))
    assert "".join(answer.text for answer in answers) == whole


def test_tokens_are_those_of_the_tokenizers_package(bundled, proto):
    oracle = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    with bundled.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        for text in (PROMPT, "naïve café 🤖", "  tabs\tand\n\nlines", "x" * 300):
            answer = stub.Tokenize(proto.messages.TokenizeRequest(text=text), timeout=10)
            assert list(answer.token_ids) == oracle.encode(text).ids


def test_the_context_is_the_models(bundled):
    assert bundled.client().models.retrieve("latent-mini").max_model_len == 1024
