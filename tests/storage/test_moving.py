"""A library that moves to another store: whole, checked, and again after an interruption."""

from datetime import timedelta

import pytest

from storage.database import Database
from storage.errors import Unavailable
from storage.intake import Intake
from storage.keeper import Keeper
from storage.library import Library, NewImage
from storage.models import Image, ObjectState, StoredObject
from storage.moving import Move, Moved
from storage.objects.fallback import FallbackStore
from storage.objects.options import S3Options
from storage.objects.s3 import open_s3
from storage.trash import Trash
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.stores import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keeper(database: Database, store: MemoryStore) -> Keeper:
    return Keeper(database, store, grace=timedelta(hours=1))


@pytest.fixture
async def images(library: Library, alice: Viewer) -> list[Image]:
    return [
        (await library.add_image(alice, jpeg(120, 90, seed=seed), NewImage())).image
        for seed in range(4)
    ]


async def test_everything_is_in_the_new_store_and_still_in_the_old_one(
    database: Database, store: MemoryStore, images: list[Image]
) -> None:
    new = MemoryStore()
    shown: list[tuple[int, int]] = []

    moved = await Move(database, store, new).run(lambda done, of: shown.append((done, of)))

    assert moved == Moved(copied=8)
    assert new.objects == store.objects
    assert shown[-1] == (8, 8)


async def test_a_second_run_copies_only_what_came_meanwhile(
    database: Database, store: MemoryStore, library: Library, images: list[Image], alice: Viewer
) -> None:
    new = MemoryStore()
    await Move(database, store, new).run()
    await library.add_image(alice, jpeg(120, 90, seed=9), NewImage())

    moved = await Move(database, store, new).run()

    assert (moved.copied, moved.there_already) == (2, 8)
    assert new.objects == store.objects


class Breaking(MemoryStore):
    """Takes a few objects, then none."""

    left = 3

    async def put(self, key: str, data: object, *, media_type: str) -> None:
        if not self.left:
            raise Unavailable("The disk is full.")
        self.left -= 1
        await super().put(key, data, media_type=media_type)  # type: ignore[arg-type]  # as given


async def test_what_could_not_be_copied_is_named_and_copied_the_next_time(
    database: Database, store: MemoryStore, images: list[Image]
) -> None:
    new = Breaking()

    first = await Move(database, store, new).run()
    assert (first.copied, len(first.failed)) == (3, 5)
    assert set(first.failed.values()) == {"The disk is full."}
    new.left = 100
    second = await Move(database, store, new).run()

    assert (second.copied, second.there_already, second.failed) == (5, 3, {})
    assert new.objects == store.objects


async def test_half_an_object_in_the_new_store_is_written_anew(
    database: Database, store: MemoryStore, images: list[Image]
) -> None:
    new = MemoryStore()
    new.objects[images[0].object_key] = store.objects[images[0].object_key][:100]

    moved = await Move(database, store, new).run()

    assert moved.copied == 8
    assert new.objects == store.objects


async def test_damaged_bytes_do_not_move(
    database: Database, store: MemoryStore, images: list[Image]
) -> None:
    key = images[0].object_key
    store.objects[key] = bytes(len(store.objects[key]))
    new = MemoryStore()

    moved = await Move(database, store, new).run()

    assert list(moved.failed) == [key]
    assert "doctor" in moved.failed[key]
    assert key not in new.objects


async def test_only_what_lives_moves(
    database: Database, store: MemoryStore, images: list[Image], alice: Viewer
) -> None:
    async with database.writing() as session:
        row = await session.get(StoredObject, images[0].object_key)
        assert row is not None
        row.state = ObjectState.DOOMED
    new = MemoryStore()

    moved = await Move(database, store, new).run()

    assert moved.copied == 7
    assert images[0].object_key not in new.objects


async def test_while_it_moves_all_is_found_and_what_is_deleted_is_gone_in_both(
    database: Database,
    store: MemoryStore,
    intake: Intake,
    images: list[Image],
    alice: Viewer,
) -> None:
    new = MemoryStore()
    both = FallbackStore(new, store)
    keeper = Keeper(database, both, grace=timedelta(hours=1))
    library = Library(database, keeper, intake)
    trash = Trash(database, keeper, kept_for=timedelta(days=1))

    fresh = (await library.add_image(alice, jpeg(120, 90, seed=9), NewImage())).image
    await Move(database, store, new).run()
    await trash.delete(alice, [images[0].id])
    await trash.purge(alice, [images[0].id])

    for image in [fresh, *images[1:]]:
        assert len(await both.get(image.object_key)) == image.byte_size
    for objects in (new.objects, store.objects):
        assert not any(str(images[0].id) in key for key in objects)


async def test_a_library_moves_to_s3(
    database: Database, store: MemoryStore, images: list[Image], s3_options: S3Options
) -> None:
    async with open_s3(s3_options) as s3:
        moved = await Move(database, store, s3).run()
        again = await Move(database, store, s3).run()

        assert (moved.copied, moved.failed) == (8, {})
        assert again.there_already == 8
        for key, data in store.objects.items():
            assert await s3.get(key) == data
