"""Derived sizes of a picture: pure functions on files that were fully decoded and accepted before.

`frame` tells what a rendition will be without making it. `render` makes it, in a thread: Pillow
lets go of the interpreter's lock while it decodes, resizes and encodes.

What is chosen by measurement here (filters, gaps, encoders' settings) has its figures in
benchmarks/README.md.
"""

import re
from collections.abc import Sequence
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
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)
from PIL.Image import Resampling, Transpose

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
# or an earlier step left of its finest detail is all that a filter then has.
DECODED_GAPS = {8: 1.3, 4: 1.3, 2: 1.3}
CASCADE_GAP = 1.3
REDUCING_GAP = 2.0
LARGE = 500_000

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

    @property
    def pixels(self) -> int:
        return self.picture.width * self.picture.height


def render(source: bytes | Path, specs: Sequence[Spec]) -> list[bytes]:
    """One file for each spec, of `frame`'s size, without metadata: upright and in sRGB.

    Of an animation, the first frame. Only for files that were decoded and accepted before.
    """
    opened = BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(opened, formats=FORMATS) as picture:
        return render_opened(picture, specs)


def render_opened(picture: ImageFile.ImageFile, specs: Sequence[Spec]) -> list[bytes]:
    """The same, of a file that is open and not decoded yet. All data of its frame are read."""
    _keep_memory()
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    width, height = picture.size
    displayed = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    frames = [frame(displayed, spec) for spec in specs]
    views = [_stored(each, displayed, orientation) for each in frames]
    pictures = _pictures(picture, set(views))
    turn = TURNS.get(orientation)
    if turn is not None:
        pictures = {view: shown.transpose(turn) for view, shown in pictures.items()}
    return [
        _encoded(_framed(pictures[view], each, spec), spec)
        for view, each, spec in zip(views, frames, specs, strict=True)
    ]


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


def _pictures(file: ImageFile.ImageFile, views: set[_View]) -> dict[_View, Image.Image]:
    """All views from one decode: the larger first, the smaller from them where they suffice."""
    profile = file.info.get("icc_profile")
    decoded = _decoded(file, views)
    layers = [decoded]
    pictures = {}
    for view in sorted(views, key=_View.order, reverse=True):
        source = min(
            (layer for layer in layers if layer is decoded or _suffices(layer, view)),
            key=lambda layer: layer.pixels,
        )
        picture = _shrunk(source, view)
        if source is decoded:  # colours cost by the pixel, so not before it was shrunk
            picture = _in_srgb(picture, profile)
        pictures[view] = picture
        layers.append(_Layer(view.part, picture))
    return pictures


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


def _suffices(layer: _Layer, view: _View) -> bool:
    """Whether the view is within the layer, and enough smaller to be made of it."""
    left, top, right, bottom = layer.part
    inner_left, inner_top, inner_right, inner_bottom = view.part
    return (
        (left <= inner_left and inner_right <= right)
        and (top <= inner_top and inner_bottom <= bottom)
        and view.size[0] * (right - left) * CASCADE_GAP
        <= layer.picture.width * (inner_right - inner_left)
        and view.size[1] * (bottom - top) * CASCADE_GAP
        <= layer.picture.height * (inner_bottom - inner_top)
    )


def _shrunk(layer: _Layer, view: _View) -> Image.Image:
    left, top, right, bottom = layer.part
    across = layer.picture.width / (right - left)
    down = layer.picture.height / (bottom - top)
    box = (
        (view.part[0] - left) * across,
        (view.part[1] - top) * down,
        (view.part[2] - left) * across,
        (view.part[3] - top) * down,
    )
    is_large = view.size[0] * view.size[1] > LARGE
    resampling = Resampling.BICUBIC if is_large else Resampling.LANCZOS
    return layer.picture.resize(view.size, resampling, box, reducing_gap=REDUCING_GAP)


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


def _encoded(picture: Image.Image, spec: Spec) -> bytes:
    settings: dict[Format, dict[str, int | str]] = {
        Format.JPEG: {"quality": spec.quality, "subsampling": "4:2:0"},
        Format.WEBP: {"quality": spec.quality, "method": 2},
        # One thread a picture: several pictures at a time keep the cores busy with less memory.
        Format.AVIF: {"quality": spec.quality, "speed": 8, "max_threads": 1},
        Format.PNG: {"compress_level": 6},
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
