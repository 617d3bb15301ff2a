"""The data of the bundled model: outlines, questions, filters, near-duplicates, documents. Needs no PyTorch."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import dedupe
import documents
import dress
import filters
import grammar
import jinja2
import pytest
import questions
import tokenizers

MODEL = Path(__file__).resolve().parents[2] / "models/latent-mini"
STORY = grammar.stories(3, 1)[0][1]


def test_an_outline_is_its_story_with_places_between_sentences():
    for seed in range(200):
        rng = random.Random(seed)
        request, story, slots = grammar.tell(rng)
        outline = dress.cut(seed, request, story, slots, rng)
        assert "".join(outline.pieces) == story
        assert 3 <= len(outline.pieces) == len(outline.openers) + 1 <= 5
        written = ""
        for piece, opener in zip(outline.pieces, outline.openers, strict=False):
            written += piece
            assert written[-1] in '.!?"' and written.count('"') % 2 == 0
            assert opener[0] == " " and opener[1].isupper() and "{" not in opener
        assert outline.pieces[-1].strip()


def test_outlines_are_a_function_of_their_seed():
    assert dress.outlines(7, 5) == [*dress.outlines(7, 2), *dress.outlines(9, 3)]


def test_requests_are_as_people_type_them_and_name_the_hero_of_their_story():
    told = [grammar.tell(random.Random(seed)) for seed in range(3000)]
    assert not [ask for ask, _, _ in told if re.search(r"[{}|\[\]]| [ ,.?]|\ba [aeiou]", ask) or ask[-1] not in ".?"]
    assert not [ask for ask, story, slots in told if slots["h"] in ask and slots["h"] not in story]
    rng = random.Random(1)
    typed = [grammar.typed("Tell me a story about Tom.", rng) for _ in range(400)]
    assert set(typed) == {
        f"{text}{end}"
        for text in ("Tell me a story about Tom", "tell me a story about Tom", "tell me a story about tom")
        for end in ("", ".")
    }


def test_questions_are_a_function_of_their_seed_and_well_formed():
    asked = [questions.question(seed) for seed in range(500)]
    assert asked == [questions.question(seed) for seed in range(500)] and len(set(asked)) > 300
    assert not [q for q in asked if "{" in q or q[-1] not in ".?" or " a a" in q or not q[0].isupper()]
    assert [questions.plural(n) for n in ("fox", "pony", "monkey", "mouse")] == ["foxes", "ponies", "monkeys", "mice"]


@pytest.mark.parametrize(
    "sentence, why",
    [
        (" The fox was very quick and clever.", None),
        (" Hello and warm skills are not banned.", None),
        (" He ran.", "length"),
        ("The fox was very quick.", "no sentence"),
        (" The fox was very quick and", "no sentence"),
        (" It felt a deep sense of joy there.", "abstract"),
        (" The fox took the knife from the table.", "banned word"),
        (" He said, 'It is a nice day today.'", "speech"),
        (" You can see the moon from there.", "speech"),
        (" The fox did not know that Oliver was near.", "unknown name"),
        (" Suddenly a bird flew over the trees.", "time moves"),
        (" She loved the sea, but one day it was gone.", "time moves"),
        (" It was a brave and brave little bird.", "repetition"),
        (" Slowly Pip climbed the hill again.", "repetition"),
        (" The moon above the hill was round.", "says it again"),
    ],
)
def test_a_sentence_is_kept_or_its_fault_is_named(sentence, why):
    assert filters.reject_sentence("Pip climbed the hill again. The round moon was above it.", sentence) == why


def test_stories_of_the_grammar_do_not_count_as_repetitive():
    faults = [filters.reject_repetition(story) for _, story in grammar.stories(5, 200)]
    assert faults.count(None) > 180, faults


def test_a_story_that_goes_in_circles_is_not_kept():
    assert filters.reject_repetition(STORY) is None
    assert filters.reject_repetition(STORY + "\n\n" + STORY.split("\n\n")[1]) == "repetition"


@pytest.mark.parametrize(
    "answer, why",
    [
        ("A clock tells you the time of the day.", None),
        ("A clock.", "length"),
        ("A clock is nice. A clock is nice. It is round.", "repetition"),
        ("A clock is for these things: time and date.", "list"),
        ("A bird flies over the green hill.", "another matter"),
        ("A clock tells you the time of", "no ending"),
        ("As an AI, I have no clock.", "speaks about the text"),
        ("A clock is naïve.", "characters"),
        ("A clock is a round clock on the wall.", "says nothing"),
        ("A clock is very big and very loud.", "repetition"),
    ],
)
def test_an_answer_is_kept_or_its_fault_is_named(answer, why):
    assert filters.reject_answer("What is a clock for?", answer) == why


def test_near_duplicates_are_found_and_others_are_kept():
    told = [story for _, story in grammar.stories(1, 100)]
    seen = dedupe.Seen(0.6)
    assert sum(seen.add(dedupe.signature(story)) for story in told) >= 95
    assert not any(seen.add(dedupe.signature(story + " They laughed.")) for story in told[:20])


def test_equal_places_of_signatures_estimate_similarity():
    words = [f"{a}{b}" for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrst"]
    text = lambda a, b: " ".join(words[a:b])  # noqa: E731
    close = sum(a == b for a, b in zip(dedupe.signature(text(0, 300)), dedupe.signature(text(10, 310)), strict=True))
    far = sum(a == b for a, b in zip(dedupe.signature(text(0, 200)), dedupe.signature(text(200, 400)), strict=True))
    assert close >= 11 and far <= 3  # Jaccard similarities of 0.94 and 0


CHAT = {"kind": "answers", "seed": 3, "turns": [["system", "Be kind."], ["user", "Hi"], ["assistant", "Hello!"]]}


def test_documents_are_rendered_as_the_chat_template_does():
    template = jinja2.Template(documents.CHAT_TEMPLATE)
    messages = [{"role": role, "content": content} for role, content in CHAT["turns"]]
    rendered = template.render(messages=messages, bos_token=documents.BEGIN, eos_token=documents.END)
    assert documents.render(CHAT) == rendered == "<|begin|><|system|>Be kind.<|user|>Hi<|assistant|>Hello!<|end|>"
    plain = {"kind": "grammar", "seed": 3, "turns": [["", "Once."]]}
    assert documents.render(plain) == "<|begin|>Once.<|end|>"


def test_the_bundled_model_has_that_template():
    assert json.loads((MODEL / "tokenizer_config.json").read_text())["chat_template"] == documents.CHAT_TEMPLATE


def test_a_rendered_document_is_tokens_with_the_marks_as_one_each():
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    ids = tokenizer.encode(documents.render(CHAT), add_special_tokens=False).ids
    assert [ids[0], ids[-1]] == [documents.SPECIAL.index(mark) for mark in (documents.BEGIN, documents.END)]
    assert ids.count(documents.SPECIAL.index("<|user|>")) == 1


def test_parts_are_read_back_in_order(tmp_path):
    for number in range(3):
        documents.write_part(tmp_path / f"part-{number}.jsonl.xz", [CHAT | {"seed": number}])
    assert [d["seed"] for d in documents.read_parts(tmp_path)] == [0, 1, 2]
    assert not list(tmp_path.glob("*.partial"))


def test_one_seed_in_fifty_is_held_out():
    assert sum(documents.is_held_out(CHAT | {"seed": seed}) for seed in range(1000)) == 20
