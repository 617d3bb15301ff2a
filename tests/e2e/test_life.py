"""Starting, keys, shedding, metrics, draining."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import openai
import pytest
from conftest import CONTEXT, eventually
from grpc_health.v1 import health_pb2, health_pb2_grpc

LONG = {"model": "tiny", "prompt": "run", "extra_body": {"ignore_eos": True}}


def status_of(url: str, key: str | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_start_to_first_token_is_quick(start_server):
    server = start_server("--served-model-name", "tiny")
    server.client().completions.create(model="tiny", prompt="x", max_tokens=1)
    # The target is half a second on an idle machine.
    assert time.monotonic() - server.started < 5
    assert server.stop() == 0


def test_probes_version_and_configuration(server):
    assert status_of(server.url + "/healthz") == 200
    assert status_of(server.url + "/readyz") == 200
    assert status_of(server.url + "/health") == 200
    with urllib.request.urlopen(server.url + "/version", timeout=10) as response:
        assert json.load(response)["version"]
    assert server.wait_for_line(r"configuration .*http-port=0 .*kv-cache-tokens=131072")


def test_keys_are_asked_for_at_both_doors(start_server, proto):
    server = start_server("--served-model-name", "tiny", "--api-key", "sesame", LATENTD_LOG_FORMAT="json")
    assert status_of(server.url + "/healthz") == 200 and status_of(server.url + "/readyz") == 200
    for path in ("/v1/models", "/metrics", "/nowhere", "/v1%2Fmodels"):
        assert status_of(server.url + path) == 401
        assert status_of(server.url + path, "wrong") == 401
    assert status_of(server.url + "/v1/models", "sesame") == 200
    with pytest.raises(openai.AuthenticationError) as error:
        server.client("wrong").completions.create(model="tiny", prompt="x")
    assert error.value.code == "invalid_api_key"
    assert server.client("sesame").completions.create(model="tiny", prompt="x", max_tokens=1).usage

    with server.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        request = proto.messages.GenerateRequest(text="x")
        for call in (
            lambda **kw: list(stub.Generate(request, **kw)),
            lambda **kw: stub.GetModel(proto.messages.GetModelRequest(), **kw),
        ):
            with pytest.raises(grpc.RpcError) as failed:
                call(timeout=10)
            assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert call(timeout=10, metadata=[("authorization", "Bearer sesame")])
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert not any("sesame" in line for line in server.lines)
    assert all(json.loads(line)["time"] for line in server.lines)
    assert server.stop() == 0


def test_a_full_house_sheds_with_a_hint(start_server, proto):
    server = start_server("--served-model-name", "tiny", "--max-queue", "1")
    with server.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        stopping = proto.messages.StoppingParams(max_tokens=CONTEXT - 10, ignore_eos=True)
        call = stub.Generate(proto.messages.GenerateRequest(text="x", stopping=stopping), timeout=30)
        next(iter(call))
        with pytest.raises(openai.RateLimitError) as error:
            server.client().completions.create(model="tiny", prompt="x")
        assert error.value.response.headers["retry-after"] == "1"
        assert error.value.response.headers["retry-after-ms"] == "1000"
        with pytest.raises(grpc.RpcError) as failed:
            list(stub.Generate(proto.messages.GenerateRequest(text="x"), timeout=10))
        assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(failed.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        call.cancel()
        server.wait_until_idle()
    eventually(lambda: server.client().completions.create(model="tiny", prompt="x", max_tokens=1).usage)
    assert server.metrics()['latentd_requests_rejected_total{reason="queue_full"}'] == 2
    assert server.stop() == 0


def test_metrics_speak_vllms_names(server):
    before = server.metrics()
    server.client().completions.create(
        model="tiny", prompt="12345", max_tokens=7, temperature=0, extra_body={"ignore_eos": True}
    )
    after = server.wait_until_idle()

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grew("vllm:prompt_tokens_total") == 5
    assert grew("vllm:generation_tokens_total") == 7
    assert grew("vllm:time_to_first_token_seconds_count") == 1
    assert grew("vllm:inter_token_latency_seconds_count") == 6
    assert grew("vllm:e2e_request_latency_seconds_count") == 1
    assert grew("vllm:request_queue_time_seconds_count") == 1
    assert grew('vllm:request_success_total{finished_reason="length"}') == 1
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total"):
        assert after["vllm:" + name] == after["latentd_" + name] == 0
    pages = {state: after[f'latentd_kv_pages{{state="{state}"}}'] for state in ("used", "cached", "free")}
    assert pages["used"] == 0 and sum(pages.values()) == 131072 / 64
    assert after['latentd_state{state="ready"}'] == 1
    assert any(name.startswith('vllm:cache_config_info{block_size="64",num_gpu_blocks="2048"') for name in after)
    assert 0 < after["latentd_kv_bytes_per_token"] < after["latentd_kv_bytes_per_token_mha"]


def test_sigterm_finishes_what_runs(start_server):
    server = start_server("--served-model-name", "tiny", "--drain-propagation", "1.5")
    answers = []

    def run() -> None:
        answers.append(server.client().completions.create(**LONG, max_tokens=6000))

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: server.metrics()["latentd_num_requests_running"] > 0)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_line(r"\bdraining\b")
    assert status_of(server.url + "/readyz") == 503 and status_of(server.url + "/healthz") == 200
    with server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    # Routers have not all heard yet: the propagation window.
    assert server.client().completions.create(model="tiny", prompt="x", max_tokens=1).usage
    assert server.process.wait(20) == 0
    thread.join()
    assert answers[0].usage.completion_tokens == 6000


def test_a_drain_that_takes_too_long_fails_what_is_left_cleanly(start_server):
    server = start_server("--served-model-name", "tiny", "--drain-timeout", "0.2", "--cpu-threads", "1")
    with pytest.raises(openai.APIError) as error:
        stream = server.client().completions.create(**LONG, max_tokens=CONTEXT - 10, stream=True)
        for i, _ in enumerate(stream):
            if i == 0:
                server.process.send_signal(signal.SIGTERM)
    assert "shutting down" in str(error.value)
    assert server.process.wait(20) == 0


def test_a_second_signal_ends_at_once(start_server):
    server = start_server("--drain-propagation", "60")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for_line(r"\bdraining\b")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) != 0


def test_what_cannot_be_served_is_said_and_ends(request, start_server, tmp_path, server):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        binary = request.config.getoption("--latentd")
        return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=20)

    missing = run("serve", "--model", str(tmp_path / "nothing"), "--http-port", "0", "--grpc-port", "0")
    assert missing.returncode == 1 and "nothing" in missing.stderr
    flag = run("serve", "--model", "x", "--max-num-seqz", "1")
    assert flag.returncode == 2 and "--max-num-seqz" in flag.stderr
    taken = run("serve", "--model", "x", "--http-port", str(server.http_port), "--grpc-port", "0")
    assert taken.returncode == 1 and str(server.http_port) in taken.stderr
    assert run("version").stdout.startswith("latentd ")
