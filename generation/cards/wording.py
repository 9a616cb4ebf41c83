"""Which of a post's words are worth setting large, which small, and which not at all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

_READ_AT_MOST = 3000  # characters of a post: no picture holds more
_ALL_LARGE = 150  # a text this short is all statement
_STATEMENT = 120
_LONG_SENTENCE = 200
_BODY = 900
_TAGS = 12

_URL = re.compile(
    r"(?:(?<=[.!?…\n]) ?[^.!?…\n]{1,40}:)?"  # "Read more:"
    r" ?[(:–—→-]{0,3} ?(?:https?://|www\.)\S+",
    re.IGNORECASE,
)
_INLINE_HASH = re.compile(r"(?<![\w&])#(?=[^\W\d])")
_TAG = re.compile(r"[#@]\w*[^\W\d]")  # "#1" is none
_APOSTROPHE = re.compile(r"(?<=[^\W\d])'(?=[^\W\d])")
_SENTENCE_END = re.compile(r"(?:(?<=[!?…।؟])|(?<=\w{3}\.))[\"'”’»)]*\s+")  # not "Mr. "
_CLOSING = "\"'”’»)"
_CLAUSE_END = re.compile(r"[,;:،–—](?=\s)")
_JOINERS = "\u200c\u200d"  # invisible, but they shape Persian and Hindi words


@dataclass(frozen=True, slots=True)
class Wording:
    """`\\n` parts paragraphs. Without a statement there is nothing else either."""

    statement: str
    body: str = ""
    tags: tuple[str, ...] = ()

    @property
    def right_to_left(self) -> bool:
        directions = (unicodedata.bidirectional(character) for character in self.statement)
        return next((each for each in directions if each in {"L", "R", "AL"}), "L") != "L"


def read_post(post: str, can_draw: Callable[[str], bool]) -> Wording:
    """`can_draw` tells whether there is a glyph for a character."""
    text = _URL.sub("", re.sub(r"[^\S\n]+", " ", post[:_READ_AT_MOST]))
    drawable = _drawable(text, can_draw)
    if _letters(drawable) * 2 < _letters(text):
        return Wording("")  # in a script we have no letters for: what is left would be nonsense

    paragraphs, tags = _without_tags(_paragraphs(drawable))
    if not paragraphs:
        return Wording(" ".join(tags))
    statement, body = _divide("\n".join(_INLINE_HASH.sub("", each) for each in paragraphs))
    return Wording(statement, body, tags)


def _drawable(text: str, can_draw: Callable[[str], bool]) -> str:
    kept: list[str] = []
    for character in text:
        if character.isspace():
            kept.append("\n" if character == "\n" else " ")
            continue
        follows_a_letter = bool(kept) and (kept[-1].isalpha() or _is_mark(kept[-1]))
        if character in _JOINERS and follows_a_letter:
            kept.append(character)
            continue
        # What 𝗯𝗼𝗹𝗱 and ﬁ stand for will do where the font has not got themselves.
        for form in (character, unicodedata.normalize("NFKC", character)):
            if all(_is_visible(each) and can_draw(each) for each in form):
                kept.extend(form if follows_a_letter or not _is_mark(form[0]) else "")
                break
    return "".join(kept)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _is_visible(character: str) -> bool:
    is_variation_selector = "\ufe00" <= character <= "\ufe0f"
    return unicodedata.category(character)[0] != "C" and not is_variation_selector


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _paragraphs(text: str) -> list[str]:
    text = _APOSTROPHE.sub("’", text.replace("...", "…"))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return [line for line in lines if _letters(line)]


def _without_tags(paragraphs: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Part the hashtags a post ends with from what it says; an @mention before them is said."""
    words = [(word, index) for index, line in enumerate(paragraphs) for word in line.split()]
    end = len(words)
    while end and _TAG.match(words[end - 1][0]):
        end -= 1
    while end < len(words) and words[end][0][0] == "@":
        end += 1
    said = [
        " ".join(word for word, where in words[:end] if where == index)
        for index in range(len(paragraphs))
    ]
    tags = (word.rstrip(".,;!") for word, _ in words[end:] if word[0] == "#")
    return [line for line in said if line], tuple(dict.fromkeys(tags))[:_TAGS]


def _divide(text: str) -> tuple[str, str]:
    """A statement and the body that follows it, if not all of the text is short enough."""
    if len(text) <= _ALL_LARGE:
        quotation, _, last_line = text.rpartition("\n")
        is_signed = quotation and last_line[0] in "-–—"
        return (quotation, last_line) if is_signed else (text, "")
    end = _end_of_statement(text)
    statement, body = text[:end].rstrip(), text[end:].strip()
    goes_on = statement.rstrip(_CLOSING)[-1:] not in tuple(".!?…।؟")
    if body and goes_on and text[end] != "\n":
        statement = statement.rstrip(",;:،–— ") + "…"
    return statement, body[:_BODY] + ("…" if len(body) > _BODY else "")


def _end_of_statement(text: str) -> int:
    first_line = text.find("\n") if "\n" in text else len(text)
    if first_line <= _STATEMENT:
        return first_line
    sentences = [found.end() for found in _SENTENCE_END.finditer(text, 0, first_line)]
    sentences.append(first_line)
    if sentences[0] <= _LONG_SENTENCE:
        return max((end for end in sentences if end <= _STATEMENT), default=sentences[0])
    clauses = [found.end() for found in _CLAUSE_END.finditer(text, _STATEMENT // 3, _STATEMENT)]
    last_space = text.rfind(" ", 0, _STATEMENT)
    return clauses[-1] if clauses else last_space if last_space > 0 else _STATEMENT
