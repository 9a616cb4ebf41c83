"""A job that is interrupted because its process stops is not one that its viewer has cancelled.

Of the first nothing is written, and what the provider works on stays to be asked after; of the
second the provider is told.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from decimal import Decimal
from uuid import UUID

import pytest

from generation.errors import OutcomeUnknown, ProviderUnavailable
from generation.provider import (
    Event,
    GeneratedImage,
    GenerationRequest,
    Progressed,
    TaskStarted,
)
from generation.tasks import BEAT_SECONDS, GenerationTask
from storage.generations import Generations, NewGeneration
from storage.models import GenerationStatus
from storage.objects.local import LocalObjectStore
from storage.progress import LocalBus
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider
from tests.pictures import jpeg

WISH = NewGeneration(
    "scripted", "m", "A sea", 1, width=320, height=240, estimated_cost=Decimal("0.05")
)
PICTURE = GeneratedImage(0, jpeg(seed=100), 1.0)


async def nothing() -> None:
    pass


class TaskedProvider(ScriptedProvider):
    """Works on `task-7` for ever, unless it is asked after that; and is told what to cancel.

    `before` is done before the task is told. With `fault`, that is what being left looks like.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], Awaitable[object]] = nothing
        self.fault: Exception | None = None
        self.fault_of_cancel: Exception | None = None
        self.task: str | None = "task-7"
        self.is_working = asyncio.Event()
        self.may_tell = asyncio.Event()
        self.cancelled: list[str] = []

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        if request.task is not None:
            async for event in super().generate(request):
                yield event
            return
        self.requests.append(request)
        await self.before()
        if self.task is not None:
            yield TaskStarted(self.task)
        self.is_working.set()
        try:
            await self.may_tell.wait()
        except asyncio.CancelledError:
            if self.fault is not None:
                raise self.fault from None
            raise
        yield Progressed("drawing")

    async def cancel(self, task: str) -> None:
        self.cancelled.append(task)
        if self.fault_of_cancel is not None:
            raise self.fault_of_cancel


@pytest.fixture
def provider() -> TaskedProvider:
    return TaskedProvider()


