"""JPEG: which segments come out, and which files do not."""

import pytest
from PIL import Image

from storage.containers import rewrite
from storage.errors import CorruptFile, UnsupportedMediaType
from tests.storage.containers.seeds import (
    AI_MADE,
    MARK,
    encoded,
    exif,
    info,
    noise,
    profile,
    profile_segments,
    segment,
    shown,
    stuffed_jpeg,
    with_segments,
    xmp,
)

PICTURE = noise("RGB", 20, 10)
PLAIN = encoded(PICTURE, "JPEG")
JFIF = bytes.fromhex("ffe0 0010 4a46494600 0101 00 0001 0001 00 00")
FRAME = PLAIN.index(b"\xff\xc0")
SCAN = PLAIN.index(b"\xff\xda")


def markers(jpeg: bytes) -> list[int]:
    """Of the segments before the first scan."""
    found: list[int] = []
    at = 2
    while not found or found[-1] != 0xDA:
        found.append(jpeg[at + 1])
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return found


def patched(at: int, replacement: bytes) -> bytes:
    return PLAIN[:at] + replacement + PLAIN[at + len(replacement) :]


def test_a_plain_picture_comes_out_as_it_was() -> None:
    assert rewrite(PLAIN).data == PLAIN


def test_nothing_but_what_makes_the_picture_comes_out() -> None:
    stuffed = with_segments(stuffed_jpeg(PLAIN, orientation=6), *profile_segments(profile()))

    rewritten = rewrite(stuffed)

    # JFIF, EXIF, the profile; two tables each of two kinds around the frame; the scan.
    assert markers(rewritten.data) == [0xE0, 0xE1, 0xE2, 0xDB, 0xDB, 0xC0, *[0xC4] * 4, 0xDA]
    assert (rewritten.width, rewritten.height, rewritten.orientation) == (20, 10, 6)


def test_the_exif_that_comes_out_tells_the_orientation_and_no_more() -> None:
    rewritten = rewrite(stuffed_jpeg(PLAIN, orientation=3))

    minimal = "4d4d002a 00000008 0001 0112 0003 00000001 0003 0000 00000000"
    assert info(rewritten.data, "exif") == b"Exif\0\0" + bytes.fromhex(minimal)


def test_an_upright_picture_needs_no_exif() -> None:
    assert info(rewrite(stuffed_jpeg(PLAIN, orientation=1)).data, "exif") is None


def test_the_second_picture_of_an_mpo_is_gone() -> None:
    mpo = encoded(PICTURE, "MPO", save_all=True, append_images=[noise("RGB", 20, 10, seed=2)])
    assert len(shown(mpo)) == 2

    rewritten = rewrite(mpo)

    assert info(rewritten.data, "mp") is None
    assert shown(rewritten.data) == shown(mpo)[:1]
    assert rewritten.frames == 1


def test_the_thumbnail_in_a_jfif_header_is_gone() -> None:
    thumbnail = JFIF[4:-2] + b"\1\1" + MARK
    data = PLAIN.replace(JFIF, segment(0xE0, thumbnail))

    assert rewrite(data).data == PLAIN


def test_an_adobe_segment_comes_out_with_its_transform_and_no_more() -> None:
    inverted = encoded(noise("CMYK", 8, 8), "JPEG")
    adobe = inverted.index(b"\xff\xee\x00\x0eAdobe")
    payload = inverted[adobe + 4 : adobe + 16]
    longer = inverted[:adobe] + segment(0xEE, payload + MARK) + inverted[adobe + 16 :]

    rewritten = rewrite(longer)

    assert segment(0xEE, b"Adobe\0\x64\0\0\0\0" + payload[11:]) in rewritten.data
    assert shown(rewritten.data) == shown(inverted)
    assert MARK not in rewritten.data


def test_what_stands_between_segments_is_gone() -> None:
    data = PLAIN[:FRAME] + MARK + b"\xff\0\xff\xff" + PLAIN[FRAME:]

    assert rewrite(data).data == PLAIN


def test_a_mark_behind_the_picture_counts() -> None:
    packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(AI_MADE))

    assert rewrite(PLAIN[:-2] + packet + PLAIN[-2:]).declares_ai


def test_colours_and_orientation_behind_the_first_scan_do_not_count() -> None:
    late = segment(0xE1, b"Exif\0\0" + exif(6)) + segment(0xEE, b"Adobe" + bytes(7))

    assert rewrite(PLAIN[:-2] + late + PLAIN[-2:]).data == PLAIN


