"""Uploads past the API: announced, sent, completed; each once. On both databases."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from storage.database import Database
from storage.direct_uploads import LAST_BYTES, DirectUploads, NewUpload
from storage.errors import (
    Conflict,
    CorruptFile,
    IdempotencyMismatch,
    LibraryError,
    NotFound,
    RateLimited,
    Rejected,
    TooLarge,
    TooLong,
    UnsupportedMediaType,
)
from storage.intake import Intake
from storage.keeper import Keeper
from storage.library import Library, NewImage
from storage.models import DirectUpload, StoredObject
from storage.objects import ObjectStore
from storage.objects.local import LocalObjectStore
from storage.objects.options import S3Options
from storage.objects.s3 import open_s3
from storage.search import ImageFilter
from storage.trash import Trash
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.rows import object_states, stored_files

ANY = ImageFilter()
DATA = jpeg(120, 90)
FILE = NewUpload("beach.jpg", "image/jpeg", len(DATA), title="Beach", tags=("sea", "sand"))


class Bytes:
    """A body that comes in small chunks."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int = -1, /) -> bytes:
        chunk, self._data = self._data[:1000], self._data[1000:]
        return chunk


Make = Callable[..., DirectUploads]


@pytest.fixture
def make(database: Database, store: LocalObjectStore, library: Library, tmp_path: Path) -> Make:
    def make(
        store: ObjectStore = store, library: Library = library, *, waiting: int = 10
    ) -> DirectUploads:
        return DirectUploads(
            database,
            store,
            library,
            lifetime=timedelta(minutes=15),
            waiting=waiting,
            max_bytes=10**6,
            folder=tmp_path,
        )

    return make


@pytest.fixture
def uploads(make: Make) -> DirectUploads:
    return make()


async def sent(uploads: DirectUploads, viewer: Viewer, new: NewUpload = FILE) -> UUID:
    """An upload whose bytes are there."""
    upload = await uploads.create(viewer, new)
    await uploads.receive(upload.id, Bytes(DATA), media_type=new.media_type)
    return upload.id


async def age(database: Database, id: UUID, by: timedelta) -> None:
    async with database.writing() as session:
        row = await session.get(DirectUpload, id)
        assert row is not None
        row.expires_at -= by
        stored = await session.get(StoredObject, row.key)
        if stored is not None and stored.expires_at is not None:
            stored.expires_at -= by


# ---- announced --------------------------------------------------------------------------------


async def test_an_announced_file_is_named_before_a_byte_of_it_comes(
    uploads: DirectUploads, library: Library, database: Database, alice: Viewer
) -> None:
    upload = await uploads.create(alice, FILE)

    assert list(await object_states(database)) == [upload.key]
    assert upload.key.startswith("incoming/")
    assert await library.count_images(alice, ANY) == 0


@pytest.mark.parametrize(
    ("changes", "failure", "field"),
    [
        ({"media_type": "image/svg+xml"}, UnsupportedMediaType, "mimeType"),
        ({"media_type": "text/html"}, UnsupportedMediaType, "mimeType"),
        ({"media_type": ""}, UnsupportedMediaType, "mimeType"),
        ({"media_type": "image/jpeg\r\nX: y"}, UnsupportedMediaType, "mimeType"),
        ({"byte_size": 0}, TooLarge, "byteSize"),
        ({"byte_size": -5}, TooLarge, "byteSize"),
        ({"byte_size": 10**6 + 1}, TooLarge, "byteSize"),
        ({"sha256": "abc"}, Rejected, "sha256"),
        ({"sha256": "A" * 64}, Rejected, "sha256"),
        ({"filename": "n" * 300}, TooLong, "filename"),
        ({"title": "t" * 300}, TooLong, "title"),
    ],
)
async def test_what_could_not_be_kept_is_refused_before_it_is_sent(
    changes: dict[str, object],
    failure: type[Rejected],
    field: str,
    uploads: DirectUploads,
    database: Database,
    alice: Viewer,
) -> None:
    with pytest.raises(failure) as refused:
        await uploads.create(alice, replace(FILE, **changes))  # type: ignore[arg-type]  # by name

    assert refused.value.field == field
    assert await object_states(database) == {}


async def test_only_so_many_uploads_may_be_open(
    make: Make, database: Database, alice: Viewer, bob: Viewer
) -> None:
    uploads = make(waiting=2)
    first = await sent(uploads, alice)
    second = await uploads.create(alice, FILE)

    with pytest.raises(RateLimited) as refused:
        await uploads.create(alice, FILE)

    assert refused.value.retry_after
    await uploads.create(bob, FILE)
    await uploads.complete(alice, first)
    await uploads.create(alice, FILE)
    await age(database, second.id, timedelta(minutes=16))
    await uploads.create(alice, FILE)


