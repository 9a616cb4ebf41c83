"""Words: what a text is found by, and what is looked for.

They are made here, in one way for both databases and both sides, so that neither database's own
idea of a word matters: lower case, without accents, letters, digits and signs like emoji. Signs
that nobody sees are left out: they neither divide a word nor hide one. Scripts that set no spaces
are found sign by sign.
"""

import unicodedata
from functools import cache

MAX_WORD = 64
"""Of a longer word only this much counts, in the text as in the search."""

SCOPE = 33
"""Signs that every word stands behind in the text indexes, see `storage.inverted`."""

MAX_INDEXED = 2**19 - 1
"""Bytes that the words of one text may take in an index, each once and behind its scope.

Both texts of an image then fit in one `tsvector` of PostgreSQL, which takes 2**20 - 1 and refuses
the row with more. Nobody writes as much for others to read: there is room for 14,563 different Han
signs, or 12,000 different English words.
"""

MAX_NAME = 2400
"""Bytes of a folded filename that are kept.

So many fit in an entry of PostgreSQL's indexes (2,704) beside two ids. 255 Hangul syllables, which
folding takes apart, have 2,295. Only signs that stand for whole words can have more.
"""

SINGLE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x312F),  # Han, kana, Bopomofo
    (0x31A0, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Burmese
    (0xAA60, 0xAADF),  # Burmese, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0x11700, 0x1174F),  # Ahom
    (0x1B000, 0x1B16F),  # kana
    (0x20000, 0x3FFFF),  # Han
)
"""Scripts without spaces, of which each sign is a word: those of Chinese and Japanese, and those of
which Unicode says that only a dictionary tells their words apart (class SA,
https://www.unicode.org/reports/tr14/#SA). Tibetan is none of them: it divides its syllables.
"""

UNSEEN = (
    (0x0000, 0x0000),
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""NUL, which no database keeps, and what Unicode wants ignored where it cannot be shown
(Default_Ignorable_Code_Point, https://www.unicode.org/reports/tr44/): soft hyphens, joiners,
marks of direction, and the variation selectors that phones put behind emoji.

With its joiners an emoji of several is found by each of them, and a Persian or Sinhala word is the
same written with a joiner or without, and begins with what stands before it.
"""


def fold(*texts: str | None) -> str:
    """Lower case, without accents and signs that nobody sees, words apart by one space."""
    joined = unicodedata.normalize("NFKD", " ".join(text for text in texts if text))
    bare = "".join(map(_bare, joined))
    return " ".join(bare.casefold().split())


def words_of(*texts: str | None) -> list[str]:
    """In their order, as often as they occur; those of a text beyond `MAX_INDEXED` are left out."""
    words: list[str] = []
    known: set[str] = set()
    room = MAX_INDEXED
    for part in "".join(map(_apart, fold(*texts))).split():
        word = part[:MAX_WORD]
        if word not in known:
            room -= SCOPE + len(word.encode())
            if room < 0:
                break
            known.add(word)
        words.append(word)
    return words


@cache
def _bare(sign: str) -> str:
    """Nothing of accents, of what encloses other signs, and of what nobody sees."""
    is_borne = unicodedata.combining(sign) or unicodedata.category(sign) == "Me"
    return "" if is_borne or _is_in(UNSEEN, sign) else sign


@cache
def _apart(sign: str) -> str:
    """The sign as part of a word, as a word of its own, or as what is between words."""
    category = unicodedata.category(sign)
    if category[0] in "LMN" and _is_in(SINGLE, sign):
        return f" {sign} "
    if sign.isalnum() or category[0] == "M":
        return sign
    if category[0] == "S" and ord(sign) > 127:
        return f" {sign} "
    return " "


def _is_in(ranges: tuple[tuple[int, int], ...], sign: str) -> bool:
    return any(first <= ord(sign) <= last for first, last in ranges)
