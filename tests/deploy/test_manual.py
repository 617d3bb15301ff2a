"""The manual page and the completions say what --help says."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import DEPLOY, ROOT, help_of


def test_manual_and_completions_are_current(latentd: str):
    command = [sys.executable, DEPLOY / "cli.py", "--latentd", latentd, "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_manual_names_every_option(latentd: str):
    manual = (ROOT / "docs/latentd.1").read_text().replace("\\-", "-")
    for command in ("serve", "inspect", "health"):
        names = re.findall(r"^  (?:-\w,)?(--[a-z-]+)", help_of(latentd, command), re.M)
        assert len(names) > 3
        for name in names:
            assert f"\\fB{name}\\fR" in manual, (command, name)


def test_bash_completes_commands_options_and_values():
    def complete(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        script = (
            f"source {DEPLOY}/completion/latentd.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1};"
            'COMP_LINE="${COMP_WORDS[*]}" _latentd; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout.split()

    assert complete("latentd", "ins") == ["inspect"]
    assert "--max-num-seqs" in complete("latentd", "serve", "--max")
    assert complete("latentd", "serve", "--log-format", "") == ["text", "json"]
    assert "--max-num-seqs" not in complete("latentd", "health", "--")
