"""Renditions: the size that was told before, the right part, upright, in sRGB, and nothing else."""

import math
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageOps
from PIL.Image import Resampling

from storage.marks import Mark
from storage.rendering import Fit, Format, Spec, frame, mark_of, render
from tests.pictures import encoded, jpeg, opened, photo, png

SIDES = st.integers(min_value=1, max_value=2000)
SMALL_SIDES = st.integers(min_value=1, max_value=90)
SHARES = st.floats(min_value=0, max_value=1)
ORIENTATION = 0x0112


@st.composite
def specs(
    draw: st.DrawFn, sides: st.SearchStrategy[int], fits: tuple[Fit, ...] = tuple(Fit)
) -> Spec:
    fit = draw(st.sampled_from(fits))
    optional = st.one_of(st.none(), sides) if fit is Fit.INSIDE else sides
    return Spec(
        width=draw(optional),
        height=draw(optional),
        fit=fit,
        focal=(draw(SHARES), draw(SHARES)),
        format=draw(st.sampled_from(Format)),
    )


def rendered_file(source: bytes, spec: Spec) -> Image.Image:
    """The only rendition, as its file says."""
    (data,) = render(source, [spec])
    return opened(data)


def rendered(source: bytes, spec: Spec) -> Image.Image:
    """The only rendition, as RGB or RGBA."""
    picture = rendered_file(source, spec)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def likeness(one: Image.Image, other: Image.Image) -> float:
    """The PSNR in dB: above 40, nobody tells them apart."""
    assert (one.size, one.mode) == (other.size, other.mode)
    histogram = ImageChops.difference(one, other).histogram()
    error = sum(count * (level % 256) ** 2 for level, count in enumerate(histogram))
    return 10 * math.log10(255**2 * sum(histogram) / max(error, 1))


def assert_close(
    pixel: float | tuple[int, ...] | None, expected: tuple[int, ...], tolerance: int
) -> None:
    assert isinstance(pixel, tuple)
    assert len(pixel) == len(expected)
    distances = [abs(a - b) for a, b in zip(pixel, expected, strict=True)]
    assert max(distances) <= tolerance, f"{pixel}, not {expected}"


# ---- Geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (Spec(), (400, 300)),
        (Spec(width=200), (200, 150)),
        (Spec(height=200), (267, 200)),
        (Spec(width=200, height=100), (133, 100)),
        (Spec(width=100, height=200), (100, 75)),
        (Spec(width=401), (400, 300)),
        (Spec(width=400, height=9000), (400, 300)),
        (Spec(width=1), (1, 1)),
    ],
)
def test_inside_shows_the_whole_picture_within_width_and_height(
    asked: Spec, size: tuple[int, int]
) -> None:
    result = frame((400, 300), asked)

    assert result.crop == (0, 0, 400, 300)
    assert result.scaled == result.canvas == size
    assert result.offset == (0, 0)


@pytest.mark.parametrize(
    ("size", "focal", "crop"),
    [
        ((100, 100), (0.5, 0.5), (50, 0, 350, 300)),
        ((100, 100), (0.0, 0.5), (0, 0, 300, 300)),
        ((100, 100), (1.0, 1.0), (100, 0, 400, 300)),
        ((100, 100), (0.45, 0.9), (30, 0, 330, 300)),
        ((200, 100), (0.5, 0.5), (0, 50, 400, 250)),
        ((200, 100), (0.5, 0.6), (0, 80, 400, 280)),
    ],
)
def test_cover_crops_around_the_focal_point(
    size: tuple[int, int], focal: tuple[float, float], crop: tuple[int, int, int, int]
) -> None:
    result = frame((400, 300), Spec(*size, fit=Fit.COVER, focal=focal))

    assert result.crop == crop
    assert result.scaled == result.canvas == size


