"""Trains latent-mini on a corpus (make_corpus.py) and exports it as a published checkpoint.

    python train.py --corpus corpus --out latent-mini --seconds 300

Writes, beside the checkpoint: loss.csv, and train.json with seeds, steps, losses, acceptance of drafts and wall time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import drafts
import torch
from checkpoint import export
from config import Config
from corpus import Split, batches, prefetch
from model import CausalLM
from tokenizers import Tokenizer
from training import Recipe, compiled_losses, optimizer_of, train, validate


def seconds_a_step(loss_fn, seed: int, recipe: Recipe, config: Config, device: str) -> tuple[float, float]:
    """(seconds of one step once warm, seconds that compiling took), on random tokens and a model of its own."""
    torch.manual_seed(seed)
    model = CausalLM(config).to(device)
    optimizer = optimizer_of(model, recipe, device)
    batch = torch.randint(config.vocab_size, (recipe.rows, recipe.context + 1), device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for count in (1, 2, 10 if device == "cuda" else 1):
        began = time.monotonic()
        for _ in range(count):
            with torch.autocast(device, dtype=torch.bfloat16):
                entropy, drafted, z_square, _ = loss_fn(model, batch)
                loss = entropy + recipe.draft_weight * drafted + recipe.z_loss * z_square
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait()
        times.append((time.monotonic() - began) / count)
    validate(loss_fn, model, batch, recipe.rows)  # its graph, without gradients, is compiled too
    wait()
    return times[-1], times[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compile-only", action="store_true", help="fill the compiler's cache and end")
    parser.add_argument("--seconds", type=float, help="as many steps as fit, by the speed measured first")
    parser.add_argument("--steps", type=int, default=3000, help="unless --seconds is given")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not args.compile_only and not (args.corpus and args.out):
        parser.error("--corpus and --out are needed")
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    config, loss_fn = Config(), compiled_losses(device)
    recipe = Recipe(args.steps, args.rows, args.context, args.lr, args.warmup)
    per_step, compiling = seconds_a_step(loss_fn, args.seed, recipe, config, device)
    if args.compile_only:
        return
    if args.seconds:
        recipe = Recipe(max(1, int(args.seconds / per_step)), args.rows, args.context, args.lr, args.warmup)
    print(f"{compiling:.0f} s to compile, {per_step * 1e3:.1f} ms a step, {recipe.steps} steps", flush=True)

    tok = Tokenizer.from_file(str(args.corpus / "tokenizer.json"))
    split, held_out = Split.load(args.corpus / "train.npz"), Split.load(args.corpus / "held-out.npz")
    held = held_out.rows(args.context, max(args.rows, 256 // args.rows * args.rows)).to(device)
    torch.manual_seed(args.seed)
    model = CausalLM(config).to(device)
    args.out.mkdir(parents=True, exist_ok=True)
    source = prefetch(batches(split, args.seed, args.rows, args.context))
    records = train(model, loss_fn, source, held, recipe, args.out / "loss.csv")
    size = export(model, tok, args.out)
    entropy, drafted = validate(loss_fn, model, held, args.rows)
    seen = recipe.steps * args.rows * args.context
    summary = {
        "recipe": asdict(recipe),
        "seed": args.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": size,
        "tokens": seen,
        "epochs": round(seen / len(split.tokens), 2),
        "loss": round(entropy, 4),
        "draft_loss": round(drafted, 4),
        "acceptance": {name: round(v, 4) for name, v in drafts.acceptance(model, held).items()},
        "load": [records[-1]["load_min"], records[-1]["load_max"]],
        "seconds": round(time.monotonic() - began, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    (args.out / "train.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
