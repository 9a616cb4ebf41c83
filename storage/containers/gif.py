"""GIF (https://www.w3.org/Graphics/GIF/spec-gif89a.txt): frames, their timing, and the loop.

Compressed data come in sub-blocks of at most 255 bytes, which are copied as they are. A mark is
read, but not written: what Adobe defined for XMP breaks the rules of sub-blocks, and few read it.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from storage.containers import c2pa, xmp
from storage.containers.exif import UPRIGHT
from storage.containers.vocabulary import Bounds, Rewritten, corrupt, counted, over_limit
from storage.errors import CorruptFile, Rejected
from storage.marks import Mark, combined

SIGNATURES = (b"GIF87a", b"GIF89a")
# Blocks and sub-blocks together. A 50 MB file with full sub-blocks has 200,000.
MAX_BLOCKS = 1_000_000

TRAILER, IMAGE, EXTENSION = 0x3B, 0x2C, 0x21
TIMING, APPLICATION = 0xF9, 0xFF
LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


class Extension(NamedTuple):
    """`sub_blocks` with their lengths and the empty one that ends them."""

    label: int
    sub_blocks: memoryview


class Frame(NamedTuple):
    """The whole image block; `right` and `bottom` say how far it reaches."""

    block: memoryview
    right: int
    bottom: int


def rewrite(data: memoryview, bounds: Bounds, mark: Mark | None = None) -> Rewritten:
    screen = _screen(data)
    canvas = int.from_bytes(screen[6:8], "little"), int.from_bytes(screen[8:10], "little")
    reach = canvas
    picture: list[bytes | memoryview] = [screen]
    timing = b""
    frames = 0
    declared: Mark | None = None
    has_c2pa = looped = False

    blocks = _blocks(data, len(screen))
    for block in blocks:
        if isinstance(block, Frame):
            frames += 1
            if frames > bounds.max_frames:
                actual = counted(frames, (each for each in blocks if isinstance(each, Frame)))
                bounds.admit_frames(actual, *canvas)
            reach = max(reach[0], block.right), max(reach[1], block.bottom)
            if frames == 1:  # a screen too small for its first picture is a slip; it grows
                canvas = reach
            bounds.admit_canvas(*reach)
            picture += [timing, block.block]
            timing = b""
        elif block.label == TIMING:
            timing = _timing(block.sub_blocks)
        elif block.label == APPLICATION:
            name = bytes(block.sub_blocks[1:12])
            if name in LOOPS and not looped:
                loop = _loop(name, block.sub_blocks)
                looped = bool(loop)
                picture.append(loop)
            if name == b"XMP DataXMP":
                declared = combined(declared, xmp.declared(block.sub_blocks))
            elif name.startswith(b"C2PA_GIF"):
                has_c2pa = True
                declared = combined(declared, c2pa.declared(_joined(block.sub_blocks[12:])))

    if not frames:
        raise corrupt("the picture is missing")
    bounds.admit_frames(frames, *reach)
    return Rewritten(
        data=b"".join([*picture, bytes([TRAILER])]),
        media_type="image/gif",
        width=canvas[0],
        height=canvas[1],
        orientation=UPRIGHT,
        frames=frames,
        has_icc=False,
        declared=declared,
        has_c2pa=has_c2pa,
        mark=combined(declared, mark),
    )


def _screen(data: memoryview) -> memoryview:
    """The signature, the logical screen's descriptor and the global colour table."""
    if len(data) < 13:
        raise _cut_off()
    return _taken(data, 0, 13 + _colour_table_size(data[10]))


def _blocks(data: memoryview, at: int) -> Iterator[Extension | Frame]:
    """Every block before the trailer; CorruptFile if there is no trailer."""
    budget = iter(range(MAX_BLOCKS))
    for _ in budget:
        introducer = _taken(data, at, 1)[0]
        if introducer == TRAILER:
            return
        if introducer == EXTENSION:
            label = _taken(data, at, 2)[1]
            end = _end_of_sub_blocks(data, at + 2, budget)
            yield Extension(label, data[at + 2 : end])
        elif introducer == IMAGE:
            x, y, width, height = struct.unpack("<HHHH", _taken(data, at, 10)[1:9])
            compressed = at + 10 + _colour_table_size(data[at + 9])
            code_size = _taken(data, compressed, 1)[0]
            if not width or not height or not 1 <= code_size <= 11:
                raise corrupt("a frame is broken")
            end = _end_of_sub_blocks(data, compressed + 1, budget)
            yield Frame(data[at:end], x + width, y + height)
        elif introducer == 0:  # padding that some writers leave between blocks
            end = at + 1
        else:
            raise corrupt("it holds a part that no GIF has")
        at = end
    raise _too_many_blocks()


def _end_of_sub_blocks(data: memoryview, at: int, budget: Iterator[int]) -> int:
    try:
        for _ in budget:
            size = data[at]
            at += 1 + size
            if not size:
                return at
    except IndexError:
        raise _cut_off() from None
    raise _too_many_blocks()


def _colour_table_size(flags: int) -> int:
    """Bytes: three for each of 2 to 256 colours, or none."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _timing(sub_blocks: memoryview) -> bytes:
    """The graphic control extension: disposal, delay and the transparent colour."""
    if sub_blocks[0] < 4:
        raise corrupt("the timing of a frame is broken")
    return bytes([EXTENSION, TIMING, 4, *sub_blocks[1:5], 0])


def _loop(name: bytes, sub_blocks: memoryview) -> bytes:
    """How often to play, 0 for ever; nothing if the extension tells something else."""
    told = bytes(sub_blocks[12:16])
    if told[:2] != b"\3\1" or len(sub_blocks) < 17:
        return b""
    return bytes([EXTENSION, APPLICATION, len(name)]) + name + told + b"\0"


def _joined(sub_blocks: memoryview) -> bytes:
    """What sub-blocks hold, without their lengths."""
    parts: list[memoryview] = []
    at = 0
    while size := sub_blocks[at]:
        parts.append(sub_blocks[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(parts)


def _taken(data: memoryview, at: int, size: int) -> memoryview:
    if at + size > len(data):
        raise _cut_off()
    return data[at : at + size]


def _cut_off() -> CorruptFile:
    return corrupt("it ends in the middle")


def _too_many_blocks() -> Rejected:
    return over_limit("blocks", MAX_BLOCKS, MAX_BLOCKS + 1, "Export it anew")