def test_cover_of_a_smaller_picture_is_as_large_as_its_ratio_allows() -> None:
    result = frame((400, 300), Spec(1080, 1350, fit=Fit.COVER))

    assert result.crop == (80, 0, 320, 300)
    assert result.scaled == result.canvas == (240, 300)


def test_contain_adds_bars_to_a_scaled_picture() -> None:
    result = frame((400, 300), Spec(200, 200, fit=Fit.CONTAIN))

    assert (result.scaled, result.canvas, result.offset) == ((200, 150), (200, 200), (0, 25))


def test_contain_takes_the_smallest_canvas_around_a_picture_that_is_not_enlarged() -> None:
    result = frame((400, 300), Spec(1080, 1350, fit=Fit.CONTAIN))

    assert (result.scaled, result.canvas, result.offset) == ((400, 300), (400, 500), (0, 100))


def test_pad_enlarges_into_exactly_the_frame() -> None:
    result = frame((400, 300), Spec(1080, 1350, fit=Fit.PAD))

    assert (result.scaled, result.canvas, result.offset) == ((1080, 810), (1080, 1350), (0, 270))


def test_a_picture_too_long_for_the_format_is_made_to_fit_it() -> None:
    result = frame((1000, 40_000), Spec(width=1000, format=Format.WEBP))

    assert result.canvas == (410, 16_383)


@given(size=st.tuples(SIDES, SIDES), spec=specs(SIDES))
def test_every_frame_lies_within_its_picture_and_its_canvas(
    size: tuple[int, int], spec: Spec
) -> None:
    result = frame(size, spec)

    left, top, right, bottom = result.crop
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    for offset, scaled, canvas in zip(result.offset, result.scaled, result.canvas, strict=True):
        assert scaled >= 1
        assert 0 <= offset <= offset + scaled <= canvas


@given(size=st.tuples(SIDES, SIDES), spec=specs(SIDES, fits=(Fit.INSIDE, Fit.COVER, Fit.CONTAIN)))
def test_nothing_is_enlarged_but_by_pad(size: tuple[int, int], spec: Spec) -> None:
    result = frame(size, spec)

    left, top, right, bottom = result.crop
    assert result.scaled[0] <= right - left
    assert result.scaled[1] <= bottom - top
    assert result.width <= (spec.width or size[0])
    assert result.height <= (spec.height or size[1])


@given(size=st.tuples(SIDES, SIDES), spec=specs(SIDES, fits=(Fit.COVER,)))
def test_cover_always_shows_the_focal_point(size: tuple[int, int], spec: Spec) -> None:
    left, top, right, bottom = frame(size, spec).crop

    assert left <= spec.focal[0] * size[0] <= right
    assert top <= spec.focal[1] * size[1] <= bottom


@pytest.mark.parametrize("fit", [Fit.COVER, Fit.CONTAIN, Fit.PAD])
def test_cover_contain_and_pad_need_both_sides(fit: Fit) -> None:
    with pytest.raises(ValueError, match="both width and height"):
        Spec(width=100, fit=fit)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"width": 0}, "Sides"),
        ({"height": 16_384, "format": Format.WEBP}, "Sides"),
        ({"focal": (0.5, 1.1)}, "focal point"),
        ({"focal": (math.nan, 0.5)}, "focal point"),
        ({"quality": 0}, "Quality"),
        ({"quality": 101}, "Quality"),
        ({"background": "white"}, "background"),
        ({"background": "#ffffff\n"}, "background"),
    ],
)
def test_what_cannot_be_rendered_cannot_be_asked_for(
    fault: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Spec(**fault)  # type: ignore[arg-type]  # wrong on purpose


# ---- Files ---------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(SMALL_SIDES, SMALL_SIDES), kind=st.sampled_from(["JPEG", "PNG"]), data=st.data()
)
def test_every_rendition_has_the_size_that_was_told(
    size: tuple[int, int], kind: str, data: st.DataObject
) -> None:
    asked = data.draw(st.lists(specs(SMALL_SIDES), min_size=1, max_size=3))
    source = encoded(photo(*size), kind)

    files = render(source, asked)

    assert [opened(file).size for file in files] == [frame(size, spec).canvas for spec in asked]


