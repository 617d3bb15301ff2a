"""vllm.grpc.engine.VllmEngine through the stubs that gateways use: those of the package smg-grpc-proto."""

from __future__ import annotations

import json

import grpc
import pytest
from conftest import CONTEXT, eventually
from smg_grpc_proto import vllm_engine_pb2 as pb
from smg_grpc_proto import vllm_engine_pb2_grpc


@pytest.fixture
def engine(server):
    with server.channel() as channel:
        yield vllm_engine_pb2_grpc.VllmEngineStub(channel)


def request(text="hello", stream=False, request_id="", **params):
    sampling = pb.SamplingParams(**{"temperature": 0, "max_tokens": 8, "ignore_eos": True, **params})
    tokenized = pb.TokenizedInput(original_text=text, input_ids=list(text.encode()))
    return pb.GenerateRequest(request_id=request_id, tokenized=tokenized, sampling_params=sampling, stream=stream)


def test_generate_gives_the_tokens_of_the_other_door(engine, server):
    (answer,) = engine.Generate(request(logprobs=2, prompt_logprobs=1), timeout=20)
    complete = answer.complete
    expected = server.client().completions.create(
        model="tiny", prompt="hello", max_tokens=8, temperature=0, logprobs=2, echo=True,
        extra_body={"ignore_eos": True, "return_token_ids": True},
    ).choices[0]
    assert list(complete.output_ids) == expected.token_ids and complete.finish_reason == "length"
    assert (complete.prompt_tokens, complete.completion_tokens) == (5, 8)
    assert list(complete.output_logprobs.token_ids) == expected.token_ids
    assert list(complete.output_logprobs.token_logprobs) == pytest.approx(expected.logprobs.token_logprobs[5:], abs=1e-5)
    assert all(len(top.values) == 2 for top in complete.output_logprobs.top_logprobs)
    prompt = complete.input_logprobs
    assert list(prompt.token_ids) == list(b"hello") and not prompt.token_logprobs[0].HasField("value")
    values = [each.value for each in prompt.token_logprobs[1:]]
    assert values == pytest.approx(expected.logprobs.token_logprobs[1:5], abs=1e-5)


def test_a_streams_chunks_add_up_to_its_end(engine):
    answers = list(engine.Generate(request(stream=True, n=2, temperature=1.0, seed=3, logprobs=0), timeout=20))
    for index in (0, 1):
        chunks = [each.chunk for each in answers if each.HasField("chunk") and each.chunk.index == index]
        (last,) = [each.complete for each in answers if each.HasField("complete") and each.complete.index == index]
        assert [token for chunk in chunks for token in chunk.token_ids] == list(last.output_ids)
        assert [chunk.completion_tokens for chunk in chunks][-1] == last.completion_tokens == 8
        assert sum(len(chunk.output_logprobs.token_logprobs) for chunk in chunks) == 8


def test_unset_is_off_and_goes_as_far_as_the_context(engine):
    stop = list(engine.Generate(request("x" * (CONTEXT - 6), max_tokens=None), timeout=20))
    assert stop[-1].complete.completion_tokens == 6 and stop[-1].complete.finish_reason == "length"


def test_what_ended_a_text_is_said(engine):
    (full,) = engine.Generate(request(max_tokens=20), timeout=20)
    token = full.complete.output_ids[3]
    (stopped,) = engine.Generate(request(max_tokens=20, stop_token_ids=[token]), timeout=20)
    assert stopped.complete.finish_reason == "stop" and stopped.complete.matched_token_id == token
    assert stopped.complete.output_ids[-1] == token


def test_a_schema_holds_the_tokens(engine):
    schema = json.dumps({"enum": ["one", "two"]})
    (answer,) = engine.Generate(request(json_schema=schema, max_tokens=40, ignore_eos=False), timeout=20)
    assert bytes(answer.complete.output_ids).strip(b"\x01") in (b'"one"', b'"two"')


def test_abort_ends_a_call(engine, server):
    call = engine.Generate(request(stream=True, request_id="away", max_tokens=CONTEXT - 10), timeout=20)
    answers = iter(call)
    next(answers)
    load = eventually(lambda: (loads := engine.GetLoads(pb.GetLoadsRequest()).loads[0]).num_running_reqs and loads)
    assert load.num_running_reqs == load.num_total_reqs == 1 and 0 < load.token_usage <= 1
    engine.Abort(pb.AbortRequest(request_ids=["away", "nobody"]))
    assert list(answers)[-1].complete.finish_reason == "abort"
    server.wait_until_idle()


def test_model_server_and_health_say_what_is_served(engine):
    model = engine.GetModelInfo(pb.GetModelInfoRequest())
    assert model.served_model_name == "tiny" and model.is_generation and model.max_context_length == CONTEXT
    assert (model.vocab_size, list(model.eos_token_ids)) == (256, [1])
    info = engine.GetServerInfo(pb.GetServerInfoRequest())
    assert info.data_parallel_size == 1 and info.max_num_seqs > 0 and info.block_size > 0 and not info.is_paused
    health = engine.HealthCheck(pb.HealthCheckRequest())
    assert health.healthy and health.message == "ready"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("regex", {"regex": "a+"}),
        ("grammar", {"grammar": "root ::= x"}),
        ("truncate_prompt_tokens", {"truncate_prompt_tokens": 3}),
        ("logprobs", {"logprobs": -1}),
        ("logprobs", {"logprobs": 21}),
        ("temperature", {"temperature": 3}),
        ("choice", {"choice": pb.ChoiceConstraint(choices=["a"])}),
    ],
)
def test_what_is_not_done_is_refused(engine, field, change):
    with pytest.raises(grpc.RpcError) as error:
        list(engine.Generate(request(**change), timeout=20))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(error.value.trailing_metadata())["latentd-field"] == field


def test_media_and_empty_inputs_are_refused(engine):
    media = request()
    media.mm_inputs.pixel_values.dtype = "float32"
    for message in (media, pb.GenerateRequest(), pb.GenerateRequest(tokenized=pb.TokenizedInput())):
        with pytest.raises(grpc.RpcError) as error:
            list(engine.Generate(message, timeout=20))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_left_out_says_so(engine):
    with pytest.raises(grpc.RpcError) as error:
        engine.Embed(pb.EmbedRequest(), timeout=20)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
