"""Documents: turns of text, their form as tokens, and files of them.

A document is {"kind", "seed", "turns": [[role, text], ...]}. The roles are those of the chat template; a plain story is
one turn of role "". One line of JSON each, in xz.
"""

from __future__ import annotations

import json
import lzma
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|extra|>"]
BEGIN, END = "<|begin|>", "<|end|>"
ROLES = ("", "system", "user", "assistant")

# What `render` writes, as servers and transformers do it. END ends the assistant's turn.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class Document(TypedDict):
    kind: str
    seed: int
    turns: list[list[str]]


def render(document: Document) -> str:
    """<|begin|> story <|end|>, or <|begin|> and the turns of a chat."""
    text = BEGIN
    for role, content in document["turns"]:
        assert role in ROLES, role
        text += (f"<|{role}|>" if role else "") + content + (END if role in ("", "assistant") else "")
    return text


def is_held_out(document: Document) -> bool:
    """One seed in 50, whatever was made of it."""
    return document["seed"] % 50 == 0


def write_part(path: Path, documents: Iterable[Document]) -> int:
    """Returns the bytes of the file."""
    text = "".join(json.dumps(document) + "\n" for document in documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(lzma.compress(text.encode(), preset=1))
    partial.rename(path)
    return path.stat().st_size


def read_part(path: Path) -> list[Document]:
    return [json.loads(line) for line in lzma.decompress(path.read_bytes()).decode().splitlines()]


def read_parts(folder: Path) -> list[Document]:
    """All parts of a folder, in the order of their names."""
    paths = sorted(folder.glob("*.jsonl.xz"))
    if len(paths) < 2:
        return [d for path in paths for d in read_part(path)]
    with multiprocessing.Pool(min(16, len(paths))) as pool:
        return [d for part in pool.imap(read_part, paths) for d in part]


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Byte-level BPE: every byte string has an encoding, whatever the texts held."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    begin = tok.token_to_id(BEGIN)
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, begin)]
    )
    return tok
