"""Generated conversations, as chat templates get them: a pure function of the random generator."""

from __future__ import annotations

import json
import random
from typing import Any

TEXTS = [
    "Hello!",
    "  indented, with a tail  \n",
    "",
    "What is 2 + 2?",
    "naïve café, 你好，世界, emoji 👩‍👩‍👧 and \u00a0spaces\u3000",
    "quotes: ' and \" and \\ and / and <b>&amp;</b>",
    "line one\nline two\r\n\n\tline three\n",
    "{{ not.a.template }} {% if x %} {# no #}",
    "<think>\nLet me see.\n</think>\n\nThe answer is 4.",
    "</think>late",
    "<think>only the start",
    "<tool_response>\n42\n</tool_response>",
    "<|im_start|>user\nfake<|im_end|>",
    "control \x01\x1f\x7f\u2028 characters",
    "0",
    "None",
    "a" * 200,
]
NAMES = ["get_weather", "search", "add_numbers", "code_interpreter", "réserver", "x"]
SCALARS: list[Any] = [0, 1, -7, 3.5, 1e22, 1e-7, 0.1, 100.0, 2**53, True, False, None, "text", "", "ünï", "a\"b'c"]


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if depth > 2 or kind < 0.6:
        return rng.choice(SCALARS)
    if kind < 0.8:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {
        rng.choice(["a", "b", "key c", "ключ", "items", "type"]): value(rng, depth + 1)
        for _ in range(rng.randrange(4))
    }


def schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    kind = rng.choice(["string", "number", "integer", "boolean", "null", "array", "object", "union", "oneOf"])
    made: dict[str, Any] = {}
    if kind == "array":
        made = {"type": "array"}
        if depth < 3 and rng.random() < 0.8:
            made["items"] = schema(rng, depth + 1)
    elif kind == "object":
        made = {"type": "object"}
        if depth < 3:
            made["properties"] = {
                name: schema(rng, depth + 1)
                for name in rng.sample(["city", "unit", "days_ahead", "x y"], rng.randrange(4))
            }
            if rng.random() < 0.6:
                made["required"] = rng.sample(list(made["properties"]), rng.randrange(len(made["properties"]) + 1))
    elif kind == "union":
        made = {"type": rng.sample(["string", "number", "null"], rng.randrange(1, 4))}
    elif kind == "oneOf" and depth < 3:
        made = {"oneOf": [schema(rng, depth + 1) for _ in range(rng.randrange(1, 3))]}
    else:
        made = {"type": kind}
    if rng.random() < 0.5:
        made["description"] = rng.choice(TEXTS)
    if rng.random() < 0.2 and kind == "string":
        made["enum"] = rng.sample(["celsius", "fahrenheit", "κ", 'q"uote'], rng.randrange(1, 4))
    if rng.random() < 0.2:
        made["default"] = rng.choice(SCALARS)
    if rng.random() < 0.1:
        made["nullable"] = rng.random() < 0.5
    if rng.random() < 0.1:
        made["title"] = "A Title"
    return made


def tool(rng: random.Random) -> dict[str, Any]:
    properties = {
        name: schema(rng) for name in rng.sample(["location", "unit", "count", "größe", "filter"], rng.randrange(4))
    }
    function: dict[str, Any] = {"name": rng.choice(NAMES), "description": rng.choice(TEXTS)}
    if rng.random() < 0.9:
        function["parameters"] = {"type": "object", "properties": properties}
        if rng.random() < 0.8:
            function["parameters"]["required"] = rng.sample(list(properties), rng.randrange(len(properties) + 1))
    if rng.random() < 0.2:
        function["return"] = {"type": "string"}
    return {"type": "function", "function": function}


def tool_call(rng: random.Random, as_text: bool) -> dict[str, Any]:
    arguments: Any = {name: value(rng) for name in rng.sample(["location", "unit", "n"], rng.randrange(4))}
    if as_text:
        arguments = json.dumps(arguments)
    call: dict[str, Any] = {"type": "function", "function": {"name": rng.choice(NAMES), "arguments": arguments}}
    if rng.random() < 0.9:
        call["id"] = rng.choice(["abcdefghi", "functions.search:0", "123456789"])
    return call


def content(rng: random.Random, plain: bool) -> Any:
    if plain or rng.random() < 0.8:
        return rng.choice(TEXTS)
    if rng.random() < 0.2:
        return None
    parts: list[Any] = []
    for _ in range(rng.randrange(4)):
        if rng.random() < 0.8:
            parts.append({"type": "text", "text": rng.choice(TEXTS)})
        else:
            parts.append(rng.choice(["a bare string", {"type": "image", "image": "x"}, {"output": rng.choice(TEXTS)}]))
    return parts


def assistant(rng: random.Random, plain: bool, as_text: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content(rng, plain)}
    if rng.random() < 0.3:
        message["reasoning_content"] = rng.choice([*TEXTS, None])
    if rng.random() < 0.1:
        message["thought"] = rng.choice(TEXTS)
    if rng.random() < 0.3:
        message["tool_calls"] = [tool_call(rng, as_text) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        if rng.random() < 0.5:
            message["content"] = rng.choice([None, ""])
    elif rng.random() < 0.1:
        message["tool_calls"] = rng.choice([None, []])
    return message


def messages(rng: random.Random) -> list[dict[str, Any]]:
    plain = rng.random() < 0.8
    as_text = rng.random() < 0.5
    made: list[dict[str, Any]] = []
    if rng.random() < 0.5:
        made.append({"role": "system", "content": content(rng, plain)})
    for _ in range(rng.randrange(5)):
        user = {"role": "user", "content": content(rng, plain)}
        if rng.random() < 0.1:
            user["name"] = "Ann"
        made.append(user)
        if rng.random() < 0.85:
            made.append(assistant(rng, plain, as_text))
            while (
                "tool_calls" in made[-1] and rng.random() < 0.8 or (made[-1]["role"] == "tool" and rng.random() < 0.3)
            ):
                result = content(rng, plain)
                made.append({"role": "tool", "tool_call_id": "abcdefghi", "name": rng.choice(NAMES), "content": result})
            if made[-1]["role"] == "tool" and rng.random() < 0.8:
                made.append({"role": "assistant", "content": content(rng, plain)})
    if rng.random() < 0.1:
        rng.shuffle(made)
    if rng.random() < 0.05:
        made.append({"role": rng.choice(["developer", "ipython", ""]), "content": rng.choice(TEXTS)})
    return made


def context(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {
        "messages": messages(rng),
        "add_generation_prompt": rng.random() < 0.6,
        "bos_token": "<｜begin▁of▁sentence｜>",
        "eos_token": "<｜end▁of▁sentence｜>",
    }
    if rng.random() < 0.4:
        made["tools"] = [tool(rng) for _ in range(rng.randrange(1, 4))]
    elif rng.random() < 0.6:
        made["tools"] = None
    for flag in ["enable_thinking", "thinking", "clear_thinking", "tools_in_user_message"]:
        if rng.random() < 0.3:
            made[flag] = rng.random() < 0.5
    if rng.random() < 0.2:
        made["builtin_tools"] = ["code_interpreter", "search"]
    if rng.random() < 0.2:
        made["date_string"] = "01 Jan 2025"
    if rng.random() < 0.1:
        del made["add_generation_prompt"]
    return made
