"""The counters that the database keeps are what counting gives, whatever happens to the images."""

import asyncio
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from storage.contents import Contents
from storage.counters import Counters
from storage.database import Database
from storage.library import ImagePatch, Library, NewImage
from storage.models import GenerationStatus, ImageOrigin
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.rows import ON_POSTGRES, image_rows, insert, insert_generation

KINDS = "workspace_id, is_deleted, {day}, origin, orientation, {provider}, is_ai_generated"
COUNTED_IMAGES = (
    f"SELECT {KINDS.format(day='day', provider='provider')}, sum(n) FROM image_counts "
    "GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(n) <> 0 ORDER BY 1, 2, 3, 4, 5, 6, 7"
)
COUNTED_TAGS = (
    "SELECT workspace_id, is_deleted, tag, sum(n) FROM tag_counts "
    "GROUP BY 1, 2, 3 HAVING sum(n) <> 0 ORDER BY 1, 2, 3"
)
TAGS = (
    "SELECT images.workspace_id, images.deleted_at IS NOT NULL, image_tags.tag, count(*) "
    "FROM image_tags JOIN images ON images.id = image_tags.image_id "
    "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)
STRAY_TAGS = (
    "SELECT count(*) FROM image_tags JOIN images ON images.id = image_tags.image_id "
    "WHERE image_tags.place <> images.place OR image_tags.workspace_id <> images.workspace_id "
    "OR image_tags.is_deleted <> (images.deleted_at IS NOT NULL)"
)


def images_by_kind(is_sqlite: bool) -> str:
    day = (
        "substr(created_at, 1, 10)"
        if is_sqlite
        else "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    )
    kind = KINDS.format(day=day, provider="coalesce(provider, '')")
    return (
        f"SELECT {kind.replace('is_deleted', 'deleted_at IS NOT NULL')}, count(*) FROM images "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7"
    )


async def rows_of(database: Database, statement: str) -> list[Any]:
    async with database.connection() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def check(database: Database) -> None:
    """The counters are right, and the tags know their images."""
    counted = await rows_of(database, COUNTED_IMAGES)
    assert counted == await rows_of(database, images_by_kind(database.is_sqlite))
    assert await rows_of(database, COUNTED_TAGS) == await rows_of(database, TAGS)
    assert await rows_of(database, STRAY_TAGS) == [(0,)]
    if database.is_sqlite:
        # FTS5 finds for itself whether the images' numbers are those of its documents.
        numbers = await rows_of(database, "SELECT id FROM image_words_docsize ORDER BY 1")
        assert numbers == await rows_of(database, "SELECT place FROM images ORDER BY 1")


@pytest.mark.parametrize("seed", range(3))
async def test_they_stay_right_through_any_use_cases(
    seed: int,
    database: Database,
    library: Library,
    trash: Trash,
    versions: Versions,
    contents: Contents,
    alice: Viewer,
    bob: Viewer,
) -> None:
    dice = Random(seed)
    generation = await insert_generation(database, alice, GenerationStatus.SUCCEEDED)
    ids: list[UUID] = []

    async def add() -> None:
        size = dice.choice([(40, 30), (30, 40), (30, 30)])
        is_made = dice.random() < 0.5
        new = NewImage(
            filename="a.jpg",
            tags=dice.sample(["alps", "sea", "sky"], dice.randint(0, 2)),
            origin=ImageOrigin.GENERATED if is_made else ImageOrigin.UPLOADED,
            is_ai_generated=is_made and dice.random() < 0.5,
            generation_id=generation if is_made else None,
        )
        viewer = bob if dice.random() < 0.2 and not is_made else alice
        added = await library.add_image(viewer, jpeg(*size, seed=dice.randrange(9)), new)
        if viewer is alice:
            ids.append(added.image.id)

    async def some() -> list[UUID]:
        return dice.sample(ids, min(len(ids), 2))

    async def change() -> None:
        for id in await some():
            if await image_is_there(id):
                tags = dice.sample(["alps", "sea", "sun"], dice.randint(0, 3))
                patch = ImagePatch(tags=tags, title=dice.choice(["lake", "sea"]))
                await library.update_image(alice, id, patch, expected_version=None)

    async def replace() -> None:
        for id in await some():
            image = (await library.images_by_id(alice, [id]))[0]
            if image is not None and image.deleted_at is None:
                data = jpeg(*dice.choice([(41, 31), (31, 41)]), seed=dice.randrange(10**6))
                await versions.replace_image(alice, id, data)

    async def image_is_there(id: UUID) -> bool:
        return (await library.images_by_id(alice, [id]))[0] is not None

    async def put_away() -> None:
        if ids:
            await trash.delete(alice, await some(), force=True)

    async def take_back() -> None:
        if ids:
            await trash.restore(alice, await some())

    async def purge() -> None:
        if ids:
            await trash.purge(alice, await some())

    acts = [add, add, add, change, replace, put_away, put_away, take_back, purge]
    for _ in range(25):
        await dice.choice(acts)()
    await check(database)


async def test_what_is_written_by_hand_is_counted_too(database: Database, alice: Viewer) -> None:
    rows = [image_rows(alice, tags=("sea",), provider="acme") for _ in range(30)]
    half = sorted(await insert(database, *rows))[15].hex

    async def write(statement: str) -> None:
        async with database.writing() as session:
            await (await session.connection()).execute(text(statement))

    await write("UPDATE images SET width = 10, height = 20")
    await write(f"UPDATE images SET deleted_at = created_at WHERE id > '{half}'")
    await write(f"DELETE FROM image_tags WHERE image_id > '{half}'")
    await write(f"DELETE FROM images WHERE id < '{half}'")

    await check(database)
    assert await rows_of(database, "SELECT sum(n) FROM image_counts") == [(15,)]
    assert await rows_of(database, "SELECT sum(n) FROM tag_counts") == [(1,)]


@ON_POSTGRES
async def test_many_writers_of_one_workspace_neither_wait_nor_miscount(
    database: Database, alice: Viewer
) -> None:
    async def add(count: int) -> None:
        for _ in range(count):
            await insert(database, image_rows(alice, tags=("sea", "sky")))

    await asyncio.gather(*(add(25) for _ in range(8)))

    await check(database)
    [(image_rows_kept,)] = await rows_of(database, "SELECT count(*) FROM image_counts")
    [(tag_rows_kept,)] = await rows_of(database, "SELECT count(*) FROM tag_counts")
    assert image_rows_kept <= 40  # of 200 that were added: many have been folded into few
    assert tag_rows_kept <= 80


@ON_POSTGRES
async def test_what_is_left_of_them_is_folded_when_it_rests(
    database: Database, alice: Viewer, bob: Viewer
) -> None:
    counters = Counters(database)
    for viewer in (alice, alice, alice, bob):
        await insert(database, image_rows(viewer, tags=("sea",)))

    await counters.fold()
    assert await rows_of(database, "SELECT n FROM image_counts ORDER BY 1") == [(1,), (3,)]
    assert await rows_of(database, "SELECT n FROM tag_counts ORDER BY 1") == [(1,), (3,)]
    await insert(database, image_rows(alice))
    await counters.fold()
    assert await rows_of(database, "SELECT n FROM image_counts ORDER BY 1") == [(1,), (4,)]
    await check(database)


@ON_POSTGRES
async def test_folding_leaves_alone_what_somebody_holds(database: Database, alice: Viewer) -> None:
    for _ in range(3):
        await insert(database, image_rows(alice))
    async with database.writing() as slow:
        await (await slow.connection()).execute(
            text("SELECT id FROM image_counts ORDER BY id LIMIT 1 FOR UPDATE")
        )
        async with asyncio.timeout(20):
            await Counters(database).fold()

    assert await rows_of(database, "SELECT n FROM image_counts ORDER BY 1") == [(1,), (2,)]
    await check(database)


@ON_POSTGRES
async def test_a_writer_does_not_wait_for_another_that_has_not_ended(
    database: Database, alice: Viewer
) -> None:
    await insert(database, *(image_rows(alice, tags=("sea",)) for _ in range(3)))
    async with database.writing() as slow:
        stored, image = image_rows(alice, tags=("sea",))
        slow.add(stored)
        await slow.flush()
        slow.add(image)
        await slow.flush()

        async with asyncio.timeout(20):
            for _ in range(20):  # often enough to fold
                await insert(database, image_rows(alice, tags=("sea",)))

    await check(database)
