"""Properties of the whole road: what comes in as any picture goes out as promised, and bare.

But for one thing: what AI made says so from the first byte that is kept to the last rendition.
"""

from io import BytesIO
from pathlib import Path
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from storage.containers import Bounds
from storage.examination import Examination, Paths, examine
from storage.marks import Mark, combined
from storage.models import Image as Row
from storage.models import ImageOrigin
from storage.rendering import Fit, Format, render
from storage.renditions import ImageFormat, Rendition
from tests.pictures import encoded, photo

MARK = b"seeded-marker-4711"

sides = st.integers(1, 90)
pictures = st.builds(
    lambda width, height, seed, mode: photo(width, height, seed=seed).convert(mode),
    sides,
    sides,
    st.integers(0, 50),
    st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK"]),
)
renditions: st.SearchStrategy[dict[str, object]] = st.builds(
    dict,
    width=st.integers(1, 120),
    height=st.integers(1, 120),
    fit=st.sampled_from(Fit),
    format=st.sampled_from([each for each in ImageFormat if each is not ImageFormat.AUTO]),
    quality=st.none() | st.integers(1, 100),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    picture=pictures,
    format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    orientation=st.integers(1, 8),
    asked=renditions,
    focal=st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_picture_comes_out_decodable_in_the_promised_size_and_bare(
    tmp_path: Path,
    picture: Image.Image,
    format: str,
    orientation: int,
    asked: dict[str, object],
    focal: tuple[float, float] | None,
) -> None:
    paths = Paths(*(tmp_path / name for name in ("source", "clean", "grid")))
    paths.source.write_bytes(_with_metadata(picture, format, orientation))

    shown = examine(paths, Bounds())
    row = _row(shown, focal)
    rendition = Rendition.of(row, **asked)  # type: ignore[arg-type]  # as hypothesis chose
    spec = rendition.spec(Format(rendition.format.value))
    (made,) = render(paths.clean.read_bytes(), [spec])

    with Image.open(BytesIO(made)) as out:
        out.load()
        assert out.size == rendition.size(row)
        assert Image.MIME[out.format or ""] == rendition.media_type
        assert not out.getexif()
        assert not out.info.keys() & {"exif", "xmp", "icc_profile", "comment"}
    for data in (made, paths.clean.read_bytes(), paths.grid.read_bytes()):
        assert MARK not in data


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    picture=pictures,
    format=st.sampled_from(["JPEG", "PNG", "WEBP", "AVIF"]),
    by_file=st.none() | st.sampled_from(Mark),
    by_maker=st.none() | st.sampled_from(Mark),
    asked=renditions,
)
def test_any_mark_is_read_from_the_clean_file_and_any_rendition_of_it_and_nothing_else_is(
    tmp_path: Path,
    picture: Image.Image,
    format: str,
    by_file: Mark | None,
    by_maker: Mark | None,
    asked: dict[str, object],
) -> None:
    paths = Paths(*(tmp_path / name for name in ("source", "clean", "grid")))
    paths.source.write_bytes(_with_xmp(picture, format, by_file))

    shown = examine(paths, Bounds(), by_maker)
    clean = paths.clean.read_bytes()
    rendition = Rendition.of(_row(shown, None), **asked)  # type: ignore[arg-type]  # as hypothesis chose
    (made,) = render(clean, [rendition.spec(Format(rendition.format.value))])

    mark = combined(by_file, by_maker)
    assert (shown.declares_ai, shown.mark) == (by_file is not None, mark)
    for data in (clean, paths.grid.read_bytes(), made):
        with Image.open(BytesIO(data)) as out:
            out.load()
            assert out.info.get("xmp") == (mark.packet if mark else None)
        assert MARK not in data


def _with_xmp(picture: Image.Image, format: str, mark: Mark | None) -> bytes:
    """A packet that says more than it should."""
    packet = b"<x:xmpmeta>" + MARK + (mark.packet if mark else b"") + b"</x:xmpmeta>"
    if format == "JPEG" or picture.mode == "CMYK":
        picture = picture.convert("RGB")
    if format == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", packet.decode())
        return encoded(picture, format, pnginfo=texts)
    return encoded(picture, format, xmp=packet)


def _with_metadata(picture: Image.Image, format: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = MARK.decode()
    if format == "GIF":
        return encoded(picture.convert("P"), "GIF", comment=MARK)
    if format in ("PNG", "WEBP") and picture.mode == "CMYK":
        picture = picture.convert("RGB")
    if format == "JPEG" and picture.mode in ("RGBA", "P"):
        picture = picture.convert("RGB")
    return encoded(picture, format, exif=exif.tobytes(), quality=80) + MARK


def _row(shown: Examination, focal: tuple[float, float] | None) -> Row:
    """As the library keeps what was examined, as far as renditions look at it."""
    x, y = focal or (None, None)
    return Row(
        workspace_id=uuid4(),
        origin=ImageOrigin.UPLOADED,
        media_type=shown.media_type,
        byte_size=shown.byte_size,
        sha256=shown.sha256,
        source_media_type=shown.source_media_type,
        source_sha256="",
        width=shown.width,
        height=shown.height,
        frames=shown.frames,
        has_alpha=shown.has_alpha,
        declares_ai=shown.declares_ai,
        has_c2pa=shown.has_c2pa,
        dominant_color=shown.dominant_color,
        thumbhash=shown.thumbhash,
        perceptual_hash=shown.perceptual_hash,
        object_key="",
        focal_x=x,
        focal_y=y,
    )
