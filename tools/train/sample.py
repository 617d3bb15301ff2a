"""Prints twenty unselected samples of an exported model as Markdown: python sample.py --model latent-mini"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from continuations import continuations
from documents import END
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

SYSTEM = "<|system|>Answer in one or two short sentences."
PROMPTS = [
    *["Once upon a time"] * 6,
    "One day, a small fox named Pip found",
    "In a green valley, there lived a",
    '"Look!" said Mia.',
    "The old lighthouse was dark.",
    "",
    "<|user|>Write a short story about a shy girl named Anna and a bear named Bruno.<|assistant|>",
    "<|user|>Tell me a story about a curious robot who tries to catch the moon.<|assistant|>",
    "<|user|>Tell me a bedtime story by the sea.<|assistant|>",
    "<|user|>Hello!<|assistant|>",
    "<|user|>What does a baker do?<|assistant|>",
    "<|user|>How do I make a friend?<|assistant|>",
    f"{SYSTEM}<|user|>Why do birds sing?<|assistant|>",
    f"{SYSTEM}<|user|>What can I do on a rainy day?<|assistant|>",
    "<|system|>You tell short stories.<|user|>I want to hear about a goat.<|assistant|>",
]
MAX_TOKENS = 400


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    end = tok.token_to_id(END)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(device)
    torch.manual_seed(args.seed)
    prompts = [tok.encode(prompt).ids for prompt in PROMPTS]
    said, _ = continuations(model, prompts, MAX_TOKENS, end, 0, do_sample=True, temperature=0.8, top_p=0.95, top_k=0)
    for number, (prompt, ids) in enumerate(zip(PROMPTS, said, strict=True), 1):
        text = tok.decode(ids, skip_special_tokens=True)
        ended = "" if ids[-1] == end else f" (cut at {MAX_TOKENS} tokens)"
        quoted = (f"**{prompt or '(empty)'}**" + text).replace("\n", "\n> ")
        print(f"{number}{ended}:\n\n> {quoted}\n")


if __name__ == "__main__":
    main()
