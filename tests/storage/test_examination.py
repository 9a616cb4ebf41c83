"""What a file shows, whatever it claims to be; and the clean file that is kept of it."""

import hashlib
import re
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from math import inf, log10
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageStat, PngImagePlugin
from pillow_heif import from_pillow, open_heif

from storage.containers import Bounds
from storage.errors import CorruptFile, Rejected, TooManyPixels, UnsupportedMediaType
from storage.examination import GRID, Examination, Paths, examine
from storage.marks import Mark
from tests import hostile
from tests.pictures import encoded, jpeg, opened, photo, png, webp

ORIENTATION = 0x0112
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
}
COPIED = ["JPEG", "PNG", "WEBP", "GIF"]  # their compressed data are kept as they are
CORNERS = ["#ff0000", "#00ff00", "#0000ff", "#ffffff"]  # top left, top right, bottom left, right
AI_XMP = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description Iptc4xmpExt:DigitalSourceType="
    b"'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'/></x:xmpmeta>"
)

# What has to be done to a picture so that its orientation turns it upright again.
TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Seen:
    shown: Examination
    clean: bytes
    grid: bytes


Look = Callable[..., Seen]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """`examine`, for bytes."""

    def look(data: bytes, mark: Mark | None = None) -> Seen:
        paths = Paths(tmp_path / "source", tmp_path / "clean", tmp_path / "grid")
        paths.source.write_bytes(data)
        shown = examine(paths, Bounds(max_pixels=10**6, max_frame_pixels=10**7), mark)
        return Seen(shown, paths.clean.read_bytes(), paths.grid.read_bytes())

    return look


def written(picture: Image.Image, format: str, **options: object) -> bytes:
    """Encoded; as HEIC as well, which Pillow itself cannot."""
    if format != "HEIC":
        return encoded(picture, format, **options)
    buffer = BytesIO()
    from_pillow(picture).save(buffer, **{"quality": 80} | options)
    return buffer.getvalue()


def read(data: bytes, media_type: str) -> Image.Image:
    """What another reader than ours sees in it."""
    if media_type != "image/heic":
        return opened(data)
    return open_heif(data, convert_hdr_to_8bit=True).to_pillow()


def media_type_of(data: bytes) -> str:
    return Image.MIME[opened(data).format or ""]


def frames_of(data: bytes) -> list[bytes]:
    picture = Image.open(BytesIO(data))
    pages = []
    for frame in range(getattr(picture, "n_frames", 1)):
        picture.seek(frame)
        pages.append(picture.convert("RGBA").tobytes())
    return pages


def psnr(one: Image.Image, other: Image.Image) -> float:
    """How alike two pictures are, in decibels."""
    apart = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB")))
    mean = sum(apart.sum2) / sum(apart.count)
    return 10 * log10(255**2 / mean) if mean else inf


def grainy(sigma: float, width: int = 640, height: int = 480) -> Image.Image:
    """A photo with the grain of a camera."""
    dice = Random(7)
    noise = bytes(
        max(0, min(255, round(dice.gauss(128, sigma)))) for _ in range(width * height * 3)
    )
    grain = Image.frombytes("RGB", (width, height), noise)
    return ImageChops.add(photo(width, height), grain, offset=-128)


def color(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text.removeprefix("#")))


