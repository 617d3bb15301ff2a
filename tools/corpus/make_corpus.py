#!/usr/bin/env python3
"""Writes the corpus on which tokenizers are compared: more than 5 MB of texts in 40 scripts.

The same bytes on every machine: a fixed seed, and integers drawn from random() only. A file is
records of a 32-bit little-endian length and that many bytes. Texts are bytes, some of them not
UTF-8.

usage: make_corpus.py FILE
"""

import random
import struct
import sys
from pathlib import Path

from scripts import SCRIPTS, Script

SEED = 20240607
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\x85",
          "\u2028", "\x0b", "\x0c", " \t ", "    ", "        "]  # fmt: skip
PUNCTUATION = list(".,;:!?-–—…\"'()[]{}<>/\\|@#$%^&*_+=~`«»“”‘’„¿¡·•†‡§¶°©®™")
SPECIALS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<|endoftext|>", "<|im_start|>",
            "<|im_end|>", "<|begin_of_text|>", "<s>", "</s>", "<pad>", "<unk>", "<｜▁pad▁｜>", "<｜fim▁hole｜>",
            "<｜tool▁calls▁begin｜>", "<think>", "</think>", "<｜place▁holder▁no▁7｜>", "<word>", "<left>", "<right>",
            "<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|extra|>"]  # fmt: skip
CONTRACTIONS = ["I'm", "it's", "IT'S", "they're", "we'VE", "don't", "he'll", "I'd", "y'all'd've", "'s", "'S", "'ſ", "'t", "'LL",
                "o'clock", "''re", "rock'n'roll", "l'eau", "’s", "‘ll", "'re're"]  # fmt: skip
CODE = [
    "def {a}({b}: int, *, {c}=None) -> list[int]:\n    \"\"\"{a} of {b}.\"\"\"\n    return [{b} ** 2 for {c} in range({n})]\n\n",
    "for (int {a} = 0; {a} < {n}; ++{a}) {{\n\t{b}[{a}] += {c}->{a}_{b}(\"%d\\n\", {n}u);\n}}\n",
    "#include <{a}/{b}.h>\n// {c}: https://example.com/{a}?{b}={n}&{c}=%20\nnamespace {a}::{b} {{ template <typename T> class {c}; }}\n",
    "{{\"{a}\": [{n}, -{n}.5e+10, true, null], \"{b}\": {{\"{c}\": \"\\u00e9\\n\"}}}}\n",
    "<div class=\"{a} {b}\" id='{c}{n}'>\r\n  <p>&nbsp;{a}</p><!-- {b} -->\r\n</div>\r\n",
    "SELECT {a}.{b}, COUNT(*) FROM {c} WHERE {a}.id={n} AND {b} LIKE '%{c}%' GROUP BY 1;\n",
    "fn {a}<'a>({b}: &'a str) -> Result<u{n}, Box<dyn Error>> {{ {c}!(\"{{:?}}\", {b})?; Ok(0x{n}) }}\n",
    "$ {a} --{b}={c} -n {n} | grep -E '^\\s*[{a}-z]+$' > /tmp/{b}.txt 2>&1 && echo \"$? ${{#{c}[@]}}\"\n",
    "| {a} | {b} |\n|:---|---:|\n| **{c}** | `{n}` |\n\n- [ ] {a}\n  1. {b}\n\n```{c}\n```\n",
    "\\begin{{{a}}}\n  $\\frac{{{n}}}{{{b}}} \\leq \\sum_{{i=0}}^{{{n}}} {c}_i$ \\\\\n\\end{{{a}}}\n",
]  # fmt: skip


