"""AVIF (https://aomediacodec.github.io/av1-avif/): is there anything in a file but its picture?

Boxes can hide anything anywhere, and refer to each other by place. So only a file that holds
nothing but a picture, and our mark, is taken apart and put together again, for another mark. Any
other is decoded and encoded anew.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from storage.marks import Mark

HANDLER = b"\0" * 8 + b"pict" + b"\0" * 12
NAMES = (b"\0", b"libavif\0")
ITEM_NAMES = (b"\0", b"Color\0", b"Alpha\0")
C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # the type of its uuid box
XMP = b"mimeXMP\0application/rdf+xml\0"
ALPHA = b"\0" * 4 + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
BRANDS = {b"avif", b"mif1", b"miaf", b"MA1A", b"MA1B", b"msf1", b"mif2", b"\0\0\0\0"}

PROPERTIES = {b"ispe": 12, b"pixi": 8, b"av1C": 64, b"pasp": 8, b"clli": 4, b"mdcv": 24}
"""What describes a picture, with the most bytes that takes."""

# Of the units of an AV1 stream: sequence header, temporal delimiter, frame header, tile group,
# frame, redundant frame header. Not among them: metadata and padding.
UNITS = {1, 2, 3, 4, 6, 7}
MAX_PICTURES = 4  # items: of colours, of transparency, … and one of XMP beside them
BOX_HEAD = 8  # size and kind

REFERENCES = (b"auxl", b"prem", b"cdsc")  # transparency, its premultiplication, and the XMP's
PACKETS = {mark.packet for mark in Mark}


class Box(NamedTuple):
    kind: bytes
    body: memoryview
    place: int
    """Where the body begins in the file."""


class Extent(NamedTuple):
    """Where an item's bytes are, each in one piece of the file."""

    item: int
    place: int
    length: int


class Parts(NamedTuple):
    """What is known of a file that holds nothing else. `mark` is the number of the XMP item."""

    type: Box
    boxes: dict[bytes, Box]
    extents: list[Extent]
    mark: int | None


class _MoreThanAPicture(Exception):
    """Something is there that this module does not know."""


def is_bare(data: memoryview) -> bool:
    """Whether the file holds a still picture, with its transparency, and nothing else at all.

    Only our mark may stand beside it. What is not known counts as something else. It says nothing
    about whether that decodes.
    """
    try:
        _checked(data)
    except (_MoreThanAPicture, IndexError):
        return False
    return True


def has_manifest(data: memoryview) -> bool:
    """Whether there is a box of C2PA's, whatever else there is."""
    try:
        return any(
            box.kind == b"uuid" and bytes(box.body[: len(C2PA)]) == C2PA for box in _boxes(data, 0)
        )
    except _MoreThanAPicture:
        return False


def marked(data: memoryview, mark: Mark) -> bytes:
    """A bare file with this mark, in the place of any other. All else in it is copied.

    Laid out as libavif does it, to the byte.
    """
    parts = _checked(data)
    boxes = parts.boxes
    items = [
        (extent.item, data[extent.place : extent.place + extent.length])
        for extent in sorted(parts.extents, key=lambda extent: extent.place)
        if extent.item != parts.mark
    ]
    infos = [
        info for info in _boxes(boxes[b"iinf"].body[6:], 0) if _number(info.body[4:]) != parts.mark
    ]
    taken = {_number(info.body[4:]) for info in infos}
    number = next(number for number in range(1, MAX_PICTURES + 2) if number not in taken)
    items.insert(0, (number, memoryview(mark.packet)))
    infos_body = b"".join([*map(_again, infos), _box(b"infe", b"\2\0\0\0", _two(number, 0), XMP)])
    references = boxes[b"iref"].body[4:] if b"iref" in boxes else memoryview(b"")
    others = [each for each in _boxes(references, 0) if each.kind != b"cdsc"]
    described = _box(b"cdsc", _two(number, 1), boxes[b"pitm"].body[4:])

    def meta(media: int) -> bytes:
        """The box, when the items' bytes begin at this place."""
        locations = {}
        for item, stream in items:
            locations[item] = _two(item, 0, 1) + struct.pack(">II", media, len(stream))
            media += len(stream)
        sizes_and_count = bytes([0x44, 0]) + _two(len(items))
        listed = b"".join(locations[item] for item in sorted(locations))
        return _box(
            b"meta",
            bytes(4),
            _again(boxes[b"hdlr"]),
            _again(boxes[b"pitm"]),
            _box(b"iloc", bytes(4), sizes_and_count, listed),
            _box(b"iinf", bytes(4), _two(len(infos) + 1), infos_body),
            _box(b"iref", bytes(4), *map(_again, others), described),
            _again(boxes[b"iprp"]),
        )

    head = _again(parts.type)
    media = len(head) + len(meta(0)) + BOX_HEAD
    return b"".join([head, meta(media), _box(b"mdat", *(stream for _, stream in items))])