@pytest.mark.parametrize("format", Format)
def test_a_rendition_is_of_the_format_that_was_asked_for(format: Format) -> None:
    picture = rendered_file(jpeg(), Spec(width=100, format=format))

    assert picture.format == format.name
    assert Image.MIME[format.name] == format.media_type


def test_jpeg_files_end_in_jpg_and_all_others_in_their_formats_name() -> None:
    assert [each.extension for each in Format] == ["jpg", "webp", "avif", "png"]


def test_a_file_gives_what_its_bytes_give(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg())

    assert render(path, [Spec(width=100)]) == render(jpeg(), [Spec(width=100)])


def test_no_specs_give_no_files() -> None:
    assert render(jpeg(), []) == []


def test_the_same_is_asked_for_twice_and_given_twice() -> None:
    one, other = render(jpeg(), [Spec(width=100), Spec(width=100)])

    assert one == other


@pytest.mark.parametrize("size", [(1203, 905), (1023, 767), (129, 97), (641, 8)])
@pytest.mark.parametrize("width", [16, 40, 64, 300])
def test_a_jpeg_decoded_small_shows_what_it_shows_decoded_in_full(
    size: tuple[int, int], width: int
) -> None:
    source = jpeg(*size)

    picture = rendered(source, Spec(width=width, format=Format.PNG))

    expected = opened(source).resize(picture.size, Resampling.LANCZOS)
    assert likeness(picture, expected) > 36


def test_a_crop_of_a_jpeg_decoded_small_is_where_it_should_be() -> None:
    source = jpeg(1203, 905)
    spec = Spec(60, 100, fit=Fit.COVER, focal=(0.9, 0.1), format=Format.PNG)

    picture = rendered(source, spec)

    crop = frame((1203, 905), spec).crop
    expected = opened(source).crop(crop).resize((60, 100), Resampling.LANCZOS)
    assert likeness(picture, expected) > 36


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_renditions_made_together_look_like_each_made_alone(kind: str) -> None:
    source = encoded(photo(600, 450), kind)
    asked = [
        Spec(width=320, format=Format.PNG),
        Spec(width=240, format=Format.PNG),
        Spec(150, 150, fit=Fit.COVER, focal=(0.2, 0.5), format=Format.PNG),
        Spec(width=100, format=Format.PNG),
        Spec(20, 45, fit=Fit.COVER, focal=(0.8, 0.5), format=Format.PNG),
    ]

    together = render(source, asked)

    for spec, file in zip(asked, together, strict=True):
        assert likeness(opened(file), rendered(source, spec)) > 38


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_large_picture_shows_no_seams(mode: str) -> None:
    source = photo(1800, 1350)
    if mode == "RGBA":
        source.putalpha(photo(1800, 1350, seed=3).convert("L"))

    picture = rendered_file(
        encoded(source.convert(mode), "WEBP" if mode == "RGBA" else "JPEG", quality=95),
        Spec(width=1303, format=Format.PNG),
    )

    expected = source.convert(mode).resize((1303, 977), Resampling.BICUBIC)
    assert (picture.size, picture.mode) == ((1303, 977), mode)
    for first in range(0, 977, 16):
        rows = (0, first, 1303, min(first + 16, 977))
        seen, wanted = (each.convert("L").crop(rows) for each in (picture, expected))
        assert likeness(seen, wanted) > 34


def test_an_enlarged_picture_has_no_steps() -> None:
    source = Image.linear_gradient("L").resize((16, 16))
    spec = Spec(1200, 1200, fit=Fit.PAD, format=Format.PNG)

    picture = rendered(encoded(source, "JPEG", quality=100), spec)

    column = picture.getchannel("R").crop((600, 0, 601, 1200)).tobytes()
    longest = max(len(list(equal)) for _, equal in groupby(column[100:1100]))
    assert longest < 12  # of 75 that each row of the source became


