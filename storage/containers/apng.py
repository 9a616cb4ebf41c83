"""The animation of an APNG (https://www.w3.org/TR/png-3/#apng-frame-based-animation), checked.

Every frame has a description and data, in the order of their numbers, and there are as many as
announced: no decoder is left to guess.
"""

import struct

from storage.containers.vocabulary import Bounds, corrupt


class Animation:
    """Told of each part as it comes; `pictures` has the verdict."""

    def __init__(self, width: int, height: int, bounds: Bounds) -> None:
        self.width, self.height, self.bounds = width, height, bounds
        self.announced: int | None = None
        self.begun = 0
        self.parts = 0
        self.frame_is_empty = False
        self.default_seen = False
        self.default_is_frame = False

    def announce(self, control: memoryview) -> None:
        if len(control) != 8 or self.announced is not None:
            raise corrupt("its animation is broken")
        self.announced = int.from_bytes(control[:4], "big")
        self.bounds.admit_frames(self.announced, self.width, self.height)

    def add_default_picture(self) -> None:
        """Data that decoders without animations show. They are a frame if one was described."""
        self.default_is_frame = self.begun > 0
        self.default_seen = True
        self.frame_is_empty = False

    def begin_frame(self, description: memoryview) -> None:
        if len(description) != 26 or self.frame_is_empty:
            raise corrupt("a frame of its animation is broken")
        number, width, height, x, y, _delay, disposal, blending = struct.unpack(
            ">IIIIIIBB", description
        )
        self._count(number)
        whole = (width, height, x, y) == (self.width, self.height, 0, 0)
        inside = width and height and x + width <= self.width and y + height <= self.height
        if not (inside if self.default_seen else whole) or disposal > 2 or blending > 1:
            raise corrupt("a frame of its animation is broken")
        self.begun += 1
        self.frame_is_empty = True

    def add_to_frame(self, data: memoryview) -> None:
        self._count(int.from_bytes(data[:4], "big") if len(data) >= 4 else None)
        if not self.default_seen or self.begun == self.default_is_frame:
            raise corrupt("a frame of its animation is not described")
        self.frame_is_empty = False

    def _count(self, number: int | None) -> None:
        if number != self.parts:
            raise corrupt("parts of its animation are missing")
        self.parts += 1

    def pictures(self) -> int:
        """How many to decode: the frames, and a default picture that is none of them."""
        if self.announced is None:
            return 1
        if not self.begun or self.begun != self.announced or self.frame_is_empty:
            raise corrupt("frames of its animation are missing")
        pictures = self.begun + (not self.default_is_frame)
        self.bounds.admit_frames(pictures, self.width, self.height)
        return pictures
