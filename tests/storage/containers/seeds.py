"""Files stuffed with what must not come out, built by hand so that nothing of ours is trusted.

`MARK` stands for all of it: a place, a name, a script. No rewritten file may hold these bytes.
"""

import struct
import zlib
from io import BytesIO
from random import Random
from typing import NamedTuple

from PIL import Image

MARK = b"<?php seeded_mark(); ?>"
TRAILING = b"PK\x03\x04" + MARK

AI_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


class Shown(NamedTuple):
    """One frame as Pillow decodes it."""

    mode: str
    size: tuple[int, int]
    pixels: bytes
    duration: object


def shown(data: bytes) -> list[Shown]:
    frames = []
    with Image.open(BytesIO(data)) as picture:
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            mapped = picture.mode == "P" or "transparency" in picture.info
            pixels = (picture.convert("RGBA") if mapped else picture).tobytes()
            duration = picture.info.get("duration")
            frames.append(Shown(picture.mode, picture.size, pixels, duration))
    return frames


def orientation_of(data: bytes) -> int:
    with Image.open(BytesIO(data)) as picture:
        return int(picture.getexif().get(0x0112, 1))


def info(data: bytes, name: str) -> object:
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        return picture.info.get(name)


def noise(mode: str, width: int, height: int, seed: int = 1) -> Image.Image:
    size = {"1": 1, "L": 1, "P": 1, "LA": 2, "I;16": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    if mode == "1":
        return noise("L", width, height, seed).convert("1")
    pixels = Random(seed).randbytes(width * height * size)
    picture = Image.frombytes(mode, (width, height), pixels)
    if mode == "P":
        picture.putpalette(Random(seed + 1).randbytes(768))
    return picture


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def profile(size: int = 3000, seed: int = 1) -> bytes:
    """A colour profile as far as its header tells."""
    header = size.to_bytes(4, "big") + bytes(32) + b"acsp" + bytes(88)
    return header + bytes(4) + Random(seed).randbytes(size - 132)


def exif(orientation: int, order: str = "<") -> bytes:
    """A camera's TIFF block: make, GPS, maker note, and a thumbnail in a second directory."""

    def directory(at: int, *entries: bytes, following: int = 0) -> bytes:
        return (
            struct.pack(f"{order}H", len(entries))
            + b"".join(entries)
            + struct.pack(f"{order}I", following)
        )

    def text(tag: int, at: int, kind: int = 2) -> bytes:
        return struct.pack(f"{order}HHII", tag, kind, len(MARK), at)

    def number(tag: int, value: int) -> bytes:
        return struct.pack(f"{order}HHII", tag, 4, 1, value)

    upright = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    main, camera, place, small = 8, 100, 150, 200
    mark = 250
    thumbnail = b"\xff\xd8\xff\xfe\x00\x19" + MARK + b"\xff\xd9"
    blocks = {
        0: (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", main),
        main: directory(
            main,
            text(0x010F, mark),
            upright,
            number(0x8769, camera),
            number(0x8825, place),
            following=small,
        ),
        camera: directory(camera, text(0x927C, mark, kind=7)),
        place: directory(place, text(0x001D, mark)),
        small: directory(small, number(0x0201, 300), number(0x0202, len(thumbnail))),
        mark: MARK,
        300: thumbnail,
    }
    block = bytearray(300 + len(thumbnail))
    for at, content in blocks.items():
        block[at : at + len(content)] = content
    return bytes(block)


def xmp(source_type: str = CAPTURED) -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{source_type}">{MARK.decode()}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


# JPEG


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def profile_segments(icc: bytes) -> list[bytes]:
    parts = [icc[at : at + 60_000] for at in range(0, len(icc), 60_000)]
    return [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part)
        for number, part in enumerate(parts, start=1)
    ]


def jpeg_c2pa() -> bytes:
    box = b"jumb" + struct.pack(">I", 30) + b"jumdc2pa\x00\x11\x00\x10" + MARK
    return segment(0xEB, b"JP\x00\x01\x00\x00\x00\x01" + struct.pack(">I", len(box)) + box)


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The segments come first, right behind the start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def stuffed_jpeg(jpeg: bytes, orientation: int = 1, order: str = "<") -> bytes:
    before_scan = jpeg.index(b"\xff\xda")
    jpeg = jpeg[:before_scan] + segment(0xFE, MARK) + b"skip" + MARK + jpeg[before_scan:]
    return with_segments(
        jpeg,
        segment(0xE1, b"Exif\0\0" + exif(orientation, order)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp()),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + MARK),
        segment(0xE0, b"JFXX\0\x10" + MARK),
        segment(0xE2, b"FPXR\0" + MARK),
        segment(0xE5, MARK),
        segment(0xED, b"Photoshop 3.0\0" + MARK),
        jpeg_c2pa(),
        segment(0xFE, MARK),
    )


