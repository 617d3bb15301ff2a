"""Lets the teacher write documents of one kind, filters them and saves them as KIND/SEED-NN.jsonl.xz.

    python generate.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --kind dressed --out stories --seconds 240

dressed   stories of the grammar with sentences that the teacher ended (dress.py); most of what is learnt from
answers   one or two sentences in answer to a simple question (questions.py); later ones would say the same again

Whole stories are not asked for: left to itself the teacher goes in circles after a few sentences.

Prints counts of what was dropped and why, and writes them to KIND/counts-SEED.json. SEED is the first task's, so that several
GPUs can write at once, each from a seed of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import dress
import filters
import numpy as np
import questions
import teacher as T
import torch
from documents import Document, write_part

SENTENCE_BUDGET = 32  # tokens


@dataclass(frozen=True)
class Task:
    """The teacher reads `request`; the answer is `pieces` with its sentences between them, each begun by an opener."""

    seed: int
    request: str
    pieces: tuple[str, ...]
    openers: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    system: str
    shots: list[tuple[str, str]]
    shots_each: int  # examples in front of a request, of a different choice for each of 16 prefixes
    length: int  # tokens a row at most, request included
    temperature: float
    min_p: float


KINDS = {
    "dressed": Kind(T.SYSTEM, [], 0, 448, 0.7, 0.1),
    "answers": Kind(questions.SYSTEM, questions.EXAMPLES, 4, 128, 0.6, 0.1),
}


def make_tasks(kind: str, first_seed: int, count: int) -> list[Task]:
    if kind == "dressed":
        return [Task(o.seed, o.request, o.pieces, o.openers) for o in dress.outlines(first_seed, count)]
    sentences = lambda seed: 1 + (seed % 3 == 0)
    empty = lambda seed: (("",) * (1 + sentences(seed)), ("",) * sentences(seed))
    return [Task(s, questions.question(s), *empty(s)) for s in range(first_seed, first_seed + count)]


def turn(who: str, what: str) -> str:
    return f"<|im_start|>{who}\n{what}{T.END}\n"


def prefixes(kind: Kind, seed: int) -> list[str]:
    """What stands before every request: the system's turn and some examples."""
    rng = random.Random(seed)
    chosen = [rng.sample(kind.shots, kind.shots_each) for _ in range(16 if kind.shots_each else 1)]
    told = ["".join(turn("user", q) + turn("assistant", a) for q, a in shots) for shots in chosen]
    return [turn("system", kind.system) + text for text in told]


