"""OpenAI's image models: how long they serve, what they can do, in which sizes, for how much.

As of 2026-11-22, from https://developers.openai.com/api/docs/deprecations and the guide beside it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from generation.provider import ModelInfo, Quality, Size, plain

MAX_COUNT = 10
MAX_REFERENCES = 16
MAX_PREVIEWS = 3

FORMER = {
    "dall-e": (date(2026, 5, 12), "gpt-image-2.6-flare"),
    "dall-e-2": (date(2026, 5, 12), "gpt-image-2.6-flare"),
    "dall-e-3": (date(2026, 5, 12), "gpt-image-2.6-flare"),
    "gpt-image-1": (date(2026, 10, 23), "gpt-image-2.5-flare"),
    "gpt-image-1-mini": (date(2026, 12, 1), "gpt-image-2.6-flare"),
    "gpt-image-1.5": (date(2026, 12, 1), "gpt-image-2.6-flare"),
    "gpt-image-1.5-2025-12-16": (date(2026, 12, 1), "gpt-image-2.6-flare"),
    "chatgpt-image-latest": (date(2026, 12, 1), "gpt-image-2.6-flare"),
}
"""When OpenAI shut them down, or will, and what it names as their replacement."""

REPLACEMENTS = {name: replacement for name, (_, replacement) in FORMER.items()}

_DAY = re.compile(r"-\d{4}-\d\d-\d\d$")
_GPT_IMAGE = re.compile(r"gpt-image-(\d{1,3})(?:\.(\d{1,3}))?(?:-[a-z][a-z0-9]*)*")


def is_current(name: str) -> bool:
    """Whether it is of the second generation, or will be of a later one: those can do the same."""
    found = _GPT_IMAGE.fullmatch(_DAY.sub("", name))
    return found is not None and int(found[1]) >= 2


def newest_first(names: Iterable[str]) -> list[str]:
    """Those that are current; of one version those last that are of a day, and never change."""

    def age(name: str) -> tuple[int, int, bool, str]:
        undated = _DAY.sub("", name)
        found = _GPT_IMAGE.fullmatch(undated)
        assert found is not None  # it is current
        return -int(found[1]), -int(found[2] or 0), undated != name, name

    return sorted(filter(is_current, names), key=age)


def serving(name: str, today: date) -> str:
    """The model that answers by that name: after its end, the one that OpenAI names instead."""
    ends, replacement = FORMER.get(plain(name), (None, name))
    return name if ends is None or ends > today else replacement


# ---- What they cost ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens."""

    text_in: Decimal = Decimal(5)
    image_in: Decimal = Decimal(8)
    image_out: Decimal = Decimal(30)


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one version. `factors` and `times` say how many tokens each quality takes."""

    factors: Mapping[Quality, int]
    times: Mapping[Quality, int] = field(default_factory=dict)
    prices: Prices = Prices()


_V2 = Family({Quality.LOW: 16, Quality.MEDIUM: 48, Quality.HIGH: 96})
_V2_5 = Family({Quality.LOW: 16, Quality.MEDIUM: 24, Quality.HIGH: 48})
# Nothing is published for 2.6; others count three to four times the tokens of 2.5.
_V2_6 = replace(_V2_5, times={Quality.LOW: 4, Quality.MEDIUM: 4})
# As dear as the dearest that we know, so that what is set aside suffices.
_UNKNOWN = Family(dict.fromkeys(Quality, 96), prices=Prices(image_out=Decimal(32)))

_CURRENT = {
    "gpt-image-2.6-flare": _V2_6,
    "gpt-image-2.6-sunburst": _V2_6,
    "gpt-image-2.5-flare": _V2_5,
    "gpt-image-2.5-sunburst": _V2_5,
    "gpt-image-2.5-flare-2026-09-08": _V2_5,
    "gpt-image-2.5-sunburst-2026-09-08": _V2_5,
    "gpt-image-2": _V2,
    "gpt-image-2-2026-04-21": _V2,
}
CURRENT = tuple(_CURRENT)
"""What OpenAI offers as far as we know, and has not announced to end, the newest first."""

_FAMILIES = _CURRENT | {
    "gpt-image-1-mini": replace(
        _UNKNOWN, prices=Prices(Decimal(2), image_in=Decimal("2.5"), image_out=Decimal(8))
    ),
}

PREVIEW_TOKENS = 100
REFERENCE_TOKENS = 6500
"""What one reference takes at most: an assumption, from what the first GPT image models took when
they looked closely, since nothing is published for those that always do."""

CHARACTERS_PER_TOKEN = 3


def _family(name: str) -> Family | None:
    """A snapshot of a day is of its model's family; None for what is later than this table."""
    return _FAMILIES.get(name) or _FAMILIES.get(_DAY.sub("", name))


