"""Words into lines: the largest size that fits, and lines of even length.

Widths are in em, that is, as if the type were one pixel large; whoever sets the type measures it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

Measure = Callable[[str], float]

_STEP = 0.95  # from one size to the next smaller one
_WORTH_A_FLAW = 0.8  # of the largest size: to set lines without a flaw, go down to this
_PARAGRAPH_GAP = 0.45  # em, on top of the leading
_PAUSES, _PAUSE_EASE = ".:!?…", 0.7  # a line that ends there may be shorter
_THAI_BREAK = re.compile("(?<=[ะำๆฯ])(?=[ก-ฮ])|(?<=[ก-๎])(?<![เ-ไ])(?=[เ-ไ])")


@dataclass(frozen=True, slots=True)
class Area:
    """Where type may stand, in pixels, and in how many lines at most."""

    width: float
    height: float
    max_lines: int


@dataclass(frozen=True, slots=True)
class Block:
    """Set type: lines and, in pixels below the first line's, their baselines."""

    size: float
    lines: tuple[str, ...]
    baselines: tuple[float, ...]
    is_whole: bool

    @property
    def has_flaw(self) -> bool:
        """Whether the last word stands alone, or a dash or the like at the end of a line."""
        has_widow = len(self.lines) > 1 and len(_words(self.lines[-1])) == 1
        return has_widow or any(_dangles(_words(line)[-1]) for line in self.lines[:-1])

    @property
    def height(self) -> float:
        """From the first line's top to the last line's bottom, at one em a line."""
        return self.baselines[-1] + self.size if self.lines else 0.0


def fit(
    text: str, area: Area, measure: Measure, *, largest: float, smallest: float, leading: float
) -> Block:
    """The text as large as it fits; at the smallest size, as much of it as fits, and an ellipsis.

    Somewhat smaller, if that saves the lines from a flaw. No lines, if not even one letter fits.
    `leading` is from baseline to baseline, in em, 1 or more; `\\n` parts paragraphs.
    """
    size = min(largest, _upper_bound(text, area, measure))
    flawed = None
    while size > max(smallest, flawed.size * _WORTH_A_FLAW if flawed else 0.0):
        block = _set(text, size, area, measure, leading, break_words=False)
        if block and not block.has_flaw:
            return block
        flawed = flawed or block
        size *= _STEP
    if flawed:
        return flawed
    if block := _set(text, smallest, area, measure, leading, break_words=True):
        return block
    return _shortened(text, smallest, area, measure, leading)


def _upper_bound(text: str, area: Area, measure: Measure) -> float:
    """The size at which the words would cover all of the area: no larger one needs to be tried."""
    ems = sum(map(measure, text.split()))
    return math.sqrt(area.width * max(area.height, 0.0) / ems) if ems else math.inf


def break_lines(words: list[str], width: float, measure: Measure) -> list[str]:
    """As few lines as possible; then no dash at a line's end, no lone last word; then even lines.

    A word brings along the space after it, if any. One wider than `width` has its own line.
    """
    widths = [measure(word) for word in words]
    spaces = [whole - measure(word.rstrip()) for whole, word in zip(widths, words, strict=True)]
    # The best way to set all words from this one on, and where its first line ends. It is made of
    # the best ways to set what follows that line: hence from the last word to the first.
    best = [(_Badness(), len(words))] * (len(words) + 1)
    for start in reversed(range(len(words))):
        used = 0.0
        choices: list[tuple[_Badness, int]] = []
        for end in range(start + 1, len(words) + 1):
            used += widths[end - 1]
            slack = width - used + spaces[end - 1]
            if slack < 0 and choices:
                break
            last_word, (rest, _) = words[end - 1].rstrip(), best[end]
            is_widow = 0 < start == len(words) - 1
            dangles = end < len(words) and _dangles(last_word)
            ease = _PAUSE_EASE if last_word[-1:] in _PAUSES else 1.0
            badness = _Badness(
                lines=rest.lines + 1,
                flaws=rest.flaws + is_widow + 2 * dangles,
                ragged=rest.ragged + ease * slack**2,
            )
            choices.append((badness, end))
        best[start] = min(choices)

    breaks = [0]
    while breaks[-1] < len(words):
        breaks.append(best[breaks[-1]][1])
    return ["".join(words[start:end]).rstrip() for start, end in pairwise(breaks)]


class _Badness(NamedTuple):
    """What is worse in an earlier field cannot be made good in a later one."""

    lines: int = 0
    flaws: int = 0
    ragged: float = 0.0


def _set(
    text: str, size: float, area: Area, measure: Measure, leading: float, *, break_words: bool
) -> Block | None:
    width = area.width / size
    lines: list[str] = []
    baselines: list[float] = []
    for number, paragraph in enumerate(text.split("\n")):
        words = _words(paragraph)
        if break_words:
            words = [piece for word in words for piece in _pieces(word, width, measure)]
        if any(measure(word.rstrip()) > width for word in words):
            return None
        for line_number, line in enumerate(break_lines(words, width, measure)):
            opens_paragraph = number > 0 and line_number == 0
            step = leading + _PARAGRAPH_GAP * opens_paragraph
            baselines.append(baselines[-1] + step * size if lines else 0.0)
            lines.append(line)
    block = Block(size, tuple(lines), tuple(baselines), is_whole=True)
    fits = block.height <= area.height and len(lines) <= area.max_lines
    return block if fits else None


def _shortened(text: str, size: float, area: Area, measure: Measure, leading: float) -> Block:
    def shortened_to(end: int) -> Block | None:
        start = text[:end].rstrip(" \n.,;:!?-–—…")
        return _set(f"{start}…", size, area, measure, leading, break_words=True)

    word_ends = [found.end() for found in re.finditer(r"\S+", text)]
    for ends in (word_ends, range(1, len(text) + 1)):
        count = bisect_left(ends, True, key=lambda end: shortened_to(end) is None)
        if count and (block := shortened_to(ends[count - 1])):
            return Block(block.size, block.lines, block.baselines, is_whole=False)
    return Block(size, (), (), is_whole=False)


def _dangles(word: str) -> bool:
    return not any(map(str.isalnum, word))


def _words(paragraph: str) -> list[str]:
    """Each with the space after it; Thai sets none, so there a syllable that starts is a chance."""
    words = re.findall(r"\S+\s*", paragraph)
    return [part for word in words for part in _THAI_BREAK.split(word)]


def _pieces(word: str, width: float, measure: Measure) -> Iterator[str]:
    """The word, cut wherever the next letter would be too much."""
    piece, used = "", 0.0
    for letter in _letters(word):
        more = measure(letter.rstrip())
        if piece and used + more > width:
            yield piece
            piece, used = "", 0.0
        piece, used = piece + letter, used + more
    yield piece


def _letters(word: str) -> Iterator[str]:
    """Each with the marks, joiners and spaces that follow it."""
    letter = ""
    for character in word:
        if letter and unicodedata.category(character)[0] not in "MCZ":
            yield letter
            letter = ""
        letter += character
    yield letter
