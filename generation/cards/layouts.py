"""What a card looks like: each layout paints its ground, then its ornament, and frames the words.

Only a palette's grounds come where words may be. Drawn for scripts read from the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

from generation.cards.canvas import Canvas, Point, disc, rectangle, ring, sector
from generation.cards.palette import Color, Palette


@dataclass(frozen=True, slots=True)
class Frame:
    """Where words go: pixels from the canvas' top left. Tags stand on the bottom line."""

    left: float
    top: float
    right: float
    bottom: float
    anchor: Literal["top", "middle", "bottom"]
    is_centered: bool = False
    tags_follow: bool = False
    """The tags come right after the text, not on the bottom line."""


Layout = Callable[[Canvas, Palette, bool], Generator[str, None, Frame]]
"""Called with whether there are words. Yields the stages' names and returns the Frame."""


def rings(canvas: Canvas, palette: Palette, has_words: bool) -> Generator[str, None, Frame]:
    """A large statement; from the far corner, rings spread like a sound."""
    width, height, unit = canvas.width, canvas.height, canvas.unit
    canvas.gradient(palette.paper, palette.paper, degrees=0)
    yield "background"

    core = unit * (0.15 if has_words else 0.26)
    center = (width, height) if has_words else (width * 0.5, height * 0.5)
    gap = unit * canvas.rng.uniform(0.075, 0.1)
    for number in range(6, 0, -1):
        radius = core + gap * number
        canvas.shape(ring(center, radius, gap * 0.5), palette.shade, opacity=1 - number * 0.1)
    canvas.shape(disc(center, core), palette.accent)
    canvas.shape(disc(center, core * 0.42), palette.second)
    yield "ornament"

    left, top = _margins(canvas)
    if _is_wide(canvas):
        return Frame(left, top, width - core - left * 0.6, height - top, "middle")
    return Frame(left, top, width - left, height - max(top, core + left * 0.5), "top")


def circles(canvas: Canvas, palette: Palette, has_words: bool) -> Generator[str, None, Frame]:
    """A centred text over large soft circles."""
    width, height, unit = canvas.width, canvas.height, canvas.unit
    rng = canvas.rng
    canvas.gradient(palette.paper, palette.glow, degrees=rng.uniform(-60, 60))
    yield "background"

    upper = (width * rng.uniform(0.0, 0.2), height * rng.uniform(0.0, 0.2))
    lower = (width * rng.uniform(0.8, 1.0), height * rng.uniform(0.8, 1.0))
    canvas.shape(disc(upper, unit * rng.uniform(0.42, 0.55)), palette.shade, opacity=0.65)
    canvas.shape(disc(lower, unit * rng.uniform(0.48, 0.6)), palette.flare, opacity=0.6)
    canvas.shape(disc(lower, unit * rng.uniform(0.26, 0.34)), palette.shade, opacity=0.7)
    corner = unit * (0.12 if has_words else 0.3)
    canvas.shape(disc((width, 0), corner), palette.accent)
    canvas.shape(disc((0, height), corner * 0.62), palette.second)
    yield "ornament"

    left, top = _margins(canvas)
    return Frame(left * 1.25, top * 1.2, width - left * 1.25, height - top * 1.2, "middle", True)


def tiles(canvas: Canvas, palette: Palette, has_words: bool) -> Generator[str, None, Frame]:
    """A wall of geometric tiles, and the words below or beside it."""
    width, height = canvas.width, canvas.height
    canvas.gradient(palette.paper, palette.paper, degrees=0)
    yield "background"

    if _is_wide(canvas):
        rows = 2 if width > 2.4 * height else 3
        side = height / rows
        columns = max(1, round(0.34 * width / side)) if has_words else math.ceil(width / side)
        start = width - columns * side if has_words else 0.0
    else:
        columns = 5 if height < 1.15 * width else 4
        side = width / columns
        rows = max(1, round(0.4 * height / side)) if has_words else math.ceil(height / side)
        start = 0.0
    for row in range(rows):
        for column in range(columns):
            _tile(canvas, palette, start + column * side, row * side, side)
    yield "ornament"

    left, top = _margins(canvas)
    if _is_wide(canvas):
        return Frame(left, top, start - left * 0.8, height - top, "bottom")
    return Frame(left, rows * side + left * 0.8, width - left, height - top, "bottom")


def dunes(canvas: Canvas, palette: Palette, has_words: bool) -> Generator[str, None, Frame]:
    """A sun over hills, and the words in the sky."""
    width, height, unit, rng = canvas.width, canvas.height, canvas.unit, canvas.rng
    canvas.gradient(palette.paper, palette.glow, degrees=0)
    yield "background"

    land = 0.5 if not has_words else 0.32 if width > 2.4 * height else 0.38
    skyline = height * (1 - land)
    swell = min(height * land * 0.16, unit * 0.05)
    radius = min(unit * 0.16, height * land * 0.5)
    sun = (width * rng.uniform(0.66, 0.82), skyline + radius * 0.75 + swell)
    canvas.shape(disc(sun, radius), palette.accent)
    colors = [_mix(palette.second, palette.shade, part) for part in (0.55, 0.3, 0.0)]
    colors.append(_mix(palette.second, palette.ink, 0.45))
    for number, color in enumerate(colors):
        level = skyline + radius + swell + (height - skyline - radius) * number / len(colors) * 0.9
        canvas.shape(_hill(canvas, level, swell, rng.uniform(0, 2 * math.pi)), color)
    yield "ornament"

    left, top = _margins(canvas)
    return Frame(left, top, width - left, skyline - left * 0.2, "top", tags_follow=True)


