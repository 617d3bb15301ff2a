"""Draws the loss curve: python plot.py --log train-log.jsonl --out loss.png"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens-a-step", type=int, default=128 * 1024)
    args = parser.parse_args()
    records = [json.loads(line) for line in args.log.read_text().splitlines()]
    million = lambda r: r["step"] * args.tokens_a_step / 1e6
    held = [r for r in records if "validation" in r]
    figure, axis = plt.subplots(figsize=(7, 4), dpi=110)
    axis.plot([million(r) for r in records], [r["loss"] for r in records], lw=1, color="#7a9cc6", label="training")
    axis.plot(
        [million(r) for r in held], [r["validation"] for r in held], "o-", ms=3, color="#b5452c", label="held out"
    )
    axis.set(xlabel="million tokens", ylabel="nats a token", yscale="log", title="latent-mini")
    axis.set_yticks([0.25, 0.3, 0.5, 1, 2, 4, 8], ["0.25", "0.3", "0.5", "1", "2", "4", "8"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
