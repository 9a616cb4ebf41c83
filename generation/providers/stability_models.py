"""What Stability AI offers, and what each of it costs.

https://platform.stability.ai/pricing
"""

from decimal import Decimal

from generation.provider import REFERENCE_SIDE, ModelInfo
from generation.providers.ratios import size_of, value_of

NAME = "Stability AI"
UPSCALER = "upscale-creative"
RATIOS = ("1:1", "4:5", "5:4", "2:3", "3:2", "9:16", "16:9", "9:21", "21:9")
STYLES = (
    "3d-model",
    "analog-film",
    "anime",
    "cinematic",
    "comic-book",
    "digital-art",
    "enhance",
    "fantasy-art",
    "isometric",
    "line-art",
    "low-poly",
    "modeling-compound",
    "neon-punk",
    "origami",
    "photographic",
    "pixel-art",
    "tile-texture",
)

MEGAPIXEL = 2**20
UPSCALED = 3840 * 2160
"""Pixels of what the upscaler gives: they say 4K. It keeps the shape of what it is given."""


def _model(
    name: str, *, credits: str, pixels: int, seconds: float, styles: bool = False, images: int = 0
) -> ModelInfo:
    """A credit is a US cent. Any size may be wished, and is answered in the nearest shape.

    The sizes are what we expect from the number of pixels that is told, in multiples of 8: which
    they are exactly, is not. There is no mask here: theirs are for other calls.
    """
    return ModelInfo(
        name=name,
        max_count=1 if name == UPSCALER else 4,
        min_side=64,
        max_side=4096,
        sizes=tuple(size_of(value_of(ratio), pixels) for ratio in RATIOS),
        styles=STYLES if styles else (),
        min_references=1 if name == UPSCALER else 0,
        max_references=images,
        reference_side=1024 if name == UPSCALER else REFERENCE_SIDE,  # it takes a megapixel
        supports_seed=True,
        supports_negative_prompt=True,
        price=Decimal(credits) / 100,
        seconds=seconds,
        draws_one_by_one=True,
    )


MODELS = (
    _model("core", credits="3", pixels=MEGAPIXEL * 3 // 2, seconds=5, styles=True),
    _model("ultra", credits="8", pixels=MEGAPIXEL, seconds=12, images=1),
    _model("sd3.5-large", credits="6.5", pixels=MEGAPIXEL, seconds=10, styles=True, images=1),
    _model("sd3.5-large-turbo", credits="4", pixels=MEGAPIXEL, seconds=5, styles=True, images=1),
    _model("sd3.5-medium", credits="3.5", pixels=MEGAPIXEL, seconds=7, styles=True, images=1),
    _model(UPSCALER, credits="60", pixels=UPSCALED, seconds=60, styles=True, images=1),
)

# Names of models that are no more, and what people write for those that are.
FORMER = {
    "stable-image-core": "core",
    "stable-image-ultra": "ultra",
    "sd3.5": "sd3.5-large",
    "sd3.5-turbo": "sd3.5-large-turbo",
    "sd3": "sd3.5-large",
    "sd3-large": "sd3.5-large",
    "sd3-large-turbo": "sd3.5-large-turbo",
    "sd3-turbo": "sd3.5-large-turbo",
    "sd3-medium": "sd3.5-medium",
}