async def interrupt(running: asyncio.Task[None]) -> None:
    """As a process does that stops; whatever comes of that."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def begun(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, viewer: Viewer
) -> tuple[UUID, asyncio.Task[None]]:
    generation = await generations.request(viewer, WISH)
    running = asyncio.create_task(task.run(generation.id))
    await provider.is_working.wait()
    return generation.id, running


# ---- the process stops -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="it just leaves"),
        pytest.param(RuntimeError("Session is closed"), id="it breaks"),
        pytest.param(OutcomeUnknown("The line was cut."), id="it takes it for a lost answer"),
    ],
)
async def test_a_job_that_is_interrupted_has_not_ended_and_the_next_run_goes_on(
    fault: Exception | None,
    task: GenerationTask,
    generations: Generations,
    provider: TaskedProvider,
    alice: Viewer,
) -> None:
    provider.fault = fault
    id, running = await begun(task, generations, provider, alice)

    await interrupt(running)

    row = await generations.current(id)
    assert (row.status, row.failure_code, row.task) == (GenerationStatus.RUNNING, None, "task-7")
    assert provider.cancelled == []
    provider.script = [PICTURE]
    await task.run(id)
    ended = await generations.current(id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 1)
    assert [request.task for request in provider.requests] == [None, "task-7"]


async def test_a_call_without_a_task_that_is_interrupted_is_told_as_unknown_by_the_next_run(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, alice: Viewer
) -> None:
    provider.task = None
    id, running = await begun(task, generations, provider, alice)

    await interrupt(running)
    interrupted = (await generations.current(id)).status
    await task.run(id)

    ended = await generations.current(id)
    assert interrupted is GenerationStatus.RUNNING
    assert (ended.status, ended.failure_code) == (GenerationStatus.FAILED, "OUTCOME_UNKNOWN")
    assert len(provider.requests) == 1


async def test_a_fault_of_a_job_that_nobody_interrupts_ends_it(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, alice: Viewer
) -> None:
    async def fail() -> None:
        raise RuntimeError("Session is closed")

    provider.before = fail
    generation = await generations.request(alice, WISH)

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert (ended.status, ended.failure_code) == (GenerationStatus.FAILED, "INTERNAL")


# ---- the viewer cancels ------------------------------------------------------------------------


async def test_a_task_of_a_cancelled_generation_is_cancelled_when_its_job_is_stopped(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, alice: Viewer
) -> None:
    id, running = await begun(task, generations, provider, alice)

    await generations.cancel(alice, id)
    await interrupt(running)

    assert running.cancelled()
    assert provider.cancelled == ["task-7"]


async def test_a_task_of_a_cancelled_generation_is_cancelled_when_its_job_finds_that_out(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, alice: Viewer
) -> None:
    id, running = await begun(task, generations, provider, alice)

    await generations.cancel(alice, id)
    provider.may_tell.set()
    await running

    assert provider.cancelled == ["task-7"]


@pytest.mark.parametrize(
    "fault", [pytest.param(None, id="it just leaves"), OutcomeUnknown("The line was cut.")]
)
async def test_who_hears_that_the_viewer_has_cancelled_leaves_the_work_at_once(
    fault: Exception | None,
    task: GenerationTask,
    generations: Generations,
    provider: TaskedProvider,
    alice: Viewer,
) -> None:
    provider.fault = fault
    generations.bus = LocalBus(generations.hub.look_again)
    delivering = asyncio.create_task(generations.hub.run())
    id, running = await begun(task, generations, provider, alice)

    await generations.cancel(alice, id)
    await asyncio.wait_for(running, 1)

    assert (await generations.current(id)).status is GenerationStatus.CANCELLED
    assert provider.cancelled == ["task-7"]
    delivering.cancel()


@pytest.mark.parametrize("is_closed", [False, True], ids=["the hub is silent", "and closed"])
async def test_who_is_told_by_nobody_that_the_viewer_has_cancelled_finds_it_out_soon(
    is_closed: bool,
    task: GenerationTask,
    generations: Generations,
    provider: TaskedProvider,
    alice: Viewer,
) -> None:
    id, running = await begun(task, generations, provider, alice)
    if is_closed:
        generations.hub.close()

    await generations.cancel(alice, id)
    await asyncio.wait_for(running, BEAT_SECONDS + 1)

    assert provider.cancelled == ["task-7"]


async def test_a_viewer_who_cancels_while_the_store_is_away_is_not_kept_waiting(
    task: GenerationTask,
    generations: Generations,
    provider: TaskedProvider,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    folder = store.root / "images"
    folder.symlink_to(folder)  # so that the store fails
    provider.script = [PICTURE]
    generation = await generations.request(alice, WISH)
    await generations.take_latch(generation.id)
    await generations.keep_task(generation.id, "task-7")
    running = asyncio.create_task(task.run(generation.id))
    await asyncio.sleep(1)
    waits = not running.done()

    await generations.cancel(alice, generation.id)
    await asyncio.wait_for(running, BEAT_SECONDS + 1)

    assert waits
    assert (await generations.current(generation.id)).status is GenerationStatus.CANCELLED


async def test_a_process_that_stops_while_the_store_is_away_is_not_kept_waiting(
    task: GenerationTask,
    generations: Generations,
    provider: TaskedProvider,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    folder = store.root / "images"
    folder.symlink_to(folder)  # so that the store fails
    provider.script = [PICTURE]
    generation = await generations.request(alice, WISH)
    await generations.take_latch(generation.id)
    await generations.keep_task(generation.id, "task-7")
    running = asyncio.create_task(task.run(generation.id))
    await asyncio.sleep(1)

    await asyncio.wait_for(interrupt(running), 2)
    folder.unlink()
    await task.run(generation.id)

    assert running.cancelled()
    ended = await generations.current(generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 1)


async def test_a_task_that_began_just_when_the_viewer_cancelled_is_cancelled_as_well(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, WISH)
    provider.before = lambda: generations.cancel(alice, generation.id)

    await task.run(generation.id)

    row = await generations.current(generation.id)
    assert (row.status, row.task) == (GenerationStatus.CANCELLED, None)
    assert provider.cancelled == ["task-7"]


@pytest.mark.parametrize("fault", [ProviderUnavailable("Away."), RuntimeError("a bug")])
async def test_a_provider_that_cannot_cancel_changes_nothing(
    fault: Exception,
    task: GenerationTask,
    generations: Generations,
    provider: TaskedProvider,
    alice: Viewer,
) -> None:
    provider.fault_of_cancel = fault
    id, running = await begun(task, generations, provider, alice)

    await generations.cancel(alice, id)
    provider.may_tell.set()
    await running

    assert (await generations.current(id)).status is GenerationStatus.CANCELLED


async def test_a_run_that_comes_after_the_end_cancels_no_task(
    task: GenerationTask, generations: Generations, provider: TaskedProvider, alice: Viewer
) -> None:
    id, running = await begun(task, generations, provider, alice)
    await interrupt(running)
    provider.script = [PICTURE]

    for _ in range(2):
        await task.run(id)

    assert (await generations.current(id)).status is GenerationStatus.SUCCEEDED
    assert provider.cancelled == []
