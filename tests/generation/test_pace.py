"""How often is told what a provider tells: the newest in its time, and every picture at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import pytest

from generation.provider import Event, GeneratedImage, Preview, Progressed
from generation.reception import SECONDS_BETWEEN_REPORTS, Final, Reception
from generation.tasks import GenerationTask
from storage.generations import Generations, NewGeneration
from storage.keeper import Keeper
from storage.library import Library
from storage.models import Generation, GenerationStatus
from storage.objects.local import LocalObjectStore
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider
from tests.pictures import jpeg
from tests.storage.rows import ON_SQLITE

pytestmark = ON_SQLITE

WISH = NewGeneration("scripted", "m", "A sea", 4, width=320, height=240)
LONG = 2.5  # seconds: a picture is taken in before the pause is over


def preview(progress: float, index: int = 0) -> Preview:
    return Preview(index, jpeg(64, 48, seed=index), "image/jpeg", progress, "sketch")


def picture(index: int, progress: float = 1.0) -> GeneratedImage:
    return GeneratedImage(index, jpeg(seed=100 + index), progress)


class Story:
    """What is told of a generation, as a bus hears it: when, and the row at that time."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self.told: list[tuple[float, Generation]] = []

    async def tell(self, id: UUID) -> None:
        at = time.monotonic()
        self.told.append((at, await self._generations.current(id)))

    @property
    def progress(self) -> list[float]:
        return [row.progress for _, row in self.told]

    @property
    def stages(self) -> list[str]:
        return [row.stage for _, row in self.told]

    def times(self, is_of: Callable[[Generation], bool]) -> list[float]:
        return [at for at, row in self.told if is_of(row)]


@pytest.fixture
async def generation(generations: Generations, alice: Viewer) -> Generation:
    return await generations.request(alice, WISH)


@pytest.fixture
async def story(generation: Generation, generations: Generations) -> AsyncIterator[Story]:
    generations.bus = story = Story(generations)
    yield story
    assert story.progress == sorted(story.progress)


class Receive:
    """Takes events that come all at once: so much is told of them, and no more."""

    def __init__(
        self,
        generations: Generations,
        library: Library,
        keeper: Keeper,
        generation: Generation,
        provider: ScriptedProvider,
        story: Story,
    ) -> None:
        self._parts = (generations, library, keeper, generation, provider)
        self._story = story

    def reception(self, pause: float = SECONDS_BETWEEN_REPORTS) -> Reception:
        return Reception(*self._parts, None, pause=pause)

    async def __call__(
        self, events: Sequence[Event], *, told: int, pause: float = SECONDS_BETWEEN_REPORTS
    ) -> None:
        async with self.reception(pause) as reception, asyncio.timeout(30):
            for event in events:
                await reception.take(event)
            while len(self._story.told) < told:  # noqa: ASYNC110  # nobody tells us
                await asyncio.sleep(0.02)
            await asyncio.sleep(1.2 * pause)
        assert len(self._story.told) == told


@pytest.fixture
async def receive(
    generations: Generations,
    library: Library,
    keeper: Keeper,
    generation: Generation,
    provider: ScriptedProvider,
    story: Story,
) -> Receive:
    await library.clean(jpeg())  # a decoder is there from now on
    return Receive(generations, library, keeper, generation, provider, story)


# ---- the newest is told ------------------------------------------------------------------------


async def test_what_comes_last_before_a_silence_is_told_in_its_time(
    receive: Receive, story: Story
) -> None:
    await receive(
        [Progressed("waiting", 0.1), Progressed("drawing", 0.2), preview(0.3)], told=2, pause=1
    )

    (first, _), (second, row) = story.told
    assert (story.stages, story.progress) == (["waiting", "sketch"], [0.1, 0.3])
    assert row.preview_key is not None
    assert second - first >= 1


async def test_a_preview_is_not_lost_when_progress_follows_at_once(
    receive: Receive, story: Story
) -> None:
    await receive([Progressed("waiting", 0.1), preview(0.3), Progressed("drawing", 0.4)], told=2)

    assert (story.stages, story.progress) == (["waiting", "drawing"], [0.1, 0.4])
    assert story.told[1][1].preview_key is not None


async def test_of_previews_that_come_at_once_the_first_and_the_newest_are_told(
    receive: Receive, story: Story, store: LocalObjectStore, generation: Generation
) -> None:
    await receive([preview(0.1 * (index + 1), index) for index in range(4)], told=2)

    shown = [row.preview_key for _, row in story.told]
    kept = (store.root / "generations" / str(generation.id)).iterdir()
    assert story.progress == pytest.approx([0.1, 0.4])
    assert set(shown) == {f"generations/{generation.id}/{path.name}" for path in kept}


