"""A perceptual hash: pictures that look alike have hashes that differ in few of 64 bits.

The signs of the lowest 8 x 8 cosine frequencies of the grey picture, against their median; after
Christoph Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010).
"""

from math import cos, pi
from operator import mul
from statistics import median
from typing import cast

from PIL import Image

SIDE = 32
KEPT = 8


def perceptual_hash(picture: Image.Image) -> str:
    """16 hexadecimal digits. Compare two by the number of bits in which they differ."""
    grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = cast(list[int], list(grey.get_flattened_data()))
    rows = [pixels[y * SIDE : (y + 1) * SIDE] for y in range(SIDE)]
    waves = [[cos(pi / SIDE * n * (x + 0.5)) for x in range(SIDE)] for n in range(1, KEPT + 1)]
    across = [[_dot(row, wave) for row in rows] for wave in waves]
    frequencies = [_dot(column, wave) for wave in waves for column in across]
    middle = median(frequencies)
    bits = "".join("1" if frequency > middle else "0" for frequency in frequencies)
    return f"{int(bits, 2):016x}"


def _dot(values: list[int] | list[float], wave: list[float]) -> float:
    total: float = sum(map(mul, values, wave))
    return total