def four_corners(width: int = 64, height: int = 48) -> Image.Image:
    corners = Image.new("RGB", (2, 2))
    for place, corner in enumerate(CORNERS):
        corners.paste(corner, (place % 2, place // 2, place % 2 + 1, place // 2 + 1))
    return corners.resize((width, height), Image.Resampling.NEAREST)


def nearest_corners(picture: Image.Image) -> list[str]:
    """The corners' colours, as the nearest of the four: encoders change them a little."""
    width, height = picture.size
    places = [(3, 3), (width - 4, 3), (3, height - 4), (width - 4, height - 4)]
    shown = picture.convert("RGB")
    return [
        "#"
        + "".join(
            "ff" if band > 127 else "00" for band in shown.crop((x, y, x + 1, y + 1)).tobytes()
        )
        for x, y in places
    ]


def turned(orientation: int, format: str) -> bytes:
    """The four corners, 64 x 48 as displayed, stored in the way that the orientation undoes."""
    method = TURNED[orientation]
    stored = four_corners() if method is None else four_corners().transpose(method)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return written(stored, format, exif=exif.tobytes(), quality=95)


# ---- known by its bytes -----------------------------------------------------------------------


@pytest.mark.parametrize(("format", "media_type"), MEDIA_TYPES.items())
def test_a_picture_is_known_by_its_bytes(format: str, media_type: str, look: Look) -> None:
    shown = look(written(photo(320, 200), format)).shown

    kept_as = "image/jpeg" if format == "HEIC" else media_type
    assert (shown.source_media_type, shown.media_type) == (media_type, kept_as)
    assert (shown.width, shown.height, shown.frames) == (320, 200, 1)
    assert (shown.has_alpha, shown.declares_ai, shown.has_c2pa) == (False, False, False)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_size_and_hash_are_those_of_the_clean_file(format: str, look: Look) -> None:
    seen = look(written(photo(), format))

    assert seen.shown.byte_size == len(seen.clean)
    assert seen.shown.sha256 == hashlib.sha256(seen.clean).hexdigest()
    assert media_type_of(seen.clean) == seen.shown.media_type
    assert media_type_of(seen.grid) == seen.shown.grid_media_type


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_the_clean_file_of_a_clean_file_is_itself(format: str, look: Look) -> None:
    seen = look(written(photo(), format))

    again = look(seen.clean)

    assert again.clean == seen.clean
    assert again.shown.source_media_type == seen.shown.media_type


@pytest.mark.parametrize("format", [format for format in MEDIA_TYPES if format != "GIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_one_that_is_displayed(orientation: int, format: str, look: Look) -> None:
    seen = look(turned(orientation, format))

    assert (seen.shown.width, seen.shown.height) == (64, 48)
    assert opened(seen.grid).size == (64, 48)
    assert nearest_corners(opened(seen.grid)) == CORNERS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_clean_file_that_is_stored_turned_says_so(
    format: str, orientation: int, look: Look
) -> None:
    data = turned(orientation, format)

    clean = opened(look(data).clean)

    assert clean.getexif().get(ORIENTATION, 1) == orientation
    assert clean.size == opened(data).size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["AVIF", "HEIC"])
def test_what_is_encoded_anew_is_stored_upright(format: str, orientation: int, look: Look) -> None:
    clean = opened(look(turned(orientation, format)).clean)

    assert clean.size == (64, 48)
    assert clean.getexif().get(ORIENTATION, 1) == 1
    assert nearest_corners(clean) == CORNERS


def in_sixteen_bits() -> bytes:
    """A ramp from black to white, in 65,536 steps of grey."""
    ramp = Image.new("I;16", (256, 4))
    ramp.putdata([x * 257 for _ in range(4) for x in range(256)])
    return encoded(ramp, "PNG")


def clear_palette(transparency: int | bytes) -> bytes:
    return encoded(photo().convert("P"), "PNG", transparency=transparency)


@pytest.mark.parametrize(
    ("data", "has_alpha"),
    [
        pytest.param(encoded(photo().convert("CMYK"), "JPEG"), False, id="CMYK"),
        pytest.param(encoded(photo().convert("L"), "JPEG"), False, id="grey JPEG"),
        pytest.param(encoded(photo().convert("L"), "PNG"), False, id="grey PNG"),
        pytest.param(encoded(photo().convert("1"), "PNG"), False, id="black and white"),
        pytest.param(encoded(photo().convert("P"), "PNG"), False, id="palette"),
        pytest.param(clear_palette(3), True, id="one clear colour"),
        pytest.param(clear_palette(b"\0\x80"), True, id="some clear colours"),
        pytest.param(encoded(photo().convert("L"), "PNG", transparency=9), True, id="clear grey"),
        pytest.param(encoded(photo().convert("LA"), "PNG"), True, id="grey with alpha"),
        pytest.param(encoded(photo().convert("L"), "AVIF"), False, id="grey AVIF"),
        pytest.param(written(photo().convert("L"), "HEIC"), False, id="grey HEIC"),
        pytest.param(jpeg(progressive=True), False, id="progressive"),
        pytest.param(
            encoded(photo(), "MPO", save_all=True, append_images=[photo(seed=2)]),
            False,
            id="two views",
        ),
    ],
)
def test_every_usual_kind_of_picture_is_taken_and_keeps_its_pixels(
    data: bytes, has_alpha: bool, look: Look
) -> None:
    seen = look(data)

    assert (seen.shown.width, seen.shown.height, seen.shown.frames) == (320, 240, 1)
    assert seen.shown.has_alpha is has_alpha
    assert len(color(seen.shown.dominant_color)) == 3
    assert len(b64decode(seen.shown.thumbhash)) >= 5
    assert 0 <= int(seen.shown.perceptual_hash, 16) < 2**64
    if seen.shown.media_type == seen.shown.source_media_type:
        before, after = opened(data), opened(seen.clean)
        assert after.mode == before.mode
        assert after.tobytes() == before.tobytes()
        assert after.convert("RGBA").tobytes() == before.convert("RGBA").tobytes()


def test_sixteen_bits_of_grey_are_kept(look: Look) -> None:
    data = in_sixteen_bits()

    seen = look(data)

    shown = seen.shown
    assert (shown.width, shown.height, shown.media_type) == (256, 4, "image/png")
    assert shown.dominant_color != "#ffffff"  # as it is if the upper bits are cut off
    assert opened(seen.clean).mode == opened(data).mode
    assert opened(seen.clean).tobytes() == opened(data).tobytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 7), (16, 3)])
