"""Calls of tools and thoughts through both doors, with the openai package and grpcio."""

from __future__ import annotations

import json

import openai
import pydantic
import pytest
from conftest import NEVER_TWICE, ROOT

ASK = [{"role": "user", "content": "what is the weather in Ulm?"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Ulm", "Bonn"]}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"],
    "$defs": {"days": {"enum": [1, 2]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "?", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "clock"}},
]

# What the models of each family write: the pieces are its tokens.
FAMILIES = {
    "hermes": (
        "<tool_call> arguments",
        ["I ", "look", ".\n", "<tool_call>", "\n{\"name\": \"wea", "ther\", \"argu", "ments\": {\"ci", "ty\": \"U",
         "lm\"}}\n</tool_", "call>", "\n<tool_call>\n", "{\"name\": \"clock\"", "}</tool_call>"],
    ),
    "deepseek": (
        "<｜tool▁sep｜> ```json",
        ["I ", "look", ".", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "function", "<｜tool▁sep｜>", "weather",
         "\n```json\n", "{\"city\": ", "\"Ulm\"}", "\n```", "<｜tool▁call▁end｜>",
         "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>clock\n", "```json\n{}\n", "```<｜tool▁call▁end｜>",
         "<｜tool▁calls▁end｜>"],
    ),
    "kimi": (
        "<|tool_calls_section_begin|>",
        ["I look.", "<|tool_calls_section_begin|>", "<|tool_call_begin|>", "functions.weather", ":0",
         "<|tool_call_argument_begin|>", "{\"city\": \"Ulm\"}", "<|tool_call_end|>",
         "<|tool_call_begin|>functions.clock:1<|tool_call_argument_begin|>{}<|tool_call_end|>",
         "<|tool_calls_section_end|>"],
    ),
    "glm": (
        "<tool_call> <arg_key>",
        ["I look.", "\n<tool_call>", "weather\n", "<arg_key>city</arg_key>\n", "<arg_value>", "Ulm</arg_value>\n",
         "</tool_call>", "\n<tool_call>clock", "\n</tool_call>"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, start_server, scripted_model):
    template, pieces = FAMILIES[request.param]
    return request.param, start_server(model=scripted_model(pieces, template))


def ask(client, **arguments):
    return client.chat.completions.create(messages=ASK, **{"model": "scripted", "max_tokens": 30, **arguments})


def check_calls(name, calls):
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Ulm"}, {}]
    assert len({call.id for call in calls}) == 2
    if name == "kimi":
        assert [call.id for call in calls] == ["functions.weather:0", "functions.clock:1"]


def test_calls_are_read_as_each_family_writes_them(family):
    name, server = family
    answer = ask(server.client(), tools=TOOLS, **NEVER_TWICE)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
    check_calls(name, choice.message.tool_calls)
    # The same text without tools is text.
    for arguments in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        plain = ask(server.client(), **arguments, **NEVER_TWICE).choices[0]
        assert plain.message.tool_calls is None and plain.finish_reason == "stop"
        assert "weather" in plain.message.content and plain.message.content.startswith("I look.")
    # And it can be answered.
    messages = [*ASK, choice.message.model_dump(exclude_none=True)]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "1"} for call in choice.message.tool_calls]
    assert server.client().chat.completions.create(model="scripted", messages=messages, max_tokens=1, tools=TOOLS)


def test_calls_stream_in_parts_that_the_helper_joins(family):
    name, server = family
    with server.client().chat.completions.stream(
        model="scripted", messages=ASK, tools=TOOLS, max_tokens=30, **NEVER_TWICE
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls" and final.message.content == "I look."
    check_calls(name, final.message.tool_calls)
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.name for event in done] == ["weather", "clock"]
    deltas = [
        call
        for event in events
        if event.type == "chunk"
        for choice in event.chunk.choices
        for call in choice.delta.tool_calls or []
    ]
    assert [delta.index for delta in deltas] == sorted(delta.index for delta in deltas)
    for delta in deltas:
        assert (delta.id is None) == (delta.function.name is None) == (delta.type is None)


def test_one_call_when_they_may_not_be_parallel(family):
    answer = ask(family[1].client(), tools=TOOLS, parallel_tool_calls=False, **NEVER_TWICE)
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["weather"]


def grpc_chat(messages, mode, **fields):
    tools = [
        messages.Tool(name=tool["function"]["name"], parameters_json=json.dumps(tool["function"].get("parameters", {})))
        for tool in TOOLS
    ]
    chat = messages.Chat(
        messages=[messages.ChatMessage(role=each["role"], content=each["content"]) for each in ASK],
        tools=tools,
        tool_choice=messages.ToolChoice(mode=mode, name="weather"),
    )
    return messages.GenerateRequest(chat=chat, **fields)