def test_the_marked_region_at_the_focal_point_is_kept() -> None:
    picture = photo(900, 300)
    ImageDraw.Draw(picture).rectangle((700, 100, 720, 120), fill="#ff0000")
    spec = Spec(90, 120, fit=Fit.COVER, focal=(710 / 900, 110 / 300))

    shown = rendered(encoded(picture, "PNG"), spec)

    left, top, right, _ = frame((900, 300), spec).crop
    scale = 90 / (right - left)
    assert_close(
        shown.getpixel((round((710 - left) * scale), round((110 - top) * scale))), (255, 0, 0), 40
    )


def test_the_bars_of_pad_have_the_background() -> None:
    spec = Spec(200, 200, fit=Fit.PAD, background="#336699", format=Format.PNG)

    picture = rendered(encoded(Image.new("L", (100, 50), 255), "PNG"), spec)

    assert [picture.getpixel((100, y)) for y in (0, 49, 50, 149, 150, 199)] == [
        *[(0x33, 0x66, 0x99)] * 2,
        *[(255, 255, 255)] * 2,
        *[(0x33, 0x66, 0x99)] * 2,
    ]


# ---- Orientation ---------------------------------------------------------------------------------


def turned(orientation: int, kind: str) -> bytes:
    """Unlike itself however it is turned or mirrored."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(photo(317, 211, seed=7), kind, exif=exif, quality=95)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_comes_out_upright(orientation: int, kind: str) -> None:
    source = turned(orientation, kind)

    picture = rendered_file(source, Spec(width=100, format=Format.PNG))

    upright = ImageOps.exif_transpose(opened(source))
    assert likeness(picture, upright.resize(picture.size, Resampling.LANCZOS)) > 36
    assert ORIENTATION not in picture.getexif()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_cropped_where_it_is_seen(orientation: int) -> None:
    source = turned(orientation, "JPEG")
    spec = Spec(50, 40, fit=Fit.COVER, focal=(0.15, 0.8), format=Format.PNG)

    picture = rendered(source, spec)

    upright = ImageOps.exif_transpose(opened(source))
    crop = frame(upright.size, spec).crop
    assert likeness(picture, upright.crop(crop).resize((50, 40), Resampling.LANCZOS)) > 36


# ---- Colours -------------------------------------------------------------------------------------

# How Display P3's red, green and blue, and white, are seen by a D50 observer:
# https://www.color.org/chardata/rgb/DisplayP3.xalter
DISPLAY_P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
D50 = (0.9642, 1.0, 0.8249)


def profile(space: bytes, colours: dict[bytes, tuple[float, float, float]], gamma: float) -> bytes:
    """An ICC profile of version 2: primaries, and one curve for all channels."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    tags = {name: b"XYZ " + bytes(4) + _fixed(*xyz) for name, xyz in colours.items()}
    tags |= {b"wtpt": b"XYZ " + bytes(4) + _fixed(*D50)}
    tags |= {b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78)}
    tags |= {b"cprt": b"text" + bytes(4) + b"CC0\0"}
    tags |= dict.fromkeys([b"kTRC"] if space == b"GRAY" else [b"rTRC", b"gTRC", b"bTRC"], curve)
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">II4s4s4s4s", start + len(body), 0, b"\2\x40\0\0", b"mntr", space, b"XYZ ")
    return (head + bytes(12) + b"acsp").ljust(68, b"\0") + _fixed(*D50) + bytes(48) + table + body


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WIDE = profile(b"RGB ", DISPLAY_P3, gamma=2.2)


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_wide_gamut_picture_comes_out_in_srgb(kind: str, format: Format) -> None:
    source = encoded(Image.new("RGB", (64, 64), (200, 120, 60)), kind, icc_profile=WIDE)

    picture = rendered(source, Spec(width=32, format=format, quality=95))

    # By the matrices of both spaces: what P3 calls (200, 120, 60) is a stronger colour in sRGB.
    assert_close(picture.getpixel((16, 16)), (214, 116, 38), 4)


