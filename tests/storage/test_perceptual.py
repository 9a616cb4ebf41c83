"""Pictures that look alike have hashes that differ in few bits."""

from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from storage.perceptual import perceptual_hash
from tests.pictures import encoded, opened, photo

ALIKE = 10  # bits of 64, at most
OTHER = 16  # at least; by chance it is 32


def apart(one: Image.Image, other: Image.Image) -> int:
    return (int(perceptual_hash(one), 16) ^ int(perceptual_hash(other), 16)).bit_count()


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 100, height // 100, width - width // 100, height))


@given(width=st.integers(1, 100), height=st.integers(1, 100), mode=st.sampled_from(["RGB", "RGBA"]))
@settings(deadline=None)
def test_every_picture_has_a_hash_of_16_digits(width: int, height: int, mode: str) -> None:
    digits = perceptual_hash(photo(width, height).convert(mode))

    assert len(digits) == 16
    assert digits == f"{int(digits, 16):016x}"


def test_the_same_pixels_have_the_same_hash() -> None:
    assert perceptual_hash(photo()) == perceptual_hash(photo())


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda picture: picture.resize((160, 120)), id="half as large"),
        pytest.param(lambda picture: picture.resize((1280, 960)), id="four times as large"),
        pytest.param(lambda picture: picture.resize((320, 200)), id="squeezed"),
        pytest.param(lambda picture: opened(encoded(picture, "JPEG", quality=30)), id="JPEG at 30"),
        pytest.param(lambda picture: opened(encoded(picture, "WEBP", quality=30)), id="WebP at 30"),
        pytest.param(lambda picture: opened(encoded(picture, "AVIF", quality=40)), id="AVIF at 40"),
        pytest.param(lambda picture: picture.convert("L"), id="grey"),
        pytest.param(lambda picture: picture.convert("P"), id="few colours"),
        pytest.param(lambda picture: ImageEnhance.Brightness(picture).enhance(0.8), id="darker"),
        pytest.param(lambda picture: ImageEnhance.Contrast(picture).enhance(0.7), id="softer"),
        pytest.param(cropped, id="a little cropped"),
    ],
)
def test_what_looks_alike_differs_in_few_bits(
    change: Callable[[Image.Image], Image.Image], seed: int
) -> None:
    picture = photo(seed=seed)

    assert apart(picture, change(picture)) <= ALIKE


def test_what_looks_different_differs_in_many_bits() -> None:
    pictures = [photo(seed=seed) for seed in range(20)]

    distances = [apart(one, other) for one, other in combinations(pictures, 2)]

    assert min(distances) >= OTHER
    assert 28 <= sum(distances) / len(distances) <= 36


@pytest.mark.parametrize(
    "method", [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180], ids=["mirror", "turn"]
)
def test_a_picture_the_other_way_round_is_another(method: Image.Transpose) -> None:
    assert apart(photo(), photo().transpose(method)) >= OTHER