def joined(answers):
    calls = {}
    for answer in answers:
        for delta in answer.tool_calls:
            call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
            for key in call:
                call[key] += getattr(delta, key)
    return [calls[index] for index in sorted(calls)]


def test_grpc_gives_the_same_calls(family, proto):
    messages = proto.messages
    sampling = messages.SamplingParams(temperature=0, presence_penalty=2, repetition_penalty=10)
    request = grpc_chat(messages, messages.ToolChoice.MODE_AUTO, sampling=sampling)
    with family[1].channel() as channel:
        answers = list(proto.stubs.GenerationStub(channel).Generate(request, timeout=20))
    calls = joined(answers)
    assert [call["name"] for call in calls] == ["weather", "clock"]
    assert [json.loads(call["arguments"]) for call in calls] == [{"city": "Ulm"}, {}]
    assert "".join(answer.text for answer in answers) == "I look."
    assert answers[-1].finish_reason == messages.FINISH_REASON_TOOL_CALLS


@pytest.fixture(scope="module")
def thinker(start_server, scripted_model):
    pieces = ["<think>", "one ", "two", "</think>", "three", " four"]
    return start_server(model=scripted_model(pieces, "</think>"))


def test_thoughts_are_apart_through_both_doors(thinker, proto):
    message = ask(thinker.client(), **NEVER_TWICE).choices[0].message
    assert (message.reasoning_content, message.content) == ("one two", "three four")
    messages = proto.messages
    chat = messages.Chat(messages=[messages.ChatMessage(role="user", content="x")])
    sampling = messages.SamplingParams(temperature=0, presence_penalty=2, repetition_penalty=10)
    with thinker.channel() as channel:
        answers = list(
            proto.stubs.GenerationStub(channel).Generate(
                messages.GenerateRequest(chat=chat, sampling=sampling), timeout=20
            )
        )
    assert "".join(answer.reasoning for answer in answers) == "one two"
    assert "".join(answer.text for answer in answers) == "three four"


FORCED = [
    ("required", "MODE_REQUIRED", {"weather", "clock"}),
    ({"type": "function", "function": {"name": "weather"}}, "MODE_NAMED", {"weather"}),
]


@pytest.fixture(scope="module")
def mini(start_server):
    return start_server("--kv-cache-tokens", "16384", model=ROOT / "models/latent-mini")


@pytest.mark.parametrize(("choice", "mode", "names"), FORCED)
def test_forced_calls_keep_to_the_tools(mini, proto, choice, mode, names):
    seen = set()
    for seed in range(6):
        arguments = {"tools": TOOLS, "tool_choice": choice, "max_tokens": 400, "temperature": 1, "seed": seed}
        answer = ask(mini.client(), model="latent-mini", **arguments, parallel_tool_calls=False).choices[0]
        assert answer.finish_reason == "tool_calls" and answer.message.content is None
        (call,) = answer.message.tool_calls
        seen.add(call.function.name)
        given = json.loads(call.function.arguments)
        if call.function.name == "weather":
            assert given["city"] in ("Ulm", "Bonn") and given["days"] in (1, 2)
        else:
            assert given == {}
    assert seen <= names
    messages = proto.messages
    request = grpc_chat(
        messages,
        getattr(messages.ToolChoice, mode),
        sampling=messages.SamplingParams(seed=1),
        stopping=messages.StoppingParams(max_tokens=400),
    )
    request.chat.no_parallel_tool_calls = True
    with mini.channel() as channel:
        answers = list(proto.stubs.GenerationStub(channel).Generate(request, timeout=20))
    (call,) = joined(answers)
    assert call["name"] in names and json.loads(call["arguments"]) is not None


def test_the_parse_helper_gives_the_arguments_as_models(mini):
    class Weather(pydantic.BaseModel):
        """The weather."""

        days: int = pydantic.Field(ge=1, le=3)
        warm: bool

    answer = mini.client().chat.completions.parse(
        model="latent-mini",
        messages=ASK,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice={"type": "function", "function": {"name": "Weather"}},
        max_tokens=400,
        seed=5,
    )
    parsed = answer.choices[0].message.tool_calls[0].function.parsed_arguments
    assert isinstance(parsed, Weather) and 1 <= parsed.days <= 3


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ],
)
def test_wrong_tools_are_named(thinker, arguments, param):
    with pytest.raises(openai.BadRequestError) as error:
        ask(thinker.client(), **arguments)
    assert error.value.param == param
