"""What every object store promises, and what the one in a folder promises beside."""

import asyncio
import hashlib
import os
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from storage.errors import NotFound, Unavailable
from storage.objects import ObjectStore
from storage.objects.cloudinary import open_cloudinary
from storage.objects.fallback import FallbackStore
from storage.objects.local import ABANDONED, CHUNK, MARKER, LocalObjectStore
from storage.objects.options import CloudinaryOptions
from storage.objects.s3 import open_s3
from tests.cloudinary_server import API_KEY, API_SECRET, CLOUD, cloudinary_server
from tests.storage.rows import stored_files
from tests.storage.stores import MemoryStore

KEY = "images/4f/photo.jpg"
JPEG = "image/jpeg"


@asynccontextmanager
async def local(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    store = LocalObjectStore(request.getfixturevalue("tmp_path") / "objects")
    store.open()
    yield store


@asynccontextmanager
async def memory(_: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """The tests' own: a fake that breaks the promises would prove nothing."""
    yield MemoryStore()


@asynccontextmanager
async def s3(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    options = request.getfixturevalue("s3_options")
    async with open_s3(options) as store:
        yield store


@asynccontextmanager
async def fallback(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """What is there from before is in the former store; here, nothing is."""
    async with local(request) as main:
        yield FallbackStore(main, MemoryStore())


@asynccontextmanager
async def cloudinary(_: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    async with cloudinary_server() as server:
        options = CloudinaryOptions(
            cloud=CLOUD,
            folder="library",
            api_key=API_KEY,
            api_secret=SecretStr(API_SECRET),
            api_url=server.url,
            delivery_url=server.url,
        )
        async with open_cloudinary(options) as store:
            yield store


# Every store that is written comes into this table, and has to keep the promises below.
STORES: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[ObjectStore]]] = {
    "cloudinary": cloudinary,
    "fallback": fallback,
    "local": local,
    "memory": memory,
    "s3": s3,
}


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """An empty store of each kind in turn."""
    async with STORES[request.param](request) as store:
        yield store


@pytest.fixture
async def taking(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """The one kind of store that takes bytes from clients itself."""
    async with s3(request) as store:
        yield store


LASTING = sorted(STORES.keys() - {"memory"})


@pytest.fixture(params=LASTING)
async def lasting(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """A store that keeps its objects elsewhere than in memory."""
    async with STORES[request.param](request) as store:
        yield store


LINKING = ("cloudinary", "s3")
"""Stores with an address of their own; the others leave links to us."""


@pytest.fixture(params=LINKING)
async def linking(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    async with STORES[request.param](request) as store:
        yield store


async def streamed(store: ObjectStore, key: str) -> list[bytes]:
    return [chunk async for chunk in store.stream(key)]


# ---- every store ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_what_is_put_comes_back(size: int, store: ObjectStore) -> None:
    data = Random(size).randbytes(size)

    await store.put(KEY, data, media_type=JPEG)

    assert await store.get(KEY) == data
    assert await store.size(KEY) == size
    assert b"".join(await streamed(store, KEY)) == data


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, 1), (3, 4), (99_999, 400_002), (1_999_999, 5), (1_000_000, None), (0, 0)],
)
async def test_a_part_can_be_streamed(offset: int, length: int | None, store: ObjectStore) -> None:
    data = bytes(range(200)) * 10_000
    await store.put(KEY, data, media_type="image/jpeg")

    chunks = [chunk async for chunk in store.stream(KEY, offset, length)]

    assert b"".join(chunks) == data[offset:][:length]


async def test_large_bytes_are_streamed_in_parts(store: ObjectStore) -> None:
    await store.put(KEY, bytes(5 * CHUNK), media_type=JPEG)

    chunks = await streamed(store, KEY)

    assert len(chunks) > 1
    assert max(map(len, chunks)) < 5 * CHUNK


async def test_a_file_can_be_put_and_is_left_alone(store: ObjectStore, tmp_path: Path) -> None:
    data = Random(1).randbytes(2 * CHUNK + 7)
    file = tmp_path / "arrival"
    file.write_bytes(data)

    await store.put(KEY, file, media_type=JPEG)

    assert await store.get(KEY) == data
    assert file.read_bytes() == data


async def test_putting_the_same_again_changes_nothing(store: ObjectStore) -> None:
    await store.put(KEY, b"the same", media_type=JPEG)

    await store.put(KEY, b"the same", media_type=JPEG)

    assert await store.get(KEY) == b"the same"


async def test_the_same_put_many_times_at_once_is_there_once(store: ObjectStore) -> None:
    data = Random(2).randbytes(CHUNK)

    await asyncio.gather(*(store.put(KEY, data, media_type=JPEG) for _ in range(20)))

    assert await store.get(KEY) == data


async def test_objects_do_not_touch_each_other(store: ObjectStore) -> None:
    await store.put("images/1/a.jpg", b"a", media_type=JPEG)
    await store.put("images/1/b.jpg", b"b", media_type=JPEG)
    await store.put("images/2/a.jpg", b"c", media_type=JPEG)

    await store.delete("images/1/a.jpg")

    assert await store.get("images/1/b.jpg") == b"b"
    assert await store.get("images/2/a.jpg") == b"c"


async def test_what_is_deleted_is_gone(store: ObjectStore) -> None:
    await store.put(KEY, b"here", media_type=JPEG)

    await store.delete(KEY)

    with pytest.raises(NotFound):
        await store.get(KEY)


async def test_deleting_what_is_not_there_is_no_error(store: ObjectStore) -> None:
    await store.put(KEY, b"here", media_type=JPEG)

    await store.delete("images/4f/another.jpg")
    await store.delete("nowhere/at/all.jpg")

    assert await store.get(KEY) == b"here"


async def test_a_key_can_be_used_again_after_it_was_deleted(store: ObjectStore) -> None:
    await store.put(KEY, b"first", media_type=JPEG)
    await store.delete(KEY)

    await store.put(KEY, b"second", media_type=JPEG)

    assert await store.get(KEY) == b"second"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("images/4f/another.jpg", id="beside it"),
        pytest.param("images/4f", id="a part of its key"),
        pytest.param("images/4f/photo.jpg/more", id="longer than its key"),
        pytest.param("nowhere/at/all.jpg", id="elsewhere"),
    ],
)
async def test_what_was_never_put_is_not_found(key: str, store: ObjectStore) -> None:
    await store.put(KEY, b"here", media_type=JPEG)

    with pytest.raises(NotFound):
        await store.get(key)
    with pytest.raises(NotFound):
        await store.size(key)
    with pytest.raises(NotFound):
        await streamed(store, key)
    await store.delete(key)

    assert await store.get(KEY) == b"here"


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../outside",
        "images/../../outside",
        "images/../a",
        "/outside",
        "//outside",
        "images//a",
        "images/./a",
        "images/a/",
        ".hidden",
        "images/.hidden",
        "images/a\0b",
    ],
)
async def test_a_key_that_is_no_plain_path_is_a_mistake(key: str, store: ObjectStore) -> None:
    with pytest.raises(ValueError):
        await store.put(key, b"x", media_type=JPEG)
    with pytest.raises(ValueError):
        await store.get(key)
    with pytest.raises(ValueError):
        await store.size(key)
    with pytest.raises(ValueError):
        await streamed(store, key)
    with pytest.raises(ValueError):
        await store.delete(key)


