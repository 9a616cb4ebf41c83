"""What changes in a library: told in order, to the right ones, and enough to stay up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest

from storage.changes import LONGEST, Change, Changes, Mailbox
from storage.database import Database
from storage.intake import Intake
from storage.keeper import Keeper
from storage.library import ImagePatch, Library, NewImage
from storage.models import Image
from storage.progress import LocalBus
from storage.search import ImageFilter, PageRequest, Sort
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.rows import insert_images


@pytest.fixture
async def changes(database: Database) -> AsyncIterator[Changes]:
    changes = Changes(database)
    changes.bus = LocalBus(changes.hear)
    delivering = asyncio.create_task(changes.run())
    yield changes
    delivering.cancel()


@pytest.fixture
def library(database: Database, keeper: Keeper, intake: Intake, changes: Changes) -> Library:
    return Library(database, keeper, intake, changed=changes.tell)


@pytest.fixture
def trash(database: Database, keeper: Keeper, changes: Changes) -> Trash:
    return Trash(database, keeper, kept_for=timedelta(days=30), changed=changes.tell)


class Watcher:
    """Collects what a viewer is told."""

    def __init__(self) -> None:
        self.told: list[list[Change]] = []
        self._came = asyncio.Event()
        self.began = asyncio.Event()

    async def listen(self, changes: Changes, viewer: Viewer) -> None:
        async with aclosing(changes.watch(viewer)) as events:
            async for event in events:
                self.told.append(event)
                self._came.set()
                self.began.set()

    async def until(self, id: UUID, version: int | None) -> None:
        """It was told of this version of an image; None for its deletion."""
        async with asyncio.timeout(5):
            while not any(
                each.image_id == id and (each.image.version if each.image else None) == version
                for event in self.told
                for each in event
            ):
                self._came.clear()
                await self._came.wait()

    @property
    def named(self) -> list[UUID]:
        return [each.image_id for event in self.told for each in event]


@asynccontextmanager
async def watching(changes: Changes, viewer: Viewer) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    task = asyncio.create_task(watcher.listen(changes, viewer))
    await watcher.began.wait()
    yield watcher
    task.cancel()


async def test_a_watcher_begins_by_reading_everything(changes: Changes, alice: Viewer) -> None:
    async with watching(changes, alice) as watcher:
        assert watcher.told == [[]]


async def test_what_comes_changes_and_goes_is_told(
    changes: Changes, library: Library, trash: Trash, alice: Viewer
) -> None:
    async with watching(changes, alice) as watcher:
        image = (await library.add_image(alice, jpeg(), NewImage())).image
        await watcher.until(image.id, 1)
        await library.update_image(alice, image.id, ImagePatch(title="New"), expected_version=None)
        await watcher.until(image.id, 2)
        await trash.delete(alice, [image.id])
        await watcher.until(image.id, None)
        await trash.restore(alice, [image.id])
        await watcher.until(image.id, 4)

    assert watcher.named == [image.id] * 4


async def test_what_was_there_already_is_not_told_again(
    changes: Changes, library: Library, alice: Viewer
) -> None:
    await library.add_image(alice, jpeg(seed=1), NewImage())

    async with watching(changes, alice) as watcher:
        await library.add_image(alice, jpeg(seed=1), NewImage())
        new = (await library.add_image(alice, jpeg(seed=2), NewImage())).image
        await watcher.until(new.id, 1)

    assert watcher.named == [new.id]


async def test_another_workspaces_changes_are_not_told(
    changes: Changes, library: Library, alice: Viewer, bob: Viewer
) -> None:
    async with watching(changes, bob) as his, watching(changes, alice) as hers:
        image = (await library.add_image(alice, jpeg(), NewImage())).image
        await hers.until(image.id, 1)

    assert his.told == [[]]


async def test_when_messages_may_be_lost_everybody_begins_anew(
    changes: Changes, alice: Viewer
) -> None:
    async with watching(changes, alice) as watcher:
        changes.hear(None)
        await asyncio.sleep(0.01)

    assert watcher.told == [[], []]


async def test_a_watcher_ends_with_the_service(changes: Changes, alice: Viewer) -> None:
    async with asyncio.timeout(5):
        async with aclosing(changes.watch(alice)) as events:
            assert await anext(events) == []
            changes.close()
            assert await anext(events, None) is None
        async with aclosing(changes.watch(alice)) as events:
            assert await anext(events, None) is None


async def test_a_watcher_that_is_slow_is_told_of_each_image_once(alice: Viewer) -> None:
    mailbox = Mailbox()
    assert await mailbox.take() == []
    ids = [UUID(int=n) for n in range(3)]
    for id in [*ids, *ids]:
        mailbox.put(Change(id, None))

    assert await mailbox.take() == [Change(id, None) for id in ids]


async def test_a_watcher_that_is_too_slow_begins_anew() -> None:
    mailbox = Mailbox()
    await mailbox.take()

    for number in range(LONGEST + 1):
        mailbox.put(Change(UUID(int=number), None))

    assert await mailbox.take() == []


async def test_whoever_applies_what_is_told_shows_what_a_fresh_query_does(
    changes: Changes,
    library: Library,
    trash: Trash,
    database: Database,
    keeper: Keeper,
    intake: Intake,
    alice: Viewer,
) -> None:
    versions = Versions(database, keeper, intake, kept=2, changed=changes.tell)
    dice = Random(7)
    await insert_images(database, alice, 5)
    shown: dict[UUID, Image] = {}

    async def fresh() -> list[Image]:
        page = await library.images(alice, ImageFilter(), Sort(), PageRequest(100))
        return list(page.rows)

    async def apply() -> None:
        async with aclosing(changes.watch(alice)) as events:
            async for event in events:
                if not event:
                    shown.clear()
                    shown.update({row.id: row for row in await fresh()})
                for change in event:
                    shown.pop(change.image_id, None)
                    if change.image:
                        shown[change.image_id] = change.image

    following = asyncio.create_task(apply())
    for step in range(60):
        ids = [row.id for row in await fresh()]
        trashed = [
            row.id
            for row in (
                await library.images(alice, ImageFilter(is_deleted=True), Sort(), PageRequest(100))
            ).rows
        ]
        match dice.choice(["add", "add", "update", "replace", "delete", "restore", "purge"]):
            case "add":
                await library.add_image(alice, jpeg(64, 48, seed=step), NewImage())
            case "update" if ids:
                patch = ImagePatch(title=f"Step {step}", tags=[f"t{step}"])
                await library.update_image(alice, dice.choice(ids), patch, expected_version=None)
            case "replace" if ids:
                await versions.replace_image(alice, dice.choice(ids), jpeg(64, 48, seed=500 + step))
            case "delete" if ids:
                await trash.delete(alice, dice.sample(ids, min(2, len(ids))))
            case "restore" if trashed:
                await trash.restore(alice, [dice.choice(trashed)])
            case "purge" if trashed:
                await trash.purge(alice, [dice.choice(trashed)])

    expected = await fresh()
    for _ in range(500):
        if {(row.id, row.version) for row in shown.values()} == {
            (row.id, row.version) for row in expected
        }:
            break
        await asyncio.sleep(0.01)
    following.cancel()
    assert {(row.title, row.sha256, *row.tags) for row in shown.values()} == {
        (row.title, row.sha256, *row.tags) for row in expected
    }
