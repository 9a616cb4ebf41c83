"""The shapes of pictures, for providers that are told a ratio such as `16:9` rather than a size."""

import math
from collections.abc import Sequence

from generation.provider import Size
from storage.errors import Rejected

STEP = 8
"""Pixels: the sides of pictures that diffusion models make are multiples of it."""

TOLERANCE = 4 / 3
"""How much longer than the nearest shape a wish may be; the gaps between shapes are narrower."""


def value_of(ratio: str) -> float:
    """Width by height."""
    width, height = ratio.split(":")
    return int(width) / int(height)


def size_of(ratio: float, pixels: int) -> Size:
    """The size with `pixels` in all, or nearly."""
    width = math.sqrt(pixels * ratio)
    return round(width / STEP) * STEP, round(width / ratio / STEP) * STEP


def nearest(ratios: Sequence[str], width: int, height: int) -> str:
    """The shape that comes closest, where twice as wide is as far away as twice as high.

    Raises Rejected for what is more than a third longer than all of them.
    """
    wished = width / height

    def distance(ratio: str) -> float:
        return abs(math.log(wished / value_of(ratio)))

    found = min(ratios, key=distance)
    if distance(found) > math.log(TOLERANCE):
        is_wide = wished > value_of(found)
        long, short = ("wide", "high") if is_wide else ("high", "wide")
        limit = max(value_of(found), 1 / value_of(found)) * TOLERANCE
        actual = max(width, height) / min(width, height)
        raise Rejected(
            f"A picture may be {limit:.2f} times as {long} as {short} at most, not {actual:.2f}.",
            field="width" if is_wide else "height",
            limit=limit,
            actual=actual,
        )
    return found
