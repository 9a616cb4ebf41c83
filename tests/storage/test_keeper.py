"""Objects and their rows stay in step, whatever crashes: what is left over is swept, no more."""

import asyncio
import hashlib
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from storage.database import Database
from storage.errors import Conflict, Unavailable
from storage.keeper import Keeper, Purpose
from storage.models import FINAL, GenerationStatus, ObjectState, StoredObject, now
from storage.viewers import Viewer
from tests.storage.rows import ON_SQLITE, insert_generation, object_states
from tests.storage.stores import MemoryStore

KEY = "images/1/a.jpg"
OTHER = "images/2/b.jpg"
GRACE = timedelta(hours=1)
PENDING, LIVE, DOOMED = ObjectState.PENDING, ObjectState.LIVE, ObjectState.DOOMED


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keeper(database: Database, store: MemoryStore) -> Keeper:
    return Keeper(database, store, grace=GRACE)


async def put(
    keeper: Keeper,
    viewer: Viewer,
    key: str = KEY,
    data: bytes = b"bytes",
    *,
    image_id: UUID | None = None,
    generation_id: UUID | None = None,
) -> bool:
    return await keeper.put(
        key,
        data,
        media_type="image/jpeg",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        of=Purpose(viewer.workspace_id, image_id=image_id, generation_id=generation_id),
    )


async def settle(keeper: Keeper, database: Database, key: str = KEY) -> None:
    async with database.writing() as session:
        await keeper.settle(session, key)


async def make_old(database: Database, key: str = KEY) -> None:
    """The row last changed longer ago than the grace."""
    async with database.writing() as session:
        await session.exec(
            update(StoredObject)
            .where(col(StoredObject.key) == key)
            .values(changed_at=now() - GRACE - timedelta(minutes=1))
        )


# ---- written ----------------------------------------------------------------------------------


