#!/usr/bin/env python3
"""Writes server/text/template/case_table.inc: letter case as Python's str methods have it.

usage: make_case_table.py > server/text/template/case_table.inc
"""

import sys
import unicodedata


def single_mappings(convert) -> list[tuple[int, int]]:
    """Code points that `convert` changes into exactly one other, with the difference."""
    found = []
    for point in range(0x80, 0x110000):
        if 0xD800 <= point < 0xE000:
            continue
        mapped = convert(chr(point))
        if len(mapped) == 1 and mapped != chr(point):
            found.append((point, ord(mapped) - point))
    return found


def runs(mappings: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Joins neighbours of one difference, at distance 1 or 2, into (first, last, stride, delta)."""
    joined: list[list[int]] = []
    for point, delta in mappings:
        if joined:
            first, last, stride, old_delta = joined[-1]
            step = point - last
            if delta == old_delta and step in (1, 2) and (first == last or step == stride):
                joined[-1] = [first, point, step, delta]
                continue
        joined.append([point, point, 1, delta])
    return [tuple(run) for run in joined]


def print_runs(name: str, convert) -> None:
    print(f"constexpr CaseRun {name}[] = {{")
    for first, last, stride, delta in runs(single_mappings(convert)):
        print(f"    {{0x{first:04X}, 0x{last:04X}, {stride}, {delta}}},")
    print("};\n")


def print_special(name: str, convert) -> None:
    print(f"constexpr SpecialCase {name}[] = {{")
    for point in range(0x80, 0x110000):
        if 0xD800 <= point < 0xE000:
            continue
        mapped = convert(chr(point))
        if len(mapped) > 1:
            text = "".join(f"\\x{byte:02X}" for byte in mapped.encode())
            print(f'    {{0x{point:04X}, "{text}"}},')
    print("};\n")


def main() -> int:
    print("// Written by tools/templates/make_case_table.py; Unicode", unicodedata.unidata_version)
    print("// clang-format off")
    print_runs("kUpper", str.upper)
    print_runs("kLower", str.lower)
    print_runs("kTitle", str.title)
    print_special("kSpecialUpper", str.upper)
    print_special("kSpecialLower", str.lower)
    print_special("kSpecialTitle", str.title)
    print("// clang-format on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
