#!/usr/bin/env python3
"""Holds the schema compiler against the `jsonschema` package, on random schemas.

usage: schema_properties.py --walk PROGRAM [--seed N] [--count N]

For each schema: texts made of random allowed tokens must be JSON, must satisfy the schema, and are
made for several seeds; documents generated from the schema (checked by `jsonschema` first) must be
admitted whatever tokens they are cut into. Exits with 77 (skipped) where the package is missing.
"""

import argparse
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
SKIPPED = 77
NAMES = ["a", "ab", "name", "kind", "é", 'q"', "x y", ""]
WORDS = ["", "a", "abc", "日本", "😀", 'q"\\', "tab\t", "name", "\u007f"]
PATTERNS = ["^[a-c]{1,3}$", "^(foo|ba[rz])?\\d+$", "x+y?", "^[^\"a-z]{2}$", "^\\w{2}-\\w$"]
PATTERN_WORDS = {
    "^[a-c]{1,3}$": "ab", "^(foo|ba[rz])?\\d+$": "baz12", "x+y?": "axxb", "^[^\"a-z]{2}$": "é\n", "^\\w{2}-\\w$": "aZ-_",
}
FORMATS = {
    "date": "2024-02-29", "time": "10:20:30Z", "date-time": "1999-01-31T23:59:59.25+02:00",
    "uuid": "123e4567-e89b-12d3-a456-426614174000", "email": "a.b@ex.org", "ipv4": "10.0.255.1",
}
Pair = tuple[Any, Any]  # a schema, and a way to draw documents of it


