"""What is paid for is kept and booked, whatever of our own fails just then; AI pictures say so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from generation.errors import OutcomeUnknown, ProviderUnavailable, Refused
from generation.patience import Patience
from generation.provider import Charged, Event, GeneratedImage, ImageFailed, Preview
from generation.tasks import GenerationTask
from storage.containers import Bounds
from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.decoders import Decoders
from storage.errors import RateLimited, Unavailable
from storage.generations import Generations, NewGeneration
from storage.keeper import Keeper
from storage.ledger import Budgets, Ledger
from storage.library import Library, NewImage
from storage.marks import Mark
from storage.models import EntryState, GenerationStatus, Image, LedgerEntry
from storage.objects.local import LocalObjectStore
from storage.search import PageRequest
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider
from tests.pictures import encoded, jpeg, photo
from tests.storage.rows import ON_SQLITE
from tests.storage.test_marks import mark_in

pytestmark = ON_SQLITE

WISH = NewGeneration(
    "scripted", "m", "A sea", 1, width=320, height=240, estimated_cost=Decimal("0.05")
)
PICTURE = GeneratedImage(0, jpeg(seed=100), 1.0)


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    """One, for which nobody may wait."""
    decoders = Decoders(workers=1, waiting=0, seconds=30, memory_bytes=2 * 2**30)
    yield decoders
    await decoders.close()


async def booked(database: Database, viewer: Viewer) -> list[LedgerEntry]:
    return list((await Ledger(database, Budgets()).entries(viewer, None, PageRequest(9))).rows)


async def test_a_picture_waits_while_others_are_taken_in_and_is_not_paid_for_again(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    decoders: Decoders,
    provider: ScriptedProvider,
    alice: Viewer,
    database: Database,
    tmp_path: Path,
) -> None:
    generation = await generations.request(alice, WISH)
    provider.script = [Charged(Decimal("0.04")), PICTURE]
    large = tmp_path / "large.png"
    large.write_bytes(encoded(photo(4000, 4000), "PNG", compress_level=1))
    another = asyncio.create_task(decoders.quarter(large, tmp_path, Bounds(max_pixels=10**8)))
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await library.clean(jpeg())

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 1)
    assert len(provider.requests) == 1
    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.SETTLED, Decimal("0.04"))
    assert len(await another) == 4


async def test_a_picture_waits_for_a_store_that_is_away_and_is_paid_for_once(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    store: LocalObjectStore,
    alice: Viewer,
    database: Database,
) -> None:
    generation = await generations.request(alice, WISH)
    provider.script = [Charged(Decimal("0.04")), PICTURE]
    folder = store.root / "images"
    folder.symlink_to(folder)  # so that the store fails
    asyncio.get_running_loop().call_later(1.5, folder.unlink)

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert (ended.status, ended.calls) == (GenerationStatus.SUCCEEDED, 1)
    assert len(provider.requests) == 1
    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.SETTLED, Decimal("0.04"))


async def test_a_picture_is_given_up_when_patience_has_an_end(
    generations: Generations,
    library: Library,
    keeper: Keeper,
    provider: ScriptedProvider,
    store: LocalObjectStore,
    alice: Viewer,
    database: Database,
) -> None:
    generation = await generations.request(alice, WISH)
    provider.script = [Charged(Decimal("0.04")), PICTURE]
    folder = store.root / "images"
    folder.symlink_to(folder)  # so that the store fails
    task = GenerationTask(
        generations,
        library,
        keeper,
        store,
        {provider.name: provider},
        lease=timedelta(0),
        patience=Patience(seconds=0.2, pause=0.05),
    )

    await task.run(generation.id)

    assert (await generations.current(generation.id)).failure_code == "UNAVAILABLE"
    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.ASSUMED, Decimal("0.05"))


async def test_what_is_told_twice_since_the_answer_was_lost_is_kept_once(
    generations: Generations, library: Library, database: Database, alice: Viewer
) -> None:
    contents = Contents(database)
    content = await contents.save(alice, ContentPatch(external_id="p", text="A sea"))
    generation = await generations.request(alice, replace(WISH, content_id=content.id, attach=True))
    image = (await library.add_image(alice, jpeg(), NewImage())).image

    for _ in range(2):
        await generations.charge(generation.id, Decimal("0.04"))
        assert await generations.add_image(generation.id, 0, image.id, 1.0)

    assert await generations.positions(generation.id) == {0}
    assert (await generations.current(generation.id)).actual_cost == Decimal("0.04")
    (attached,) = await contents.attachments_of_contents(alice, [content.id])
    assert [each.image_id for each in attached] == [image.id]


async def test_several_charges_of_one_call_add_up(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    alice: Viewer,
    database: Database,
) -> None:
    generation = await generations.request(alice, replace(WISH, count=2))
    second = GeneratedImage(1, jpeg(seed=101), 1.0)
    cost = Charged(Decimal("0.02"))
    provider.script = [cost, PICTURE, cost, second]

    await task.run(generation.id)

    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.SETTLED, Decimal("0.04"))


async def test_when_our_own_database_fails_during_the_call_the_money_counts_as_spent(
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    alice: Viewer,
    database: Database,
) -> None:
    generation = await generations.request(alice, WISH)
    provider.script = [Unavailable("The database does not answer.")]  # to hear of the price, say

    await task.run(generation.id)

    assert (await generations.current(generation.id)).failure_code == "UNAVAILABLE"
    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.ASSUMED, Decimal("0.05"))


async def test_when_a_reference_cannot_be_read_nobody_is_asked_and_nothing_is_spent(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    store: LocalObjectStore,
    provider: ScriptedProvider,
    alice: Viewer,
    database: Database,
) -> None:
    image = (await library.add_image(alice, jpeg(), NewImage())).image
    wish = replace(WISH, reference_image_ids=(image.id,))
    generation = await generations.request(alice, wish)
    file = store.root / image.object_key
    file.unlink()
    file.symlink_to(file)  # so that the store fails

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert (ended.status, ended.failure_code) == (GenerationStatus.FAILED, "UNAVAILABLE")
    assert provider.requests == []
    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.SETTLED, Decimal(0))


# ---- of several pictures -----------------------------------------------------------------------


@pytest.mark.parametrize("other", [ProviderUnavailable("Broken."), Refused("Not this.")])
@pytest.mark.parametrize("came", [0, 1])
async def test_a_picture_that_may_be_paid_for_counts_as_spent_whatever_another_one_failed_of(
    came: int,
    other: ProviderUnavailable | Refused,
    task: GenerationTask,
    generations: Generations,
    provider: ScriptedProvider,
    alice: Viewer,
    database: Database,
) -> None:
    wish = replace(WISH, count=came + 2, estimated_cost=Decimal("0.09"))
    generation = await generations.request(alice, wish)
    made: list[Event] = [Charged(Decimal("0.03")), PICTURE]
    provider.script = [
        *made[: 2 * came],
        ImageFailed(came, other),
        ImageFailed(came + 1, OutcomeUnknown("The line was cut.")),
    ]

    await task.run(generation.id)

    ended = await generations.current(generation.id)
    assert ended.failure_code == "OUTCOME_UNKNOWN"
    assert str(ended.failure_message).endswith("The line was cut.")
    assert ended.status is (GenerationStatus.SUCCEEDED if came else GenerationStatus.FAILED)
    (entry,) = await booked(database, alice)
    assert (entry.state, entry.actual) == (EntryState.ASSUMED, Decimal("0.09"))


# ---- what they say of themselves ---------------------------------------------------------------


async def child_of(
    generations: Generations,
    library: Library,
    task: GenerationTask,
    viewer: Viewer,
    *references: Image,
) -> Image:
    ids = tuple(image.id for image in references)
    generation = await generations.request(viewer, replace(WISH, reference_image_ids=ids))
    await task.run(generation.id)
    ((child,),) = await library.images_of_generations(viewer, [generation.id])
    return child


async def test_what_is_made_from_an_ai_picture_says_so_though_no_ai_has_changed_it(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    store: LocalObjectStore,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    photograph = (await library.add_image(alice, jpeg(seed=1), NewImage())).image
    drawn = (await library.add_image(alice, jpeg(seed=2), NewImage(is_ai_generated=True))).image
    provider.makes_ai_images = False

    provider.script = [GeneratedImage(0, jpeg(seed=3), 1.0)]
    child = await child_of(generations, library, task, alice, photograph, drawn)
    shown = Preview(0, jpeg(64, 48), "image/jpeg", 0.5, "sketch")
    provider.script = [shown, GeneratedImage(0, jpeg(seed=4), 1.0)]
    grandchild = await child_of(generations, library, task, alice, child)

    for image in (child, grandchild):
        assert image.is_ai_generated
        assert mark_in(await store.get(image.object_key)) == Mark.COMPOSITE.uri
    assert grandchild.generation_id is not None
    preview = (await generations.current(grandchild.generation_id)).preview_key
    assert mark_in(await store.get(str(preview))) == Mark.COMPOSITE.uri


async def test_what_no_ai_has_made_from_a_photograph_says_nothing_of_ai(
    task: GenerationTask,
    generations: Generations,
    library: Library,
    store: LocalObjectStore,
    provider: ScriptedProvider,
    alice: Viewer,
) -> None:
    photograph = (await library.add_image(alice, jpeg(seed=1), NewImage())).image
    provider.makes_ai_images = False
    provider.script = [GeneratedImage(0, jpeg(seed=3), 1.0)]

    child = await child_of(generations, library, task, alice, photograph)

    assert not child.is_ai_generated
    assert mark_in(await store.get(child.object_key)) is None