async def test_progress_without_a_number_leaves_the_number_as_it_was(
    receive: Receive, story: Story
) -> None:
    await receive([Progressed("drawing", 0.4), Progressed("still drawing")], told=2)

    assert (story.stages, story.progress) == (["drawing", "still drawing"], [0.4, 0.4])


async def test_progress_and_previews_are_told_four_times_a_second_however_quickly_they_come(
    receive: Receive, story: Story
) -> None:
    async with receive.reception() as reception:
        for n in range(150):
            news = preview(n / 150) if n % 10 == 0 else Progressed("drawing", n / 150)
            await reception.take(news)
            await asyncio.sleep(0.01)

    times = [at for at, _ in story.told]
    assert len(times) >= 3
    assert min(late - early for early, late in pairwise(times)) >= 0.25


# ---- beside pictures ---------------------------------------------------------------------------


async def test_every_picture_is_told_at_once_and_progress_pauses_after_it(
    receive: Receive, story: Story
) -> None:
    async with receive.reception() as reception:
        for index in range(4):
            await reception.take(preview(index / 4, index))
            await reception.take(Progressed("drawing", index / 4 + 0.1))
            await reception.take(picture(index, (index + 1) / 4))
        await asyncio.sleep(0.5)

    pictures = story.times(lambda row: row.stage == "image ready")
    others = story.times(lambda row: row.stage != "image ready")
    assert len(pictures) == 4
    assert [at for at in others for shown in pictures if 0 < at - shown < 0.25] == []
    assert story.told[-1][1].progress == 1.0


async def test_the_preview_of_another_picture_is_told_after_a_picture(
    receive: Receive, story: Story
) -> None:
    await receive(
        [Progressed("waiting", 0.1), preview(0.2, 1), picture(0, 0.5)], told=3, pause=LONG
    )

    assert story.stages == ["waiting", "image ready", "sketch"]
    assert story.progress == [0.1, 0.5, 0.5]
    assert story.told[-1][1].preview_key is not None


@pytest.mark.parametrize("old", [preview(0.2, 0), Progressed("drawing", 0.2)])
async def test_what_is_older_than_a_picture_is_not_told_after_it(
    old: Preview | Progressed, receive: Receive, story: Story
) -> None:
    await receive([Progressed("waiting", 0.1), old, picture(0, 0.5)], told=2, pause=LONG)

    assert story.stages == ["waiting", "image ready"]
    assert story.told[-1][1].preview_key is None


async def test_the_words_that_were_drawn_instead_are_told_with_the_picture(
    receive: Receive, story: Story
) -> None:
    await receive([replace(picture(0), revised_prompt="A calm sea at dawn")], told=1)

    ((_, row),) = story.told
    assert (row.prompt, row.revised_prompt) == ("A sea", "A calm sea at dawn")


# ---- what is not told --------------------------------------------------------------------------


async def test_what_is_withheld_at_the_end_is_not_told(receive: Receive, story: Story) -> None:
    async with receive.reception() as reception:
        await reception.take(Progressed("waiting", 0.1))
        await reception.take(Progressed("drawing", 0.2))

    await asyncio.sleep(2 * SECONDS_BETWEEN_REPORTS)

    assert story.stages == ["waiting"]


async def test_what_is_withheld_when_the_viewer_cancels_is_not_told_and_the_next_event_stops(
    receive: Receive, story: Story, generations: Generations, generation: Generation, alice: Viewer
) -> None:
    async with receive.reception() as reception:
        await reception.take(Progressed("waiting", 0.1))
        await reception.take(Progressed("drawing", 0.2))
        await generations.cancel(alice, generation.id)
        await asyncio.sleep(2 * SECONDS_BETWEEN_REPORTS)
        with pytest.raises(Final):
            await reception.take(Progressed("drawing", 0.3))

    assert story.stages == ["waiting", "cancelled"]


async def test_a_preview_that_cannot_be_stored_costs_no_picture(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, replace(WISH, count=1))
    provider.script = [preview(0.2), picture(0)]
    folder = store.root / "generations"
    folder.symlink_to(folder)  # so that the store fails

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert (ended.status, ended.preview_key) == (GenerationStatus.SUCCEEDED, None)
