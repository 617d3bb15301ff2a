"""Rules pass their own tests, and a real Prometheus that scrapes a real server answers every query that we ship."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import DEPLOY, ROOT, complete, eventually, get

RULES = DEPLOY / "prometheus"


def test_rules_are_valid_and_pass_their_tests(prometheus_tools: Path):
    promtool = prometheus_tools / "promtool"
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        result = subprocess.run([promtool, *command], cwd=RULES, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_and_has_a_runbook():
    alerts = [r for g in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"] for r in g["rules"]]
    tested = {
        case["alertname"]
        for test in yaml.safe_load((RULES / "rules_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == {alert["alert"] for alert in alerts}
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in (ROOT / "docs/operations.md").read_text().splitlines()
        if line.startswith("#")
    }
    for alert in alerts:
        page, anchor = alert["annotations"]["runbook"].split("#")
        assert page == "docs/operations.md" and anchor in headings, alert["alert"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def server(start_server: Callable[..., str], certificate: tuple[Path, Path]) -> str:
    """With TLS, so that there is a certificate whose end can be watched."""
    return start_server("--max-queue", "8", "--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))


@pytest.fixture(scope="module")
def load(server: str) -> Iterator[None]:
    """Requests that share a prompt, for as long as the tests of this module run."""
    stop = threading.Event()

    def run(number: int) -> None:
        while not stop.is_set():
            try:
                complete(server, 60, "Once upon a time there was a little girl. " * 12 + str(number))
            except OSError:
                stop.wait(0.2)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def prometheus(
    prometheus_tools: Path,
    server: str,
    load: None,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """URL of a Prometheus with our rules that has scraped the server several times."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [server.removeprefix("https://")]
    config["scrape_configs"][0] |= {"scheme": "https", "tls_config": {"ca_file": str(certificate[0])}}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [prometheus_tools / "prometheus", *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: [s for s in query(url, "count_over_time(latentd_build_info[1m]) >= 6")])
        yield url
    finally:
        process.terminate()
        process.wait()
        log.close()


def query(url: str, expression: str) -> list[dict]:
    answer = json.loads(get(f"{url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
    assert answer["status"] == "success", (expression, answer)
    return answer["data"]["result"]


def panels() -> Iterator[tuple[str, str]]:
    """(title, expression as Grafana would send it)"""
    for panel in json.loads((DEPLOY / "grafana/latentd.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "10s")
            yield panel["title"], expression.replace("$model", ".*").replace("$instance", ".*")


def test_every_panel_of_the_dashboard_has_data_under_load(prometheus: str):
    asked = list(panels())
    assert len(asked) > 30
    empty = dict(asked)

    def all_answered() -> bool:
        for title, expression in asked:
            values = [sample["value"][1] for sample in query(prometheus, expression)]
            if values and "NaN" not in values:
                empty.pop(title, None)
        return not empty

    try:
        eventually(all_answered, 30)
    except AssertionError:
        pytest.fail(f"no data for {empty}")


def test_the_scrape_tells_the_truth_about_load(prometheus: str):
    busy = eventually(lambda: query(prometheus, "latentd_num_requests_running > 0"))
    assert float(busy[0]["value"][1]) <= 3
    assert eventually(lambda: query(prometheus, "rate(latentd_generation_tokens_total[10s]) > 0"))
    # The second request with a prompt finds nearly all of it.
    assert eventually(lambda: query(prometheus, "latentd_prefix_cache_hits_total > 0"))
    # Queue, prefill and decode are parts of the whole.
    parts = " + ".join(f"latentd_request_{part}_time_seconds_sum" for part in ("queue", "prefill", "decode"))
    whole = query(prometheus, f"({parts}) / latentd_e2e_request_latency_seconds_sum")
    assert 0.8 < float(whole[0]["value"][1]) < 1.3
    pages = query(prometheus, 'sum(latentd_kv_pages{state!="promised"})')
    assert float(pages[0]["value"][1]) == 65536 / 64


# What docs and dashboards of others rely on: name -> type. Those above the line have vLLM's name too.
HISTOGRAMS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
    "request_prefill_time_seconds", "request_decode_time_seconds", "request_prompt_tokens", "request_generation_tokens",
    "iteration_tokens_total",
)  # fmt: skip
ALIASED = {
    **dict.fromkeys(("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info"), "gauge"),
    **dict.fromkeys(
        (
            "prompt_tokens_total", "generation_tokens_total", "prefix_cache_queries_total", "prefix_cache_hits_total",
            "num_preemptions_total", "request_success_total",
        ),
        "counter",
    ),
    **dict.fromkeys(HISTOGRAMS, "histogram"),
}  # fmt: skip
OURS = {
    **dict.fromkeys(("requests_rejected_total", "requests_cancelled_total", "gpu_errors_total", "auth_failures_total"), "counter"),
    **dict.fromkeys(("tenant_requests_total", "tenant_tokens_total", "tenant_kv_byte_seconds_total"), "counter"),
    **dict.fromkeys(
        ("engine_heartbeat_timestamp", "state", "kv_pages", "kv_bytes_per_token", "kv_pages_leaked", "build_info"), "gauge"
    ),
    "engine_step_seconds": "summary",
}
PROCESS = (
    "cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "start_time_seconds",
)  # fmt: skip


def families(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M))


def value_of(text: str, name: str) -> float:
    """The sum over a metric's series."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
    assert found, name
    return sum(map(float, found))


def test_every_promised_metric_is_there_and_means_what_it_says(server: str, load: None):
    eventually(lambda: "tenant_tokens_total" in get(server + "/metrics"))
    before = get(server + "/metrics")
    types = families(before)
    expected = {f"{prefix}{name}": kind for name, kind in ALIASED.items() for prefix in ("latentd_", "vllm:")}
    expected |= {"latentd_" + name: kind for name, kind in OURS.items()}
    expected |= {"process_" + name: "counter" if name == "cpu_seconds_total" else "gauge" for name in PROCESS}
    assert {name: types.get(name) for name in expected} == expected
    # No series of ours is without its labels.
    for line in before.splitlines():
        if line.startswith("vllm:"):
            assert re.match(r'vllm:\w+\{engine="0",model_name="latent-mini"', line), line
    buckets = re.findall(r'^latentd_inter_token_latency_seconds_bucket\{.*le="([^"]+)"\}', before, re.M)
    assert [float(le) for le in buckets] == [
        .001, .002, .004, .006, .008, .01, .015, .02, .025, .03, .04, .06, .08, .1, .2, .4, .8, 1, 2, 4, 8, float("inf")
    ]  # fmt: skip
    first = re.findall(r'^latentd_time_to_first_token_seconds_bucket\{.*le="([^"]+)"\}', before, re.M)
    assert (float(first[0]), float(first[-2])) == (0.001, 2560)
    assert abs(value_of(before, "latentd_engine_heartbeat_timestamp") - time.time()) < 5
    assert value_of(before, "latentd_state") == 1
    assert abs(value_of(before, "process_start_time_seconds") - time.time()) < 600


def test_counters_count_one_request_exactly(start_server: Callable[..., str]):
    server = start_server()
    before = get(server + "/metrics")
    complete(server, 20, "Once upon a time there was a little girl.")
    # The tenant's share is counted when the answer has gone out: last of all.
    after = eventually(lambda: "latentd_tenant_requests_total{" in (text := get(server + "/metrics")) and text)
    assert value_of(after, "latentd_num_requests_running") == 0

    def grew(name: str) -> float:
        return value_of(after, name) - (value_of(before, name) if re.search(rf"^{name}[{{ ]", before, re.M) else 0)

    prompt = grew("latentd_prompt_tokens_total")
    assert 5 < prompt < 30
    assert grew("latentd_generation_tokens_total") == 20
    assert grew("latentd_request_success_total") == 1
    assert grew("latentd_time_to_first_token_seconds_count") == 1
    assert grew("latentd_inter_token_latency_seconds_count") == 19
    assert grew("latentd_request_generation_tokens_sum") == 20 and grew("latentd_request_prompt_tokens_sum") == prompt
    # The prompt in one step, then a step a token; the last token is never computed with.
    assert grew("latentd_iteration_tokens_total_sum") == prompt + 19
    assert grew("latentd_iteration_tokens_total_count") == 20
    assert grew("latentd_prefix_cache_queries_total") == prompt and grew("latentd_prefix_cache_hits_total") == 0
    assert grew("latentd_tenant_requests_total") == 1 and grew("latentd_tenant_tokens_total") == prompt + 20
    assert value_of(after, "latentd_kv_pages_leaked") == 0


def test_aliases_carry_the_same_values(prometheus: str):
    names = json.loads(get(f"{prometheus}/api/v1/label/__name__/values"))["data"]
    aliases = [name for name in names if name.startswith("vllm:")]
    assert len(aliases) > 20
    for alias in aliases:
        ours = "latentd_" + alias.removeprefix("vllm:")
        assert ours in names
        if not alias.endswith("_bucket"):
            theirs = {str(sorted((k, v) for k, v in s["metric"].items() if k != "__name__")) for s in query(prometheus, alias)}
            mine = {str(sorted((k, v) for k, v in s["metric"].items() if k != "__name__")) for s in query(prometheus, ours)}
            assert theirs == mine, alias


def test_recording_rules_give_values_and_no_alert_fires_on_a_healthy_server(prometheus: str):
    rules = [r for g in yaml.safe_load((RULES / "recording.yml").read_text())["groups"] for r in g["rules"]]
    for rule in rules:
        assert eventually(lambda name=rule["record"]: query(prometheus, name)), rule["record"]
    firing = query(prometheus, 'ALERTS{alertstate="firing"}')
    assert not firing


def test_alerts_ask_for_metrics_that_exist(prometheus: str):
    names = set(json.loads(get(f"{prometheus}/api/v1/label/__name__/values"))["data"])
    text = (RULES / "alerts.yml").read_text() + (RULES / "recording.yml").read_text()
    asked = set(re.findall(r"\b(latentd_[a-z_]+)(?=[\[{ )\]])", re.sub(r"(summary|runbook|record):.*", "", text)))
    assert len(asked) > 10 and asked <= names
