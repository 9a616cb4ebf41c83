"""The words that the four containers share: what bounds a file, what comes out, how one refuses."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from storage.errors import CorruptFile, Rejected, TooManyPixels
from storage.marks import Mark

# What is over a limit is counted on for the message, but not for ever.
COUNTED_AT_MOST = 200_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a file may ask of its decoder, as its structure tells. What meets a bound passes.

    `max_pixels` is for the canvas, `max_frame_pixels` for frames x canvas; `max_png_chunks` counts
    every chunk, those that are dropped as well.
    """

    max_frames: int = 500
    max_jpeg_scans: int = 100
    max_png_chunks: int = 20_000
    max_icc_bytes: int = 4 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_frame_pixels: int = 250_000_000

    def admit_canvas(self, width: int, height: int) -> None:
        if not width or not height:
            raise corrupt("it says that the picture has no width or no height")
        if width * height > self.max_pixels:
            raise TooManyPixels(
                f"The picture has {width} x {height} pixels; "
                f"at most {self.max_pixels:,} are accepted. Scale it down first.",
                field="file",
                limit=self.max_pixels,
                actual=width * height,
            )

    def admit_frames(self, frames: int, width: int, height: int) -> None:
        if frames > self.max_frames:
            raise over_limit("frames", self.max_frames, frames, "Shorten the animation")
        if frames * width * height > self.max_frame_pixels:
            raise TooManyPixels(
                f"The animation has {frames} frames of {width} x {height} pixels, "
                f"{frames * width * height:,} in all; at most {self.max_frame_pixels:,} are "
                "accepted. Scale it down or shorten it first.",
                field="file",
                limit=self.max_frame_pixels,
                actual=frames * width * height,
            )

    def admit_profile(self, size: int) -> None:
        if size > self.max_icc_bytes:
            raise over_limit(
                "bytes of colour profile", self.max_icc_bytes, size, "Convert it to sRGB"
            )


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file that shows the same pixels and holds nothing else but its mark.

    `width` and `height` are pixels as stored: `orientation` (EXIF, 1 to 8) is still to be applied.
    `frames` counts the pictures to decode. `declared` and `has_c2pa` tell of the file as it came
    in. `mark` is what holds now, and is in `data` in our own words, unless that is a GIF: there is
    no place in it that readers agree on. No manifest is in `data`.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    orientation: int
    frames: int
    has_icc: bool
    declared: Mark | None
    has_c2pa: bool
    mark: Mark | None

    @property
    def declares_ai(self) -> bool:
        return self.declared is not None


def corrupt(why: str) -> CorruptFile:
    return CorruptFile(f"The file is damaged or incomplete: {why}. Export it anew.", field="file")


def over_limit(parts: str, limit: int, actual: int, remedy: str) -> Rejected:
    """`actual` is how far we counted, where counting to the end would take too long."""
    return Rejected(
        f"The file has {actual:,} {parts}; at most {limit:,} are accepted. {remedy} first.",
        field="file",
        limit=limit,
        actual=actual,
    )


def counted(already: int, more: Iterable[object]) -> int:
    """How many there are in all, for a message; the counting ends at 200,000 more."""
    return already + sum(1 for _ in islice(more, COUNTED_AT_MOST))