def test_the_first_exif_counts() -> None:
    data = with_segments(PLAIN, *[segment(0xE1, b"Exif\0\0" + exif(turn)) for turn in (6, 3)])

    assert rewrite(data).orientation == 6


def test_a_short_adobe_segment_is_dropped() -> None:
    assert rewrite(with_segments(PLAIN, segment(0xEE, b"Adobe\0"))).data == PLAIN


PARTS = profile_segments(profile(150_000))


@pytest.mark.parametrize(
    "parts",
    [
        PARTS[:2],
        [*PARTS, PARTS[2]],
        [PARTS[0], PARTS[0], PARTS[2]],
        [*PARTS[:2], PARTS[2].replace(b"ICC_PROFILE\0\3\3", b"ICC_PROFILE\0\3\4")],
        [segment(0xE2, b"ICC_PROFILE\0")],
        [segment(0xE2, b"ICC_PROFILE\0\1\1" + MARK)],
        [segment(0xE2, b"ICC_PROFILE\0\1\1" + MARK * 20)],
        [segment(0xE2, b"ICC_PROFILE\0\1\1")] * 300,
    ],
)
def test_a_broken_profile_is_dropped(parts: list[bytes]) -> None:
    rewritten = rewrite(with_segments(PLAIN, *parts))

    assert rewritten.data == PLAIN
    assert not rewritten.has_icc


def test_what_follows_the_end_of_a_profile_is_gone() -> None:
    data = with_segments(PLAIN, *profile_segments(profile() + MARK))

    assert info(rewrite(data).data, "icc_profile") == profile()


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_lossless_hierarchical_and_arithmetic_frames_are_unsupported(marker: int) -> None:
    with pytest.raises(UnsupportedMediaType, match="Save it as baseline or progressive JPEG"):
        rewrite(patched(FRAME + 1, bytes([marker])))


def test_twelve_bits_a_colour_are_unsupported() -> None:
    with pytest.raises(UnsupportedMediaType, match="12 bits"):
        rewrite(patched(FRAME + 4, b"\x0c"))


def test_a_height_to_be_defined_later_is_unsupported() -> None:
    data = PLAIN[:-2] + segment(0xDC, b"\0\x0a") + PLAIN[-2:]

    with pytest.raises(UnsupportedMediaType):
        rewrite(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN[:-2], id="no end"),
        pytest.param(PLAIN[:SCAN] + b"\xff\xd9", id="no scan"),
        pytest.param(PLAIN[:FRAME] + PLAIN[FRAME + 19 :], id="no frame"),
        pytest.param(PLAIN[:FRAME] + PLAIN[FRAME : FRAME + 19] * 2 + PLAIN[FRAME + 19 :], id="two"),
        pytest.param(PLAIN[:2] + PLAIN, id="a start within"),
        pytest.param(patched(FRAME + 5, b"\0\0"), id="no height"),
        pytest.param(patched(FRAME + 9, b"\2"), id="frame: number of colours"),
        pytest.param(patched(FRAME + 2, b"\0\2"), id="frame: length"),
        pytest.param(patched(SCAN + 4, b"\0"), id="scan: number of colours"),
        pytest.param(patched(SCAN + 5, b"\x09"), id="scan: unknown colour"),
        pytest.param(patched(SCAN + 2, b"\0\1"), id="scan: length"),
        pytest.param(patched(SCAN + 2, b"\xff\xff"), id="a segment behind the end"),
        pytest.param(with_segments(PLAIN, segment(0xF0, MARK)), id="unknown segment"),
        pytest.param(with_segments(PLAIN, segment(0xDD, b"\0\0" + MARK)), id="longer interval"),
        pytest.param(with_segments(PLAIN, segment(0xDB, bytes(65) + MARK)), id="longer table"),
        pytest.param(with_segments(PLAIN, segment(0xC4, bytes(17) + b"\0")), id="longer code"),
        pytest.param(with_segments(PLAIN, segment(0xC4, bytes(16) + b"\1")), id="shorter code"),
    ],
)
def test_a_broken_structure_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile, match="The file is damaged or incomplete: "):
        rewrite(data)


def test_a_colour_that_no_scan_brings_is_refused() -> None:
    """Three colours are announced, but the only scan is of the first."""
    grey = encoded(Image.new("L", (8, 8)), "JPEG")
    at = grey.index(b"\xff\xc0")
    frame = grey[at + 4 : at + 9] + bytes([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    data = grey[:at] + segment(0xC0, frame) + grey[at + 13 :]

    with pytest.raises(CorruptFile, match="a part of the picture is missing"):
        rewrite(data)
