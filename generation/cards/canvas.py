"""A picture in the making: gradients without bands and shapes with smooth edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from random import Random

from PIL import Image, ImageChops, ImageDraw

from generation.cards.palette import Color

Point = tuple[float, float]

_MASK_PIXELS = 12_000_000  # at most, for one shape's mask before it is reduced
_RIM = 180  # the level of Pillow's radial gradient where it meets the middle of an edge
_DITHER = 16  # levels of 255, about what one step between two near colours takes


class Canvas:
    """`mirrored` exchanges left and right of all that is drawn, for scripts read from the right."""

    def __init__(self, width: int, height: int, rng: Random, *, mirrored: bool = False) -> None:
        self.image = Image.new("RGB", (width, height))
        self.width, self.height = width, height
        self.rng = rng
        self.mirrored = mirrored

    @property
    def unit(self) -> float:
        """A measure for everything on the picture: the side of a square of the same area."""
        return math.sqrt(self.width * self.height)

    @cached_property
    def _noise(self) -> Image.Image:
        data = self.rng.randbytes(self.width * self.height)
        levels = [level * _DITHER // 256 for level in range(256)]
        return Image.frombytes("L", self.image.size, data).point(levels)

    def gradient(self, start: Color, end: Color, *, degrees: float) -> None:
        """Fill all, from `start` in one corner to `end` in the other; 0 degrees is downwards."""
        across, down = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        if self.mirrored:
            across = -across
        # Drawn small: a linear gradient loses nothing by being enlarged.
        width, height = (max(2, min(256, side // 4)) for side in self.image.size)
        reach = (abs(across) * width + abs(down) * height) / 254
        x, y = across / reach, down / reach
        offset = 128 - (x * width + y * height) / 2
        ramp = Image.linear_gradient("L").transform(
            (width, height),
            Image.Transform.AFFINE,
            (0, 0, 128, x, y, offset),
            Image.Resampling.BILINEAR,
        )
        mask = self._dithered(ramp.resize(self.image.size, Image.Resampling.BICUBIC), (0, 0))
        self.image.paste(Image.composite(_plain(end, mask), _plain(start, mask), mask))

    def glow(self, center: Point, radius: float, color: Color, *, strength: float = 1.0) -> None:
        """A soft round light that fades to nothing at `radius`."""
        x, y = self._placed(center)
        left, top = round(x - radius), round(y - radius)
        side = max(1, round(radius * 2))
        # Drawn small like a gradient. Smoothstep, so that neither middle nor rim shows.
        levels = [_smooth(1 - min(level / _RIM, 1)) * strength * 255 for level in range(256)]
        light = Image.radial_gradient("L").point([round(level) for level in levels])
        shown = (
            max(left, 0),
            max(top, 0),
            min(left + side, self.width),
            min(top + side, self.height),
        )
        if shown[0] >= shown[2] or shown[1] >= shown[3]:
            return
        scale = 256 / side
        source = (
            (shown[0] - left) * scale,
            (shown[1] - top) * scale,
            (shown[2] - left) * scale,
            (shown[3] - top) * scale,
        )
        mask = light.resize(
            (shown[2] - shown[0], shown[3] - shown[1]), Image.Resampling.BILINEAR, box=source
        )
        self.image.paste(color, shown, self._dithered(mask, shown[:2]))

    def shape(self, outline: Sequence[Point], color: Color, *, opacity: float = 1.0) -> None:
        """Fill a polygon, with edges smoothed by drawing them larger first."""
        points = [self._placed(point) for point in outline]
        left, top = (max(0, math.floor(min(side))) for side in zip(*points, strict=True))
        right = min(self.width, math.ceil(max(x for x, _ in points)))
        bottom = min(self.height, math.ceil(max(y for _, y in points)))
        if left >= right or top >= bottom:
            return
        width, height = right - left, bottom - top
        scale = min(4, max(2, int(math.sqrt(_MASK_PIXELS / (width * height)))))
        mask = Image.new("L", (width * scale, height * scale))
        enlarged = [((x - left) * scale, (y - top) * scale) for x, y in points]
        ImageDraw.Draw(mask).polygon(enlarged, fill=round(255 * opacity))
        self.image.paste(color, (left, top, right, bottom), mask.reduce(scale))

    def _placed(self, point: Point) -> Point:
        x, y = point
        return (self.width - x if self.mirrored else x), y

    def _dithered(self, mask: Image.Image, corner: tuple[int, int]) -> Image.Image:
        x, y = corner
        noise = self._noise.crop((x, y, x + mask.width, y + mask.height))
        nothing_stays_nothing = mask.point([min(level * _DITHER, 255) for level in range(256)])
        dithered = ImageChops.add(mask, noise, 1, -_DITHER // 2)
        return ImageChops.darker(dithered, nothing_stays_nothing)


def disc(center: Point, radius: float) -> list[Point]:
    return sector(center, radius, 0, 360)[1:]


def ring(center: Point, radius: float, thickness: float) -> list[Point]:
    """`radius` is that of the outer edge."""
    return disc(center, radius) + disc(center, radius - thickness)[::-1]


def sector(center: Point, radius: float, start: float, end: float) -> list[Point]:
    """A slice of a disc, clockwise from `start` to `end` degrees; 0 is to the right."""
    x, y = center
    steps = max(24, min(360, int(radius * abs(end - start) / 360)))
    angles = (math.radians(start + (end - start) * step / steps) for step in range(steps + 1))
    return [center, *((x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles)]


def rectangle(left: float, top: float, width: float, height: float) -> list[Point]:
    right, bottom = left + width, top + height
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _plain(color: Color, like: Image.Image) -> Image.Image:
    return Image.new("RGB", like.size, color)


def _smooth(part: float) -> float:
    return part * part * (3 - 2 * part)
