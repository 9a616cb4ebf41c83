"""ThumbHash, held against the reference implementation (thumbhash 0.1.1 on npm)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage.thumbhash import thumbhash
from tests.pictures import photo


def half_transparent() -> Image.Image:
    picture = photo(32, 32).convert("RGBA")
    picture.putalpha(photo(32, 32, seed=101).convert("L"))
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(photo(32, 24), "20c8052d8a2e7dad4b43a968dba3798fb9707d69fa", id="landscape"),
        pytest.param(photo(18, 32), "20c8052c0a2ebd3484b69af7287ab9707d69fa", id="portrait"),
        pytest.param(photo(32, 1), "1fb83d119278888888880887fe887677f8", id="a line"),
        pytest.param(
            half_transparent(),
            "1fb8851d04083d7b5b4368aaf9a9707c58fabfa47c986a63a6",
            id="half transparent",
        ),
        pytest.param(
            Image.new("RGBA", (10, 10), (0, 0, 0, 0)),
            "00088205000000000000000000000000000000000000000000",
            id="transparent",
        ),
    ],
)
def test_the_hash_is_that_of_the_reference_implementation(
    picture: Image.Image, expected: str
) -> None:
    assert thumbhash(picture).hex() == expected


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "F"]


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 9),
)
def test_any_picture_has_a_hash_of_5_to_25_bytes(
    width: int, height: int, mode: str, seed: int
) -> None:
    picture = photo(width, height, seed=seed).convert("L").convert(mode)

    assert 5 <= len(thumbhash(picture)) <= 25


@given(color=st.tuples(*[st.integers(0, 255)] * 4), size=st.tuples(*[st.integers(1, 40)] * 2))
def test_a_picture_of_one_color_has_a_hash_too(
    color: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    assert 5 <= len(thumbhash(Image.new("RGBA", size, color))) <= 25


def test_a_hash_says_whether_its_picture_lies_or_stands() -> None:
    lying, standing = thumbhash(photo(320, 240)), thumbhash(photo(240, 320))

    assert (lying[4] >> 7, standing[4] >> 7) == (1, 0)


def test_a_larger_picture_has_nearly_the_same_hash() -> None:
    small, large = thumbhash(photo(32, 24)), thumbhash(photo(1280, 960))

    assert small[:3] == large[:3]
    assert len(small) == len(large)