async def test_a_store_in_good_health_says_so(store: ObjectStore) -> None:
    await store.check()


async def test_of_many_that_put_new_bytes_at_once_one_wins(store: ObjectStore) -> None:
    files = [bytes([number]) * 1000 for number in range(12)]

    won = await asyncio.gather(*(store.put_new(KEY, file, media_type=JPEG) for file in files))

    assert won.count(True) == 1
    assert await store.get(KEY) == files[won.index(True)]


async def test_put_new_leaves_what_is_there(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "another"
    file.write_bytes(b"another")
    await store.put(KEY, b"first", media_type=JPEG)

    assert not await store.put_new(KEY, b"second", media_type=JPEG)
    assert not await store.put_new(KEY, file, media_type=JPEG)

    assert await store.get(KEY) == b"first"
    assert file.exists()


async def test_put_new_takes_a_key_that_was_deleted(store: ObjectStore) -> None:
    await store.put(KEY, b"first", media_type=JPEG)
    await store.delete(KEY)

    assert await store.put_new(KEY, b"second", media_type=JPEG)

    assert await store.get(KEY) == b"second"


async def walked(store: ObjectStore, prefix: str = "") -> dict[str, int]:
    return {each.key: each.size async for each in store.walk(prefix)}


async def test_a_walk_shows_every_object_with_its_size(store: ObjectStore) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    sizes = {f"images/{number % 3}/{number}.jpg": number for number in range(1, 30)}
    for key, size in sizes.items():
        await store.put(key, bytes(size), media_type=JPEG)

    listed = [each async for each in store.walk()]

    assert {each.key: each.size for each in listed} == sizes
    assert all(
        began < each.written_at < datetime.now(UTC) + timedelta(minutes=1) for each in listed
    )


@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        ("images/", {"images/a/1.jpg", "images/ab/2.jpg"}),
        ("images/a", {"images/a/1.jpg", "images/ab/2.jpg"}),
        ("images/a/", {"images/a/1.jpg"}),
        ("images/a/1.jpg", {"images/a/1.jpg"}),
        ("nothing/", set()),
    ],
)
async def test_a_walk_can_be_kept_to_a_prefix(
    prefix: str, shown: set[str], store: ObjectStore
) -> None:
    for key in ("images/a/1.jpg", "images/ab/2.jpg", "other/3.jpg"):
        await store.put(key, b"x", media_type=JPEG)

    assert set(await walked(store, prefix)) == shown


