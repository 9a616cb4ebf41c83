"""Rows and bytes compared, and mended without losing anything. On both databases."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlmodel import col, select

from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.doctor import QUARANTINE, Doctor, Fault, Kind, Report
from storage.errors import Conflict, Unavailable
from storage.intake import Intake
from storage.keeper import Keeper, Purpose
from storage.library import Library, NewImage
from storage.models import Image, ObjectState, StoredObject, now
from storage.objects import Listed
from storage.renditions import DIGEST, Renditions, grid_rendition, rendition_key
from storage.search import ImageFilter
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.rows import object_states
from tests.storage.stores import MemoryStore

GRACE = timedelta(hours=1)
LONG_AGO = timedelta(days=2)
ANY = ImageFilter()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keeper(database: Database, store: MemoryStore) -> Keeper:
    return Keeper(database, store, grace=GRACE)


@pytest.fixture
def doctor(database: Database, store: MemoryStore, keeper: Keeper, trash: Trash) -> Doctor:
    return Doctor(database, store, keeper, trash, grace=GRACE)


@pytest.fixture
async def image(library: Library, alice: Viewer) -> Image:
    return (await library.add_image(alice, jpeg(120, 90), NewImage())).image


def grid_key(image: Image) -> str:
    return rendition_key(image.id, image.sha256, grid_rendition(image.width, "image/jpeg"))


async def mended(doctor: Doctor) -> Report:
    """What is still wrong after a repair. One object of three is more than 1 %: by force."""
    await doctor.repair(await doctor.examine(reads_bytes=True), force=True)
    return await doctor.examine(reads_bytes=True)


async def test_of_a_sound_library_there_is_nothing_to_say(doctor: Doctor, image: Image) -> None:
    report = await doctor.examine(reads_bytes=True)

    assert report == Report(objects=2, faults=[])


async def test_an_empty_library_is_sound(doctor: Doctor) -> None:
    assert await doctor.examine() == Report()


async def test_an_examination_shows_how_far_it_is_and_changes_nothing(
    doctor: Doctor, store: MemoryStore, database: Database, image: Image
) -> None:
    store.objects["stray"] = b"?"
    del store.objects[image.object_key]
    objects, rows = dict(store.objects), await object_states(database)
    shown: list[tuple[int, int]] = []

    await doctor.examine(progress=lambda done, of: shown.append((done, of)))

    assert shown[-1] == (2, 2)
    assert (store.objects, await object_states(database)) == (objects, rows)


# ---- bytes without a row ----------------------------------------------------------------------


async def test_bytes_without_a_row_are_put_aside_and_not_deleted(
    doctor: Doctor, store: MemoryStore, image: Image
) -> None:
    store.objects["images/stray.jpg"] = b"who am I?"

    report = await doctor.examine()
    assert report.faults == [Fault(Kind.UNNAMED, "images/stray.jpg")]
    repairs = await doctor.repair(report, force=True)

    assert repairs.quarantined == 1
    (aside,) = [key for key in store.objects if key.startswith(QUARANTINE)]
    assert aside.endswith("/images/stray.jpg")
    assert store.objects[aside] == b"who am I?"
    assert "images/stray.jpg" not in store.objects
    assert (await doctor.examine()).faults == []


async def test_bytes_that_got_their_row_meanwhile_stay(
    doctor: Doctor, store: MemoryStore, keeper: Keeper, alice: Viewer
) -> None:
    store.objects["previews/1.webp"] = b"preview"
    report = await doctor.examine()
    of = Purpose(alice.workspace_id)
    await keeper.put_live("previews/1.webp", b"preview", media_type="image/webp", of=of)

    repairs = await doctor.repair(report, force=True)

    assert repairs.quarantined == 0
    assert list(store.objects) == ["previews/1.webp"]


# ---- rows without their bytes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(None, Kind.MISSING), (b"short", Kind.WRONG_SIZE)],
)
async def test_an_image_that_lost_its_file_goes_to_the_trash_and_can_come_back(
    damage: bytes | None,
    kind: Kind,
    doctor: Doctor,
    store: MemoryStore,
    library: Library,
    trash: Trash,
    database: Database,
    image: Image,
    alice: Viewer,
) -> None:
    contents = Contents(database)
    post = await contents.save(alice, ContentPatch(external_id="post"))
    await contents.attach(alice, post.id, [image.id])
    backup = store.objects.pop(image.object_key)
    if damage is not None:
        store.objects[image.object_key] = damage

    report = await doctor.examine()
    assert report.faults == [Fault(kind, image.object_key)]
    repairs = await doctor.repair(report, force=True)

    assert repairs.images_put_into_trash == 1
    assert await library.count_images(alice, ANY) == 0
    store.objects[image.object_key] = backup
    await trash.restore(alice, [image.id])
    assert (await doctor.examine(reads_bytes=True)).faults == []
    ((attachment,),) = await contents.attachments_of_contents(alice, [post.id])
    assert attachment.image_id == image.id


async def test_damaged_bytes_are_seen_when_they_are_read(
    doctor: Doctor, store: MemoryStore, image: Image
) -> None:
    data = store.objects[image.object_key]
    store.objects[image.object_key] = data[:-1] + bytes([data[-1] ^ 1])

    assert (await doctor.examine()).faults == []
    report = await doctor.examine(reads_bytes=True)
    assert report.faults == [Fault(Kind.WRONG_BYTES, image.object_key)]


@pytest.mark.parametrize("damage", [None, b"other"])
async def test_a_damaged_rendition_is_dropped_and_made_anew(
    damage: bytes | None,
    doctor: Doctor,
    store: MemoryStore,
    database: Database,
    keeper: Keeper,
    library: Library,
    image: Image,
    alice: Viewer,
) -> None:
    sound = store.objects.pop(grid_key(image))
    if damage is not None:
        store.objects[grid_key(image)] = damage

    assert (await mended(doctor)).faults == []

    renditions = Renditions(
        database, keeper, store, threads=1, memory_bytes=0, kept=10, is_alone=False
    )
    name = grid_rendition(image.width, "image/jpeg")
    again = await renditions.find(image.id, image.sha256[:DIGEST], name)
    assert again.byte_size == pytest.approx(len(sound), rel=0.2)
    assert await library.count_images(alice, ANY) == 1


async def test_an_earlier_version_that_lost_its_bytes_is_dropped(
    doctor: Doctor, versions: Versions, store: MemoryStore, image: Image, alice: Viewer
) -> None:
    await versions.replace_image(alice, image.id, jpeg(200, 90, seed=3))
    del store.objects[image.object_key]

    assert (await mended(doctor)).faults == []

    assert await versions.of_images(alice, [image.id]) == [[]]


# ---- what crashes leave -----------------------------------------------------------------------


async def leave(
    database: Database, viewer: Viewer, key: str, state: ObjectState, age: timedelta
) -> None:
    async with database.writing() as session:
        session.add(
            StoredObject(
                key=key,
                workspace_id=viewer.workspace_id,
                state=state,
                media_type="image/jpeg",
                byte_size=3,
                sha256="",
                changed_at=now() - age,
            )
        )


@pytest.mark.parametrize("state", [ObjectState.PENDING, ObjectState.DOOMED])
async def test_what_a_crash_left_long_ago_is_swept(
    state: ObjectState, doctor: Doctor, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await leave(database, alice, "images/left.jpg", state, LONG_AGO)
    store.objects["images/left.jpg"] = b"abc"

    report = await doctor.examine()
    assert report.faults == [Fault(Kind.STALE, "images/left.jpg")]
    repairs = await doctor.repair(report)

    assert repairs.swept == 1
    assert store.objects == {}
    assert await object_states(database) == {}


@pytest.mark.parametrize("is_there", [False, True])
async def test_what_is_being_written_now_is_nobodys_business(
    is_there: bool, doctor: Doctor, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    await leave(database, alice, "images/now.jpg", ObjectState.PENDING, timedelta(0))
    if is_there:
        store.objects["images/now.jpg"] = b"ab"

    assert (await doctor.examine()).faults == []
    assert (await mended(doctor)).faults == []
    assert list(await object_states(database)) == ["images/now.jpg"]


# ---- when to keep one's hands off -------------------------------------------------------------


class HalfListed(MemoryStore):
    """Its listing fails in the middle."""

    async def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        async for each in super().walk(prefix):
            yield each
            raise Unavailable("The store went away.")


async def test_a_listing_that_fails_ends_the_examination(
    database: Database, trash: Trash, intake: Intake, alice: Viewer
) -> None:
    store = HalfListed()
    keeper = Keeper(database, store, grace=GRACE)
    library = Library(database, keeper, intake)
    await library.add_image(alice, jpeg(), NewImage())
    doctor = Doctor(database, store, keeper, trash, grace=GRACE)

    with pytest.raises(Unavailable):
        await doctor.examine()


async def test_when_much_is_wrong_somebody_has_to_say_that_it_is_meant(
    doctor: Doctor, store: MemoryStore, library: Library, image: Image, alice: Viewer
) -> None:
    store.objects.clear()  # the wrong bucket

    report = await doctor.examine()
    with pytest.raises(Conflict, match="2 of 2 objects"):
        await doctor.repair(report)

    assert await library.count_images(alice, ANY) == 1


async def test_one_in_a_hundred_is_mended_without_a_question(
    doctor: Doctor, store: MemoryStore, database: Database, alice: Viewer, keeper: Keeper
) -> None:
    of = Purpose(alice.workspace_id)
    for number in range(99):
        await keeper.put_live(f"p/{number}.webp", b"preview", media_type="image/webp", of=of)
    store.objects["stray"] = b"?"

    repairs = await doctor.repair(await doctor.examine())

    assert repairs.quarantined == 1


async def test_an_image_that_is_in_the_trash_already_stays_there(
    doctor: Doctor,
    store: MemoryStore,
    database: Database,
    trash: Trash,
    image: Image,
    alice: Viewer,
) -> None:
    await trash.delete(alice, [image.id])
    async with database.reading() as session:
        before = (await session.exec(select(Image).where(col(Image.id) == image.id))).one()
    del store.objects[image.object_key]

    repairs = await doctor.repair(await doctor.examine(), force=True)

    assert repairs.images_put_into_trash == 0
    async with database.reading() as session:
        after = await session.get(Image, image.id)
    assert after is not None
    assert after.deleted_at == before.deleted_at
