"""What we know of OpenAI's models: the prices and sizes that it publishes, and when they end."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.provider import ModelInfo, Quality
from generation.providers.openai_models import (
    CURRENT,
    FORMER,
    MAX_SIDE,
    described,
    image_tokens,
    is_current,
    is_native,
    native_size,
    newest_first,
    output_tokens,
    price,
    serving,
    size_elsewhere,
)
from tests import openai_server

SIDES = st.integers(1, MAX_SIDE)


@pytest.mark.parametrize(
    ("factor", "square", "portrait", "four_to_five"),
    [
        (16, (196, "0.0059"), (158, "0.0047"), (181, "0.0054")),
        (24, (439, "0.0132"), (343, "0.0103"), (397, "0.0119")),
        (48, (1756, "0.0527"), (1372, "0.0412"), (1587, "0.0476")),
        (64, (3122, "0.0937"), (2459, "0.0738"), (2840, "0.0852")),
        (96, (7024, "0.2107"), (5488, "0.1646"), (6431, "0.1929")),
    ],
)
def test_the_formula_gives_every_published_price(
    factor: int,
    square: tuple[int, str],
    portrait: tuple[int, str],
    four_to_five: tuple[int, str],
) -> None:
    sizes = ((1024, 1024), (1024, 1536), (1088, 1360))

    for size, (tokens, dollars) in zip(sizes, (square, portrait, four_to_five), strict=True):
        assert image_tokens(factor, *size) == tokens
        cost = price("gpt-image-2", text_in=0, image_in=0, image_out=tokens)
        assert round(cost, 4) == Decimal(dollars)


@given(st.sampled_from([16, 24, 48, 64, 96]), SIDES, SIDES)
def test_the_formula_does_not_care_which_side_is_long_and_agrees_with_another_hand(
    factor: int, width: int, height: int
) -> None:
    tokens = image_tokens(factor, width, height)

    assert tokens == image_tokens(factor, height, width)
    assert tokens == openai_server.tokens(factor, width, height)


@pytest.mark.parametrize(
    ("model", "quality", "tokens"),
    [
        ("gpt-image-2", Quality.LOW, 196),
        ("gpt-image-2", Quality.MEDIUM, 1756),
        ("gpt-image-2", Quality.HIGH, 7024),
        ("gpt-image-2-2026-04-21", Quality.MEDIUM, 1756),
        ("gpt-image-2.5-flare", Quality.LOW, 196),
        ("gpt-image-2.5-sunburst", Quality.MEDIUM, 439),
        ("gpt-image-2.5-flare-2026-09-08", Quality.HIGH, 1756),
        ("gpt-image-2.6-flare", Quality.LOW, 4 * 196),
        ("gpt-image-2.6-sunburst", Quality.MEDIUM, 4 * 439),
        ("gpt-image-2.6-flare", Quality.HIGH, 1756),
        ("gpt-image-2.6-flare", None, 1756),
        ("gpt-image-2.6-flare-2026-11-04", Quality.LOW, 4 * 196),
        ("gpt-image-2.7-flare", Quality.LOW, 7024),
        ("gpt-image-9", Quality.MEDIUM, 7024),
        ("somebody-elses", Quality.LOW, 7024),
    ],
)
def test_a_picture_takes_the_tokens_of_its_model_and_quality(
    model: str, quality: Quality | None, tokens: int
) -> None:
    assert output_tokens(model, 1024, 1024, quality) == tokens


def test_tokens_cost_what_the_model_asks() -> None:
    million = {"text_in": 1_000_000, "image_in": 1_000_000, "image_out": 1_000_000}

    assert price("gpt-image-2.6-flare", **million) == Decimal(43)
    assert price("gpt-image-1.5", **million) == Decimal(45)
    assert price("gpt-image-1-mini", **million) == Decimal("12.5")
    assert price("gpt-image-9", **million) == Decimal(45)  # as the dearest that we know


@pytest.mark.parametrize(
    ("wished", "drawn"),
    [
        ((1080, 1350), (1088, 1360)),
        ((1080, 1080), (1088, 1088)),
        ((1080, 1920), (1152, 2048)),
        ((1920, 1080), (2048, 1152)),
        ((1080, 566), (1312, 688)),
        ((1200, 630), (1280, 672)),
        ((1080, 1440), (1104, 1472)),
        ((1024, 1536), (1024, 1536)),
        ((100, 100), (816, 816)),  # fewer pixels are not drawn
        ((1584, 396), (1584, 528)),  # no longer shape is drawn
        ((3840, 2160), (3840, 2160)),
        ((3840, 3840), (2880, 2880)),  # more pixels are not drawn
    ],
)
def test_a_wish_becomes_the_native_size_of_its_shape(
    wished: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert native_size(*wished) == drawn


@given(SIDES, SIDES)
def test_whatever_is_wished_a_native_size_is_drawn(width: int, height: int) -> None:
    actual = native_size(width, height)

    assert is_native(*actual)
    openai_server.check_size(f"{actual[0]}x{actual[1]}")  # raises what the API would answer


@given(st.integers(1, MAX_SIDE // 16), st.integers(1, MAX_SIDE // 16), st.data())
def test_a_wish_is_covered_wherever_a_native_size_can(
    columns: int, rows: int, data: st.DataObject
) -> None:
    native = (16 * columns, 16 * rows)
    if not is_native(*native):
        native = native_size(*native)
    width = data.draw(st.integers(1, native[0]))
    height = data.draw(st.integers(1, native[1]))

    actual = native_size(width, height)

    assert actual[0] >= width
    assert actual[1] >= height


@given(st.integers(400, 2700), st.integers(400, 2700))
def test_a_usual_wish_loses_hardly_anything_by_cropping(width: int, height: int) -> None:
    if not 1 / 3 <= width / height <= 3:
        return

    actual = native_size(width, height)

    wished, drawn = width / height, actual[0] / actual[1]
    assert min(wished / drawn, drawn / wished) > 0.99


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_server_of_ones_own_is_asked_for_steps_of_sixteen(width: int, height: int) -> None:
    actual = size_elsewhere(width, height)

    assert all(side % 16 == 0 and 64 <= side <= 2048 for side in actual)
    if max(width, height) <= 2048:
        assert actual[0] >= width
        assert actual[1] >= height


@pytest.mark.parametrize(
    ("name", "is_so"),
    [
        *((name, True) for name in CURRENT),
        *((name, False) for name in FORMER),
        ("gpt-image-2.6-flare-2026-11-04", True),
        ("gpt-image-2.7-x", True),
        ("gpt-image-3", True),
        ("gpt-image-12.1-sunburst-2029-01-31", True),
        ("gpt-image-1-2025-04-15", False),
        ("gpt-image-1.9-flare", False),
        ("gpt-image", False),
        ("gpt-image-", False),
        ("gpt-image-2.6-", False),
        ("gpt-6-luna", False),
        ("flux-dev", False),
    ],
)
def test_a_gpt_image_model_is_current_from_the_second_generation_on(name: str, is_so: bool) -> None:
    assert is_current(name) is is_so


def test_what_we_know_is_written_down_the_newest_first() -> None:
    assert newest_first(reversed(CURRENT)) == list(CURRENT)
    assert newest_first(["gpt-image-2", "x", "gpt-image-10", "gpt-image-2.7-x", *FORMER]) == [
        "gpt-image-10",
        "gpt-image-2.7-x",
        "gpt-image-2",
    ]


def test_a_current_model_shows_what_it_can_do() -> None:
    assert described("gpt-image-2.5-flare") == ModelInfo(
        "gpt-image-2.5-flare",
        max_count=10,
        min_side=480,
        max_side=3840,
        sizes=((1088, 1360), (1088, 1088), (1152, 2048), (1312, 688), (1024, 1536), (1536, 1024)),
        qualities=(Quality.LOW, Quality.MEDIUM, Quality.HIGH),
        max_references=16,
        supports_mask=True,
        supports_transparency=True,
        streams_previews=True,
        price=Decimal("0.01191"),
        seconds=30,
    )


def test_a_later_model_can_do_what_the_newest_can_at_a_price_that_nobody_knows() -> None:
    later = described("gpt-image-2.7-flare")

    assert later == replace(described("gpt-image-2.6-flare"), name=later.name, price=None)


def test_a_days_snapshot_is_like_its_model() -> None:
    snapshot = described("gpt-image-2.6-flare-2026-11-04")

    assert snapshot == replace(described("gpt-image-2.6-flare"), name=snapshot.name)


def test_an_old_model_tells_when_it_ends_and_what_follows() -> None:
    model = described("gpt-image-1.5")

    assert model.shutdown_date == date(2026, 12, 1)
    assert model.replaced_by == "gpt-image-2.6-flare"


def test_a_model_we_know_nothing_of_is_described_with_care() -> None:
    unknown = described("somebody-elses")

    assert unknown.max_count == 1
    assert not unknown.streams_previews
    assert unknown.price is None


@pytest.mark.parametrize(
    ("name", "day", "answers"),
    [
        ("gpt-image-1.5", date(2026, 11, 30), "gpt-image-1.5"),
        ("gpt-image-1.5", date(2026, 12, 1), "gpt-image-2.6-flare"),
        ("gpt-image-1", date(2026, 10, 23), "gpt-image-2.5-flare"),
        ("DALL_E_3", date(2026, 11, 30), "gpt-image-2.6-flare"),
        ("gpt-image-2", date(2999, 1, 1), "gpt-image-2"),
        ("somebody-elses", date(2999, 1, 1), "somebody-elses"),
    ],
)
def test_on_the_day_of_its_end_a_models_replacement_answers(
    name: str, day: date, answers: str
) -> None:
    assert serving(name, day) == answers


@given(st.sampled_from(CURRENT))
def test_every_size_that_is_shown_is_drawn(name: str) -> None:
    assert all(is_native(*size) for size in described(name).sizes)
