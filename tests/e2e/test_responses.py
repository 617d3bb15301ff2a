"""/v1/responses through the openai package: whole, streamed, with tools, formats and thoughts."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

import openai
import pydantic
import pytest
from conftest import NEVER_TWICE, ROOT

INPUT = "Tell me a story."
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Ulm", "Bonn"]}}, "required": ["city"]},
}
# The Responses API has no penalties: they go beside it.
NO_REPEATS = {
    "temperature": 0,
    "extra_body": {"presence_penalty": 2} | NEVER_TWICE["extra_body"],
    "max_output_tokens": 30,
}


@pytest.fixture(scope="module")
def mini(start_server):
    return start_server("--kv-cache-tokens", "16384", model=ROOT / "models/latent-mini")


@pytest.fixture(scope="module")
def client(mini):
    return mini.client()


def ask(client, **arguments):
    defaults = {"model": "latent-mini", "input": INPUT, "temperature": 0, "max_output_tokens": 20}
    return client.responses.create(**{**defaults, **arguments})


def chat(client, messages, **arguments):
    return client.chat.completions.create(
        model="latent-mini", messages=messages, temperature=0, max_tokens=20, **arguments
    )


def test_an_answer_is_the_chats(client):
    response = ask(client, metadata={"a": "b"})
    assert response.object == "response" and response.id.startswith("resp_") and response.model == "latent-mini"
    expected = chat(client, [{"role": "user", "content": INPUT}])
    assert response.output_text == expected.choices[0].message.content
    assert response.status == "incomplete" and response.incomplete_details.reason == "max_output_tokens"
    (message,) = response.output
    assert message.type == "message" and message.role == "assistant" and message.content[0].type == "output_text"
    assert response.usage.input_tokens == expected.usage.prompt_tokens
    assert response.usage.output_tokens == 20 and response.usage.total_tokens == expected.usage.total_tokens
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert response.metadata == {"a": "b"} and response.store is False and response.max_output_tokens == 20


def test_items_and_instructions_are_messages(client):
    response = ask(
        client,
        instructions="be kind",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "user", "content": "go on"},
        ],
    )
    expected = chat(
        client,
        [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "go on"},
        ],
    )
    assert response.output_text == expected.choices[0].message.content
    assert response.usage.input_tokens == expected.usage.prompt_tokens


def test_the_streams_events_come_in_order(client):
    events = list(ask(client, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 1
    assert kinds == (
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
        + ["response.output_text.delta"] * deltas
        + ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
        + ["response.incomplete"]
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == ask(client).output_text == events[-1].response.output_text
    done = events[kinds.index("response.output_text.done")]
    assert done.text == text and done.item_id == events[2].item.id
    assert events[0].response.id == events[-1].response.id and events[0].response.usage is None


def test_the_streaming_helper_follows(client):
    with client.responses.stream(
        model="latent-mini", input=INPUT, temperature=0, extra_body={"stop": ["."]}, max_output_tokens=200
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert final.status == "completed" and final.output_text and "." not in final.output_text


def test_async_clients_get_the_same(mini, client):
    async def both():
        async with openai.AsyncOpenAI(base_url=mini.url + "/v1", api_key="none", max_retries=0) as each:
            whole = await ask(each)
            parts = [event.delta async for event in await ask(each, stream=True)
                     if event.type == "response.output_text.delta"]
            return whole.output_text, "".join(parts)

    assert asyncio.run(both()) == (ask(client).output_text,) * 2


def test_answers_can_be_held_to_a_schema(client):
    class Pet(pydantic.BaseModel):
        kind: Literal["cat", "dog"]
        tame: bool

    parsed = client.responses.parse(model="latent-mini", input=INPUT, text_format=Pet, max_output_tokens=60)
    assert isinstance(parsed.output_parsed, Pet) and parsed.status == "completed"


def test_forced_calls_stream_their_arguments(client):
    arguments = {"tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}, "max_output_tokens": 200}
    (call,) = ask(client, **arguments).output
    assert call.type == "function_call" and call.name == "weather" and call.call_id
    assert json.loads(call.arguments)["city"] in ("Ulm", "Bonn")
    events = list(ask(client, **arguments, stream=True))
    kinds = [event.type for event in events]
    assert kinds[2] == "response.output_item.added" and kinds[-1] == "response.completed"
    streamed = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    done = events[kinds.index("response.function_call_arguments.done")]
    assert streamed == done.arguments == call.arguments


def test_thoughts_and_calls_are_items_of_their_own(start_server, scripted_model):
    pieces = ["<think>", "one ", "two", "</think>", "three", "<tool_call>", "{\"name\": \"weather\"}", "</tool_call>"]
    client = start_server(model=scripted_model(pieces, "</think> <tool_call> arguments")).client()
    arguments = {"model": "scripted", "input": "x", "tools": [TOOL], **NO_REPEATS}
    response = client.responses.create(**arguments)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.output[0].content[0].text == "one two" and response.output_text == "three"
    assert response.output[2].arguments == "{}" and response.status == "completed"
    assert response.usage.output_tokens_details.reasoning_tokens == 4
    events = list(client.responses.create(**arguments, stream=True))
    thoughts = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    assert thoughts == "one two"
    added = [event.output_index for event in events if event.type == "response.output_item.added"]
    assert added == [0, 1, 2]
    answered = [{"type": "function_call_output", "call_id": response.output[2].call_id, "output": "sunny"}]
    history = [{"role": "user", "content": "x"}, *(item.model_dump(exclude_none=True) for item in response.output)]
    assert client.responses.create(**arguments | {"input": history + answered}).output_text == "three"


def test_logprobs_come_when_they_are_included(client):
    response = ask(client, include=["message.output_text.logprobs"], top_logprobs=2)
    logprobs = response.output[0].content[0].logprobs
    assert b"".join(bytes(one.bytes) for one in logprobs).decode() == response.output_text
    assert all(len(one.top_logprobs) == 2 for one in logprobs)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"truncation": "auto"}, "truncation"),
        ({"input": []}, "input"),
        ({"input": [{"role": "boss", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "user", "content": [
            {"type": "input_image", "image_url": "http://127.0.0.1/"}]}]}, "input[1].content[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"temperature": 3}, "temperature"),
    ],
)  # fmt: skip
def test_errors_name_the_field(client, arguments, param):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, **arguments)
    assert error.value.param == param


def test_a_models_id_may_have_slashes(server):
    assert server.client().models.retrieve("org/tiny").id == "org/tiny"
    with pytest.raises(openai.NotFoundError):
        server.client().models.retrieve("org/other")


def test_nothing_stays_behind(mini):
    mini.wait_until_idle()
