"""Keys of a file: made by the program, reloaded while it runs, with tenants and limits, on both doors."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import openai
import pytest
from conftest import CONTEXT, Server, eventually


class KeyFile:
    """A key file and the keys that it knows, made by `latentd new-key`."""

    def __init__(self, binary: str, path: Path):
        self.binary, self.path = binary, path
        self.lines: dict[str, str] = {}

    def add(self, *flags: str) -> str:
        made = subprocess.run([self.binary, "new-key", *flags], capture_output=True, text=True, check=True)
        key = made.stderr.strip()
        assert key not in made.stdout
        self.lines[key] = made.stdout
        return key

    def write(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(self.lines.values()))
        fresh.rename(self.path)


@pytest.fixture(scope="module")
def keys(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(request.config.getoption("--latentd"), tmp_path_factory.mktemp("keys") / "keys.yaml")


@pytest.fixture(scope="module")
def guarded(start_server, keys: KeyFile) -> Server:
    keys.write()
    return start_server("--served-model-name", "tiny", "--api-key-file", str(keys.path))


def give(guarded: Server, keys: KeyFile, *flags: str) -> str:
    """A new key, once the server knows it."""
    key = keys.add(*flags)
    keys.write()
    eventually(lambda: is_known(guarded, key))
    return key


def is_known(guarded: Server, key: str) -> bool:
    try:
        return bool(guarded.client(key).models.list().data)
    except openai.AuthenticationError:
        return False


def complete(guarded: Server, key: str, **fields):
    fields = {"prompt": "x", "max_tokens": 1} | fields
    return guarded.client(key).completions.create(model="tiny", **fields)


def test_an_empty_file_lets_nobody_in(guarded):
    with pytest.raises(openai.AuthenticationError):
        complete(guarded, "none")


def test_keys_come_and_go_while_the_server_runs(guarded, keys, proto):
    key = give(guarded, keys, "--tenant", "search")
    assert complete(guarded, key).usage.completion_tokens == 1
    guarded.wait_for_line(r"request door=http .*status=200 .*tenant=search")
    assert not any(key in line for line in guarded.lines)
    with guarded.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        metadata = [("authorization", f"Bearer {key}")]
        assert stub.GetModel(proto.messages.GetModelRequest(), metadata=metadata).model == "tiny"
        del keys.lines[key]
        keys.write()
        eventually(lambda: not is_known(guarded, key))
        with pytest.raises(grpc.RpcError) as error:
            stub.GetModel(proto.messages.GetModelRequest(), metadata=metadata)
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_broken_file_changes_nothing(guarded, keys):
    key = give(guarded, keys)
    keys.path.write_text("- {sha256: nonsense}\n")
    guarded.wait_for_line(r"the keys stay as they were: .*key 1: sha256")
    assert is_known(guarded, key)
    keys.write()


def test_too_many_requests_a_minute_are_told_when_to_come_back(guarded, keys, proto):
    key = give(guarded, keys, "--requests-per-minute", "2")
    for _ in range(2):
        complete(guarded, key)
    name = 'latentd_requests_rejected_total{reason="key_limit"}'
    with pytest.raises(openai.RateLimitError) as error:
        complete(guarded, key)
    headers = error.value.response.headers
    assert 20_000 < int(headers["retry-after-ms"]) <= 31_000 and 20 < int(headers["retry-after"]) <= 31
    assert error.value.code == "rate_limit_exceeded" and "2 requests a minute" in error.value.message
    with guarded.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        stub = proto.stubs.GenerationStub(channel)
        list(stub.Generate(proto.messages.GenerateRequest(text="x"), metadata=[("authorization", f"Bearer {key}")]))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(refused.value.trailing_metadata())["grpc-retry-pushback-ms"]) > 20_000
    assert guarded.metrics(give(guarded, keys))[name] == 2


def test_tokens_a_minute_are_counted_when_they_are_known(guarded, keys):
    key = give(guarded, keys, "--tokens-per-minute", "50")
    assert complete(guarded, key, max_tokens=100, extra_body={"ignore_eos": True}).usage.completion_tokens == 100
    with pytest.raises(openai.RateLimitError) as error:
        complete(guarded, key)
    assert int(error.value.response.headers["retry-after"]) > 30


def test_requests_at_once_are_bounded_and_their_end_is_seen(guarded, keys):
    key = give(guarded, keys, "--max-concurrent", "1")
    stream = complete(guarded, key, max_tokens=CONTEXT - 10, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    with pytest.raises(openai.RateLimitError):
        complete(guarded, key)
    stream.close()

    def again() -> bool:
        try:
            return complete(guarded, key).usage.completion_tokens == 1
        except openai.RateLimitError:
            return False

    eventually(again)


def test_tenants_share_no_cached_prompt(guarded, keys):
    def cached(key: str, **fields) -> int:
        return complete(guarded, key, prompt="shared words " * 30, **fields).usage.prompt_tokens_details.cached_tokens

    mine, ours, theirs = (give(guarded, keys, "--tenant", name) for name in ("a", "a", "b"))
    assert cached(mine) == 0
    assert cached(ours) > 0
    assert cached(theirs) == 0
    assert cached(mine, extra_body={"cache_salt": "private"}) == 0
    assert cached(ours, extra_body={"cache_salt": "private"}) > 0


def test_a_tenant_cannot_abort_anothers_request(guarded, keys, proto):
    mine, theirs = (give(guarded, keys, "--tenant", name) for name in ("c", "d"))
    messages = proto.messages
    with guarded.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)
        stopping = messages.StoppingParams(max_tokens=CONTEXT - 10, ignore_eos=True)
        request = messages.GenerateRequest(request_id="one", text="x", stopping=stopping)
        call = stub.Generate(request, metadata=[("authorization", f"Bearer {mine}")])
        next(iter(call))

        def abort(key: str) -> int:
            answer = stub.Abort(messages.AbortRequest(request_id="one"), metadata=[("authorization", f"Bearer {key}")])
            return answer.aborted

        assert abort(theirs) == 0
        assert abort(mine) == 1
        assert list(call)[-1].finish_reason == messages.FINISH_REASON_CANCELLED


def test_a_file_that_is_wrong_at_the_start_is_an_error(request, model_dir, tmp_path):
    binary = request.config.getoption("--latentd")
    (tmp_path / "keys.yaml").write_text("- {tenant: x}\n")
    for path in ("keys.yaml", "missing.yaml"):
        command = [binary, "serve", "--model", str(model_dir), "--http-port", "0", "--grpc-port", "0"]
        ended = subprocess.run(
            [*command, "--api-key-file", str(tmp_path / path)], capture_output=True, text=True, timeout=20
        )
        assert ended.returncode == 1 and path in ended.stderr
