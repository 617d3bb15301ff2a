"""latentd.v1.Generation, health and reflection through grpcio."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import openai
import pytest
from conftest import CONTEXT, eventually
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


@pytest.fixture
def messages(proto):
    return proto.messages


def long_request(messages, **fields):
    stopping = messages.StoppingParams(max_tokens=CONTEXT - 10, ignore_eos=True)
    return messages.GenerateRequest(text="run", stopping=stopping, **fields)


def test_generate_streams_text_tokens_and_usage(stub, messages, server):
    request = messages.GenerateRequest(
        text="hello",
        sampling=messages.SamplingParams(temperature=0),
        stopping=messages.StoppingParams(max_tokens=12, ignore_eos=True),
        output=messages.OutputParams(logprobs=2),
    )
    answers = list(stub.Generate(request, timeout=120))
    ids = [token for answer in answers for token in answer.token_ids]
    logprobs = [entry for answer in answers for entry in answer.logprobs]
    assert len(ids) == len(logprobs) == 12
    assert [entry.token.token_id for entry in logprobs] == ids
    assert all(len(entry.top) == 2 and entry.top[0].token_id == entry.token.token_id for entry in logprobs)
    assert answers[-1].finish_reason == messages.FINISH_REASON_LENGTH
    assert (answers[-1].usage.prompt_tokens, answers[-1].usage.completion_tokens) == (5, 12)
    assert len({answer.request_id for answer in answers}) == 1 and answers[0].request_id
    over_http = server.client().completions.create(
        model="tiny", prompt="hello", max_tokens=12, temperature=0, extra_body={"ignore_eos": True}
    )
    assert "".join(answer.text for answer in answers) == over_http.choices[0].text


def test_generate_takes_tokens_and_gives_choices(stub, messages):
    request = messages.GenerateRequest(
        token_ids=messages.TokenIds(ids=[97, 98]),
        sampling=messages.SamplingParams(seed=4, temperature=1.5),
        stopping=messages.StoppingParams(max_tokens=5, ignore_eos=True),
        output=messages.OutputParams(n=3),
    )
    by_choice: dict[int, list[int]] = {}
    for answer in stub.Generate(request, timeout=120):
        by_choice.setdefault(answer.index, []).extend(answer.token_ids)
    assert sorted(by_choice) == [0, 1, 2] and all(len(ids) == 5 for ids in by_choice.values())


def test_prompt_logprobs_come_before_the_text(stub, messages):
    request = messages.GenerateRequest(
        text="abcd",
        stopping=messages.StoppingParams(max_tokens=2, ignore_eos=True),
        output=messages.OutputParams(logprobs=0, prompt_logprobs=True),
    )
    answers = list(stub.Generate(request, timeout=120))
    prompt = [entry.token for answer in answers for entry in answer.prompt_logprobs]
    assert bytes(b"".join(entry.token for entry in prompt)) == b"bcd"
    assert all(entry.logprob < 0 for entry in prompt)


def test_tokenize_and_get_model(stub, messages):
    assert list(stub.Tokenize(messages.TokenizeRequest(text="abc")).token_ids) == [97, 98, 99]
    model = stub.GetModel(messages.GetModelRequest())
    assert model.model == "tiny" and model.architecture == "DeepseekV3ForCausalLM"
    assert model.max_model_len == CONTEXT and model.vocab_size == 256 and list(model.eos_token_ids) == [1]
    assert 0 < model.kv_bytes_per_token < model.mha_kv_bytes_per_token


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("max_tokens", {"stopping": {"max_tokens": -1}}),
        ("temperature", {"sampling": {"temperature": 9}}),
        ("prompt", {"token_ids": {"ids": [256]}}),
        ("logprobs", {"output": {"logprobs": -1}}),
        ("n", {"output": {"n": 0}}),
        ("stop", {"stopping": {"stop": [""]}}),
        ("request_id", {"request_id": "not printable: \n"}),
    ],
)
def test_wrong_fields_are_invalid_arguments_that_name_them(stub, messages, field, change):
    request = messages.GenerateRequest(**({"text": "x"} | change if "token_ids" not in change else change))
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(request, timeout=120))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(field + ": ")
    assert dict(error.value.trailing_metadata())["latentd-field"] == field


def test_no_prompt_a_long_prompt_and_an_unknown_model_have_their_codes(stub, messages):
    def code_of(**fields):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(messages.GenerateRequest(**fields), timeout=120))
        return error.value.code()

    assert code_of() == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(text="x" * (CONTEXT + 1)) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(text="x", model="other") == grpc.StatusCode.NOT_FOUND
    assert code_of(text="x" * (9 << 20)) == grpc.StatusCode.RESOURCE_EXHAUSTED  # beyond the message limit


def test_cancelling_frees_the_pages(stub, messages, server):
    before = server.metrics()
    call = stub.Generate(long_request(messages))
    next(iter(call))
    call.cancel()
    after = server.wait_until_idle()
    name = 'latentd_requests_cancelled_total{cause="disconnect"}'
    assert after[name] == before[name] + 1
    made = after["latentd_generation_tokens_total"] - before["latentd_generation_tokens_total"]
    assert made < CONTEXT - 10


def test_a_deadline_stops_the_work(stub, messages, server):
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(long_request(messages), timeout=0.15))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_until_idle()


def test_abort_ends_the_stream_with_its_own_reason(stub, messages, server):
    call = stub.Generate(long_request(messages, request_id="to-abort"), timeout=120)
    answers = iter(call)
    next(answers)
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(long_request(messages, request_id="to-abort"), timeout=120))
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert stub.Abort(messages.AbortRequest(request_id="to-abort")).aborted == 1
    last = list(answers)[-1]
    assert last.finish_reason == messages.FINISH_REASON_CANCELLED and last.usage.completion_tokens > 0
    server.wait_until_idle()
    assert stub.Abort(messages.AbortRequest(request_id="to-abort")).aborted == 0


def test_health_serves_under_both_names(server):
    with server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "latentd.v1.Generation"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            health.Check(health_pb2.HealthCheckRequest(service="other"), timeout=10)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_service(server):
    with server.channel() as channel:
        assert "latentd.v1.Generation" in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_many_streams_at_once_all_end(stub, messages):
    stopping = messages.StoppingParams(max_tokens=20, ignore_eos=True)
    calls = [
        stub.Generate(messages.GenerateRequest(text=f"call {i}", stopping=stopping), timeout=30) for i in range(40)
    ]
    assert all(list(call)[-1].usage.completion_tokens == 20 for call in calls)


def test_a_stopped_reader_does_not_stop_others(stub, messages):
    slow = stub.Generate(long_request(messages), timeout=120)
    next(iter(slow))  # and no more
    stopping = messages.StoppingParams(max_tokens=4, ignore_eos=True)
    fast = list(stub.Generate(messages.GenerateRequest(text="x", stopping=stopping), timeout=10))
    assert fast[-1].usage.completion_tokens == 4
    slow.cancel()
    eventually(lambda: not slow.is_active())


def test_detokenize_is_the_other_way(stub, messages):
    assert stub.Detokenize(messages.DetokenizeRequest(token_ids=[97, 98, 0xC3, 0xA9])).text == "abé"
    with pytest.raises(grpc.RpcError) as error:
        stub.Detokenize(messages.DetokenizeRequest(token_ids=[97, 256]))
    assert dict(error.value.trailing_metadata())["latentd-field"] == "token_ids"


def test_get_load_counts_what_runs(stub, messages):
    idle = stub.GetLoad(messages.GetLoadRequest())
    assert idle.state == "ready" and idle.max_running > 0 and idle.max_in_house >= 1024
    assert idle.kv_tokens_total >= 8 * CONTEXT
    call = stub.Generate(long_request(messages))
    next(iter(call))
    busy = eventually(lambda: (load := stub.GetLoad(messages.GetLoadRequest())).running == 1 and load)
    assert busy.in_house == 1 and busy.kv_tokens_used > 0 and 0 < busy.kv_usage <= 1
    assert busy.kv_tokens_used + busy.kv_tokens_promised >= CONTEXT - 16
    call.cancel()
    eventually(lambda: stub.GetLoad(messages.GetLoadRequest()).in_house == 0)


def test_trailing_metadata_says_what_a_call_has_cost(stub, messages):
    stopping = messages.StoppingParams(max_tokens=9, ignore_eos=True)
    call = stub.Generate(messages.GenerateRequest(text="what it costs " * 40, stopping=stopping), timeout=120)
    assert list(call)[-1].usage.completion_tokens == 9
    cost = {key.removeprefix("latentd-"): float(value) for key, value in call.trailing_metadata()
            if key.startswith("latentd-")}
    assert set(cost) == {"queue-ms", "ttft-ms", "prefill-ms", "decode-ms", "cached-tokens", "steps", "kv-byte-seconds"}
    assert cost["steps"] >= 9 and 0 < cost["prefill-ms"] <= cost["ttft-ms"] and cost["decode-ms"] > 0
    bytes_a_token = stub.GetModel(messages.GetModelRequest()).kv_bytes_per_token
    seconds = (cost["prefill-ms"] + cost["decode-ms"]) / 1e3
    assert 560 * bytes_a_token * seconds * 0.9 < cost["kv-byte-seconds"] < 640 * bytes_a_token * seconds * 1.1


def test_a_format_words_and_tokens_hold_the_text(stub, messages):
    def text(**fields):
        request = messages.GenerateRequest(text="x", **fields)
        return "".join(answer.text for answer in stub.Generate(request, timeout=120))

    short = messages.StoppingParams(max_tokens=60)
    schema = messages.OutputFormat(json_schema='{"enum": ["one", "two"]}')
    assert text(format=schema, stopping=short) in ('"one"', '"two"')
    some = messages.SamplingParams(allowed_token_ids=[97, 98, 99], temperature=0)
    favourite = text(sampling=some, stopping=short)[-1]
    assert favourite in "abc"
    some.bad_words.append(favourite * 2)
    written = text(sampling=some, stopping=short)
    assert favourite in written and favourite * 2 not in written and set(written) <= set("abc")


def test_the_prompts_tokens_come_first_when_asked_for(stub, messages):
    request = messages.GenerateRequest(
        text="ab", stopping=messages.StoppingParams(max_tokens=2, ignore_eos=True),
        output=messages.OutputParams(n=2, return_prompt_token_ids=True),
    )
    first = {}
    for answer in stub.Generate(request, timeout=120):
        first.setdefault(answer.index, list(answer.prompt_token_ids))
    assert first == {0: [97, 98], 1: [97, 98]}


@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_fields_that_leave_nothing_to_draw_are_named(stub, messages, server, tokens):
    """At once where that is known at once, otherwise as soon as it is so; the same through both doors."""
    word = "a" * (tokens + 1)
    before = server.metrics()["latentd_generation_tokens_total"]
    sampling = messages.SamplingParams(allowed_token_ids=[ord("a")], bad_words=[word])
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(messages.GenerateRequest(text="x", sampling=sampling), timeout=120))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    said = f"allowed_token_ids and bad_words leave nothing to generate after {tokens} tokens"
    assert error.value.details() == f"allowed_token_ids: {said}"
    assert dict(error.value.trailing_metadata())["latentd-field"] == "allowed_token_ids"
    with pytest.raises(openai.BadRequestError) as bad:
        fields = {"allowed_token_ids": [ord("a")], "bad_words": [word]}
        server.client().completions.create(model="tiny", prompt="x", extra_body=fields)
    assert bad.value.param == "allowed_token_ids" and said in bad.value.message
    assert bad.value.response.headers.get("x-should-retry") is None
    after = server.wait_until_idle()["latentd_generation_tokens_total"]
    assert after - before == 2 * tokens


def test_a_stream_with_nothing_left_to_draw_ends_with_the_error(server):
    fields = {"allowed_token_ids": [ord("a")], "bad_words": ["a" * 200]}
    said = ""
    with pytest.raises(openai.APIError) as error:  # or a 400, if all of it came before the stream's head was out
        stream = server.client().completions.create(model="tiny", prompt="x", max_tokens=300, stream=True, extra_body=fields)
        for event in stream:
            said += event.choices[0].text
    assert error.value.param == "allowed_token_ids" and ("a" * 199).startswith(said)
    assert "leave nothing to generate after 199 tokens" in error.value.message


def test_a_thousand_streams_share_one_channel(stub, messages, server):
    """More than run at once; each gets its own answer."""
    calls = []
    for i in range(1000):
        sampling = messages.SamplingParams(seed=i % 7, temperature=2)
        stopping = messages.StoppingParams(max_tokens=8, ignore_eos=True)
        calls.append(stub.Generate(messages.GenerateRequest(text="x", sampling=sampling, stopping=stopping), timeout=120))
    said = [[token for answer in call for token in answer.token_ids] for call in calls]
    assert all(len(ids) == 8 for ids in said)
    assert all(said[i] == said[i % 7] for i in range(1000)) and len({tuple(ids) for ids in said[:7]}) > 1
    server.wait_until_idle()


def test_pings_keep_a_silent_channel_and_too_many_end_it(server, messages, proto):
    """A client may ping every ten seconds; one that does so all the time is told to calm down, and can come back."""
    polite = [("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_permit_without_calls", 1)]
    rude = [("grpc.keepalive_time_ms", 100), ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0), ("grpc.http2.min_time_between_pings_ms", 50),
            ("grpc.http2.min_sent_ping_interval_without_data_ms", 50)]
    for options in (polite, rude):
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
            stub = proto.stubs.GenerationStub(channel)
            for _ in range(3):
                assert stub.GetModel(messages.GetModelRequest(), timeout=120, wait_for_ready=True).model == "tiny"
                time.sleep(0.3)


def connections(server) -> set[int]:
    """The ports of this process that are connected to the server's gRPC door."""
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, ours, theirs, state = line.split()[:4]
            if state == "01" and int(theirs.split(":")[1], 16) == server.grpc_port:
                ports.add(int(ours.split(":")[1], 16))
    return ports