def write_scripts(tok, tasks: list[Task]) -> tuple[torch.Tensor, torch.Tensor]:
    """(scripts [N, S] int32, tokens before each answer [N])."""
    ids = lambda texts: [e.ids for e in tok.encode_batch(texts, add_special_tokens=False)]
    asks = ids([f"<|im_start|>user\n{t.request}{T.END}\n<|im_start|>assistant\n" for t in tasks])
    pieces = iter(ids([piece for t in tasks for piece in t.pieces]))
    openers = iter(ids([opener for t in tasks for opener in t.openers]))
    rows = []
    for ask, task in zip(asks, tasks, strict=True):
        row = ask + next(pieces)
        for _ in task.pieces[1:]:
            row += [*next(openers), T.SENTENCE, *next(pieces)]
        rows.append(row)
    script = np.full((len(rows), max(map(len, rows)) + 1), tok.token_to_id(T.END), dtype=np.int32)
    for line, row in zip(script, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(script), torch.tensor([len(ask) for ask in asks])


def sentences_of(script: np.ndarray, text: np.ndarray, closing: np.ndarray) -> list[np.ndarray]:
    """The tokens that the teacher wrote at each mark of a finished row."""
    runs, pos, last = [], 0, 0
    for at in np.flatnonzero(script == T.SENTENCE):
        pos += at - last
        ends = np.flatnonzero(closing[text[pos : pos + SENTENCE_BUDGET]])
        length = int(ends[0]) + 1 if len(ends) else SENTENCE_BUDGET
        runs.append(text[pos : pos + length])
        pos, last = pos + length, at + 1
    return runs


def finish(args: tuple[str, Task, list[str]]) -> tuple[Document | None, Counter]:
    """The document of what the teacher wrote for a task, and what was dropped of it; a story never needs its sentences."""
    kind, task, written = args
    dropped: Counter = Counter()
    if kind == "dressed":
        text, kept = task.pieces[0], 0
        for opener, end, piece in zip(task.openers, written, task.pieces[1:], strict=True):
            sentence = opener + end
            why = filters.reject_sentence(text, sentence)
            if why:
                dropped[f"sentence: {why}"] += 1
            else:
                kept += 1
                text += sentence
            text += piece
        why = filters.reject_repetition(text) if kept else "no sentence left"
    else:
        text = "".join(written).strip()
        why = filters.reject_answer(task.request, text)
    if why:
        dropped[why] += 1
        return None, dropped
    return {"kind": kind, "seed": task.seed, "turns": [["user", task.request], ["assistant", text]]}, dropped


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="of sampling")
    parser.add_argument("--slots", type=int, default=4096)
    parser.add_argument("--tasks", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first task; the others follow")
    parser.add_argument("--parts", type=int, default=16)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    began = time.monotonic()
    say = lambda text: print(f"{time.monotonic() - began:4.0f} s  {args.kind}: {text}", flush=True)
    device, kind = "cuda" if torch.cuda.is_available() else "cpu", KINDS[args.kind]
    reader = T.open_gguf(args.gguf)
    tok = T.load_tokenizer(reader)
    tasks = make_tasks(args.kind, args.seed, args.tasks)
    script, plen = write_scripts(tok, tasks)
    say(f"{len(tasks)} tasks, {float(plen.float().mean()):.0f} tokens of request, scripts up to {script.shape[1]}")
    model = T.Teacher.from_gguf(reader, device, torch.bfloat16 if device == "cuda" else torch.float32)
    allowed, closing = T.sentence_tokens(tok)
    end = tok.token_to_id(T.END)
    batch = T.Batch(
        model,
        [tok.encode(text, add_special_tokens=False).ids for text in prefixes(kind, args.seed)],
        script,
        plen,
        allowed,
        closing,
        slots=min(args.slots, len(tasks)),
        length=kind.length,
        sentence_budget=SENTENCE_BUDGET,
        end=end,
        temperature=kind.temperature,
        min_p=kind.min_p,
        seed=args.seed,
    )
    per_step = batch.run(args.seconds)
    length, text, scripts = batch.length.cpu().numpy(), batch.text.cpu().numpy(), script.numpy()
    tokens, written = int(length.sum()), int(batch.written.sum())
    done = np.flatnonzero(length[:-1]).tolist()  # when tasks run out, several slots share the last row
    started = min(int(batch.next_row), len(tasks))
    speed = batch.slots / per_step
    say(f"{speed:.0f} tokens/s; {started} started, {len(done)} finished, {tokens} tokens, {written} by the teacher")
    del batch

    runs = [sentences_of(scripts[i], text[i, : length[i]], closing) for i in done]
    decoded = iter(tok.decode_batch([run.tolist() for row in runs for run in row], skip_special_tokens=False))
    jobs = [(args.kind, tasks[i], [next(decoded) for _ in row]) for i, row in zip(done, runs, strict=True)]
    with multiprocessing.Pool() as pool:
        finished = pool.map(finish, jobs, chunksize=500)
    documents = [document for document, _ in finished if document]
    dropped: Counter = sum((d for _, d in finished), Counter())
    say(f"kept {len(documents)} of {len(done)}; dropped {dict(dropped)}")
    counts = {"started": started, "finished": len(done), "kept": len(documents), "dropped": dropped}
    counts |= {"tokens": tokens, "tokens_by_the_teacher": written, "tokens_a_second": round(speed)}
    counts |= {"temperature": kind.temperature, "min_p": kind.min_p, "first_seed": args.seed}
    folder = args.out / args.kind
    size = -(-len(documents) // args.parts) or 1
    paths = [
        (folder / f"{args.seed}-{i // size:02}.jsonl.xz", documents[i : i + size]) for i in range(0, len(documents), size)
    ]
    with multiprocessing.Pool() as pool:
        pool.starmap(write_part, paths)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"counts-{args.seed}.json").write_text(json.dumps(counts, indent=2) + "\n")
    say("saved")


if __name__ == "__main__":
    main()
