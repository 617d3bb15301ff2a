"""Near-duplicates by MinHash (Broder, 1997).

The signature of a text is, for each of 16 seeded hashes, the smallest over its runs of five words; the share of equal places
of two signatures estimates the Jaccard similarity of their runs. Texts are compared if one of four bands of four places is
equal, which finds similarities of 0.8 with a probability of 0.88 and those of 0.5 with 0.23.
"""

from __future__ import annotations

import zlib

from filters import words_of

PLACES, BANDS = 16, 4
_MASK = (1 << 32) - 1
# Odd multipliers of a Weyl sequence: one permutation of 32-bit numbers a place.
_MULTIPLIERS = [(0x9E3779B1 * (2 * i + 1)) & _MASK | 1 for i in range(PLACES)]


def signature(text: str, run: int = 5) -> tuple[int, ...]:
    words = words_of(text)
    hashes = {zlib.crc32(" ".join(words[i : i + run]).encode()) for i in range(max(1, len(words) - run + 1))}
    mixed = [h ^ (h >> 15) for h in hashes]
    return tuple(min((h * m & _MASK) ^ (h * m >> 16 & 0xFFFF) for h in mixed) for m in _MULTIPLIERS)


class Seen:
    """Remembers texts by signature; `add` is False for one that is too similar to an earlier one."""

    def __init__(self, similarity: float):
        self._needed = similarity * PLACES
        self._bands: list[dict[tuple[int, ...], tuple[int, ...]]] = [{} for _ in range(BANDS)]

    def add(self, key: tuple[int, ...]) -> bool:
        width = PLACES // BANDS
        parts = [key[i * width : (i + 1) * width] for i in range(BANDS)]
        for known, part in zip(self._bands, parts, strict=True):
            other = known.get(part)
            if other is not None and sum(a == b for a, b in zip(key, other, strict=True)) >= self._needed:
                return False
        for known, part in zip(self._bands, parts, strict=True):
            known.setdefault(part, key)
        return True
