"""The sizing table of docs/operations.md is what `latentd inspect` says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from conftest import ROOT

SHAPES = ROOT / "tests/data/shapes"
HEAD = "| shape | parameters | weights | MLA, bytes a token | MHA | GQA (8) | tokens in 24 GiB | 40 GiB | 80 GiB | 140 GiB |"
CARDS = ("24GiB", "40GiB", "80GiB", "140GiB")


def table() -> Iterator[list[str]]:
    lines = (ROOT / "docs/operations.md").read_text().splitlines()
    for line in lines[lines.index(HEAD) + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_shape_has_a_row():
    assert sorted(row[0] for row in table()) == sorted(path.name for path in SHAPES.iterdir())


@pytest.mark.parametrize("row", list(table()), ids=lambda row: row[0])
def test_a_row_says_what_inspect_says(latentd: str, row: list[str]):
    def inspect(memory: str) -> dict:
        command = [latentd, "inspect", str(SHAPES / row[0]), "--memory", memory, "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    cards = [inspect(memory) for memory in CARDS]
    caches = {cache["name"]: cache["bytes_per_token"] for cache in cards[0]["caches"]}
    expected = [row[0], f"{cards[0]['num_parameters'] / 1e9:,.1f} G", f"{cards[0]['weight_bytes'] / 1e9:,.1f} GB"]
    expected += [f"{caches[name]:,}" for name in ("MLA", "MHA", "GQA")]
    expected += [f"{card['caches'][0]['tokens_that_fit']:,}" if card["cache_budget_bytes"] else "-" for card in cards]
    assert row == expected
