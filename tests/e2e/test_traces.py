"""W3C traceparent: taken at both doors, logged with the request, answered over HTTP by a span of ours."""

from __future__ import annotations

import json
import re
import urllib.request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_a_trace_is_logged_and_answered(server):
    body = json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 1}).encode()
    headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "traced-1"}
    with urllib.request.urlopen(urllib.request.Request(server.url + "/v1/completions", body, headers), timeout=20) as answer:
        answered = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", answer.headers["traceresponse"])
    assert answered and answered[1] != PARENT
    line = server.wait_for_line(r"request .*request_id=traced-1.*")[0]
    assert f"trace_id={TRACE} parent_id={PARENT} span_id={answered[1]}" in line


def test_a_broken_trace_is_ignored(server):
    headers = {"traceparent": f"00-{TRACE.upper()}-{PARENT}-01", "X-Request-Id": "traced-2"}
    with urllib.request.urlopen(urllib.request.Request(server.url + "/v1/models", headers=headers), timeout=20) as answer:
        assert answer.headers["traceresponse"] is None
    assert "trace_id" not in server.wait_for_line(r"request .*request_id=traced-2.*")[0]


def test_a_trace_comes_by_grpc_too(server, stub, proto):
    stopping = proto.messages.StoppingParams(max_tokens=1)
    request = proto.messages.GenerateRequest(text="x", request_id="traced-3", stopping=stopping)
    list(stub.Generate(request, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-00")], timeout=20))
    assert f"trace_id={TRACE} parent_id={PARENT}" in server.wait_for_line(r"request .*request_id=traced-3.*")[0]