def aurora(canvas: Canvas, palette: Palette, has_words: bool) -> Generator[str, None, Frame]:
    """Northern lights behind a thin frame."""
    width, height, rng = canvas.width, canvas.height, canvas.rng
    canvas.gradient(palette.paper, palette.shade, degrees=rng.uniform(-40, 40))
    reach, turn = max(width, height), rng.choice((-1, 1))
    for color, across, size in (
        (palette.glow, 0.5, 0.75),
        (palette.flare, 1.0, 0.6),
        (palette.shade, -0.1, 0.4),
        (palette.glow, 0.1, 0.45),
    ):
        down = 0.5 + turn * (across - 0.5) * rng.uniform(0.5, 1.1)
        center = (width * (across + rng.uniform(-0.15, 0.15)), height * down)
        canvas.glow(center, reach * size * rng.uniform(0.85, 1.15), color)
    yield "background"

    left, top = _margins(canvas)
    inset, line = round(left * 0.36), max(1, round(canvas.unit * 0.0022))
    inner = height - 2 * (inset + line)
    for x, y, across, down in (
        (inset, inset, width - 2 * inset, line),
        (inset, height - inset - line, width - 2 * inset, line),
        (inset, inset + line, line, inner),
        (width - inset - line, inset + line, line, inner),
    ):
        canvas.shape(rectangle(x, y, across, down), palette.ink, opacity=0.45)
    if not has_words:
        center, radius = (width / 2, height / 2), min(width, height) * 0.24
        canvas.shape(disc(center, radius), palette.accent)
        canvas.shape(disc((center[0] + radius * 0.5, center[1]), radius * 0.7), palette.second)
    yield "ornament"

    return Frame(left * 1.3, top * 1.2, width - left * 1.3, height - top * 1.2, "bottom")


LAYOUTS: tuple[Layout, ...] = (rings, circles, tiles, dunes, aurora)


def _is_wide(canvas: Canvas) -> bool:
    return canvas.width > 1.15 * canvas.height


def _margins(canvas: Canvas) -> tuple[float, float]:
    """At the sides, and at top and bottom, where apps cover parts of a full-screen story."""
    side = min(canvas.unit * 0.085, min(canvas.width, canvas.height) * 0.12)
    is_story = canvas.height >= 1.6 * canvas.width
    return side, max(side, canvas.height * 0.12) if is_story else side


def _tile(canvas: Canvas, palette: Palette, x: float, y: float, side: float) -> None:
    rng = canvas.rng
    ground, figure = rng.sample(
        (palette.accent, palette.second, palette.ink, palette.shade, palette.glow), 2
    )
    canvas.shape(rectangle(x, y, side, side), ground)
    corners: list[Point] = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    turn = rng.randrange(4)
    corner, across, start = corners[turn], corners[turn - 2], turn * 90.0
    middle = (x + side / 2, y + side / 2)
    match rng.randrange(6):
        case 0:
            canvas.shape(sector(corner, side, start, start + 90), figure)
        case 1:
            canvas.shape(disc(middle, side * 0.3), figure)
        case 2:
            half = sector(middle, side / 2, start, start + 180)
            canvas.shape(half, figure)
        case 3:
            canvas.shape([corner, corners[turn - 1], corners[turn - 3]], figure)
        case 4:
            canvas.shape(sector(corner, side / 2, start, start + 90), figure)
            canvas.shape(sector(across, side / 2, start + 180, start + 270), figure)
        case _:
            canvas.shape(sector(corner, side, start, start + 90), figure)
            canvas.shape(sector(corner, side * 0.62, start, start + 90), ground)
            canvas.shape(sector(corner, side * 0.28, start, start + 90), figure)


def _hill(canvas: Canvas, level: float, swell: float, phase: float) -> list[Point]:
    """All below a gentle wave around `level`."""
    width, height = canvas.width, canvas.height
    waves = canvas.rng.uniform(0.7, 1.3) * max(1.0, width / height)
    steps = 96
    crest = [
        (
            width * step / steps,
            level
            + swell * math.sin(phase + 2 * math.pi * waves * step / steps)
            + swell * 0.35 * math.sin(2.3 * phase + 4.6 * math.pi * waves * step / steps),
        )
        for step in range(steps + 1)
    ]
    return [*crest, (width, height), (0, height)]


def _mix(one: Color, other: Color, part: float) -> Color:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue
