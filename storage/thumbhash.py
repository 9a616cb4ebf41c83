"""ThumbHash: a picture's colours and rough shapes in about 25 bytes, shown until it has loaded.

The format is Evan Wallace's (https://evanw.github.io/thumbhash/): the lowest cosine frequencies of
lightness, two colour differences and alpha, each as four bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, floor, pi
from operator import mul
from typing import cast

from PIL import Image

MAX_SIDE = 32  # the highest frequency kept has 7 half waves, which 32 pixels show well


def thumbhash(picture: Image.Image) -> bytes:
    """The hash of a picture in any mode, as displayed."""
    small = picture.convert("RGBA")
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    width, height = small.size
    pixels = cast(list[tuple[int, int, int, int]], list(small.get_flattened_data()))
    alphas = [a / 255 for _, _, _, a in pixels]
    covered = sum(alphas)
    # Where the picture is transparent, its average colour shines through.
    average = [
        sum(pixel[band] / 255 * a for pixel, a in zip(pixels, alphas, strict=True)) / (covered or 1)
        for band in range(3)
    ]
    colours = [
        [average[band] * (1 - a) + pixel[band] / 255 * a for band in range(3)]
        for pixel, a in zip(pixels, alphas, strict=True)
    ]
    has_alpha = covered < width * height
    limit = 5 if has_alpha else 7
    nx = max(1, _round(limit * width / max(width, height)))
    ny = max(1, _round(limit * height / max(width, height)))

    light = _Channel.of(
        [(r + g + b) / 3 for r, g, b in colours], small.size, max(3, nx), max(3, ny)
    )
    blue = _Channel.of([(r + g) / 2 - b for r, g, b in colours], small.size, 3, 3)
    green = _Channel.of([r - g for r, g, b in colours], small.size, 3, 3)
    is_landscape = width > height
    head = (
        _round(63 * light.mean)
        | _round(31.5 + 31.5 * blue.mean) << 6
        | _round(31.5 + 31.5 * green.mean) << 12
        | _round(31 * light.scale) << 18
        | has_alpha << 23
    )
    shape = (
        (ny if is_landscape else nx)
        | _round(63 * blue.scale) << 3
        | _round(63 * green.scale) << 9
        | is_landscape << 15
    )
    hashed = bytearray(head.to_bytes(3, "little") + shape.to_bytes(2, "little"))
    channels = [light, blue, green]
    if has_alpha:
        alpha = _Channel.of(alphas, small.size, 5, 5)
        hashed.append(_round(15 * alpha.mean) | _round(15 * alpha.scale) << 4)
        channels.append(alpha)
    hashed.extend(_packed(nibble for channel in channels for nibble in channel.nibbles()))
    return bytes(hashed)


@dataclass(frozen=True, slots=True)
class _Channel:
    """One band: its mean, its waves (the triangle of the nx x ny lowest), and the largest wave."""

    mean: float
    waves: list[float]
    scale: float

    @classmethod
    def of(cls, values: list[float], size: tuple[int, int], nx: int, ny: int) -> "_Channel":
        width, height = size
        across = [[cos(pi / width * cx * (x + 0.5)) for x in range(width)] for cx in range(nx)]
        down = [[cos(pi / height * cy * (y + 0.5)) for y in range(height)] for cy in range(ny)]
        rows = [values[y * width : (y + 1) * width] for y in range(height)]
        # The transform is separable: every row is summed once for each horizontal wave.
        sums = [[sum(map(mul, row, wave)) for row in rows] for wave in across]
        waves = [
            sum(map(mul, sums[cx], down[cy])) / (width * height)
            for cy in range(ny)
            for cx in range(nx)
            if cx * ny < nx * (ny - cy)
        ]
        mean, *rest = waves
        return cls(mean, rest, max(map(abs, rest), default=0.0))

    def nibbles(self) -> Iterator[int]:
        for wave in self.waves:
            yield _round(15 * (0.5 + 0.5 / self.scale * wave)) if self.scale else 0


def _packed(nibbles: Iterator[int]) -> Iterator[int]:
    for low in nibbles:
        yield low | next(nibbles, 0) << 4


def _round(value: float) -> int:
    return floor(value + 0.5)
