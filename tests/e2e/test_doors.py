"""Cross-origin requests, the administrator's door, limits of connections, readers that stop reading."""

from __future__ import annotations

import json
import resource
import selectors
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from conftest import CONTEXT, Server, eventually
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def send(url: str, method: str = "GET", body: dict | None = None, **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers, with names in lower case."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **names}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


PREFLIGHT = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}


def test_browsers_of_other_origins_are_not_let_in_by_default(server):
    status, headers = send(server.url + "/v1/models", Origin="https://a.example")
    assert status == 200 and not any(name.startswith("access-control") for name in headers)
    assert send(server.url + "/v1/completions", "OPTIONS", Origin="https://a.example", **PREFLIGHT)[0] == 405


def test_named_origins_are_let_in_and_others_are_not(start_server):
    server = start_server("--cors-origin", "https://a.example", "--cors-origin", "https://b.example", "--api-key", "k")
    for origin in ("https://a.example", "https://b.example"):
        status, headers = send(server.url + "/v1/completions", "OPTIONS", Origin=origin, **PREFLIGHT)
        assert status == 204 and headers["access-control-allow-origin"] == origin and headers["vary"] == "Origin"
        assert "POST" in headers["access-control-allow-methods"]
        assert "Authorization" in headers["access-control-allow-headers"]
        status, headers = send(server.url + "/v1/models", Origin=origin, Authorization="Bearer k")
        assert status == 200 and headers["access-control-allow-origin"] == origin
        status, headers = send(server.url + "/v1/models", Origin=origin)  # a page must see why
        assert status == 401 and headers["access-control-allow-origin"] == origin
    stream = {"prompt": "x", "max_tokens": 2, "stream": True}
    url = server.url + "/v1/completions"
    status, headers = send(url, "POST", stream, Origin="https://a.example", Authorization="Bearer k")
    assert status == 200 and headers["access-control-allow-origin"] == "https://a.example"
    assert headers["content-type"].startswith("text/event-stream")
    for origin in ("https://c.example", "https://a.example.evil", "http://a.example", "null"):
        status, headers = send(url, "OPTIONS", Origin=origin, **PREFLIGHT)
        assert status == 401 and "access-control-allow-origin" not in headers
    assert send(url, "OPTIONS", Origin="https://a.example")[0] == 401  # no preflight: an ordinary request


def test_every_origin_may_be_let_in(start_server):
    server = start_server(LATENTD_CORS_ORIGIN="*")
    headers = send(server.url + "/v1/models", Origin="https://any.example")[1]
    assert headers["access-control-allow-origin"] == "*" and "vary" not in headers


def test_channelz_and_reflection_are_on_the_administrators_port(start_server, proto):
    server = start_server("--served-model-name", "tiny", "--admin-port", "0", "--api-key", "k")
    get_servers = "/grpc.channelz.v1.Channelz/GetServers"
    with grpc.insecure_channel(f"127.0.0.1:{server.admin_port}") as admin, server.channel() as public:
        assert len(admin.unary_unary(get_servers)(b"", timeout=20)) > 2  # at least one server
        assert "grpc.channelz.v1.Channelz" in ProtoReflectionDescriptorDatabase(admin).get_services()
        for channel in (admin, public):
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            public.unary_unary(get_servers)(b"", timeout=20)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as error:
            proto.stubs.GenerationStub(admin).GetModel(proto.messages.GetModelRequest(), timeout=20)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_every_grpc_method_asks_for_the_key(start_server, proto):
    """Deny by default, for methods yet to be written too."""
    server = start_server("--api-key", "k")
    methods = proto.messages.DESCRIPTOR.services_by_name["Generation"].methods
    assert len(methods) >= 4
    with server.channel() as channel:
        for method in methods:
            for metadata in ([], [("authorization", "Bearer wrong")], [("authorization", "k")]):
                call = channel.unary_stream(f"/latentd.v1.Generation/{method.name}")
                with pytest.raises(grpc.RpcError) as error:
                    list(call(b"", metadata=metadata, timeout=20))
                assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED, method.name


def test_the_limit_of_open_files_is_raised(server):
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


