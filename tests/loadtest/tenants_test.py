"""Tenants with keys of their own: their limits, their shares, their caches, by latentd-loadtest against `latentd serve`.

Usage: tenants_test.py LOADTEST LATENTD. Needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

import harness
from harness import Server

LOADTEST, LATENTD = sys.argv[1:3]

KEYS = {"people": "key-of-people", "batch": "key-of-batch", "limited": "key-of-limited"}
LIMITS = {"limited": ", requests-per-minute: 3"}


def key_line(tenant: str) -> str:
    digest = hashlib.sha256(KEYS[tenant].encode()).hexdigest()
    return f"- {{sha256: {digest}, tenant: {tenant}{LIMITS.get(tenant, '')}}}\n"


class TenantsTest(harness.LoadTest):
    loadtest = LOADTEST
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as keys:
            keys.writelines(key_line(tenant) for tenant in KEYS)
            keys.flush()
            cls.server = Server.latentd(LATENTD, "--api-key-file", keys.name)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.stop()

    def run_tenants(self, tenants: list[str], text: str, *flags: str) -> dict:
        keys = [flag for tenant in tenants for flag in ("--tenant-key", f"{tenant}={KEYS[tenant]}")]
        return self.run_tool("--url", self.server.url, "--scenario", self.scenario(text), *keys, *flags)[0]

    def test_each_tenant_comes_with_its_key_and_jain_says_who_got_what(self) -> None:
        report = self.run_tenants(
            ["people", "batch"],
            "arrivals: {process: closed, concurrency: 6}\nrequests: 60\nseed: 4\n"
            "tenants:\n"
            "  - {name: people, weight: 3, prompt_tokens: 30, output_tokens: 8}\n"
            "  - {name: batch, weight: 1, prompt_tokens: 30, output_tokens: 8}\n",
        )
        self.assertEqual(report["errors"], {})
        tenants = {tenant["name"]: tenant for tenant in report["tenants"]}
        self.assertEqual(tenants["people"]["completed"] + tenants["batch"]["completed"], 60)
        self.assertGreater(tenants["people"]["completed"], tenants["batch"]["completed"])
        # Jain by hand: tokens for weight of those that were served.
        shares = [tenant["output_tokens"] / tenant["weight"] for tenant in tenants.values()]
        jain = sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
        self.assertAlmostEqual(report["fairness"]["jain_output_tokens"], jain)
        self.assertGreater(jain, 0.9)
        self.assertEqual(report["fairness"]["jain_served"], 1.0)
        # The metrics, which need a key too, were read with one; the server counted by tenant.
        self.assertTrue(report["server"]["available"])
        metrics = urllib.request.Request(
            self.server.url + "/metrics", headers={"Authorization": f"Bearer {KEYS['people']}"}
        )
        text = urllib.request.urlopen(metrics).read().decode()
        for tenant in ("people", "batch"):
            self.assertIn(f'tenant="{tenant}"', text)

    def test_a_limit_of_one_tenant_is_its_own_and_unfair_by_jain(self) -> None:
        report = self.run_tenants(
            ["people", "limited"],
            "arrivals: {process: closed, concurrency: 4}\nrequests: 40\nseed: 2\n"
            "tenants:\n"
            "  - {name: people, prompt_tokens: 10, output_tokens: 2}\n"
            "  - {name: limited, prompt_tokens: 10, output_tokens: 2}\n",
        )
        people, limited = report["tenants"]
        self.assertEqual(people["failed"], 0)
        self.assertGreater(limited["failed"], 0)
        self.assertEqual(report["errors"], {"http 429": limited["failed"]})
        self.assertLess(report["fairness"]["jain_served"], 1.0)

    def test_tenants_share_no_cached_prompts(self) -> None:
        def ask(tenant: str) -> int:
            return self.run_tenants(
                [tenant],
                f"arrivals: {{process: closed, concurrency: 1}}\nrequests: 2\nseed: 77\n"
                f"tenants: [{{name: {tenant}, shared_prefix: {{tokens: 256}}, prompt_tokens: 10, output_tokens: 2}}]\n",
            )["tokens"]["cached"]

        first = ask("people")
        self.assertEqual(first, 256)  # the second request found what the first had left
        self.assertEqual(ask("batch"), first)  # and not what the other tenant had
        self.assertEqual(ask("people"), 2 * 256)

    def test_a_wrong_key_fails_by_its_kind(self) -> None:
        report, _ = self.run_tool(
            "--url", self.server.url, "--api-key", "nobody's", "--process", "closed", "--requests", "3"
        )
        self.assertEqual(report["errors"], {"http 401": 3})
        report, _ = self.run_tool(
            "--url", f"127.0.0.1:{self.server.ports[1]}", "--api", "grpc", "--api-key", "nobody's", "--process",
            "closed", "--requests", "3",
        )  # fmt: skip
        self.assertEqual(list(report["errors"].values()), [3])
        self.assertIn("UNAUTHENTICATED", list(report["errors"])[0].upper())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
