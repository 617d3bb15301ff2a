"""latentd-loadtest against its null server and against a real `latentd serve` with the bundled model.

Usage: e2e_test.py LOADTEST LATENTD. Needs nothing but the standard library; ports are picked by the servers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unittest
import urllib.request

import harness
from harness import Server

LOADTEST, LATENTD = sys.argv[1:3]


class LoadTest(harness.LoadTest):
    loadtest = LOADTEST


def fnv_of_counting(tokens: int) -> int:
    """The hash that the tool makes of the ids 0, 1, 2 ...: what the null server sends."""
    value = 0xCBF29CE484222325
    for token in range(tokens):
        for byte in token.to_bytes(4, "little"):
            value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


class NullServerTest(LoadTest):
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server.null(LOADTEST)
        cls.url = cls.server.url

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stop()

    def test_no_token_is_lost_or_reordered(self) -> None:
        report, requests = self.run_tool(
            "--url", self.url, "--process", "closed", "--concurrency", "200", "--requests", "400",
            "--prompt-tokens", "50", "--output-tokens", "700", "--token-ids", "--threads", "2",
        )  # fmt: skip
        self.assertEqual(report["requests"]["completed"], 400)
        self.assertEqual(report["requests"]["failed"], 0)
        self.assertEqual(report["tokens"]["output"], 280_000)
        self.assertEqual(report["tokens"]["prompt"], 20_000)
        self.assertEqual({request["hash"] for request in requests}, {fnv_of_counting(700)})
        self.assertEqual([request["index"] for request in requests], list(range(400)))

    def test_grpc_streams_lose_none_either(self) -> None:
        report, requests = self.run_tool(
            "--url", f"127.0.0.1:{self.server.ports[1]}", "--api", "grpc", "--process", "closed", "--concurrency", "100",
            "--requests", "200", "--prompt-tokens", "50", "--output-tokens", "300", "--cancel-rate", "0.1", "--seed", "4",
        )  # fmt: skip
        whole = [request for request in requests if not request["error"]]
        self.assertEqual(report["requests"]["failed"], 0)
        self.assertEqual(len(whole) + report["requests"]["cancelled"], 200)
        self.assertGreater(report["requests"]["cancelled"], 0)
        self.assertEqual({request["hash"] for request in whole}, {fnv_of_counting(300)})
        self.assertEqual(report["tokens"]["prompt"], 50 * len(whole))

    def test_open_loop_sends_what_was_planned(self) -> None:
        report, requests = self.run_tool(
            "--url", self.url, "--rate", "400", "--duration", "2", "--warmup", "0.5", "--output-tokens", "4",
            "--cancel-rate", "0.1", "--slow-reader-rate", "0.05", "--slow-reader-bytes", "20000", "--seed", "3",
        )  # fmt: skip
        self.assertEqual(len(requests), report["requests"]["planned"])
        self.assertAlmostEqual(len(requests), 800, delta=120)
        measured = [request for request in requests if request["intended_s"] >= 0.5]
        self.assertEqual(report["requests"]["sent"], len(measured))
        self.assertEqual(report["requests"]["failed"], 0)
        self.assertGreater(report["requests"]["cancelled"], 0)
        self.assertEqual(report["requests"]["completed"] + report["requests"]["cancelled"], len(measured))

    def test_a_refused_connection_is_an_error_by_kind(self) -> None:
        report, _ = self.run_tool("--url", "http://127.0.0.1:1", "--rate", "100", "--requests", "5")
        self.assertEqual(report["errors"], {"connect: Connection refused": 5})

    def test_its_own_clock_is_behind_no_clients(self) -> None:
        report, _ = self.run_tool("--url", self.url, "--rate", "100", "--requests", "30", "--output-tokens", "5")
        server, latency = report["server"], report["latency_ms"]
        self.assertEqual(server["generation_tokens"], 150)
        self.assertGreaterEqual(server["ttft_ms_mean"], 0.0)
        self.assertLessEqual(server["ttft_ms_mean"], latency["ttft"]["mean"])
        self.assertLessEqual(server["e2e_ms_mean"], latency["e2e"]["mean"])


class RealServerTest(LoadTest):
    """The same seed asks the same; so answers must not depend on concurrency or on the door."""

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server.latentd(LATENTD)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stop()

    def ask(self, *flags: str) -> list[tuple[int, int, str]]:
        report, requests = self.run_tool(
            "--process", "closed", "--requests", "12", "--prompt-tokens", "70", "--output-tokens", "20", *flags
        )
        self.assertEqual(report["requests"]["completed"], 12, report["errors"])
        self.assertEqual(report["tokens"]["output"], 240)
        self.assertEqual(report["tokens"]["prompt"], 840)
        return [(request["hash"], request["output_tokens"], request["error"]) for request in requests]

    def test_every_door_gives_the_same_tokens_at_every_concurrency(self) -> None:
        http, grpc = self.server.ports
        url = f"http://127.0.0.1:{http}"
        alone = self.ask("--url", url, "--token-ids", "--concurrency", "1")
        self.assertEqual(alone, self.ask("--url", url, "--token-ids", "--concurrency", "6", "--threads", "2"))
        self.assertEqual(alone, self.ask("--url", f"127.0.0.1:{grpc}", "--api", "grpc", "--concurrency", "6"))
        self.assertEqual(len({hash for hash, _, _ in alone}), 12)

    def test_a_session_finds_its_earlier_turns_in_the_prefix_cache(self) -> None:
        scenario = self.scenario(
            "arrivals: {process: closed, concurrency: 2}\nrequests: 8\n"
            "tenants: [{turns: 4, prompt_tokens: 80, output_tokens: 4}]\n"
        )
        report, _ = self.run_tool("--url", self.server.url, "--scenario", scenario)
        self.assertEqual(report["requests"]["completed"], 8)
        self.assertGreater(report["tokens"]["cached"], 0)
        server = report["server"]
        self.assertTrue(server["available"])
        self.assertEqual(server["generation_tokens"], 32)
        # What the engine computed is what was asked less what it knew.
        self.assertEqual(server["engine"]["prefill_tokens"], report["tokens"]["prompt"] - report["tokens"]["cached"])
        self.assertGreater(report["tokens"]["prefill_pairs"], server["engine"]["prefill_tokens"])
        self.assertGreater(server["engine"]["step_seconds"], 0.0)

    def test_who_hangs_up_is_cancelled_in_the_server_too(self) -> None:
        for api, port in (("completions", self.server.ports[0]), ("grpc", self.server.ports[1])):
            with self.subTest(api):
                report, requests = self.run_tool(
                    "--url", f"127.0.0.1:{port}" if api == "grpc" else self.server.url, "--api", api, "--process",
                    "closed", "--concurrency", "4", "--requests", "16", "--prompt-tokens", "20", "--output-tokens",
                    "200", "--cancel-rate", "0.5", "--seed", "5", "--metrics-url", self.server.url + "/metrics",
                )  # fmt: skip
                hung_up = [request for request in requests if request["error"] == "cancelled"]
                self.assertEqual(report["requests"]["cancelled"], len(hung_up))
                self.assertEqual(report["requests"]["completed"], 16 - len(hung_up))
                self.assertEqual(report["requests"]["failed"], 0)
                self.assertGreater(len(hung_up), 3)
                self.assertLess(len(hung_up), 13)
                # Nobody computed on for those who had left.
                self.assertLess(report["server"]["generation_tokens"], 16 * 200)

    def test_slow_readers_get_every_token_on_both_doors(self) -> None:
        for api, port in (("completions", self.server.ports[0]), ("grpc", self.server.ports[1])):
            with self.subTest(api):
                flags = (
                    "--url", f"127.0.0.1:{port}" if api == "grpc" else self.server.url, "--api", api, "--process",
                    "closed", "--concurrency", "3", "--requests", "3", "--prompt-tokens", "20", "--output-tokens", "30",
                    "--seed", "9", "--metrics-url", "none",
                )  # fmt: skip
                if api == "completions":
                    flags += ("--token-ids",)
                _, fast = self.run_tool(*flags)
                report, slow = self.run_tool(*flags, "--slow-reader-rate", "1", "--slow-reader-bytes", "4000")
                self.assertEqual(report["requests"]["completed"], 3, report["errors"])
                self.assertEqual([request["hash"] for request in slow], [request["hash"] for request in fast])

    def test_an_unmeetable_slo_is_met_at_no_rate_and_a_generous_one_at_all(self) -> None:
        def sweep(*slo: str) -> dict:
            path = self.directory / "sweep.json"
            best.unlink(missing_ok=True)
            command = [LOADTEST, "sweep", "--no-progress", "--url", self.server.url, "--rate", "20", "--requests", "10",
                       "--prompt-tokens", "150", "--output-tokens", "4", "--max-probes", "3", "--json", str(path),
                       "--report", str(best), "--html", str(best.with_suffix(".html"))]  # fmt: skip
            subprocess.run(command + list(slo), check=True, stdout=subprocess.DEVNULL, timeout=500)
            return json.loads(path.read_text())

        def hits() -> float:
            text = urllib.request.urlopen(self.server.url + "/metrics").read().decode()
            return sum(float(value) for value in re.findall(r"^vllm:prefix_cache_hits_total{[^}]*} (\S+)", text, re.M))

        best = self.directory / "best.json"
        before = hits()
        generous = sweep("--slo-ttft-ms", "60000", "--slo-e2e-ms", "90000")
        self.assertEqual([probe["rate"] for probe in generous["probes"]], [20, 40, 80])
        self.assertEqual(generous["best_rate"], 80)
        self.assertEqual(hits(), before)  # no probe asks what another has asked
        report = json.loads(best.read_text())  # of the highest rate that held
        self.assertEqual(report["scenario"]["rate"], 80)
        self.assertEqual(report["requests"]["completed"], 10)
        self.assertIn("<svg", best.with_suffix(".html").read_text())
        unmeetable = sweep("--slo-ttft-ms", "0.001")
        self.assertFalse(best.exists())
        self.assertEqual([probe["rate"] for probe in unmeetable["probes"]], [20, 10, 5])
        self.assertEqual(unmeetable["best_rate"], 0)
        self.assertTrue(all(probe["failed"] == 0 for probe in unmeetable["probes"]))

    def test_compare_tells_by_its_exit_code(self) -> None:
        flags = ("--url", self.server.url, "--process", "closed", "--requests", "6", "--output-tokens", "4")
        self.run_tool(*flags, report="a.json")
        self.run_tool(*flags, "--prompt-tokens", "2000", report="b.json")  # longer than the model takes

        def compare(a: str, b: str) -> subprocess.CompletedProcess:
            command = [LOADTEST, "compare", str(self.directory / a), str(self.directory / b)]
            return subprocess.run(command, capture_output=True, text=True)

        self.assertEqual(compare("a.json", "a.json").returncode, 0)
        worse = compare("a.json", "b.json")
        self.assertEqual(worse.returncode, 1)
        self.assertRegex(worse.stdout, r"requests.failed +0.000 +6.000 +new +worse")
        self.assertEqual(compare("a.json", "missing.json").returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
