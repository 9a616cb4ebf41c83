"""WebP: which chunks come out, and which files do not."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from storage.containers import rewrite
from storage.errors import CorruptFile
from tests.storage.containers.seeds import (
    MARK,
    encoded,
    exif,
    info,
    noise,
    profile,
    riff_chunk,
    riff_chunks,
    stuffed_webp,
    webp_of,
    xmp,
)

PLAIN = encoded(noise("RGB", 20, 10), "WEBP")
LOSSLESS = encoded(noise("RGBA", 20, 10), "WEBP", lossless=True)
RICH = encoded(noise("RGBA", 20, 10), "WEBP", exif=exif(6), xmp=xmp(), icc_profile=profile())
FRAMES = [noise("RGBA", 20, 10, seed) for seed in (1, 2, 3)]
ANIMATED = encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], duration=70)

PROFILE, ALPHA, EXIF, XMP, ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02


def types(webp: bytes) -> list[bytes]:
    return [type for type, _ in riff_chunks(webp)]


def flags(webp: bytes) -> int:
    return webp[20]


def pixels(webp: bytes) -> bytes:
    """Whether or not the decoder found that an alpha channel is worth the name."""
    with Image.open(BytesIO(webp)) as picture:
        return picture.convert("RGBA").tobytes()


def with_flags(webp: bytes, flags: int) -> bytes:
    return webp[:20] + bytes([flags]) + webp[21:]


def test_a_simple_file_comes_out_as_it_was() -> None:
    assert rewrite(PLAIN).data == PLAIN
    assert rewrite(LOSSLESS).data == LOSSLESS


def test_nothing_but_what_makes_the_picture_comes_out() -> None:
    rewritten = rewrite(stuffed_webp(RICH))

    assert types(rewritten.data) == [b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"EXIF"]
    assert flags(rewritten.data) == PROFILE | ALPHA | EXIF
    assert (rewritten.width, rewritten.height, rewritten.orientation) == (20, 10, 6)


def test_what_follows_the_picture_of_a_simple_file_is_gone() -> None:
    assert (
        rewrite(webp_of([*riff_chunks(PLAIN), (b"EXIF", exif(6)), (b"JUNK", MARK)])).data == PLAIN
    )


def test_the_header_announces_only_what_is_there() -> None:
    upright = encoded(noise("RGB", 20, 10), "WEBP", exif=exif(1), xmp=xmp())
    assert flags(upright) == EXIF | XMP

    rewritten = rewrite(with_flags(upright, 0xFF ^ ANIMATION))

    assert types(rewritten.data) == [b"VP8X", b"VP8 "]
    assert flags(rewritten.data) == 0


def test_what_the_header_does_not_announce_does_not_count() -> None:
    hidden = with_flags(RICH, 0)

    rewritten = rewrite(hidden)

    assert types(rewritten.data) == [b"VP8X", b"VP8 "]
    assert (rewritten.orientation, rewritten.has_icc) == (1, False)
    assert pixels(rewritten.data) == pixels(hidden)


def test_a_broken_profile_is_dropped() -> None:
    data = encoded(noise("RGB", 20, 10), "WEBP", icc_profile=MARK * 20)

    rewritten = rewrite(data)

    assert types(rewritten.data) == [b"VP8X", b"VP8 "]
    assert flags(rewritten.data) == 0


def test_what_follows_the_end_of_a_profile_is_gone() -> None:
    data = encoded(noise("RGB", 20, 10), "WEBP", icc_profile=profile() + MARK)

    assert info(rewrite(data).data, "icc_profile") == profile()


def test_of_an_animation_come_out_its_frames() -> None:
    rewritten = rewrite(stuffed_webp(ANIMATED))

    assert rewritten.data == ANIMATED
    assert rewritten.frames == 3


def test_what_follows_the_declared_size_is_gone() -> None:
    assert rewrite(PLAIN + riff_chunk(b"EXIF", MARK)).data == PLAIN


def test_a_missing_byte_of_padding_is_put_back() -> None:
    odd = next(
        file
        for file in (encoded(noise("RGB", side, 9), "WEBP", lossless=True) for side in range(5, 99))
        if len(riff_chunks(file)[0][1]) % 2
    )
    unpadded = b"RIFF" + struct.pack("<I", len(odd) - 9) + odd[8:-1]

    assert rewrite(unpadded).data == odd


def resized(webp: bytes, difference: int) -> bytes:
    return webp[:4] + struct.pack("<I", len(webp) - 8 + difference) + webp[8:]


HEADER, CONTROL, FRAME, *_ = riff_chunks(ANIMATED)
(BITSTREAM,) = riff_chunks(PLAIN)
EXTENDED = (b"VP8X", bytes(4) + b"\x13\0\0\x09\0\0")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(resized(PLAIN, 2), id="ends early"),
        pytest.param(resized(PLAIN, -2), id="picture behind the end"),
        pytest.param(webp_of([]), id="empty"),
        pytest.param(webp_of([(b"JUNK", MARK), BITSTREAM]), id="begins with something else"),
        pytest.param(webp_of([EXTENDED]), id="no picture"),
        pytest.param(webp_of([(b"VP8X", EXTENDED[1][:9]), BITSTREAM]), id="short header"),
        pytest.param(webp_of([(b"VP8X", bytes(10)), BITSTREAM]), id="other size in the header"),
        pytest.param(webp_of([(b"VP8 ", b"")]), id="lossy: empty"),
        pytest.param(webp_of([(b"VP8 ", BITSTREAM[1][:40])]), id="lossy: cut"),
        pytest.param(webp_of([(b"VP8 ", b"\1" + BITSTREAM[1][1:])]), id="lossy: no key frame"),
        pytest.param(webp_of([(b"VP8L", b"")]), id="lossless: empty"),
        pytest.param(webp_of([(b"VP8L", b"\x2f\0\0\0\xf0")]), id="lossless: version"),
        pytest.param(webp_of([HEADER, CONTROL]), id="no frames"),
        pytest.param(webp_of([HEADER, FRAME]), id="no control of the animation"),
        pytest.param(webp_of([HEADER, CONTROL, (b"ANMF", FRAME[1][:15])]), id="short frame"),
        pytest.param(webp_of([HEADER, CONTROL, (b"ANMF", FRAME[1][:16])]), id="empty frame"),
        pytest.param(
            webp_of([HEADER, CONTROL, (b"ANMF", b"\1" + FRAME[1][1:])]), id="frame outside"
        ),
        pytest.param(
            webp_of([HEADER, CONTROL, (b"ANMF", FRAME[1][:6] + b"\2" + FRAME[1][7:])]),
            id="other size in the frame",
        ),
        pytest.param(
            webp_of([HEADER, CONTROL, (b"ANMF", FRAME[1][:16] + riff_chunk(b"JUNK", b"") * 200)]),
            id="frame of junk",
        ),
    ],
)
def test_a_broken_structure_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile, match="The file is damaged or incomplete: "):
        rewrite(data)
