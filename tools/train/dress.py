"""Stories of the grammar with places where the teacher ends a sentence that was begun for it.

Alone, the teacher loses its plot; the grammar alone repeats its sentences. Here the plot is written by hand and the teacher
dresses it: it reads the request and the story so far and ends one sentence about how things are or seem, then the story goes
on. Left free to begin the sentence too, it lets something happen that the plot does not know of.
"""

from __future__ import annotations

import multiprocessing
import random
import re
from dataclasses import dataclass

import grammar

# For the slots of grammar.cast; those of a character only where the first place is, behind who it is.
ABOUT_HERO = " {h} loved to| {h} liked to| {He} had a| {He} was known for| {His} favorite| {He} always wore| {He} often went".split(
    "|"
)
ANYWHERE = (
    " {He} felt| {h} felt| {He} wondered| {He} hoped| {He} thought of| {He} could hear| {He} could see| {He} could smell| It was|"
    " It felt| It smelled of| The air| The sky| The sun| The wind| Everything| There was a smell of|"
    " {h} was| {His} heart"
).split("|")

_END_OF_SENTENCE = re.compile(r"[.!?](?= [A-Z]|\n\n)|[.!?]\"(?=\n\n| [A-Z])")


@dataclass(frozen=True)
class Outline:
    """A story in pieces; between two of them stands a sentence of which the opener is given."""

    seed: int
    request: str
    pieces: tuple[str, ...]
    openers: tuple[str, ...]  # one fewer


def cut(seed: int, request: str, story: str, slots: dict[str, str], rng: random.Random) -> Outline:
    """Two to four places after sentences of narration or speech, never inside a quotation or at the end."""
    spots = [m.end() for m in _END_OF_SENTENCE.finditer(story) if story[: m.end()].count('"') % 2 == 0]
    chosen = sorted(rng.sample(spots, min(len(spots), rng.randint(2, 4))))
    edges = [0, *chosen, len(story)]
    openers = rng.sample(ANYWHERE, len(chosen))
    if slots["h"] in story[: chosen[0]] and chosen[0] < 250:
        openers[0] = rng.choice(ABOUT_HERO)
    pieces = tuple(story[a:b] for a, b in zip(edges, edges[1:], strict=False))
    return Outline(seed, request, pieces, tuple(opener.format_map(slots) for opener in openers))


def _block(args: tuple[int, int]) -> list[Outline]:
    first, count = args
    out = []
    for seed in range(first, first + count):
        rng = random.Random(seed)
        request, story, slots = grammar.tell(rng)
        out.append(cut(seed, request, story, slots, rng))
    return out


def outlines(first_seed: int, count: int, block: int = 2000) -> list[Outline]:
    """One a seed, `count` seeds from `first_seed`, on all cores."""
    blocks = [(first_seed + i, min(block, count - i)) for i in range(0, count, block)]
    if len(blocks) == 1:
        return _block(blocks[0])
    with multiprocessing.Pool() as pool:
        return [outline for outlines in pool.map(_block, blocks) for outline in outlines]
