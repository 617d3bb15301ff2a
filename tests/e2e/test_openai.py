"""/v1/completions and /v1/models through the openai package."""

from __future__ import annotations

import openai
import pytest


@pytest.fixture
def client(server):
    return server.client()


def test_completion_has_text_usage_and_a_reason(client):
    answer = client.completions.create(model="tiny", prompt="hello", max_tokens=12, temperature=0)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == "tiny"
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 12, 17)


def test_default_length_is_sixteen_tokens(client):
    answer = client.completions.create(model="tiny", prompt="hello", extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


def test_stream_gives_the_same_text_as_the_whole_answer(client):
    arguments = {"model": "tiny", "prompt": "once", "max_tokens": 40, "temperature": 0.8, "seed": 5}
    whole = client.completions.create(**arguments)
    pieces = list(client.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].text for piece in pieces if piece.choices)
    assert text == whole.choices[0].text
    reasons = [piece.choices[0].finish_reason for piece in pieces if piece.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert all(reason is None for reason in reasons[:-1])
    assert pieces[-1].choices == [] and pieces[-1].usage == whole.usage


def test_seed_makes_choices_repeatable_and_different_from_each_other(client):
    arguments = {"model": "tiny", "prompt": "x", "max_tokens": 24, "temperature": 1.5, "seed": 11, "n": 3}
    arguments["extra_body"] = {"return_token_ids": True, "ignore_eos": True}
    first, second = (client.completions.create(**arguments) for _ in range(2))
    ids = [choice.token_ids for choice in first.choices]
    assert ids == [choice.token_ids for choice in second.choices]
    assert len({tuple(each) for each in ids}) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert first.usage.prompt_tokens == 1 and first.usage.completion_tokens == 72


def test_prompts_may_be_texts_or_tokens_one_or_many(client):
    def ids_of(prompt):
        answer = client.completions.create(
            model="tiny", prompt=prompt, max_tokens=4, temperature=0, extra_body={"return_token_ids": True}
        )
        return [choice.token_ids for choice in answer.choices]

    assert ids_of("ab") == ids_of([97, 98]) == ids_of(["ab"]) == ids_of([[97, 98]])
    assert ids_of(["ab", "xyz"]) == ids_of("ab") + ids_of("xyz")


def test_logprobs_have_the_legacy_shape_and_greedy_takes_the_likeliest(client):
    answer = client.completions.create(model="tiny", prompt="hey", max_tokens=5, temperature=0, logprobs=3)
    logprobs = answer.choices[0].logprobs
    lengths = {len(part) for part in (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs)}
    assert lengths == {5} and len(logprobs.text_offset) == 5
    for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert len(top) == 3
        assert value <= 0 and top[token] == value == max(top.values())


def test_echo_scores_the_prompt_without_generating(client):
    answer = client.completions.create(model="tiny", prompt="score", max_tokens=0, echo=True, logprobs=1, temperature=0)
    choice = answer.choices[0]
    assert choice.text == "score"
    assert choice.logprobs.tokens == list("score")
    assert choice.logprobs.token_logprobs[0] is None and choice.logprobs.top_logprobs[0] is None
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])
    assert choice.logprobs.text_offset == [0, 1, 2, 3, 4]
    assert answer.usage.completion_tokens == 0


def test_logprobs_of_a_continuation_are_those_of_the_echoed_text(client):
    made = client.completions.create(
        model="tiny", prompt="abc", max_tokens=6, temperature=0, logprobs=0, extra_body={"return_token_ids": True}
    )
    ids = [97, 98, 99, *made.choices[0].token_ids]
    scored = client.completions.create(model="tiny", prompt=ids, max_tokens=0, echo=True, logprobs=0)
    again = scored.choices[0].logprobs.token_logprobs[3:]
    assert again == pytest.approx(made.choices[0].logprobs.token_logprobs, abs=1e-4)


def test_stop_strings_end_the_text_before_them(client):
    arguments = {"model": "tiny", "prompt": "stop", "max_tokens": 64, "temperature": 1.2, "seed": 3}
    full = client.completions.create(**arguments, extra_body={"ignore_eos": True}).choices[0].text
    stop = next(full[i : i + 2] for i in range(8, len(full) - 2) if "\ufffd" not in full[i : i + 2])
    cut = client.completions.create(**arguments, stop=[stop], extra_body={"ignore_eos": True})
    assert cut.choices[0].text == full[: full.index(stop)]
    assert cut.choices[0].finish_reason == "stop" and cut.choices[0].stop_reason == stop
    assert cut.usage.completion_tokens < 64
    kept = client.completions.create(
        **arguments, stop=stop, extra_body={"ignore_eos": True, "include_stop_str_in_output": True}
    )
    assert kept.choices[0].text == full[: full.index(stop) + len(stop)]


def test_logit_bias_and_stop_tokens_steer_the_output(client):
    answer = client.completions.create(
        model="tiny", prompt="a", max_tokens=8, temperature=0, logit_bias={"65": 100}, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].text == "AAAAAAAA"
    answer = client.completions.create(
        model="tiny", prompt="a", max_tokens=8, logit_bias={"65": 100}, extra_body={"stop_token_ids": [65]}
    )
    assert answer.choices[0].text == "" and answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == 65 and answer.usage.completion_tokens == 1


