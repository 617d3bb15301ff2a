"""Draws a model's loss curve, or the curves of the twins.

python plot.py --loss latent-mini/loss.csv --out loss.png
python plot.py --twins twins --out twins.png
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"MHA": "#7a9cc6", "GQA": "#6b9e5b", "MQA": "#c9932b", "MLA": "#b5452c"}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def draw_loss(axis, path: Path) -> None:
    records = read(path)
    steps = [int(r["step"]) for r in records]
    axis.plot(steps, [float(r["loss"]) for r in records], lw=1, color="#7a9cc6", label="training")
    if any(float(r["draft_loss"]) for r in records):
        drafted = [float(r["draft_loss"]) for r in records]
        axis.plot(steps, drafted, lw=1, color="#c9c2b4", label="drafting layer, the token after the next")
    held = [(int(r["step"]), float(r["validation"])) for r in records if r["validation"]]
    axis.plot(*zip(*held, strict=True), "o-", ms=3, color="#b5452c", label="held out")
    axis.set(xlabel="step", ylabel="nats a token", yscale="log", title="latent-mini")
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])


def draw_twins(axis, folder: Path) -> None:
    """One line a run, over the second half of the steps, where the kinds differ by less than they fall."""
    bytes_a_token = {r["kind"]: r["cache_bytes_a_token"] for r in read(folder / "twins.csv")}
    records = read(folder / "curves.csv")
    half = max(int(r["step"]) for r in records) / 2
    for kind, colour in COLOURS.items():
        label = f"{kind}, {bytes_a_token.get(kind, '?')} bytes a token"
        for seed in sorted({r["seed"] for r in records if r["kind"] == kind}):
            curve = [r for r in records if r["kind"] == kind and r["seed"] == seed and int(r["step"]) >= half]
            million = [int(r["tokens"]) / 1e6 for r in curve]
            axis.plot(million, [float(r["validation"]) for r in curve], "o-", ms=3, lw=1, color=colour, label=label)
            label = None
    axis.set(
        xlabel="million tokens", ylabel="nats a token, held out", title="The same decoder with four kinds of attention"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--loss", type=Path)
    what.add_argument("--twins", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, axis = plt.subplots(figsize=(7, 4), dpi=110)
    if args.loss:
        draw_loss(axis, args.loss)
    else:
        draw_twins(axis, args.twins)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
