"""AVIF (https://aomediacodec.github.io/av1-avif/): is there anything in a file but its picture?

Boxes can hide anything anywhere, and refer to each other by place, so a file is not taken apart
and put together again. One that holds nothing but a picture is kept as it is; any other is decoded
and encoded anew.
"""

from collections.abc import Iterator
from typing import NamedTuple

HANDLER = b"\0" * 8 + b"pict" + b"\0" * 12
NAMES = (b"\0", b"libavif\0")
ITEM_NAMES = (b"\0", b"Color\0", b"Alpha\0")
ALPHA = b"\0" * 4 + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
BRANDS = {b"avif", b"mif1", b"miaf", b"MA1A", b"MA1B", b"msf1", b"mif2", b"\0\0\0\0"}

PROPERTIES = {b"ispe": 12, b"pixi": 8, b"av1C": 64, b"pasp": 8, b"clli": 4, b"mdcv": 24}
"""What describes a picture, with the most bytes that takes."""

# Of the units of an AV1 stream: sequence header, temporal delimiter, frame header, tile group,
# frame, redundant frame header. Not among them: metadata and padding.
UNITS = {1, 2, 3, 4, 6, 7}
MAX_ITEMS = 4


class Box(NamedTuple):
    kind: bytes
    body: memoryview
    place: int
    """Where the body begins in the file."""


class _MoreThanAPicture(Exception):
    """Something is there that this module does not know."""


def is_bare(data: memoryview) -> bool:
    """Whether the file holds a still picture, with its transparency, and nothing else at all.

    What it does not know counts as something else. It says nothing about whether that decodes.
    """
    try:
        _check(data)
    except (_MoreThanAPicture, IndexError):
        return False
    return True


def _check(data: memoryview) -> None:
    type_, meta, media = _the(data, b"ftyp", b"meta", b"mdat")
    brands = {bytes(type_.body[at : at + 4]) for at in range(0, len(type_.body), 4)}
    _only(brands <= BRANDS)
    _only(bytes(meta.body[:4]) == bytes(4))
    found = list(_boxes(meta.body[4:], 0))
    boxes = {box.kind: box for box in found}
    needed = {b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp"}
    _only(needed <= boxes.keys() <= needed | {b"iref"} and len(boxes) == len(found))
    handler = bytes(boxes[b"hdlr"].body)
    _only(handler.startswith(HANDLER) and handler[len(HANDLER) :] in NAMES)
    _only(len(boxes[b"pitm"].body) == 6)
    _check_items(boxes[b"iinf"])
    if b"iref" in boxes:
        for reference in _boxes(boxes[b"iref"].body[4:], 0):
            _only(reference.kind in (b"auxl", b"prem") and len(reference.body) == 6)
    _check_properties(boxes[b"iprp"])
    _check_media(data, media, _extents(boxes[b"iloc"].body))


def _check_items(items: Box) -> None:
    body = items.body
    count = int.from_bytes(body[4:6], "big")
    entries = list(_boxes(body[6:], 0))
    _only(bytes(body[:4]) == bytes(4) and 1 <= count == len(entries) <= MAX_ITEMS)
    for entry in entries:
        _only(entry.kind == b"infe" and entry.body[0] == 2)
        _only(bytes(entry.body[8:12]) == b"av01" and bytes(entry.body[12:]) in ITEM_NAMES)


def _check_properties(properties: Box) -> None:
    container, associations = _the(properties.body, b"ipco", b"ipma")
    _only(len(associations.body) <= 64)
    for each in _boxes(container.body, 0):
        if each.kind == b"colr":
            _only(bytes(each.body[:4]) == b"nclx" and len(each.body) == 11)
        elif each.kind == b"auxC":
            _only(bytes(each.body) == ALPHA)
        else:
            _only(len(each.body) <= PROPERTIES.get(each.kind, -1))


def _extents(body: memoryview) -> list[tuple[int, int]]:
    """Where the items' bytes are: (place, length), each in one piece of this file."""
    _only(body[0] == 0)  # version 0 knows no other way
    offset_size, length_size, base_size = body[4] >> 4, body[4] & 15, body[5] >> 4
    count = int.from_bytes(body[6:8], "big")
    _only(count <= MAX_ITEMS)
    entry = 2 + 2 + base_size + 2 + offset_size + length_size
    _only(len(body) == 8 + count * entry)
    extents = []
    for start in range(8, len(body), entry):
        at = start + 4
        base = int.from_bytes(body[at : at + base_size], "big")
        at += base_size
        _only(int.from_bytes(body[at : at + 2], "big") == 1)
        at += 2
        offset = int.from_bytes(body[at : at + offset_size], "big")
        length = int.from_bytes(body[at + offset_size : at + offset_size + length_size], "big")
        extents.append((base + offset, length))
    return extents


def _check_media(data: memoryview, media: Box, extents: list[tuple[int, int]]) -> None:
    """The items must fill the media box, without a gap between them."""
    at = media.place
    for place, length in sorted(extents):
        _only(place == at)
        at += length
        _only(at <= media.place + len(media.body))
        _check_units(data[place:at])
    _only(at == media.place + len(media.body))


def _check_units(stream: memoryview) -> None:
    """AV1 bitstream specification, section 5.3: headers and sizes of open bitstream units."""
    at = 0
    while at < len(stream):
        header = stream[at]
        _only(not header & 0x81 and header >> 3 & 15 in UNITS)
        has_extension, has_size = header & 4, header & 2
        at += 2 if has_extension else 1
        if not has_size:
            return  # up to the end
        size = shift = 0
        while True:
            byte = stream[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                break
            _only(shift < 56)
        at += size
    _only(at == len(stream))


def _the(data: memoryview, *kinds: bytes) -> list[Box]:
    """Just these boxes, in this order."""
    boxes = list(_boxes(data, 0))
    _only(tuple(box.kind for box in boxes) == kinds)
    return boxes


def _boxes(data: memoryview, place: int) -> Iterator[Box]:
    at, found = 0, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found += 1
        _only(8 <= size <= len(data) - at and found <= 64)
        yield Box(bytes(data[at + 4 : at + 8]), data[at + 8 : at + size], place + at + 8)
        at += size


def _only(is_known: bool) -> None:
    if not is_known:
        raise _MoreThanAPicture
