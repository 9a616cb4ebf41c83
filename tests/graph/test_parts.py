"""All parts together, in this process: the jobs really run. On both databases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from generation.studio import Wish
from graph.config import Settings
from graph.parts import Parts, open_parts
from storage.errors import Unavailable
from storage.generations import Event
from storage.models import GenerationStatus
from storage.viewers import Viewer
from tests.postgres import DEFAULT


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=tmp_path,
        objects_url=f"file://{tmp_path}/objects",
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes it a secret
        signing_keys="k" * 32,  # type: ignore[arg-type]  # and splits these
    )


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    async with open_parts(settings, works=True) as parts:
        yield parts


async def test_a_wish_is_worked_and_its_job_forgotten_in_time(parts: Parts) -> None:
    viewer = _viewer(parts)
    wish = Wish(prompt="All together", width=100, height=100)

    generation = await parts.studio.generate(viewer, wish)
    events = [event async for event in parts.generations.watch(viewer, generation.id)]

    assert _end(events) is GenerationStatus.SUCCEEDED
    while await parts.jobs.unfinished([generation.id]):  # noqa: ASYNC110  # noted after our row
        await asyncio.sleep(0.05)
    await parts.jobs.forget(timedelta(days=1))
    assert await parts.jobs.known([generation.id]) == {generation.id}
    await parts.jobs.forget(timedelta(seconds=-60))
    assert await parts.jobs.known([generation.id]) == set()


async def test_two_workspaces_take_turns(parts: Parts) -> None:
    """One wishes for much; the other's single wish does not wait for all of it."""
    greedy = _viewer(parts)
    token = await parts.viewers.create_key("modest", "modest")
    modest = await parts.viewers.by_token(token)
    assert modest is not None
    small = Wish(prompt="Small", width=64, height=64)
    many = [await parts.studio.generate(greedy, small) for _ in range(8)]

    one = await parts.studio.generate(modest, small)
    events = [event async for event in parts.generations.watch(modest, one.id)]

    assert _end(events) is GenerationStatus.SUCCEEDED
    states = [await parts.generations.current(generation.id) for generation in many]
    assert any(not state.status.is_final for state in states)
    for generation in many:
        await parts.generations.cancel(greedy, generation.id)


async def test_a_database_that_is_not_migrated_is_refused(tmp_path: Path, postgres: object) -> None:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=tmp_path,
        database_url=DEFAULT,  # type: ignore[arg-type]  # pydantic makes it a secret
        signing_keys="k" * 32,  # type: ignore[arg-type]  # and splits these
    )

    with pytest.raises(Unavailable, match="python -m graph migrate"):
        async with open_parts(settings, works=False):
            pass


def _viewer(parts: Parts) -> Viewer:
    assert parts.local_viewer is not None
    return parts.local_viewer


def _end(events: list[Event]) -> GenerationStatus:
    return events[-1].generation.status
