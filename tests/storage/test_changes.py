"""What changes in a library: told in order, to the right ones, and enough to stay up to date."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event

from storage.changes import LIBRARY, LONGEST, Change, Changes, Mailbox, Notice
from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.intake import Intake
from storage.jobs import postgres_dsn
from storage.keeper import Keeper
from storage.library import ImagePatch, Library, NewImage
from storage.models import ContentState, Image
from storage.progress import PostgresListener
from storage.search import ImageFilter, PageRequest, Sort, Usage
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.rows import ON_POSTGRES, ON_SQLITE, insert_images

NOON = datetime(2027, 5, 4, 12, 0, tzinfo=UTC)
LOOKS = 0.05
"""Seconds between two looks for another process's mark, on SQLite."""


@pytest.fixture
async def changes(database: Database) -> AsyncIterator[Changes]:
    """As in a process that serves."""
    changes = Changes(database, seconds_between_looks=LOOKS)
    running = [asyncio.create_task(changes.run())]
    if not database.is_sqlite:
        connected = asyncio.Event()

        def hear(notice: Notice | None) -> None:
            connected.set()
            changes.hear(notice)

        listener = PostgresListener(postgres_dsn(database.url), LIBRARY, Notice.parse, hear)
        running.append(asyncio.create_task(listener.run()))
        await connected.wait()
    yield changes
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
def elsewhere(database: Database) -> Changes:
    """As in another process, which does nothing more after its transactions."""
    return Changes(database, is_alone=False)


@pytest.fixture
def library(database: Database, keeper: Keeper, intake: Intake, changes: Changes) -> Library:
    return Library(database, keeper, intake, changed=changes.tell)


@pytest.fixture
def trash(database: Database, keeper: Keeper, changes: Changes) -> Trash:
    return Trash(database, keeper, kept_for=timedelta(days=30), changed=changes.tell)


