"""Picture files for tests: real ones, made on the spot."""

from io import BytesIO
from random import Random

from PIL import Image

JPEG_HEAD = b"\xff\xd8\xff"


def photo(width: int = 320, height: int = 240, *, seed: int = 1) -> Image.Image:
    """Soft blobs of colour: unlike any other seed's, and like a photo to an encoder."""
    noise = Random(seed).randbytes(8 * 6 * 3)
    return Image.frombytes("RGB", (8, 6), noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(width: int = 320, height: int = 240, *, seed: int = 1, **options: object) -> bytes:
    return encoded(photo(width, height, seed=seed), "JPEG", quality=85, **options)


def png(width: int = 320, height: int = 240, *, seed: int = 1) -> bytes:
    return encoded(photo(width, height, seed=seed), "PNG")


def webp(width: int = 320, height: int = 240, *, seed: int = 1) -> bytes:
    return encoded(photo(width, height, seed=seed), "WEBP", quality=80)


def scan_bomb(scans: int) -> bytes:
    """A small JPEG whose last scan is there again and again: each costs a millisecond or more."""
    data = encoded(Image.new("RGB", (1000, 1000), "#336699"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def opened(data: bytes) -> Image.Image:
    """Decoded fully, so that a damaged file fails here."""
    picture = Image.open(BytesIO(data))
    picture.load()
    return picture
