"""What the engine makes of the twins: how many requests fit into a cache and how many tokens a second they get.

    python serve_twins.py --twins results/twins --bench build/release/latentd-bench --cache-mib 64

For each config-KIND.json (twins.py), with random weights, since speed does not depend on them: decode steps of one request,
of --rows requests and of as many as fit into a cache of --cache-mib when each keeps --context tokens. Prints a Markdown table and
writes the same numbers to serving-DEVICE.csv beside the configurations. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from pathlib import Path

from config import Config

KINDS = ("MHA", "GQA", "MQA", "MLA")
BYTES = 2  # a number of the cache, bf16


def decode(args: argparse.Namespace, config: Path, rows: list[int]) -> dict[int, float]:
    """Tokens a second of all rows together, by the number of rows."""
    command = [str(args.bench), "--config", str(config), "--csv", "--device", args.device, "--kv-cache-dtype", "bf16"]
    command += ["--batch", ",".join(map(str, sorted(set(rows)))), "--steps", str(args.steps)]
    command += ["--context", str(args.context - args.steps), *args.flags]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Some shapes are announced before the table.
    lines = output[output.index("phase,") :].splitlines()
    return {int(r["rows"]): float(r["tokens_per_second"]) for r in csv.DictReader(lines) if r["phase"] == "decode"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twins", type=Path, required=True)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache-mib", type=int, default=64)
    parser.add_argument("--context", type=int, default=1000, help="tokens that each request keeps at the end")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("flags", nargs="*", help="after --: further options of latentd-bench")
    args = parser.parse_args()
    table = []
    for kind in KINDS:
        path = args.twins / f"config-{kind}.json"
        shape = Config.read(path)
        size = BYTES * shape.cached_numbers * shape.num_hidden_layers
        fit = args.cache_mib * 2**20 // (size * args.context)
        speed = decode(args, path, [1, args.rows, fit])
        table.append(
            {
                "attention": kind,
                "bytes a token": size,
                f"requests in {args.cache_mib} MiB": fit,
                "tokens/s of one": round(speed[1]),
                f"of {args.rows}": round(speed[args.rows]),
                "of all that fit": round(speed[fit]),
            }
        )
    head = list(table[0])
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in table:
        print("| " + " | ".join(f"{v:,}" if isinstance(v, int) else v for v in row.values()) + " |")
    with (args.twins / f"serving-{args.device}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, head)
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