@pytest.fixture
def contents(database: Database, changes: Changes) -> Contents:
    return Contents(database, changed=changes.tell)


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
        await self._until(lambda: (id, version) in map(_what, self.changes))

    async def until_change(self, change: Change) -> None:
        await self._until(lambda: change in self.changes)

    async def until_named(self, *ids: UUID) -> None:
        await self._until(lambda: set(ids) <= set(self.named))

    async def until_reset(self, times: int) -> None:
        await self._until(lambda: self.resets == times)

    async def _until(self, is_enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_enough():
                self._came.clear()
                await self._came.wait()

    @property
    def changes(self) -> list[Change]:
        return [each for event in self.told for each in event]

    @property
    def named(self) -> list[UUID]:
        return [each.image_id for each in self.changes]

    @property
    def resets(self) -> int:
        return self.told.count([])


def _what(change: Change) -> tuple[UUID, int | None]:
    return change.image_id, change.image.version if change.image else None


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
    assert [each.is_new for each in watcher.changes] == [True, False, False, False]
    assert not any(each.is_purged for each in watcher.changes)


async def test_a_deletion_is_told_however_soon_the_purge_follows(
    changes: Changes, trash: Trash, database: Database, alice: Viewer
) -> None:
    ids = await insert_images(database, alice, 10)

    async with watching(changes, alice) as watcher:
        for id in ids:
            await trash.delete(alice, [id])
            await trash.purge(alice, [id])
        for id in ids:
            await watcher.until_change(Change(id, None, is_purged=True))


@pytest.mark.parametrize("who", ["the viewer", "the sweep"])
async def test_what_leaves_the_trash_for_good_is_told_to_its_workspace_alone(
    who: str, changes: Changes, database: Database, keeper: Keeper, alice: Viewer, bob: Viewer
) -> None:
    hers = await insert_images(database, alice, 2)
    his = await insert_images(database, bob, 1)
    quiet = Trash(database, keeper, kept_for=timedelta(0))
    await quiet.delete(alice, hers)
    await quiet.delete(bob, his)
    trash = Trash(database, keeper, kept_for=timedelta(0), changed=changes.tell)

    async with watching(changes, alice) as her_ear, watching(changes, bob) as his_ear:
        if who == "the sweep":
            assert await trash.purge_expired() == 3
        else:
            await trash.purge(alice, hers)
            await trash.purge(bob, his)
        await her_ear.until_named(*hers)
        await his_ear.until_named(*his)

    told = [Change(id, None, is_purged=True) for id in hers]
    assert sorted(her_ear.changes, key=str) == sorted(told, key=str)
    assert his_ear.changes == [Change(id, None, is_purged=True) for id in his]


async def test_wherever_an_image_is_used_otherwise_that_is_told(
    changes: Changes, contents: Contents, database: Database, alice: Viewer
) -> None:
    first, second = await insert_images(database, alice, 2)
    content = await contents.save(alice, ContentPatch(external_id="post", scheduled_at=NOON))

    async with watching(changes, alice) as watcher:
        await contents.attach(alice, content.id, [first, second])
        await watcher.until_named(first, second)
        (places,) = await contents.attachments_of_contents(alice, [content.id])
        for act in (
            contents.reorder(alice, content.id, [places[1].id, places[0].id]),
            contents.save(alice, ContentPatch(state=ContentState.SCHEDULED), id=content.id),
            contents.save(alice, ContentPatch(state=ContentState.PUBLISHED), id=content.id),
            contents.detach(alice, [place.id for place in places]),
        ):
            watcher.told.clear()
            await act
            await watcher.until_named(first, second)

    assert not any(each.is_new for each in watcher.changes)


async def test_what_was_there_already_is_not_told_again(
    changes: Changes,
    library: Library,
    database: Database,
    keeper: Keeper,
    intake: Intake,
    alice: Viewer,
) -> None:
    await Library(database, keeper, intake).add_image(alice, jpeg(seed=1), NewImage())

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


async def test_another_workspaces_content_is_not_told(
    changes: Changes, contents: Contents, database: Database, alice: Viewer, bob: Viewer
) -> None:
    [id] = await insert_images(database, alice, 1)
    content = await contents.save(alice, ContentPatch(external_id="post"))

    async with watching(changes, bob) as his, watching(changes, alice) as hers:
        await contents.attach(alice, content.id, [id])
        await hers.until_named(id)

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


async def test_an_image_that_came_and_changed_before_the_watcher_looked_is_new(
    database: Database, library: Library, alice: Viewer
) -> None:
    mailbox = Mailbox()
    assert await mailbox.take() == []
    [id] = await insert_images(database, alice, 1)
    image = await library.image(alice, id)

    mailbox.put(Change(image.id, image, is_new=True))
    mailbox.put(Change(image.id, image))
    at_first = await mailbox.take()
    mailbox.put(Change(image.id, image))
    later = await mailbox.take()

    assert at_first == [Change(image.id, image, is_new=True)]
    assert later == [Change(image.id, image)]


async def test_a_watcher_that_is_too_slow_begins_anew() -> None:
    mailbox = Mailbox()
    await mailbox.take()

    for number in range(LONGEST + 1):
        mailbox.put(Change(UUID(int=number), None))

    assert await mailbox.take() == []


# ---- nothing is lost --------------------------------------------------------------------------


async def test_a_notice_arrives_as_it_was_sent() -> None:
    for is_new in (True, False):
        notice = Notice(uuid4(), uuid4(), is_new)

        assert Notice.parse(str(notice)) == notice


@pytest.mark.parametrize("line", ["", "no id", f"{UUID(int=1)}", f"{UUID(int=1)} 2 new"])
async def test_what_is_no_notice_is_no_notice(line: str) -> None:
    with pytest.raises(ValueError):
        Notice.parse(line)


async def test_what_another_process_did_is_known_though_it_died_after_its_commit(
    changes: Changes,
    elsewhere: Changes,
    database: Database,
    keeper: Keeper,
    intake: Intake,
    alice: Viewer,
) -> None:
    library = Library(database, keeper, intake, changed=elsewhere.tell)
    contents = Contents(database, changed=elsewhere.tell)
    content = await contents.save(alice, ContentPatch(external_id="post"))

    async with watching(changes, alice) as watcher:
        image = (await library.add_image(alice, jpeg(), NewImage())).image
        if database.is_sqlite:
            await watcher.until_reset(2)
        else:
            await watcher.until_named(image.id)
        watcher.told.clear()
        await contents.attach(alice, content.id, [image.id])
        if database.is_sqlite:
            await watcher.until_reset(1)
        else:
            await watcher.until_named(image.id)


@ON_SQLITE
async def test_the_many_acts_of_another_process_are_few_new_beginnings(
    changes: Changes, elsewhere: Changes, database: Database, alice: Viewer
) -> None:
    async with watching(changes, alice) as watcher:
        began = asyncio.get_running_loop().time()
        for _ in range(100):
            async with database.writing() as session:
                await elsewhere.tell(session, [Notice(alice.workspace_id, uuid4())])
        await asyncio.sleep(3 * LOOKS)
        looks = (asyncio.get_running_loop().time() - began) / LOOKS

    assert 2 <= watcher.resets <= looks + 1


@ON_SQLITE
async def test_what_this_process_does_makes_nobody_begin_anew(
    changes: Changes, library: Library, trash: Trash, alice: Viewer
) -> None:
    async with watching(changes, alice) as watcher:
        image = (await library.add_image(alice, jpeg(), NewImage())).image
        await trash.delete(alice, [image.id])
        await watcher.until(image.id, None)
        await asyncio.sleep(3 * LOOKS)

    assert watcher.resets == 1


@ON_SQLITE
async def test_whoever_comes_later_does_not_begin_anew_for_what_was_before(
    changes: Changes, elsewhere: Changes, database: Database, alice: Viewer
) -> None:
    async with watching(changes, alice):
        pass
    async with database.writing() as session:
        await elsewhere.tell(session, [Notice(alice.workspace_id, uuid4())])

    async with watching(changes, alice) as watcher:
        await asyncio.sleep(3 * LOOKS)

    assert watcher.told == [[]]


@ON_POSTGRES
async def test_what_is_undone_is_not_told(
    changes: Changes, library: Library, database: Database, alice: Viewer
) -> None:
    [untouched] = await insert_images(database, alice, 1)

    async with watching(changes, alice) as watcher:
        with suppress(ZeroDivisionError):
            async with database.writing() as session:
                await changes.tell(session, [Notice(alice.workspace_id, untouched)])
                1 / 0  # noqa: B018  # it fails
        image = (await library.add_image(alice, jpeg(), NewImage())).image
        await watcher.until(image.id, 1)

    assert watcher.named == [image.id]


@ON_SQLITE
async def test_what_was_kept_is_told_though_its_writer_was_cancelled_while_it_committed(
    changes: Changes, library: Library, database: Database, alice: Viewer
) -> None:
    ids = await insert_images(database, alice, 20)

    async with watching(changes, alice) as watcher:
        for id in ids:
            writing = asyncio.create_task(
                library.update_image(alice, id, ImagePatch(title="New"), expected_version=None)
            )
            with on_commit(writing.cancel):
                await asyncio.gather(writing, return_exceptions=True)
            assert writing.cancelled()
        for id in ids:
            await watcher.until(id, 2)


@contextmanager
def on_commit(do: Callable[[], object]) -> Iterator[None]:
    """Do something while the database commits, which it does in a thread of its own."""

    def soon(_: object) -> None:
        asyncio.get_running_loop().call_soon(do)

    event.listen(Engine, "commit", soon)
    yield
    event.remove(Engine, "commit", soon)


async def test_whoever_applies_what_is_told_shows_what_a_fresh_query_does(
    changes: Changes,
    library: Library,
    trash: Trash,
    contents: Contents,
    database: Database,
    keeper: Keeper,
    intake: Intake,
    alice: Viewer,
) -> None:
    """Which images there are, with their words, and where each of them is used."""
    versions = Versions(database, keeper, intake, kept=2, changed=changes.tell)
    dice = Random(7)
    await insert_images(database, alice, 5)
    posts = [await contents.save(alice, ContentPatch(external_id=f"post {n}")) for n in range(3)]
    shown: dict[UUID, tuple[Image, list[Place]]] = {}

    async def used(images: list[Image]) -> list[list[Place]]:
        """What `usages { position content { id state } }` says of each."""
        ids = [image.id for image in images]
        places = [p.rows for p in await contents.usages_of_images(alice, ids, PageRequest(100))]
        rows = await contents.by_id(alice, [post.id for post in posts])
        states = {row.id: row.state for row in rows if row}
        return [
            [(each.content_id, each.position, states[each.content_id]) for each in of_one]
            for of_one in places
        ]

    async def fresh() -> list[Image]:
        page = await library.images(alice, ImageFilter(), Sort(), PageRequest(100))
        return list(page.rows)

    async def apply() -> None:
        async with aclosing(changes.watch(alice)) as events:
            async for event in events:
                if not event:
                    shown.clear()
                for change in event:
                    shown.pop(change.image_id, None)
                images = [each.image for each in event if each.image] if event else await fresh()
                for image, places in zip(images, await used(images), strict=True):
                    shown[image.id] = image, places

    following = asyncio.create_task(apply())
    for step in range(120):
        ids = [row.id for row in await fresh()]
        trashed = [
            row.id
            for row in (
                await library.images(alice, ImageFilter(is_deleted=True), Sort(), PageRequest(100))
            ).rows
        ]
        post = dice.choice(posts)
        (places,) = await contents.attachments_of_contents(alice, [post.id])
        placed = [place.id for place in places]
        match dice.choice(ACTS):
            case "add":
                await library.add_image(alice, jpeg(64, 48, seed=step), NewImage())
            case "update" if ids:
                patch = ImagePatch(title=f"Step {step}", tags=[f"t{step}"])
                await library.update_image(alice, dice.choice(ids), patch, expected_version=None)
            case "replace" if ids:
                await versions.replace_image(alice, dice.choice(ids), jpeg(64, 48, seed=500 + step))
            case "delete" if ids:
                await trash.delete(alice, dice.sample(ids, min(2, len(ids))), force=True)
            case "restore" if trashed:
                await trash.restore(alice, [dice.choice(trashed)])
            case "purge" if trashed:
                await trash.purge(alice, [dice.choice(trashed)])
            case "attach" if ids:
                some = dice.sample(ids, min(2, len(ids)))
                await contents.attach(alice, post.id, some, position=dice.choice([None, 0, 1]))
            case "detach" if placed:
                await contents.detach(alice, [dice.choice(placed)])
            case "reorder" if placed:
                dice.shuffle(placed)
                await contents.reorder(alice, post.id, placed)
            case "save":
                state = ContentPatch(state=dice.choice(list(ContentState)), scheduled_at=NOON)
                await contents.save(alice, state, id=post.id)

    images = await fresh()
    expected = {
        image.id: (image.version, image.title, image.sha256, *image.tags, *places)
        for image, places in zip(images, await used(images), strict=True)
    }

    def now_shown() -> dict[UUID, tuple[object, ...]]:
        return {
            id: (image.version, image.title, image.sha256, *image.tags, *places)
            for id, (image, places) in shown.items()
        }

    for _ in range(500):
        if now_shown() == expected:
            break
        await asyncio.sleep(0.01)
    following.cancel()
    assert now_shown() == expected
    found = Counter(_usages_of(places) for _, places in shown.values())
    assert found.total() > found[()] > 0  # else the dice have tried too little
    for usage in Usage:
        asked = await library.images(alice, ImageFilter(usage=usage), Sort(), PageRequest(100))
        assert {row.id for row in asked.rows} == {
            id for id, (_, places) in shown.items() if _is_used(places, usage)
        }


Place = tuple[UUID, int, ContentState]

ACTS = [
    *("add", "add", "update", "replace", "delete", "restore", "purge"),
    *("attach", "attach", "detach", "reorder", "save"),
]


def _usages_of(places: list[Place]) -> tuple[ContentState, ...]:
    return tuple(state for _, _, state in places)


def _is_used(places: list[Place], usage: Usage) -> bool:
    match usage:
        case Usage.UNUSED:
            return not places
        case Usage.USED:
            return bool(places)
    return usage.value in _usages_of(places)