async def test_a_walk_goes_on_while_objects_come_and_go(store: ObjectStore) -> None:
    for number in range(20):
        await store.put(f"images/{number}.jpg", b"x", media_type=JPEG)

    seen = set()
    async for each in store.walk():
        seen.add(each.key)
        await store.delete("images/7.jpg")
        await store.put(f"more/{len(seen)}.jpg", b"x", media_type=JPEG)

    assert {f"images/{number}.jpg" for number in range(20)} - {"images/7.jpg"} <= seen


async def test_anyone_can_get_an_object_by_its_link(linking: ObjectStore) -> None:
    await linking.put(KEY, b"here", media_type=JPEG)

    link = await linking.url(KEY, expires_in=60)

    assert link is not None
    async with httpx.AsyncClient() as web:
        right = await web.get(link)
        wrong = await web.get(link.replace("photo", "other"))
    assert (right.status_code, right.content) == (200, b"here")
    assert wrong.status_code in (401, 403, 404)


async def test_a_link_ends(linking: ObjectStore) -> None:
    await linking.put(KEY, b"here", media_type=JPEG)

    link = await linking.url(KEY, expires_in=1)

    assert link is not None
    await asyncio.sleep(2.1)
    async with httpx.AsyncClient() as web:
        late = await web.get(link)
    assert late.status_code in (401, 403, 404)


async def test_a_target_takes_just_the_announced_bytes_and_once(taking: ObjectStore) -> None:
    data, other = b"just these", b"other byte"
    target = await taking.target(
        KEY,
        media_type=JPEG,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        expires_in=60,
    )

    assert target is not None
    async with httpx.AsyncClient() as web:

        async def send(body: bytes, **changes: str) -> int:
            headers = {**target.headers, "Content-Length": str(len(body)), **changes}
            answer = await web.request(target.method, target.url, content=body, headers=headers)
            return answer.status_code

        refused = [
            await send(other),
            await send(data + b"!"),
            await send(data, **{"Content-Type": "text/html"}),
        ]
        taken = await send(data)
        again = await send(data)
    assert all(400 <= status < 500 for status in refused)
    assert taken == 200
    assert again == 412
    assert await taking.get(KEY) == data


async def test_large_files_come_and_go_in_little_memory(
    lasting: ObjectStore, tmp_path: Path
) -> None:
    size = 80 * 2**20
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(size)

    tracemalloc.start()
    try:
        await lasting.put(KEY, file, media_type=JPEG)
        came_back = 0
        async for chunk in lasting.stream(KEY):
            came_back += len(chunk)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert came_back == size
    assert most < size / 2


async def test_a_reader_may_leave_before_the_end(store: ObjectStore) -> None:
    await store.put(KEY, bytes(3 * CHUNK), media_type=JPEG)

    for _ in range(60):  # more than a store has connections
        async with aclosing(store.stream(KEY)) as chunks:  # type: ignore[type-var]  # generators can be closed
            await anext(chunks)

    assert await store.size(KEY) == 3 * CHUNK


async def test_siblings_that_come_and_go_at_once_do_not_disturb_each_other(
    store: ObjectStore,
) -> None:
    async def come_and_go(number: int) -> None:
        for _ in range(25):
            key = f"images/one/two/{number}.jpg"
            await store.put(key, b"here", media_type=JPEG)
            assert await store.get(key) == b"here"
            await store.delete(key)

    await asyncio.gather(*(come_and_go(number) for number in range(6)))


# ---- the folder -------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a" / "folder"


def opened(root: Path) -> LocalObjectStore:
    store = LocalObjectStore(root)
    store.open()
    return store


async def test_objects_are_there_after_the_folder_is_opened_again(root: Path) -> None:
    await opened(root).put(KEY, b"here", media_type=JPEG)

    assert await opened(root).get(KEY) == b"here"


async def test_what_an_interrupted_put_left_is_cleared_at_the_next_start(root: Path) -> None:
    store = opened(root)
    await store.put(KEY, b"here", media_type=JPEG)
    abandoned = root / ".unfinished" / "half"
    abandoned.write_bytes(b"he")
    an_hour_ago = time.time() - ABANDONED - 1
    os.utime(abandoned, (an_hour_ago, an_hour_ago))

    store = opened(root)

    assert stored_files(store) == [KEY]


