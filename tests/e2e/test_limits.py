"""What an operator may set of how much one request asks for, at both doors."""

from __future__ import annotations

import json
import socket
import time

import grpc
import openai
import pytest
from conftest import Server

FLAGS = {
    "--max-body-bytes": "16KiB",
    "--body-timeout": "1",
    "--max-choices": "4",
    "--max-logprobs": "2",
    "--max-schema-bytes": "1KiB",
}


@pytest.fixture(scope="module")
def strict(start_server) -> Server:
    return start_server("--served-model-name", "tiny", *(word for pair in FLAGS.items() for word in pair))


def refusal(server: Server, **fields) -> tuple[int, str | None, str]:
    with pytest.raises(openai.APIStatusError) as error:
        server.client().completions.create(model="tiny", extra_body=fields, **{"prompt": "x"})
    return error.value.status_code, error.value.param, error.value.message


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"n": 5}, "n", "must be between 1 and 4, got 5"),
        ({"prompt": ["a", "b", "c"], "n": 2}, "n", "n x prompts must be at most 4, got 2 x 3"),
        ({"best_of": 5}, "best_of", "must be between 1 and 4, got 5"),
        ({"logprobs": 3}, "logprobs", "must be between 0 and 2, got 3"),
        ({"prompt_logprobs": 3}, "prompt_logprobs", "must be between 0 and 2, got 3"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "x" * 2000}}}},
            "response_format",
            "at most 1024 bytes",
        ),
    ],
)
def test_http_keeps_to_them(strict, fields, param, words):
    status, named, message = refusal(strict, **fields)
    assert (status, named) == (400, param) and words in message


def test_bodies_have_their_size_and_time(strict):
    status, _, message = refusal(strict, user="x" * (16 << 10))
    assert status == 413 and "16384 bytes" in message
    assert refusal(strict, user="x" * (15 << 10), n=0)[0] == 400  # read, and wrong for another reason
    head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", strict.http_port), timeout=60) as sock:
        sock.sendall(head + b"{")
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began >= 0.9


def test_grpc_keeps_to_them(strict, proto):
    messages = proto.messages
    with strict.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)

        def code(**fields) -> grpc.StatusCode:
            with pytest.raises(grpc.RpcError) as error:
                list(stub.Generate(messages.GenerateRequest(**{"text": "x", **fields}), timeout=60))
            return error.value.code()

        assert code(text="x" * (16 << 10)) == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert code(output={"n": 5}) == code(output={"logprobs": 3}) == grpc.StatusCode.INVALID_ARGUMENT
        schema = json.dumps({"title": "x" * 2000})
        assert code(format={"json_schema": schema}) == grpc.StatusCode.INVALID_ARGUMENT


def test_they_may_be_wider_than_usual(start_server):
    server = start_server("--served-model-name", "tiny", LATENTD_MAX_BODY_BYTES="32MiB", LATENTD_MAX_SCHEMA_BYTES="1MiB")
    schema = {"title": "x" * (100 << 10), "enum": ["yes"]}
    answer = server.client().completions.create(
        model="tiny", prompt="x", max_tokens=20, user="x" * (9 << 20),
        extra_body={"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
    )  # fmt: skip
    assert answer.choices[0].text == '"yes"'
