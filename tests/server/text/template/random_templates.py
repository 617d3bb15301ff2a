"""Random templates of the supported language, and values for them: a pure function of the random generator.

Most expressions are made to have a type that suits where they stand, so that many templates render; the rest shows that
both sides fail on the same ones.
"""

from __future__ import annotations

import random
from typing import Any

from conversations import TEXTS, value

STRINGS = [
    "abc",
    "  Ab c  ",
    "",
    "x",
    "a,b,,c",
    "Hello World",
    "ünï Çode",
    "line\\nline2\\n",
    "it\\'s",
    "12",
    "-3.5",
    "1e3",
    "ß ŉ ǆ",
]


def choices(text: str) -> list[str]:
    return [choice.strip() for choice in text.split(";")]


STRING_FILTERS = choices("""
    upper; lower; title; capitalize; trim; reverse; string; replace('a', 'Z'); replace('', '-', 2); indent(2);
    indent(3, true); indent('> ', first=true, blank=true); truncate(5, true, '', 0); truncate(9); trim('a ');
    center(9); default('d'); tojson; join('-')
    """)
STRING_METHODS = choices("""
    strip(); lstrip(); rstrip('c \n'); upper(); lower(); title(); capitalize(); replace('b', 'yy');
    replace('l', '', 1); removeprefix('ab'); removesuffix('c'); zfill(6); ljust(7, '.'); rjust(7); center(8, '*');
    join(['p', 'q']); swapcase(); split('b')[0]; rsplit(',', 1)[-1]; partition(',')[2]; rpartition('b')[0]
    """)
LIST_METHODS_OF_STRINGS = choices("""
    split(); split(','); split(None, 1); split('l', 2); rsplit(' ', 1); rsplit(); splitlines(); splitlines(true);
    partition('b')
    """)
LIST_FILTERS = choices("""
    list; reverse | list; unique | list; sort; sort(reverse=true); sort(case_sensitive=true);
    map('string') | list; map('upper') | list; select | list; reject('none') | list; select('string') | list;
    reject('in', ['abc', 1]) | list; map('default', 'x') | list; batch(2) | list; batch(3, 'fill') | list;
    select('equalto', 'abc') | list; map('length') | list
    """)
TESTS = choices("""
    defined; undefined; none; string; number; integer; float; mapping; sequence; iterable; boolean; true; false;
    callable; odd; even; divisibleby(3); divisibleby 2; equalto 'abc'; eq(1); ne 1; in ['abc', 2, none];
    in 'abcd'; lower; upper; sameas none; sameas(true); gt 1; lessthan 5; filter; test; not defined; not none;
    not string
    """)


MAP_FILTERS = choices("dictsort; items | list; list; dictsort(reverse=true); dictsort(by='value')")
DATES = choices("%Y-%m-%d; %d %b %Y; %A, %B %-d, %H:%M:%S %p; %j %y %I %%; %a %D %F %T %e")
AFFIXES = choices("('a', 'c'); 'ab'; ''")
QUESTIONS = choices("isdigit; isalpha; isalnum; isspace; isupper; islower")
CONVERSIONS = choices("int; float; int(7); float(0.5); int(base=16); wordcount")
TEXT_OF = choices("string; tojson; tojson(indent=2); tojson(sort_keys=true)")


class Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = ["text", "items", "obj", "number", "nothing", "flag", "rows", "missing"]
        self.macros: list[tuple[str, int]] = []
        self.loops = 0
        self.made = 0

    def pick(self, choices: list[Any]) -> Any:
        return self.rng.choice(choices)

    def any(self, depth: int) -> str:
        return self.pick([self.string, self.integer, self.sequence, self.map, self.boolean, self.anything])(depth)

    def anything(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(self.names + ["none", "true", "1", "'s'", "1.5"])
        inner = self.any(depth - 1)
        return self.pick([
            lambda: f"({inner} if {self.boolean(depth - 1)} else {self.any(depth - 1)})",
            lambda: f"({inner} if {self.boolean(depth - 1)})",
            lambda: f"({inner} or {self.any(depth - 1)})",
            lambda: f"({inner} and {self.any(depth - 1)})",
            lambda: f"{inner} | default({self.any(depth - 1)}, {self.boolean(0)})",
            lambda: f"obj.{self.pick(['a', 'b', 'none', 'zz'])}",
            lambda: f"obj[{self.string(0)}]",
            lambda: f"obj.get({self.string(0)}, {self.any(depth - 1)})",
            lambda: f"{self.sequence(depth - 1)}[{self.integer(0)}]",
            lambda: f"{self.sequence(depth - 1)} | {self.pick(['first', 'last', 'min', 'max', 'sum', 'length'])}",
            lambda: f"rows | map(attribute='{self.pick(['name', 'n', 'sub.k', 'tags.0', 'gone'])}') | list",
            lambda: f"rows | {self.pick(['selectattr', 'rejectattr'])}('{self.pick(['name', 'n', 'flag'])}') | list",
            lambda: f"rows | selectattr('n', '{self.pick(['gt', 'equalto', 'in'])}', {self.pick(['1', '[1, 2]'])}) | list",
            lambda: f"rows | sort(attribute='{self.pick(['name', 'n', 'n,name'])}') | join(',', attribute='name')",
            lambda: f"({inner})",
            lambda: f"ns.{self.pick(['count', 'text', 'other'])}",
            self.macro_call,
        ])()  # fmt: skip

    def macro_call(self) -> str:
        if not self.macros:
            return "'no macro'"
        name, arguments = self.pick(self.macros)
        given = [self.any(1) for _ in range(self.rng.randrange(arguments + 1))]
        if self.rng.random() < 0.3 and len(given) < arguments:
            given.append(f"p{arguments - 1}={self.any(0)}")
        return f"{name}({', '.join(given)})"

    def string(self, depth: int) -> str:
        if depth <= 0:
            return self.pick([f"'{self.pick(STRINGS)}'", f'"{self.pick(STRINGS)}"', "text", "'a' 'b'"])
        inner = self.string(depth - 1)
        return self.pick([
            lambda: f"{inner} | {self.pick(STRING_FILTERS)}",
            lambda: f"({inner}).{self.pick(STRING_METHODS)}",
            lambda: f"({inner})[{self.slice()}]",
            lambda: f"({inner})[{self.integer(0)}]",
            lambda: f"({inner} + {self.string(depth - 1)})",
            lambda: f"({inner} ~ {self.any(depth - 1)} ~ {self.string(0)})",
            lambda: f"({inner} * {self.pick(['0', '2', '3', '-1'])})",
            lambda: f"{self.any(depth - 1)} | {self.pick(TEXT_OF)}",
            lambda: f"{self.sequence(depth - 1)} | join({self.string(0)})",
            lambda: f"{self.any(depth - 1)} | tojson(ensure_ascii=true, separators=(',', ':'))",
            lambda: f"'%s-%s' | format({self.any(0)}, {self.integer(0)})",
            lambda: f"strftime_now('{self.pick(DATES)}')",
        ])()  # fmt: skip

    def slice(self) -> str:
        bound = ["", "0", "1", "2", "-1", "-2", "5", "100", "-100", "none"]
        start, stop = self.pick(bound), self.pick(bound)
        return f"{start}:{stop}" + self.pick(["", "", ":", ":1", ":2", ":-1", ":-2", ":none"])

    def integer(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(["0", "1", "2", "3", "7", "-1", "-4", "10", "1_000", "number", "2.5", "-0.5"])
        a, b = self.integer(depth - 1), self.integer(depth - 1)
        return self.pick([
            lambda: f"({a} {self.pick(['+', '-', '*', '/', '//', '%'])} {b})",
            lambda: f"({a}) ** {self.pick(['2', '0', '3', '-1'])}",
            lambda: f"-{a}" if not a.startswith("-") else f"({a})",
            lambda: f"{self.any(depth - 1)} | length",
            lambda: f"({a}) | {self.pick(['abs', 'round', 'round(1)', 'float', 'int', 'string | int'])}",
            lambda: f"({a}) | round(1, '{self.pick(['common', 'ceil', 'floor'])}')",
            lambda: f"{self.string(depth - 1)} | {self.pick(CONVERSIONS)}",
            lambda: f"({self.string(depth - 1)}).{self.pick(['find', 'rfind', 'count'])}('{self.pick(['a', 'l', ''])}')",
            lambda: f"{self.sequence(depth - 1)} | {self.pick(['count', 'sum'])}",
        ])()  # fmt: skip

    def sequence(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(
                [
                    "items",
                    "[]",
                    "[1, 'a', none]",
                    "('x', 2)",
                    "['b', 'a', 'B']",
                    "range(4)",
                    "range(5, 0, -2)",
                    "rows",
                    "obj",
                ]
            )
        inner = self.sequence(depth - 1)
        return self.pick([
            lambda: f"[{', '.join(self.any(depth - 1) for _ in range(self.rng.randrange(4)))}]",
            lambda: f"({', '.join(self.any(depth - 1) + ',' for _ in range(self.rng.randrange(4)))})",
            lambda: f"{inner} | {self.pick(LIST_FILTERS)}",
            lambda: f"({inner})[{self.slice()}]",
            lambda: f"({inner} + {self.sequence(depth - 1)})",
            lambda: f"({self.string(depth - 1)}).{self.pick(LIST_METHODS_OF_STRINGS)}",
            lambda: f"{self.map(depth - 1)}.{self.pick(['items', 'keys', 'values'])}() | list",
            lambda: f"{self.map(depth - 1)} | {self.pick(MAP_FILTERS)}",
            lambda: f"{self.string(depth - 1)} | list",
        ])()  # fmt: skip

    def map(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(
                ["obj", "{}", "{'k': 1, 'K': 'v', 'a': none}", "dict(a=1, b='x')", "{1: 'one', true: 'yes', 'z': 2.0}"]
            )
        entries = ", ".join(f"{self.string(0)}: {self.any(depth - 1)}" for _ in range(self.rng.randrange(4)))
        return self.pick([lambda: f"{{{entries}}}", lambda: f"dict({self.map(depth - 1)}, extra={self.any(0)})"])()

    def boolean(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(["true", "false", "flag", "True", "False", "text", "missing", "nothing"])
        return self.pick([
            lambda: f"(not {self.any(depth - 1)})",
            lambda: f"({self.any(depth - 1)} is {self.pick(TESTS)})",
            lambda: f"({self.any(depth - 1)} {self.pick(['==', '!='])} {self.any(depth - 1)})",
            lambda: f"({self.integer(depth - 1)} {self.pick(['<', '<=', '>', '>='])} {self.integer(depth - 1)})",
            lambda: f"({self.string(depth - 1)} {self.pick(['<', '>=', 'in', 'not in'])} {self.string(depth - 1)})",
            lambda: f"({self.any(depth - 1)} {self.pick(['in', 'not in'])} {self.sequence(depth - 1)})",
            lambda: f"(1 < {self.integer(depth - 1)} <= 4)",
            lambda: f"({self.string(depth - 1)}).{self.pick(['startswith', 'endswith'])}({self.pick(AFFIXES)})",
            lambda: f"({self.string(depth - 1)}).{self.pick(QUESTIONS)}()",
        ])()  # fmt: skip

    def text(self) -> str:
        return self.pick(
            ["", " ", "\n", "  \n", "\n  ", "text", " text ", "\n\n    ", "a\tb", "{", "}", "%", "{ {", "\r\n", "<é>"]
        )

    def tag(self, inside: str) -> str:
        return "{%" + self.pick(["", "", "-", "+"]) + " " + inside + " " + self.pick(["", "", "-", "+"]) + "%}"

    def body(self, depth: int) -> str:
        pieces = []
        for _ in range(self.rng.randrange(1, 4)):
            pieces.append(self.text())
            pieces.append(self.statement(depth))
        return "".join(pieces) + self.text()

    def statement(self, depth: int) -> str:
        self.made += 1
        if depth <= 0 or self.made > 25 or self.rng.random() < 0.45:
            return "{{" + self.pick(["", "-"]) + " " + self.any(2) + " " + self.pick(["", "-"]) + "}}"
        return self.pick([
            self.if_, self.for_, self.for_, self.set_, self.set_, self.set_block, self.namespace, self.macro,
            self.comment, self.raw,
            self.with_, self.call, self.filter, self.generation, self.leave,
        ])(depth)  # fmt: skip

    def if_(self, depth: int) -> str:
        text = self.tag(f"if {self.boolean(2)}") + self.body(depth - 1)
        if self.rng.random() < 0.4:
            text += self.tag(f"elif {self.boolean(1)}") + self.body(depth - 1)
        if self.rng.random() < 0.6:
            text += self.tag("else") + self.body(depth - 1)
        return text + self.tag("endif")

    def for_(self, depth: int) -> str:
        target, items = self.pick(
            [
                ("it", self.sequence(2)),
                ("it", self.sequence(1)),
                ("k, v", "obj.items()"),
                ("ch", self.string(1)),
                ("key", "obj"),
                ("(a, b)", "[(1, 2), ('x', 'y')]"),
            ]
        )
        condition = f" if {self.boolean(1)}" if self.rng.random() < 0.25 else ""
        outer = list(self.names)
        self.names += target.strip("()").split(", ")
        self.loops += 1
        inside = self.body(depth - 1)
        if self.rng.random() < 0.6:
            what = [
                "index",
                "index0",
                "first",
                "last",
                "length",
                "revindex",
                "revindex0",
                "previtem",
                "nextitem",
                "depth",
                "cycle('x', 'y')",
            ]
            inside += "{{ loop." + self.pick(what) + " }}"
        self.loops -= 1
        self.names = outer
        text = self.tag(f"for {target} in {items}{condition}") + inside
        if self.rng.random() < 0.3:
            text += self.tag("else") + self.body(depth - 1)
        return text + self.tag("endfor")

    def leave(self, depth: int) -> str:
        if self.loops == 0:
            return "{{ text }}"
        return self.tag(f"if {self.boolean(1)}") + self.tag(self.pick(["break", "continue"])) + self.tag("endif")

    def set_(self, depth: int) -> str:
        name = self.pick(["v1", "v2", "text", "number", "items"])
        expression = {"text": self.string, "number": self.integer, "items": self.sequence}.get(name, self.any)(2)
        if self.rng.random() < 0.1:
            return self.tag(f"set v1, v2 = {self.any(1)}, {expression}")
        if name not in self.names:
            self.names.append(name)
        return self.tag(f"set {name} = {expression}")

    def set_block(self, depth: int) -> str:
        return (
            self.tag("set v3" + self.pick(["", " | upper", " | trim | length"]))
            + self.body(depth - 1)
            + self.tag("endset")
            + "{{ v3 }}"
        )

    def namespace(self, depth: int) -> str:
        return self.tag(f"set ns.{self.pick(['count', 'text', 'fresh'])} = {self.any(1)}")

    def inside_macro(self, depth: int, arguments: list[str]) -> str:
        outer, loops = list(self.names), self.loops
        self.names, self.loops = self.names + arguments, 0
        body = self.body(depth - 1)
        self.names, self.loops = outer, loops
        return body

    def macro(self, depth: int) -> str:
        name = f"m{len(self.macros)}"
        count = self.rng.randrange(3)
        arguments = [f"p{i}" for i in range(count)]
        signature = ", ".join(
            a + (f"={self.any(0)}" if i == count - 1 and self.rng.random() < 0.5 else "")
            for i, a in enumerate(arguments)
        )
        body = self.inside_macro(depth, arguments) + self.pick(
            ["", "", "{{ varargs }}", "{{ kwargs }}", "{{ caller() }}" if depth > 1 else ""]
        )
        self.macros.append((name, count))
        return self.tag(f"macro {name}({signature})") + body + self.tag("endmacro")

    def call(self, depth: int) -> str:
        if not self.macros:
            return ""
        return self.tag(f"call {self.macro_call()}") + self.inside_macro(depth, []) + self.tag("endcall")

    def comment(self, depth: int) -> str:
        return "{#" + self.pick(["", "-", "+"]) + " {{ none }} {% " + self.pick(["", "-", "+"]) + "#}"

    def raw(self, depth: int) -> str:
        sign = self.pick(["", "-"])
        return "{%" + sign + " raw " + sign + "%}" + self.text() + "{{ raw }}{% x" + self.text() + self.tag("endraw")

    def with_(self, depth: int) -> str:
        return (
            self.tag(f"with text = {self.string(1)}, w = text") + self.body(depth - 1) + "{{ w }}" + self.tag("endwith")
        )

    def filter(self, depth: int) -> str:
        return (
            self.tag("filter " + self.pick(["upper", "trim", "replace('a', 'b') | title", "indent(2)"]))
            + self.body(depth - 1)
            + self.tag("endfilter")
        )

    def generation(self, depth: int) -> str:
        return self.tag("generation") + self.inside_macro(depth, []) + self.tag("endgeneration")


def template(rng: random.Random) -> str:
    # What set may assign is read first. Otherwise jinja2 takes a name that an inner block reads before the outer one
    # sets it for undefined, even where the context has it; we show what the context has.
    start = "{% if text or number or items %}{% endif %}{% set ns = namespace(count=0, text='t') %}"
    return start + Maker(rng).body(3)


def context(rng: random.Random) -> dict[str, Any]:
    return {
        "text": rng.choice(TEXTS),
        "items": [value(rng, 2) for _ in range(rng.randrange(5))],
        "obj": {key: value(rng, 1) for key in rng.sample(["a", "b", "Abc", "x", "12", "zeta"], rng.randrange(1, 5))},
        "number": rng.choice([0, 1, 3, -2, 4.5, 100]),
        "nothing": None,
        "flag": rng.random() < 0.5,
        "rows": [
            {
                "name": rng.choice(["x", "Y", "z"]),
                "n": rng.randrange(4),
                "flag": rng.random() < 0.5,
                "sub": {"k": i},
                "tags": ["t", i],
            }
            for i in range(rng.randrange(4))
        ],
    }