async def test_what_another_process_is_putting_is_left_to_it(root: Path) -> None:
    opened(root)
    under_way = root / ".unfinished" / "half"
    under_way.write_bytes(b"he")

    opened(root)

    assert under_way.exists()


async def test_a_put_leaves_nothing_but_the_object(root: Path, tmp_path: Path) -> None:
    store = opened(root)

    await store.put(KEY, b"here", media_type=JPEG)
    with pytest.raises(Unavailable):
        await store.put("images/4f/other.jpg", tmp_path / "no such file", media_type=JPEG)

    assert (root / KEY).read_bytes() == b"here"
    assert stored_files(store) == [KEY]


async def test_folders_go_with_their_last_object(root: Path) -> None:
    store = opened(root)
    await store.put("images/1/digest/640.jpg", b"x", media_type=JPEG)
    await store.put("images/1/original.jpg", b"x", media_type=JPEG)

    await store.delete("images/1/digest/640.jpg")
    in_between = sorted(path.name for path in (root / "images" / "1").iterdir())
    await store.delete("images/1/original.jpg")

    assert in_between == ["original.jpg"]
    assert sorted(path.name for path in root.iterdir()) == [MARKER, ".unfinished"]


def test_a_folder_with_other_files_in_it_is_refused_and_left_alone(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "thesis.doc").write_text("three years of work")

    with pytest.raises(Unavailable) as refused:
        LocalObjectStore(root).open()

    assert str(root) in refused.value.message
    assert [path.name for path in root.iterdir()] == ["thesis.doc"]


async def test_a_folder_that_lost_its_marker_is_refused(root: Path) -> None:
    await opened(root).put(KEY, b"here", media_type=JPEG)
    (root / MARKER).unlink()

    with pytest.raises(Unavailable) as refused:
        LocalObjectStore(root).open()

    assert MARKER in refused.value.message
    assert (root / KEY).read_bytes() == b"here"


@pytest.fixture
async def unmounted(root: Path) -> LocalObjectStore:
    """A store whose disk went away: where it was mounted, an empty folder is seen."""
    store = opened(root)
    await store.put(KEY, b"here", media_type=JPEG)
    root.rename(root.with_name("the disk"))
    root.mkdir()
    return store


async def test_a_store_whose_disk_went_away_is_in_no_good_health(
    unmounted: LocalObjectStore,
) -> None:
    with pytest.raises(Unavailable):
        await unmounted.check()


async def test_a_store_whose_disk_went_away_does_not_say_that_its_objects_are_gone(
    unmounted: LocalObjectStore,
) -> None:
    with pytest.raises(Unavailable):
        await unmounted.get(KEY)
    with pytest.raises(Unavailable):
        await unmounted.size(KEY)
    with pytest.raises(Unavailable):
        await streamed(unmounted, KEY)


async def test_a_store_whose_disk_went_away_does_not_say_that_it_deleted(
    unmounted: LocalObjectStore,
) -> None:
    with pytest.raises(Unavailable):
        await unmounted.delete(KEY)


async def test_a_store_whose_disk_went_away_takes_nothing(unmounted: LocalObjectStore) -> None:
    with pytest.raises(Unavailable):
        await unmounted.put(KEY, b"here", media_type=JPEG)

    assert stored_files(unmounted) == []


def test_a_file_in_the_folders_place_is_refused(root: Path) -> None:
    root.parent.mkdir()
    root.write_text("a file")

    with pytest.raises(Unavailable) as refused:
        LocalObjectStore(root).open()

    assert str(root) in refused.value.message
    assert root.read_text() == "a file"


async def test_a_folder_that_cannot_be_written_is_unavailable(root: Path) -> None:
    store = opened(root)
    (root / "images").write_text("a file where a folder should be")

    with pytest.raises(Unavailable):
        await store.put(KEY, b"here", media_type=JPEG)

    assert (root / "images").read_text() == "a file where a folder should be"


async def test_a_name_that_the_disk_does_not_take_is_unavailable(root: Path) -> None:
    store = opened(root)

    with pytest.raises(Unavailable):
        await store.put(f"images/{'x' * 300}", b"here", media_type=JPEG)

    assert stored_files(store) == []


async def test_readers_of_an_object_see_all_of_it_or_nothing(root: Path) -> None:
    store = opened(root)
    data = Random(3).randbytes(4 * CHUNK)
    seen: set[int] = set()
    key = f"images/{uuid4()}/photo.jpg"

    writing = asyncio.create_task(store.put(key, data, media_type=JPEG))
    while not writing.done():
        try:
            seen.add(await store.size(key))
        except NotFound:
            seen.add(0)
        await asyncio.sleep(0)
    await writing

    assert seen <= {0, len(data)}
    assert await store.get(key) == data
