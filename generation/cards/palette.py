"""Colours that go together, picked in OKLCH, with ink that is readable on every one of the grounds.

OKLCH: lightness 0..1, chroma 0..~0.3, hue in degrees. https://bottosson.github.io/posts/oklab/
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

Color = tuple[int, int, int]
"""Red, green, blue of sRGB, 0..255."""

READABLE = 4.5
"""The contrast WCAG 2.2 asks of text. https://www.w3.org/TR/WCAG22/#contrast-minimum"""

_YELLOW = 95.0  # degrees
_ENOUGH = READABLE + 1.0  # what JPEG and rounding cost is less than the difference


@dataclass(frozen=True, slots=True)
class Palette:
    """Words may stand on any mixture of `grounds`; the accents are for where no words are."""

    paper: Color
    glow: Color
    flare: Color
    shade: Color
    accent: Color
    second: Color
    ink: Color
    quiet: Color

    @property
    def grounds(self) -> tuple[Color, ...]:
        return self.paper, self.glow, self.flare, self.shade


@dataclass(frozen=True, slots=True)
class _Mood:
    """Lightness and chroma of each colour."""

    paper: tuple[float, float]
    glow: tuple[float, float]
    flare: tuple[float, float]
    shade: tuple[float, float]
    accent: tuple[float, float]
    second: tuple[float, float]
    ink: tuple[float, float]
    quiet: tuple[float, float]


_MOODS = (
    _Mood(  # fine paper
        paper=(0.955, 0.022),
        glow=(0.925, 0.045),
        flare=(0.92, 0.065),
        shade=(0.910, 0.045),
        accent=(0.64, 0.21),
        second=(0.45, 0.13),
        ink=(0.26, 0.06),
        quiet=(0.46, 0.06),
    ),
    _Mood(  # night
        paper=(0.22, 0.055),
        glow=(0.36, 0.13),
        flare=(0.40, 0.14),
        shade=(0.29, 0.085),
        accent=(0.80, 0.16),
        second=(0.62, 0.18),
        ink=(0.965, 0.02),
        quiet=(0.82, 0.05),
    ),
    _Mood(  # pastel
        paper=(0.875, 0.075),
        glow=(0.91, 0.075),
        flare=(0.87, 0.10),
        shade=(0.82, 0.10),
        accent=(0.60, 0.22),
        second=(0.74, 0.14),
        ink=(0.25, 0.08),
        quiet=(0.40, 0.09),
    ),
    _Mood(  # poster
        paper=(0.47, 0.17),
        glow=(0.44, 0.18),
        flare=(0.50, 0.19),
        shade=(0.41, 0.15),
        accent=(0.87, 0.15),
        second=(0.70, 0.17),
        ink=(0.98, 0.015),
        quiet=(0.93, 0.04),
    ),
)

_HARMONIES = (
    (262.0, 55.0, 15.0),  # hues of ground, accent and second: blue, orange, coral
    (262.0, 92.0, 350.0),  # blue, yellow, pink
    (190.0, 35.0, 90.0),  # teal, coral, yellow
    (155.0, 5.0, 95.0),  # green, pink, yellow
    (290.0, 95.0, 190.0),  # violet, yellow, teal
    (300.0, 50.0, 350.0),  # purple, orange, pink
    (345.0, 85.0, 265.0),  # raspberry, yellow, blue
    (32.0, 85.0, 220.0),  # terracotta, yellow, sky
    (15.0, 195.0, 70.0),  # rose, teal, apricot
    (225.0, 25.0, 80.0),  # petrol, red, amber
)


def pick_palette(rng: Random, variation: int = 0) -> Palette:
    """The same `rng` state gives another palette for each of the first variations."""
    moods, harmonies = list(_MOODS), list(_HARMONIES)
    rng.shuffle(moods)
    rng.shuffle(harmonies)
    drift = rng.uniform(-8, 8)
    mood = moods[variation % len(moods)]
    ground, accent, second = (hue + drift for hue in harmonies[variation % len(harmonies)])

    # Away from yellow, which is mud when it is dark.
    lean = rng.uniform(25, 45) * (1 if _YELLOW < ground < _YELLOW + 180 else -1)
    grounds = (
        to_srgb(*mood.paper, ground),
        to_srgb(*mood.glow, ground + lean),
        to_srgb(*mood.flare, ground + lean * 2),
        to_srgb(*mood.shade, ground - lean / 4),
    )
    return Palette(
        *grounds,
        accent=_clear(*mood.accent, accent),
        second=_clear(*mood.second, second),
        ink=readable(*mood.ink, ground, grounds),
        quiet=readable(*mood.quiet, ground, grounds),
    )


def readable(lightness: float, chroma: float, hue: float, grounds: tuple[Color, ...]) -> Color:
    """The colour, made lighter or darker until it can be read on any mixture of `grounds`.

    Mixing in sRGB is convex in luminance: a mixture is never lighter than its lightest part,
    but it may be darker than its darkest, so there the darkest of each channel is the bound.
    """
    lightest = max(luminance(ground) for ground in grounds)
    red, green, blue = (min(channel) for channel in zip(*grounds, strict=True))
    darkest = luminance((red, green, blue))
    away = 0.01 if _ratio(1.0, lightest) > _ratio(0.0, darkest) else -0.01
    while True:
        ink = to_srgb(lightness, chroma, hue)
        if _ratio(luminance(ink), lightest if away > 0 else darkest) >= _ENOUGH:
            return ink
        if not 0 < lightness < 1:
            return ink
        lightness = min(max(lightness + away, 0.0), 1.0)


def contrast(one: Color, other: Color) -> float:
    """WCAG's ratio, 1..21."""
    return _ratio(luminance(one), luminance(other))


def luminance(color: Color) -> float:
    red, green, blue = (_linear(channel / 255) for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def to_srgb(lightness: float, chroma: float, hue: float) -> Color:
    """The nearest colour a screen can show, of that lightness and hue, less chroma if need be."""
    shown, too_much = 0.0, chroma
    if _is_shown(_oklch_to_linear(lightness, chroma, hue)):
        shown = chroma
    else:
        for _ in range(12):
            middle = (shown + too_much) / 2
            if _is_shown(_oklch_to_linear(lightness, middle, hue)):
                shown = middle
            else:
                too_much = middle
    red, green, blue = _oklch_to_linear(lightness, shown, hue)
    return _channel(red), _channel(green), _channel(blue)


def _clear(lightness: float, chroma: float, hue: float) -> Color:
    """The colour, lighter if it is a yellow."""
    yellow = max(0.0, 1 - abs(hue - _YELLOW) / 35)
    return to_srgb(lightness + max(0.0, 0.84 - lightness) * yellow, chroma, hue)


def _ratio(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a = chroma * math.cos(math.radians(hue))
    b = chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _is_shown(linear: tuple[float, float, float]) -> bool:
    return all(-0.0005 <= channel <= 1.0005 for channel in linear)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _channel(linear: float) -> int:
    clipped = min(max(linear, 0.0), 1.0)
    curved = 12.92 * clipped if clipped <= 0.0031308 else 1.055 * clipped ** (1 / 2.4) - 0.055
    return round(curved * 255)
