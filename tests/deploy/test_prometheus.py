"""Rules pass their own tests, and a real Prometheus that scrapes a real server answers every query that we ship."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import DEPLOY, ROOT

RULES = DEPLOY / "prometheus"
MODEL = ROOT / "models/latent-mini"


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


def get(url: str, timeout: float = 10) -> str:
    with urllib.request.urlopen(url, timeout=timeout) as response:
        return response.read().decode()


def complete(url: str, tokens: int, prompt: str) -> None:
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}).encode()
    request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert json.load(response)["choices"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def eventually(probe, timeout: float = 60):
    """The first truthy answer of `probe`."""
    deadline, last = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        try:
            if answer := probe():
                return answer
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"it did not happen in time: {last}")


@pytest.fixture(scope="module")
def server(latentd: str) -> Iterator[str]:
    """URL of a small server."""
    flags = ["--http-port", "0", "--grpc-port", "0", "--cpu-threads", "1", "--kv-cache-tokens", "65536", "--max-queue", "8"]
    process = subprocess.Popen(
        [latentd, "serve", "--model", MODEL, *flags], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stderr is not None
        port = None
        for line in process.stderr:
            if match := re.search(r"listening\W+http\W+127\.0\.0\.1:(\d+)", line):
                port = int(match[1])
            if re.search(r"\bready\W+model\b", line):
                break
        assert port, "the server did not start"
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


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
def prometheus(prometheus_tools: Path, server: str, load: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prometheus with our rules that has scraped the server several times."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [server.removeprefix("http://")]
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
    """All but the certificate's, which only a server with TLS has."""
    names = set(json.loads(get(f"{prometheus}/api/v1/label/__name__/values"))["data"])
    text = (RULES / "alerts.yml").read_text() + (RULES / "recording.yml").read_text()
    asked = set(re.findall(r"\b(latentd_[a-z_]+)(?=[\[{ )\]])", re.sub(r"(summary|runbook|record):.*", "", text)))
    assert asked - names <= {"latentd_certificate_expiry_timestamp_seconds"}
