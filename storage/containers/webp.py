"""WebP (RFC 9649): one picture or an animation, in chunks of a RIFF file.

What stands beside the picture counts only where the VP8X header announces it, as for libwebp; the
header comes out announcing what is there.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from storage.containers import c2pa, icc, xmp
from storage.containers.exif import UPRIGHT, read_orientation, write_orientation
from storage.containers.vocabulary import Bounds, Rewritten, corrupt, over_limit
from storage.marks import Mark, combined

FORM = b"WEBP"
MAX_CHUNKS = 20_000
MAX_CHUNKS_IN_A_FRAME = 100

PROFILE, ALPHA, EXIF, XMP, ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02  # VP8X flags


class Chunk(NamedTuple):
    type: bytes
    payload: memoryview


class Bitstream(NamedTuple):
    """What one picture is made of: VP8L, or VP8 with an ALPH before it, as chunks."""

    chunks: bytes
    width: int
    height: int
    has_alpha: bool


class Canvas(NamedTuple):
    """The VP8X header."""

    flags: int
    width: int
    height: int


class Picture(NamedTuple):
    """One bitstream, or ANIM and its frames."""

    chunks: bytes
    frames: int
    has_alpha: bool


def rewrite(data: memoryview, bounds: Bounds, mark: Mark | None = None) -> Rewritten:
    size = int.from_bytes(data[4:8], "little")
    if size + 8 > len(data):
        raise corrupt("it ends in the middle")
    chunks = list(islice(_chunks(data[12 : 8 + size]), MAX_CHUNKS + 1))
    if len(chunks) > MAX_CHUNKS:
        raise over_limit("chunks", MAX_CHUNKS, len(chunks), "Export it anew")
    declared = combined(
        *(xmp.declared(payload) for type, payload in chunks if type == b"XMP "),
        *(c2pa.declared(payload) for type, payload in chunks if type == b"C2PA"),
    )
    mark = combined(declared, mark)
    orientation, profile = UPRIGHT, None
    if chunks and chunks[0].type == b"VP8X":
        canvas = _checked_canvas(chunks[0].payload, bounds)
        picture = (
            _animation(chunks, canvas, bounds)
            if canvas.flags & ANIMATION
            else _still(chunks, canvas)
        )
        if canvas.flags & EXIF:
            orientation = read_orientation(_first(b"EXIF", chunks))
        if canvas.flags & PROFILE:
            profile = icc.usable(bytes(_first(b"ICCP", chunks)), bounds)
        written = _extended(picture, canvas, orientation, profile, mark)
    else:
        bitstream = _bitstream(chunks[:1], with_alpha=False)
        bounds.admit_canvas(bitstream.width, bitstream.height)
        canvas = Canvas(ALPHA, bitstream.width, bitstream.height)
        picture = Picture(bitstream.chunks, 1, bitstream.has_alpha)
        # A mark needs a header that announces it.
        written = _extended(picture, canvas, UPRIGHT, None, mark) if mark else picture.chunks
    return Rewritten(
        data=_chunk(b"RIFF", FORM, written),
        media_type="image/webp",
        width=canvas.width,
        height=canvas.height,
        orientation=orientation,
        frames=picture.frames,
        has_icc=profile is not None,
        declared=declared,
        has_c2pa=any(type == b"C2PA" for type, _ in chunks),
        mark=mark,
    )


def _chunks(data: memoryview) -> Iterator[Chunk]:
    at = 0
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            raise corrupt("it ends in the middle")
        yield Chunk(bytes(data[at : at + 4]), data[at + 8 : end])
        at = end + end % 2 - at % 2  # chunks are padded to an even size


def _first(type: bytes, chunks: list[Chunk]) -> memoryview:
    return next((chunk.payload for chunk in chunks if chunk.type == type), memoryview(b""))


def _checked_canvas(payload: memoryview, bounds: Bounds) -> Canvas:
    if len(payload) != 10:
        raise corrupt("its header is broken")
    canvas = Canvas(payload[0], _int24(payload, 4) + 1, _int24(payload, 7) + 1)
    bounds.admit_canvas(canvas.width, canvas.height)
    return canvas


def _still(chunks: list[Chunk], canvas: Canvas) -> Picture:
    bitstream = _bitstream(chunks, with_alpha=bool(canvas.flags & ALPHA))
    if (bitstream.width, bitstream.height) != (canvas.width, canvas.height):
        raise corrupt("the picture is not of the size that the header tells")
    return Picture(bitstream.chunks, 1, bitstream.has_alpha)


def _animation(chunks: list[Chunk], canvas: Canvas, bounds: Bounds) -> Picture:
    frames = [payload for type, payload in chunks if type == b"ANMF"]
    bounds.admit_frames(len(frames), canvas.width, canvas.height)
    control = _first(b"ANIM", chunks)
    if not frames or len(control) < 6:
        raise corrupt("its animation is missing")
    written = [_frame(frame, canvas) for frame in frames]
    # Where no frame covers it the canvas is transparent: only the header can tell.
    return Picture(b"".join([_chunk(b"ANIM", control[:6]), *written]), len(frames), has_alpha=True)


def _frame(payload: memoryview, canvas: Canvas) -> bytes:
    """An ANMF chunk: a header of 16 bytes, then the bitstream; what follows it is dropped."""
    if len(payload) < 16:
        raise corrupt("a frame of its animation is broken")
    x, y = 2 * _int24(payload, 0), 2 * _int24(payload, 3)
    width, height = _int24(payload, 6) + 1, _int24(payload, 9) + 1
    inner = islice(_chunks(payload[16:]), MAX_CHUNKS_IN_A_FRAME)
    bitstream = _bitstream(inner, with_alpha=bool(canvas.flags & ALPHA))
    inside = x + width <= canvas.width and y + height <= canvas.height
    if not inside or (bitstream.width, bitstream.height) != (width, height):
        raise corrupt("a frame of its animation is not of the size that its header tells")
    blending_and_disposal = bytes([payload[15] & 0b11])
    return _chunk(b"ANMF", payload[:15], blending_and_disposal, bitstream.chunks)


def _bitstream(chunks: Iterable[Chunk], *, with_alpha: bool) -> Bitstream:
    """The first picture among the chunks."""
    alpha: memoryview | None = None
    for type, payload in chunks:
        if type == b"ALPH" and with_alpha:
            alpha = payload
        elif type == b"VP8 ":
            width, height = _lossy_size(payload)
            before = _chunk(b"ALPH", alpha) if alpha else b""
            return Bitstream(before + _chunk(type, payload), width, height, bool(alpha))
        elif type == b"VP8L":
            return Bitstream(_chunk(type, payload), *_lossless_size(payload))
    raise corrupt("the picture is missing")


def _lossy_size(payload: memoryview) -> tuple[int, int]:
    """From the header of a key frame (RFC 6386, section 9.1); two more bits tell of scaling."""
    first_partition = int.from_bytes(payload[:3], "little") >> 5
    if (
        bytes(payload[3:6]) != b"\x9d\x01\x2a"
        or payload[0] & 1
        or 10 + first_partition > len(payload)
    ):
        raise corrupt("the picture's data are broken")
    width, height = (int.from_bytes(payload[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width, height


def _lossless_size(payload: memoryview) -> tuple[int, int, bool]:
    """And whether it has an alpha channel."""
    bits = int.from_bytes(payload[1:5], "little")
    if len(payload) < 5 or payload[0] != 0x2F or bits >> 29:
        raise corrupt("the picture's data are broken")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)


def _extended(
    picture: Picture, canvas: Canvas, orientation: int, profile: bytes | None, mark: Mark | None
) -> bytes:
    flags = canvas.flags & ANIMATION
    flags |= canvas.flags & ALPHA if picture.has_alpha else 0
    flags |= PROFILE if profile else 0
    flags |= EXIF if orientation != UPRIGHT else 0
    flags |= XMP if mark else 0
    size = (canvas.width - 1).to_bytes(3, "little") + (canvas.height - 1).to_bytes(3, "little")
    return b"".join(
        [
            _chunk(b"VP8X", bytes([flags, 0, 0, 0]), size),
            _chunk(b"ICCP", profile) if profile else b"",
            picture.chunks,
            _chunk(b"EXIF", write_orientation(orientation)) if flags & EXIF else b"",
            _chunk(b"XMP ", mark.packet) if mark else b"",
        ]
    )


def _int24(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _chunk(type: bytes, *parts: bytes | memoryview) -> bytes:
    size = sum(map(len, parts))
    return b"".join([type, size.to_bytes(4, "little"), *parts, b"\0" * (size % 2)])
