"""What a provider is shown of the library: pictures that all can read, and masks that are small."""

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from generation.references import MASK_BYTES, References
from storage.containers import Bounds
from storage.database import sqlite_url
from storage.decoders import Decoders
from storage.errors import Rejected
from storage.intake import Intake
from storage.library import Library, NewImage
from storage.models import Image as Row
from storage.objects.local import LocalObjectStore
from storage.viewers import Viewer
from tests.pictures import encoded, opened, photo

SIDE = 2048


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    """One kind is enough: nothing here is a matter of rows."""
    shutil.copy(sqlite_template, tmp_path / "darkroom.db")
    return sqlite_url(tmp_path / "darkroom.db")


@pytest.fixture
def intake(tmp_path: Path, decoders: Decoders) -> Intake:
    """Of files as large as people upload them."""
    folder = tmp_path / "arrivals"
    folder.mkdir()
    return Intake(folder, decoders, max_bytes=50 * 10**6, bounds=Bounds())


@pytest.fixture
def references(library: Library, store: LocalObjectStore) -> References:
    return References(library, store)


async def kept(library: Library, viewer: Viewer, data: bytes) -> Row:
    return (await library.add_image(viewer, data, NewImage())).image


def noise(size: tuple[int, int], bands: str = "RGB") -> Image.Image:
    return Image.frombytes(bands, size, Random(1).randbytes(size[0] * size[1] * len(bands)))


def with_hole(picture: Image.Image, hole: tuple[int, int, int, int]) -> Image.Image:
    opacity = Image.new("L", picture.size, 255)
    opacity.paste(0, hole)
    cut = picture.copy()
    cut.putalpha(opacity)
    return cut


async def test_a_large_mask_is_sent_as_its_transparency_only(
    references: References, library: Library, alice: Viewer
) -> None:
    colours = noise((1000, 1250)).resize((2000, 2500))
    first = await kept(library, alice, encoded(colours.convert("L"), "PNG"))
    large = with_hole(colours, (600, 800, 1400, 1500))
    mask = await kept(library, alice, encoded(large, "PNG"))

    (shown,), sent = await references.load(alice, [first.id], mask.id, side=SIDE)

    assert sent is not None
    assert (sent.width, sent.height) == (shown.width, shown.height) == (1638, 2048)
    assert mask.byte_size > 2 * MASK_BYTES
    assert len(sent.data) < 20_000
    picture = opened(sent.data)
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (1638, 2048))
    opacity = picture.getchannel("A")
    assert [opacity.getpixel(at) for at in ((819, 900), (10, 10))] == [0, 255]


async def test_a_mask_whose_soft_edges_are_too_large_gets_sharp_ones(
    references: References, library: Library, alice: Viewer
) -> None:
    soft = Image.new("RGB", (2040, 2040))
    soft.putalpha(noise((2040, 2040), "L"))
    mask = await kept(library, alice, encoded(soft, "PNG"))

    _, sent = await references.load(alice, [mask.id], mask.id, side=SIDE)

    assert sent is not None
    assert len(sent.data) < MASK_BYTES
    shades = opened(sent.data).getchannel("A").histogram()
    assert {value for value, count in enumerate(shades) if count} == {0, 255}


def grey_with_hole() -> Image.Image:
    return with_hole(photo(64, 80).convert("L"), (8, 8, 24, 24))


def turned() -> bytes:
    """Stored lying, with a hole at its left; upright, that is at its top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    cut = with_hole(photo(80, 64), (0, 0, 16, 64))
    return encoded(cut, "WEBP", lossless=True, exif=exif.tobytes())


def palette() -> bytes:
    picture = photo(64, 80).quantize(16)
    picture.paste(3, (8, 8, 24, 24))
    return encoded(picture, "PNG", transparency=3)


@pytest.mark.parametrize(
    ("data", "inside"),
    [
        (encoded(with_hole(photo(64, 80), (8, 8, 24, 24)), "PNG"), (16, 16)),
        (encoded(with_hole(photo(64, 80), (8, 8, 24, 24)), "WEBP", lossless=True), (16, 16)),
        (encoded(grey_with_hole(), "PNG"), (16, 16)),
        (palette(), (16, 16)),
        (turned(), (32, 8)),
    ],
    ids=["RGBA", "WebP", "grey", "palette", "turned"],
)
async def test_whatever_holds_the_transparency_it_is_sent_as_a_png_with_alpha(
    data: bytes, inside: tuple[int, int], references: References, library: Library, alice: Viewer
) -> None:
    mask = await kept(library, alice, data)
    assert (mask.width, mask.height) == (64, 80)

    await references.look_up(alice, [mask.id], mask.id)
    _, sent = await references.load(alice, [mask.id], mask.id, side=SIDE)

    assert sent is not None
    picture = opened(sent.data)
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (64, 80))
    opacity: Any = picture.getchannel("A")
    assert opacity.getpixel(inside) == 0
    assert opacity.getpixel((60, 76)) == 255


def opaque() -> Image.Image:
    picture = photo(64, 80)
    picture.putalpha(255)
    return picture


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (encoded(photo(64, 80), "JPEG"), "The mask has no transparency."),
        (encoded(photo(64, 80), "PNG"), "The mask has no transparency."),
        (encoded(photo(64, 80).convert("1"), "PNG"), "The mask has no transparency."),
        (encoded(opaque(), "PNG"), "The mask is opaque everywhere."),
    ],
    ids=["JPEG", "PNG", "black and white", "opaque"],
)
async def test_a_mask_without_a_hole_is_rejected_before_anything_is_queued_and_it_is_said_why(
    data: bytes, fault: str, references: References, library: Library, alice: Viewer
) -> None:
    mask = await kept(library, alice, data)

    for refusing in (
        references.look_up(alice, [mask.id], mask.id),
        references.load(alice, [mask.id], mask.id, side=SIDE),
    ):
        with pytest.raises(Rejected) as refused:
            await refusing

        assert refused.value.field == "maskImageId"
        assert refused.value.message == (
            f"{fault} Make a copy of the reference that is transparent where it may change, and "
            "upload that as a PNG."
        )


async def test_a_hole_that_is_too_small_for_the_rows_thumbnail_is_a_hole(
    references: References, library: Library, alice: Viewer
) -> None:
    mask = await kept(
        library, alice, encoded(with_hole(photo(1500, 1500), (700, 700, 701, 701)), "PNG")
    )

    await references.look_up(alice, [mask.id], mask.id)
    _, sent = await references.load(alice, [mask.id], mask.id, side=SIDE)

    assert sent is not None
    assert opened(sent.data).getchannel("A").getextrema() == (0, 255)


async def test_a_picture_with_transparency_is_shown_with_it_and_others_as_a_jpeg(
    references: References, library: Library, alice: Viewer
) -> None:
    cut = await kept(library, alice, encoded(with_hole(photo(64, 80), (8, 8, 24, 24)), "PNG"))
    plain = await kept(library, alice, encoded(photo(64, 80, seed=2), "PNG"))

    shown, _ = await references.load(alice, [cut.id, plain.id], None, side=40)

    assert [each.media_type for each in shown] == ["image/png", "image/jpeg"]
    assert [opened(each.data).size for each in shown] == [(32, 40), (32, 40)]