async def test_the_row_is_there_before_the_bytes(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    store.hold()

    writing = asyncio.create_task(put(keeper, alice))
    await store.reached.wait()
    meanwhile = await object_states(database), dict(store.objects)
    store.let_go()
    await writing

    assert meanwhile == ({KEY: PENDING}, {})
    assert store.objects == {KEY: b"bytes"}


async def test_an_object_is_pending_until_it_is_settled(
    keeper: Keeper, database: Database, alice: Viewer
) -> None:
    assert await put(keeper, alice)
    before = await object_states(database)

    await settle(keeper, database)

    assert before == {KEY: PENDING}
    assert await object_states(database) == {KEY: LIVE}


async def test_what_is_undone_leaves_its_object_pending(
    keeper: Keeper, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)

    async def settle_and_fail() -> None:
        async with database.writing() as session:
            await keeper.settle(session, KEY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await settle_and_fail()

    assert await object_states(database) == {KEY: PENDING}


async def test_an_object_that_is_live_already_is_not_written_again(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await settle(keeper, database)

    has_to_be_settled = await put(keeper, alice)

    assert not has_to_be_settled
    assert store.puts == [KEY]


async def test_an_object_that_was_interrupted_is_written_anew(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await make_old(database)

    has_to_be_settled = await put(keeper, alice)

    assert has_to_be_settled
    assert store.puts == [KEY, KEY]
    assert await keeper.sweep() == 0  # its grace has begun anew
    await settle(keeper, database)
    assert await object_states(database) == {KEY: LIVE}


async def test_an_object_that_is_being_deleted_cannot_be_written(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await keeper.doom(KEY)

    with pytest.raises(Conflict):
        await put(keeper, alice)

    assert await object_states(database) == {KEY: DOOMED}
    assert store.puts == [KEY]


async def test_a_store_that_is_down_leaves_a_row_that_the_sweep_finds(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    store.is_down = True
    with pytest.raises(Unavailable):
        await put(keeper, alice)
    left = await object_states(database)
    store.is_down = False
    await make_old(database)

    swept = await keeper.sweep()

    assert left == {KEY: PENDING}
    assert swept == 1
    assert await object_states(database) == {}


async def test_a_preview_is_live_at_once_with_its_size_and_hash(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    purpose = Purpose(alice.workspace_id, lives_for=timedelta(hours=1))

    await keeper.put_live(KEY, b"preview", media_type="image/jpeg", of=purpose)

    async with database.reading() as session:
        row = (await session.exec(select(StoredObject))).one()
    assert (row.key, row.state, row.byte_size) == (KEY, LIVE, 7)
    assert row.sha256 == hashlib.sha256(b"preview").hexdigest()
    assert store.objects == {KEY: b"preview"}


# ---- swept ------------------------------------------------------------------------------------


async def test_what_is_pending_longer_than_the_grace_is_swept_with_its_bytes(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await make_old(database)

    swept = await keeper.sweep()

    assert swept == 1
    assert await object_states(database) == {}
    assert store.objects == {}


async def test_what_is_pending_within_the_grace_is_kept(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)

    swept = await keeper.sweep()

    assert swept == 0
    assert await object_states(database) == {KEY: PENDING}
    assert store.objects == {KEY: b"bytes"}


async def test_what_is_live_is_kept_however_old(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await settle(keeper, database)
    await make_old(database)

    swept = await keeper.sweep()

    assert swept == 0
    assert await object_states(database) == {KEY: LIVE}
    assert store.objects == {KEY: b"bytes"}


async def test_what_is_doomed_is_swept_at_once(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await put(keeper, alice, OTHER)
    await keeper.doom(KEY)

    swept = await keeper.sweep()

    assert swept == 1
    assert await object_states(database) == {OTHER: PENDING}
    assert store.objects == {OTHER: b"bytes"}


async def test_what_is_live_cannot_be_doomed_by_its_key(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await settle(keeper, database)

    await keeper.doom(KEY)

    assert await object_states(database) == {KEY: LIVE}


async def test_a_preview_is_swept_when_it_has_expired_and_not_before(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    over = Purpose(alice.workspace_id, lives_for=timedelta(seconds=-1))
    fresh = Purpose(alice.workspace_id, lives_for=timedelta(hours=1))
    await keeper.put_live(KEY, b"old", media_type="image/jpeg", of=over)
    await keeper.put_live(OTHER, b"new", media_type="image/jpeg", of=fresh)

    swept = await keeper.sweep()

    assert swept == 1
    assert await object_states(database) == {OTHER: LIVE}
    assert store.objects == {OTHER: b"new"}


@pytest.mark.parametrize("status", GenerationStatus)
async def test_an_old_pending_object_is_kept_while_its_generation_may_still_adopt_it(
    status: GenerationStatus,
    keeper: Keeper,
    store: MemoryStore,
    database: Database,
    alice: Viewer,
) -> None:
    generation_id = await insert_generation(database, alice, status)
    await put(keeper, alice, generation_id=generation_id)
    await make_old(database)

    await keeper.sweep()

    is_over = status in FINAL
    assert await object_states(database) == ({} if is_over else {KEY: PENDING})
    assert store.objects == ({} if is_over else {KEY: b"bytes"})


async def test_whoever_comes_too_late_to_settle_is_told_so(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await make_old(database)
    await keeper.sweep()

    with pytest.raises(Conflict):
        await settle(keeper, database)

    assert await object_states(database) == {}
    assert store.objects == {}


async def test_what_is_swept_while_it_is_written_leaves_no_bytes_without_a_row(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    store.hold()
    writing = asyncio.create_task(put(keeper, alice))
    await store.reached.wait()
    await make_old(database)
    await keeper.sweep()

    store.let_go()
    await writing
    with pytest.raises(Conflict):
        await settle(keeper, database)

    assert set(store.objects) <= set(await object_states(database))
    await keeper.sweep()
    assert await object_states(database) == {}
    assert store.objects == {}


async def test_a_store_that_is_down_keeps_the_rows_for_the_next_sweep(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await put(keeper, alice)
    await keeper.doom(KEY)
    store.is_down = True

    during = await keeper.sweep(), await object_states(database)
    store.is_down = False
    after = await keeper.sweep(), await object_states(database)

    assert during == (0, {KEY: DOOMED})
    assert after == (1, {})
    assert store.objects == {}


async def test_an_object_that_cannot_be_deleted_does_not_keep_the_others(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    for key in (KEY, OTHER):
        await put(keeper, alice, key)
    await keeper.doom(KEY, OTHER)
    store.undeletable = {KEY}

    swept = await keeper.sweep()

    assert swept == 1
    assert await object_states(database) == {KEY: DOOMED}
    assert store.objects == {KEY: b"bytes"}


async def test_sweeps_at_once_do_not_disturb_each_other(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    for number in range(20):
        await put(keeper, alice, f"images/{number}/a.jpg")
        await keeper.doom(f"images/{number}/a.jpg")

    await asyncio.gather(*(keeper.sweep() for _ in range(4)))

    assert await object_states(database) == {}
    assert store.objects == {}


@ON_SQLITE
async def test_a_large_backlog_is_swept_in_portions(
    keeper: Keeper, database: Database, alice: Viewer
) -> None:
    async with database.writing() as session:
        session.add_all(
            StoredObject(
                key=f"images/{number}/a.jpg",
                workspace_id=alice.workspace_id,
                state=DOOMED,
                media_type="image/jpeg",
                byte_size=1,
                sha256="0" * 64,
            )
            for number in range(1001)
        )

    swept = [await keeper.sweep() for _ in range(3)]

    assert swept == [1000, 1, 0]


# ---- an image's -------------------------------------------------------------------------------


async def test_all_that_was_stored_for_an_image_goes_with_it_and_nothing_else(
    keeper: Keeper, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    image_id, other_id = uuid4(), uuid4()
    await put(keeper, alice, "images/1/original.jpg", image_id=image_id)
    await settle(keeper, database, "images/1/original.jpg")
    await put(keeper, alice, "images/1/640.jpg", image_id=image_id)
    await put(keeper, alice, "images/2/original.jpg", image_id=other_id)
    await put(keeper, alice, "images/3/original.jpg", image_id=None)
    await keeper.doom("images/3/original.jpg")

    async with database.writing() as session:
        await keeper.doom_image(session, image_id)
    purged = await keeper.purge(image_id)

    assert purged == 2
    assert await object_states(database) == {
        "images/2/original.jpg": PENDING,
        "images/3/original.jpg": DOOMED,
    }
    assert set(store.objects) == {"images/2/original.jpg", "images/3/original.jpg"}