def test_the_smallest_pictures_are_taken(size: tuple[int, int], format: str, look: Look) -> None:
    seen = look(encoded(photo(*size), format))

    assert (seen.shown.width, seen.shown.height) == size
    assert opened(seen.grid).size == size


def half_clear() -> Image.Image:
    picture = photo(64, 48).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 32, 48))
    return picture


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(half_clear(), "PNG"), id="PNG"),
        pytest.param(encoded(half_clear(), "WEBP", lossless=True), id="WebP"),
        pytest.param(encoded(half_clear(), "GIF"), id="GIF"),
        pytest.param(encoded(half_clear(), "AVIF"), id="AVIF"),
    ],
)
def test_what_is_transparent_is_told_and_stays_so(data: bytes, look: Look) -> None:
    seen = look(data)

    alpha = opened(seen.clean).convert("RGBA").getchannel("A")
    assert seen.shown.has_alpha
    assert seen.shown.grid_media_type == "image/webp"
    assert alpha.getpixel((8, 24)) == pytest.approx(0, abs=3)
    assert alpha.getpixel((56, 24)) == pytest.approx(255, abs=3)


def moving(format: str, *, frames: int = 4) -> bytes:
    pages = [photo(64, 48, seed=seed) for seed in range(frames)]
    times = [100 * (frame + 1) for frame in range(frames)]
    return encoded(pages[0], format, save_all=True, append_images=pages[1:], duration=times)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "AVIF"])
def test_an_animation_keeps_all_its_frames_and_their_times(format: str, look: Look) -> None:
    data = moving(format)

    seen = look(data)

    assert (seen.shown.frames, seen.shown.width, seen.shown.height) == (4, 64, 48)
    assert opened(seen.grid).size == (64, 48)
    clean, times = Image.open(BytesIO(seen.clean)), []
    for frame in range(4):
        clean.seek(frame)
        clean.load()
        times.append(clean.info["duration"])
    assert times == [100, 200, 300, 400]
    if format != "AVIF":
        assert frames_of(seen.clean) == frames_of(data)


def test_of_the_pictures_in_a_heic_the_first_is_taken(look: Look) -> None:
    file, buffer = from_pillow(photo(seed=1)), BytesIO()
    file.add_from_pillow(photo(seed=2))
    file.save(buffer, quality=80, primary_index=0)

    seen = look(buffer.getvalue())

    assert seen.shown.frames == 1
    assert psnr(opened(seen.clean), photo(seed=1)) > 30


# ---- the clean file ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", COPIED)
def test_a_copied_picture_has_exactly_its_pixels(format: str, look: Look) -> None:
    data = encoded(photo(), format, quality=70)

    clean = look(data).clean

    assert (
        ImageChops.difference(opened(clean).convert("RGB"), opened(data).convert("RGB")).getbbox()
        is None
    )


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(photo(320, 240), id="soft"),
        pytest.param(photo(1000, 750), id="large"),
        pytest.param(grainy(4), id="a little grain"),
        pytest.param(grainy(8), id="grain"),
        pytest.param(grainy(30), id="nothing but grain"),
        pytest.param(four_corners(320, 240), id="edges"),
    ],
)
def test_a_heic_looks_as_before_when_it_has_become_a_jpeg(picture: Image.Image, look: Look) -> None:
    data = written(picture, "HEIC")

    clean = look(data).clean

    assert opened(clean).format == "JPEG"
    assert psnr(read(data, "image/heic"), opened(clean)) >= 45


