"""Which AVIF files hold nothing but their picture."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from storage.containers.avif import is_bare, marked
from storage.marks import Mark
from tests.pictures import encoded, opened, photo

PLAIN = encoded(photo(64, 48), "AVIF", speed=9)
MARKED = encoded(photo(64, 48), "AVIF", speed=9, xmp=Mark.TRAINED.packet)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def bare(data: bytes) -> bool:
    return is_bare(memoryview(data))


def see_through() -> Image.Image:
    picture = photo(64, 48).convert("RGBA")
    picture.putalpha(100)
    return picture


def camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    return exif


def box(kind: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + kind + body


def with_media(data: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """The picture's stream with these bytes around it, and the places in the file set right."""
    at = data.index(b"mdat") + 4
    stream = before + data[at:] + behind
    head = data[: at - 8]
    known = (at.to_bytes(4, "big"), (len(data) - at).to_bytes(4, "big"))
    head = head.replace(known[0] + known[1], known[0] + len(stream).to_bytes(4, "big"))
    return head + box(b"mdat", stream)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN, id="colour"),
        pytest.param(encoded(photo(64, 48), "AVIF", subsampling="4:4:4"), id="full colour"),
        pytest.param(encoded(photo(64, 48).convert("L"), "AVIF"), id="grey"),
        pytest.param(encoded(see_through(), "AVIF"), id="transparent"),
        pytest.param(encoded(photo(1200, 900), "AVIF", tile_rows=1, tile_cols=1), id="tiles"),
        pytest.param(with_media(PLAIN), id="put together again"),
        pytest.param(encoded(photo(64, 48), "AVIF", xmp=Mark.TRAINED.packet), id="our mark"),
        pytest.param(encoded(see_through(), "AVIF", xmp=Mark.COMPOSITE.packet), id="and alpha"),
    ],
)
def test_a_picture_alone_is_bare(data: bytes) -> None:
    assert bare(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(photo(), "AVIF", exif=camera()), id="EXIF"),
        pytest.param(encoded(photo(), "AVIF", xmp=b"<x:xmpmeta/>"), id="XMP"),
        pytest.param(
            encoded(photo(), "AVIF", xmp=Mark.TRAINED.packet + b" "), id="XMP almost as ours"
        ),
        pytest.param(
            encoded(photo(), "AVIF", xmp=Mark.TRAINED.packet, exif=camera()), id="a mark and EXIF"
        ),
        pytest.param(MARKED.replace(b"mimeXMP", b"mimeABC"), id="a mark by another name"),
        pytest.param(MARKED.replace(b"rdf+xml", b"rdf+xyz"), id="a mark of another type"),
        pytest.param(MARKED.replace(b"trainedAl", b"trainedAI"), id="a mark with another word"),
        pytest.param(encoded(photo(), "AVIF", icc_profile=SRGB), id="ICC"),
        pytest.param(
            encoded(photo(), "AVIF", save_all=True, append_images=[photo(seed=2)]), id="animation"
        ),
        pytest.param(PLAIN + b"behind the end", id="trailing bytes"),
        pytest.param(PLAIN + box(b"free", b"hidden"), id="a free box"),
        pytest.param(PLAIN + box(b"uuid", bytes(16)), id="a uuid box"),
        pytest.param(PLAIN + box(b"mdat", b""), id="two media boxes"),
        pytest.param(PLAIN.replace(b"MA1B", b"hide"), id="an unknown brand"),
        pytest.param(PLAIN.replace(b"Color", b"Paris"), id="a name"),
        pytest.param(PLAIN.replace(b"pixi", b"what"), id="an unknown property"),
        pytest.param(PLAIN.replace(b"av01", b"mime"), id="another kind of item"),
        pytest.param(PLAIN[:-10], id="cut"),
        pytest.param(PLAIN[:30], id="cut early"),
        pytest.param(b"", id="nothing"),
        pytest.param(with_media(PLAIN, behind=b"\x7a\x05hello"), id="padding in the stream"),
        pytest.param(with_media(PLAIN, behind=b"\x2a\x05\x04hell"), id="metadata in the stream"),
        pytest.param(with_media(PLAIN, before=b"\x2a\x03\x04hi"), id="metadata before it"),
        pytest.param(with_media(PLAIN, behind=b"\x12"), id="half a unit"),
    ],
)
def test_what_holds_anything_else_is_not_bare(data: bytes) -> None:
    assert not bare(data)


PICTURES = {
    "colour": photo(64, 48),
    "grey": photo(64, 48).convert("L"),
    "transparent": see_through(),
    "large": photo(1200, 900),
}


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))
def test_a_file_is_marked_without_a_new_encoding(picture: Image.Image, mark: Mark) -> None:
    plain = encoded(picture, "AVIF")

    data = marked(memoryview(plain), mark)

    assert data == encoded(picture, "AVIF", xmp=mark.packet)  # as libavif writes it
    assert bare(data)
    assert opened(data).info["xmp"] == mark.packet
    assert opened(data).tobytes() == opened(plain).tobytes()


@pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))
def test_a_mark_takes_the_place_of_another(picture: Image.Image) -> None:
    trained = marked(memoryview(encoded(picture, "AVIF")), Mark.TRAINED)

    composite = marked(memoryview(trained), Mark.COMPOSITE)

    assert composite == encoded(picture, "AVIF", xmp=Mark.COMPOSITE.packet)
    assert marked(memoryview(composite), Mark.TRAINED) == trained


@settings(max_examples=300)
@given(at=st.integers(0, len(MARKED)), hidden=st.binary(min_size=1, max_size=20))
def test_nothing_can_be_put_beside_a_mark(at: int, hidden: bytes) -> None:
    assert not bare(MARKED[:at] + hidden + MARKED[at:])


@settings(max_examples=300)
@given(at=st.integers(0, len(PLAIN)), hidden=st.binary(min_size=1, max_size=20))
def test_nothing_can_be_put_in_between(at: int, hidden: bytes) -> None:
    assert not bare(PLAIN[:at] + hidden + PLAIN[at:])


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert not bare(data)
    assert not bare(PLAIN[:40] + data)
