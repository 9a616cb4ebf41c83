"""Files that mean harm: bombs, lies, polyglots and fragments, made on the spot."""

import struct
import zlib
from io import BytesIO

from PIL import Image

from tests.pictures import encoded, jpeg, photo, png, webp

MARK = b"<script>alert('seeded-marker-4711')</script>"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_header(width: int, height: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def pixel_bomb_png(side: int = 50_000) -> bytes:
    """A few kilobytes that claim, and would give, 2.5 billion pixels."""
    return png_of(
        png_header(side, side),
        png_chunk(b"IDAT", zlib.compress(bytes(1_000_000), 9)),
        png_chunk(b"IEND", b""),
    )


def pixel_bomb_webp() -> bytes:
    """40 bytes that claim 16,383 x 16,383 pixels."""
    bits = 16_382 | 16_382 << 14
    lossless = b"\x2f" + struct.pack("<I", bits) + bytes(8)
    body = b"WEBP" + b"VP8L" + struct.pack("<I", len(lossless)) + lossless + b"\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk_bomb_png(count: int = 100_000) -> bytes:
    """A small picture behind a hundred thousand chunks that say nothing."""
    plain = png(16, 16)
    nothing = png_chunk(b"tEXt", b"a\0b") * count
    return plain[:33] + nothing + plain[33:]


def scan_bomb_jpeg(side: int = 4000, scans: int = 2000) -> bytes:
    """A progressive JPEG whose last scan comes again and again: small, and slow to decode."""
    whole = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=30)
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    tables = whole.rindex(b"\xff\xc4", 0, last)
    return whole[:-2] + (whole[tables:last] + scan) * scans + b"\xff\xd9"


def frame_bomb_gif(frames: int = 1000, width: int = 3000, height: int = 2000) -> bytes:
    """Billions of pixels in frames that take a few bytes each."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


def frame_liar_apng() -> bytes:
    """Says that it has two billion frames."""
    plain = png(16, 16)
    return plain[:33] + png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + plain[33:]


def with_comment(data: bytes, comment: bytes = MARK) -> bytes:
    """A JPEG with a comment right behind its beginning."""
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:]


def with_many_comments(data: bytes, count: int = 200) -> bytes:
    return data[:2] + (b"\xff\xfe\xff\xff" + MARK.ljust(65_533, b" ")) * count + data[2:]


def with_exif(data: bytes) -> bytes:
    """A JPEG with a place, a camera and a thumbnail in its EXIF."""
    picture = Image.open(BytesIO(data))
    exif = Image.Exif()
    exif[0x010F] = MARK.decode()
    exif[0x0112] = 6
    place = exif.get_ifd(0x8825)
    place[1], place[2] = "N", (52.0, 31.0, 12.0)
    return encoded(picture, "JPEG", quality=90, exif=exif.tobytes())


def with_much_exif(data: bytes, segments: int = 100) -> bytes:
    """More EXIF than a reader would look for: a segment holds 64 kB at most."""
    segment = b"\xff\xe1\xff\xff" + (b"Exif\0\0" + MARK).ljust(65_533, b" ")
    return data[:2] + segment * segments + data[2:]


def with_huge_icc(data: bytes, size: int = 6 * 2**20) -> bytes:
    picture = Image.open(BytesIO(data))
    return encoded(picture, "JPEG", quality=90, icc_profile=MARK + bytes(size))


HTML = b"<!doctype html><html>" + MARK + b"</html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg">' + MARK + b"</svg>"

LIES = {
    "html": HTML,
    "svg": SVG,
    "svg with a declaration": b"<?xml version='1.0'?>" + SVG,
    "pdf": b"%PDF-1.7\n" + MARK,
    "zip": b"PK\x03\x04" + bytes(64),
    "executable": b"\x7fELF" + bytes(64),
    "text": b"just some words",
    "bmp": encoded(photo(), "BMP"),
    "tiff": encoded(photo(), "TIFF"),
    "ico": encoded(photo(32, 32), "ICO"),
}
SIGNATURE_ALONE = b"\x89PNG\r\n\x1a\n"

BOMBS = {
    "pixels of a PNG": (pixel_bomb_png, "TOO_MANY_PIXELS"),
    "pixels of a WebP": (pixel_bomb_webp, "TOO_MANY_PIXELS"),
    "chunks of a PNG": (chunk_bomb_png, "INVALID"),
    "scans of a JPEG": (scan_bomb_jpeg, "INVALID"),
    "frames of a GIF": (frame_bomb_gif, "INVALID"),
    "frames that an APNG claims": (frame_liar_apng, "INVALID"),
    "a huge ICC profile": (lambda: with_huge_icc(jpeg()), "INVALID"),
}

POLYGLOTS = {
    "JPEG and ZIP": lambda: jpeg(seed=60) + b"PK\x03\x04" + MARK,
    "JPEG with a comment": lambda: with_comment(jpeg(seed=61)),
    "JPEG with many comments": lambda: with_many_comments(jpeg(seed=62)),
    "JPEG with EXIF": lambda: with_exif(jpeg(seed=63)),
    "JPEG with six megabytes of EXIF": lambda: with_much_exif(jpeg(seed=68)),
    "PNG with six megabytes of EXIF": lambda: (
        png(seed=69)[:33] + png_chunk(b"eXIf", MARK * 140_000) + png(seed=69)[33:]
    ),
    "WebP with six megabytes of EXIF": lambda: encoded(
        photo(seed=76), "WEBP", exif=b"Exif\0\0" + MARK * 140_000
    ),
    "PNG with HTML behind it": lambda: png(seed=64) + HTML,
    "PNG with a text chunk": lambda: (
        png(seed=65)[:33] + png_chunk(b"tEXt", b"Comment\0" + MARK) + png(seed=65)[33:]
    ),
    "WebP with HTML behind it": lambda: webp(seed=66) + HTML,
    "GIF with script behind it": lambda: encoded(photo(seed=67), "GIF") + MARK,
}


def truncations() -> dict[str, bytes]:
    """Every format, cut at each tenth of its length."""
    whole = {
        "JPEG": jpeg(seed=70),
        "progressive JPEG": jpeg(seed=71, progressive=True),
        "PNG": png(seed=72),
        "WebP": webp(seed=73),
        "GIF": encoded(photo(seed=74), "GIF"),
        "AVIF": encoded(photo(seed=75), "AVIF", speed=9),
    }
    return {
        f"{name} at {tenth} %": data[: len(data) * tenth // 100]
        for name, data in whole.items()
        for tenth in range(10, 100, 10)
    }
