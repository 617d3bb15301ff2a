"""/v1/chat/completions, /tokenize and /detokenize on models/latent-mini, through the openai package."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Literal

import jinja2
import openai
import pydantic
import pytest
import tokenizers
from conftest import ROOT

MODEL = ROOT / "models/latent-mini"
STORY = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def mini(start_server):
    return start_server("--kv-cache-tokens", "16384", model=MODEL)


@pytest.fixture(scope="module")
def client(mini):
    return mini.client()


@pytest.fixture(scope="module")
def rendered():
    """The prompt of a conversation, by jinja2 itself."""
    config = json.loads((MODEL / "tokenizer_config.json").read_text())
    template = jinja2.Environment().from_string(config["chat_template"])
    special = {name: config[name] for name in ("bos_token", "eos_token")}

    def render(messages, add_generation_prompt=True):
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt, **special)

    return render


@pytest.fixture(scope="module")
def oracle():
    return tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))


def post(server, path, body):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def ask(client, messages=STORY, **arguments):
    defaults = {"model": "latent-mini", "max_tokens": 20, "temperature": 0}
    return client.chat.completions.create(messages=messages, **{**defaults, **arguments})


def test_an_answer_has_a_message_a_reason_and_usage(client):
    answer = ask(client)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant" and len(answer.choices[0].message.content) > 20
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 20
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 20


def test_the_prompt_is_what_jinja2_renders_without_a_second_start_of_text(client, rendered, oracle):
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "<|end|> naïve 🤖"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "go on"},
    ]
    expected = oracle.encode(rendered(messages), add_special_tokens=False).ids
    answer = ask(client, messages, max_tokens=1, extra_body={"return_token_ids": True})
    assert answer.prompt_token_ids == expected
    assert expected.count(oracle.token_to_id("<|begin|>")) == 1
    parts = [{"role": "user", "content": [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "more"}]}]
    joined = [{"role": "user", "content": "Tell me\nmore"}]
    ids = [ask(client, each, max_tokens=1, extra_body={"return_token_ids": True}).prompt_token_ids
           for each in (parts, joined)]
    assert ids[0] == ids[1]


def test_a_chat_is_the_completion_of_its_rendered_prompt(client, rendered):
    chat = ask(client).choices[0].message.content
    completion = client.completions.create(
        model="latent-mini", prompt=rendered(STORY), max_tokens=20, temperature=0,
        extra_body={"add_special_tokens": False},
    )
    assert completion.choices[0].text == chat


def test_a_stream_has_the_role_first_the_reason_last_and_the_same_text(client):
    whole = ask(client, temperature=0.8, seed=5)
    chunks = list(ask(client, temperature=0.8, seed=5, stream=True, stream_options={"include_usage": True}))
    usage = chunks.pop()
    assert usage.choices == [] and usage.usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.object == "chat.completion.chunk" and chunk.usage is None for chunk in chunks)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant" and deltas[0].content == ""
    assert deltas[-1].content is None and deltas[-1].role is None
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == whole.choices[0].finish_reason and set(reasons[:-1]) == {None}


def test_the_streaming_helper_follows(client):
    arguments = {"temperature": 0, "max_tokens": 200, "stop": ["."]}  # the helper takes no cut answer
    with client.chat.completions.stream(model="latent-mini", messages=STORY, **arguments) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == ask(client, **arguments).choices[0].message.content


def test_choices_of_one_prompt_are_those_of_their_seeds_and_pay_for_it_once(client, mini):
    messages = [{"role": "user", "content": "Tell me a story about a dog and a cat. " * 12}]
    answer = ask(client, messages, n=3, temperature=1.2, seed=7)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2] and len(set(texts)) == 3
    assert texts[1] == ask(client, messages, temperature=1.2, seed=8).choices[0].message.content
    assert answer.usage.prompt_tokens == ask(client, messages, max_tokens=1).usage.prompt_tokens
    again = ask(client, messages, max_tokens=1)
    assert 0 < again.usage.prompt_tokens_details.cached_tokens < again.usage.prompt_tokens
    by_choice = {}
    for chunk in ask(client, messages, n=3, temperature=1.2, seed=7, stream=True):
        choice = chunk.choices[0]
        by_choice[choice.index] = by_choice.get(choice.index, "") + (choice.delta.content or "")
    assert [by_choice[index] for index in range(3)] == texts


def test_logprobs_have_bytes_and_greedy_takes_the_likeliest(client):
    answer = ask(client, logprobs=True, top_logprobs=4)
    content = answer.choices[0].logprobs.content
    assert len(content) == 20
    joined = b"".join(bytes(token.bytes) for token in content).decode()
    assert joined == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 4
        values = [top.logprob for top in token.top_logprobs]
        assert values == sorted(values, reverse=True) and token.logprob == values[0] <= 0
        assert token.top_logprobs[0].token == token.token
    streamed = [chunk.choices[0].logprobs for chunk in ask(client, logprobs=True, top_logprobs=4, stream=True)]
    again = [token for logprobs in streamed if logprobs for token in logprobs.content]
    assert [token.bytes for token in again] == [token.bytes for token in content]
    assert ask(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_stop_strings_and_lengths_end_an_answer(client):
    full = ask(client).choices[0].message.content
    stop = full[10:13]
    cut = ask(client, stop=[stop, "never said"])
    assert cut.choices[0].message.content == full[: full.index(stop)]
    assert cut.choices[0].finish_reason == "stop" and cut.choices[0].stop_reason == stop
    short = ask(client, max_tokens=20, max_completion_tokens=3)
    assert short.usage.completion_tokens == 3
    only = ask(client, max_tokens=3, extra_body={"allowed_token_ids": [100], "ignore_eos": True})
    assert len(set(only.choices[0].message.content)) == 1


def test_answers_can_be_held_to_a_schema(client):
    class Pet(pydantic.BaseModel):
        kind: Literal["cat", "dog"]
        legs: int = pydantic.Field(ge=0, le=9)
        tame: bool

    arguments = {"model": "latent-mini", "messages": STORY, "max_tokens": 60, "temperature": 1.0, "seed": 3}
    parsed = client.chat.completions.parse(**arguments, response_format=Pet, n=2)
    for choice in parsed.choices:
        assert isinstance(choice.message.parsed, Pet) and choice.finish_reason == "stop"
    raw = json.loads(parsed.choices[0].message.content)
    assert list(raw) == ["kind", "legs", "tame"]  # in the schema's order
    any_object = ask(client, response_format={"type": "json_object"}, max_tokens=200, seed=1, temperature=1)
    if any_object.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(any_object.choices[0].message.content), dict)
    assert any_object.choices[0].message.content.startswith("{")
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}})
    assert error.value.body["param"] == "response_format"


def test_a_final_message_is_continued(client, rendered):
    start = [*STORY, {"role": "assistant", "content": "Once upon a time"}]
    answer = ask(client, start, extra_body={"continue_final_message": True, "add_generation_prompt": False})
    completion = client.completions.create(
        model="latent-mini", prompt=rendered(STORY) + "Once upon a time", max_tokens=20, temperature=0,
        extra_body={"add_special_tokens": False},
    )
    assert answer.choices[0].message.content == completion.choices[0].text


def test_async_clients_get_the_same_at_once(mini, client):
    expected = ask(client).choices[0].message.content

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=mini.url + "/v1", api_key="none", max_retries=0) as each:

            async def one(stream):
                answer = await each.chat.completions.create(
                    model="latent-mini", messages=STORY, max_tokens=20, temperature=0, stream=stream
                )
                if not stream:
                    return answer.choices[0].message.content
                return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

            return await asyncio.gather(*(one(index % 2 == 1) for index in range(16)))

    assert set(asyncio.run(all_of_them())) == {expected}


@pytest.mark.parametrize(
    ("arguments", "param", "code"),
    [
        ({"messages": []}, "messages", None),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role", None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
         "messages[0].content[0].type", None),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "messages", "context_length_exceeded"),
        ({"max_tokens": 5000}, "messages", "context_length_exceeded"),
        ({"top_logprobs": 3}, "top_logprobs", None),
        ({"temperature": 3}, "temperature", None),
        ({"n": 1000}, "n", None),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"extra_body": {"chat_template": "{{ 1 }}"}}, "chat_template", None),
    ],
)
def test_errors_name_the_field(client, arguments, param, code):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, **arguments)
    assert error.value.body["param"] == param and error.value.body["code"] == code
    assert error.value.body["type"] == "invalid_request_error" and param in error.value.body["message"]


def test_other_models_do_not_exist(client):
    with pytest.raises(openai.NotFoundError) as error:
        ask(client, model="gpt-4")
    assert error.value.body["code"] == "model_not_found"


def test_a_model_without_a_template_says_so(server):
    with pytest.raises(openai.BadRequestError) as error:
        server.client().chat.completions.create(model="tiny", messages=STORY)
    assert "no chat template" in error.value.body["message"] and error.value.body["param"] == "messages"


def test_tokenize_and_detokenize_are_those_of_the_tokenizers_package(mini, rendered, oracle):
    for text in ("Once upon a time", "naïve café 🤖", "<|end|>"):
        ids = oracle.encode(text).ids
        answer = post(mini, "/tokenize", {"prompt": text, "return_token_strs": True})
        assert (answer["tokens"], answer["count"], answer["max_model_len"]) == (ids, len(ids), 1024)
        assert answer["token_strs"] == [oracle.id_to_token(each) for each in ids]
        bare = oracle.encode(text, add_special_tokens=False).ids
        assert post(mini, "/tokenize", {"content": text})["tokens"] == bare
        back = post(mini, "/detokenize", {"tokens": bare})
        assert back["prompt"] == back["content"] == text
    chat = post(mini, "/tokenize", {"messages": STORY})
    assert chat["tokens"] == oracle.encode(rendered(STORY), add_special_tokens=False).ids


def test_nothing_stays_behind(mini):
    mini.wait_until_idle()
