"""Spans of requests, as a collector gets them by OTLP/gRPC: the messages are those of the package opentelemetry-proto."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import Server, eventually
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
LONG = 12_000  # tokens


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What it was sent: spans, their resources, and the headers of the calls."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None):
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._changed = threading.Condition()
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        add = self._server.add_secure_port if credentials else self._server.add_insecure_port
        self.port = add("127.0.0.1:0", *([credentials] if credentials else []))
        self._server.start()

    def Export(self, request, context):  # noqa: N802 (the service's own name)
        with self._changed:
            self.headers.append(dict(context.invocation_metadata()))
            for resource_spans in request.resource_spans:
                self.resources.append(attributes(resource_spans.resource))
                for scope_spans in resource_spans.scope_spans:
                    assert scope_spans.scope.name == "latentd"
                    self.spans.extend(scope_spans.spans)
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def span_of(self, request_id: str) -> Span:
        """The span of a request, once it and its children have come."""
        with self._changed:
            while True:
                for span in self.spans:
                    if attributes(span).get("gen_ai.response.id") == request_id:
                        return span
                assert self._changed.wait(30), f"no span of {request_id}"

    def children(self, parent: Span) -> dict[str, Span]:
        return {span.name: span for span in self.spans if span.parent_span_id == parent.span_id}

    def stop(self) -> None:
        self._server.stop(None).wait()


def attributes(of: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {attribute.key: plain(attribute.value) for attribute in of.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def traced(start_server: Callable[..., Server], collector: Collector) -> Server:
    return start_server("--otlp-endpoint", f"127.0.0.1:{collector.port}", "--served-model-name", "tiny")


def ask(server: Server, request_id: str, path: str = "/v1/completions", trace: str = "", **fields: Any) -> tuple[int, str | None]:
    """The status, and what the server says that its span is."""
    body = json.dumps({"model": "tiny", "prompt": "once", "max_tokens": 5, "ignore_eos": True, **fields}).encode()
    headers = {"Content-Type": "application/json", "X-Request-Id": request_id, **({"traceparent": trace} if trace else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url + path, body, headers), timeout=30) as answer:
            answer.read()
            return answer.status, answer.headers["traceresponse"]
    except urllib.error.HTTPError as error:
        return error.code, error.headers["traceresponse"]


def test_a_request_is_a_span_below_its_clients(traced: Server, collector: Collector):
    status, answered = ask(traced, "otlp-1", trace=SAMPLED)
    span = collector.span_of("otlp-1")
    assert status == 200 and answered == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.kind == Span.SPAN_KIND_SERVER and span.name == "text_completion tiny"
    assert span.status.code == Status.STATUS_CODE_UNSET
    said = attributes(span)
    expected = {
        "gen_ai.operation.name": "text_completion", "gen_ai.provider.name": "latentd",
        "gen_ai.request.model": "tiny", "gen_ai.response.model": "tiny",
        "gen_ai.usage.input_tokens": 4, "gen_ai.usage.output_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.response.finish_reasons": ["length"], "http.route": "/v1/completions", "http.response.status_code": 200,
    }  # fmt: skip
    assert {key: said.get(key) for key in expected} == expected
    assert 0 <= said["gen_ai.latency.time_in_queue"] <= said["gen_ai.latency.time_to_first_token"]
    assert "once" not in str(span)
    resource = collector.resources[0]
    assert resource["service.name"] == "latentd" and resource["service.version"]


def test_its_parts_are_spans_below_it(traced: Server, collector: Collector):
    ask(traced, "otlp-2", trace=SAMPLED)
    whole = collector.span_of("otlp-2")
    parts = collector.children(whole)
    assert set(parts) == {"queue", "prefill", "decode"}
    ordered = [parts["queue"], parts["prefill"], parts["decode"]]
    for part in ordered:
        assert part.trace_id == whole.trace_id and part.kind == Span.SPAN_KIND_INTERNAL
    times = [whole.start_time_unix_nano]
    times += [time for part in ordered for time in (part.start_time_unix_nano, part.end_time_unix_nano)]
    assert times == sorted(times) and times[-1] <= whole.end_time_unix_nano
    assert times[0] == times[1] and times[2] == times[3] and times[4] == times[5]


def test_who_does_not_sample_is_left_alone(traced: Server, collector: Collector):
    _, answered = ask(traced, "otlp-3", trace=f"00-{TRACE}-{PARENT}-00")
    assert answered and answered.endswith("-00")
    ask(traced, "otlp-4", trace=SAMPLED)
    collector.span_of("otlp-4")  # sent later, and one thread sends
    assert not [span for span in collector.spans if attributes(span).get("gen_ai.response.id") == "otlp-3"]


def test_a_request_of_no_trace_begins_one(traced: Server, collector: Collector):
    _, answered = ask(traced, "otlp-5")
    span = collector.span_of("otlp-5")
    assert span.parent_span_id == b"" and answered == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    line = traced.wait_for_line(r"request .*request_id=otlp-5.*")[0]
    assert f"trace_id={span.trace_id.hex()} span_id={span.span_id.hex()}" in line


def test_unless_a_ratio_says_otherwise(start_server: Callable[..., Server], collector: Collector):
    server = start_server("--otlp-endpoint", f"127.0.0.1:{collector.port}", "--otlp-sample-ratio", "0", "--served-model-name", "tiny")
    _, answered = ask(server, "otlp-6")
    assert answered and answered.endswith("-00")
    ask(server, "otlp-7", trace=SAMPLED)
    collector.span_of("otlp-7")
    assert not [span for span in collector.spans if attributes(span).get("gen_ai.response.id") == "otlp-6"]


def test_chats_and_choices_and_the_other_door(traced: Server, collector: Collector, proto):
    fields = {"prompt": None, "messages": [{"role": "user", "content": "x"}]}
    ask(traced, "otlp-8", "/v1/chat/completions", SAMPLED, **fields)  # the tiny model has no template
    refused = attributes(collector.span_of("otlp-8"))
    assert refused["gen_ai.operation.name"] == "chat" and refused["error.type"] == "400"
    ask(traced, "otlp-9", trace=SAMPLED, n=3, temperature=1)
    assert attributes(collector.span_of("otlp-9"))["gen_ai.response.finish_reasons"] == ["length"] * 3
    with traced.channel() as channel:
        request = proto.messages.GenerateRequest(
            text="once", request_id="otlp-10", stopping=proto.messages.StoppingParams(max_tokens=5, ignore_eos=True)
        )
        list(proto.stubs.GenerationStub(channel).Generate(request, metadata=[("traceparent", SAMPLED)], timeout=30))
    span = collector.span_of("otlp-10")
    said = attributes(span)
    assert span.trace_id.hex() == TRACE and span.parent_span_id.hex() == PARENT and span.kind == Span.SPAN_KIND_SERVER
    assert said["rpc.method"] == "Generate" and said["rpc.response.status_code"] == "OK"
    assert said["gen_ai.usage.output_tokens"] == 5


def test_a_clients_mistake_is_named_and_no_error_of_ours(traced: Server, collector: Collector):
    status, _ = ask(traced, "otlp-11", trace=SAMPLED, max_tokens=-1)
    span = collector.span_of("otlp-11")
    assert status == 400 and attributes(span)["error.type"] == "400"
    assert span.status.code == Status.STATUS_CODE_UNSET and collector.children(span) == {}


def test_what_the_server_breaks_off_is_an_error_and_is_sent_before_it_ends(start_server: Callable[..., Server], collector: Collector):
    flags = ["--otlp-endpoint", f"http://127.0.0.1:{collector.port}", "--drain-timeout", "0", "--served-model-name", "tiny"]
    server = start_server(*flags)
    statuses: list[int] = []
    client = threading.Thread(target=lambda: statuses.append(ask(server, "otlp-12", trace=SAMPLED, max_tokens=LONG)[0]))
    client.start()
    eventually(lambda: server.metrics()["latentd_num_requests_running"] == 1)
    assert server.stop() == 0
    client.join()
    span = collector.span_of("otlp-12")
    assert statuses == [503] and attributes(span)["http.response.status_code"] == 503
    assert span.status.code == Status.STATUS_CODE_ERROR


def test_a_collector_that_is_away_is_nobodys_problem(start_server: Callable[..., Server]):
    with socket.socket() as hole:  # takes connections and never says a word
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        server = start_server("--otlp-endpoint", f"127.0.0.1:{hole.getsockname()[1]}", "--served-model-name", "tiny")
        for number in range(3):
            assert ask(server, f"otlp-away-{number}", trace=SAMPLED)[0] == 200
        assert server.metrics()["latentd_otlp_spans_exported_total"] == 0
        assert server.stop(timeout=60) == 0
        assert server.wait_for_line(r"\d+ spans are lost")


def test_what_was_sent_is_counted(traced: Server, collector: Collector):
    ask(traced, "otlp-13", trace=SAMPLED)
    collector.span_of("otlp-13")

    def counted() -> bool:
        values = traced.metrics()
        dropped = sum(value for name, value in values.items() if name.startswith("latentd_otlp_spans_dropped_total"))
        return values["latentd_otlp_spans_exported_total"] >= 4 and dropped == 0

    assert eventually(counted)


def test_a_collector_can_want_tls_and_a_token(start_server: Callable[..., Server], tmp_path: Path):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=collector", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-out", tmp_path / "cert.pem", "-keyout", tmp_path / "key.pem"]
    subprocess.run(command, check=True, capture_output=True)
    pair = ((tmp_path / "key.pem").read_bytes(), (tmp_path / "cert.pem").read_bytes())
    collector = Collector(grpc.ssl_server_credentials([pair]))
    try:
        flags = ["--otlp-endpoint", f"https://localhost:{collector.port}", "--otlp-ca-file", str(tmp_path / "cert.pem")]
        flags += ["--otlp-header", "Authorization=Bearer collector-token", "--served-model-name", "tiny"]
        server = start_server(*flags)
        ask(server, "otlp-14", trace=SAMPLED)
        collector.span_of("otlp-14")
        assert collector.headers[0]["authorization"] == "Bearer collector-token"
        assert "collector-token" not in "\n".join(server.lines)
    finally:
        collector.stop()
