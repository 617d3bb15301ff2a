#!/usr/bin/env python3
"""Writes what follows from the program's --help: the OPTIONS of docs/latentd.1 and the completions of deploy/completion.

    deploy/cli.py [--latentd PROGRAM]            writes them
    deploy/cli.py [--latentd PROGRAM] --check    fails when one is not what would be written
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("serve", "inspect", "health", "new-key", "version")


@dataclass
class Option:
    names: list[str]
    metavar: str  # "" for a flag
    choices: list[str]
    default: str
    variable: str
    text: str


def help_of(program: str, command: str) -> str:
    return subprocess.run([program, command, "--help"], check=True, capture_output=True, text=True).stdout


def options_of(program: str, command: str) -> list[Option]:
    """Two forms: everything on one line, or the text on the next, indented deeper."""
    _, _, listing = help_of(program, command).partition("Options:\n")
    options: list[Option] = []
    for line in listing.splitlines():
        if not line.startswith("  -"):
            if options and line.strip():
                options[-1].text = (options[-1].text + " " + line.strip()).strip()
            continue
        head, _, text = line.strip().partition("  ")
        if found := re.match(r"(.*\(Env:\w+\)(?: Excludes: \S+)?|.*? Excludes: \S+)\s*(.*)", line.strip()):
            head, text = found.groups()
        variable = match[1] if (match := re.search(r"\(Env:(\w+)\)", head)) else ""
        head = re.sub(r"\(Env:\w+\)| Excludes: \S+|\.\.\.", "", head).strip()
        names, _, value = head.partition(" ")
        value = value.strip()
        kind = match[0] if (match := re.match(r"[A-Z]+", value)) else ""
        choices = match[1].split(",") if (match := re.search(r"\{([^}]*)\}", value)) else []
        default = match[1] if (match := re.search(r"(?:^[A-Z]+|\}|\]|[A-Z])=([^=\s]+)$", value)) else ""
        options.append(Option([n for n in names.split(",") if n], kind, choices, default, variable, text.strip()))
    return options


def roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def manual_options(program: str) -> str:
    lines: list[str] = []
    for command in COMMANDS:
        options = options_of(program, command)
        lines += [f".SS {command}"]
        for option in options:
            names = ", ".join(f"\\fB{roff(name.lstrip('!'))}\\fR" for name in option.names)
            lines += [".TP", names + (f" \\fI{option.metavar.lower()}\\fR" if option.metavar else "")]
            text = option.text.rstrip(".")
            if option.choices:
                text += "; one of " + ", ".join(option.choices)
            if option.default:
                text += f"; default {option.default}"
            if option.variable:
                text += f". Variable: {option.variable}"
            lines.append(roff(text) + ".")
    return "\n".join(lines) + "\n"


def manual(program: str) -> str:
    text = (ROOT / "docs/latentd.1").read_text()
    begin, end = '.\\" begin options\n', '.\\" end options\n'
    before, rest = text.split(begin)
    return before + begin + manual_options(program) + end + rest.split(end)[1]


def words(program: str, command: str) -> list[str]:
    return [name.removeprefix("!") for option in options_of(program, command) for name in option.names]


def choices(program: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for command in COMMANDS:
        for option in options_of(program, command):
            if option.choices:
                found[option.names[-1]] = option.choices
                found[option.names[0]] = option.choices
    return dict(sorted(found.items()))


def bash(program: str) -> str:
    lines = ["# Completion of latentd for bash. Made by deploy/cli.py.", "_latentd() {"]
    lines += ["  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options=''", "  COMPREPLY=()"]
    lines += ["  case $before in"]
    for name, values in choices(program).items():
        lines.append(f"    {name}) mapfile -t COMPREPLY < <(compgen -W '{' '.join(values)}' -- \"$word\"); return ;;")
    lines += ["    --model | inspect) mapfile -t COMPREPLY < <(compgen -d -- \"$word\"); return ;;"]
    lines += ["    --config) mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;", "  esac"]
    lines += ["  case ${COMP_WORDS[1]:-} in"]
    for command in COMMANDS:
        lines.append(f"    {command}) options='{' '.join(words(program, command))}' ;;")
    lines += [f"    *) options='{' '.join(COMMANDS)} --help --version' ;;", "  esac"]
    lines += ["  [[ $COMP_CWORD -gt 1 ]] || options='" + " ".join(COMMANDS) + " --help --version'"]
    lines += ["  mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")", "}", "complete -F _latentd latentd", ""]
    return "\n".join(lines)


def zsh(program: str) -> str:
    lines = ["#compdef latentd", "# Completion of latentd for zsh. Made by deploy/cli.py.", "local -a options"]
    lines += ["if (( CURRENT == 2 )); then", f"  compadd -- {' '.join(COMMANDS)} --help --version", "  return", "fi"]
    lines += ["case $words[CURRENT-1] in"]
    for name, values in choices(program).items():
        lines.append(f"  {name}) compadd -- {' '.join(values)}; return ;;")
    lines += ["  --model | inspect) _files -/; return ;;", "  --config) _files; return ;;", "esac", "case $words[2] in"]
    for command in COMMANDS:
        lines.append(f"  {command}) options=({' '.join(words(program, command))}) ;;")
    return "\n".join([*lines, "esac", "compadd -- $options", ""])


def fish(program: str) -> str:
    lines = ["# Completion of latentd for fish. Made by deploy/cli.py.", "complete -c latentd -f"]
    lines.append(f"complete -c latentd -n __fish_use_subcommand -a '{' '.join(COMMANDS)}'")
    for command in COMMANDS:
        for option in options_of(program, command):
            for name in option.names:
                if not name.lstrip("!").startswith("--"):
                    continue
                values = f" -xa '{' '.join(option.choices)}'" if option.choices else (" -r" if option.metavar else "")
                if name in ("--model", "--config"):
                    values = " -rF"
                text = option.text.replace("'", "\\'")
                lines.append(
                    f"complete -c latentd -n '__fish_seen_subcommand_from {command}' -l {name.lstrip('!-')}{values} -d '{text}'"
                )
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latentd", default=str(ROOT / "build/release/latentd"))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    made = {
        "docs/latentd.1": manual(arguments.latentd),
        "deploy/completion/latentd.bash": bash(arguments.latentd),
        "deploy/completion/_latentd": zsh(arguments.latentd),
        "deploy/completion/latentd.fish": fish(arguments.latentd),
    }
    stale = [name for name, text in made.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text]
    if arguments.check:
        if stale:
            print(f"{', '.join(stale)}: not what --help says; run deploy/cli.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(made[name])
        print("wrote", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
