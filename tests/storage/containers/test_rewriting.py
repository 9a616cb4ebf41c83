"""What is true of every file that is rewritten, whatever its format."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.containers import Rewritten, rewrite
from storage.errors import CorruptFile, Rejected, UnsupportedMediaType
from tests.storage.containers.seeds import (
    MARK,
    TRAILING,
    info,
    orientation_of,
    shown,
)
from tests.storage.containers.specimens import (
    Specimen,
    animated_webps,
    apngs,
    gifs,
    jpegs,
    pillow_pngs,
    pngs,
    specimens,
    webps,
)

thorough = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
hostile = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def attempt(data: bytes) -> Rewritten | None:
    """None for a refusal by one of the named errors; anything else raised is a bug."""
    try:
        return rewrite(data)
    except Rejected:
        return None


def assert_only_the_picture_comes_out(specimen: Specimen) -> None:
    rewritten = rewrite(specimen.data + TRAILING)

    assert shown(rewritten.data) == shown(specimen.data)
    assert rewritten.media_type == specimen.media_type
    assert rewritten.orientation == orientation_of(rewritten.data) == specimen.orientation
    assert (rewritten.width, rewritten.height) == shown(specimen.data)[0].size
    assert rewritten.frames == len(shown(specimen.data))
    assert info(rewritten.data, "loop") == info(specimen.data, "loop")
    assert info(rewritten.data, "icc_profile") == specimen.icc
    assert rewritten.has_icc == (specimen.icc is not None)
    assert MARK not in rewritten.data


@thorough
@given(jpegs())
def test_of_a_jpeg_only_the_picture_comes_out(specimen: Specimen) -> None:
    assert_only_the_picture_comes_out(specimen)


@thorough
@given(pngs() | pillow_pngs())
def test_of_a_png_only_the_picture_comes_out(specimen: Specimen) -> None:
    assert_only_the_picture_comes_out(specimen)


@thorough
@given(apngs())
def test_of_an_animated_png_only_the_pictures_come_out(specimen: Specimen) -> None:
    assert_only_the_picture_comes_out(specimen)


@thorough
@given(webps())
def test_of_a_webp_only_the_picture_comes_out(specimen: Specimen) -> None:
    assert_only_the_picture_comes_out(specimen)


@thorough
@given(animated_webps())
def test_of_an_animated_webp_only_the_pictures_come_out(specimen: Specimen) -> None:
    assert_only_the_picture_comes_out(specimen)


@thorough
@given(gifs())
def test_of_a_gif_only_the_pictures_come_out(specimen: Specimen) -> None:
    assert_only_the_picture_comes_out(specimen)


@thorough
@given(specimens)
def test_rewriting_twice_changes_nothing_more(specimen: Specimen) -> None:
    once = rewrite(specimen.data)

    twice = rewrite(once.data)

    assert twice.data == once.data


@thorough
@given(specimens)
def test_a_view_of_bytes_is_as_good_as_bytes(specimen: Specimen) -> None:
    view = memoryview(b"before" + specimen.data)[6:]

    assert rewrite(view) == rewrite(specimen.data)


@thorough
@given(specimens)
def test_a_file_that_ends_at_any_tenth_is_refused(specimen: Specimen) -> None:
    for tenth in range(1, 10):
        cut = specimen.data[: len(specimen.data) * tenth // 10]

        with pytest.raises((CorruptFile, UnsupportedMediaType)):
            rewrite(cut)


@hostile
@given(specimens, st.data())
def test_a_file_that_ends_before_its_end_is_refused(
    specimen: Specimen, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, len(specimen.data) - 1))

    with pytest.raises((CorruptFile, UnsupportedMediaType)):
        rewrite(specimen.data[:length])


@hostile
@given(specimens, st.data())
def test_damaged_bytes_are_refused_by_name_or_rewritten_for_good(
    specimen: Specimen, data: st.DataObject
) -> None:
    damaged = bytearray(specimen.data)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged)))
        removed = data.draw(st.integers(0, 4))
        damaged[at : at + removed] = data.draw(st.binary(max_size=4))

    once = attempt(bytes(damaged))

    assert once is None or rewrite(once.data).data == once.data


@hostile
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x40\0\0\0WEBP", b"RIFF"]
    ),
    st.binary(max_size=100),
)
def test_noise_is_refused_by_name(signature: bytes, noise: bytes) -> None:
    assert attempt(signature + noise) is None
