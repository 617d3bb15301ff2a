"""Checks an exported model against transformers and writes golden data.

    python golden.py --model latent-mini --out golden.json

Everything is computed in fp32 from the bf16 weights by DeepseekV3ForCausalLM, with model.py beside it as a check. The
file holds token ids, a greedy continuation of each prompt with the gap between the two best logits at every step, and all
logits of one short prompt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from model import CausalLM, Config
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

PROMPTS = [
    "Once upon a time",
    "One day, a small fox named Pip found a golden key.",
    "<|user|>Write a short story about a shy girl named Anna and a bear named Bruno.<|assistant|>",
    '"I am not afraid of the dark," said the little owl.\n\nThe moon was round and white. ' * 8,
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    theirs = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager")
    ours = CausalLM(Config())
    missing = ours.load_state_dict({k: v.float() for k, v in load_file(args.model / "model.safetensors").items()})
    print(type(theirs).__name__, missing)
    cases = []
    for prompt in PROMPTS:
        ids = tok.encode(prompt).ids
        tokens = list(ids)
        gaps = []
        for _ in range(args.tokens):
            logits = theirs(torch.tensor([tokens])).logits[0, -1]
            best = logits.topk(2)
            gaps.append(round(float(best.values[0] - best.values[1]), 5))
            tokens.append(int(best.indices[0]))
        a = theirs(torch.tensor([tokens])).logits[0]
        b = ours(torch.tensor([tokens]))[0][0]
        error = float((a - b).abs().max() / a.abs().max())
        print(f"{len(ids)} tokens, model.py against transformers: {error:.2e}, smallest gap {min(gaps):.4f}")
        print(tok.decode(tokens[len(ids) :], skip_special_tokens=False))
        assert error < 1e-4
        cases.append({"prompt": prompt, "prompt_ids": ids, "greedy_ids": tokens[len(ids) :], "top2_gaps": gaps})
    logits = theirs(torch.tensor([cases[0]["prompt_ids"]])).logits[0]
    value = {
        "about": "fp32 results of transformers' DeepseekV3ForCausalLM from the bf16 weights; tools/train/golden.py",
        "cases": cases,
        "logits": {"ids": cases[0]["prompt_ids"], "values": [[round(x, 5) for x in row] for row in logits.tolist()]},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(value, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