def test_transparency_survives_the_conversion_of_colours() -> None:
    picture = Image.new("RGBA", (64, 64), (200, 120, 60, 255))
    picture.paste((200, 120, 60, 102), (0, 0, 32, 64))

    shown = rendered(encoded(picture, "PNG", icc_profile=WIDE), Spec(width=32, format=Format.PNG))

    assert_close(shown.getpixel((4, 16)), (214, 116, 38, 102), 4)
    assert_close(shown.getpixel((28, 16)), (214, 116, 38, 255), 4)


def test_the_curve_of_a_grey_picture_is_kept() -> None:
    linear = profile(b"GRAY", {}, gamma=1.0)
    source = encoded(Image.new("L", (64, 64), 128), "PNG", icc_profile=linear)

    picture = rendered(source, Spec(width=32, format=Format.PNG))

    assert_close(picture.getpixel((16, 16)), (188, 188, 188), 2)


@pytest.mark.parametrize(
    "useless",
    [SRGB, b"not a profile", WIDE[:200], b"", profile(b"GRAY", {}, gamma=1.0)],
    ids=["sRGB", "no profile", "half a profile", "nothing", "a profile of another space"],
)
def test_a_profile_that_says_nothing_changes_nothing(useless: bytes) -> None:
    plain = encoded(photo(), "JPEG")
    with_profile = encoded(photo(), "JPEG", icc_profile=useless)

    assert render(with_profile, [Spec(width=64)]) == render(plain, [Spec(width=64)])


def cmyk_jpeg(*, marker: bool = True, ycck: bool = False) -> bytes:
    """A red field, in inks, as Photoshop writes it: 255 is no ink."""
    red = (0, 255, 255, 0)
    if ycck:  # Pillow inverts when it writes; the three first inks go through YCbCr
        y, cb, cr = Image.new("RGB", (1, 1), red[:3]).convert("YCbCr").tobytes()
        red = (255 - y, 255 - cb, 255 - cr, 0)
    data = bytearray(encoded(Image.new("CMYK", (64, 64), red), "JPEG", quality=95))
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    if ycck:
        data[start + 15] = 2
    if not marker:
        del data[start : start + 16]
    return bytes(data)


@pytest.mark.parametrize(
    "source",
    [cmyk_jpeg(), cmyk_jpeg(ycck=True), cmyk_jpeg(marker=False)],
    ids=["Adobe", "Adobe, inks as YCCK", "no marker"],
)
@pytest.mark.parametrize("format", Format)
def test_red_ink_is_red_light(source: bytes, format: Format) -> None:
    picture = rendered(source, Spec(width=32, format=format, quality=95))

    assert_close(picture.getpixel((16, 16)), (254, 0, 0), 6)