def _checked(data: memoryview) -> Parts:
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
    numbers, mark = _checked_items(boxes[b"iinf"])
    if b"iref" in boxes:
        for reference in _boxes(boxes[b"iref"].body[4:], 0):
            _only(reference.kind in REFERENCES and len(reference.body) == 6)
    _check_properties(boxes[b"iprp"])
    extents = _extents(boxes[b"iloc"].body)
    _only(sorted(extent.item for extent in extents) == sorted(numbers))
    _check_media(data, media, extents, mark)
    return Parts(type_, boxes, extents, mark)


def _checked_items(items: Box) -> tuple[list[int], int | None]:
    """The items' numbers, and that of XMP, if there is any: its bytes are still to be looked at."""
    body = items.body
    mark = None
    count = int.from_bytes(body[4:6], "big")
    entries = list(_boxes(body[6:], 0))
    _only(bytes(body[:4]) == bytes(4) and 1 <= count == len(entries))
    numbers = [_number(entry.body[4:]) for entry in entries]
    for number, entry in zip(numbers, entries, strict=True):
        _only(entry.kind == b"infe" and entry.body[0] == 2)
        if mark is None and bytes(entry.body[8:]) == XMP:
            mark = number
            continue
        _only(bytes(entry.body[8:12]) == b"av01" and bytes(entry.body[12:]) in ITEM_NAMES)
    _only(len(set(numbers)) == len(numbers) <= MAX_PICTURES + (mark is not None))
    return numbers, mark


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


def _extents(body: memoryview) -> list[Extent]:
    _only(body[0] == 0)  # version 0 knows no other way
    offset_size, length_size, base_size = body[4] >> 4, body[4] & 15, body[5] >> 4
    count = int.from_bytes(body[6:8], "big")
    _only(count <= MAX_PICTURES + 1)
    entry = 2 + 2 + base_size + 2 + offset_size + length_size
    _only(len(body) == 8 + count * entry)
    extents = []
    for start in range(8, len(body), entry):
        item = _number(body[start:])
        at = start + 4
        base = int.from_bytes(body[at : at + base_size], "big")
        at += base_size
        _only(int.from_bytes(body[at : at + 2], "big") == 1)
        at += 2
        offset = int.from_bytes(body[at : at + offset_size], "big")
        length = int.from_bytes(body[at + offset_size : at + offset_size + length_size], "big")
        extents.append(Extent(item, base + offset, length))
    return extents


def _check_media(data: memoryview, media: Box, extents: list[Extent], mark: int | None) -> None:
    """The items must fill the media box, without a gap between them."""
    at = media.place
    for item, place, length in sorted(extents, key=lambda extent: extent.place):
        _only(place == at)
        at += length
        _only(at <= media.place + len(media.body))
        if item == mark:
            _only(bytes(data[place:at]) in PACKETS)
        else:
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


def _again(box: Box) -> bytes:
    return _box(box.kind, box.body)


def _box(kind: bytes, *parts: bytes | memoryview) -> bytes:
    size = BOX_HEAD + sum(map(len, parts))
    return b"".join([size.to_bytes(4, "big"), kind, *parts])


def _number(data: memoryview) -> int:
    return int.from_bytes(data[:2], "big")


def _two(*numbers: int) -> bytes:
    """Each in two bytes."""
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def _only(is_known: bool) -> None:
    if not is_known:
        raise _MoreThanAPicture
