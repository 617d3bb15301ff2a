"""Stories of the grammar with places where the teacher adds a sentence of its own.

Alone, the teacher loses its plot; the grammar alone repeats its sentences. Here the plot is written by hand and the teacher
dresses it: it reads the request and the story so far, adds one sentence of narration, and the story goes on.
"""

from __future__ import annotations

import multiprocessing
import random
import re
from dataclasses import dataclass

import grammar

_END_OF_SENTENCE = re.compile(r"[.!?](?= [A-Z]|\n\n)|[.!?]\"(?=\n\n| [A-Z])")


@dataclass(frozen=True)
class Outline:
    """A story in pieces; between two of them the teacher writes a sentence."""

    seed: int
    request: str
    pieces: tuple[str, ...]

    def story(self, sentences: list[str | None]) -> str:
        """The whole text; None leaves a sentence out, which the next piece never needs."""
        assert len(sentences) == len(self.pieces) - 1
        return self.pieces[0] + "".join((s or "") + p for s, p in zip(sentences, self.pieces[1:], strict=True))


def cut(seed: int, request: str, story: str, rng: random.Random) -> Outline:
    """Two to four places after sentences of narration or speech, never inside a quotation or at the end."""
    spots = [m.end() for m in _END_OF_SENTENCE.finditer(story) if story[: m.end()].count('"') % 2 == 0]
    chosen = sorted(rng.sample(spots, min(len(spots), rng.randint(2, 4))))
    edges = [0, *chosen, len(story)]
    return Outline(seed, request, tuple(story[a:b] for a, b in zip(edges, edges[1:], strict=False)))


def _block(args: tuple[int, int]) -> list[Outline]:
    first, count = args
    out = []
    for seed in range(first, first + count):
        rng = random.Random(seed)
        out.append(cut(seed, *grammar.tell(rng), rng))
    return out


def outlines(first_seed: int, count: int, block: int = 2000) -> list[Outline]:
    """One a seed, `count` seeds from `first_seed`, on all cores."""
    blocks = [(first_seed + i, min(block, count - i)) for i in range(0, count, block)]
    if len(blocks) == 1:
        return _block(blocks[0])
    with multiprocessing.Pool() as pool:
        return [outline for outlines in pool.map(_block, blocks) for outline in outlines]