async def test_a_repeated_announcement_gives_the_first_ones_upload(
    uploads: DirectUploads, alice: Viewer
) -> None:
    first = await uploads.create(alice, FILE, idempotency_key="key")
    again = await asyncio.gather(
        *(uploads.create(alice, FILE, idempotency_key="key") for _ in range(3))
    )

    assert {upload.id for upload in again} == {first.id}
    with pytest.raises(IdempotencyMismatch):
        await uploads.create(alice, replace(FILE, title="Other"), idempotency_key="key")


# ---- sent -------------------------------------------------------------------------------------


async def test_what_was_announced_is_taken_once(
    uploads: DirectUploads, store: LocalObjectStore, alice: Viewer
) -> None:
    upload = await uploads.create(alice, FILE)
    await uploads.receive(upload.id, Bytes(DATA), media_type="image/jpeg")

    with pytest.raises(Conflict):
        await uploads.receive(upload.id, Bytes(DATA), media_type="image/jpeg")

    assert await store.get(upload.key) == DATA


@pytest.mark.parametrize(
    ("data", "media_type", "failure"),
    [
        (DATA + b"!", "image/jpeg", TooLarge),
        (DATA[:-1], "image/jpeg", Rejected),
        (DATA, "text/html", Rejected),
        (b"", "image/jpeg", CorruptFile),
    ],
)
async def test_what_was_not_announced_is_not_taken(
    data: bytes,
    media_type: str,
    failure: type[LibraryError],
    uploads: DirectUploads,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    upload = await uploads.create(alice, FILE)

    with pytest.raises(failure):
        await uploads.receive(upload.id, Bytes(data), media_type=media_type)

    assert stored_files(store) == []
    await uploads.receive(upload.id, Bytes(DATA), media_type="image/jpeg")


async def test_other_bytes_than_announced_by_their_hash_are_not_taken(
    uploads: DirectUploads, alice: Viewer
) -> None:
    new = replace(FILE, sha256=hashlib.sha256(DATA).hexdigest())
    upload = await uploads.create(alice, new)
    other = bytes([DATA[0]]) + DATA[1:-1] + bytes([DATA[-1] ^ 1])

    with pytest.raises(Rejected):
        await uploads.receive(upload.id, Bytes(other), media_type="image/jpeg")

    await uploads.receive(upload.id, Bytes(DATA), media_type="image/jpeg")


async def test_nothing_is_taken_for_an_upload_that_expired_or_never_was(
    uploads: DirectUploads, database: Database, alice: Viewer
) -> None:
    upload = await uploads.create(alice, FILE)
    await age(database, upload.id, timedelta(minutes=16))

    for id in (upload.id, uuid4()):
        with pytest.raises(NotFound):
            await uploads.receive(id, Bytes(DATA), media_type="image/jpeg")


# ---- completed --------------------------------------------------------------------------------


async def test_a_completed_upload_is_an_image_like_any_other(
    uploads: DirectUploads, library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    id = await sent(uploads, alice)

    added = await uploads.complete(alice, id)

    image = await library.image(alice, added.image.id)
    assert (image.filename, image.title, image.tags) == ("beach.jpg", "Beach", ["sand", "sea"])
    assert (image.width, image.height) == (120, 90)
    assert not added.is_duplicate
    assert image.object_key.startswith("images/")
    assert await store.size(image.object_key) == image.byte_size


async def test_completed_again_and_at_once_it_is_still_one_image(
    uploads: DirectUploads, library: Library, alice: Viewer
) -> None:
    id = await sent(uploads, alice)

    answers = await asyncio.gather(*(uploads.complete(alice, id) for _ in range(4)))
    again = await uploads.complete(alice, id)

    assert {answer.image.id for answer in [*answers, again]} == {answers[0].image.id}
    assert not any(answer.is_duplicate for answer in [*answers, again])
    assert await library.count_images(alice, ANY) == 1


async def test_before_its_bytes_came_it_cannot_be_completed(
    uploads: DirectUploads, library: Library, alice: Viewer
) -> None:
    upload = await uploads.create(alice, FILE)

    with pytest.raises(Conflict, match="has not arrived"):
        await uploads.complete(alice, upload.id)

    await uploads.receive(upload.id, Bytes(DATA), media_type="image/jpeg")
    await uploads.complete(alice, upload.id)
    assert await library.count_images(alice, ANY) == 1


async def test_what_is_no_picture_is_refused_by_the_same_intake(
    uploads: DirectUploads, library: Library, alice: Viewer
) -> None:
    html = b"<html>" * 100
    upload = await uploads.create(alice, NewUpload("a.jpg", "image/jpeg", len(html)))
    await uploads.receive(upload.id, Bytes(html), media_type="image/jpeg")

    with pytest.raises(UnsupportedMediaType):
        await uploads.complete(alice, upload.id)

    assert await library.count_images(alice, ANY) == 0


async def test_bytes_that_the_library_has_already_are_a_duplicate(
    uploads: DirectUploads, library: Library, alice: Viewer
) -> None:
    before = (await library.add_image(alice, DATA, NewImage())).image
    id = await sent(uploads, alice)

    first = await uploads.complete(alice, id)
    again = await uploads.complete(alice, id)

    assert first.image.id == again.image.id == before.id
    assert first.is_duplicate
    assert again.is_duplicate


async def test_what_was_sent_is_never_what_is_served_and_goes_when_its_link_cannot_work_any_more(
    uploads: DirectUploads,
    library: Library,
    keeper: Keeper,
    store: LocalObjectStore,
    database: Database,
    alice: Viewer,
) -> None:
    id = await sent(uploads, alice)
    image = (await uploads.complete(alice, id)).image
    await store.put(f"incoming/{id}", b"other bytes, later", media_type="image/jpeg")
    await keeper.sweep()
    assert f"incoming/{id}" in stored_files(store)  # for as long as it could be sent again

    await age(database, id, timedelta(minutes=15) + LAST_BYTES)
    await keeper.sweep()
    await uploads.forget_expired()

    assert f"incoming/{id}" not in stored_files(store)
    assert hashlib.sha256(await store.get(image.object_key)).hexdigest() == image.sha256
    assert (await uploads.complete(alice, id)).image.id == image.id  # a day long


async def test_an_abandoned_upload_is_forgotten_with_its_bytes(
    uploads: DirectUploads,
    keeper: Keeper,
    store: LocalObjectStore,
    database: Database,
    alice: Viewer,
) -> None:
    ids = [await sent(uploads, alice), (await uploads.create(alice, FILE)).id]
    assert await uploads.forget_expired() == 0
    for id in ids:
        await age(database, id, timedelta(minutes=16) + LAST_BYTES)

    assert await uploads.forget_expired() == 2
    await keeper.sweep()

    assert stored_files(store) == []
    assert await object_states(database) == {}
    with pytest.raises(NotFound):
        await uploads.complete(alice, ids[0])


async def test_an_image_that_was_purged_does_not_come_back_by_a_repeat(
    uploads: DirectUploads, trash: Trash, library: Library, alice: Viewer
) -> None:
    id = await sent(uploads, alice)
    image = (await uploads.complete(alice, id)).image
    await trash.delete(alice, [image.id])
    await trash.purge(alice, [image.id])

    with pytest.raises(NotFound):
        await uploads.complete(alice, id)

    assert await library.count_images(alice, ANY) == 0


async def test_an_upload_of_another_workspace_does_not_exist(
    uploads: DirectUploads, library: Library, alice: Viewer, bob: Viewer
) -> None:
    id = await sent(uploads, alice)

    with pytest.raises(NotFound):
        await uploads.complete(bob, id)

    assert await library.count_images(bob, ANY) == 0


# ---- straight to S3 ---------------------------------------------------------------------------


async def test_a_store_with_an_address_takes_the_bytes_itself(
    make: Make,
    database: Database,
    intake: Intake,
    s3_options: S3Options,
    alice: Viewer,
) -> None:
    async with open_s3(s3_options) as s3, httpx.AsyncClient() as web:
        keeper = Keeper(database, s3, grace=timedelta(hours=1))
        library = Library(database, keeper, intake)
        uploads = make(s3, library)
        new = replace(FILE, sha256=hashlib.sha256(DATA).hexdigest())
        upload = await uploads.create(alice, new)
        target = await uploads.target(upload)
        assert target is not None

        answer = await web.request(
            target.method, target.url, content=DATA, headers=dict(target.headers)
        )
        image = (await uploads.complete(alice, upload.id)).image

        assert answer.status_code == 200
        assert (image.width, image.filename) == (120, "beach.jpg")
        assert await s3.size(image.object_key) == image.byte_size


async def test_without_an_address_of_its_own_the_store_leaves_the_bytes_to_us(
    uploads: DirectUploads, alice: Viewer
) -> None:
    assert await uploads.target(await uploads.create(alice, FILE)) is None