def test_a_connection_of_some_age_takes_no_more_calls_but_ends_those_it_has(start_server, messages, proto):
    server = start_server("--served-model-name", "tiny", "--grpc-connection-age", "1")
    with server.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        long = stub.Generate(long_request(messages, output=messages.OutputParams(logprobs=0)), timeout=300)
        answers = iter(long)
        tokens = len(next(answers).token_ids)
        (first,) = connections(server)

        def moved() -> bool:
            stub.GetModel(messages.GetModelRequest(), timeout=120, wait_for_ready=True)
            return bool(connections(server) - {first})

        eventually(moved, timeout=120)  # asked to go, the client makes its next calls over another connection
        tokens += sum(len(answer.token_ids) for answer in answers)
        assert tokens == CONTEXT - 10 and long.code() == grpc.StatusCode.OK
    server.wait_until_idle()


@pytest.fixture(scope="module")
def locked(start_server):
    return start_server("--served-model-name", "tiny", "--api-key", "k")


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x1a\x05ab", b"\x0a" * 100, b"\x00" * (9 << 20), b"x" * (7 << 20)])
def test_bytes_from_nobody_do_no_harm(locked, message):
    """Without TLS, gRPC decodes a message before anybody can ask for a key. What is none ends its call and nothing else."""
    with locked.channel() as channel:
        for method in ("latentd.v1.Generation/Generate", "latentd.v1.Generation/GetModel",
                       "vllm.grpc.engine.VllmEngine/Generate", "vllm.grpc.engine.VllmEngine/SubscribeKvEvents"):
            with pytest.raises(grpc.RpcError) as error:
                list(channel.unary_stream(f"/{method}")(message, timeout=120))
            assert error.value.code() in (
                grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )  # fmt: skip
    assert locked.client("k").completions.create(model="tiny", prompt="x", max_tokens=1).usage.completion_tokens == 1
    assert locked.metrics("k")['latentd_kv_pages{state="used"}'] == 0