class Maker:
    """Texts of each kind, drawn from one random stream."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.texts: list[bytes] = []

    def below(self, n: int) -> int:
        return int(self._random.random() * n)

    def pick(self, options):
        return options[self.below(len(options))]

    def add(self, text: str | bytes) -> None:
        self.texts.append(text if isinstance(text, bytes) else text.encode("utf-8"))

    def fill(self, budget: int, make) -> None:
        """Adds texts of 1 .. 4,000 parts from `make` until `budget` bytes are there."""
        done = 0
        while done < budget:
            parts = self.pick([1, 2, 5, 20, 100, 300])
            text = "".join(make() for _ in range(parts))[:16000]
            self.add(text)
            done += len(text.encode("utf-8")) + 1

    def code_point(self, ranges: list[tuple[int, int]]) -> str:
        first, last = self.pick(ranges)
        return chr(first + self.below(last - first + 1))

    def word(self, script: Script) -> str:
        out = ""
        for _ in range(1 + self.below(9)):
            out += self.code_point(script.letters)
            if script.marks and self.below(4) == 0:
                out += self.code_point(script.marks)
        return out

    def number(self, zero: int) -> str:
        return "".join(chr(zero + self.below(10)) for _ in range(1 + self.below(self.pick([3, 8, 25]))))

    def separator(self) -> str:
        roll = self.below(20)
        if roll < 14:
            return " "
        if roll < 17:
            return self.pick(PUNCTUATION) + self.pick(["", " "])
        return self.pick(SPACES) if roll < 19 else ""

    def script_part(self, script: Script):
        words = script.sentence.split(" ")

        def make() -> str:
            roll = self.below(10)
            if roll < 6:
                return self.pick(words) + self.separator()
            if roll < 7:
                return script.sentence + self.pick(["\n", " ", "\n\n"])
            if roll < 9:
                return self.word(script) + self.separator()
            return self.number(script.zero) + self.separator()

        return make

    def prose_part(self) -> str:
        subject = ["The engine", "A small model", "My neighbour", "Every request", "The page", "Nobody", "It"]
        verb = ["holds", "doesn't need", "remembers", "wrote", "will have seen", "can't find", "returns"]
        thing = ["the latent vector", "a dozen tokens", "her answer", "3,141 items", "the 2nd word", "what's left"]
        tail = ["before noon", "in 1984", "without a doubt", "(as expected)", "— again", "at 12:30 p.m.", "for $9.99"]
        return f"{self.pick(subject)} {self.pick(verb)} {self.pick(thing)} {self.pick(tail)}{self.pick('.!?;')} "

    def code_part(self) -> str:
        def name() -> str:
            stem = self.pick(["page", "token", "scheduler", "x", "i", "MAX_LEN", "HttpServer", "kvCache", "tmp_2", "naïve"])
            return stem + self.pick(["", "", "_", "2", "Ptr", "_id"])

        return self.pick(CODE).format(a=name(), b=name(), c=name(), n=self.below(100000))

    def emoji_part(self) -> str:
        base = self.code_point([(0x1F600, 0x1F64F), (0x1F300, 0x1F5FF), (0x1F680, 0x1F6C5), (0x1F900, 0x1F9FF),
                                (0x2600, 0x26FF), (0x1FA70, 0x1FAFF)])  # fmt: skip
        tone = chr(0x1F3FB + self.below(5))
        flag = chr(0x1F1E6 + self.below(26)) + chr(0x1F1E6 + self.below(26))
        return self.pick([
            base, base + "\ufe0f", "👍" + tone, flag, "👨\u200d👩\u200d👧\u200d👦", "👩" + tone + "\u200d💻", "🏳️\u200d🌈",
            "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", str(self.below(10)) + "\ufe0f\u20e3",
            base + base, "❤️\u200d🔥", " " + base, base + "!", "word" + base,
        ]) + self.pick(["", "", " ", "\n"])  # fmt: skip

    def odd_part(self) -> str:
        return self.pick([
            lambda: self.pick(SPACES) * (1 + self.below(6)),
            lambda: self.number(0x30) + self.pick(["", ".", ",", " ", "e", "-", "½", "²", "Ⅷ", "٣", "௧", "一"]),
            lambda: self.pick(CONTRACTIONS) + self.pick(["", " ", "\n"]),
            lambda: self.pick(PUNCTUATION) * (1 + self.below(5)),
            lambda: self.pick(["a", "Z", "é", "ß", "ı", "\u0301", "\u200d", "\ufeff", "\x00", "\x1b[0m", "\ufffd"]),
            lambda: self.pick(PUNCTUATION) + self.pick(["the", "A", "été", "漢"]),
        ])()  # fmt: skip

    def special_part(self) -> str:
        special = self.pick(SPECIALS)
        cut = self.below(len(special) + 1)
        return self.pick([special, special, special + special, special[:cut], special[cut:], " " + special, special + "\n",
                          special + "word", "word " + special + " word", "\u3000" + special + " \t", "_" + special])  # fmt: skip

    def any_character(self) -> str:
        code_point = self.below(self.pick([0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000]))
        return "" if 0xD800 <= code_point < 0xE000 else chr(code_point)

    def random_bytes(self, budget: int) -> None:
        done = 0
        while done < budget:
            size = 1 + self.below(self.pick([4, 40, 600]))
            kind = self.below(3)
            if kind == 0:
                text = bytes(self.below(256) for _ in range(size))
            else:
                text = bytearray("".join(self.emoji_part() + self.prose_part() for _ in range(1 + size // 50)).encode())
                for _ in range(1 + size // 30):
                    at = self.below(len(text))
                    if kind == 1:
                        text[at] = self.below(256)
                    else:
                        del text[at]
                text = bytes(text)
            self.add(text)
            done += len(text)

    def all_code_points(self) -> None:
        """Every code point of the planes that have characters, between a letter and a space."""
        for first in [*range(0, 0x34000, 64), *range(0xE0000, 0xE0200, 64), *range(0xF0000, 0x110000, 8192)]:
            code_points = [c for c in range(first, first + 64) if not 0xD800 <= c < 0xE000]
            if code_points:
                self.add("".join(chr(c) for c in code_points) + "".join(f"a{chr(c)} " for c in code_points[:16]))

    def extremes(self) -> None:
        self.add("")
        for run in [" ", "\n", "a", "ab", "1", "é", "漢", "!", "\u0301", " \n", "\r\n", "👍", "'s", "Ġ", "<"]:
            for count in [1, 2, 3, 7, 64, 1000, 20000]:
                self.add(run * count)
                self.add(run * count + "x")


def make_texts() -> list[bytes]:
    maker = Maker(SEED)
    for script in SCRIPTS.values():
        maker.fill(60_000, maker.script_part(script))
    maker.fill(700_000, maker.prose_part)
    maker.fill(500_000, maker.code_part)
    maker.fill(250_000, maker.emoji_part)
    maker.fill(350_000, maker.odd_part)
    maker.fill(150_000, maker.special_part)
    maker.fill(250_000, maker.any_character)
    maker.random_bytes(300_000)
    maker.all_code_points()
    maker.extremes()
    return maker.texts


def write_texts(path: Path, texts: list[bytes]) -> None:
    with path.open("wb") as out:
        for text in texts:
            out.write(struct.pack("<I", len(text)) + text)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    texts = make_texts()
    write_texts(Path(sys.argv[1]), texts)
    print(f"{len(texts)} texts, {sum(map(len, texts))} bytes, {len(SCRIPTS)} scripts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