def draw_scalar(rng: random.Random) -> Pair:
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice([({"type": "null"}, lambda: None), ({"type": "boolean"}, lambda: rng.random() < 0.5)])
    if kind in (1, 2):
        low = rng.randint(-1200, 1200)
        high = low + rng.randint(2, 900)
        number = {"type": "integer", "minimum": low, "maximum": high}
        if kind == 2:
            number = {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": high}
            low, high = low + 1, high - 1
        for side in ("inimum", "aximum"):
            if rng.random() < 0.3:
                number = {k: v for k, v in number.items() if not k.endswith(side)}
        return number, lambda: rng.randint(low, high)
    if kind == 3:
        low = round(rng.uniform(-50, 50), rng.randrange(4))
        high = low + round(rng.uniform(1, 100), rng.randrange(3))
        schema = {"type": "number", rng.choice(["minimum", "exclusiveMinimum"]): low, "maximum": high}
        return schema, lambda: round(rng.uniform(low + 0.01, high - 0.01), 3)
    if kind == 4:
        return {"type": "number"}, lambda: rng.choice([0, -1.5, 3, 2.5e-9, 1e22, -7])
    if kind == 5:
        least = rng.randrange(4)
        most = least + rng.randrange(6)
        schema = {"type": "string", "minLength": least, "maxLength": most}
        return schema, lambda: "".join(rng.choice("aé日😀\"\\\n/") for _ in range(rng.randint(least, most)))
    if kind == 6:
        choices = rng.sample([*WORDS, 1, -2.5, None, True, {"k": [1]}, []], rng.randint(1, 6))
        return ({"enum": choices}, lambda: rng.choice(choices)) if rng.random() < 0.7 else (
            {"const": choices[0]}, lambda: choices[0])
    if kind == 7:
        pattern = rng.choice(PATTERNS)
        return {"type": "string", "pattern": pattern}, lambda: PATTERN_WORDS[pattern]
    name = rng.choice(list(FORMATS))
    return {"type": "string", "format": name}, lambda: FORMATS[name]


def draw_array(rng: random.Random, depth: int) -> Pair:
    items, item = draw_schema(rng, depth - 1)
    least = rng.randrange(3)
    most = least + rng.randrange(4)
    schema: dict[str, Any] = {"type": "array", "items": items}
    prefix = [draw_schema(rng, depth - 1) for _ in range(rng.randrange(3))] if rng.random() < 0.3 else []
    if prefix:
        schema["prefixItems"] = [part for part, _ in prefix]
    if least or rng.random() < 0.3:
        schema["minItems"] = least
    if rng.random() < 0.5:
        schema["maxItems"] = most

    def make() -> Any:
        return [prefix[i][1]() if i < len(prefix) else item() for i in range(rng.randint(least, most))]

    return schema, make


def draw_object(rng: random.Random, depth: int) -> Pair:
    names = rng.sample(NAMES, rng.randrange(5))
    parts = {name: draw_schema(rng, depth - 1) for name in names}
    required = [name for name in names if rng.random() < 0.5]
    schema: dict[str, Any] = {"type": "object", "properties": {name: part for name, (part, _) in parts.items()}}
    if required or rng.random() < 0.5:
        schema["required"] = rng.sample(required, len(required))
    other = draw_schema(rng, depth - 1) if rng.random() < 0.3 else None
    if other is not None:
        schema["additionalProperties"] = other[0]
    elif rng.random() < 0.7:
        schema["additionalProperties"] = False

    def make() -> Any:
        out = {n: parts[n][1]() for n in names if n in required or rng.random() < 0.5}
        for extra in rng.sample(["abc", "z", "日", "nam"], rng.randrange(3)) if other is not None else []:
            out[extra] = other[1]()
        return out

    return schema, make


def draw_schema(rng: random.Random, depth: int) -> Pair:
    kind = rng.randrange(10) if depth > 0 else 9
    if kind < 3:
        return draw_object(rng, depth)
    if kind < 5:
        return draw_array(rng, depth)
    if kind < 7:
        parts = [draw_schema(rng, depth - 1) for _ in range(rng.randint(1, 4))]
        return {"anyOf": [part for part, _ in parts]}, lambda: rng.choice(parts)[1]()
    if kind == 7 and depth > 1:
        inner, make = draw_object(rng, depth)
        return {"allOf": [inner, {"description": "d"}], "title": "t"}, make
    return draw_scalar(rng)


def draw_root(rng: random.Random) -> Pair:
    schema, make = draw_schema(rng, 3)
    if rng.random() < 0.3:
        tree = {"$ref": "#/$defs/node", "$defs": {"leaf": schema, "node": {
            "type": "object", "additionalProperties": False, "required": ["leaf"],
            "properties": {"leaf": {"$ref": "#/$defs/leaf"},
                           "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                           "more": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}}}}}

        def grow(depth: int) -> Any:
            out = {"leaf": make()}
            if rng.random() < 0.6:
                out["next"] = grow(depth - 1) if depth > 0 and rng.random() < 0.7 else None
            if depth > 0 and rng.random() < 0.3:
                out["more"] = [grow(depth - 1)]
            return out

        return tree, lambda: grow(3)
    return schema, make


class Program:
    def __init__(self, program: Path, tokenizer: Path) -> None:
        self.process = subprocess.Popen([program, tokenizer], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *parts: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write((" ".join(parts) + "\n").encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode("utf-8", errors="surrogateescape").removesuffix("\n")


def check(program: Program, rng: random.Random, count: int) -> bool:
    from jsonschema import Draft202012Validator as Validator

    def valid(schema: Any, document: Any) -> bool:
        return Validator(schema, format_checker=Validator.FORMAT_CHECKER).is_valid(document)

    passed = True
    tally = {"walked": 0, "long": 0, "admitted": 0}
    for _ in range(count):
        schema, make = draw_root(rng)
        text = json.dumps(schema, ensure_ascii=rng.random() < 0.5)
        for seed in range(3):
            made = program.ask("walk", str(seed), "400", text)
            if made == "long":
                tally["long"] += 1
                continue
            try:
                good = valid(schema, json.loads(made))
            except ValueError:
                good = False
            tally["walked"] += 1
            if not good:
                passed = False
                print(f"made what is not valid: {made!r}\n  for {text}")
        for seed in range(3):
            document = make()
            if not valid(schema, document):
                continue
            # A literal that is an object has one spelling, the compact one.
            compact = '"k"' in text or rng.random() < 0.5
            line = json.dumps(document, ensure_ascii=False, separators=(",", ":") if compact else None)
            answer = program.ask("admit", str(seed), text + "\t" + line)
            tally["admitted"] += 1
            if answer != "yes":
                passed = False
                print(f"did not admit ({answer}): {line}\n  for {text}")
    print(tally)
    return passed and tally["walked"] > count and tally["admitted"] > count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walk", type=Path, required=True, help="the program schema_walk")
    parser.add_argument("--seed", type=int, default=20240607)
    parser.add_argument("--count", type=int, default=300, help="schemas")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "models" / "latent-mini" / "tokenizer.json")
    arguments = parser.parse_args()
    if importlib.util.find_spec("jsonschema") is None:
        print("skipped: tools/requirements.txt is not installed")
        return SKIPPED
    print(f"seed {arguments.seed}")
    program = Program(arguments.walk, arguments.tokenizer)
    return 0 if check(program, random.Random(arguments.seed), arguments.count) else 1


if __name__ == "__main__":
    sys.exit(main())
