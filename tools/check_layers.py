#!/usr/bin/env python3
"""Checks that #includes follow the arrows between folders, and that heavy packages stay where they belong.

A folder may include itself and what ARROWS lets it reach (transitively). Run from anywhere; exits 1 with one line a fault.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Folder -> folders that it may include directly; "tests" may include everything.
ARROWS: dict[str, set[str]] = {
    "base": set(),
    "kvcache": {"base"},
    "scheduler": {"kvcache"},
    "engine/model": {"base"},
    "engine/backend": {"engine/model", "kvcache"},
    "engine": {"scheduler", "engine/model", "engine/backend"},
    "server/text": {"base", "scheduler/token_constraint.h"},
    "proto": set(),
    "server": {"engine", "server/text", "proto"},
    "loadtest/sim": {"base", "kvcache", "scheduler"},
    "loadtest": {"proto", "base", "loadtest/sim"},
}

# Where only one header of a folder may be included.
ONLY_HEADER = {("engine/backend", "kvcache"): {"kvcache/cache_layout.h"}}

PACKAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "gRPC": (r"^(grpc|grpcpp)/", ("server", "proto", "loadtest")),
    "Protobuf": (r"^google/protobuf/", ("server", "proto", "loadtest")),
    "Boost": (r"^boost/", ("server", "loadtest")),
    "prometheus-cpp": (r"^prometheus/", ("server", "loadtest")),
    "nlohmann-json": (r"^nlohmann/", ("engine/model", "server", "loadtest")),
    "CUDA": (r"^(cuda|cublas|cudnn|nccl|curand)[\w.]*\.h", ("engine/backend/cuda",)),
    "spdlog": (r"^spdlog/(?!fmt/)", ("base", "engine", "server", "loadtest")),
}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^">]+)[">]', re.MULTILINE)


def folder_of(path: str) -> str | None:
    """The longest folder of ARROWS that holds `path`."""
    holders = [folder for folder in ARROWS if path.startswith(folder + "/")]
    return max(holders, key=len) if holders else None


def reachable(folder: str) -> set[str]:
    seen: set[str] = {folder}
    waiting = [folder]
    while waiting:
        for target in ARROWS.get(waiting.pop(), set()):
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def check_file(path: str) -> list[str]:
    own = folder_of(path)
    if own is None:
        return []
    faults = []
    allowed = reachable(own)
    for bracket, included in INCLUDE.findall((ROOT / path).read_text(encoding="utf-8")):
        if bracket == "<":
            for package, (pattern, homes) in PACKAGES.items():
                at_home = any(path.startswith(home + "/") for home in homes)
                if re.match(pattern, included) and not at_home:
                    faults.append(f"{path}: {package} ({included}) belongs in {', '.join(homes)}")
            continue
        target = folder_of(included)
        if target is None or target == own or included in allowed:
            continue
        only = ONLY_HEADER.get((own, target))
        if target not in allowed or (only is not None and included not in only):
            faults.append(f"{path}: {own} must not include {included}")
    return faults


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.h", "*.cc", "*.cu", "*.cuh"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()
    files = [path for path in listed if (ROOT / path).exists()]
    faults = [fault for path in files for fault in check_file(path)]
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} faults")
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