def sixteen_bit_png(color_type: int, pixel: tuple[int, ...], *, key: tuple[int, ...] = ()) -> bytes:
    """64 x 64 pixels of one colour, each channel from 0 to 65535; `key` is transparent."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + zlib.crc32(name + body).to_bytes(4)

    row = b"\0" + struct.pack(f">{len(pixel)}H", *pixel) * 64
    header = struct.pack(">IIBBBBB", 64, 64, 16, color_type, 0, 0, 0)
    transparency = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    data = chunk(b"IDAT", zlib.compress(row * 64))
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + transparency + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("source", "pixel"),
    [
        (sixteen_bit_png(0, (0x80FF,)), (128, 128, 128)),
        (sixteen_bit_png(2, (0x80FF, 0x2000, 0xFF00)), (128, 32, 255)),
        (sixteen_bit_png(4, (0x80FF, 0x4000)), (128, 128, 128, 64)),
        (sixteen_bit_png(6, (0x80FF, 0x2000, 0xFF00, 0x4000)), (128, 32, 255, 64)),
    ],
    ids=["grey", "colour", "grey with alpha", "colour with alpha"],
)
def test_sixteen_bits_become_eight(source: bytes, pixel: tuple[int, ...]) -> None:
    picture = rendered(source, Spec(width=32, format=Format.PNG))

    assert_close(picture.getpixel((16, 16)), pixel, 2)


def test_a_transparent_shade_of_sixteen_bits_is_transparent_in_eight() -> None:
    source = sixteen_bit_png(0, (0x80FF,), key=(0x80FF,))

    picture = rendered(source, Spec(width=32, format=Format.PNG))

    assert picture.getchannel("A").getextrema() == (0, 0)


# ---- Transparency --------------------------------------------------------------------------------


def palette_gif() -> bytes:
    picture = Image.new("P", (64, 64), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (32, 0, 64, 64))
    return encoded(picture, "GIF", transparency=1)


def palette_png() -> bytes:
    picture = Image.new("P", (64, 64), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (32, 0, 64, 64))
    return encoded(picture, "PNG", transparency=b"\xff\x00")


@pytest.mark.parametrize("source", [palette_gif(), palette_png()], ids=["GIF", "PNG"])
@pytest.mark.parametrize("format", [Format.WEBP, Format.AVIF, Format.PNG])
def test_a_palettes_transparency_is_kept(source: bytes, format: Format) -> None:
    picture = rendered(source, Spec(width=32, format=format, quality=95))

    assert_close(picture.getpixel((4, 16)), (255, 0, 0, 255), 5)
    assert picture.getchannel("A").getpixel((28, 16)) == 0


@pytest.mark.parametrize("source", [palette_gif(), palette_png()], ids=["GIF", "PNG"])
def test_a_jpeg_shows_the_background_where_the_picture_is_transparent(source: bytes) -> None:
    picture = rendered(source, Spec(width=32, background="#00ff00", quality=95))

    assert_close(picture.getpixel((4, 16)), (255, 0, 0), 5)
    assert_close(picture.getpixel((28, 16)), (0, 255, 0), 5)


def test_grey_with_alpha_keeps_both() -> None:
    source = encoded(Image.new("LA", (64, 64), (90, 128)), "PNG")

    picture = rendered_file(source, Spec(width=32, format=Format.PNG))

    assert picture.mode == "LA"
    assert_close(picture.getpixel((16, 16)), (90, 128), 1)


def test_alpha_that_hides_nothing_is_left_out() -> None:
    source = encoded(photo().convert("RGBA"), "PNG")

    picture = rendered_file(source, Spec(width=32, format=Format.PNG))

    assert picture.mode == "RGB"


def white_disc_on_black_nothing() -> bytes:
    picture = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((50, 50, 350, 350), fill=(255, 255, 255, 255))
    return encoded(picture, "PNG")


def test_no_dark_fringe_is_flattened_into_a_jpeg() -> None:
    picture = rendered(white_disc_on_black_nothing(), Spec(width=61))

    darkest = min(int(low) for low, _ in picture.getextrema())  # type: ignore[misc]  # three bands
    assert darkest >= 253


def test_no_dark_fringe_is_left_below_half_transparent_pixels() -> None:
    picture = rendered(white_disc_on_black_nothing(), Spec(width=61, format=Format.PNG))

    over_white = Image.new("RGBA", picture.size, "white")
    over_white.alpha_composite(picture)
    assert min(over_white.convert("L").tobytes()) >= 253


def test_a_transparent_picture_stays_so_between_the_bars() -> None:
    source = encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0)), "PNG")
    spec = Spec(80, 40, fit=Fit.PAD, background="#0000ff", format=Format.WEBP)

    picture = rendered(source, spec)

    assert_close(picture.getpixel((5, 20)), (0, 0, 255, 255), 5)
    assert picture.getchannel("A").getpixel((40, 20)) == 0


# ---- Nothing else --------------------------------------------------------------------------------


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("width", [None, 64], ids=["unchanged size", "shrunk"])
def test_no_metadata_comes_out(kind: str, format: Format, width: int | None) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    options: dict[str, object] = {"exif": exif, "icc_profile": WIDE}
    if kind != "PNG":
        options["xmp"] = b"<x:xmpmeta>SECRET</x:xmpmeta>"
    if kind == "JPEG":
        options["comment"] = b"SECRET comment"

    (data,) = render(encoded(photo(100, 80), kind, **options), [Spec(width=width, format=format)])

    assert b"SECRET" not in data
    assert b"acsp" not in data
    assert b"Exif" not in data
    assert {"icc_profile", "exif", "xmp", "comment"} & opened(data).info.keys() == set()


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_every_rendition_is_marked_where_somebody_says_so(
    kind: str, format: Format, mark: Mark
) -> None:
    source = encoded(photo(100, 80), kind)

    (data,) = render(source, [Spec(width=64, format=format)], mark)

    assert opened(data).info["xmp"] == mark.packet
    assert mark_of(data) is mark
    assert mark_of(source) is None


@pytest.mark.parametrize("said", [None, Mark.TRAINED])
@pytest.mark.parametrize("format", Format)
def test_every_rendition_inherits_the_mark_of_its_source(format: Format, said: Mark | None) -> None:
    packet = Mark.COMPOSITE.packet.replace(b"rdf:about", b"rdf:secret='4711' rdf:about")
    source = encoded(photo(100, 80), "JPEG", xmp=packet)

    (data,) = render(source, [Spec(width=64, format=format)], said)

    assert opened(data).info["xmp"] == Mark.COMPOSITE.packet
    assert b"4711" not in data


@pytest.mark.parametrize("format", Format)
def test_a_mark_changes_no_pixel(format: Format) -> None:
    (plain,) = render(jpeg(), [Spec(width=64, format=format)])

    (marked,) = render(jpeg(), [Spec(width=64, format=format)], Mark.TRAINED)

    assert opened(marked).tobytes() == opened(plain).tobytes()
    assert len(marked) - len(plain) < 650


def test_the_first_frame_of_an_animation_is_shown() -> None:
    pages = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "AVIF"):
        source = encoded(pages[0], kind, save_all=True, append_images=pages[1:], duration=100)
        for format in Format:
            picture = rendered_file(source, Spec(format=format))

            assert getattr(picture, "n_frames", 1) == 1
            assert_close(picture.convert("RGB").getpixel((32, 32)), (255, 0, 0), 5)


def test_the_first_picture_of_a_camera_file_with_several_is_shown() -> None:
    pages = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    source = encoded(pages[0], "MPO", save_all=True, append_images=pages[1:])

    assert_close(rendered(source, Spec(width=32)).getpixel((16, 16)), (254, 0, 0), 5)


# ---- Again, and at the same time -----------------------------------------------------------------

EVERY_FORMAT = [Spec(width=width, format=format) for width in (200, 90) for format in Format]


@pytest.mark.parametrize("source", [jpeg(), png()], ids=["JPEG", "PNG"])
def test_the_same_file_and_specs_give_the_same_bytes(source: bytes) -> None:
    assert render(source, EVERY_FORMAT) == render(source, EVERY_FORMAT)


def test_eight_threads_give_what_one_gives() -> None:
    sources = [
        encoded(photo(seed=seed), "JPEG", icc_profile=WIDE if seed % 2 else SRGB)
        for seed in range(12)
    ]
    one_by_one = [render(source, EVERY_FORMAT) for source in sources]

    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda source: render(source, EVERY_FORMAT), sources))

    assert at_once == one_by_one