def test_min_tokens_holds_the_end_back(client):
    arguments = {"model": "tiny", "prompt": "a", "max_tokens": 20, "logit_bias": {"1": 100}}
    ended = client.completions.create(**arguments)
    assert ended.choices[0].finish_reason == "stop" and ended.usage.completion_tokens == 1
    held = client.completions.create(**arguments, extra_body={"min_tokens": 5})
    assert held.usage.completion_tokens == 6


def test_a_repeated_prompt_is_found_in_the_prefix_cache(client):
    prompt = "a prompt longer than a page of the cache. " * 8
    arguments = {"model": "tiny", "prompt": prompt, "max_tokens": 2, "temperature": 0}
    first, second = (client.completions.create(**arguments) for _ in range(2))
    assert first.choices[0].text == second.choices[0].text
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens >= 256


def test_models_are_listed_and_found_by_names_with_slashes(client, server):
    assert [model.id for model in client.models.list()] == ["tiny", "org/tiny"]
    assert client.models.retrieve("org/tiny").max_model_len == 16384
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("other")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("max_tokens", {"max_tokens": -1}),
        ("temperature", {"temperature": 3}),
        ("top_p", {"top_p": 0}),
        ("n", {"n": 129}),
        ("prompt", {"prompt": [1, 256]}),
        ("prompt", {"prompt": [-1]}),
        ("prompt", {"prompt": ""}),
        ("stop", {"stop": ["x"] * 17}),
        ("logit_bias", {"logit_bias": {"256": 1}}),
        ("logprobs", {"logprobs": 21}),
        ("best_of", {"best_of": 200}),
        ("suffix", {"suffix": "end"}),
        ("top_k", {"extra_body": {"top_k": -5}}),
    ],
)
def test_a_wrong_field_is_named(client, field, arguments):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**{"model": "tiny", "prompt": "x", **arguments})
    assert error.value.param == field
    assert error.value.type == "invalid_request_error"


def test_a_prompt_beyond_the_context_says_so(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="tiny", prompt="x" * 16384, max_tokens=1)
    assert error.value.code == "context_length_exceeded"
    assert "16384" in error.value.message and "16385" in error.value.message


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="gpt-9", prompt="x")
    assert error.value.code == "model_not_found" and error.value.param == "model"


def test_best_of_shows_the_most_likely(client):
    arguments = {"model": "tiny", "prompt": ["ab", "cd"], "max_tokens": 6, "temperature": 1.2, "seed": 11}
    arguments["extra_body"] = {"ignore_eos": True}
    every = client.completions.create(**arguments, n=5, logprobs=0).choices
    for first, prompt in ((0, "ab"), (5, "cd")):
        group = sorted(every[first : first + 5], key=lambda choice: -sum(choice.logprobs.token_logprobs))
        best = client.completions.create(**arguments | {"prompt": prompt}, n=2, best_of=5)
        assert [choice.text for choice in best.choices] == [choice.text for choice in group[:2]]
        assert [choice.index for choice in best.choices] == [0, 1]
        assert best.choices[0].logprobs is None and best.usage.completion_tokens == 30
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="tiny", prompt="x", best_of=3, stream=True)
    assert error.value.param == "best_of"


def test_prompt_logprobs_are_those_of_echo(client):
    arguments = {"model": "tiny", "prompt": "abcd", "max_tokens": 1}
    echoed = client.completions.create(**arguments, echo=True, logprobs=2).choices[0].logprobs
    shown = client.completions.create(**arguments, extra_body={"prompt_logprobs": 2}).choices[0].prompt_logprobs
    assert shown[0] is None and len(shown) == 4
    for byte, entry, logprob in zip(b"bcd", shown[1:], echoed.token_logprobs[1:4], strict=True):
        assert entry[str(byte)]["logprob"] == pytest.approx(logprob, abs=1e-6)
        assert entry[str(byte)]["decoded_token"] == chr(byte)
        assert sorted(one["rank"] for one in entry.values() if one["rank"]) == [1, 2]


def test_a_report_says_what_a_request_has_cost(client):
    def usage(**fields):
        return client.completions.create(
            model="tiny", prompt="x" * 64, max_tokens=5, extra_body={"ignore_eos": True, **fields}
        ).usage.model_dump()

    assert "cost" not in usage()
    cost = usage(cost_report=True)["cost"]
    assert set(cost) == {
        "queue_ms", "ttft_ms", "prefill_ms", "decode_ms", "cached_tokens", "steps", "kv_byte_seconds"
    }  # fmt: skip
    assert cost["steps"] >= 5 and cost["kv_byte_seconds"] > 0 and 0 < cost["ttft_ms"]
    streamed = client.completions.create(
        model="tiny", prompt="x", max_tokens=3, stream=True, stream_options={"include_usage": True},
        extra_body={"cost_report": True, "ignore_eos": True},
    )
    assert list(streamed)[-1].usage.model_dump()["cost"]["steps"] >= 3


def test_bad_words_are_not_written(client):
    arguments = {"model": "tiny", "prompt": "x", "max_tokens": 60, "temperature": 0}
    some = {"allowed_token_ids": [97, 98, 99]}
    favourite = client.completions.create(**arguments, extra_body=some).choices[0].text[-1]
    held = some | {"bad_words": [favourite * 3]}
    text = client.completions.create(**arguments, extra_body=held).choices[0].text
    assert favourite * 2 in text and favourite * 3 not in text
    without = client.completions.create(**arguments, extra_body=some | {"bad_words": [favourite]}).choices[0].text
    assert len(without) == 60 and favourite not in without
