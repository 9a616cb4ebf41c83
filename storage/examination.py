"""What a file is and shows, whatever it claims; and the clean file that is kept instead of it.

Runs in a process of its own (`storage.decoder`), since it decodes what nobody has checked.
"""

import hashlib
import math
import warnings
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageChops, ImageOps, ImageStat

from storage.containers import Bounds, Rewritten, avif, c2pa, rewrite, xmp
from storage.errors import CorruptFile, Rejected, TooManyPixels
from storage.marks import Mark, combined
from storage.perceptual import perceptual_hash
from storage.rendering import Format, Spec, render_opened, xmp_of
from storage.thumbhash import thumbhash

# What Pillow may open, once we know what it is: MPO is how it names some JPEGs.
FORMATS = {
    "image/jpeg": ("JPEG", "MPO"),
    "image/png": ("PNG",),
    "image/webp": ("WEBP",),
    "image/gif": ("GIF",),
    "image/avif": ("AVIF",),
}
HEIC_DECIBELS = 45  # how close the JPEG comes that is kept of a HEIC
GRID = 640  # the width of the rendition that every library page shows
SMALL = 128  # pixels on the shorter side, at least: enough to see colours and rough shapes


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the file is, and where to put what is made of it."""

    source: Path
    clean: Path
    grid: Path


@dataclass(frozen=True, slots=True)
class Examination:
    """What a decoded file shows. Width and height are pixels, as displayed.

    `dominant_color` is `#rrggbb`; `thumbhash` is base64; `perceptual_hash` 16 hexadecimal digits.
    `source_media_type` is what came in, `media_type` what the clean file is. `grid_media_type` is
    that of the grid rendition. `declares_ai` and `has_c2pa` tell of the file as it came in; `mark`
    is what clean file and grid rendition say (but no GIF).
    """

    media_type: str
    source_media_type: str
    width: int
    height: int
    frames: int
    has_alpha: bool
    declares_ai: bool
    has_c2pa: bool
    dominant_color: str
    thumbhash: str
    perceptual_hash: str
    byte_size: int
    sha256: str
    grid_media_type: str
    mark: Mark | None = None

    def __post_init__(self) -> None:
        if self.mark is not None:  # it may come as JSON has it
            object.__setattr__(self, "mark", Mark(self.mark))


def examine(paths: Paths, bounds: Bounds, mark: Mark | None = None) -> Examination:
    """Identify a file by its bytes, keep only what makes its picture, and decode that fully.

    `mark` is what its maker says, and is combined with what the file does. Raises
    UnsupportedMediaType, CorruptFile, TooManyPixels, or Rejected for other bounds; those are
    checked before anything is decoded.
    """
    # Pillow warns of sizes that we refuse ourselves, and of metadata that we do not keep.
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None
    data = paths.source.read_bytes()
    source_media_type = _boxed_media_type(data)
    if source_media_type is None:
        kept = rewrite(data, bounds, mark)
        source_media_type = kept.media_type
    else:
        kept = _reencoded(data, source_media_type, bounds, mark)
    del data
    paths.clean.write_bytes(kept.data)
    has_alpha, grid_format, grid = _decoded(kept)
    paths.grid.write_bytes(grid)
    turned = kept.orientation >= 5
    with Image.open(BytesIO(grid)) as seen:  # described as people will see it
        small = seen.reduce(max(1, min(seen.size) // SMALL))
        return Examination(
            media_type=kept.media_type,
            source_media_type=source_media_type,
            width=kept.height if turned else kept.width,
            height=kept.width if turned else kept.height,
            frames=kept.frames,
            has_alpha=has_alpha,
            declares_ai=kept.declares_ai,
            has_c2pa=kept.has_c2pa,
            dominant_color=_dominant_color(small),
            thumbhash=b64encode(thumbhash(small)).decode(),
            perceptual_hash=perceptual_hash(seen),
            byte_size=len(kept.data),
            sha256=hashlib.sha256(kept.data).hexdigest(),
            grid_media_type=grid_format.media_type,
            mark=kept.mark,
        )


def _decoded(kept: Rewritten) -> tuple[bool, Format, bytes]:
    """Read every frame to its end, and make the grid rendition from the first on the way.

    A JPEG decodes at a quarter of its size for that; all of its data is read all the same. Says
    whether the picture has transparent places, too.
    """
    try:
        with Image.open(BytesIO(kept.data), formats=FORMATS[kept.media_type]) as picture:
            has_alpha = picture.has_transparency_data
            format = Format.WEBP if has_alpha else Format.JPEG
            (grid,) = render_opened(picture, [Spec(width=GRID, format=format)], kept.mark)
            for frame in range(1, kept.frames):
                picture.seek(frame)
                picture.load()
    except MemoryError:
        raise
    except Exception as fault:  # Pillow's plugins raise whatever comes to hand
        raise _corrupt() from fault
    return has_alpha, format, grid


def _corrupt() -> CorruptFile:
    return CorruptFile(
        "The file is damaged or incomplete: it cannot be decoded to its end. Export it anew.",
        field="file",
    )


# ---- AVIF and HEIC: files of boxes, decoded and written anew -------------------------------------

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1"}


def _boxed_media_type(data: bytes) -> str | None:
    """The type of an ISO base media file that we read, by its brands; None for all else."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, end - 3, 4)}
    if brands & {b"avif", b"avis"}:
        return "image/avif"
    return "image/heic" if brands & HEIC_BRANDS else None


