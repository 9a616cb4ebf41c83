"""Derived sizes of a picture: pure functions on files that were fully decoded and accepted before.

`frame` tells what a rendition will be without making it. `render` makes it, in a thread: Pillow
lets go of the interpreter's lock while it decodes, resizes and encodes.

What is chosen by measurement here (filters, gaps, encoders' settings) has its figures in
benchmarks/README.md.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from io import BytesIO
from itertools import product
from pathlib import Path

from PIL import (  # Pillow loads every plugin it has, unless those it needs are there
    AvifImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    ImageChops,
    ImageCms,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,
    WebPImagePlugin,  # noqa: F401
)
from PIL.Image import Resampling, Transpose

from storage.containers import xmp
from storage.marks import Mark, combined

Size = tuple[int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom

# ---- What a rendition will be --------------------------------------------------------------------


class Fit(StrEnum):
    """How a picture takes the width and height that were asked for."""

    INSIDE = "inside"  # the whole picture, at most that wide and high
    COVER = "cover"  # cropped to their ratio, around the focal point
    CONTAIN = "contain"  # the whole picture, with bars that make their ratio
    PAD = "pad"  # the whole picture, also enlarged, with bars: exactly that wide and high


class Format(StrEnum):
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"
    PNG = "png"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        return "jpg" if self is Format.JPEG else self.value

    @property
    def longest_side(self) -> int:
        """In pixels: what the encoder takes, and decoders read."""
        return {"jpeg": 65_500, "webp": 16_383, "avif": 32_768, "png": 65_500}[self]


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked for. INSIDE may leave out width, height or both; the others need both.

    `focal` is the point that COVER keeps, from (0, 0), the top left, to (1, 1), as displayed.
    `quality` is the encoder's own: AVIF at 60 looks like JPEG and WebP at 80; PNG has none.
    `background` is `#rrggbb`, for bars, and below transparency where the format has none.

    Raises ValueError for what no picture could be rendered to.
    """

    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.INSIDE
    focal: tuple[float, float] = (0.5, 0.5)
    format: Format = Format.JPEG
    quality: int = 80
    background: str = "#ffffff"

    def __post_init__(self) -> None:
        if self.fit is not Fit.INSIDE and (self.width is None or self.height is None):
            raise ValueError(f"{self.fit.name} needs both width and height.")
        for side in (self.width, self.height):
            if side is not None and not 1 <= side <= self.format.longest_side:
                raise ValueError(f"Sides are from 1 to {self.format.longest_side}, not {side}.")
        if not all(0 <= share <= 1 for share in self.focal):
            raise ValueError(f"The focal point is from (0, 0) to (1, 1), not {self.focal}.")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"Quality is from 1 to 100, not {self.quality}.")
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.background):
            raise ValueError(f"The background is as in #ffffff, not {self.background!r}.")


@dataclass(frozen=True, slots=True)
class Frame:
    """Which part of a picture is shown, at which size, and where on the canvas; in pixels.

    `crop` is in pixels of the picture as displayed; `canvas` is the size of the rendition.
    """

    crop: Box
    scaled: Size
    canvas: Size
    offset: tuple[int, int]

    @property
    def width(self) -> int:
        return self.canvas[0]

    @property
    def height(self) -> int:
        return self.canvas[1]