# PNG


def chunk(type: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(type + payload)
    return struct.pack(">I", len(payload)) + type + payload + struct.pack(">I", checksum)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def types(png: bytes) -> list[bytes]:
    return [type for type, _ in chunks(png)]


def itxt(packet: bytes, *, compressed: bool = False) -> bytes:
    text = zlib.compress(packet) if compressed else packet
    return b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text


def stuffed_png(png: bytes, orientation: int = 1, order: str = "<") -> bytes:
    header, *rest, end = chunks(png)
    return png_of(
        [
            header,
            (b"eXIf", exif(orientation, order)),
            (b"iTXt", itxt(xmp())),
            (b"tEXt", b"Comment\0" + MARK),
            (b"zTXt", b"Comment\0\0" + zlib.compress(MARK, 0)),
            (b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5)),
            (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
            (b"prVt", MARK),
            (b"caBX", MARK),
            *rest,
            (b"tEXt", b"Comment\0" + MARK),
            (b"prVt", MARK),
            end,
        ]
    )


def raw_png(
    width: int, height: int, depth: int, colour_type: int, *, interlaced: bool, seed: int = 1
) -> bytes:
    """Every kind of PNG there is, also those that Pillow does not write; its pixels are noise."""
    random = Random(seed)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
    passes += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = []
    for x, y, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        columns, lines = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0:
            size = -(-columns * channels * depth // 8)
            rows += [b"\0" + random.randbytes(size) for _ in range(max(0, lines))]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    palette = [(b"PLTE", random.randbytes(3 << depth))] if colour_type == 3 else []
    size = {0: 2, 2: 6, 3: 1 << depth}.get(colour_type, 0)
    transparency = [(b"tRNS", b"\0\1" * (size // 2))] if size else []
    data = zlib.compress(b"".join(rows))
    middle = len(data) // 2
    return png_of(
        [
            (b"IHDR", header),
            *palette,
            *transparency,
            (b"IDAT", data[:middle]),
            (b"IDAT", data[middle:]),
            (b"IEND", b""),
        ]
    )


# WebP


def riff_chunk(type: bytes, payload: bytes) -> bytes:
    return type + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def riff_chunks(webp: bytes, at: int = 12) -> list[tuple[bytes, bytes]]:
    found = []
    while at < len(webp):
        size = int.from_bytes(webp[at + 4 : at + 8], "little")
        found.append((webp[at : at + 4], webp[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def webp_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return riff_chunk(b"RIFF", b"WEBP" + b"".join(riff_chunk(*part) for part in parts))


def stuffed_webp(webp: bytes) -> bytes:
    """Beside the EXIF and XMP that Pillow wrote: chunks that nobody knows, in frames as well."""
    parts = [
        (type, payload + riff_chunk(b"JUNK", MARK) if type == b"ANMF" else payload)
        for type, payload in riff_chunks(webp)
    ]
    return webp_of([*parts, (b"C2PA", MARK), (b"JUNK", MARK + b"!")])


# GIF


def extension(label: int, *blocks: bytes) -> bytes:
    sub_blocks = b"".join(bytes([len(block)]) + block for block in blocks)
    return bytes([0x21, label]) + sub_blocks + b"\0"


def gif_xmp(packet: bytes) -> bytes:
    """Raw, as Adobe wants it: whoever walks it as sub-blocks lands in the trailer, then on zero."""
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return b"\x21\xff\x0bXMP DataXMP" + packet + trailer


def screen_size(gif: bytes) -> int:
    return 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)


def with_extensions(gif: bytes, *extensions: bytes) -> bytes:
    head = screen_size(gif)
    return gif[:head] + b"".join(extensions) + gif[head:]


def stuffed_gif(gif: bytes) -> bytes:
    stuffed = with_extensions(
        gif,
        extension(0xFE, MARK, MARK),
        gif_xmp(xmp()),
        extension(0xFF, b"ICCRGBG1012", MARK),
        extension(0xFF, b"C2PA_GIF\x01\x00\x00", MARK),
        extension(0x01, bytes(12), MARK),
        extension(0x99, MARK),
    )
    return stuffed[:-1] + b"\0" + extension(0xFE, MARK) + b";"
