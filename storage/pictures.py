"""What a file shows: pure functions on picture files and bytes, with Pillow.

`inspect` reads what nobody has checked and belongs in a process that can be killed; `render` works
on what was inspected before and runs in a thread, since Pillow lets go of the interpreter's lock
while it decodes, resizes and encodes.
"""

import warnings
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from storage.errors import CorruptFile, TooManyPixels, UnsupportedMediaType
from storage.thumbhash import thumbhash

MEDIA_TYPES = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
ACCEPTED = "JPEG, PNG or WebP"


@dataclass(frozen=True, slots=True)
class Description:
    """What a decoded file shows. Width and height are pixels, as displayed.

    `dominant_color` is `#rrggbb`; `thumbhash` is base64.
    """

    media_type: str
    width: int
    height: int
    dominant_color: str
    thumbhash: str

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.media_type]


def inspect(path: Path, *, max_pixels: int) -> Description:
    """Identify a file by its bytes and decode it fully, whatever it claims to be.

    Raises UnsupportedMediaType, TooManyPixels (from the header, before decoding) or CorruptFile.
    """
    # Pillow warns about sizes that we refuse ourselves, and about metadata that we do not read.
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None
    try:
        picture = Image.open(path, formats=["JPEG", "PNG", "WEBP"])
    except UnidentifiedImageError:
        raise UnsupportedMediaType(
            f"This file is no picture that we can read. Send {ACCEPTED}.", field="file"
        ) from None
    except Exception as fault:  # Pillow's plugins raise whatever comes to hand
        raise _corrupt() from fault
    with picture:
        if picture.width * picture.height > max_pixels:
            raise TooManyPixels(
                f"The picture has {picture.width} x {picture.height} pixels; "
                f"at most {max_pixels:,} are accepted. Scale it down first.",
                field="file",
                limit=max_pixels,
                actual=picture.width * picture.height,
            )
        media_type = MEDIA_TYPES[picture.format or ""]
        try:
            picture.load()
            shown = ImageOps.exif_transpose(picture)
        except Exception as fault:
            raise _corrupt() from fault
    return Description(
        media_type=media_type,
        width=shown.width,
        height=shown.height,
        dominant_color=_dominant_color(shown),
        thumbhash=b64encode(thumbhash(shown)).decode(),
    )


def _corrupt() -> CorruptFile:
    return CorruptFile(
        "The file is damaged or incomplete: it cannot be decoded to its end. Export it anew.",
        field="file",
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


def fitted(width: int, height: int, into_width: int) -> tuple[int, int]:
    """The size of a rendition `into_width` wide: in proportion, and never enlarged."""
    if into_width >= width:
        return width, height
    return into_width, max(1, round(height * into_width / width))


def render(data: bytes, size: tuple[int, int], media_type: str) -> bytes:
    """The picture in `size` pixels, as displayed, encoded as `media_type`, its metadata dropped.

    Only for bytes that `inspect` accepted. The colour profile stays, so that colours do.
    """
    with Image.open(BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as picture:
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 for much less; twice the size keeps it sharp.
        picture.draft(None, (2 * max(size), 2 * max(size)))
        shown = ImageOps.exif_transpose(picture)
    profile = shown.info.get("icc_profile") if shown.mode in ("RGB", "RGBA") else None
    transparent = shown.has_transparency_data and media_type != "image/jpeg"
    shown = shown.convert("RGBA" if transparent else "RGB")
    if shown.size != size:
        shown = shown.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    encoded = BytesIO()
    if media_type == "image/jpeg":
        shown.save(encoded, "JPEG", quality=82, optimize=True, icc_profile=profile)
    else:
        shown.save(encoded, "WEBP", quality=82, method=2, icc_profile=profile or b"")
    return encoded.getvalue()
