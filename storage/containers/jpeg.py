"""JPEG (ITU-T T.81, annex B): the segments of the first picture, up to its end marker.

The further pictures of an MPO come after that marker. Whatever a decoder skips between segments is
dropped; what stands between a scan's header and the next marker is copied as it is.
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from storage.containers import c2pa, icc, xmp
from storage.containers.exif import PREFIX, UPRIGHT, read_orientation, write_orientation
from storage.containers.vocabulary import Bounds, Rewritten, corrupt, counted, over_limit
from storage.errors import CorruptFile, UnsupportedMediaType
from storage.marks import Mark, combined

SIGNATURE = b"\xff\xd8\xff"
# A 50 MB file made of full segments has 800.
MAX_SEGMENTS = 10_000

SOI, EOI, SOS, DQT, DHT, DRI, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE
APP0, APP1, APP2, APP11, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xEE
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; Huffman-coded
KNOWN = {*FRAMES, SOS, DQT, DHT, DRI, COM, *range(0xE0, 0xF0)}
STANDALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and RSTn have no length
# Lossless, hierarchical and arithmetic frames, their DAC, DHP and EXP, and DNL.
EXOTIC = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xD0), 0xDC, 0xDE, 0xDF}

# Neither a stuffed byte, 0xFF 0x00, nor a fill byte, 0xFF 0xFF, is a marker; nor RSTn, in a scan.
MARKER = re.compile(rb"\xff[\x01-\xfe]")
SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")

JFIF = b"JFIF\0" + bytes([1, 1, 0, 0, 1, 0, 1, 0, 0])  # 1.01, square pixels, no thumbnail
PROFILE = b"ICC_PROFILE\0"
PROFILE_PART = 0xFFFF - 2 - len(PROFILE) - 2
XMP = b"http://ns.adobe.com/xap/1.0/\0"
BOX_HEAD = 16  # bytes of a JUMBF segment before its part of the box: CI, En, Z, LBox, TBox


class Segment(NamedTuple):
    """`payload` is without its length; `scan` is what follows it, up to the next marker."""

    marker: int
    payload: memoryview
    scan: memoryview


def rewrite(data: memoryview, bounds: Bounds, mark: Mark | None = None) -> Rewritten:
    picture: list[bytes | memoryview] = []
    frame: bytes | None = None
    scans = 0
    components: set[int] = set()
    jfif = False
    adobe: bytes | None = None
    orientation: int | None = None
    profile_parts: list[bytes] = []
    declared: Mark | None = None
    manifest: list[bytes] = []

    segments = _segments(data)
    for marker, payload, scan in segments:
        name = bytes(payload[:20])
        if marker in FRAMES:
            if frame is not None:
                raise corrupt("it describes its frame twice")
            frame = _checked_frame(payload, bounds)
            picture.append(_segment(marker, frame))
        elif marker == SOS:
            if frame is None:
                raise corrupt("its data come before the description of the frame")
            scans += 1
            if scans > bounds.max_jpeg_scans:
                actual = counted(scans, (each for each in segments if each.marker == SOS))
                raise over_limit("scans", bounds.max_jpeg_scans, actual, "Save it as baseline JPEG")
            components |= _checked_scan(payload, frame)
            picture += [_segment(marker, payload), scan]
        elif marker in (DQT, DHT, DRI):
            if not _fits(marker, payload):
                raise corrupt("a table is not as long as it says")
            picture.append(_segment(marker, payload))
        elif marker == APP1 and name.startswith(b"http://ns.adobe.com/"):
            declared = combined(declared, xmp.declared(payload))
        elif marker == APP11:
            if name.startswith(b"JP"):
                manifest.append(bytes(payload[BOX_HEAD:]))
        elif scans:
            pass  # decoders read on colours and orientation until they meet the first scan
        elif marker == APP1 and name.startswith(PREFIX):
            if orientation is None:
                orientation = read_orientation(payload)
        elif marker == APP0 and name.startswith(b"JFIF\0"):
            jfif = True
        elif marker == APP14 and name.startswith(b"Adobe") and len(payload) >= 12:
            adobe = b"Adobe" + bytes([0, 100, 0, 0, 0, 0, payload[11]])
        elif marker == APP2 and name.startswith(PROFILE):
            profile_parts.append(bytes(payload[12:]))

    if frame is None or components != _components(frame):
        raise corrupt("a part of the picture is missing")
    profile = _assembled(profile_parts, bounds)
    boxes = b"".join(manifest)
    declared = combined(declared, c2pa.declared(boxes))
    mark = combined(declared, mark)
    head = [
        b"\xff\xd8",
        _segment(APP0, JFIF) if jfif else b"",
        _oriented(orientation or UPRIGHT),
        _segment(APP1, XMP + mark.packet) if mark else b"",
        _profiled(profile) if profile else b"",
        _segment(APP14, adobe) if adobe else b"",
    ]
    return Rewritten(
        data=b"".join([*head, *picture, b"\xff\xd9"]),
        media_type="image/jpeg",
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        orientation=orientation or UPRIGHT,
        frames=1,
        has_icc=profile is not None,
        declared=declared,
        has_c2pa=b"c2pa" in boxes,
        mark=mark,
    )


def _segments(data: memoryview) -> Iterator[Segment]:
    """Every segment before the end marker; CorruptFile if there is no end marker."""
    at = 2
    for number in count(1):
        if number > MAX_SEGMENTS:
            raise over_limit("segments", MAX_SEGMENTS, number, "Export it anew")
        found = MARKER.search(data, at)
        if found is None:
            raise _cut_off()
        marker, at = data[found.start() + 1], found.end()
        if marker == EOI:
            return
        if marker in STANDALONE:
            continue
        if marker in EXOTIC:
            raise UnsupportedMediaType(
                "This JPEG is lossless, hierarchical or arithmetic-coded, which browsers do not "
                "show. Save it as baseline or progressive JPEG.",
                field="file",
            )
        if marker not in KNOWN:
            raise corrupt("it holds a part that no JPEG has")
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise _cut_off()
        payload = data[at + 2 : at + length]
        at += length
        scan = data[at:at]
        if marker == SOS:
            end = SCAN_END.search(data, at)
            if end is None:
                raise _cut_off()
            scan = data[at : end.start()]
            at = end.start()
        yield Segment(marker, payload, scan)


def _cut_off() -> CorruptFile:
    return corrupt("it ends in the middle")


def _checked_frame(payload: memoryview, bounds: Bounds) -> bytes:
    frame = bytes(payload)
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5] or frame[5] not in (1, 3, 4):
        raise corrupt("the description of the frame is broken")
    if frame[0] != 8:
        raise UnsupportedMediaType(
            f"This JPEG has {frame[0]} bits a colour, which browsers do not show. Save it with 8.",
            field="file",
        )
    bounds.admit_canvas(int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
    return frame


def _components(frame: bytes) -> set[int]:
    return set(frame[6::3])


def _checked_scan(payload: memoryview, frame: bytes) -> set[int]:
    """The components that the scan adds to."""
    scan = bytes(payload)
    if not scan or not 1 <= scan[0] <= 4 or len(scan) != 4 + 2 * scan[0]:
        raise corrupt("the description of a scan is broken")
    components = set(scan[1 : 1 + 2 * scan[0] : 2])
    if not components <= _components(frame):
        raise corrupt("a scan is of a colour that the frame does not have")
    return components


def _fits(marker: int, payload: memoryview) -> bool:
    """Whether the tables end where their segment does, so that nothing rides along."""
    if marker == DRI:
        return len(payload) == 2
    at = 0
    while at < len(payload):
        if marker == DQT:
            at += 1 + (128 if payload[at] >> 4 else 64)
        else:
            at += 17 + sum(payload[at + 1 : at + 17])
    return at == len(payload)


def _segment(marker: int, payload: bytes | memoryview) -> bytes:
    return b"".join([bytes([0xFF, marker]), (len(payload) + 2).to_bytes(2, "big"), payload])


def _oriented(orientation: int) -> bytes:
    if orientation == UPRIGHT:
        return b""
    return _segment(APP1, PREFIX + write_orientation(orientation))


def _assembled(parts: list[bytes], bounds: Bounds) -> bytes | None:
    """Each part begins with its number, from 1, and the number of parts. None if any is amiss."""
    bounds.admit_profile(sum(max(0, len(part) - 2) for part in parts))
    numbered = sorted(parts, key=lambda part: part[:1])
    numbers = [list(part[:2]) for part in numbered]
    if numbers != [[number, len(parts)] for number in range(1, len(parts) + 1)]:
        return None
    return icc.usable(b"".join(part[2:] for part in numbered), bounds)


def _profiled(profile: bytes) -> bytes:
    starts = range(0, len(profile), PROFILE_PART)
    return b"".join(
        _segment(APP2, PROFILE + bytes([n, len(starts)]) + profile[at : at + PROFILE_PART])
        for n, at in enumerate(starts, start=1)
    )
