"""What each metric means, exactly: scraped while requests run, and counted over requests that end in every way."""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import grpc
import pytest
from conftest import CONTEXT, Server, eventually

PAGE = 64
LONG = 12_000  # tokens: seconds at least
PAGES = 8 * CONTEXT // PAGE


def scrape(server: Server) -> str:
    with urllib.request.urlopen(server.url + "/metrics", timeout=20) as response:
        return response.read().decode()


class Scrape(dict[str, float]):
    """name{labels without engine and model_name} -> value, of one moment; names of ours without `latentd_`."""

    def __init__(self, server: Server):
        super().__init__({name.removeprefix("latentd_"): value for name, value in server.metrics().items()})

    def grew(self, before: Scrape, name: str) -> float:
        return self.get(name, 0) - before.get(name, 0)


class Client(threading.Thread):
    """A completion that streams until it ends or is left."""

    def __init__(self, server: Server, prompt: str, max_tokens: int, **fields):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
        asked = {"model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True, **fields}
        self.connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
        self.start()

    def run(self) -> None:
        try:
            self.connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass  # left

    def leave(self) -> None:
        if self.connection.sock:
            self.connection.sock.shutdown(2)


@pytest.fixture(scope="module")
def narrow(start_server: Callable[..., Server]) -> Server:
    """Two run, the others wait."""
    return start_server("--served-model-name", "tiny", "--max-num-seqs", "2")


@pytest.fixture
def crowd(narrow: Server) -> Iterator[list[Client]]:
    """Five requests that outlast the test."""
    clients = [Client(narrow, f"{number} " * 40, LONG) for number in range(5)]
    yield clients
    for client in clients:
        client.leave()
    for client in clients:
        client.join()
    narrow.wait_until_idle(60)


def test_gauges_hold_together_at_every_moment_of_load(narrow: Server, crowd: list[Client]):
    eventually(lambda: (now := Scrape(narrow))["num_requests_running"] == 2 and now["num_requests_waiting"] == 3, 60)
    for _ in range(20):
        now = Scrape(narrow)
        assert now["num_requests_running"] == 2 and now["num_requests_waiting"] == 3
        used, cached, free, promised = (now[f'kv_pages{{state="{state}"}}'] for state in ("used", "cached", "free", "promised"))
        assert used + cached + free == PAGES
        assert now["kv_cache_usage_perc"] == pytest.approx((used + promised) / PAGES)
        # What both may ever write: promised or in use, nothing less, nothing more.
        assert used + promised == 2 * -(-(80 + LONG - 1) // PAGE)
        assert now["kv_pages_leaked"] == 0
        assert now['state{state="ready"}'] == 1 and sum(v for name, v in now.items() if name.startswith("state{")) == 1


def test_a_name_of_vllm_says_what_ours_says(narrow: Server, crowd: list[Client]):
    text = scrape(narrow)
    series = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    theirs = {name: value for name, value in series.items() if name.startswith("vllm:")}
    assert len(theirs) > 150
    for name, value in theirs.items():
        assert series["latentd_" + name.removeprefix("vllm:")] == value
        assert re.search(r'[{,]engine="0"[,}]', name) and re.search(r'[{,]model_name="tiny"[,}]', name), name
    (layout,) = (name for name in theirs if name.startswith("vllm:cache_config_info{"))
    assert f'block_size="{PAGE}"' in layout and f'num_gpu_blocks="{PAGES}"' in layout


def test_every_way_to_end_is_counted_once(narrow: Server, proto):
    def ended(reason: str) -> str:
        return f'request_success_total{{finished_reason="{reason}"}}'

    def cancelled(cause: str) -> str:
        return f'requests_cancelled_total{{cause="{cause}"}}'

    messages = proto.messages
    names = [ended(reason) for reason in ("stop", "length", "abort", "error")]
    names += [cancelled(cause) for cause in ("disconnect", "abort", "slow_reader")]

    def growth(act: Callable[[], None]) -> dict[str, float]:
        before = Scrape(narrow)
        act()

        def settled() -> Scrape | None:
            now = Scrape(narrow)
            quiet = now["num_requests_running"] == 0 and now["num_requests_waiting"] == 0
            return now if quiet and sum(now.grew(before, name) for name in names[:4]) >= 1 else None

        after = eventually(settled, 60)
        return {name: after.grew(before, name) for name in names if after.grew(before, name)}

    def running() -> bool:
        return Scrape(narrow)["num_requests_running"] == 1

    def leave() -> None:
        client = Client(narrow, "x", LONG)
        eventually(running, 60)
        client.leave()
        client.join()

    with narrow.channel() as channel:
        stub = proto.stubs.GenerationStub(channel)

        def generate(request_id: str, timeout: float) -> None:
            stopping = messages.StoppingParams(max_tokens=LONG, ignore_eos=True)
            try:
                list(stub.Generate(messages.GenerateRequest(text="x", request_id=request_id, stopping=stopping), timeout=timeout))
            except grpc.RpcError:
                pass

        def abort() -> None:
            call = threading.Thread(target=generate, args=("metrics-abort", 120))
            call.start()
            eventually(running, 60)
            stub.Abort(messages.AbortRequest(request_id="metrics-abort"))
            call.join()

        def first_token_ends() -> None:
            text = narrow.client().completions.create(model="tiny", prompt="ab", max_tokens=1, temperature=0).choices[0].text
            narrow.client().completions.create(model="tiny", prompt="ab", max_tokens=8, temperature=0, stop=text)

        assert growth(lambda: Client(narrow, "x", 3).join()) == {ended("length"): 1}
        assert growth(first_token_ends) == {ended("length"): 1, ended("stop"): 1}
        assert growth(leave) == {ended("abort"): 1, cancelled("disconnect"): 1}
        assert growth(abort) == {ended("abort"): 1, cancelled("abort"): 1}
        # A deadline ends the call at both sides: whichever hears of it first.
        by_deadline = growth(lambda: generate("metrics-deadline", 0.5))
        assert by_deadline.get(ended("error"), 0) + by_deadline.get(ended("abort"), 0) == 1


def test_prefixes_are_counted_by_token(narrow: Server):
    prompt = "".join(chr(33 + number % 90) for number in range(3 * PAGE + 10))  # a byte is a token
    before = Scrape(narrow)
    for _ in range(2):
        Client(narrow, prompt, 2).join()
    after = eventually(lambda: (now := Scrape(narrow)).grew(before, "prompt_tokens_total") == 2 * len(prompt) and now, 60)
    assert after.grew(before, "prefix_cache_queries_total") == 2 * len(prompt)
    assert after.grew(before, "prefix_cache_hits_total") == 3 * PAGE
    assert after.grew(before, "prompt_tokens_computed_total") == 2 * len(prompt) - 3 * PAGE
    assert after.grew(before, "generation_tokens_total") == 4
    assert after.grew(before, "num_preemptions_total") == 0


def test_histograms_count_what_they_say(narrow: Server):
    before = Scrape(narrow)
    Client(narrow, "q" * 30, 4, n=3).join()
    after = eventually(lambda: (now := Scrape(narrow)).grew(before, "request_generation_tokens_count") == 3 and now, 60)
    for name, count, total in (
        ("request_prompt_tokens", 3, 90),
        ("request_generation_tokens", 3, 12),
        ("time_to_first_token_seconds", 3, None),
        ("inter_token_latency_seconds", 9, None),
        ("e2e_request_latency_seconds", 3, None),
        ("request_queue_time_seconds", 3, None),
        ("request_prefill_time_seconds", 3, None),
        ("request_decode_time_seconds", 3, None),
    ):
        assert after.grew(before, name + "_count") == count, name
        assert after.grew(before, name + '_bucket{le="+Inf"}') == count, name
        assert total is None or after.grew(before, name + "_sum") == total, name
    # Each step that computed is one of the engine's; what they computed is the prompt and all tokens but the last of each choice.
    assert after.grew(before, "iteration_tokens_total_sum") + after.grew(before, "prefix_cache_hits_total") >= 30 + 3 * 3
    assert after.grew(before, "engine_step_seconds_count") >= after.grew(before, "iteration_tokens_total_count") > 0
    assert after.grew(before, "prompt_tokens_total") == 30


def test_preemptions_are_counted(start_server: Callable[..., Server]):
    """Three that would each fill the cache, admitted all the same."""
    server = start_server("--served-model-name", "tiny", "--overcommit", "--kv-cache-tokens", str(2048), "--max-model-len", "2048")
    clients = [Client(server, f"{number}", 1500) for number in range(3)]
    for client in clients:
        client.join()
    after = eventually(lambda: (now := Scrape(server))['request_success_total{finished_reason="length"}'] == 3 and now, 60)
    assert after["num_preemptions_total"] >= 1


def test_calls_without_a_key_are_counted_by_door(start_server: Callable[..., Server], proto):
    server = start_server("--api-key", "sesame", "--metrics-port", "0")
    before = Scrape(server)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(server.url + "/v1/models", timeout=20)
    with server.channel() as channel, pytest.raises(grpc.RpcError):
        proto.stubs.GenerationStub(channel).GetModel(proto.messages.GetModelRequest(), timeout=20)
    after = Scrape(server)
    assert after.grew(before, 'auth_failures_total{door="http"}') == 1
    assert after.grew(before, 'auth_failures_total{door="grpc"}') == 1
