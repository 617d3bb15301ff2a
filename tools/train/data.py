"""Stories, the tokenizer made from them, and token streams for training."""

from __future__ import annotations

import json
import lzma
import multiprocessing
import zlib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|extra|>"]


def read_part(path: Path) -> list[tuple[str, str]]:
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    return [(item["prompt"], item["story"]) for item in map(json.loads, lines)]


def read_stories(folders: list[Path]) -> list[tuple[str, str]]:
    """(prompt, story) of all parts, in order."""
    paths = [p for folder in folders for p in sorted(folder.glob("*.jsonl.xz"))]
    with multiprocessing.Pool(min(16, max(1, len(paths)))) as pool:
        return [item for part in pool.map(read_part, paths) for item in part]


def split(items: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(train, validation): one prompt in 20 is held out, with every story written for it."""
    held = [zlib.crc32(p.encode()) % 20 == 0 for p, _ in items]
    return [x for x, h in zip(items, held) if not h], [x for x, h in zip(items, held) if h]


def train_tokenizer(items: list[tuple[str, str]], vocab: int) -> Tokenizer:
    """Byte-level BPE: every byte string has an encoding, whatever the stories held."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator((text for item in items for text in item), trainer)
    begin = tok.token_to_id("<|begin|>")
    tok.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", begin)]
    )
    return tok


def encode(tok: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return [np.array(e.ids, dtype=np.uint16) for e in tok.encode_batch(texts, add_special_tokens=False)]


class Corpus:
    """Encoded (prompt, story) pairs; a stream is their concatenation in a fresh order.

    The stories from index `always` on never stand without their prompt.
    """

    def __init__(self, tok: Tokenizer, items: list[tuple[str, str]], always: int):
        self.always = always
        self.prompts = encode(tok, [p for p, _ in items])
        self.stories = encode(tok, [s for _, s in items])
        mark = lambda name: np.array([tok.token_to_id(name)], dtype=np.uint16)
        self.begin, self.end = mark("<|begin|>"), mark("<|end|>")
        self.user, self.assistant = mark("<|user|>"), mark("<|assistant|>")

    def stream(self, rng: np.random.Generator, instructed: float) -> np.ndarray:
        """begin story end, or for a share `instructed` of them begin user prompt assistant story end."""
        parts = []
        for i in rng.permutation(len(self.stories)):
            parts.append(self.begin)
            if i >= self.always or rng.random() < instructed:
                parts += [self.user, self.prompts[i], self.assistant]
            parts += [self.stories[i], self.end]
        return np.concatenate(parts)