def image_tokens(factor: int, width: int, height: int) -> int:
    """Tokens of one finished picture; agrees with every price that OpenAI lists per picture."""
    long, short = max(width, height), min(width, height)
    scaled = (2 * factor * short + long) // (2 * long)  # rounded half up
    return -(-factor * scaled * (2_000_000 + long * short) // 4_000_000)  # rounded up


def output_tokens(model: str, width: int, height: int, quality: Quality | None) -> int:
    """Of one picture. The model chooses where `quality` is None: at most high."""
    family = _family(model) or _UNKNOWN
    quality = quality or Quality.HIGH
    return image_tokens(family.factors[quality], width, height) * family.times.get(quality, 1)


def price(model: str, *, text_in: int, image_in: int, image_out: int) -> Decimal:
    """US dollars for so many tokens."""
    prices = (_family(model) or _UNKNOWN).prices
    millionths = text_in * prices.text_in + image_in * prices.image_in
    return (millionths + image_out * prices.image_out) / 1_000_000


# ---- In which sizes ------------------------------------------------------------------------------

STEP = 16
MIN_SIDE, MAX_SIDE = 480, 3840
MIN_PIXELS, MAX_PIXELS = 655_360, 8_294_400
MAX_RATIO = 3
MIN_SIDE_ELSEWHERE, MAX_SIDE_ELSEWHERE = 64, 2048
STANDARD: tuple[Size, ...] = ((1024, 1536), (1024, 1024), (1536, 1024))
_SIZES = ((1088, 1360), (1088, 1088), (1152, 2048), (1312, 688), (1024, 1536), (1536, 1024))
_SHAPE = 200
"""How many times its own share of pixels we pay rather than crop a share of the picture away."""


def is_native(width: int, height: int) -> bool:
    """Whether the current models draw this size. The bounds of pixels are other people's words."""
    long, short = max(width, height), min(width, height)
    return (
        width % STEP == height % STEP == 0
        and long <= MAX_SIDE
        and long <= MAX_RATIO * short
        and MIN_PIXELS <= width * height <= MAX_PIXELS
    )


def native_size(width: int, height: int) -> Size:
    """The smallest native size of this shape, or almost, that has all these pixels on both sides.

    Where there is none, the largest of this shape.
    """
    ratio = min(max(width / height, 1 / MAX_RATIO), MAX_RATIO)

    def pixels(size: Size) -> int:
        return size[0] * size[1]

    def unlike(size: Size) -> float:
        """1 for the same shape, more the more would have to be cropped away."""
        actual = size[0] / size[1]
        return 1 + _SHAPE * (1 - min(actual / ratio, ratio / actual))

    sizes = list(_sizes_near(ratio, height))
    covering = [size for size in sizes if size[0] >= width and size[1] >= height]
    if covering:
        return min(covering, key=lambda size: pixels(size) * unlike(size))
    return max(sizes, key=lambda size: pixels(size) / unlike(size))


def _sizes_near(ratio: float, height: int) -> Iterator[Size]:
    """For each width the heights just below and above the ratio, and the wished one."""
    for width in range(MIN_SIDE, MAX_SIDE + 1, STEP):
        below = int(width / ratio) // STEP * STEP
        for candidate in {below, below + STEP, _stepped(height)}:
            if candidate and is_native(width, candidate):
                yield width, candidate


def standard_size(width: int, height: int) -> Size:
    """The one that comes closest in shape of the three which every model knows."""
    return min(STANDARD, key=lambda size: abs(math.log(width / height * size[1] / size[0])))


def size_elsewhere(width: int, height: int) -> Size:
    """Whole steps of 16 pixels, which every open model can draw, and few draw more than 2048."""
    long = max(width, height, MAX_SIDE_ELSEWHERE)
    sides = [_stepped(side * MAX_SIDE_ELSEWHERE // long) for side in (width, height)]
    return max(sides[0], MIN_SIDE_ELSEWHERE), max(sides[1], MIN_SIDE_ELSEWHERE)


def _stepped(side: int) -> int:
    return -(-side // STEP) * STEP


# ---- What they can do ----------------------------------------------------------------------------


def described(name: str) -> ModelInfo:
    """A current model, or with care one that we know nothing of."""
    if not is_current(name):
        ends, replacement = FORMER.get(name, (None, None))
        return ModelInfo(
            name,
            max_count=1,
            min_side=1024,
            max_side=1536,
            sizes=STANDARD,
            max_references=1,
            seconds=60,
            shutdown_date=ends,
            replaced_by=replacement,
        )
    tokens = output_tokens(name, *_SIZES[0], Quality.MEDIUM)
    return ModelInfo(
        name,
        max_count=MAX_COUNT,
        min_side=MIN_SIDE,
        max_side=MAX_SIDE,
        sizes=_SIZES,
        qualities=tuple(Quality),
        max_references=MAX_REFERENCES,
        supports_mask=True,
        supports_transparency=True,
        streams_previews=True,
        price=price(name, text_in=0, image_in=0, image_out=tokens) if _family(name) else None,
        seconds=30 if "flare" in name else 60,  # flare is the fast one; nobody says how fast
    )


def described_elsewhere(name: str) -> ModelInfo:
    """A model on a server that speaks OpenAI's protocol. Most know seeds, and none takes money.

    What it cannot do, such a server leaves out or refuses.
    """
    return ModelInfo(
        name,
        max_count=4,
        min_side=MIN_SIDE_ELSEWHERE,
        max_side=MAX_SIDE_ELSEWHERE,
        sizes=((1088, 1360), (1088, 1088), (1088, 1920), (1024, 1024)),
        max_references=4,
        supports_mask=True,
        supports_seed=True,
        supports_negative_prompt=True,
        price=Decimal(0),
        seconds=60,
    )
