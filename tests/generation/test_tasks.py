"""What a generation job does: each step once, whatever interrupts it. On both databases."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image
from sqlmodel import select

from generation.errors import (
    NotSent,
    OutcomeUnknown,
    ProviderQuota,
    ProviderUnavailable,
    Refused,
)
from generation.provider import (
    Charged,
    GeneratedImage,
    GenerationRequest,
    ImageFailed,
    Preview,
    Progressed,
    TaskStarted,
)
from generation.provider import Event as ProviderEvent
from generation.reception import image_id
from generation.tasks import GenerationTask
from storage.containers.xmp import declared
from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.errors import IdempotencyMismatch, NotFound, RateLimited
from storage.generations import Event, Generations, NewGeneration
from storage.keeper import Keeper, Purpose
from storage.ledger import Budgets, Ledger
from storage.library import Library, NewImage
from storage.marks import Mark
from storage.models import Generation, GenerationStatus, StoredObject
from storage.objects.local import LocalObjectStore
from storage.progress import LocalBus
from storage.search import PageRequest
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider
from tests.hostile import HTML, MARK, with_exif
from tests.pictures import encoded, jpeg


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
    assert [image.source_sha256 for image in images] == [_sha256(picture(n)) for n in range(2)]
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


async def test_a_run_that_finds_another_one_alive_lets_it_finish_however_long_that_takes(
    generations: Generations,
    library: Library,
    keeper: Keeper,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    lease = 0.9
    provider = SlowProvider(seconds=3 * lease)
    parts = (generations, library, keeper, store, {provider.name: provider})
    task = GenerationTask(*parts, lease=timedelta(seconds=lease))
    generation = await generations.request(alice, new())

    await asyncio.gather(*(task.run(generation.id) for _ in range(5)))

    ended = await generations.current(generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 1)
    assert len(provider.requests) == 1


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
    data, id = jpeg(seed=100), image_id(generation, 0)
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
        id=image_id(generation, 0),
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
    provider.script = [Refused("Not this.", stage="input")]

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


async def test_a_picture_that_does_not_come_loses_no_other(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new(3))
    provider.script = [picture(0), ImageFailed(1, Refused("Not this.")), picture(2)]

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    ended = await generations.generation(alice, generation.id)
    assert [image.source_sha256 for image in images] == [_sha256(picture(n)) for n in (0, 2)]
    assert (ended.status, ended.progress) == (GenerationStatus.SUCCEEDED, 1.0)
    assert (ended.failure_code, ended.failure_message) == (
        "CONTENT_POLICY",
        "2 of 3 pictures came. Not this.",
    )
    assert ended.failure_remedy == Refused.remedy


async def test_a_provider_that_gives_less_than_it_was_asked_for_is_told_of(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(3))
    provider.script = [picture(0)]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert ended.status is GenerationStatus.SUCCEEDED
    assert ended.failure_code == "PROVIDER_UNAVAILABLE"


async def test_when_no_picture_comes_the_first_reason_is_told(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(2))
    provider.script = [
        ImageFailed(1, ProviderUnavailable("Broken.")),
        ImageFailed(0, Refused("Not this.")),
    ]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.status, ended.failure_message) == (GenerationStatus.FAILED, "Not this.")


@pytest.mark.parametrize("fault", [RateLimited("Slow down.", retry_after=0.01), NotSent("Away.")])
async def test_a_call_that_did_not_count_is_made_again(
    fault: Exception,
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new())
    provider.scripts = [[fault], [fault], [picture(0)]]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 3)


async def test_a_call_that_does_not_count_is_made_three_times_and_no_more(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [RateLimited("Slow down.", retry_after=0.01)]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert len(provider.requests) == ended.calls == 3
    assert (ended.failure_code, ended.failure_retry_after) == ("RATE_LIMITED", 0.01)


async def test_nobody_waits_longer_for_a_provider_than_is_set(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [RateLimited("Come tomorrow.", retry_after=86_400)]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.calls, ended.failure_retry_after) == (1, 86_400)


@pytest.mark.parametrize("fault", [OutcomeUnknown("Cut."), ProviderUnavailable("Broken.")])
async def test_a_call_that_may_count_is_made_once(
    fault: Exception,
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new())
    provider.scripts = [[fault], [picture(0)]]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.FAILED, 1)


async def test_a_run_that_died_while_it_waited_for_the_provider_calls_again(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    await generations.take_latch(generation.id)
    await generations.give_latch_back(generation.id)  # and then the process died
    provider.script = [picture(0)]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 2)


async def test_a_task_that_the_provider_works_on_is_asked_after_by_the_next_run(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(2))
    await generations.take_latch(generation.id)
    await generations.keep_task(generation.id, "task-7")  # and then the process died
    provider.script = [picture(0), picture(1)]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert [request.task for request in provider.requests] == ["task-7"]
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 1)


async def test_a_picture_that_an_interrupted_run_had_is_not_taken_in_twice(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new(2))
    provider.script = [TaskStarted("task-7"), picture(0), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        await task.run(generation.id)
    provider.script = [picture(0), picture(1)]

    await task.run(generation.id)

    (images,) = await library.images_of_generations(alice, [generation.id])
    assert [image.source_sha256 for image in images] == [_sha256(picture(n)) for n in range(2)]
    assert (await generations.current(generation.id)).status is GenerationStatus.SUCCEEDED


async def test_what_a_provider_is_shown_is_upright_and_its_child_knows_its_parent(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    store: LocalObjectStore,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    mother = (await library.add_image(alice, with_exif(jpeg(90, 60, seed=7)), NewImage())).image
    hole = encoded(Image.new("RGBA", (mother.width, mother.height)), "PNG")
    cut = (await library.add_image(alice, hole, NewImage())).image
    wish = new(reference_image_ids=(mother.id,), mask_image_id=cut.id)
    generation = await generations.request(alice, wish)
    provider.script = [picture(0)]

    await task.run(generation.id)

    (shown,) = provider.requests[0].references
    mask = provider.requests[0].mask
    assert (shown.width, shown.height) == (mother.width, mother.height)
    assert Image.open(BytesIO(shown.data)).size == (mother.width, mother.height)
    assert mask is not None
    assert mask.media_type == "image/png"
    ((child,),) = await library.images_of_generations(alice, [generation.id])
    assert child.parent_id == mother.id
    assert declared(await store.get(child.object_key)) is Mark.COMPOSITE


async def test_previews_come_four_times_a_second_at_most(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    quick = [step for n in range(50) for step in (preview(n / 100), Progressed("drawing", n / 99))]
    provider.script = [*quick, picture(0)]
    told = CountingBus()
    generations.bus = told
    began = time.monotonic()

    await task.run(generation.id)

    # Beside them: the call, the picture and the end.
    assert told.count <= 3 + 1 + 4 * (time.monotonic() - began)


async def test_the_words_that_a_provider_drew_instead_are_kept(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [replace(picture(0), revised_prompt="A calm sea at dawn")]

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    assert (ended.prompt, ended.revised_prompt) == ("A sea", "A calm sea at dawn")


# ---- money ------------------------------------------------------------------------------------


async def spent(database: Database, viewer: Viewer) -> tuple[Decimal, Decimal]:
    """What the workspace has spent this month, and what is reserved."""
    balance = (await Ledger(database, Budgets()).balances(viewer)).workspace
    return balance.spent, balance.reserved


@pytest.mark.parametrize(
    ("script", "actual", "state"),
    [
        pytest.param([Charged(Decimal("0.04")), picture(0)], "0.04", "settled", id="success"),
        pytest.param([Refused("Not this.")], "0", "settled", id="refusal"),
        pytest.param([ProviderUnavailable("Broken.")], "0", "settled", id="fault"),
        pytest.param([ProviderQuota("Empty.")], "0", "settled", id="quota"),
        pytest.param([OutcomeUnknown("Cut.")], "0.05", "assumed", id="nobody knows"),
        pytest.param([KeyError("bug")], "0.05", "assumed", id="a bug"),
        pytest.param(
            [Charged(Decimal("0.07")), OutcomeUnknown("Cut.")], "0.07", "assumed", id="more"
        ),
        pytest.param(
            [Charged(Decimal("0.02")), Refused("Not this.")], "0.02", "settled", id="half"
        ),
    ],
)
async def test_what_a_generation_cost_is_booked_once_it_has_ended(
    script: list[Any],
    actual: str,
    state: str,
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    database: Database,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new(estimated_cost=Decimal("0.05")))
    before = await spent(database, alice)
    provider.script = script

    for _ in range(2):
        await task.run(generation.id)

    assert before == (Decimal(0), Decimal("0.05"))
    assert await spent(database, alice) == (Decimal(actual), Decimal(0))
    (entry,) = (await Ledger(database, Budgets()).entries(alice, None, PageRequest(10))).rows
    assert (entry.state, entry.estimated, entry.actual) == (
        state,
        Decimal("0.05"),
        Decimal(actual),
    )


async def test_a_queued_generation_that_is_cancelled_costs_nothing(
    generations: Generations, database: Database, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(estimated_cost=Decimal("0.05")))

    await generations.cancel(alice, generation.id)

    assert await spent(database, alice) == (Decimal(0), Decimal(0))


async def test_a_running_generation_that_is_cancelled_may_have_been_paid_for(
    generations: Generations, database: Database, alice: Viewer
) -> None:
    generation = await generations.request(alice, new(estimated_cost=Decimal("0.05")))
    await generations.take_latch(generation.id)

    await generations.cancel(alice, generation.id)

    assert await spent(database, alice) == (Decimal("0.05"), Decimal(0))


async def test_a_task_that_is_asked_after_again_is_charged_once(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    database: Database,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new(2, estimated_cost=Decimal("0.05")))
    charge = Charged(Decimal("0.05"))
    provider.script = [TaskStarted("t"), charge, picture(0), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        await task.run(generation.id)
    provider.script = [charge, picture(0), picture(1)]

    await task.run(generation.id)

    assert await spent(database, alice) == (Decimal("0.05"), Decimal(0))


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


async def test_a_preview_is_made_clean_like_any_file(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    generation = await generations.request(alice, new())
    dirty = Preview(0, with_exif(jpeg(90, 60)), "image/jpeg", 0.3, "sketch")
    provider.script = [dirty, picture(0)]

    await task.run(generation.id)

    key = (await generations.current(generation.id)).preview_key
    assert key is not None
    assert MARK not in await store.get(key)


async def test_a_preview_that_is_no_picture_is_left_out(
    task: GenerationTask, generations: Generations, provider: ScriptedProvider, alice: Viewer
) -> None:
    generation = await generations.request(alice, new())
    provider.script = [Preview(0, HTML, "image/jpeg", 0.3, "sketch"), picture(0)]

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert (ended.status, ended.preview_key) == (GenerationStatus.SUCCEEDED, None)


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
    assert declared(await store.get(key)) is Mark.TRAINED
    async with database.reading() as session:
        row = await session.get(StoredObject, key)
    assert row is not None
    assert row.expires_at is not None


class SlowProvider(ScriptedProvider):
    """Tells nothing for some time, and gives a picture then."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.script = [picture(0)]

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[ProviderEvent, None]:
        await asyncio.sleep(self._seconds)
        async for event in super().generate(request):
            yield event


class CallingBus:
    """Does something as soon as it is told of a change."""

    def __init__(self, call: Callable[[UUID], Awaitable[None]]) -> None:
        self._call = call
        self._called = False

    async def tell(self, id: UUID) -> None:
        if not self._called:
            self._called = True
            await self._call(id)


class CountingBus:
    count = 0

    async def tell(self, _: UUID) -> None:
        self.count += 1


async def _all(generations: Generations, viewer: Viewer, id: UUID) -> list[Event]:
    return [event async for event in generations.watch(viewer, id)]


async def _rows(database: Database) -> int:
    async with database.reading() as session:
        return len((await session.exec(select(Generation.id))).all())


def _sha256(image: GeneratedImage) -> str:
    return hashlib.sha256(image.data).hexdigest()
