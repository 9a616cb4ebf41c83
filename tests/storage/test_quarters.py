"""A grid cut into its quarters, from bytes that nobody has checked."""

import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from storage.containers import Bounds
from storage.errors import CorruptFile, Rejected, TooManyPixels, UnsupportedMediaType
from storage.quarters import NAMES, quarter
from tests.hostile import scan_bomb_jpeg
from tests.pictures import encoded, jpeg, opened, photo, png, webp

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cut(data: bytes, folder: Path, bounds: Bounds = Bounds()) -> list[Path]:  # noqa: B008  # a frozen value
    source = folder / "source"
    source.write_bytes(data)
    return quarter(source, folder, bounds)


def chunks(png: bytes) -> set[bytes]:
    names, at = set(), 8
    while at < len(png):
        names.add(png[at + 4 : at + 8])
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return names


def test_the_quarters_are_the_pixels_of_the_picture_row_by_row(tmp_path: Path) -> None:
    whole = photo(64, 40)

    paths = cut(encoded(whole, "PNG"), tmp_path)

    assert paths == [tmp_path / name for name in NAMES]
    assert [opened(path.read_bytes()).tobytes() for path in paths] == [
        whole.crop(box).tobytes()
        for box in ((0, 0, 32, 20), (32, 0, 64, 20), (0, 20, 32, 40), (32, 20, 64, 40))
    ]


@pytest.mark.parametrize(("width", "height"), [(65, 41), (64, 41), (65, 40), (2, 2), (3, 3)])
def test_an_odd_row_or_column_is_left_out(width: int, height: int, tmp_path: Path) -> None:
    whole = photo(width, height)

    paths = cut(encoded(whole, "PNG"), tmp_path)

    across, down = width // 2, height // 2
    pictures = [opened(path.read_bytes()) for path in paths]
    assert {picture.size for picture in pictures} == {(across, down)}
    last = whole.crop((across, down, 2 * across, 2 * down))
    assert pictures[3].tobytes() == last.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (100, 1)])
def test_a_picture_without_quarters_is_rejected(size: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(Rejected) as refused:
        cut(png(*size), tmp_path)

    assert refused.value.field == "file"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "data",
    [jpeg(), png(), webp(), encoded(photo(), "GIF"), encoded(photo().convert("CMYK"), "JPEG")],
)
def test_whatever_the_format_the_quarters_are_png_and_look_the_same(
    data: bytes, tmp_path: Path
) -> None:
    paths = cut(data, tmp_path)

    whole = opened(data).convert("RGB")
    for number, path in enumerate(paths):
        picture = opened(path.read_bytes())
        left, top = number % 2 * 160, number // 2 * 120
        assert picture.format == "PNG"
        part = whole.crop((left, top, left + 160, top + 120))
        assert picture.convert("RGB").tobytes() == part.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_whatever_png_can_hold_stays_as_it_is(mode: str, tmp_path: Path) -> None:
    whole = Image.linear_gradient("L").resize((64, 64))
    whole = whole.convert("I;16") if mode == "I;16" else whole.convert("RGB").convert(mode)
    if mode in ("LA", "RGBA"):
        whole.putalpha(Image.linear_gradient("L").resize((64, 64)))

    paths = cut(encoded(whole, "PNG"), tmp_path)

    last = opened(paths[3].read_bytes())
    assert last.mode == mode
    assert last.tobytes() == opened(encoded(whole, "PNG")).crop((32, 32, 64, 64)).tobytes()


def test_transparency_by_colour_comes_along(tmp_path: Path) -> None:
    whole = photo(64, 64).quantize(8)

    paths = cut(encoded(whole, "PNG", transparency=3), tmp_path)

    for path in paths:
        assert opened(path.read_bytes()).info["transparency"] == 3


def test_a_picture_that_lies_on_its_side_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(64, 40, exif=exif.tobytes())

    paths = cut(data, tmp_path)

    assert opened(paths[0].read_bytes()).size == (20, 32)
    stored = opened(data)
    upright = stored.transpose(Image.Transpose.ROTATE_270)
    assert opened(paths[0].read_bytes()).tobytes() == upright.crop((0, 0, 20, 32)).tobytes()


def test_nothing_comes_along_but_the_colour_profile(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "seeded-secret-4711"
    data = jpeg(
        comment=b"seeded-secret-4711", exif=exif.tobytes(), icc_profile=PROFILE, dpi=(300, 300)
    )

    paths = cut(data, tmp_path)

    for path in paths:
        kept = path.read_bytes()
        assert chunks(kept) == {b"IHDR", b"iCCP", b"IDAT", b"IEND"}
        assert b"seeded-secret-4711" not in kept
        assert opened(kept).info["icc_profile"] == PROFILE


def test_a_profile_of_inks_does_not_come_along(tmp_path: Path) -> None:
    data = encoded(photo().convert("CMYK"), "JPEG", icc_profile=PROFILE)

    paths = cut(data, tmp_path)

    assert chunks(paths[0].read_bytes()) == {b"IHDR", b"IDAT", b"IEND"}


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    first, second = photo(64, 40, seed=1), photo(64, 40, seed=2)
    data = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)

    paths = cut(data, tmp_path)

    picture = opened(paths[0].read_bytes()).convert("RGB")
    assert picture.tobytes() == first.crop((0, 0, 32, 20)).tobytes()


@pytest.mark.parametrize(
    ("data", "bounds", "kind"),
    [
        (b"", Bounds(), UnsupportedMediaType),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Bounds(), UnsupportedMediaType),
        (encoded(photo(), "BMP"), Bounds(), UnsupportedMediaType),
        (encoded(photo(), "TIFF"), Bounds(), UnsupportedMediaType),
        (jpeg()[:3000], Bounds(), CorruptFile),
        (webp()[:500], Bounds(), CorruptFile),
        (png()[:2000], Bounds(), CorruptFile),
        (png(), Bounds(max_pixels=320 * 240 - 1), TooManyPixels),
        (png(), Bounds(max_png_chunks=2), Rejected),
        (scan_bomb_jpeg(side=64, scans=101), Bounds(), Rejected),
    ],
)
def test_what_is_no_picture_within_bounds_is_refused_and_leaves_nothing(
    data: bytes, bounds: Bounds, kind: type[Rejected], tmp_path: Path
) -> None:
    with pytest.raises(kind) as refused:
        cut(data, tmp_path, bounds)

    assert refused.value.field == "file"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_png_with_broken_pixels_is_corrupt(tmp_path: Path) -> None:
    """Its structure is sound, so this is found out by nobody but the decoder."""
    data = png()
    start = data.index(b"IDAT")
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    pixels = data[start:end][:100] + bytes(40) + data[start:end][140:]
    checksum = zlib.crc32(pixels).to_bytes(4, "big")

    with pytest.raises(CorruptFile):
        cut(data[:start] + pixels + checksum + data[end + 4 :], tmp_path)
