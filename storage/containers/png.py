"""PNG and APNG (https://www.w3.org/TR/png-3/): checked chunks, in the standard's order.

The image data are copied chunk by chunk. A chunk that only adorns, or stands where the standard
does not allow it, is dropped; a broken one that makes the picture is a refusal.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from storage.containers import c2pa, icc, xmp
from storage.containers.apng import Animation
from storage.containers.exif import UPRIGHT, read_orientation, write_orientation
from storage.containers.vocabulary import Bounds, Rewritten, corrupt, counted, over_limit
from storage.marks import Mark, combined

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP = b"XML:com.adobe.xmp\0"
PLAIN = bytes(4)  # not compressed, in no language, the keyword not translated
NAMED = b"ICC Profile\0\0"  # the name that says nothing, and the method: deflate

INDEXED = 3
CHANNELS = {0: 1, 2: 3, INDEXED: 3, 4: 2, 6: 4}
DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, INDEXED: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
TRANSPARENCY = {0: {2}, 2: {6}, INDEXED: range(1, 257)}  # bytes

# How to read the colours: in the order in which we write them, and their bytes.
COLOUR_HINTS = {b"cICP": 4, b"iCCP": None, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"sBIT": None}


class Chunk(NamedTuple):
    """`whole` is the chunk with its length, type and checksum."""

    type: bytes
    payload: memoryview
    whole: memoryview


class Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filter: int
    interlace: int


def rewrite(data: memoryview, bounds: Bounds, mark: Mark | None = None) -> Rewritten:
    chunks = _chunks(data, bounds)
    first = next(chunks)
    header = _checked_header(first, bounds)
    hints: dict[bytes, bytes | memoryview] = {}
    palette = transparency = None
    animation = Animation(header.width, header.height, bounds)
    animation_control: memoryview | None = None
    picture: list[memoryview] = []
    orientation: int | None = None
    packet: bytes | None = None
    manifest: memoryview | None = None
    palette_seen = picture_seen = False
    previous = first.type

    for chunk in chunks:
        type, payload = chunk.type, chunk.payload
        match type:
            case b"IDAT":
                if picture_seen and previous != b"IDAT":
                    raise corrupt("its image data are interrupted")
                if not picture_seen and not animation_control:
                    picture.clear()  # a frame's description without an animation
                picture_seen = True
                picture.append(_intact(chunk))
                animation.add_default_picture()
            case b"acTL" if not picture_seen:
                animation_control = _intact(chunk)
                animation.announce(payload)
            case b"fcTL" if animation_control or not picture_seen:
                picture.append(_intact(chunk))
                animation.begin_frame(payload)
            case b"fdAT" if animation_control:
                picture.append(_intact(chunk))
                animation.add_to_frame(payload)
            case b"PLTE":
                if palette_seen or picture_seen or len(payload) not in range(3, 769, 3):
                    raise corrupt("its palette is broken")
                palette_seen = True
                if header.colour_type == INDEXED:  # to the others it is a suggestion
                    palette = _intact(chunk)
            case b"tRNS" if not transparency and not picture_seen:
                if header.colour_type == INDEXED and not palette:
                    raise corrupt("its palette is missing")
                if len(payload) in TRANSPARENCY.get(header.colour_type, ()):
                    transparency = _intact(chunk)
            case b"iCCP" if type not in hints and not palette_seen and not picture_seen:
                profile = _profile(_intact(chunk)[8:-4], bounds)
                hints[type] = _chunk(type, NAMED + zlib.compress(profile)) if profile else b""
            case _ if type in COLOUR_HINTS and not palette_seen and not picture_seen:
                channels = CHANNELS[header.colour_type]
                if type not in hints and len(payload) == (COLOUR_HINTS[type] or channels):
                    hints[type] = _intact(chunk)
            case b"eXIf" if orientation is None:
                orientation = read_orientation(payload)
            case b"iTXt" if packet is None and payload[: len(XMP)] == XMP:
                packet = _text(payload)
            case b"caBX":
                manifest = payload
            case b"IEND":
                pass
            case _ if type[:1].isupper():  # a critical chunk: no decoder may pass over it
                raise corrupt("it holds a part that no PNG has")
        previous = type

    if not picture_seen or (header.colour_type == INDEXED and not palette):
        raise corrupt("a part of the picture is missing")
    frames = animation.pictures()
    oriented = orientation or UPRIGHT
    declared = combined(xmp.declared(packet or b""), c2pa.declared(manifest or b""))
    mark = combined(declared, mark)
    head = [
        SIGNATURE,
        first.whole,
        *(hints.get(hint, b"") for hint in COLOUR_HINTS),
        palette or b"",
        transparency or b"",
        _chunk(b"eXIf", write_orientation(oriented)) if oriented != UPRIGHT else b"",
        _chunk(b"iTXt", XMP + PLAIN + mark.packet) if mark else b"",
        animation_control or b"",
    ]
    return Rewritten(
        data=b"".join([*head, *picture, _chunk(b"IEND", b"")]),
        media_type="image/png",
        width=header.width,
        height=header.height,
        orientation=oriented,
        frames=frames,
        has_icc=bool(hints.get(b"iCCP")),
        declared=declared,
        has_c2pa=manifest is not None,
        mark=mark,
    )


def _chunks(data: memoryview, bounds: Bounds) -> Iterator[Chunk]:
    walk = _walk(data)
    for number, chunk in enumerate(walk, start=1):
        if number > bounds.max_png_chunks:
            actual = counted(number, walk)
            raise over_limit("chunks", bounds.max_png_chunks, actual, "Export it anew")
        yield chunk


def _walk(data: memoryview) -> Iterator[Chunk]:
    """Every chunk with the last, IEND; CorruptFile if it does not come."""
    at = len(SIGNATURE)
    type = b""
    while type != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        type = bytes(data[at + 4 : at + 8])
        if end > len(data):
            raise corrupt("it ends in the middle")
        if not type.isalpha():
            raise corrupt("it holds a part that no PNG has")
        yield Chunk(type, data[at + 8 : end - 4], data[at:end])
        at = end


def _intact(chunk: Chunk) -> memoryview:
    """The whole chunk, its checksum verified."""
    if zlib.crc32(chunk.whole[4:-4]) != int.from_bytes(chunk.whole[-4:], "big"):
        raise corrupt("a checksum is wrong")
    return chunk.whole


def _checked_header(chunk: Chunk, bounds: Bounds) -> Header:
    if chunk.type != b"IHDR" or len(chunk.payload) != 13:
        raise corrupt("its header is broken")
    _intact(chunk)
    header = Header(*struct.unpack(">IIBBBBB", chunk.payload))
    bounds.admit_canvas(header.width, header.height)
    known = header.depth in DEPTHS.get(header.colour_type, ())
    if not known or header.compression or header.filter or header.interlace > 1:
        raise corrupt("its header tells of a kind of picture that does not exist")
    return header


def _profile(payload: memoryview, bounds: Bounds) -> bytes | None:
    name, _, deflated = bytes(payload).partition(b"\0")
    if not 1 <= len(name) <= 79 or deflated[:1] != b"\0":
        return None
    return icc.usable(_inflated(deflated[1:], bounds.max_icc_bytes + 1), bounds)


def _text(payload: memoryview) -> bytes:
    """What an iTXt chunk says, after its keyword, two flags, language and translated keyword."""
    text = bytes(payload[len(XMP) :])
    compressed = text[:1] == b"\1"
    _, _, text = text[2:].partition(b"\0")[2].partition(b"\0")
    return _inflated(text, xmp.MAX_BYTES) if compressed else text


def _inflated(deflated: bytes, at_most: int) -> bytes:
    """The first bytes; none if they are broken. Never more than asked for, whatever is in it."""
    try:
        return zlib.decompressobj().decompress(deflated, at_most)
    except zlib.error:
        return b""


def _chunk(type: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(type + payload).to_bytes(4, "big")
    return len(payload).to_bytes(4, "big") + type + payload + checksum
