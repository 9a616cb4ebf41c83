"""Colours: as asked for, and readable."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.cards.palette import READABLE, Color, contrast, pick_palette, to_srgb


def test_black_on_white_has_the_highest_contrast() -> None:
    black, white = (0, 0, 0), (255, 255, 255)

    ratios = [contrast(black, white), contrast(white, black), contrast(white, white)]

    assert ratios == pytest.approx([21, 21, 1])


def test_the_lightness_of_oklch_runs_from_black_to_white() -> None:
    grays = [to_srgb(lightness, 0, 0) for lightness in (0, 0.5, 1)]

    assert grays == [(0, 0, 0), (99, 99, 99), (255, 255, 255)]


def test_the_red_of_oklch_is_the_red_of_srgb() -> None:
    red = to_srgb(0.62796, 0.25768, 29.234)

    assert red == (255, 0, 0)


def test_a_colour_no_screen_can_show_keeps_its_lightness() -> None:
    shown, impossible = to_srgb(0.6, 0, 140), to_srgb(0.6, 0.9, 140)

    assert impossible != shown
    assert contrast(shown, impossible) < 1.25


@given(
    seed=st.integers(), variation=st.integers(0, 20), parts=st.lists(st.floats(0, 1), min_size=3)
)
@settings(max_examples=300)
def test_ink_is_readable_on_any_mixture_of_the_grounds(
    seed: int, variation: int, parts: list[float]
) -> None:
    palette = pick_palette(Random(seed), variation)

    ground = palette.paper
    for number, part in enumerate(parts):
        ground = mixed(ground, palette.grounds[number % len(palette.grounds)], part)

    assert contrast(palette.ink, ground) >= READABLE
    assert contrast(palette.quiet, ground) >= READABLE


@given(seed=st.integers())
def test_the_first_ten_variations_are_ten_palettes(seed: int) -> None:
    palettes = {pick_palette(Random(seed), variation) for variation in range(10)}

    assert len(palettes) == 10


def mixed(one: Color, other: Color, part: float) -> Color:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue
