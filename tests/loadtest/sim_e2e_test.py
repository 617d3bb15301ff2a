"""From a measurement to a simulation: latentd-bench and latentd-loadtest feed latentd-sim.

Usage: sim_e2e_test.py LOADTEST LATENTD BENCH SIM. Needs nothing but the standard library.
"""

from __future__ import annotations

import json
import subprocess
import sys
import unittest

import harness
from harness import MODEL, Server

LOADTEST, LATENTD, BENCH, SIM = sys.argv[1:5]
COST = "500,100,20,0.02,0.02"


class SimulatorTest(harness.LoadTest):
    loadtest = LOADTEST

    def sim(self, *flags: str) -> str:
        return subprocess.run([SIM, *flags], check=True, capture_output=True, text=True, timeout=500).stdout

    def simulate(self, *flags: str) -> dict:
        path = self.directory / "simulated.json"
        self.sim("run", "--json", str(path), *flags)
        return json.loads(path.read_text())

    def fit(self, *flags: str) -> dict:
        path = self.directory / "cost.json"
        self.sim("fit", "--out", str(path), *flags)
        cost = json.loads(path.read_text())
        self.assertEqual(cost["schema"], "latentd.sim.cost/1")
        self.assertGreater(cost["step_us"] + cost["row_us"], 0.0)
        self.assertGreater(cost["token_us"] + cost["token_pair_us"], 0.0)
        return cost

    def test_the_output_of_the_bench_makes_a_cost_model(self) -> None:
        bench = self.directory / "bench.csv"
        command = [BENCH, "--model", str(MODEL), "--csv", "--threads", "1", "--batch", "1,4", "--context", "64,256",
                   "--prefill", "16,64,256", "--steps", "6", "--prompts", "2"]  # fmt: skip
        bench.write_text(subprocess.run(command, check=True, capture_output=True, text=True, timeout=500).stdout)
        cost = self.fit("--bench", str(bench))
        self.assertEqual(cost["fitted_to"]["measurements"], 7)
        report = self.simulate("--cost", str(self.directory / "cost.json"), "--rate", "5", "--requests", "20")
        self.assertEqual(report["requests"]["completed"], 20)

    def test_a_simulation_is_told_and_reports_as_a_real_run(self) -> None:
        server = Server.latentd(LATENTD)
        self.addCleanup(server.stop)
        reports = []
        mixes = [(300, 4, 1), (20, 60, 1), (100, 30, 6), (20, 40, 12), (500, 2, 2), (400, 60, 3), (50, 20, 24)]
        for i, (prompt, output, users) in enumerate(mixes):
            self.run_tool(
                "--url", server.url, "--process", "closed", "--concurrency", str(users), "--requests", str(3 * users),
                "--prompt-tokens", str(prompt), "--output-tokens", str(output), "--seed", str(i), report=f"{i}.json",
            )  # fmt: skip
            reports += ["--report", str(self.directory / f"{i}.json")]
        cost = self.fit(*reports)
        self.assertEqual(cost["fitted_to"]["measurements"], len(mixes))
        scenario = self.scenario(
            "arrivals: {process: closed, concurrency: 3}\nrequests: 24\nseed: 3\n"
            "tenants: [{turns: 4, prompt_tokens: {min: 40, max: 90}, output_tokens: {min: 2, max: 9},\n"
            "           shared_prefix: {tokens: 128}, think_s: 0.001}]\n"
        )
        real, _ = self.run_tool("--url", server.url, "--scenario", scenario)
        simulated = self.simulate("--cost", str(self.directory / "cost.json"), "--scenario", scenario)
        # What does not depend on time is the same: who asked for what, what was made. Nobody hangs up: the last tokens of
        # an answer may come together, and then a busy machine has answered before it is told.
        for path in (("requests", "planned"), ("requests", "completed"), ("tokens", "output"), ("tokens", "prompt")):
            self.assertEqual(simulated[path[0]][path[1]], real[path[0]][path[1]], path)
        self.assertEqual(simulated["latency_ms"].keys(), real["latency_ms"].keys())
        self.assertEqual(simulated["errors"], {})
        page = self.directory / "page.html"
        subprocess.run([LOADTEST, "report", str(self.directory / "simulated.json"), "--html", str(page)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        self.assertIn("<svg", page.read_text())

    def test_a_trace_with_prefix_hashes_finds_them_in_the_cache(self) -> None:
        trace = self.directory / "trace.jsonl"
        lines = [
            {"timestamp": 1000 * i, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2 + i % 2, 100 + i]}
            for i in range(10)
        ]
        trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
        flags = ("--trace", str(trace), "--cost", COST, "--max-model-len", "2048")
        report = self.simulate(*flags)
        self.assertEqual(report["requests"]["completed"], 10)
        # Blocks 1 and 2 or 3 are there after the first two requests: 512 + 512 tokens, of which one knew the first.
        self.assertEqual(report["tokens"]["cached"], 512 + 8 * 1024)
        self.assertEqual(self.simulate(*flags, "--policy", "no-prefix-cache")["tokens"]["cached"], 0)

    def test_policies_differ_where_they_should(self) -> None:
        flags = ("--cost", COST, "--rate", "50", "--requests", "200", "--prompt-tokens", "300", "--output-tokens", "200",
                 "--kv-cache-tokens", "4096", "--policy", "exact,overcommit")  # fmt: skip
        head, *lines = [line.split() for line in self.sim("run", *flags).splitlines()[1:]]
        self.assertEqual(head[-4:], ["preempt", "refused", "took", "s"])
        (exact, *_, exact_preempted, _, _), (overcommit, *_, overcommit_preempted, _, _) = lines
        self.assertEqual((exact, overcommit), ("exact", "overcommit"))
        self.assertEqual(int(exact_preempted), 0)
        self.assertGreater(int(overcommit_preempted), 0)

    def test_faults_are_named(self) -> None:
        for flags, words in (
            (["run", "--cost", "1,2,3", "--requests", "1"], "cost: must be a file or step,row,token,row_pair"),
            (["run", "--cost", "1,2,3,4,-5", "--requests", "1"], "must not be below 0"),
            (["run", "--cost", str(MODEL / "config.json"), "--requests", "1"], "latentd.sim.cost/1"),
            (["run", "--cost", COST], "duration_s"),
            (["run", "--cost", COST, "--requests", "1", "--json", "x", "--max-num-seqs", "1,2"], "one combination"),
            (["fit"], "--bench"),
            (["fit", "--report", str(MODEL / "config.json")], "latentd.loadtest/1"),
        ):
            with self.subTest(flags):
                done = subprocess.run([SIM, *flags], capture_output=True, text=True)
                self.assertEqual(done.returncode, 2)
                self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
