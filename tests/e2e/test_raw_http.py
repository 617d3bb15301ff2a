"""What no well-behaved client sends, on raw sockets. After each of it the server must still serve."""

from __future__ import annotations

import json
import socket
import time

import pytest
from conftest import CONTEXT, eventually

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = {"prompt": "run", "max_tokens": CONTEXT - 10, "ignore_eos": True}


@pytest.fixture(autouse=True)
def still_alive(server):
    yield
    assert server.process.poll() is None
    assert server.client().completions.create(model="tiny", prompt="x", max_tokens=1).usage.completion_tokens == 1


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.http_port), timeout=20)


def post(body: dict | bytes, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["POST /v1/completions HTTP/1.1", "Host: test", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def read_all(sock: socket.socket) -> bytes:
    out = b""
    try:
        while data := sock.recv(65536):
            out += data
    except ConnectionResetError:
        pass
    return out


def read_answer(stream) -> tuple[int, dict[str, str], bytes]:
    """One answer with a Content-Length from a socket's file."""
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().strip():
        name, value = line.decode().split(": ", 1)
        headers[name.lower()] = value
    return status, headers, stream.read(int(headers["content-length"]))


def exchange(server, request: bytes) -> tuple[int, dict[str, str], dict]:
    with connect(server) as sock:
        sock.sendall(request)
        status, headers, body = read_answer(sock.makefile("rb"))
        return status, headers, json.loads(body) if body else {}


def error_of(server, request: bytes) -> tuple[int, dict]:
    status, _, body = exchange(server, request)
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    return status, body["error"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 50,
        b"\x00" * 100,
    ],
)
def test_garbage_ends_the_connection(server, garbage):
    with connect(server) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_a_header_that_stops_half_way_and_closes_is_forgotten(server):
    with connect(server) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: te")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""


def test_a_slow_header_is_given_up_after_ten_seconds(server):
    began = time.monotonic()
    with connect(server) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        answer = read_all(sock)
    assert time.monotonic() - began > 9
    assert answer.startswith(b"HTTP/1.1 408 ") and b"the header came too slowly" in answer


def test_headers_are_bounded_in_bytes_and_lines(server):
    assert error_of(server, b"GET /healthz HTTP/1.1\r\nX-Long: " + b"a" * 20000 + b"\r\n\r\n")[0] == 431
    lines = b"".join(b"X-%d: y\r\n" % i for i in range(120))
    assert error_of(server, b"GET /healthz HTTP/1.1\r\n" + lines + b"\r\n")[0] == 431


def test_a_hundred_megabytes_are_refused_unread(server):
    with connect(server) as sock:
        sock.sendall(post(b"")[: -len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 104857600\r\n\r\n")
        status, _, body = read_answer(sock.makefile("rb"))
    assert status == 413 and "8388608" in json.loads(body)["error"]["message"]
    sent = 0
    with connect(server) as sock:
        try:
            sock.sendall(post(b"")[: -len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 104857600\r\n\r\n")
            for _ in range(1600):
                sock.sendall(b"x" * 65536)
                sent += 65536
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 100 << 20


def test_a_chunked_body_is_bounded_too(server):
    with connect(server) as sock:
        sock.sendall(CHUNKED_HEAD)
        try:
            for _ in range(160):
                sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = read_all(sock)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_works(server):
    body = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:])) + b"0\r\n\r\n"
    assert exchange(server, CHUNKED_HEAD + chunks)[0] == 200


def test_two_lengths_are_refused(server):
    smuggle = HEAD + b"Content-Length: 5\r\n"
    assert error_of(server, smuggle + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")[0] == 400
    assert error_of(server, smuggle + b"Content-Length: 6\r\n\r\n123456")[0] == 400


def test_a_large_body_within_the_limit_is_read(server):
    status, error = error_of(server, post({"prompt": "x" * (7 << 20)}))
    assert status == 400 and error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"prompt": "a", "prompt": "b"}', b"[" * 100, b'{"prompt": "\xff"}']
)
def test_bad_json_is_a_bad_request(server, body):
    status, error = error_of(server, post(body))
    assert status == 400 and error["type"] == "invalid_request_error" and error["param"] is None


def test_methods_types_and_paths_have_their_statuses(server):
    assert error_of(server, b"GET /nowhere HTTP/1.1\r\nHost: t\r\n\r\n")[0] == 404
    status, headers, _ = exchange(server, b"GET /v1/completions HTTP/1.1\r\nHost: t\r\n\r\n")
    assert status == 405 and headers["allow"] == "POST"
    text = post({"prompt": "x"}).replace(b"application/json", b"text/plain")
    assert error_of(server, text)[0] == 415
    assert error_of(server, HEAD + b"\r\n")[0] == 411
    status, error = error_of(server, post({"prompt": "x"}, "Content-Encoding: gzip"))
    assert status == 415 and "Content-Encoding" in error["message"]
    assert exchange(server, post({"prompt": "x", "max_tokens": 1}, "Content-Encoding: identity"))[0] == 200
    coded = HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    status, headers, body = exchange(server, coded)
    assert status == 501 and headers["connection"] == "close" and "chunked" in body["error"]["message"]


def test_a_target_may_name_the_host(server):
    """RFC 9112 3.2.2: a server must accept absolute-form, whatever the Host header says."""
    status, _, body = exchange(server, b"GET http://example.test:80/v1/models?x=1 HTTP/1.1\r\nHost: other\r\n\r\n")
    assert status == 200 and body["data"][0]["id"] == "tiny"


def test_head_has_the_headers_alone(server):
    with connect(server) as sock:
        sock.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 18\r\n" in answer


def test_request_ids_are_echoed_or_made(server):
    _, headers, body = exchange(server, post({"prompt": "x", "max_tokens": 1}, "X-Request-Id: my-id-7"))
    assert headers["x-request-id"] == "my-id-7" and body["id"] == "cmpl-my-id-7"
    server.wait_for_line(r"request door=http method=POST path=/v1/completions status=200 .*request_id=my-id-7")
    _, headers, _ = exchange(server, post({"prompt": "x", "max_tokens": 1}, 'X-Request-Id: no"t ok'))
    assert len(headers["x-request-id"]) == 32


def test_prompts_are_not_logged(server):
    exchange(server, post({"prompt": "confidential", "max_tokens": 1}, "X-Request-Id: quiet"))
    server.wait_for_line(r"request_id=quiet")
    assert not any("confidential" in line for line in server.lines)


def test_pipelined_requests_are_answered_in_order(server):
    requests = b"".join(post({"prompt": "x", "max_tokens": 2}, f"X-Request-Id: pipe-{i}") for i in range(5))
    with connect(server) as sock:
        sock.sendall(requests)
        stream = sock.makefile("rb")
        answers = [read_answer(stream) for _ in range(5)]
    assert [headers["x-request-id"] for _, headers, _ in answers] == [f"pipe-{i}" for i in range(5)]
    assert all(status == 200 for status, _, _ in answers)


def test_expect_100_continue_is_answered_before_the_body(server):
    request = post({"prompt": "x", "max_tokens": 1}, "Expect: 100-continue")
    head, body = request.split(b"\r\n\r\n", 1)
    with connect(server) as sock:
        sock.sendall(head + b"\r\n\r\n")
        stream = sock.makefile("rb")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n" and stream.readline() == b"\r\n"
        sock.sendall(body)
        assert read_answer(stream)[0] == 200


def test_http_10_streams_without_chunks(server):
    request = post({"prompt": "x", "max_tokens": 3, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0")
    with connect(server) as sock:
        sock.sendall(request)
        head, body = read_all(sock).split(b"\r\n\r\n", 1)
    assert b"chunked" not in head and body.startswith(b"data: {") and body.endswith(b"data: [DONE]\n\n")


def test_event_streams_say_how_they_want_to_be_treated(server):
    with connect(server) as sock:
        sock.sendall(post({"prompt": "x", "max_tokens": 3, "stream": True}, "Connection: close"))
        head, body = read_all(sock).split(b"\r\n\r\n", 1)
    lowered = head.lower()
    for wanted in (b"content-type: text/event-stream", b"cache-control: no-cache", b"x-accel-buffering: no"):
        assert wanted in lowered
    assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_pages(server, stream):
    before = server.metrics()
    with connect(server) as sock:
        sock.sendall(post({**LONG, "stream": stream}))
        if stream:
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
        else:
            eventually(lambda: server.metrics()["latentd_num_requests_running"] > 0)
    after = server.wait_until_idle()
    name = 'latentd_requests_cancelled_total{cause="disconnect"}'
    assert after[name] == before[name] + 1
    made = after["latentd_generation_tokens_total"] - before["latentd_generation_tokens_total"]
    assert made < LONG["max_tokens"]


def test_a_client_that_closes_its_half_has_left(server):
    before = server.metrics()
    with connect(server) as sock:
        sock.sendall(post(LONG))
        eventually(lambda: server.metrics()["latentd_num_requests_running"] > 0)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    after = server.wait_until_idle()
    name = 'latentd_requests_cancelled_total{cause="disconnect"}'
    assert after[name] == before[name] + 1


def test_a_stream_that_nobody_reads_is_given_up(server):
    name = 'latentd_requests_cancelled_total{cause="slow_reader"}'
    before = server.metrics()[name]
    with connect(server) as sock:
        sock.sendall(post({**LONG, "stream": True, "n": 8, "logprobs": 20}))
        eventually(lambda: server.metrics()[name] > before, timeout=90)
        server.wait_until_idle()
