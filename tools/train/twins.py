"""Trains the same small decoder with four kinds of attention and compares them: MHA, GQA, MQA and MLA.

    python twins.py --corpus corpus --out twins --seconds 450

Everything but attention is equal: hidden size, layers, dense feed-forward, tied embedding, data, their order, steps, rate.
Llama's layout for the first three, DeepSeek-V3's with all layers dense for MLA, whose attention is latent-mini's.

The steps are the most that let all runs end within --seconds, by the speeds measured first, unless --steps gives them. They
are kept in plan.json, so that an interrupted run goes on. Writes curves.csv (kind, seed, step, tokens, validation),
twins.csv, a row a run, and config-KIND.json, with which an engine can serve each shape (serve_twins.py).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import torch
from config import DEEPSEEK, LLAMA, Config
from corpus import Split, batches, prefetch
from model import CausalLM
from train import seconds_a_step
from training import Recipe, compiled_losses, train

LAYERS = 8
KINDS = {
    "MHA": Config(LLAMA, num_hidden_layers=LAYERS, num_key_value_heads=8),
    "GQA": Config(LLAMA, num_hidden_layers=LAYERS, num_key_value_heads=2),
    "MQA": Config(LLAMA, num_hidden_layers=LAYERS, num_key_value_heads=1),
    "MLA": Config(DEEPSEEK, num_hidden_layers=LAYERS, num_nextn_predict_layers=0, first_k_dense_replace=LAYERS),
}


def facts(kind: str) -> dict:
    """What does not depend on training."""
    config = KINDS[kind]
    model = CausalLM(config)
    attention = sum(p.numel() for name, p in model.named_parameters() if "self_attn" in name)
    total = sum(p.numel() for p in model.parameters())
    return {
        "kind": kind,
        "attention_parameters": attention,
        "other_parameters": total - attention,
        "cache_bytes_a_token": 2 * config.cached_numbers * config.num_hidden_layers,
    }


def speeds(args: argparse.Namespace, loss_fn, device: str) -> dict[str, float]:
    """Seconds a step of each kind."""
    trial = Recipe(1, args.rows, args.context)
    return {kind: seconds_a_step(loss_fn, 1, trial, KINDS[kind], device)[0] for kind in args.kinds}


def steps_within(args: argparse.Namespace, loss_fn, device: str) -> int:
    """The most that let all runs end within --seconds."""
    began = time.monotonic()
    per_step = speeds(args, loss_fn, device)
    print({kind: f"{s * 1e3:.1f} ms a step" for kind, s in per_step.items()}, flush=True)
    left = args.seconds - (time.monotonic() - began)
    validating = 1.1  # a tenth for validation and for starting
    steps = int(left / (validating * args.seeds * sum(per_step.values())))
    assert steps > 0, f"{args.seconds} s are too few"
    return steps


def make_plan(path: Path, args: argparse.Namespace, loss_fn, device: str) -> Recipe:
    if path.exists():
        return Recipe(**json.loads(path.read_text()))
    steps = args.steps or steps_within(args, loss_fn, device)
    recipe = Recipe(
        steps,
        args.rows,
        args.context,
        warmup=min(100, 1 + steps // 5),
        validate_every=max(1, steps // 10),
        log_every=max(1, steps // 10),
    )
    path.write_text(json.dumps({name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}) + "\n")
    return recipe


def append(path: Path, rows: list[dict]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def finished(path: Path) -> set[tuple[str, int]]:
    if not path.exists():
        return set()
    with path.open() as file:
        return {(row["kind"], int(row["seed"])) for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compile-only", action="store_true", help="fill the compiler's cache and end")
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--steps", type=int, help="of each run, whatever time they take")
    parser.add_argument("--kinds", default=list(KINDS), type=lambda text: text.split(","), help="MHA,GQA,MQA,MLA")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if not args.compile_only and not (args.corpus and args.out):
        parser.error("--corpus and --out are needed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    loss_fn = compiled_losses(device)
    if args.compile_only:
        speeds(args, loss_fn, device)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    for kind in args.kinds:
        published = KINDS[kind].published(bos=1, eos=2)
        (args.out / f"config-{kind}.json").write_text(json.dumps(published, indent=2) + "\n")
    split, held_out = Split.load(args.corpus / "train.npz"), Split.load(args.corpus / "held-out.npz")
    held = held_out.rows(args.context, max(args.rows, 256 // args.rows * args.rows)).to(device)
    recipe = make_plan(args.out / "plan.json", args, loss_fn, device)
    done = finished(args.out / "twins.csv")
    for seed in range(1, args.seeds + 1):
        for kind in args.kinds:
            if (kind, seed) in done:
                continue
            began = time.monotonic()
            torch.manual_seed(seed)
            model = CausalLM(KINDS[kind]).to(device)
            source = prefetch(batches(split, seed, args.rows, args.context))
            log = args.out / f"loss-{kind}-{seed}.csv"
            records = train(model, loss_fn, source, held, recipe, log, say=lambda *a, **k: None)
            a_step = args.rows * args.context
            curve = [
                {
                    "kind": kind,
                    "seed": seed,
                    "step": r["step"],
                    "tokens": (r["step"] + 1) * a_step,
                    "validation": r["validation"],
                }
                for r in records
                if "validation" in r
            ]
            append(args.out / "curves.csv", curve)
            row = facts(kind) | {
                "seed": seed,
                "steps": recipe.steps,
                "tokens": recipe.steps * a_step,
                "validation": records[-1]["validation"],
                "seconds": round(time.monotonic() - began, 1),
            }
            append(args.out / "twins.csv", [row])
            print(row, flush=True)
            source.close()


if __name__ == "__main__":
    main()
