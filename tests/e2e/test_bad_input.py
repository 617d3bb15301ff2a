"""What is wrong with a request is said as a table has it: status, field, code and words; and it never reaches the engine."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from pathlib import Path

import grpc
import pytest
from conftest import CONTEXT, ROOT, Server, eventually

MODEL = ROOT / "models/latent-mini"
VOCABULARY = json.loads((MODEL / "config.json").read_text())["vocab_size"]
MAX_INT, TOO_LARGE = 2**31 - 1, 2**31

COMPLETIONS, CHAT, TOKENIZE, DETOKENIZE = "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"
USER = [{"role": "user", "content": "x"}]
BASE = {COMPLETIONS: {"prompt": "x"}, CHAT: {"messages": USER}, TOKENIZE: {"prompt": "x"}, DETOKENIZE: {"tokens": [5]}}

# Fields of both routes to a generation: value, words of the message.
INTEGERS = ("n", "max_tokens", "min_tokens", "top_k", "priority")
NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
BOOLEANS = ("stream", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens", "add_special_tokens")
ID_LISTS = ("stop_token_ids", "allowed_token_ids")

GENERATION: list[tuple[str, object, str]] = [
    *((name, value, "must be an integer") for name in INTEGERS for value in ("1", [], {}, True)),
    *((name, value, "must be an integer of 32 bits") for name in INTEGERS for value in (1.5, TOO_LARGE, -TOO_LARGE - 1, 1e300)),
    *((name, value, "must be a number") for name in NUMBERS for value in ("1", [], {}, False)),
    *((name, value, "must be true or false") for name in (*BOOLEANS, "return_token_ids") for value in (1, "true", [])),
    *((name, value, "must be a list of token ids") for name in ID_LISTS for value in (5, "5", {}, ["5"], [1.5], [TOO_LARGE])),
    *((name, [value], "token ids must be between 0 and") for name in ID_LISTS for value in (-1, VOCABULARY, MAX_INT)),
    ("model", 5, "must be a string"),
    ("n", 0, "must be between 1 and 128, got 0"),
    ("n", -1, "must be between 1 and 128, got -1"),
    ("n", 129, "must be between 1 and 128, got 129"),
    ("max_tokens", -1, "must be at least 0, got -1"),
    ("min_tokens", -1, "must be at least 0, got -1"),
    ("temperature", -0.1, "must be between 0 and 2, got -0.1"),
    ("temperature", 2.1, "must be between 0 and 2, got 2.1"),
    ("top_p", 0, "must be above 0 and at most 1, got 0"),
    ("top_p", 1.1, "must be above 0 and at most 1, got 1.1"),
    ("top_k", -2, "must be between -1 and"),
    ("min_p", -0.1, "must be between 0 and 1"),
    ("min_p", 1.1, "must be between 0 and 1"),
    ("presence_penalty", 2.1, "must be between -2 and 2"),
    ("frequency_penalty", -2.1, "must be between -2 and 2"),
    ("repetition_penalty", 0.009, "must be between 0.01 and 10, got 0.009"),
    ("repetition_penalty", 11, "must be between 0.01 and 10, got 11"),
    ("seed", 1.5, "must be an integer"),
    ("seed", "1", "must be an integer"),
    ("stop", 5, "must be a string or a list of strings"),
    ("stop", [5], "must be a string or a list of strings"),
    ("stop", "", "must have 1 to 256 bytes"),
    ("stop", "x" * 257, "must have 1 to 256 bytes, got 257"),
    ("stop", ["x"] * 17, "at most 16 strings, got 17"),
    ("stop_token_ids", [1] * 129, "at most 128 ids, got 129"),
    ("allowed_token_ids", [], "must be 1 to 4096 ids, got 0"),
    ("allowed_token_ids", [1] * 4097, "must be 1 to 4096 ids, got 4097"),
    ("logit_bias", [1], "must map token ids to numbers"),
    ("logit_bias", {"x": 1}, "must map token ids to numbers"),
    ("logit_bias", {"1": "2"}, "must map token ids to numbers"),
    ("logit_bias", {"1": 101}, "must be between -100 and 100, got 101"),
    ("logit_bias", {str(VOCABULARY): 1}, "token ids must be between 0 and"),
    ("logit_bias", {"-1": 1}, "token ids must be between 0 and"),
    ("logit_bias", {str(i): 0 for i in range(301)}, "at most 300 tokens, got 301"),
    ("bad_words", "x", "must be a list of strings"),
    ("bad_words", [5], "must be a list of strings"),
    ("bad_words", [""], "words must have 1 to 256 bytes, got 0"),
    ("bad_words", ["x" * 257], "words must have 1 to 256 bytes, got 257"),
    ("bad_words", ["x"] * 129, "at most 128 words, got 129"),
    ("prompt_logprobs", 21, "must be between 0 and 20"),
    ("prompt_logprobs", -1, "must be between 0 and 20"),
    ("cost_report", 1, "must be true or false"),
    ("cache_salt", 5, "must be a string"),
    ("cache_salt", "x" * 257, "must have at most 256 bytes, got 257"),
    ("stream_options", 5, "must be an object"),
    ("stream_options", {"include_usage": 1}, "include_usage must be true or false"),
    ("response_format", "json", "must be an object with a type"),
    ("response_format", {}, "must be an object with a type"),
    ("response_format", {"type": "xml"}, "type must be text, json_object or json_schema"),
    ("response_format", {"type": "json_schema"}, "json_schema.schema is required"),
    ("response_format", {"type": "json_schema", "json_schema": {"schema": {"type": "colour"}}}, ""),
    ("response_format", {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://other/x"}}}, ""),
    ("use_beam_search", True, "is not supported"),
    ("logits_processors", ["x"], "is not supported"),
]

CASES: list[tuple[str, str, object, str]] = [
    *((path, name, value, words) for path in (COMPLETIONS, CHAT) for name, value, words in GENERATION),
    (COMPLETIONS, "prompt", None, "is required"),
    *((COMPLETIONS, "prompt", value, "must be a string, a list") for value in (5, {}, True, [{}], [True], [[True]], ["x", 5])),
    (COMPLETIONS, "prompt", [], "must not be empty"),
    (COMPLETIONS, "prompt", [[]], "must have at least one token"),
    (COMPLETIONS, "prompt", [-1], "token ids must be between 0 and"),
    (COMPLETIONS, "prompt", [VOCABULARY], "token ids must be between 0 and"),
    (COMPLETIONS, "prompt", [TOO_LARGE], "must be a string, a list"),
    (COMPLETIONS, "n", 65, "n x prompts must be at most 128, got 65 x 2"),
    (COMPLETIONS, "suffix", "x", "is not supported"),
    (COMPLETIONS, "best_of", 0, "must be at least n (1), got 0"),
    (COMPLETIONS, "logprobs", True, "must be an integer"),
    (COMPLETIONS, "logprobs", -1, "must be between 0 and 20"),
    (COMPLETIONS, "logprobs", 21, "must be between 0 and 20"),
    (COMPLETIONS, "echo", 1, "must be true or false"),
    (COMPLETIONS, "best_of", "2", "must be an integer"),
    (COMPLETIONS, "best_of", 129, "must be between 1 and 128, got 129"),
    (CHAT, "tool_choice", "required", "needs tools"),
    (CHAT, "tool_choice", 5, "must be auto, none, required or"),
    (CHAT, "parallel_tool_calls", 5, "must be true or false"),
    (CHAT, "messages", None, "is required"),
    *((CHAT, "messages", value, "") for value in (5, "x", {}, [])),
    (CHAT, "messages[0]", [5], "must be an object"),
    (CHAT, "messages[0].role", [{"content": "x"}], "is required"),
    *((CHAT, "messages[0].role", [{"role": role, "content": "x"}], "must be system, developer") for role in ("robot", "User", 5, "")),
    (CHAT, "messages[1].role", [*USER, {"role": "function", "content": "x"}], "must be system, developer"),
    (CHAT, "messages[0].content", [{"role": "user"}], ""),
    *((CHAT, "messages[0].content", [{"role": "user", "content": value}], "") for value in (5, {}, [])),
    *(
        (CHAT, "messages[0].content[0].type", [{"role": "user", "content": [part]}], f"{part['type']} is not supported")
        for part in (
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}},
            {"type": "input_audio", "input_audio": {}},
            {"type": "video_url", "video_url": {}},
            {"type": "file", "file": {}},
        )
    ),
    (CHAT, "messages[0].content[0].text", [{"role": "user", "content": [{"type": "text"}]}], "must be a string"),
    (CHAT, "max_completion_tokens", -1, "must be at least 0, got -1"),
    (CHAT, "logprobs", 5, "must be true or false"),
    (CHAT, "top_logprobs", 21, "must be between 0 and 20"),
    (CHAT, "top_logprobs", 3, "needs logprobs"),
    (CHAT, "modalities", ["audio"], "writes text alone"),
    (CHAT, "chat_template", "{{ 1 }}", "is not supported"),
    (CHAT, "functions", [{}], "is not supported"),
    (CHAT, "continue_final_message", True, "needs add_generation_prompt to be false"),
    *((CHAT, "documents", value, "must be a list of objects") for value in (5, "x", {}, True)),
    *((CHAT, "documents[1]", [{}, value], "must be an object") for value in (5, "x", [], None)),
    *((CHAT, "reasoning_effort", value, "must be a string") for value in (5, {}, [])),
    *(
        (CHAT, f"messages[0].{name}", [{"role": "user", "content": "x", name: value}], "must be a string")
        for name in ("name", "tool_call_id", "refusal", "reasoning_content")
        for value in (5, {}, [])
    ),
    (CHAT, "messages[0].tool_calls", [{"role": "assistant", "tool_calls": {}}], "must be a list"),
    (CHAT, "messages[0].tool_calls[0].function", [{"role": "assistant", "tool_calls": [{}]}], "must be an object"),
    (CHAT, "messages[0].tool_calls[0].id", [{"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": "f"}}]}], "must be a string"),
    (CHAT, "messages[0].tool_calls[0].function.arguments", [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}], "must be the JSON of an object"),
    (CHAT, "tools", {}, "must be a list"),
    (CHAT, "tools[0]", [5], "must be an object"),
    (CHAT, "tools[0].type", [{"type": "code"}], "must be function"),
    (CHAT, "tools[0].function.name", [{"type": "function", "function": {"name": 5}}], "must be a name"),
    (CHAT, "tools[0].function.description", [{"type": "function", "function": {"name": "f", "description": 5}}], "must be a string"),
    (CHAT, "tools[0].function.parameters", [{"type": "function", "function": {"name": "f", "parameters": "{}"}}], "must be an object"),
    (CHAT, "chat_template_kwargs", [], "must be an object"),
    (CHAT, "chat_template_kwargs", {"messages": 1}, "must not contain messages"),
    (TOKENIZE, "prompt", 5, "must be a string"),
    (TOKENIZE, "add_special_tokens", 5, "must be true or false"),
    (TOKENIZE, "with_pieces", 5, "must be true or false"),
    (TOKENIZE, "model", 5, "must be a string"),
    (DETOKENIZE, "tokens", None, "is required"),
    *((DETOKENIZE, "tokens", value, "must be a list of token ids") for value in (5, "5", ["5"], [1.5])),
    (DETOKENIZE, "tokens", [VOCABULARY], "token ids must be between 0 and"),
]  # fmt: skip

# Fields that leave nothing to be drawn together.
CONFLICTS = [
    ({"allowed_token_ids": [7], "response_format": {"type": "json_object"}}, "cannot be combined with response_format"),
    ({"allowed_token_ids": [7], "stop_token_ids": [7], "min_tokens": 2}, "allowed_token_ids and min_tokens leave nothing to generate"),
    ({"allowed_token_ids": ["a", "b"], "bad_words": ["a", "b"]}, "allowed_token_ids and bad_words leave nothing to generate"),
    (
        {"allowed_token_ids": ["a", "b"], "bad_words": ["a"], "stop_token_ids": ["b"], "min_tokens": 1},
        "allowed_token_ids and bad_words and min_tokens leave nothing to generate after 0 tokens",
    ),
]

# Whole bodies: JSON that is none, or that two readers would see differently.
BODIES: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "malformed JSON"),
    ("half", b'{"prompt": "x"', "malformed JSON"),
    ("two", b'{"prompt": "x"}{}', "malformed JSON"),
    ("a comment", b'{"prompt": "x"} // x', "malformed JSON"),
    ("a comma too many", b'{"prompt": "x",}', "malformed JSON"),
    ("NaN", b'{"prompt": "x", "temperature": NaN}', "malformed JSON"),
    ("infinity", b'{"prompt": "x", "temperature": 1e999}', ""),
    ("a list", b"[]", "must be a JSON object"),
    ("null", b"null", "must be a JSON object"),
    ("a field twice", b'{"prompt": "x", "n": 1, "n": 2}', "n"),
    ("a nested field twice", b'{"prompt": "x", "stream_options": {"a": 1, "a": 2}}', "a"),
    ("depth", b'{"prompt": ' + b"[" * 65 + b"]" * 65 + b"}", "64"),
    ("great depth", b'{"prompt": ' + b"[" * 1_000_000, "64"),
    ("bytes that are no UTF-8", b'{"prompt": "\xff"}', "malformed JSON"),
    ("an overlong form", b'{"prompt": "\xc0\xaf"}', "malformed JSON"),
    ("a surrogate in UTF-8", b'{"prompt": "\xed\xa0\x80"}', "malformed JSON"),
    ("half a pair", b'{"prompt": "\\ud800"}', "malformed JSON"),
    ("the other half", b'{"prompt": "\\udc00"}', "malformed JSON"),
    ("a pair in the wrong order", b'{"prompt": "\\udc00\\ud800"}', "malformed JSON"),
    ("a control character", b'{"prompt": "\x01"}', "malformed JSON"),
    ("a byte order mark", b'\xef\xbb\xbf{"prompt": 5}', ""),
]  # fmt: skip

ENGINE = ("prompt_tokens_total", "generation_tokens_total", "engine_step_seconds_count", "prefix_cache_queries_total")


@pytest.fixture(scope="module")
def mini(start_server) -> Server:
    return start_server("--served-model-name", "mini", "--kv-cache-tokens", "4096", model=MODEL)


@pytest.fixture(autouse=True)
def engine_untouched(mini: Server):
    """Whatever a test sends, the engine sees nothing of it."""

    def counts() -> list[float]:
        values = mini.metrics()
        assert values["latentd_num_requests_running"] == values["latentd_num_requests_waiting"] == 0
        pages = [values[f'latentd_kv_pages{{state="{state}"}}'] for state in ("used", "cached")]
        return [values["latentd_" + name] for name in ENGINE] + pages

    before = counts()
    yield
    assert counts() == before


def ask(mini: Server, path: str, body: bytes) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", mini.http_port, timeout=30)
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document["error"]


def label(case: tuple) -> str:
    path, name, value, _ = case
    return f"{path} {name}={json.dumps(value)[:40]}"


@pytest.mark.parametrize("case", CASES, ids=label)
def test_a_wrong_field_is_named(mini, case):
    path, param, value, words = case
    fields = {**BASE[path], param.split("[")[0]: value}
    if words.endswith("65 x 2"):
        fields["prompt"] = ["x", "y"]
    status, error = ask(mini, path, json.dumps(fields).encode())
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", None)
    assert error["param"] == param
    assert error["message"].startswith(param + ": ") and words in error["message"]
    assert len(error["message"]) < 400


@pytest.mark.parametrize("path", (COMPLETIONS, CHAT))
@pytest.mark.parametrize(("fields", "words"), CONFLICTS)
def test_fields_that_exclude_each_other_are_refused(mini, path, fields, words):
    status, error = ask(mini, path, json.dumps({**BASE[path], **with_ids(mini, fields)}).encode())
    assert (status, error["param"]) == (400, "allowed_token_ids") and words in error["message"]


def with_ids(mini: Server, fields: dict) -> dict:
    """Ids for texts that stand where ids belong: of single tokens, which a text becomes with a space before it or without."""

    def ids(text: str) -> list[int]:
        url = f"http://127.0.0.1:{mini.http_port}/tokenize"
        found = []
        for form in (text, " " + text):
            body = json.dumps({"prompt": form, "add_special_tokens": False}).encode()
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                tokens = json.load(answer)["tokens"]
            assert len(tokens) == 1
            found += tokens
        return found

    def translate(name: str, value):
        if not name.endswith("_ids") or not all(isinstance(each, str) for each in value):
            return value
        return [token for each in value for token in ids(each)]

    return {name: translate(name, value) for name, value in fields.items()}


@pytest.mark.parametrize("path", BASE)
@pytest.mark.parametrize(("name", "body", "words"), BODIES, ids=[name for name, _, _ in BODIES])
def test_a_body_that_is_no_json_is_refused(mini, path, name, body, words):
    status, error = ask(mini, path, body)
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", None)
    assert words in error["message"] and len(error["message"]) < 400


@pytest.mark.parametrize("path", (COMPLETIONS, CHAT))
def test_codes_beside_invalid(mini, path):
    def ask_with(**fields) -> tuple[int, str | None, str | None]:
        status, error = ask(mini, path, json.dumps({**BASE[path], **fields}).encode())
        return status, error["param"], error["code"]

    field = "prompt" if path == COMPLETIONS else "messages"
    long = "word " * 5000
    too_long = {"prompt": long} if path == COMPLETIONS else {"messages": [{"role": "user", "content": long}]}
    assert ask_with(model="other") == (404, "model", "model_not_found")
    assert ask_with(**too_long) == (400, field, "context_length_exceeded")
    assert ask_with(max_tokens=MAX_INT) == (400, field, "context_length_exceeded")


def test_ten_megabytes_are_refused_unread_and_eight_are_read(mini):
    status, error = ask(mini, COMPLETIONS, b'{"prompt": "' + b"x" * (7 << 20) + b'"}')
    assert (status, error["code"]) == (400, "context_length_exceeded")
    for name in ("user", "stop", "logit_bias", "response_format"):
        body = json.dumps({"prompt": 5, name: "x" * (7 << 20)}).encode()
        assert ask(mini, COMPLETIONS, body)[0] == 400
    for path in BASE:
        with socket.create_connection(("127.0.0.1", mini.http_port), timeout=20) as sock:
            head = f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {10 << 20}\r\n\r\n"
            sock.sendall(head.encode())
            assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_nothing_is_fetched_for_a_client(mini):
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(0.2)
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/x.png"
        parts = [{"type": "image_url", "image_url": {"url": url}}]
        ask(mini, CHAT, json.dumps({"messages": [{"role": "user", "content": parts}]}).encode())
        schema = {"type": "json_schema", "json_schema": {"schema": {"$ref": url}}}
        ask(mini, CHAT, json.dumps({"messages": USER, "response_format": schema}).encode())
        with pytest.raises(TimeoutError):
            bait.accept()


GRPC_CASES = [
    ("prompt", {}, "text, token_ids or chat is required"),
    ("prompt", {"token_ids": {"ids": []}}, "must have at least one token"),
    ("prompt", {"token_ids": {"ids": [-1]}}, "token ids must be between 0 and"),
    ("prompt", {"token_ids": {"ids": [VOCABULARY]}}, "token ids must be between 0 and"),
    ("prompt", {"text": "word " * 5000}, "context"),
    ("request_id", {"text": "x", "request_id": "a b"}, "visible ASCII"),
    ("request_id", {"text": "x", "request_id": "x" * 129}, "visible ASCII"),
    ("n", {"text": "x", "output": {"n": 0}}, "must be between 1 and 128"),
    ("n", {"text": "x", "output": {"n": 129}}, "must be between 1 and 128"),
    ("logprobs", {"text": "x", "output": {"logprobs": -1}}, "must be between 0 and 20"),
    ("logprobs", {"text": "x", "output": {"logprobs": 21}}, "must be between 0 and 20"),
    ("max_tokens", {"text": "x", "stopping": {"max_tokens": -1}}, "must be at least 0"),
    ("min_tokens", {"text": "x", "stopping": {"min_tokens": -1}}, "must be at least 0"),
    ("stop", {"text": "x", "stopping": {"stop": [""]}}, "1 to 256 bytes"),
    ("stop", {"text": "x", "stopping": {"stop": ["x"] * 17}}, "at most 16"),
    ("stop_token_ids", {"text": "x", "stopping": {"stop_token_ids": [-1]}}, "token ids must be"),
    *(
        (name, {"text": "x", "sampling": {name: value}}, "must be")
        for name, values in {
            "temperature": (-1, 3, float("nan"), float("inf")),
            "top_p": (0, 1.5, float("nan")),
            "top_k": (-2,),
            "min_p": (-1, 2, float("nan")),
            "presence_penalty": (-3, float("nan")),
            "frequency_penalty": (3, float("-inf")),
            "repetition_penalty": (5e-324, 11, float("nan")),
            "logit_bias": ({1: 101}, {VOCABULARY: 1}, {-1: 1}, {1: float("nan")}),
        }.items()
        for value in values
    ),
]


@pytest.mark.parametrize(("field", "request_fields", "words"), GRPC_CASES, ids=lambda value: str(value)[:40])
def test_grpc_names_a_wrong_field(mini, proto, field, request_fields, words):
    with mini.channel() as channel, pytest.raises(grpc.RpcError) as error:
        stub = proto.stubs.GenerationStub(channel)
        list(stub.Generate(proto.messages.GenerateRequest(**request_fields), timeout=20))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(field + ": ") and words in error.value.details()
    assert dict(error.value.trailing_metadata())["latentd-field"] == field


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x1a\x05ab", b"\x1a\x02\xff\xfe", b"\x0a" * 100])
def test_grpc_bytes_that_are_no_message_end_the_call(mini, message):
    with mini.channel() as channel, pytest.raises(grpc.RpcError) as error:
        list(channel.unary_stream("/latentd.v1.Generation/Generate")(message, timeout=20))
    # gRPC's own answer: 1.51 says UNIMPLEMENTED when there is nothing to hand to a method.
    assert error.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


def flood(mini: Server, requests: list[bytes], total: int) -> None:
    """`total` requests over one connection, many at a time."""
    with socket.create_connection(("127.0.0.1", mini.http_port), timeout=60) as sock:
        stream = sock.makefile("rb")
        for start in range(0, total, 50):
            sock.sendall(b"".join(requests[i % len(requests)] for i in range(start, start + 50)))
            for _ in range(50):
                assert stream.readline() == b"HTTP/1.1 400 Bad Request\r\n"
                length = 0
                while line := stream.readline().strip().lower():
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)


def test_ten_thousand_bad_requests_leave_nothing_behind(mini):
    requests = []
    for path, param, value, words in CASES:
        fields = {**BASE[path], param.split("[")[0]: value}
        body = json.dumps(fields).encode()
        if len(body) > 4096 or words.endswith("65 x 2"):
            continue
        head = f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    flood(mini, requests, 2000)  # pools and arenas have their size from here on
    before = mini.metrics()
    flood(mini, requests, 10_000)
    rejected = 'latentd_requests_rejected_total{reason="invalid"}'
    after = mini.metrics()
    assert after[rejected] == before[rejected] + 10_000
    pages = [name for name in after if name.startswith("latentd_kv_pages{")]
    assert pages and [after[name] for name in pages] == [before[name] for name in pages]
    assert after["process_resident_memory_bytes"] < before["process_resident_memory_bytes"] + (8 << 20)
    eventually(lambda: mini.metrics()["process_open_fds"] <= before["process_open_fds"])


def test_every_place_in_the_house_is_given_back(start_server, proto):
    """A house of four: had bad requests kept a place, the good ones behind them were shed."""
    server = start_server("--served-model-name", "tiny", "--max-queue", "4")
    with server.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        for _ in range(20):
            assert ask(server, COMPLETIONS, b'{"prompt": "x", "n": 0}')[0] == 400
            assert ask(server, COMPLETIONS, b"{")[0] == 400
            with pytest.raises(grpc.RpcError):
                list(stub.Generate(proto.messages.GenerateRequest(text="x" * (CONTEXT + 1)), timeout=20))
    for _ in range(4):
        answer = server.client().completions.create(model="tiny", prompt="x", max_tokens=1, n=4)
        assert len(answer.choices) == 4
        server.wait_until_idle()


def test_the_table_covers_every_field_that_is_read():
    """A field that the routes read has at least one case here."""
    import re

    covered = {param.split("[")[0] for _, param, _, _ in CASES} | {"user", "prompt"}
    source = (ROOT / "server/http/generation_fields.cc").read_text()
    body = source[source.index("void read_generation_fields") :]
    names = set(re.findall(r'fields\.read(?:_seed)?\("(\w+)"', body[: body.index("\n}\n")]))
    assert names and names <= covered, names - covered
    assert Path(MODEL).exists()