def test_the_jpeg_of_a_soft_heic_is_not_larger_than_it_must_be(look: Look) -> None:
    soft, grain = (len(look(written(grainy(noise), "HEIC")).clean) for noise in (0, 30))

    assert soft < grain / 3


@pytest.mark.parametrize(
    ("picture", "decibels"),
    [
        pytest.param(photo(), 45, id="soft"),  # 45.7 to 47
        pytest.param(grainy(4), 44, id="a little grain"),  # 46
        pytest.param(grainy(8), 42, id="grain"),  # 43.5
        pytest.param(four_corners(320, 240), 45, id="edges"),
    ],
)
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_an_avif_looks_as_before_when_it_is_encoded_anew(
    subsampling: str, picture: Image.Image, decibels: float, look: Look
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    data = encoded(picture, "AVIF", quality=80, subsampling=subsampling, speed=8, exif=exif)

    clean = look(data).clean

    assert opened(clean).format == "AVIF"
    assert psnr(opened(data), opened(clean)) >= decibels


def with_secrets(format: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif[0x927C] = b"SECRET maker note"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: "SECRET:2027"})
    options: dict[str, object] = {
        "exif": exif.tobytes(),
        "xmp": b"<x:xmpmeta>SECRET</x:xmpmeta>",
    }
    if format == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", "SECRET comment")
        texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>SECRET</x:xmpmeta>")
        options = {"exif": exif, "pnginfo": texts}
    if format == "JPEG":
        options["comment"] = b"SECRET comment"
    if format == "GIF":
        options = {"comment": b"SECRET comment"}
    return written(photo(), format, **options) + b"SECRET after the end"


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_the_files_tell_nothing_but_the_picture(format: str, look: Look) -> None:
    data = with_secrets(format)
    assert data.count(b"SECRET") >= 2

    seen = look(data)

    for file in (seen.clean, seen.grid):
        assert b"SECRET" not in file
        assert dict(opened(file).getexif()) == {}
        assert {"exif", "xmp", "comment"}.isdisjoint(opened(file).info)


@pytest.mark.parametrize("name", hostile.POLYGLOTS)
def test_what_rides_along_is_left_behind(name: str, look: Look) -> None:
    data = hostile.POLYGLOTS[name]()
    assert b"marker-4711" in data

    seen = look(data)

    assert b"marker-4711" not in seen.clean + seen.grid
    assert opened(seen.clean).size in ((320, 240), (240, 320))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_a_picture_that_says_it_was_made_by_ai_is_taken_at_its_word(
    format: str, look: Look
) -> None:
    options: dict[str, object] = {"xmp": AI_XMP}
    if format == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", AI_XMP.decode())
        options = {"pnginfo": texts}

    seen = look(written(photo(), format, **options))

    assert seen.shown.declares_ai
    assert not seen.shown.has_c2pa
    assert seen.shown.mark is Mark.TRAINED
    for file in (seen.clean, seen.grid):
        assert opened(file).info["xmp"] == Mark.TRAINED.packet


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_picture_is_marked_as_its_maker_says_and_nothing_else_comes_out(
    format: str, mark: Mark, look: Look
) -> None:
    seen = look(with_secrets(format), mark)

    assert (seen.shown.declares_ai, seen.shown.mark) == (False, mark)
    assert opened(seen.grid).info["xmp"] == mark.packet
    assert opened(seen.clean).info.get("xmp") == (None if format == "GIF" else mark.packet)
    assert b"SECRET" not in seen.clean + seen.grid


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_the_clean_file_of_a_marked_file_is_itself(format: str, look: Look) -> None:
    seen = look(written(photo(), format), Mark.TRAINED)

    again = look(seen.clean)

    assert again.clean == seen.clean
    assert again.shown.mark is (None if format == "GIF" else Mark.TRAINED)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_bare_avif_is_marked_without_a_new_encoding(mode: str, look: Look) -> None:
    plain = encoded(photo().convert(mode), "AVIF", quality=30)

    seen = look(plain, Mark.COMPOSITE)

    assert opened(seen.clean).tobytes() == opened(plain).tobytes()
    assert opened(seen.clean).info["xmp"] == Mark.COMPOSITE.packet
    assert look(seen.clean, Mark.TRAINED).clean == seen.clean


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_an_animation_is_marked_and_keeps_all_its_frames(format: str, look: Look) -> None:
    data = moving(format)

    seen = look(data, Mark.TRAINED)

    assert opened(seen.clean).info["xmp"] == Mark.TRAINED.packet
    assert frames_of(seen.clean) == frames_of(look(data).clean)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_the_color_profile_stays(format: str, look: Look) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = written(photo(), format, icc_profile=profile)

    clean = look(data).clean

    assert opened(clean).info["icc_profile"] == profile


