"""latentd-loadtest against its null server and against a real `latentd serve` with the bundled model.

Usage: e2e_test.py LOADTEST LATENTD. Needs nothing but the standard library; ports are picked by the servers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADTEST, LATENTD = sys.argv[1:3]


class Server:
    """A server process that says on which ports it listens, and with `ready` when it serves."""

    def __init__(self, command: list[str], pattern: str, ready: str = ""):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if match := re.search(pattern, line):
                self.ports = [int(port) for port in match.groups()]
            if hasattr(self, "ports") and re.search(ready, line):
                break
        else:
            raise AssertionError("".join(seen))
        # What it says later must not fill the pipe.
        self._drain = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._drain.wait(20)


class LoadTest(unittest.TestCase):
    directory: Path

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)

    def run_tool(self, *flags: str) -> tuple[dict, list[dict]]:
        report, lines = self.directory / "report.json", self.directory / "requests.jsonl"
        command = [LOADTEST, "run", "--no-progress", "--json", str(report), "--requests-out", str(lines)]
        subprocess.run(command + list(flags), check=True, stdout=subprocess.DEVNULL, timeout=60)
        requests = [json.loads(line) for line in lines.read_text().splitlines()]
        return json.loads(report.read_text()), requests


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
        cls.server = Server([LOADTEST, "null-server", "--port", "0"], r"127\.0\.0\.1:(\d+)")
        cls.url = f"http://127.0.0.1:{cls.server.ports[0]}"

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

    def test_compare_tells_by_its_exit_code(self) -> None:
        self.run_tool("--url", self.url, "--rate", "100", "--requests", "20")
        path = str(self.directory / "report.json")
        same = subprocess.run([LOADTEST, "compare", path, path], stdout=subprocess.DEVNULL)
        self.assertEqual(same.returncode, 0)


class RealServerTest(LoadTest):
    """The same seed asks the same; so answers must not depend on concurrency or on the door."""

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        command = [LATENTD, "serve", "--model", str(ROOT / "models/latent-mini"), "--http-port", "0",
                   "--grpc-port", "0", "--drain-propagation", "0"]  # fmt: skip
        cls.server = Server(command, r"listening\W+http\W+127\.0\.0\.1:(\d+)\W+grpc\W+127\.0\.0\.1:(\d+)", r"\bready\b")

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
        scenario = self.directory / "agent.yaml"
        scenario.write_text(
            "arrivals: {process: closed, concurrency: 2}\nrequests: 8\n"
            "tenants: [{turns: 4, prompt_tokens: 80, output_tokens: 4}]\n"
        )
        url = f"http://127.0.0.1:{self.server.ports[0]}"
        report, _ = self.run_tool("--url", url, "--scenario", str(scenario))
        self.assertEqual(report["requests"]["completed"], 8)
        self.assertGreater(report["tokens"]["cached"], 0)
        self.assertTrue(report["server"]["available"])
        self.assertEqual(report["server"]["generation_tokens"], 32)


if __name__ == "__main__":
    os.chdir(ROOT)
    unittest.main(argv=sys.argv[:1])
