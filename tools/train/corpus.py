"""Token streams: encoded documents in one array, cut into rows for training and for validation."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from documents import Document, render
from tokenizers import Tokenizer


class Split:
    """tokens uint16 [n]; document i is tokens[offsets[i] : offsets[i + 1]]."""

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray):
        self.tokens, self.offsets = tokens, offsets

    @classmethod
    def encode(cls, tok: Tokenizer, documents: list[Document], block: int = 20_000) -> Split:
        parts, lengths = [], []
        for start in range(0, len(documents), block):
            texts = [render(d) for d in documents[start : start + block]]
            rows = [np.array(e.ids, dtype=np.uint16) for e in tok.encode_batch(texts, add_special_tokens=False)]
            parts.append(np.concatenate(rows))
            lengths += [len(row) for row in rows]
        return cls(np.concatenate(parts), np.concatenate(([0], np.cumsum(lengths))))

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, offsets=self.offsets)

    @classmethod
    def load(cls, path: Path) -> Split:
        with np.load(path) as file:
            return cls(file["tokens"], file["offsets"])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All tokens, the documents in a fresh order."""
        return np.concatenate([self.tokens[self.offsets[i] : self.offsets[i + 1]] for i in rng.permutation(len(self))])

    def rows(self, context: int, limit: int) -> torch.Tensor:
        """The first documents end to end: [at most `limit`, context + 1] int64."""
        count = min(limit, len(self.tokens) // (context + 1))
        assert count, "too few held-out documents"
        return torch.from_numpy(self.tokens[: count * (context + 1)].reshape(count, -1).astype(np.int64))


def batches(split: Split, seed: int, rows: int, context: int) -> Iterator[torch.Tensor]:
    """Endless [rows, context + 1] int64 batches, every epoch in a new order."""
    rng = np.random.default_rng(seed)
    rest = np.zeros(0, dtype=np.uint16)
    need = rows * (context + 1)
    while True:
        stream = np.concatenate((rest, split.shuffled(rng)))
        count = len(stream) // need
        order = rng.permutation(count * rows)
        table = stream[: count * need].reshape(count * rows, context + 1)
        for i in range(count):
            yield torch.from_numpy(table[order[i * rows : (i + 1) * rows]].astype(np.int64))
        rest = stream[count * need :]


def prefetch(source: Iterator[torch.Tensor], depth: int = 8) -> Iterator[torch.Tensor]:
    """The same, made by a thread ahead of its use; the thread ends with the iterator."""
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def fill() -> None:
        for item in source:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    pass
            if stop.is_set():
                return

    threading.Thread(target=fill, daemon=True).start()
    try:
        while True:
            yield ready.get()
    finally:
        stop.set()