def frame(size: Size, spec: Spec) -> Frame:
    """Where a picture of that size, as displayed, goes. Only PAD enlarges; no side is below 1."""
    whole = (0, 0, *size)
    longest = spec.format.longest_side
    asked = (spec.width or longest, spec.height or longest)
    match spec.fit:
        case Fit.INSIDE:
            scaled = _fitted(size, asked)
            return Frame(whole, scaled, scaled, (0, 0))
        case Fit.COVER:
            part = _fitted(asked, size, enlarge=True)
            scaled = asked if part[0] >= asked[0] and part[1] >= asked[1] else part
            return Frame(_around(spec.focal, part, size), scaled, scaled, (0, 0))
        case Fit.CONTAIN:
            scaled = _fitted(size, asked)
            canvas = asked if scaled != size else _surrounding(size, asked)
        case Fit.PAD:
            scaled = _fitted(size, asked, enlarge=True)
            canvas = asked
    offset = ((canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2)
    return Frame(whole, scaled, canvas, offset)


def _fitted(size: Size, into: Size, *, enlarge: bool = False) -> Size:
    """The largest size of the same ratio within `into`."""
    (width, height), (most_wide, most_high) = size, into
    if width <= most_wide and height <= most_high and not enlarge:
        return size
    if width * most_high >= height * most_wide:
        return most_wide, max(1, _rounded(height * most_wide, width))
    return max(1, _rounded(width * most_high, height)), most_high


def _surrounding(size: Size, ratio: Size) -> Size:
    """The smallest size of that ratio around `size`."""
    (width, height), (wide, high) = size, ratio
    if width * high >= height * wide:
        return width, _rounded(width * high, wide)
    return _rounded(height * wide, high), height


def _around(focal: tuple[float, float], part: Size, size: Size) -> Box:
    """A box as large as `part`, with the focal point as near to its middle as the edges allow."""
    left, top = (
        min(max(round(share * side - length / 2), 0), side - length)
        for share, side, length in zip(focal, size, part, strict=True)
    )
    return left, top, left + part[0], top + part[1]


def _rounded(dividend: int, divisor: int) -> int:
    """Of whole numbers, so that every machine rounds alike; a half goes up."""
    return (2 * dividend + divisor) // (2 * divisor)


# ---- Making it -----------------------------------------------------------------------------------

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")  # what is read; Pillow finds MPO by JPEG

# A picture is shrunk by at least so much in its last step. Less would blur: what a JPEG's decoder
# or an earlier step left of its finest detail is all that a filter then has. Half its size is what
# the decoder makes best, and the whole takes twice as long.
DECODED_GAPS = {8: 1.3, 4: 1.3, 2: 1.04}
CASCADE_GAP = 1.3
REDUCING_GAP = 2.0

# The more pixels a step makes, the dearer is a sharp filter, and the less is it seen.
LARGE = 1_000_000
SMALL = 150_000
# Rows of a large picture that are made at a time: what lies between both passes of a filter is as
# wide as the result and as high as the source.
BAND = 128

DRAWN = ("PNG", "GIF")  # edges between pixels, as in screenshots, which a soft filter would show

# EXIF's orientations: how to turn what is stored into what is displayed.
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class _View:
    """A part of the picture, and the size to show it at: both as stored, before any turn."""

    part: Box
    size: Size

    @property
    def density(self) -> float:
        """Pixels shown for each stored one, along the side where they are more."""
        left, top, right, bottom = self.part
        return max(self.size[0] / (right - left), self.size[1] / (bottom - top))

    def order(self) -> tuple[int, Size, Box]:
        return self.size[0] * self.size[1], self.size, self.part


@dataclass(frozen=True, slots=True)
class _Layer:
    """A part of the picture as pixels: what was decoded, or a view that smaller ones come from."""

    part: Box
    picture: Image.Image


def render(source: bytes | Path, specs: Sequence[Spec], mark: Mark | None = None) -> list[bytes]:
    """One file for each spec, of `frame`'s size, without metadata: upright and in sRGB.

    The one thing that is said in them is the mark: `mark`, and what the source says of itself. Of
    an animation, the first frame. Only for files that were decoded and accepted before.
    """
    opened = BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(opened, formats=FORMATS) as picture:
        return render_opened(picture, specs, mark, closing=True)


def render_opened(
    picture: ImageFile.ImageFile,
    specs: Sequence[Spec],
    mark: Mark | None = None,
    *,
    closing: bool = False,
) -> list[bytes]:
    """The same, of a file that is open and not decoded yet. All data of its frame are read.

    `closing` closes it as soon as nothing more is made of its pixels, which frees them.
    """
    _keep_memory()
    mark = combined(mark, xmp.declared(xmp_of(picture)))
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = picture.size
    displayed = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    frames = [frame(displayed, spec) for spec in specs]
    views = [_stored(each, displayed, orientation) for each in frames]
    turn = TURNS.get(orientation)
    files = [b""] * len(specs)
    for view, seen in _pictures(picture, set(views), closing=closing):
        shown = seen if turn is None else seen.transpose(turn)
        for index, (spec, each) in enumerate(zip(specs, frames, strict=True)):
            if views[index] == view:
                files[index] = _encoded(_framed(shown, each, spec), spec, mark)
    return files


def mark_of(file: bytes) -> Mark | None:
    """What a clean file, or a rendition, says of itself. Decodes nothing."""
    with Image.open(BytesIO(file), formats=FORMATS) as picture:
        return xmp.declared(xmp_of(picture))


def xmp_of(picture: Image.Image) -> bytes:
    """The packet of a file that is open, and not decoded yet; empty if there is none."""
    packet = picture.info.get("xmp") or b""
    return packet if isinstance(packet, bytes) else packet.encode()


def _stored(each: Frame, displayed: Size, orientation: int) -> _View:
    """Turned back: so that only what is small has its pixels turned."""
    left, top, right, bottom = each.crop
    if orientation in (2, 3, 6, 7):
        left, right = displayed[0] - right, displayed[0] - left
    if orientation in (3, 4, 7, 8):
        top, bottom = displayed[1] - bottom, displayed[1] - top
    if orientation in (5, 6, 7, 8):
        return _View((top, left, bottom, right), (each.scaled[1], each.scaled[0]))
    return _View((left, top, right, bottom), each.scaled)


def _pictures(
    file: ImageFile.ImageFile, views: set[_View], *, closing: bool
) -> Iterator[tuple[_View, Image.Image]]:
    """All views from one decode: the larger first, the smaller from them where they suffice.

    None is held longer than others need it.
    """
    profile = file.info.get("icc_profile")
    is_drawn = file.format in DRAWN
    steps = _steps(views)
    layers: dict[_View | None, _Layer] = {None: _decoded(file, views)}
    for index, (view, source) in enumerate(steps):
        picture = _shrunk(layers[source], view, is_drawn=is_drawn)
        if source is None:  # colours cost by the pixel, so not before it was shrunk
            picture = _in_srgb(picture, profile)
        layers[view] = _Layer(view.part, picture)
        needed = {later for _, later in steps[index + 1 :]}
        layers = {each: layer for each, layer in layers.items() if each in needed}
        if closing and None not in needed:
            file.close()
        yield view, picture


def _steps(views: set[_View]) -> list[tuple[_View, _View | None]]:
    """What each view is made of: the smallest that suffices, or None, what was decoded."""
    steps: list[tuple[_View, _View | None]] = []
    for view in sorted(views, key=_View.order, reverse=True):
        larger = [each for each, _ in steps if _suffices(each, view)]
        steps.append((view, larger[-1] if larger else None))
    return steps


def _decoded(file: ImageFile.ImageFile, views: set[_View]) -> _Layer:
    """The picture in a mode that can be resized: a JPEG no larger than need be, for less time."""
    need = max((view.density for view in views), default=1.0)
    scale = next((scale for scale, gap in DECODED_GAPS.items() if scale * gap * need <= 1), 1)
    width, height = file.size
    if file.draft(None, (max(1, width // scale), max(1, height // scale))) is None:
        scale = 1
    file.load()
    picture = _resizable(file)
    picture.info = {}  # or encoders would find comments and profiles there
    # The last column and row may stand for stored pixels beyond the edge.
    return _Layer((0, 0, picture.width * scale, picture.height * scale), picture)


def _resizable(picture: Image.Image) -> Image.Image:
    """In L, LA, RGB, RGBA or CMYK, whose values can be averaged; with alpha only if it is used."""
    if picture.mode.startswith("I;16"):
        transparency = picture.info.get("transparency")
        # A plain conversion would clip: all but the darkest turned white.
        picture = picture.point(lambda shade: shade * (1 / 256)).convert("L")
        if transparency is not None:
            picture.info["transparency"] = transparency // 256
    grey = picture.mode in ("1", "L", "LA", "La", "I", "F")
    if picture.has_transparency_data:
        picture = picture.convert("LA" if grey else "RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            return picture
    if picture.mode in ("L", "RGB", "CMYK"):
        return picture
    return picture.convert("L" if grey else "RGB")


def _suffices(larger: _View, view: _View) -> bool:
    """Whether the view is within the larger one, and enough smaller to be made of it."""
    left, top, right, bottom = larger.part
    inner_left, inner_top, inner_right, inner_bottom = view.part
    return (
        (left <= inner_left and inner_right <= right)
        and (top <= inner_top and inner_bottom <= bottom)
        and view.size[0] * (right - left) * CASCADE_GAP
        <= larger.size[0] * (inner_right - inner_left)
        and view.size[1] * (bottom - top) * CASCADE_GAP
        <= larger.size[1] * (inner_bottom - inner_top)
    )


def _shrunk(layer: _Layer, view: _View, *, is_drawn: bool) -> Image.Image:
    left, top, right, bottom = layer.part
    across = layer.picture.width / (right - left)
    down = layer.picture.height / (bottom - top)
    box = (
        (view.part[0] - left) * across,
        (view.part[1] - top) * down,
        (view.part[2] - left) * across,
        (view.part[3] - top) * down,
    )
    pixels = view.size[0] * view.size[1]
    resampling = Resampling.BICUBIC
    if pixels <= SMALL or is_drawn:
        resampling = Resampling.LANCZOS
    elif pixels > LARGE and box[2] - box[0] > view.size[0]:  # what is enlarged would show steps
        resampling = Resampling.HAMMING
    return _resized(layer.picture, view.size, resampling, box)


def _resized(
    picture: Image.Image,
    size: Size,
    resampling: Resampling,
    box: tuple[float, float, float, float],
) -> Image.Image:
    """As `Image.resize` does it, a band at a time where that saves memory."""
    left, top, right, bottom = box
    width, height = size
    is_reduced = bottom - top >= 2 * REDUCING_GAP * height
    is_large = width * height > LARGE
    if not is_large or is_reduced or picture.size == size or picture.mode in ("LA", "RGBA"):
        return picture.resize(size, resampling, box, reducing_gap=REDUCING_GAP)
    whole = Image.new(picture.mode, size, None)  # every pixel of it will be pasted
    step = (bottom - top) / height
    for first in range(0, height, BAND):
        end = min(first + BAND, height)
        part = (left, top + first * step, right, top + end * step)
        band = picture.resize((width, end - first), resampling, part)
        whole.paste(band, (0, first))
    return whole


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """In L, LA, RGB or RGBA. Changes the picture in place where it can."""
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    mode = {"LA": "L", "RGBA": "RGB"}.get(picture.mode, picture.mode)
    transform = _to_srgb(profile, mode) if profile else None
    if transform is None:
        return picture.convert("RGB") if mode == "CMYK" else picture
    if alpha is not None:
        picture = picture.convert(mode)
    if mode == "RGB":
        transform.apply_in_place(picture)
    else:
        picture = transform.apply(picture)
    picture.info = {}
    if alpha is not None:
        picture.putalpha(alpha)
    return picture


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None if there is nothing to do: for sRGB itself, and for a profile that is broken.

    Threads may share a transform, as long as it caches nothing (lcms2's NOCACHE).
    """
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.NOCACHE | ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return None
    if mode == "CMYK":
        return transform
    # Profiles of sRGB go by many names; they have in common that they move no colour.
    shades = range(0, 256, 51)
    colours = bytes(shades) if mode == "L" else bytes(sum(product(shades, repeat=3), ()))
    before = Image.frombytes(mode, (len(colours) // len(mode), 1), colours)
    moved = ImageChops.difference(before.convert("RGB"), transform.apply(before))
    return transform if max(moved.tobytes()) > 3 else None


def _framed(picture: Image.Image, each: Frame, spec: Spec) -> Image.Image:
    """On its canvas, which shows as bars, and below transparency where the format has none."""
    flatten = picture.mode in ("LA", "RGBA") and spec.format is Format.JPEG
    if each.canvas == each.scaled and not flatten:
        return picture
    mask = picture.getchannel("A") if flatten else None
    mode = "RGBA" if picture.mode in ("LA", "RGBA") and not flatten else "RGB"
    canvas = Image.new(mode, each.canvas, spec.background)
    canvas.paste(picture.convert(mode), each.offset, mask)
    return canvas


def _encoded(picture: Image.Image, spec: Spec, mark: Mark | None) -> bytes:
    packet = mark.packet if mark else b""
    texts = PngImagePlugin.PngInfo()  # to Pillow XMP in a PNG is a text like any other
    if mark:
        texts.add_itxt("XML:com.adobe.xmp", packet.decode())
    settings: dict[Format, dict[str, object]] = {
        Format.JPEG: {"quality": spec.quality, "subsampling": "4:2:0", "xmp": packet},
        Format.WEBP: {"quality": spec.quality, "method": 2, "xmp": packet},
        # One thread a picture: several pictures at a time keep the cores busy with less memory.
        Format.AVIF: {"quality": spec.quality, "speed": 8, "max_threads": 1, "xmp": packet},
        Format.PNG: {"compress_level": 6, "pnginfo": texts},
    }
    encoded = BytesIO()
    picture.save(encoded, spec.format.name, **settings[spec.format])
    return encoded.getvalue()


@cache
def _keep_memory() -> None:
    """Lets Pillow keep 32 MB of what it frees: to get them anew at each step takes a tenth longer.

    For the whole process; PILLOW_BLOCKS_MAX and PILLOW_BLOCK_SIZE in its environment go first.
    """
    allocator = Image.core  # type: ignore[attr-defined]  # documented, but not exported
    if allocator.get_blocks_max() == 0:
        allocator.set_block_size(1 << 20)
        allocator.set_blocks_max(32)
