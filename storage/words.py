"""Words: what a text is found by, and what is looked for.

They are made here, in one way for both databases and both sides, so that neither database's own
idea of a word matters: lower case, without accents, letters, digits and signs like emoji. Scripts
that set no spaces are found sign by sign.
"""

import unicodedata
from functools import cache

MAX_WORD = 64
"""Of a longer word only this much counts, in the text as in the search."""

SINGLE = (
    (0x0E00, 0x0EFF),
    (0x2E80, 0x312F),
    (0x31A0, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Thai and Lao, kana, Bopomofo and Han: each sign is a word."""


def fold(*texts: str | None) -> str:
    """Lower case, without accents, words apart by one space."""
    joined = unicodedata.normalize("NFKD", " ".join(text for text in texts if text))
    joined = joined.replace("\0", "")  # which no database keeps
    bare = "".join(sign for sign in joined if not unicodedata.combining(sign))
    return " ".join(bare.casefold().split())


def words_of(*texts: str | None) -> list[str]:
    """In their order, as often as they occur."""
    spaced = "".join(_apart(sign) for sign in fold(*texts))
    return [word[:MAX_WORD] for word in spaced.split()]


@cache
def _apart(sign: str) -> str:
    """The sign as part of a word, as a word of its own, or as what is between words."""
    code, category = ord(sign), unicodedata.category(sign)
    if any(first <= code <= last for first, last in SINGLE) and category[0] in "LMN":
        return f" {sign} "
    if sign.isalnum() or category[0] == "M":
        return sign
    if category[0] == "S" and code > 127:
        return f" {sign} "
    return " "
