#!/usr/bin/env python3
"""Writes server/text/unicode_category_table.inc: the general category of every code point, as runs.

The Unicode version must be the one of the regular expression library inside the `tokenizers`
package (Oniguruma 6.9.10: Unicode 16.0); tests/server/text compares the two code point by code point.

usage: make_category_table.py > server/text/unicode_category_table.inc   (needs unicodedata2==16.0.0)
"""

import sys

import unicodedata2 as unicodedata

# The order is that of the names in server/text/unicode_category.cc.
CATEGORIES = [
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
]  # fmt: skip
WANTED = "16.0.0"
PER_LINE = 9


def runs() -> list[int]:
    """Starts of runs of one category: code point << 5 | category."""
    out: list[int] = []
    before = -1
    for code_point in range(0x110000):
        category = CATEGORIES.index(unicodedata.category(chr(code_point)))
        if category != before:
            out.append(code_point << 5 | category)
            before = category
    return out


def main() -> int:
    if unicodedata.unidata_version != WANTED:
        print(f"need Unicode {WANTED}, have {unicodedata.unidata_version}", file=sys.stderr)
        return 1
    values = [f"0x{value:07x}," for value in runs()]
    print(f"// Unicode {WANTED} general categories: starts of runs, code point << 5 | category.")
    print("// Written by tools/unicode/make_category_table.py; not edited by hand.")
    print("// clang-format off")
    for at in range(0, len(values), PER_LINE):
        print(" ".join(values[at : at + PER_LINE]))
    print("// clang-format on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
