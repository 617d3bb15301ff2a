#!/usr/bin/env python3
"""Encodes and decodes texts with the `tokenizers` package, as the answers to compare with.

For each text of TEXTS (see make_corpus.py) EXPECTED gets three records, a 32-bit count and the
elements: the ids as 32-bit integers, with special tokens; the ids decoded, as bytes; the same
without special tokens. Texts are read with errors="replace".

usage: encode_with_tokenizers.py TOKENIZER_JSON TEXTS EXPECTED
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

BATCH = 512


def read_texts(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def record(data: bytes, count: int) -> bytes:
    return struct.pack("<I", count) + data


def encode_texts(tokenizer: Tokenizer, texts: list[bytes], path: Path) -> None:
    with path.open("wb") as out:
        for at in range(0, len(texts), BATCH):
            batch = [text.decode("utf-8", errors="replace") for text in texts[at : at + BATCH]]
            ids = [encoding.ids for encoding in tokenizer.encode_batch(batch, add_special_tokens=True)]
            with_special = tokenizer.decode_batch(ids, skip_special_tokens=False)
            without_special = tokenizer.decode_batch(ids, skip_special_tokens=True)
            for row, *decoded in zip(ids, with_special, without_special, strict=True):
                out.write(record(struct.pack(f"<{len(row)}i", *row), len(row)))
                for text in decoded:
                    out.write(record(text.encode("utf-8"), len(text.encode("utf-8"))))


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    tokenizer = Tokenizer.from_file(sys.argv[1])
    encode_texts(tokenizer, list(read_texts(Path(sys.argv[2]))), Path(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