@pytest.mark.parametrize(("flags", "warns"), [([], True), (["--api-key", "k"], False)])
def test_an_open_door_without_keys_is_warned_of(request, model_dir, flags, warns):
    command = [request.config.getoption("--latentd"), "serve", "--model", str(model_dir), "--host", "0.0.0.0"]
    ports = ["--http-port", "0", "--grpc-port", "0", "--drain-propagation", "0"]
    process = subprocess.Popen([*command, *ports, *flags], stderr=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if " ready " in line:
            process.terminate()
    assert process.wait(20) == 0
    assert any("reachable from other machines" in line for line in lines) == warns


def test_end_of_text_is_what_both_of_a_models_files_say(start_server, model_dir, tmp_path):
    """config.json has one id, generation_config.json a list: any of them ends a text, and sampling defaults apply."""
    model = tmp_path / "model"
    shutil.copytree(model_dir, model)
    settings = {"eos_token_id": [ord("q"), ord("r")], "do_sample": True, "temperature": 0.0}
    (model / "generation_config.json").write_text(json.dumps(settings))
    server = start_server("--served-model-name", "tiny", model=model)
    client = server.client()
    for token in (1, ord("q"), ord("r")):
        answer = client.completions.create(model="tiny", prompt="x", max_tokens=9, logit_bias={str(token): 100})
        assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens == 1
    one, two = (client.completions.create(model="tiny", prompt="x", max_tokens=20).choices[0].text for _ in range(2))
    assert one == two  # greedy, without being asked


def request_bytes(**fields) -> bytes:
    body = json.dumps({"prompt": "run", "stream": True, "ignore_eos": True, **fields}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


SLOW = 'latentd_requests_cancelled_total{cause="slow_reader"}'


@pytest.fixture(scope="module")
def impatient(start_server) -> Server:
    flags = ["--stall-timeout", "2", "--max-num-seqs", "256", "--max-queue", "1024", "--kv-cache-tokens", str(1 << 19)]
    return start_server("--served-model-name", "tiny", *flags)


def stall(server: Server, count: int, **fields) -> list[socket.socket]:
    """Streams whose readers take the first bytes and no more."""
    stalled = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", server.http_port))
        sock.sendall(request_bytes(**fields))
        stalled.append(sock)
    for sock in stalled:
        assert sock.recv(16).startswith(b"HTTP/1.1 200 OK")
    return stalled


def test_two_hundred_stalled_readers_disturb_nobody_and_are_given_up(impatient):
    before = impatient.metrics()
    # 700 tokens with logprobs are more than all buffers of a socket hold.
    stalled = stall(impatient, 200, max_tokens=700, logprobs=20)
    client = impatient.client()
    steps = []
    for _ in range(5):
        answer = client.completions.create(model="tiny", prompt="x", max_tokens=8, extra_body={"ignore_eos": True})
        assert answer.usage.completion_tokens == 8
        steps.append(impatient.metrics()["latentd_engine_step_seconds_count"])
    assert steps == sorted(steps) and steps[-1] > steps[0]  # the engine goes on
    eventually(lambda: impatient.metrics()[SLOW] == before[SLOW] + 200, timeout=90)
    after = impatient.wait_until_idle(60)
    # What lay there for all of them was bounded, and is gone or can be used again.
    assert after["process_resident_memory_bytes"] < before["process_resident_memory_bytes"] + (600 << 20)
    for sock in stalled:
        sock.close()
    eventually(lambda: impatient.metrics()["process_open_fds"] <= before["process_open_fds"] + 4)


def test_a_slow_reader_is_no_stuck_one(impatient):
    """It takes a little every now and then, for longer than the limit, and gets everything."""
    before = impatient.metrics()[SLOW]
    # 1.5 MB: more than it can take while it is slow, however fast the server writes.
    sock = stall(impatient, 1, max_tokens=1000, logprobs=20)[0]
    began, body = time.monotonic(), b""
    while not body.endswith(b"0\r\n\r\n"):
        slow = time.monotonic() - began < 3
        part = sock.recv(8192 if slow else 1 << 20)
        assert part
        body += part
        if slow:
            time.sleep(0.05)
    assert len(body) > 60 * 8192, "it was over before the limit was"
    assert body.count(b"data: {") >= 1 and b"data: [DONE]" in body
    assert impatient.metrics()[SLOW] == before


def test_a_grpc_reader_that_stops_is_given_up_even_after_the_last_token(impatient, proto):
    before = impatient.metrics()[SLOW]
    messages = proto.messages
    # A window of 64 KiB that is never opened again: a client on the wire that reads nothing after its request.
    request = messages.GenerateRequest(
        text="run",
        stopping=messages.StoppingParams(max_tokens=3000, ignore_eos=True),
        output=messages.OutputParams(logprobs=20),
    )
    options = [("grpc.http2.lookahead_bytes", 0), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{impatient.grpc_port}", options) as channel:
        call = proto.stubs.GenerationStub(channel).Generate(request, timeout=60)
        next(iter(call))
        eventually(lambda: impatient.metrics()[SLOW] == before + 1, timeout=30)
        with pytest.raises(grpc.RpcError) as error:
            list(call)
    assert error.value.code() == grpc.StatusCode.CANCELLED
    impatient.wait_until_idle()


def answers_of(server: Server, count: int, seeds: int, tokens: int) -> dict[socket.socket, tuple[int, bytes]]:
    """`count` event streams at once, each to its end: the seed it was asked with, and its bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + 256)), hard))
    selector, seed_of, bodies = selectors.DefaultSelector(), {}, {}
    # All but the last byte of every request comes first: the first must not be done before the last has asked.
    for i in range(count):
        sock = socket.create_connection(("127.0.0.1", server.http_port), timeout=60)
        request = request_bytes(max_tokens=tokens, seed=i % seeds, return_token_ids=True)
        request = request.replace(b"Host: t", b"Host: t\r\nConnection: close")
        sock.sendall(request[:-1])
        seed_of[sock], bodies[sock] = (i % seeds, request[-1:]), bytearray()
        selector.register(sock, selectors.EVENT_READ)
    for sock, (_, last) in seed_of.items():
        sock.sendall(last)
    begun = most = 0
    while selector.get_map():
        ready = selector.select(60)
        assert ready, "no stream has gone on for a minute"
        for key, _ in ready:
            if part := key.fileobj.recv(65536):
                begun += not bodies[key.fileobj]
                bodies[key.fileobj].extend(part)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
        most = max(most, begun - (count - len(selector.get_map())))
    print(f"{most} of {count} were open at once")
    assert most > count / 2
    return {sock: (seed_of[sock][0], bytes(body)) for sock, body in bodies.items()}


def test_two_thousand_event_streams_lose_and_reorder_nothing(start_server):
    count, seeds, tokens = 2000, 8, 120
    flags = ["--max-num-seqs", "2048", "--max-queue", "2048", "--kv-cache-tokens", str(1 << 18)]
    server = start_server("--served-model-name", "tiny", *flags)
    expected = []
    for seed in range(seeds):
        fields = {"max_tokens": tokens, "seed": seed, "extra_body": {"ignore_eos": True, "return_token_ids": True}}
        answer = server.client().completions.create(model="tiny", prompt="run", **fields)
        expected.append((answer.choices[0].token_ids, answer.choices[0].text))
    began = time.monotonic()
    answers = answers_of(server, count, seeds, tokens)
    seconds = time.monotonic() - began
    print(f"{count} streams of {tokens} tokens: {seconds:.1f} s, {count * tokens / seconds:.0f} tokens a second")
    assert len(answers) == count
    for seed, body in answers.values():
        lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
        assert lines[-1] == b"data: [DONE]"
        choices = [json.loads(line[6:])["choices"][0] for line in lines[:-1]]
        ids = [token for choice in choices for token in choice["token_ids"]]
        assert (ids, "".join(choice["text"] for choice in choices)) == expected[seed]
    server.wait_until_idle()
    assert server.metrics()['latentd_requests_rejected_total{reason="queue_full"}'] == 0


def test_a_stream_that_waits_sends_comments(start_server):
    """Behind a request that has the only slot: whatever stands between client and server sees that the stream lives."""
    flags = ["--stall-timeout", "1", "--max-num-seqs", "1"]
    server = start_server("--served-model-name", "tiny", *flags)
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as first:
        first.sendall(request_bytes(max_tokens=CONTEXT - 10, n=64))
        assert first.recv(16).startswith(b"HTTP/1.1 200 OK")
        drain = threading.Thread(target=lambda: all(iter(lambda: read_or_nothing(first), b"")))
        drain.start()
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=60) as second:
            second.sendall(request_bytes(max_tokens=2).replace(b"Host: t", b"Host: t\r\nConnection: close"))
            body = b""
            while b": keep-alive\n\n" not in body:
                part = second.recv(4096)
                assert part, body
                body += part
            assert b"text/event-stream" in body and b"data: " not in body
            first.shutdown(socket.SHUT_RDWR)  # its client has left: the second's turn
            while part := second.recv(4096):
                body += part
        drain.join()
    assert b"data: [DONE]\n\n" in body


def read_or_nothing(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def test_a_connection_serves_one_request_after_another_until_told_otherwise(server):
    def ask(sock: socket.socket, request: bytes) -> dict[str, str]:
        sock.sendall(request)
        stream = sock.makefile("rb")
        status, headers = stream.readline(), {}
        while line := stream.readline().strip().decode().lower():
            name, value = line.split(": ", 1)
            headers[name] = value
        if "content-length" in headers:
            stream.read(int(headers["content-length"]))
        else:
            while size := int(stream.readline(), 16):
                stream.read(size + 2)
            stream.readline()
        return headers | {"status": status.decode().split()[1]}

    stream, whole = request_bytes(max_tokens=3), request_bytes(max_tokens=1, stream=False)
    health = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as sock:
        for request in (health, whole, stream, request_bytes(n=0), health, stream, whole):
            headers = ask(sock, request)  # a bad request leaves the connection as it is
            assert headers["status"] == ("400" if b'"n": 0' in request else "200")
            assert headers.get("connection") != "close"
        assert ask(sock, health.replace(b"Host: t", b"Host: t\r\nConnection: close"))["connection"] == "close"
        assert sock.recv(1) == b""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as sock:
        old = health.replace(b"HTTP/1.1", b"HTTP/1.0")
        headers = ask(sock, old.replace(b"Host: t", b"Host: t\r\nConnection: keep-alive"))
        assert headers["connection"] == "keep-alive"
        ask(sock, old)
        assert sock.recv(1) == b""