# ---- the grid rendition -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 500), (GRID, GRID // 2)),
        ((GRID, 20), (GRID, 20)),
        ((GRID + 1, 1000), (GRID, 998)),
        ((100, 1000), (100, 1000)),
        ((3, 2), (3, 2)),
    ],
)
def test_the_grid_rendition_is_as_wide_as_the_grid_and_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int], look: Look
) -> None:
    seen = look(jpeg(*size))

    assert opened(seen.grid).size == expected
    assert seen.shown.grid_media_type == "image/jpeg"


def test_the_grid_rendition_looks_like_the_picture(look: Look) -> None:
    seen = look(jpeg(960, 720))

    assert psnr(opened(seen.grid), photo(GRID, 480)) > 30


# ---- what it shows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        (["#ff0000"], "#ff0000"),
        (["#ff0000", "#ff0000", "#ff0000", "#0000ff"], "#ff0000"),
        (["#000000", "#ffffff", "#ffffff"], "#ffffff"),
    ],
)
def test_the_dominant_color_is_one_that_is_there(
    colors: list[str], expected: str, look: Look
) -> None:
    stripes = Image.new("RGB", (len(colors), 1))
    for place, stripe in enumerate(colors):
        stripes.paste(stripe, (place, 0, place + 1, 1))

    seen = look(encoded(stripes.resize((64 * len(colors), 64), Image.Resampling.BOX), "PNG"))

    assert color(seen.shown.dominant_color) == pytest.approx(color(expected), abs=3)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_one_picture_shows_the_same_in_every_format(format: str, look: Look) -> None:
    lossless = look(encoded(photo(), "PNG")).shown

    shown = look(written(photo(), format)).shown

    apart = int(shown.perceptual_hash, 16) ^ int(lossless.perceptual_hash, 16)
    assert apart.bit_count() <= 4
    assert color(shown.dominant_color) == pytest.approx(color(lossless.dominant_color), abs=40)


# ---- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(data, id=name) for name, data in hostile.LIES.items()),
        pytest.param(encoded(photo(), "PDF"), id="a whole PDF"),
        pytest.param(encoded(photo(), "JPEG2000"), id="JPEG 2000"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", id="PostScript"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2mp41", id="MP4"),
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(1000), id="zeros"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, look: Look, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        look(data)

    assert refused.value.field == "file"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("format", [*MEDIA_TYPES, "progressive JPEG"])
@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_part_of_a_picture_is_refused(format: str, tenths: int, look: Look) -> None:
    whole = jpeg(progressive=True) if " " in format else written(photo(), format)

    with pytest.raises(Rejected) as refused:
        look(whole[: len(whole) * tenths // 10])

    assert refused.type in (CorruptFile, UnsupportedMediaType)


@pytest.mark.parametrize("missing", [1, 2, 10])
@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_picture_without_its_last_bytes_is_refused_or_made_whole(
    format: str, missing: int, look: Look
) -> None:
    whole = written(photo(), format)

    with suppress(CorruptFile):
        seen = look(whole[:-missing])
        assert opened(seen.clean).size == (320, 240)
        assert frames_of(look(seen.clean).clean) == frames_of(seen.clean)


# ---- bombs ------------------------------------------------------------------------------------


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(jpeg(64, 48))
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def boxed_that_claims(format: str, width: int, height: int) -> bytes:
    """With another size in its `ispe` boxes, which the encoded data do not know of."""
    sizes = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return re.sub(
        rb"ispe\0{4}.{8}", b"ispe" + bytes(4) + sizes, written(photo(), format), flags=re.S
    )


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        pytest.param(hostile.pixel_bomb_png(50_000), 50_000**2, id="PNG"),
        pytest.param(hostile.pixel_bomb_webp(), 16_383**2, id="WebP"),
        pytest.param(jpeg_that_claims(65_500, 65_500), 65_500**2, id="JPEG"),
        pytest.param(boxed_that_claims("AVIF", 16_000, 16_000), 16_000**2, id="AVIF"),
        pytest.param(boxed_that_claims("HEIC", 16_000, 16_000), 16_000**2, id="HEIC"),
        pytest.param(encoded(Image.new("L", (5000, 4000)), "AVIF"), 20_000_000, id="a true AVIF"),
        pytest.param(written(Image.new("L", (5000, 4000)), "HEIC"), 20_000_000, id="a true HEIC"),
    ],
)
def test_a_pixel_bomb_is_refused_by_its_header(data: bytes, pixels: int, look: Look) -> None:
    began = time.perf_counter()

    with pytest.raises(TooManyPixels) as refused:
        look(data)

    assert (refused.value.limit, refused.value.actual) == (10**6, pixels)
    assert time.perf_counter() - began < 3  # to decode it takes gigabytes and minutes


