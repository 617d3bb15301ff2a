"""What the openai client does by itself: retries that honour retry-after, async streams; and what lm-eval sends."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time

import openai
import pytest
import tokenizers
from conftest import ROOT, Server

MODEL = ROOT / "models/latent-mini"
GOLDEN = json.loads((ROOT / "tests/data/latent-mini/golden.json").read_text())


@pytest.fixture(scope="module")
def mini(start_server) -> Server:
    # The golden results are transformers' in fp32; a bf16 cache, this checkpoint's default, adds up to 2e-3 to them.
    # Lists of prompts are compared with prompts alone, which on CUDA needs --batch-invariant.
    exact = ["--dtype", "fp32", "--kv-cache-dtype", "fp32", "--batch-invariant"]
    return start_server("--served-model-name", "mini", "--kv-cache-tokens", "16384", *exact, model=MODEL)


def test_a_shed_request_is_sent_again_when_it_was_told_to(start_server):
    server = start_server("--served-model-name", "tiny", "--max-queue", "1")
    patient = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=3, timeout=30)
    long = {"model": "tiny", "prompt": "x", "stream": True, "extra_body": {"ignore_eos": True}}
    with server.client().completions.create(**long, max_tokens=16000) as busy:
        next(iter(busy))
        timer = threading.Timer(0.3, busy.close)  # there is room long before the second try
        timer.start()
        began = time.monotonic()
        assert patient.completions.create(model="tiny", prompt="y", max_tokens=1).usage.completion_tokens == 1
        # Its own first pause would be half a second at most.
        assert time.monotonic() - began >= 0.95
        timer.join()
    assert server.metrics()['latentd_requests_rejected_total{reason="queue_full"}'] == 1


def test_a_bad_request_is_sent_once(start_server):
    server = start_server("--served-model-name", "tiny")
    patient = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=3, timeout=30)
    with pytest.raises(openai.BadRequestError):
        patient.completions.create(model="tiny", prompt="x", n=0)
    assert server.metrics()['latentd_requests_rejected_total{reason="invalid"}'] == 1


def test_async_streams_run_side_by_side(mini):
    arguments = {"model": "mini", "prompt": "Once upon a time", "max_tokens": 30, "temperature": 0}
    whole = mini.client().completions.create(**arguments).choices[0].text

    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.completions.create(**arguments, stream=True)
        return "".join([part.choices[0].text async for part in stream])

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=mini.url + "/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client) for _ in range(20)))

    assert asyncio.run(run()) == [whole] * 20


def log_softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    total = math.log(math.fsum(math.exp(value - top) for value in logits)) + top
    return [value - total for value in logits]


def loglikelihoods(mini: Server, prompts: list[list[int]]) -> list[tuple[list[float], list[bool]]]:
    """As lm-eval's local-completions asks and reads: of every token after the first, and whether it was the likeliest."""
    fields = {"max_tokens": 1, "temperature": 0, "seed": 1234, "logprobs": 1, "echo": True}
    out = []
    for choice in mini.client().completions.create(model="mini", prompt=prompts, **fields).choices:
        values, tops = choice.logprobs.token_logprobs[1:-1], choice.logprobs.top_logprobs[1:-1]
        out.append((values, [value == max(top.values()) for value, top in zip(values, tops, strict=True)]))
    return out


def test_loglikelihoods_are_those_of_transformers(mini):
    """Of every token of a prompt, and of 60 one-token continuations from the likeliest to the least."""
    ids = GOLDEN["logits"]["ids"]
    expected = [log_softmax(row) for row in GOLDEN["logits"]["values"]]
    likeliest = sorted(range(len(expected[-1])), key=lambda token: -expected[-1][token])
    continuations = likeliest[:30] + likeliest[30::200] + likeliest[-8:]
    assert len(continuations) > 55
    for start in range(0, len(continuations), 16):
        part = continuations[start : start + 16]
        scored = loglikelihoods(mini, [[*ids, token] for token in part])
        for token, (values, greedy) in zip(part, scored, strict=True):
            wanted = [expected[i][ids[i + 1]] for i in range(len(ids) - 1)] + [expected[-1][token]]
            assert values == pytest.approx(wanted, abs=1e-3)
            assert greedy[-1] == (token == likeliest[0])


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["prompt"][:20])
def test_what_transformers_writes_greedily_scores_as_greedy(mini, case):
    """lm-eval's `is_greedy` of the whole continuation; where two tokens were closer than 1e-3 either may be."""
    prompt, written = case["prompt_ids"], case["greedy_ids"]
    [(values, greedy)] = loglikelihoods(mini, [prompt + written])
    for value, is_greedy, gap in zip(values[-len(written) :], greedy[-len(written) :], case["top2_gaps"], strict=True):
        assert value < 0 and (is_greedy or gap < 1e-3)


def test_an_evaluation_scores_as_lm_eval_itself_was_answered(mini):
    """48 requests of a multiple-choice task, tokenised as lm-eval does it: the context alone, then with its continuation."""
    recorded = json.loads((ROOT / "tests/data/latent-mini/loglikelihoods.json").read_text())["requests"]
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    prompts = [ids_of(case["context"] + case["continuation"]) for case in recorded]
    scored = loglikelihoods(mini, prompts)
    for case, (values, greedy) in zip(recorded, scored, strict=True):
        first = len(ids_of(case["context"])) - 1
        assert sum(values[first:]) == pytest.approx(case["loglikelihood"], abs=1e-3), case
        assert all(greedy[first:]) == case["greedy"], case


def test_scoring_does_not_depend_on_what_was_scored_before(mini):
    """The second answer comes with a warm cache, and others beside it."""
    prompts = [GOLDEN["cases"][i]["prompt_ids"] + GOLDEN["cases"][i]["greedy_ids"] for i in range(4)]
    alone = [loglikelihoods(mini, [prompt])[0] for prompt in prompts]
    assert loglikelihoods(mini, prompts) == alone
