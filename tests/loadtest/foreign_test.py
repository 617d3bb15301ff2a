"""latentd-loadtest against servers that speak OpenAI's API in other ways than ours.

Usage: foreign_test.py LOADTEST. Needs nothing but the standard library.
"""

from __future__ import annotations

import sys
import unittest

from foreign_servers import FRAMINGS, ForeignServer
from harness import LoadTest

TOKENS = 12
REQUESTS = 4


class ForeignServerTest(LoadTest):
    loadtest = sys.argv[1]
    server: ForeignServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = ForeignServer()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stop()

    def ask(self, style: str, framing: str = "plain", api: str = "chat", *flags: str) -> dict:
        report, _ = self.run_tool(
            "--url", self.server.url(style, framing), "--api", api, "--process", "closed", "--concurrency", "2",
            "--requests", str(REQUESTS), "--prompt-tokens", "7", "--output-tokens", str(TOKENS), *flags,
        )  # fmt: skip
        return report

    def counts(self, report: dict) -> tuple[int, int, int]:
        counts = report["token_counts"]
        return counts["by_usage"], counts["by_length"], counts["by_events"]

    def assert_all_counted(self, report: dict, counts: tuple[int, int, int], tokens: int = TOKENS) -> None:
        self.assertEqual(report["errors"], {})
        self.assertEqual(report["requests"]["completed"], REQUESTS)
        self.assertEqual(report["tokens"]["output"], REQUESTS * tokens)
        self.assertEqual(self.counts(report), counts)
        # Throughput is in tokens, whatever an event carries.
        throughput = report["throughput"]
        self.assertAlmostEqual(throughput["output_tokens_per_s"] * throughput["window_s"], REQUESTS * tokens, places=6)

    def test_the_same_events_count_the_same_however_they_lie_on_the_wire(self) -> None:
        for framing in FRAMINGS:
            with self.subTest(framing):
                self.assert_all_counted(self.ask("vllm-chat", framing), (REQUESTS, 0, 0))
                self.assert_all_counted(self.ask("llama.cpp", framing), (REQUESTS, 0, 0))

    def test_a_role_or_a_null_text_is_no_first_token(self) -> None:
        for style in ("vllm-chat", "llama.cpp", "reasoning"):
            with self.subTest(style):
                report = self.ask(style)
                events = TOKENS // 2 if style == "vllm-chat" else TOKENS
                self.assertEqual(report["latency_ms"]["itl"]["count"], REQUESTS * (events - 1))
                self.assertEqual(report["tokens"]["output"], REQUESTS * TOKENS)

    def test_completions_are_held_to_their_length(self) -> None:
        self.assert_all_counted(self.ask("vllm-completions", "plain", "completions"), (REQUESTS, 0, 0))
        report = self.ask("stops-early", "plain", "completions")
        self.assertEqual(report["errors"], {"lost tokens": REQUESTS})
        self.assert_all_counted(
            self.ask("stops-early", "plain", "completions", "--no-ignore-eos"), (0, 0, REQUESTS), TOKENS - 2
        )

    def test_a_running_usage_counts_the_tokens_of_each_event(self) -> None:
        self.assert_all_counted(self.ask("vllm-continuous"), (REQUESTS, 0, 0))

    def test_llama_cpp_says_its_counts_in_timings(self) -> None:
        report = self.ask("llama.cpp")
        self.assertEqual(report["tokens"]["prompt"], REQUESTS * 7)
        self.assertEqual(report["tokens"]["cached"], REQUESTS * 3)

    def test_without_a_usage_the_length_tells(self) -> None:
        self.assert_all_counted(self.ask("without-usage"), (0, REQUESTS, 0))

    def test_without_either_events_are_counted_and_the_report_says_so(self) -> None:
        self.assert_all_counted(self.ask("stops-early"), (0, 0, REQUESTS), TOKENS - 2)

    def test_a_stream_may_end_without_done(self) -> None:
        self.assert_all_counted(self.ask("without-done"), (REQUESTS, 0, 0))
        self.assert_all_counted(self.ask("without-done", "until-close"), (REQUESTS, 0, 0))

    def test_failures_are_told_apart(self) -> None:
        for style, kind in (
            ("fails-midway", "stream error"),
            ("error-line", "stream error"),
            ("never-finishes", "cut short"),
            ("no-stream", "cut short"),
            ("busy", "http 429"),
        ):
            with self.subTest(style):
                report = self.ask(style)
                self.assertEqual(report["errors"], {kind: REQUESTS})
                self.assertEqual(report["requests"]["completed"], 0)
                self.assertFalse(report["server"]["available"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