@pytest.mark.parametrize("name", hostile.BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(name: str, look: Look) -> None:
    make, _ = hostile.BOMBS[name]
    data = make()
    began = time.perf_counter()

    with pytest.raises(Rejected) as refused:
        look(data)

    assert refused.value.limit is not None
    assert refused.value.actual is not None
    assert refused.value.actual > refused.value.limit
    assert time.perf_counter() - began < 3


def test_an_avif_of_too_many_frames_is_refused(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "source", tmp_path / "clean", tmp_path / "grid")
    paths.source.write_bytes(moving("AVIF", frames=4))

    with pytest.raises(Rejected) as too_many:
        examine(paths, Bounds(max_frames=3))
    with pytest.raises(TooManyPixels) as too_large:
        examine(paths, Bounds(max_frame_pixels=64 * 48 * 4 - 1))
    accepted = examine(paths, Bounds(max_frames=4, max_frame_pixels=64 * 48 * 4))

    assert (too_many.value.limit, too_many.value.actual) == (3, 4)
    assert too_large.value.actual == 64 * 48 * 4
    assert accepted.frames == 4


def test_the_limit_of_pixels_itself_is_accepted(look: Look) -> None:
    shown = look(png(1000, 1000)).shown

    assert (shown.width, shown.height) == (1000, 1000)


def test_one_pixel_over_the_limit_is_refused(look: Look) -> None:
    with pytest.raises(TooManyPixels) as refused:
        look(png(1_000_001, 1))

    assert refused.value.actual == 1_000_001


# ---- whatever comes ---------------------------------------------------------------------------

WHATEVER = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the files are written anew
)


@given(
    data=st.data(),
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    mode=st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"]),
    format=st.sampled_from(COPIED),
)
@settings(WHATEVER, max_examples=150)
def test_any_picture_is_described_and_keeps_its_pixels(
    data: st.DataObject, width: int, height: int, mode: str, format: str, look: Look
) -> None:
    seed = data.draw(st.integers(0, 2**32))
    takes = {
        "JPEG": {"RGB", "L", "1", "CMYK"},
        "PNG": {"RGB", "RGBA", "L", "LA", "P", "1"},
        "WEBP": {"RGB", "RGBA", "L", "LA"},
        "GIF": {"RGB", "RGBA", "L", "P", "1"},
    }[format]
    noise = Image.frombytes("RGBA", (width, height), Random(seed).randbytes(width * height * 4))
    picture = noise.convert("RGB").convert(mode) if mode in ("P", "1") else noise.convert(mode)
    sent = encoded(picture if mode in takes else noise.convert("RGB"), format)

    seen = look(sent)

    assert (seen.shown.width, seen.shown.height, seen.shown.frames) == (width, height, 1)
    assert seen.shown.media_type == seen.shown.source_media_type == MEDIA_TYPES[format]
    assert seen.shown.has_alpha == opened(sent).has_transparency_data
    assert frames_of(seen.clean) == frames_of(sent)
    assert opened(seen.grid).size == (width, height)
    assert look(seen.clean).clean == seen.clean


DAMAGED = [
    jpeg(64, 48),
    png(64, 48),
    webp(64, 48),
    turned(6, "PNG"),
    moving("GIF"),
    moving("WEBP"),
    encoded(photo(64, 48), "AVIF"),
    written(photo(64, 48), "HEIC"),
]


@given(data=st.sampled_from(DAMAGED), seed=st.integers(0, 2**32), count=st.integers(1, 12))
@settings(WHATEVER, max_examples=200)
def test_a_damaged_picture_is_refused_or_shows_what_is_left(
    data: bytes, seed: int, count: int, look: Look
) -> None:
    dice = Random(seed)
    damaged = bytearray(data)
    for _ in range(count):
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)

    with suppress(Rejected):
        seen = look(bytes(damaged))
        assert 1 <= seen.shown.width * seen.shown.height <= 10**6
        assert media_type_of(seen.clean) == seen.shown.media_type
