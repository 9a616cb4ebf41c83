"""Bombs are refused by their structure, and the refusal says how much would do."""

import struct
import zlib

import pytest

from storage.containers import Bounds, rewrite
from storage.errors import Rejected, TooManyPixels
from tests.storage.containers.seeds import (
    chunks,
    encoded,
    noise,
    png_of,
    profile,
    profile_segments,
    riff_chunks,
    segment,
    webp_of,
    with_extensions,
    with_segments,
)

PICTURE = noise("RGB", 8, 8)


def jpeg_of(scans: int) -> bytes:
    """The only scan of a grey picture, again and again."""
    plain = encoded(noise("L", 8, 8), "JPEG", progressive=False)
    start = plain.index(b"\xff\xda")
    return plain[:start] + plain[start:-2] * scans + b"\xff\xd9"


def png_with(more_chunks: int) -> bytes:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    return png_of([header, *[(b"prVt", b"")] * more_chunks, *rest])


def apng_announcing(frames: int) -> bytes:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    return png_of([header, (b"acTL", struct.pack(">II", frames, 0)), *rest])


def gif_of(frames: int, width: int = 8, height: int = 8) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    return screen + frame * frames + b";"


def webp_of_frames(frames: int) -> bytes:
    two = [noise("RGB", 8, 8, seed) for seed in (1, 2)]
    parts = riff_chunks(encoded(two[0], "WEBP", save_all=True, append_images=two[1:]))
    return webp_of([*parts[:2], *[parts[2]] * frames])


def sized(format: str, width: int, height: int) -> bytes:
    """A small file whose header tells of a large picture."""
    data = bytearray(encoded(PICTURE, format))
    if format == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif format == "PNG":
        header, *rest = chunks(bytes(data))
        size = struct.pack(">II", width, height)
        data[:] = png_of([(b"IHDR", size + header[1][8:]), *rest])
    elif format == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    else:
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        data[:] = webp_of([(b"VP8X", bytes(4) + size), *riff_chunks(bytes(data))])
    return bytes(data)


def refusal_of(data: bytes, bounds: Bounds = Bounds()) -> Rejected:  # noqa: B008  # a frozen value
    with pytest.raises(Rejected) as refusal:
        rewrite(data, bounds)
    return refusal.value


def test_a_jpeg_of_2000_scans_is_refused() -> None:
    refusal = refusal_of(jpeg_of(2000))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 100, 2000)
    assert refusal.message == (
        "The file has 2,000 scans; at most 100 are accepted. Save it as baseline JPEG first."
    )


def test_a_jpeg_of_100_scans_passes() -> None:
    assert rewrite(jpeg_of(100)).width == 8


def test_a_jpeg_of_a_million_comments_is_refused() -> None:
    data = with_segments(encoded(PICTURE, "JPEG"), segment(0xFE, b"") * 1_000_000)

    refusal = refusal_of(data)

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 10_000, 10_001)


def test_a_png_of_100000_chunks_is_refused() -> None:
    data = png_with(100_000 - 3)

    refusal = refusal_of(data)

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 20_000, 100_000)


def test_a_png_of_20000_chunks_passes() -> None:
    assert rewrite(png_with(20_000 - 3)).width == 8


def test_the_chunks_of_a_png_are_not_counted_for_ever() -> None:
    refusal = refusal_of(png_with(400_000))

    assert (refusal.limit, refusal.actual) == (20_000, 220_001)


def test_an_apng_that_announces_2147483647_frames_is_refused() -> None:
    refusal = refusal_of(apng_announcing(2**31 - 1))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 500, 2**31 - 1)


def test_a_gif_of_100000_frames_is_refused() -> None:
    refusal = refusal_of(gif_of(100_000))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 500, 100_000)


def test_a_gif_of_500_frames_passes() -> None:
    assert rewrite(gif_of(500)).frames == 500


@pytest.mark.parametrize("blocks", [b"\x21\xfe" + b"\1\1" * 2_000_000 + b"\0", bytes(2_000_000)])
def test_a_gif_of_millions_of_blocks_is_refused(blocks: bytes) -> None:
    refusal = refusal_of(with_extensions(gif_of(1), blocks))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 1_000_000, 1_000_001)


def test_a_webp_of_600_frames_is_refused() -> None:
    refusal = refusal_of(webp_of_frames(600))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 500, 600)


def test_a_webp_of_a_million_chunks_is_refused() -> None:
    refusal = refusal_of(
        webp_of([*riff_chunks(encoded(PICTURE, "WEBP")), *[(b"JUNK", b"")] * 10**6])
    )

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 20_000, 20_001)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_header_of_50000_by_50000_pixels_is_refused(format: str) -> None:
    refusal = refusal_of(sized(format, 50_000, 50_000))

    assert isinstance(refusal, TooManyPixels)
    assert (refusal.limit, refusal.actual) == (50_000_000, 2_500_000_000)
    assert refusal.message == (
        "The picture has 50000 x 50000 pixels; "
        "at most 50,000,000 are accepted. Scale it down first."
    )


def test_a_simple_webp_of_16383_by_16383_pixels_is_refused() -> None:
    data = bytearray(encoded(PICTURE, "WEBP"))
    data[26:30] = struct.pack("<HH", 16383, 16383)

    refusal = refusal_of(bytes(data))

    assert (refusal.code, refusal.actual) == ("TOO_MANY_PIXELS", 16383**2)


def test_a_large_frame_on_the_small_screen_of_a_gif_is_refused() -> None:
    data = bytearray(gif_of(2))
    at = data.rindex(b",")
    data[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)

    refusal = refusal_of(bytes(data))

    assert (refusal.code, refusal.actual) == ("TOO_MANY_PIXELS", 65535**2)


def test_frames_are_multiplied_by_the_canvas() -> None:
    data = gif_of(300, width=1000, height=1000)

    refusal = refusal_of(data)

    assert isinstance(refusal, TooManyPixels)
    assert (refusal.limit, refusal.actual) == (250_000_000, 300_000_000)


def test_what_meets_its_bounds_passes() -> None:
    exact = Bounds(max_frames=3, max_pixels=64, max_frame_pixels=192)

    assert rewrite(gif_of(3), exact).frames == 3


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        (Bounds(max_frames=2), "INVALID"),
        (Bounds(max_pixels=63), "TOO_MANY_PIXELS"),
        (Bounds(max_frame_pixels=191), "TOO_MANY_PIXELS"),
    ],
)
def test_what_is_just_over_a_bound_does_not_pass(bounds: Bounds, code: str) -> None:
    assert refusal_of(gif_of(3), bounds).code == code


def test_a_large_profile_in_a_jpeg_is_refused() -> None:
    data = with_segments(encoded(PICTURE, "JPEG"), *profile_segments(profile(5_000_000)))

    refusal = refusal_of(data)

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 4_194_304, 5_000_000)


def test_a_large_profile_in_a_webp_is_refused() -> None:
    refusal = refusal_of(encoded(PICTURE, "WEBP", icc_profile=profile(5_000_000)))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 4_194_304, 5_000_000)


def test_a_profile_in_a_png_is_inflated_no_further_than_the_limit() -> None:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    bomb = b"bomb\0\0" + zlib.compress(bytes(100_000_000))

    refusal = refusal_of(png_of([header, (b"iCCP", bomb), *rest]))

    assert (refusal.code, refusal.limit, refusal.actual) == ("INVALID", 4_194_304, 4_194_305)