def _reencoded(data: bytes, source_media_type: str, bounds: Bounds, mark: Mark | None) -> Rewritten:
    """AVIF as AVIF, and HEIC as JPEG, which browsers show; upright, with its colour profile.

    The picture alone is taken out and written anew, unless there is nothing else in the file.
    """
    is_heic = source_media_type == "image/heic"
    if is_heic:
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    try:
        with Image.open(BytesIO(data), formats=["HEIF" if is_heic else "AVIF"]) as picture:
            frames = getattr(picture, "n_frames", 1)
            _check_size(picture, frames, bounds)
            if not is_heic and frames == 1 and avif.is_bare(memoryview(data)):
                return _as_it_is(data, picture, mark)
            profile = picture.info.get("icc_profile")
            declared = combined(xmp.declared(xmp_of(picture)), c2pa.declared(data))
            mark = combined(declared, mark)
            pages = []
            for frame in range(1 if is_heic else frames):
                picture.seek(frame)
                pages.append(ImageOps.exif_transpose(picture))
    except Rejected:
        raise
    except Exception as fault:
        raise _corrupt() from fault
    encoded, first = BytesIO(), pages[0]
    for page in pages:
        for key in ("exif", "xmp"):  # Pillow would write them into the new file
            page.info.pop(key, None)
    if is_heic:
        encoded = _as_jpeg(first.convert("RGB"), profile, mark)
    else:
        first.save(
            encoded,
            "AVIF",
            quality=90,
            subsampling="4:4:4",  # else colours that came in full lose theirs at the edges
            speed=8,
            icc_profile=profile,
            xmp=mark.packet if mark else b"",
            save_all=len(pages) > 1,
            append_images=pages[1:],
            duration=[page.info.get("duration", 0) for page in pages],
        )
    return Rewritten(
        data=encoded.getvalue(),
        media_type="image/jpeg" if is_heic else "image/avif",
        width=first.width,
        height=first.height,
        orientation=1,
        frames=len(pages),
        has_icc=profile is not None,
        declared=declared,
        has_c2pa=b"c2pa" in data,
        mark=mark,
    )


def _as_it_is(data: bytes, picture: Image.Image, mark: Mark | None) -> Rewritten:
    """An AVIF with nothing but its picture. It is decoded like all others before it counts."""
    declared = xmp.declared(xmp_of(picture))
    mark = combined(declared, mark)
    return Rewritten(
        data=avif.marked(memoryview(data), mark) if mark and mark is not declared else data,
        media_type="image/avif",
        width=picture.width,
        height=picture.height,
        orientation=1,
        frames=1,
        has_icc=False,
        declared=declared,
        has_c2pa=False,
        mark=mark,
    )


def _as_jpeg(picture: Image.Image, profile: bytes | None, mark: Mark | None) -> BytesIO:
    """The smallest of a few that nobody can tell from the picture: 45 dB, or the best there is."""
    for quality in (95, 98, 100):
        encoded = BytesIO()
        picture.save(
            encoded,
            "JPEG",
            quality=quality,
            subsampling="4:4:4",
            icc_profile=profile,
            xmp=mark.packet if mark else b"",
        )
        with Image.open(encoded) as again:
            if _psnr(picture, again) >= HEIC_DECIBELS:
                break
    return encoded


def _psnr(one: Image.Image, other: Image.Image) -> float:
    """Decibels; https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio"""
    rms = ImageStat.Stat(ImageChops.difference(one, other)).rms
    error = sum(channel**2 for channel in rms) / len(rms)
    return 10 * math.log10(255**2 / error) if error else math.inf


def _check_size(picture: Image.Image, frames: int, bounds: Bounds) -> None:
    pixels = picture.width * picture.height
    if pixels > bounds.max_pixels:
        raise TooManyPixels(
            f"The picture has {picture.width} x {picture.height} pixels; at most "
            f"{bounds.max_pixels:,} are accepted. Scale it down first.",
            field="file",
            limit=bounds.max_pixels,
            actual=pixels,
        )
    if frames > bounds.max_frames:
        raise Rejected(
            f"The picture has {frames} frames; at most {bounds.max_frames} are accepted.",
            field="file",
            limit=bounds.max_frames,
            actual=frames,
        )
    if frames * pixels > bounds.max_frame_pixels:
        raise TooManyPixels(
            f"The picture has {frames * pixels:,} pixels in all its frames; at most "
            f"{bounds.max_frame_pixels:,} are accepted. Drop frames, or scale it down.",
            field="file",
            limit=bounds.max_frame_pixels,
            actual=frames * pixels,
        )


def _dominant_color(picture: Image.Image) -> str:
    """The colour of the largest of eight groups of pixels, not an average nobody sees."""
    small = picture.convert("RGB")
    small.thumbnail((64, 64), Image.Resampling.BOX)
    grouped = small.quantize(8)
    counts = grouped.getcolors() or []
    _, largest = max(counts, key=lambda counted: (counted[0], -int(str(counted[1]))))
    red, green, blue = (grouped.getpalette() or [])[3 * int(str(largest)) :][:3]
    return f"#{red:02x}{green:02x}{blue:02x}"
