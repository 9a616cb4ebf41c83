"""The four quarters of a picture that nobody has checked: some providers give four in one grid.

Runs in a process of its own (`storage.decoder`), like `storage.examination`.
"""

import warnings
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from storage.containers import Bounds, Rewritten, rewrite
from storage.containers.vocabulary import corrupt
from storage.errors import Rejected
from storage.examination import FORMATS

NAMES = ("top-left.png", "top-right.png", "bottom-left.png", "bottom-right.png")


def quarter(source: Path, folder: Path, bounds: Bounds) -> list[Path]:
    """Write the quarters into the folder, as PNGs under NAMES, and give their paths.

    They are equally large, upright, and of the first frame; an odd column or row at the right or
    the bottom is left out. Nothing but the colour profile comes along.

    Raises UnsupportedMediaType for all but JPEG, PNG, WebP and GIF; CorruptFile, TooManyPixels, or
    Rejected for other bounds; those are checked before anything is decoded.
    """
    # Pillow warns of sizes that we refuse ourselves, and of metadata that we do not keep.
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None
    picture = _decoded(rewrite(source.read_bytes(), bounds))
    profile = picture.info.get("icc_profile")
    if picture.mode == "CMYK":  # which PNG has not, nor a profile for it
        picture, profile = picture.convert("RGB"), None
    width, height = picture.width // 2, picture.height // 2
    if not width or not height:
        raise Rejected("The picture is too small to be cut into quarters.", field="file")
    paths = [folder / name for name in NAMES]
    corners = [(left, top) for top in (0, height) for left in (0, width)]
    for path, (left, top) in zip(paths, corners, strict=True):
        part = picture.crop((left, top, left + width, top + height))
        part.save(path, "PNG", compress_level=1, icc_profile=profile)
    return paths


def _decoded(kept: Rewritten) -> Image.Image:
    try:
        with Image.open(BytesIO(kept.data), formats=FORMATS[kept.media_type]) as picture:
            return ImageOps.exif_transpose(picture)
    except MemoryError:
        raise
    except Exception as fault:  # Pillow's plugins raise whatever comes to hand
        raise corrupt("it cannot be decoded to its end") from fault
