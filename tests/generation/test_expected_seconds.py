"""How long a wish will take, by what wishes like it have taken. On both databases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from storage.database import Database
from storage.generations import Generations, NewGeneration
from storage.models import Generation, GenerationStatus, now
from storage.viewers import Viewer

TEN = NewGeneration("scripted", "m", "A sea", 10, 320, 240, expected_seconds=120)


async def earlier(
    database: Database, viewer: Viewer, *took: tuple[int, float], **more: Any
) -> None:
    """Generations of so many pictures, that took so many seconds."""
    recipe: dict[str, Any] = {"provider": "scripted", "model": "m", "prompt": "A sea"} | more
    for count, seconds in took:
        row = Generation(
            **recipe,
            width=320,
            height=240,
            workspace_id=viewer.workspace_id,
            requested_by=viewer.name,
            status=GenerationStatus.SUCCEEDED,
            requested_count=count,
            started_at=now() - timedelta(seconds=seconds),
            finished_at=now(),
        )
        async with database.writing() as session:
            session.add(row)


async def expected(generations: Generations, viewer: Viewer, new: NewGeneration) -> float:
    made = await generations.request(viewer, new)
    assert made.expected_seconds is not None
    return round(made.expected_seconds, 1)


@pytest.mark.parametrize(
    ("took", "one_by_one", "together"),
    [
        ([], 120, 120),
        ([(1, 2)], 20, 2),
        ([(1, 2), (4, 20), (2, 6)], 30, 6),
        ([(1, 2), (10, 11), (10, 12), (10, 16)], 12, 12),
    ],
    ids=["nothing", "one picture", "other counts", "as many"],
)
async def test_ten_pictures_take_what_ten_took_or_ten_times_one_where_they_are_drawn_in_turn(
    took: Sequence[tuple[int, float]],
    one_by_one: float,
    together: float,
    generations: Generations,
    database: Database,
    alice: Viewer,
) -> None:
    await earlier(database, alice, *took)

    in_turn = await expected(generations, alice, replace(TEN, draws_one_by_one=True))
    at_once = await expected(generations, alice, TEN)

    assert (in_turn, at_once) == (one_by_one, together)


async def test_the_same_quality_counts_before_the_same_number(
    generations: Generations, database: Database, alice: Viewer
) -> None:
    await earlier(database, alice, (10, 90), quality="high")
    await earlier(database, alice, (1, 3), quality="low")

    low = await expected(generations, alice, replace(TEN, quality="low", draws_one_by_one=True))
    high = await expected(generations, alice, replace(TEN, quality="high"))
    any_quality = await expected(generations, alice, TEN)

    assert (low, high, any_quality) == (30, 90, 90)


async def test_other_models_and_other_workspaces_tell_nothing(
    generations: Generations, database: Database, alice: Viewer, bob: Viewer
) -> None:
    await earlier(database, alice, (10, 1), model="another")
    await earlier(database, alice, (10, 2), provider="another")
    await earlier(database, bob, (10, 3))

    assert await expected(generations, alice, TEN) == 120
