#!/usr/bin/env python3
"""Compares our template interpreter with jinja2, set up as transformers sets it up.

conversations  the templates in tests/data/templates over generated conversations: equal text, or an error on
               both sides, with the same words where the template raised it
fuzz           generated templates over generated values: the same
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conversations  # noqa: E402
import random_templates  # noqa: E402

TEMPLATES = Path(__file__).resolve().parents[4] / "tests" / "data" / "templates"
NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)


class RaisedByTemplate(jinja2.TemplateError):
    """What raise_exception raises."""


class GenerationTag(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}, by which the assistant's text is tracked: its text as it is."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass_through"), [], [], body).set_lineno(line)

    def _pass_through(self, caller: jinja2.runtime.Macro) -> str:
        return caller()


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    def raise_exception(message: str) -> None:
        raise RaisedByTemplate(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


class Renderer:
    """Our interpreter, as a process that answers a line a line."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, str]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        answers = []
        for request in requests:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answers.append(json.loads(self._process.stdout.readline()))
        return answers

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise SystemExit("the renderer failed")


def expected(template: jinja2.Template, context: dict[str, Any]) -> tuple[str | None, str]:
    """The text, or None and what went wrong; the template's own words start with '!'."""
    try:
        return template.render(**context), ""
    except RaisedByTemplate as error:
        return None, f"!{error.message}"
    except Exception as error:  # noqa: BLE001: whatever Python raises, the other side must fail too
        return None, f"{type(error).__name__}: {error}"


def difference(template: jinja2.Template | str, context: dict[str, Any], answer: dict[str, str]) -> str:
    """Empty when both agree. `template` is a message where jinja2 could not compile it."""
    text, error = (None, template) if isinstance(template, str) else expected(template, context)
    ours = answer.get("ok")
    if text is not None and ours == text:
        return ""
    if ours is None and "64 bits" in answer["error"]:
        return ""  # Python's integers have no limit
    if text is not None and " object at 0x" in text:
        return "" if ours is None else "an address was printed"
    if text is None and ours is None:
        if error.startswith("!") and not answer["error"].endswith(error[1:]):
            return f"raised {error[1:]!r}, we say {answer['error']!r}"
        return ""
    return f"jinja2: {error if text is None else text!r}\n  ours: {answer.get('error') if ours is None else ours!r}"


def compare_conversations(renderer: Renderer, count: int) -> int:
    env = environment()
    faults = 0
    rendered = 0
    names = sorted(TEMPLATES.glob("*.jinja"))
    for path in names:
        source = path.read_text(encoding="utf-8")
        template = env.from_string(source)
        renderer.ask([{"define": path.stem, "source": source}])
        for seed in range(count):
            context = conversations.context(random.Random(f"{path.stem}/{seed}"))
            answer = renderer.ask([{"use": path.stem, "context": context}])[0]
            rendered += "ok" in answer
            fault = difference(template, context, answer)
            if fault:
                faults += 1
                print(f"{path.stem}, seed {seed}: {fault}\n  context: {json.dumps(context)}")
                if faults > 5:
                    return faults
    total = len(names) * count
    print(f"{len(names)} templates, {total} renderings, {rendered} with text, {faults} differ")
    if rendered * 2 < total or len(names) < 10:
        print("too few renderings succeed for this to show much")
        return faults + 1
    return faults


def random_cases(seeds: range) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for seed in seeds:
        rng = random.Random(f"template {seed}")
        yield seed, random_templates.template(rng), random_templates.context(rng)


def compare_random(renderer: Renderer, seeds: range) -> int:
    env = environment()
    faults = 0
    rendered = 0
    for seed, source, context in random_cases(seeds):
        template: jinja2.Template | str
        try:
            template = env.from_string(source)
        except Exception as error:  # noqa: BLE001: as above
            template = f"{type(error).__name__}: {error}"
        answers = renderer.ask([{"define": "random", "source": source}, {"use": "random", "context": context}])
        rendered += "ok" in answers[1]
        fault = difference(template, context, answers[1])
        if fault:
            faults += 1
            print(f"seed {seed}: {fault}\n  template: {source!r}\n  context: {json.dumps(context)}")
            if faults > 8:
                return faults
    print(f"{len(seeds)} templates, {rendered} with text, {faults} differ")
    if rendered * 4 < len(seeds):
        print("too few renderings succeed for this to show much")
        return faults + 1
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["conversations", "fuzz"])
    parser.add_argument("--render", required=True, help="the program render_templates")
    parser.add_argument("--count", type=int, default=400, help="conversations a template, or templates")
    parser.add_argument("--first-seed", type=int, default=0, help="of fuzz")
    args = parser.parse_args()
    renderer = Renderer(args.render)
    if args.what == "conversations":
        faults = compare_conversations(renderer, args.count)
    else:
        faults = compare_random(renderer, range(args.first_seed, args.first_seed + args.count))
    renderer.close()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
