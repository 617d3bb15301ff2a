"""One training run: AdamW, warm-up and cosine decay, bf16 autocast over fp32 weights, z-loss, a loss curve as CSV.

Experts are balanced as in DeepSeek-V3 (arXiv:2412.19437, 2.1.2): no auxiliary loss; after every step each expert's
selection bias moves by gamma towards the mean load. A drafting layer is trained along, its loss weighted (2.2).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from model import CausalLM, Output

FIELDS = ["step", "loss", "draft_loss", "validation", "learning_rate", "norm", "load_min", "load_max", "seconds"]


@dataclass(frozen=True)
class Recipe:
    steps: int
    rows: int = 128
    context: int = 1024
    learning_rate: float = 3e-3
    warmup: int = 200
    weight_decay: float = 0.1
    z_loss: float = 1e-4
    draft_weight: float = 0.3
    gamma: float = 1e-3  # step of the selection biases; zero for the last fifth
    log_every: int = 20
    validate_every: int = 200

    def rate(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (0.01 + 0.99 * cosine)


def losses(model: CausalLM, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """batch [B, T + 1] -> mean cross-entropy in nats of the next token and of the drafted one, mean log Z^2, loads."""
    tokens, following = batch[:, :-1], batch[:, 1:]
    out: Output = model(tokens, following if model.drafts else None)
    logits = out.logits.float().flatten(0, 1)
    log_z = logits.logsumexp(-1)
    entropy = (log_z - logits.gather(-1, following.flatten()[:, None])[:, 0]).mean()
    drafted = torch.zeros_like(entropy)
    if out.draft is not None:  # position i proposes token i + 2; the last has none to be compared with
        wanted = F.pad(batch[:, 2:], (0, 1), value=-100)
        drafted = F.cross_entropy(out.draft.float().flatten(0, 1), wanted.flatten(), ignore_index=-100)
    return entropy, drafted, log_z.square().mean(), out.loads


def compiled_losses(device: str):
    """`losses`, compiled on a GPU: one graph a kind of model and one without gradients, whatever instance comes."""
    if device != "cuda":
        return losses
    torch._dynamo.config.recompile_limit = 32  # the twins alone need 8, the default
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than to go on uncompiled
    return torch.compile(losses)


@torch.no_grad()
def validate(loss_fn, model: CausalLM, rows: torch.Tensor, at_once: int) -> tuple[float, float]:
    """Mean losses of the next and of the drafted token over rows [n, context + 1]; whole groups of `at_once` only."""
    count = max(1, len(rows) // at_once)
    totals = torch.zeros(2)
    for i in range(count):
        with torch.autocast(rows.device.type, dtype=torch.bfloat16):
            entropy, drafted, _, _ = loss_fn(model, rows[i * at_once : (i + 1) * at_once])
        totals += torch.stack((entropy, drafted)).float().cpu()
    return float(totals[0]) / count, float(totals[1]) / count


def optimizer_of(model: CausalLM, recipe: Recipe, device: str) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=device == "cuda")


def balance(model: CausalLM, loads: torch.Tensor, gamma: float) -> None:
    load = loads.float()
    push = gamma * torch.sign(load.mean(-1, keepdim=True) - load)
    for gate, delta in zip(model.gates(), push, strict=True):
        gate.e_score_correction_bias += delta


def train(
    model: CausalLM, loss_fn, source: Iterator[torch.Tensor], held: torch.Tensor, recipe: Recipe, log: Path, say=print
) -> list[dict]:
    """Trains `model` in place and returns the records that it wrote to `log`."""
    device = held.device.type
    optimizer = optimizer_of(model, recipe, device)
    records: list[dict] = []
    began = time.monotonic()
    with log.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for step in range(recipe.steps):
            rate = recipe.rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = next(source).to(device, non_blocking=True)
            with torch.autocast(device, dtype=torch.bfloat16):
                entropy, drafted, z_square, loads = loss_fn(model, batch)
                loss = entropy + recipe.draft_weight * drafted + recipe.z_loss * z_square
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if len(loads) and step < 0.8 * recipe.steps:
                balance(model, loads, recipe.gamma)
            last = step == recipe.steps - 1
            if step % recipe.log_every and not last:
                continue
            share = loads.float() / loads.sum(-1, keepdim=True) if len(loads) else torch.zeros(1)
            record = {
                "step": step,
                "loss": round(float(entropy.detach()), 5),
                "draft_loss": round(float(drafted.detach()), 5),
                "learning_rate": f"{rate:.3e}",
                "norm": round(float(norm), 4),
                "load_min": round(float(share.min()), 3),
                "load_max": round(float(share.max()), 3),
                "seconds": round(time.monotonic() - began, 1),
            }
            if step % recipe.validate_every == 0 or last:
                record["validation"] = round(validate(loss_fn, model, held, recipe.rows)[0], 5)
                speed = (step + 1) * recipe.rows * recipe.context / (time.monotonic() - began)
                say(f"step {step}: {record['loss']} {record['validation']} nats, {speed:.0f} tokens/s", flush=True)
            if not math.isfinite(record["loss"]):
                raise FloatingPointError(f"the loss of step {step} is {record['loss']}")
            writer.writerow(record)
            file.flush()
            records.append(record)
    return records
