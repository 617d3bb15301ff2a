"""Prints what a run of `go` has come to so far: python summary.py WORK"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from pathlib import Path


def show_data(work: Path) -> None:
    for path in sorted(work.glob("stories/*/counts-*.json")):
        c = json.loads(path.read_text())
        print(
            f"{path.parent.name}: kept {c['kept']} of {c['started']}, {c['tokens'] / 1e6:.1f} M tokens, "
            f"{c['tokens_by_the_teacher'] / 1e6:.1f} M by the teacher, {c['tokens_a_second']} tokens/s"
        )
    if (path := work / "corpus/corpus.json").exists():
        facts = json.loads(path.read_text())
        million = {kind: round(n / 1e6, 2) for kind, n in facts["tokens_of_kind"].items()}
        print(f"corpus: {facts['tokens']} tokens; in millions {million}")


def show_model(work: Path) -> None:
    if (path := work / "latent-mini/train.json").exists():
        t = json.loads(path.read_text())
        print(
            f"latent-mini: {t['bytes']} bytes, {t['recipe']['steps']} steps, {t['tokens'] / 1e6:.0f} M tokens, "
            f"{t['epochs']} epochs, held out {t['loss']}, drafts {t['draft_loss']}, accepted {t['acceptance']}"
        )
    if (path := work / "golden/summary.txt").exists():
        print(path.read_text().splitlines()[-1])


def show_twins(work: Path) -> None:
    path = work / "twins/twins.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    print(
        "| attention | its parameters | cache, bytes a token | held-out loss, mean of seeds | standard deviation | seeds |"
    )
    print("|---|---|---|---|---|---|")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        losses = [float(row["validation"]) for row in own]
        spread = f"{statistics.stdev(losses):.4f}" if len(losses) > 1 else "-"
        print(
            f"| {kind} | {own[0]['attention_parameters']} | {own[0]['cache_bytes_a_token']} | "
            f"{statistics.mean(losses):.4f} | {spread} | {len(losses)} |"
        )


def main() -> None:
    work = Path(sys.argv[1])
    show_data(work)
    show_model(work)
    show_twins(work)


if __name__ == "__main__":
    main()
