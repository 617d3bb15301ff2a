"""Prints unselected samples of an exported model as Markdown: python sample.py --model latent-mini"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

PROMPTS = [
    *["Once upon a time"] * 4,
    "One day, a small fox named Pip found",
    "In a green valley, there lived a",
    '"Look!" said Mia.',
    "",
    "<|user|>Write a short story about a shy girl named Anna and a bear named Bruno.<|assistant|>",
    "<|user|>Tell me a story about a curious robot who tries to catch the moon.<|assistant|>",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(device)
    for number, prompt in enumerate(PROMPTS):
        torch.manual_seed(args.seed + number)
        ids = torch.tensor([tok.encode(prompt).ids], device=device)
        out = model.generate(ids, max_new_tokens=400, do_sample=True, temperature=0.8, top_p=0.95, top_k=0)[0]
        text = tok.decode(out[ids.shape[1] :].tolist(), skip_special_tokens=True)
        ended = "" if int(out[-1]) == tok.token_to_id("<|end|>") else " (cut at 400 tokens)"
        quoted = (f"**{prompt or '(empty)'}**" + text).replace("\n", "\n> ")
        print(f"Seed {args.seed + number}{ended}:\n\n> {quoted}\n")


if __name__ == "__main__":
    main()
