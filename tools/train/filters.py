"""What is kept of the teacher's text. Each check returns why it is not kept, or None."""

from __future__ import annotations

import re
from collections import Counter

WORD = re.compile(r"[a-z']+")
ABOUT_ITSELF = re.compile(
    r"\b(as an ai|language model|smollm|hugging face|i'm sorry|i cannot|the end of the story|story is|in this story|"
    r"moral of|word count|here is|here's a|this story|the story|theme|narrat|version of|reader)",
    re.I,
)
BANNED = re.compile(
    r"\b(kill|murder|blood|gun|knife|knives|weapon|corpse|suicide|drunk|alcohol|beer|wine|whisky|whiskey|cigarette|smoke|drug|"
    r"sex|naked|nude|hate|stupid|idiot|ugly|damn|hell|devil|rape|slave|war|bomb|racist|nazi|terror|torture|abuse|die|dying|"
    r"dead|death)(s|d|ed|ing|er|ers|y)?\b",
    re.I,
)
ABSTRACT = re.compile(
    r"\b(compassion|resourceful|journey|potential|communit|embrac|sense of|unique|remind|determin|importan|value[sd]?|"
    r"environment|nature's|inspir|challenge|experience|opportunit|perspective|appreciat|society|universe|legacy|passion|"
    r"technolog|essential|significan|creature who|testament|realm|intricate|resilien)",
    re.I,
)

TIME_MOVES = re.compile(
    r" (The next|The following|One|After|Later|Finally|Then|Soon|A few|When|Suddenly|Eventually|That|At last|In the end|"
    r"Years|Days|Weeks|Now|Next|Meanwhile|Tomorrow|From)\b"
)


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def runs(words: list[str], length: int) -> Counter:
    return Counter(zip(*(words[i:] for i in range(length)), strict=False))


def reject_content(text: str) -> str | None:
    if not text.isascii() or re.search(r"[#*_`<>\[\]{}|\\]", text):
        return "characters"
    if ABOUT_ITSELF.search(text):
        return "speaks about the text"
    if BANNED.search(text):
        return "banned word"
    return None


def reject_sentence(before: str, sentence: str) -> str | None:
    """Of one sentence of narration that the teacher added after `before`."""
    words = words_of(sentence)
    if not 4 <= len(words) <= 26:
        return "length"
    if not re.fullmatch(r" [A-Z].*[.!?]'?", sentence):
        return "no sentence"
    if TIME_MOVES.match(sentence) or re.search(r"\b(one day|decide|suddenly|until|then)", sentence):
        return "time moves"
    if why := reject_content(sentence):
        return why
    if ABSTRACT.search(sentence) or any(len(word) > 11 for word in words):
        return "abstract"
    if re.search(r"(^|[\s,])'|'(\s|$)|\b(I|[Ww]e|[Yy]ou|[Mm]y|[Oo]ur|[Yy]our)\b", sentence):
        return "speech"
    names = set(re.findall(r"[A-Z][a-z]+", sentence.strip()[1:])) - {"I"}
    if any(name not in before for name in names):
        return "unknown name"
    so_far = words_of(before)
    if runs(words, 4).keys() & runs(so_far, 4).keys() or max(runs(words, 2).values()) > 1:
        return "repetition"
    if re.search(r"\b(\w+),? (and )?\1\b", sentence) or words.count("very") > 1:
        return "repetition"
    content = {word for word in words if len(word) > 3}
    if len(content & set(so_far[-30:])) > 0.6 * len(content):
        return "says it again"
    return None


def reject_repetition(story: str) -> str | None:
    """Of a whole story."""
    words = words_of(story)
    fours = runs(words, 4)
    if max(runs(words, 3).values()) > 4 or max(fours.values()) > 3 or fours.total() - len(fours) > 0.06 * len(words):
        return "repetition"
    if max(runs(words, 8).values()) > 1:
        return "repetition"
    sentences = Counter(s.strip().lower() for s in re.split(r"[.!?]", story) if len(s) > 15)
    if sentences and max(sentences.values()) > 1:
        return "repetition"
    return "few words" if len(set(words)) < 0.40 * len(words) else None


def reject_answer(question: str, answer: str) -> str | None:
    """Of an answer of one or two sentences."""
    words = words_of(answer)
    if not 4 <= len(words) <= 70:
        return "length"
    if why := reject_content(answer):
        return why
    if answer[-1] not in ".!?" or not answer[0].isupper():
        return "no ending"
    if re.search(r"\n|\d|:", answer):
        return "list"
    if answer.count('"') % 2:
        return "open quotation"
    sentences = [s.strip().lower() for s in re.split(r"[.!?]", answer) if s.strip()]
    if len(set(sentences)) < len(sentences) or max(runs(words, 2).values()) > 1 or words.count("very") > 1:
        return "repetition"
    if re.search(r"\b(\w+) (?:is|are) (?:an? |the )?(?:\w+ )?\1\b", answer.lower()):
        return "says nothing"
    asked = {word for word in words_of(question) if len(word) > 3}
    if asked and not asked & set(words):
        return "another matter"
    return None
