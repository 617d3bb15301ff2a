"""Trains latent-mini on stories from grammar.py and from the teacher (generate.py) and exports it as a published checkpoint.

    python train.py --stories stories --out latent-mini --steps 3000

bf16 autocast over fp32 weights, AdamW, cosine decay, z-loss. The experts are balanced as in DeepSeek-V3 (arXiv:2412.19437,
2.1.2): no auxiliary loss; after every step each expert's selection bias moves by gamma towards the mean load.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import data
import grammar
import numpy as np
import torch
from model import CausalLM, Config
from safetensors.torch import save_file
from tokenizers import Tokenizer


def batches(corpus: data.Corpus, seed: int, rows: int, context: int, instructed: float):
    """Endless [rows, context + 1] int64 batches, every epoch in a new order."""
    rng = np.random.default_rng(seed)
    rest = np.zeros(0, dtype=np.uint16)
    need = rows * (context + 1)
    while True:
        stream = np.concatenate((rest, corpus.stream(rng, instructed)))
        count = len(stream) // need
        order = rng.permutation(count * rows)
        table = stream[: count * need].reshape(count * rows, context + 1)
        for i in range(count):
            yield torch.from_numpy(table[order[i * rows : (i + 1) * rows]].astype(np.int64))
        rest = stream[count * need :]


def prefetch(source, depth: int = 8):
    import queue
    import threading

    ready: queue.Queue = queue.Queue(depth)

    def fill() -> None:
        for item in source:
            ready.put(item)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def loss_of(model: CausalLM, batch: torch.Tensor, z_weight: float):
    """Mean cross-entropy in nats, the loss to minimise, and the expert loads."""
    logits, loads = model(batch[:, :-1])
    logits = logits.float().flatten(0, 1)
    log_z = logits.logsumexp(-1)
    target = logits.gather(-1, batch[:, 1:].flatten()[:, None])[:, 0]
    entropy = (log_z - target).mean()
    return entropy, entropy + z_weight * log_z.square().mean(), loads


@torch.no_grad()
def validate(loss_fn, model: CausalLM, held: torch.Tensor, rows: int, precision) -> float:
    total = 0.0
    for i in range(0, len(held), rows):
        with precision:
            total += float(loss_fn(model, held[i : i + rows], 0.0)[0])
    return total / (len(held) // rows)


def export(model: CausalLM, tok: Tokenizer, out: Path) -> None:
    """config.json, generation_config.json, tokenizer.json, tokenizer_config.json, model.safetensors."""
    out.mkdir(parents=True, exist_ok=True)
    bos, eos = tok.token_to_id("<|begin|>"), tok.token_to_id("<|end|>")
    write = lambda name, value: (out / name).write_text(json.dumps(value, indent=2) + "\n")
    write("config.json", model.c.published(bos, eos))
    write(
        "generation_config.json",
        {"bos_token_id": bos, "eos_token_id": eos, "do_sample": True, "temperature": 0.8, "top_p": 0.95},
    )
    template = (
        "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    write(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "pad_token": "<|pad|>",
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.c.max_position_embeddings,
            "chat_template": template,
        },
    )
    tok.save(str(out / "tokenizer.json"))
    tensors = {
        name: (t if name.endswith("e_score_correction_bias") else t.to(torch.bfloat16)).cpu().contiguous()
        for name, t in model.state_dict().items()
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stories", type=Path, nargs="+", required=True)
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer.json instead of making one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path, default=Path("train-log.jsonl"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--z-loss", type=float, default=1e-4)
    parser.add_argument("--gamma", type=float, default=1e-3, help="bias step; zero for the last fifth")
    parser.add_argument("--instructed", type=float, default=0.3, help="share of stories that follow their prompt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="set the steps from the speed measured at step 60")
    parser.add_argument("--grammar", type=int, default=400_000, help="stories from the grammar")
    parser.add_argument("--repeat", type=int, default=3, help="times the teacher's stories stand in an epoch")
    args = parser.parse_args()

    began = time.monotonic()
    since = lambda: f"{time.monotonic() - began:6.0f} s"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    told = grammar.many(args.seed, args.grammar)
    train, held_items = told[len(told) // 200 :], told[: len(told) // 200]
    always = len(train)
    taught, held_taught = data.split(data.read_stories(args.stories))
    train += taught * args.repeat + grammar.talk(args.seed, args.grammar // 50)
    tok = (
        Tokenizer.from_file(str(args.tokenizer))
        if args.tokenizer
        else data.train_tokenizer(train[:40_000] + taught, Config.vocab_size)
    )
    assert tok.get_vocab_size() <= Config.vocab_size
    print(
        since(),
        f"{always} + {args.repeat} x {len(taught)} stories to train on, {len(held_items)} + {len(held_taught)} "
        "held out",
        flush=True,
    )
    corpus = data.Corpus(tok, train, always)
    held_corpora = data.Corpus(tok, held_items, len(held_items)), data.Corpus(tok, held_taught, len(held_taught))
    count = sum(len(s) + 2 for s in corpus.stories)
    print(since(), f"{count} story tokens an epoch", flush=True)

    def held(which: int, instructed: float) -> torch.Tensor:
        rows = min(args.rows, 8)
        stream = held_corpora[which].stream(np.random.default_rng(0), instructed)
        whole = len(stream) // (rows * (args.context + 1)) * rows
        assert whole, "too few held-out stories"
        return torch.from_numpy(stream[: whole * (args.context + 1)].reshape(whole, -1).astype(np.int64)).to(device)

    held_rows = held(0, 0.0)
    model = CausalLM(Config()).to(device)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    other = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), fused=device == "cuda")
    loss_fn = torch.compile(loss_of) if device == "cuda" else loss_of
    precision = torch.autocast(device, dtype=torch.bfloat16)
    source = prefetch(batches(corpus, args.seed, args.rows, args.context, args.instructed))
    log = args.log.open("w")
    started = time.monotonic()
    step = 0
    while step < args.steps:
        if args.seconds and step in (30, 60):
            if device == "cuda":
                torch.cuda.synchronize()
            if step == 60:
                per_step = (time.monotonic() - at_30) / 30
                args.steps = 60 + int((args.seconds - (time.monotonic() - started)) / per_step)
                print(since(), f"{per_step * 1e3:.1f} ms a step, {args.steps} steps", flush=True)
            at_30 = time.monotonic()
        warm = min(1.0, (step + 1) / args.warmup)
        lr = args.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = next(source).to(device, non_blocking=True)
        with precision:
            entropy, loss, loads = loss_fn(model, batch, args.z_loss)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step < 0.8 * args.steps:
            load = loads.float()
            push = args.gamma * torch.sign(load.mean(-1, keepdim=True) - load)
            for gate, delta in zip(model.gates(), push):
                gate.e_score_correction_bias += delta
        if step % 20 == 0 or step == args.steps - 1:
            share = loads.float() / loads.sum(-1, keepdim=True)
            record = {
                "step": step,
                "loss": float(entropy.detach()),
                "lr": lr,
                "norm": float(norm),
                "load_min": float(share.min()),
                "load_max": float(share.max()),
            }
            if step % 200 == 0 or step == args.steps - 1:
                record["validation"] = validate(loss_fn, model, held_rows, min(args.rows, 8), precision)
                speed = (step + 1) * args.rows * args.context / (time.monotonic() - started)
                print(since(), json.dumps(record), f"{speed:.0f} tokens/s", flush=True)
            log.write(json.dumps(record) + "\n")
            log.flush()
        step += 1
    log.close()
    export(model, tok, args.out)
    for name, rows in (("stories", held_rows), ("stories with prompts", held(0, 1.0)), ("the teacher's", held(1, 1.0))):
        value = validate(loss_fn, model, rows, min(args.rows, 8), precision)
        print(since(), f"validation on {name}: {value:.4f} nats a token", flush=True)


if __name__ == "__main__":
    main()
