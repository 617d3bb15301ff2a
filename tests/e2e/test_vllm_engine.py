"""vllm.grpc.engine.VllmEngine through the stubs that gateways use: those of the package smg-grpc-proto."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator

import grpc
import pytest
from conftest import CONTEXT, ROOT, eventually
from smg_grpc_proto import vllm_engine_pb2 as pb
from smg_grpc_proto import vllm_engine_pb2_grpc
from smg_grpc_proto.generated import common_pb2

PAGE = 16


@pytest.fixture
def engine(server):
    with server.channel() as channel:
        yield vllm_engine_pb2_grpc.VllmEngineStub(channel)


def request(text="hello", stream=False, request_id="", **params):
    sampling = pb.SamplingParams(**{"temperature": 0, "max_tokens": 8, "ignore_eos": True, **params})
    tokenized = pb.TokenizedInput(original_text=text, input_ids=list(text.encode()))
    return pb.GenerateRequest(request_id=request_id, tokenized=tokenized, sampling_params=sampling, stream=stream)


def test_generate_gives_the_tokens_of_the_other_door(engine, server):
    (answer,) = engine.Generate(request(logprobs=2, prompt_logprobs=1), timeout=120)
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
    answers = list(engine.Generate(request(stream=True, n=2, temperature=1.0, seed=3, logprobs=0), timeout=120))
    for index in (0, 1):
        chunks = [each.chunk for each in answers if each.HasField("chunk") and each.chunk.index == index]
        (last,) = [each.complete for each in answers if each.HasField("complete") and each.complete.index == index]
        assert [token for chunk in chunks for token in chunk.token_ids] == list(last.output_ids)
        assert [chunk.completion_tokens for chunk in chunks][-1] == last.completion_tokens == 8
        assert sum(len(chunk.output_logprobs.token_logprobs) for chunk in chunks) == 8


def test_unset_is_off_and_goes_as_far_as_the_context(engine):
    stop = list(engine.Generate(request("x" * (CONTEXT - 6), max_tokens=None), timeout=120))
    assert stop[-1].complete.completion_tokens == 6 and stop[-1].complete.finish_reason == "length"


def test_what_ended_a_text_is_said(engine):
    (full,) = engine.Generate(request(max_tokens=20), timeout=120)
    token = full.complete.output_ids[3]
    (stopped,) = engine.Generate(request(max_tokens=20, stop_token_ids=[token]), timeout=120)
    assert stopped.complete.finish_reason == "stop" and stopped.complete.matched_token_id == token
    assert stopped.complete.output_ids[-1] == token


def test_a_schema_holds_the_tokens(engine):
    schema = json.dumps({"enum": ["one", "two"]})
    (answer,) = engine.Generate(request(json_schema=schema, max_tokens=40, ignore_eos=False), timeout=120)
    assert bytes(answer.complete.output_ids).strip(b"\x01") in (b'"one"', b'"two"')


def test_abort_ends_a_call(engine, server):
    call = engine.Generate(request(stream=True, request_id="away", max_tokens=CONTEXT - 10), timeout=120)
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
        list(engine.Generate(request(**change), timeout=120))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(error.value.trailing_metadata())["latentd-field"] == field


def test_media_and_empty_inputs_are_refused(engine):
    media = request()
    media.mm_inputs.pixel_values.dtype = "float32"
    for message in (media, pb.GenerateRequest(), pb.GenerateRequest(tokenized=pb.TokenizedInput())):
        with pytest.raises(grpc.RpcError) as error:
            list(engine.Generate(message, timeout=120))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_left_out_says_so(engine):
    with pytest.raises(grpc.RpcError) as error:
        engine.Embed(pb.EmbedRequest(), timeout=120)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_tokenizer_comes_as_an_archive_with_its_checksum(start_server):
    model = ROOT / "models/latent-mini"
    server = start_server("--kv-cache-tokens", "4096", model=model)
    with server.channel() as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        chunks = list(stub.GetTokenizer(common_pb2.GetTokenizerRequest(), timeout=120))
        again = list(stub.GetTokenizer(common_pb2.GetTokenizerRequest(), timeout=120))
    assert chunks == again and len(chunks) > 1 and not any(chunk.sha256 for chunk in chunks[:-1])
    archive = b"".join(chunk.data for chunk in chunks)
    assert hashlib.sha256(archive).hexdigest() == chunks[-1].sha256
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        assert bundle.testzip() is None
        names = set(bundle.namelist())
        assert {"tokenizer.json", "config.json"} <= names and not any(name.endswith("safetensors") for name in names)
        for name in names:
            assert bundle.read(name) == (model / name).read_bytes()


class Follower:
    """What a gateway knows of a prefix cache: blocks by hash, each with the tokens of its whole prefix."""

    def __init__(self, stub, start: int = 0, **call):
        self.call = stub.SubscribeKvEvents(common_pb2.SubscribeKvEventsRequest(start_sequence_number=start), **call)
        self.batches: Iterator = iter(self.call)
        self.prefixes: dict[int, tuple[int, ...]] = {}
        self.last = start
        self.removed = 0

    def follow(self) -> None:
        """One batch more."""
        batch = next(self.batches)
        if not batch.HasField("snapshot"):
            assert batch.sequence_number == self.last + 1
        self.last = batch.sequence_number
        assert batch.timestamp > 1.7e9
        for event in batch.events:
            if event.HasField("cleared"):
                self.prefixes.clear()
            assert all(block.block_size == len(block.token_ids) == PAGE for block in event.stored.blocks)
            parent = event.stored.parent_block_hash if event.stored.HasField("parent_block_hash") else None
            for block in event.stored.blocks:
                before = () if parent is None else self.prefixes[parent]
                assert block.block_hash not in self.prefixes
                self.prefixes[block.block_hash] = (*before, *block.token_ids)
                parent = block.block_hash
            for block_hash in event.removed.block_hashes:
                gone = self.prefixes.pop(block_hash)
                assert not any(prefix[: len(gone)] == gone for prefix in self.prefixes.values())
                self.removed += 1

    def follow_until(self, wanted) -> None:
        while not wanted(self.prefixes):
            self.follow()


def prefixes_of(text: str) -> set[tuple[int, ...]]:
    """Of its full pages."""
    tokens = tuple(text.encode())
    return {tokens[: end + PAGE] for end in range(0, len(tokens) - PAGE + 1, PAGE)}


@pytest.fixture
def paged(start_server):
    """A cache of 64 small pages."""
    flags = ["--page-tokens", str(PAGE), "--kv-cache-tokens", "1024", "--max-model-len", "512"]
    return start_server("--served-model-name", "tiny", *flags)


def run(stub, text: str, **call) -> None:
    list(stub.Generate(request(text, max_tokens=1), timeout=120, **call))


def test_a_subscriber_knows_the_prefix_cache(paged):
    with paged.channel() as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        run(stub, "a" * 40)  # before anybody listens
        follower = Follower(stub, timeout=120)
        follower.follow_until(lambda known: known)
        assert set(follower.prefixes.values()) == prefixes_of("a" * 40)
        run(stub, "a" * 70 + "b" * 30)
        expected = prefixes_of("a" * 40) | prefixes_of("a" * 70 + "b" * 30)
        follower.follow_until(lambda known: set(known.values()) == expected)
        # More than the cache holds: pages go, and the subscriber hears of each.
        for i in range(40):
            run(stub, f"{i:03}" * 60)
        cached = paged.wait_until_idle()['latentd_kv_pages{state="cached"}']
        follower.follow_until(lambda known: follower.removed > 0 and len(known) == cached)
        late = Follower(stub, timeout=120)  # knows the same from its first batches on
        late.follow_until(lambda known: set(known.values()) == set(follower.prefixes.values()))
        follower.call.cancel()
        late.call.cancel()


def test_a_subscriber_goes_on_where_it_was_or_begins_anew(paged):
    with paged.channel() as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        first = Follower(stub, timeout=120)
        first.follow()  # the empty picture
        run(stub, "x" * 20)
        first.follow()
        first.call.cancel()
        run(stub, "y" * 20)
        again = Follower(stub, start=first.last, timeout=120)
        again.follow()
        assert set(again.prefixes.values()) == prefixes_of("y" * 20)
        again.call.cancel()
        for unknown in (again.last + 1, 1 << 60):
            with pytest.raises(grpc.RpcError) as error:
                Follower(stub, start=unknown, timeout=120).follow()
            assert error.value.code() == grpc.StatusCode.OUT_OF_RANGE


def test_subscribers_are_bounded_and_end_with_the_server(paged):
    with paged.channel() as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        followers = [Follower(stub, timeout=120) for _ in range(16)]
        for follower in followers:
            follower.follow()
        with pytest.raises(grpc.RpcError) as error:
            Follower(stub, timeout=120).follow()
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        followers[0].call.cancel()
        eventually(lambda: is_let_in(stub))
        assert paged.stop() == 0  # nobody who only listens keeps it from ending
        with pytest.raises(grpc.RpcError) as error:
            while True:
                followers[1].follow()
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def is_let_in(stub) -> bool:
    follower = Follower(stub, timeout=120)
    try:
        follower.follow()
    except grpc.RpcError:
        return False
    follower.call.cancel()
    return True


def test_without_a_prefix_cache_there_is_nothing_to_hear(start_server):
    server = start_server("--no-prefix-cache")
    with server.channel() as channel, pytest.raises(grpc.RpcError) as error:
        Follower(vllm_engine_pb2_grpc.VllmEngineStub(channel), timeout=120).follow()
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED and "--no-prefix-cache" in error.value.details()


def test_a_tenant_hears_of_its_own_prefixes_alone(start_server, request, tmp_path):
    binary, lines, keys = request.config.getoption("--latentd"), "", []
    for tenant in ("one", "two"):
        made = subprocess.run([binary, "new-key", "--tenant", tenant], capture_output=True, text=True, check=True)
        lines += made.stdout
        keys.append([("authorization", f"Bearer {made.stderr.strip()}")])
    (tmp_path / "keys").write_text(lines)
    flags = ["--page-tokens", str(PAGE), "--api-key-file", str(tmp_path / "keys")]
    server = start_server("--served-model-name", "tiny", *flags)
    with server.channel() as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        for call in (lambda: Follower(stub, timeout=120).follow(),
                     lambda: list(stub.GetTokenizer(common_pb2.GetTokenizerRequest(), timeout=120))):
            with pytest.raises(grpc.RpcError) as error:
                call()
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        one, two = (Follower(stub, metadata=key, timeout=120) for key in keys)
        one.follow()
        two.follow()
        run(stub, "secret of one " * 3, metadata=keys[0])
        run(stub, "word of two " * 3, metadata=keys[1])
        one.follow_until(lambda known: len(known) == 2)
        two.follow_until(lambda known: len(known) == 2)
        assert set(one.prefixes.values()) == prefixes_of("secret of one " * 3)
        assert set(two.prefixes.values()) == prefixes_of("word of two " * 3)
        one.call.cancel()
        two.call.cancel()
