"""What a generation job does: each step once, whatever interrupts it. On both databases."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import select

from generation.errors import ProviderUnavailable, Refused
from generation.provider import GeneratedImage, Preview
from generation.tasks import GenerationTask, _image_id
from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.errors import IdempotencyMismatch, NotFound
from storage.generations import Event, Generations, NewGeneration
from storage.keeper import Keeper, Purpose
from storage.library import Library, NewImage
from storage.models import Generation, GenerationStatus, StoredObject
from storage.objects.local import LocalObjectStore
from storage.progress import LocalBus
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider
from tests.pictures import jpeg


def new(count: int = 1, **fields: Any) -> NewGeneration:
    wish = NewGeneration("scripted", "m", "A sea", count, width=320, height=240)
    return replace(wish, **fields)


def picture(index: int, progress: float = 1.0) -> GeneratedImage:
    return GeneratedImage(index, jpeg(seed=100 + index), progress)


def preview(progress: float) -> Preview:
    return Preview(0, jpeg(64, 48), "image/jpeg", progress, "sketch")


async def test_each_picture_comes_marked_and_catalogued_with_its_recipe(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new(2, tags=("sea",), alt_text="Waves"))
    provider.script = [preview(0.2), picture(0, 0.5), picture(1)]

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    ended = await generations.generation(alice, generation.id)
    assert (ended.status, ended.progress, ended.attempts) == (GenerationStatus.SUCCEEDED, 1.0, 1)
    assert [image.sha256 for image in images] == [_sha256(picture(n)) for n in range(2)]
    for image in images:
        assert (image.origin, image.is_ai_generated) == ("generated", True)
        assert (image.alt_text, image.tags) == ("Waves", ["sea"])
        assert image.generation_id == generation.id
        assert "a sea" in image.search_text


async def test_the_provider_is_called_once_however_often_the_job_runs(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [picture(0)]

    for _ in range(3):
        await task.run(generation.id)

    assert len(provider.requests) == 1


async def test_two_runs_at_once_call_the_provider_once(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [picture(0)]

    await asyncio.gather(task.run(generation.id), task.run(generation.id))

    ended = await generations.generation(alice, generation.id)
    assert len(provider.requests) == 1
    assert ended.status.is_final


async def test_a_run_that_finds_the_latch_taken_calls_nobody_and_says_so(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    await generations.take_latch(generation.id)  # and then the process died

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert provider.requests == []
    assert (ended.status, ended.failure_code) == (GenerationStatus.FAILED, "OUTCOME_UNKNOWN")
    assert ended.failure_is_retryable


async def test_what_an_interrupted_run_had_stored_is_adopted(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    keeper: Keeper,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new())
    await generations.take_latch(generation.id)
    data, id = jpeg(seed=100), _image_id(generation, 0)
    await keeper.put(  # and then the process died, before the picture was catalogued
        f"images/{id}/{_sha256(picture(0))}.jpg",
        data,
        media_type="image/jpeg",
        sha256=_sha256(picture(0)),
        size=len(data),
        of=Purpose(alice.workspace_id, image_id=id, generation_id=generation.id),
    )

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    ended = await generations.generation(alice, generation.id)
    assert ended.status is GenerationStatus.SUCCEEDED
    assert [image.id for image in images] == [id]
    assert provider.requests == []


async def test_a_picture_that_was_catalogued_but_not_announced_is_announced(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new())
    await generations.take_latch(generation.id)
    added = await library.add_image(
        alice,
        jpeg(seed=100),
        NewImage(generation_id=generation.id),
        id=_image_id(generation, 0),
    )

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    assert [image.id for image in images] == [added.image.id]
    assert (await generations.current(generation.id)).status is GenerationStatus.SUCCEEDED


async def test_pictures_that_came_before_a_fault_stay(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new(2))
    provider.script = [picture(0, 0.5), ProviderUnavailable("The line is cut.")]

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    ended = await generations.generation(alice, generation.id)
    assert len(images) == 1
    assert (ended.failure_code, ended.failure_message) == (
        "PROVIDER_UNAVAILABLE",
        "The line is cut.",
    )
    assert ended.failure_is_retryable


async def test_a_refusal_is_told_in_the_providers_words_and_not_retryable(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [Refused("Not this.")]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.failure_code, ended.failure_message) == ("CONTENT_POLICY", "Not this.")
    assert not ended.failure_is_retryable


async def test_a_bug_in_a_provider_tells_nothing_of_itself(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    alice: Viewer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [KeyError("secret-token")]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert ended.failure_code == "INTERNAL"
    assert "secret" not in (ended.failure_message or "")
    assert "generation.broken" in caplog.text


@pytest.mark.parametrize("data", [b"no picture", jpeg()[:900]])
async def test_what_a_provider_gives_is_checked_like_any_upload(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    alice: Viewer,
    data: bytes,
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [GeneratedImage(0, data, 1.0)]

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    assert images == []
    assert (await generations.current(generation.id)).status is GenerationStatus.FAILED


async def test_fewer_pictures_than_wished_for_is_a_failure(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(3))
    provider.script = [picture(0)]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert ended.failure_message == "scripted gave 1 of 3 images."


async def test_a_cancelled_generation_stops_its_provider(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(2))
    provider.script = [preview(0.1), picture(0), picture(1)]

    async def cancel_at_once(_: object) -> None:
        await generations.cancel(alice, generation.id)

    generations.bus = CallingBus(cancel_at_once)
    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert ended.status is GenerationStatus.CANCELLED
    assert provider.was_closed
    assert await generations.positions(generation.id) == set()


async def test_each_picture_is_attached_to_its_content_as_it_comes(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    database: Database,
    alice: Viewer,
) -> None:
    contents = Contents(database)
    content = await contents.save(alice, ContentPatch(external_id="p", text="A sea"))
    generation = await generations.request(alice, new(2, content_id=content.id, attach=True))
    provider.script = [picture(0, 0.5), picture(1)]

    await task.run(generation.id)

    (attachments,) = await contents.attachments_of_contents(alice, [content.id])
    (images,) = await library.images_of_generations(alice, [generation.id])
    assert [each.image_id for each in attachments] == [image.id for image in images]


async def test_another_workspaces_content_cannot_be_wished_for(
    generations: Generations, database: Database, alice: Viewer, bob: Viewer
) -> None:
    content = await Contents(database).save(bob, ContentPatch(text="Bob's"))

    with pytest.raises(NotFound):
        await generations.request(alice, new(content_id=content.id))

    assert await _rows(database) == 0


async def test_forty_equal_requests_make_one_generation(
    generations: Generations, database: Database, alice: Viewer
) -> None:
    requests = (generations.request(alice, new(), idempotency_key="k") for _ in range(40))

    made = await asyncio.gather(*requests)

    assert len({generation.id for generation in made}) == 1
    assert await _rows(database) == 1


async def test_a_used_key_with_other_arguments_is_refused(
    generations: Generations, database: Database, alice: Viewer, bob: Viewer
) -> None:
    await generations.request(alice, new(), idempotency_key="k")

    with pytest.raises(IdempotencyMismatch):
        await generations.request(alice, new(prompt="Another"), idempotency_key="k")

    assert await _rows(database) == 1
    await generations.request(bob, new(prompt="Bob's own"), idempotency_key="k")
    assert await _rows(database) == 2


async def test_a_watcher_sees_rising_numbers_and_the_end(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generations.bus = LocalBus(generations.hub.look_again)
    delivering = asyncio.create_task(generations.hub.run())
    generation = await generations.request(alice, new(2))
    provider.script = [preview(0.3), picture(0, 0.5), preview(0.8), picture(1)]

    watching = asyncio.create_task(_all(generations, alice, generation.id))
    await asyncio.sleep(0.05)
    await task.run(generation.id)
    events = await asyncio.wait_for(watching, 10)
    delivering.cancel()

    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))
    assert len([event for event in events if event.image_id]) == 2
    assert events[-1].generation.status is GenerationStatus.SUCCEEDED


async def test_a_generation_whose_job_is_gone_is_ended_by_the_sweep(
    generations: Generations, database: Database, alice: Viewer
) -> None:
    alive = await generations.request(alice, new())
    async with database.writing() as session:
        orphan = Generation(
            workspace_id=alice.workspace_id,
            requested_by="alice",
            provider="scripted",
            model="m",
            prompt="Lost",
            requested_count=1,
            width=64,
            height=64,
        )
        session.add(orphan)

    ended = await generations.fail_lost(timedelta(0))

    assert ended == 1
    assert (await generations.current(orphan.id)).failure_code == "OUTCOME_UNKNOWN"
    assert (await generations.current(alive.id)).status is GenerationStatus.QUEUED


async def test_a_ghost_cannot_be_watched(generations: Generations, alice: Viewer) -> None:
    with pytest.raises(NotFound):
        await _all(generations, alice, uuid4())


async def test_previews_are_kept_for_a_while_only(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    database: Database,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [preview(0.5), picture(0)]

    await task.run(generation.id)

    key = (await generations.current(generation.id)).preview_key
    assert key is not None
    assert await store.get(key) == jpeg(64, 48)
    async with database.reading() as session:
        row = await session.get(StoredObject, key)
    assert row is not None
    assert row.expires_at is not None


class CallingBus:
    """Does something as soon as it is told of a change."""

    def __init__(self, call: Callable[[UUID], Awaitable[None]]) -> None:
        self._call = call
        self._called = False

    async def tell(self, id: UUID) -> None:
        if not self._called:
            self._called = True
            await self._call(id)


async def _all(generations: Generations, viewer: Viewer, id: UUID) -> list[Event]:
    return [event async for event in generations.watch(viewer, id)]


async def _rows(database: Database) -> int:
    async with database.reading() as session:
        return len((await session.exec(select(Generation.id))).all())


def _sha256(image: GeneratedImage) -> str:
    return hashlib.sha256(image.data).hexdigest()
