"""The one thing we keep of EXIF: which way up the picture is (EXIF 2.32, tag 0x0112).

Only the first directory is read, never a pointer to another one.
"""

import struct

PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
UPRIGHT = 1
# The types an orientation comes in: SHORT as the standard says, and LONG as some write it.
VALUES = {3: "H", 4: "I"}


def read_orientation(block: bytes | memoryview) -> int:
    """1 to 8; 1 as well where the block is broken or does not say. A JPEG's prefix may lead."""
    if block[: len(PREFIX)] == PREFIX:
        block = block[len(PREFIX) :]
    try:
        return _find(block)
    except struct.error:  # it points past its end
        return UPRIGHT


def _find(tiff: bytes | memoryview) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    if order is None:
        return UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
        if tag == ORIENTATION and kind in VALUES and count == 1:
            (value,) = struct.unpack_from(order + VALUES[kind], tiff, entry + 8)
            return int(value) if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def write_orientation(orientation: int) -> bytes:
    """A TIFF block of one directory with one entry, without the prefix that a JPEG wants."""
    header = struct.pack(">2sHI", b"MM", 42, 8)
    return header + struct.pack(">HHHIHHI", 1, ORIENTATION, 3, 1, orientation, 0, 0)
