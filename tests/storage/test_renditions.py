"""Derived sizes: made once, for what is there, and never outliving their image."""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.changes import Notice, after
from storage.database import Database
from storage.errors import NotFound, Rejected, Unavailable
from storage.keeper import Keeper, Purpose
from storage.library import Library, NewImage
from storage.models import Image, ImageOrigin, ObjectState, StoredObject
from storage.objects.local import LocalObjectStore
from storage.rendering import Fit
from storage.renditions import (
    DIGEST,
    IN_MEMORY,
    MAX_LADDER,
    MAX_SIDE,
    ORIGINAL,
    AtHand,
    ImageFormat,
    Rendition,
    Renditions,
    Served,
    grid_rendition,
    ladder,
    place_of,
    rendition_key,
)
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg, opened
from tests.storage.rows import ON_SQLITE, image_rows, insert, object_states
from tests.storage.stores import MemoryStore


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keeper(database: Database, store: MemoryStore) -> Keeper:
    return Keeper(database, store, grace=timedelta(hours=1))


Make = Callable[..., Renditions]


@pytest.fixture
def make(database: Database, keeper: Keeper, store: MemoryStore) -> Make:
    """Renditions, as another process would have them."""

    def make(
        *, memory_bytes: int = 10**7, kept: int = 100, is_alone: bool = False, threads: int = 2
    ) -> Renditions:
        return Renditions(
            database,
            keeper,
            store,
            threads=threads,
            memory_bytes=memory_bytes,
            kept=kept,
            is_alone=is_alone,
        )

    return make


@pytest.fixture(params=[False, True], ids=["one of many", "alone"])
def renditions(make: Make, request: pytest.FixtureRequest) -> Renditions:
    return make(is_alone=request.param)


@pytest.fixture
def trash(database: Database, keeper: Keeper, renditions: Renditions) -> Trash:
    async def changed(session: AsyncSession, notices: Collection[Notice]) -> None:
        for notice in notices:
            after(session, partial(renditions.forget, notice.image_id))

    return Trash(database, keeper, kept_for=timedelta(days=30), changed=changed)


@pytest.fixture
async def image(database: Database, store: MemoryStore, alice: Viewer) -> Image:
    """A JPEG of 640 x 480 pixels."""
    data = jpeg(640, 480)
    stored, image = image_rows(alice, width=640, height=480, byte_size=len(data))
    await insert(database, (stored, image))
    store.objects[image.object_key] = data
    return image


def digest_of(image: Image) -> str:
    return image.sha256[:DIGEST]


# ---- found ------------------------------------------------------------------------------------


async def test_the_original_is_found_under_its_own_name(
    renditions: Renditions, image: Image
) -> None:
    served = await renditions.find(image.id, digest_of(image), ORIGINAL)

    data = jpeg(640, 480)
    assert served == Served(image.object_key, "image/jpeg", len(data), image.sha256, data)


async def test_a_rendition_is_made_when_it_is_asked_for(
    renditions: Renditions, store: MemoryStore, database: Database, image: Image
) -> None:
    served = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")

    data = store.objects[served.key]
    assert (opened(data).size, opened(data).format) == ((320, 240), "JPEG")
    assert served == Served(
        f"images/{image.id}/{digest_of(image)}/320x-inside.jpeg",
        "image/jpeg",
        len(data),
        hashlib.sha256(data).hexdigest(),
        data,
    )
    assert (await object_states(database))[served.key] is ObjectState.LIVE


async def test_a_rendition_belongs_to_its_image(
    renditions: Renditions, database: Database, image: Image
) -> None:
    served = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")

    async with database.reading() as session:
        row = (await session.exec(select(StoredObject).where(StoredObject.key == served.key))).one()
    assert (row.image_id, row.workspace_id) == (image.id, image.workspace_id)
    assert (row.byte_size, row.sha256) == (served.byte_size, served.etag)


async def test_a_rendition_that_many_ask_for_at_once_is_made_once(
    renditions: Renditions, store: MemoryStore, database: Database, image: Image
) -> None:
    answers = await asyncio.gather(
        *(renditions.find(image.id, digest_of(image), "160x-inside.jpeg") for _ in range(20))
    )

    assert set(answers) == {answers[0]}
    assert store.puts == [answers[0].key]
    assert await object_states(database) == {
        image.object_key: ObjectState.LIVE,
        answers[0].key: ObjectState.LIVE,
    }


async def test_two_processes_that_make_the_same_rendition_agree(
    make: Make, database: Database, image: Image
) -> None:
    processes = [make(threads=1) for _ in range(3)]

    answers = await asyncio.gather(
        *(process.find(image.id, digest_of(image), "160x-inside.jpeg") for process in processes),
        return_exceptions=True,
    )

    assert set(answers) == {answers[0]}
    assert await object_states(database) == {
        image.object_key: ObjectState.LIVE,
        f"images/{image.id}/{digest_of(image)}/160x-inside.jpeg": ObjectState.LIVE,
    }


async def test_a_rendition_is_not_made_again(
    renditions: Renditions, store: MemoryStore, image: Image
) -> None:
    first = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")

    second = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")

    assert second == first
    assert store.puts == [first.key]


async def test_whoever_goes_away_does_not_keep_the_others_waiting(
    renditions: Renditions, store: MemoryStore, image: Image
) -> None:
    store.hold()
    asking = [
        asyncio.create_task(renditions.find(image.id, digest_of(image), "320x-inside.jpeg"))
        for _ in range(3)
    ]
    await store.reached.wait()

    asking[0].cancel()
    store.let_go()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert isinstance(answers[1], Served)
    assert answers[1] == answers[2]


async def test_a_rendition_can_be_made_after_the_store_was_down(
    renditions: Renditions, store: MemoryStore, image: Image
) -> None:
    store.is_down = True
    with pytest.raises(Unavailable):
        await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    store.is_down = False

    served = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")

    assert list(store.puts) == [served.key]


# ---- not found --------------------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize("spec", [ORIGINAL, "320x-inside.jpeg"])
async def test_an_image_that_never_was_is_not_found(spec: str, renditions: Renditions) -> None:
    with pytest.raises(NotFound):
        await renditions.find(uuid4(), "0" * DIGEST, spec)


@ON_SQLITE
@pytest.mark.parametrize("spec", [ORIGINAL, "320x-inside.jpeg"])
@pytest.mark.parametrize("digest", ["0" * DIGEST, "", "%", "../.."])
async def test_bytes_that_an_image_does_not_have_are_not_found(
    digest: str, spec: str, renditions: Renditions, store: MemoryStore, image: Image
) -> None:
    with pytest.raises(NotFound):
        await renditions.find(image.id, digest, spec)

    assert store.puts == []


@ON_SQLITE
@pytest.mark.parametrize(
    "spec",
    [
        "320x-inside",
        "320-inside.jpeg",
        "x-inside.jpeg",
        "0x-inside.jpeg",
        "0320x-inside.jpeg",
        "-1x-inside.jpeg",
        "4097x-inside.jpeg",
        "10000x-inside.jpeg",
        "320x-inside.jpg",
        "320x-inside.JPEG",
        "320x-inside.gif",
        "320x-inside.jpeg\n",
        " 320x-inside.jpeg",
        "320x-outside.jpeg",
        "320x-cover.jpeg",
        "x320-pad.jpeg",
        "320x320-inside-f500_500.jpeg",
        "320x320-cover-f1001_0.jpeg",
        "320x320-cover-f0_1001.jpeg",
        "320x320-cover-f05_05.jpeg",
        "320x-inside-q0.jpeg",
        "320x-inside-q101.jpeg",
        "320x-inside-q080.jpeg",
        "３２０x-inside.jpeg",
        "",
        "original.jpeg",
        "ORIGINAL",
        "../original",
        "320x-inside.jpeg/../../640x-inside.jpeg",
        "320x-inside.jpeg\0",
    ],
)
async def test_a_rendition_that_we_never_offer_is_not_found(
    spec: str, renditions: Renditions, store: MemoryStore, database: Database, image: Image
) -> None:
    with pytest.raises(NotFound):
        await renditions.find(image.id, digest_of(image), spec)

    assert store.puts == []
    assert await object_states(database) == {image.object_key: ObjectState.LIVE}


async def test_an_image_in_the_trash_is_found_by_whoever_looks_there_and_by_nobody_else(
    renditions: Renditions, trash: Trash, image: Image, alice: Viewer
) -> None:
    before = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    await trash.delete(alice, [image.id])

    for name in (ORIGINAL, "320x-inside.jpeg"):
        with pytest.raises(NotFound):
            await renditions.find(image.id, digest_of(image), name)
    found = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg", in_trash=True)

    assert found == before


async def test_a_restored_image_is_found_where_it_was_and_no_more_in_the_trash(
    renditions: Renditions, trash: Trash, image: Image, alice: Viewer
) -> None:
    await trash.delete(alice, [image.id])
    await renditions.find(image.id, digest_of(image), "320x-inside.jpeg", in_trash=True)

    await trash.restore(alice, [image.id])

    with pytest.raises(NotFound):
        await renditions.find(image.id, digest_of(image), "320x-inside.jpeg", in_trash=True)
    assert await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")


async def test_a_purged_image_is_found_nowhere(
    renditions: Renditions, trash: Trash, store: MemoryStore, image: Image, alice: Viewer
) -> None:
    await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    await trash.delete(alice, [image.id])
    await trash.purge(alice, [image.id])

    for in_trash in (False, True):
        with pytest.raises(NotFound):
            await renditions.find(image.id, digest_of(image), ORIGINAL, in_trash=in_trash)
    assert store.objects == {}


async def test_an_earlier_version_is_found_under_its_own_name(
    renditions: Renditions, versions: Versions, store: MemoryStore, image: Image, alice: Viewer
) -> None:
    before = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    await versions.replace_image(alice, image.id, jpeg(200, 100, seed=9))

    after = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    original = await renditions.find(image.id, digest_of(image), ORIGINAL)

    assert after == before
    assert original.key == image.object_key


async def test_no_rendition_outlives_an_image_that_is_purged_meanwhile(
    renditions: Renditions,
    trash: Trash,
    keeper: Keeper,
    store: MemoryStore,
    database: Database,
    image: Image,
    alice: Viewer,
) -> None:
    store.hold()
    asking = asyncio.create_task(renditions.find(image.id, digest_of(image), "320x-inside.jpeg"))
    await store.reached.wait()
    await trash.delete(alice, [image.id])
    await trash.purge(alice, [image.id])

    store.let_go()
    with pytest.raises(NotFound):
        await asking

    assert ObjectState.LIVE not in (await object_states(database)).values()
    await keeper.sweep()
    assert await object_states(database) == {}
    assert store.objects == {}


# ---- previews ---------------------------------------------------------------------------------


async def put_preview(keeper: Keeper, viewer: Viewer, name: str, lives_for: timedelta) -> UUID:
    generation_id = uuid4()
    await keeper.put_live(
        f"generations/{generation_id}/{name}",
        b"preview",
        media_type="image/webp",
        of=Purpose(viewer.workspace_id, lives_for=lives_for),
    )
    return generation_id


async def test_a_preview_is_found_by_its_name(
    renditions: Renditions, keeper: Keeper, alice: Viewer
) -> None:
    id = await put_preview(keeper, alice, "1.webp", timedelta(hours=1))

    served = await renditions.preview(id, "1.webp")

    assert (served.key, served.media_type) == (f"generations/{id}/1.webp", "image/webp")
    assert (served.byte_size, served.etag) == (7, hashlib.sha256(b"preview").hexdigest())


@pytest.mark.parametrize("name", ["2.webp", "", "../1.webp", "%"])
async def test_a_preview_that_never_was_is_not_found(
    name: str, renditions: Renditions, keeper: Keeper, alice: Viewer
) -> None:
    id = await put_preview(keeper, alice, "1.webp", timedelta(hours=1))

    with pytest.raises(NotFound):
        await renditions.preview(id, name)


async def test_an_expired_preview_is_not_found_even_before_it_is_swept(
    renditions: Renditions, keeper: Keeper, alice: Viewer
) -> None:
    id = await put_preview(keeper, alice, "1.webp", timedelta(seconds=-1))

    with pytest.raises(NotFound):
        await renditions.preview(id, "1.webp")


# ---- at hand, and kept ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ORIGINAL, "320x-inside.jpeg", "320x-inside.auto"])
async def test_what_was_served_before_is_served_from_memory(
    name: str, renditions: Renditions, store: MemoryStore, image: Image
) -> None:
    first = await renditions.find(image.id, digest_of(image), name)
    store.is_down = True

    second = await renditions.find(image.id, digest_of(image), name)

    assert second == first
    assert second.data


async def test_alone_not_even_the_database_is_asked_for_what_is_at_hand(
    make: Make, database: Database, image: Image
) -> None:
    renditions = make(is_alone=True)
    first = await renditions.find(image.id, digest_of(image), ORIGINAL)
    async with database.writing() as session:  # behind our back
        await session.delete(await session.get(Image, image.id))

    assert await renditions.find(image.id, digest_of(image), ORIGINAL) == first


@pytest.mark.parametrize("memory_bytes", [0, 10**7])
async def test_alone_the_database_is_not_asked_again_even_for_what_is_not_in_memory(
    memory_bytes: int, make: Make, database: Database, image: Image
) -> None:
    renditions = make(is_alone=True, memory_bytes=memory_bytes)
    first = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    async with database.writing() as session:  # behind our back
        await session.delete(await session.get(Image, image.id))

    assert await renditions.find(image.id, digest_of(image), "320x-inside.jpeg") == first


async def test_bytes_that_went_away_are_not_found(
    make: Make, store: MemoryStore, image: Image
) -> None:
    renditions = make(is_alone=True, memory_bytes=0)
    first = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    del store.objects[first.key]

    with pytest.raises(NotFound):  # the row says that they are there
        await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")


@ON_SQLITE
@pytest.mark.parametrize("memory_bytes", [0, 10**7])
async def test_files_of_this_machine_are_at_hand_at_once(
    memory_bytes: int, database: Database, image: Image, store: MemoryStore, tmp_path: Path
) -> None:
    folder = LocalObjectStore(tmp_path / "objects")
    folder.open()
    await folder.put(image.object_key, store.objects[image.object_key], media_type="image/jpeg")
    renditions = Renditions(
        database,
        Keeper(database, folder, grace=timedelta(hours=1)),
        folder,
        threads=1,
        memory_bytes=memory_bytes,
        kept=100,
        is_alone=True,
    )
    place = place_of(image.id, digest_of(image), "320x-inside.auto", accept="", in_trash=False)
    before = renditions.at_hand(place)

    found = await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")

    assert before is None
    assert found.data
    assert renditions.at_hand(place) == found
    renditions.forget(image.id)
    assert renditions.at_hand(place) is None


async def test_nothing_is_at_hand_where_others_may_delete_it(make: Make, image: Image) -> None:
    renditions = make(is_alone=False)
    await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    place = place_of(image.id, digest_of(image), "320x-inside.jpeg", accept="", in_trash=False)

    assert renditions.at_hand(place) is None


@pytest.mark.parametrize("name", [ORIGINAL, "320x-inside.jpeg"])
async def test_a_deleted_image_is_not_served_from_memory(
    name: str, renditions: Renditions, trash: Trash, image: Image, alice: Viewer
) -> None:
    for _ in range(2):
        await renditions.find(image.id, digest_of(image), name)
    await trash.delete(alice, [image.id])

    with pytest.raises(NotFound):
        await renditions.find(image.id, digest_of(image), name)


async def test_what_another_process_has_deleted_is_not_served_from_memory(
    make: Make, database: Database, keeper: Keeper, image: Image, alice: Viewer
) -> None:
    renditions = make(is_alone=False)
    elsewhere = Trash(database, keeper, kept_for=timedelta(days=30))
    await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")
    await elsewhere.delete(alice, [image.id])

    with pytest.raises(NotFound):
        await renditions.find(image.id, digest_of(image), "320x-inside.jpeg")


async def test_what_was_being_read_when_its_image_was_deleted_does_not_stay_at_hand(
    renditions: Renditions,
    trash: Trash,
    store: MemoryStore,
    image: Image,
    alice: Viewer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    get = store.get

    async def slow(key: str) -> bytes:
        data = await get(key)
        reached.set()
        await go_on.wait()
        return data

    monkeypatch.setattr(store, "get", slow)
    reading = asyncio.create_task(renditions.find(image.id, digest_of(image), ORIGINAL))
    await reached.wait()
    await trash.delete(alice, [image.id])
    go_on.set()
    await reading

    with pytest.raises(NotFound):
        await renditions.find(image.id, digest_of(image), ORIGINAL)


async def test_a_large_file_is_named_and_not_held(
    renditions: Renditions, store: MemoryStore, database: Database, alice: Viewer
) -> None:
    stored, image = image_rows(alice, byte_size=IN_MEMORY + 1)
    await insert(database, (stored, image))
    store.is_down = True

    served = await renditions.find(image.id, digest_of(image), ORIGINAL)

    assert (served.key, served.byte_size, served.data) == (image.object_key, IN_MEMORY + 1, None)


async def test_no_more_objects_of_an_image_are_stored_than_are_kept(
    make: Make, store: MemoryStore, database: Database, image: Image
) -> None:
    """Its original is one of them."""
    renditions = make(kept=3, memory_bytes=0)

    served = [
        await renditions.find(image.id, digest_of(image), f"{width}x-inside.jpeg")
        for width in (100, 200, 300, 400, 300)
    ]

    assert [opened(each.data or b"").width for each in served] == [100, 200, 300, 400, 300]
    assert store.puts == [served[0].key, served[1].key]
    assert len(await object_states(database)) == 3
    assert served[4] == served[2]


def held(name: str, size: int) -> Served:
    return Served(name, "image/jpeg", size, name, bytes(size))


def test_the_least_recently_used_goes_first_from_memory() -> None:
    at_hand, owner = AtHand(250), uuid4()
    for name in ("a", "b"):
        at_hand.put(name, owner, held(name, 100))
    at_hand.get("a")

    at_hand.put("c", owner, held("c", 100))

    found = {name: at_hand.get(name) for name in "abc"}
    assert found == {
        "a": held("a", 100),
        "b": replace(held("b", 100), data=None),
        "c": held("c", 100),
    }


def test_of_too_many_names_the_least_recently_used_goes() -> None:
    at_hand, owner = AtHand(1000, max_names=2), uuid4()
    for name in ("a", "b"):
        at_hand.put(name, owner, held(name, 100))
    at_hand.get("a")

    at_hand.put("c", owner, held("c", 100))

    assert [name for name in "abc" if at_hand.get(name)] == ["a", "c"]


def test_what_cannot_be_read_again_goes_with_its_bytes() -> None:
    at_hand, owner = AtHand(250), uuid4()
    for name in ("a", "b", "c"):
        at_hand.put(name, owner, replace(held(name, 100), kept=False))
    at_hand.put("large", owner, replace(held("large", 300), kept=False))

    assert [name for name in ("a", "b", "c", "large") if at_hand.get(name)] == ["b", "c"]


def test_bytes_are_held_only_of_what_is_named_and_has_not_changed() -> None:
    at_hand, owner = AtHand(250), uuid4()
    at_hand.put("named", owner, replace(held("named", 100), data=None))

    at_hand.hold("named", replace(held("named", 100), etag="of other bytes"))
    at_hand.hold("unknown", held("unknown", 100))
    before = [at_hand.get(name) for name in ("named", "unknown")]
    at_hand.hold("named", held("named", 100))

    assert before == [replace(held("named", 100), data=None), None]
    assert at_hand.get("named") == held("named", 100)


def test_what_is_too_large_for_memory_pushes_nothing_out() -> None:
    at_hand, owner = AtHand(2 * IN_MEMORY), uuid4()
    at_hand.put("small", owner, held("small", 100))

    at_hand.put("large", owner, held("large", IN_MEMORY + 1))
    at_hand.put("named", owner, Served("named", "image/jpeg", 5, "named"))

    assert [at_hand.get(name) for name in ("small", "large", "named")] == [
        held("small", 100),
        replace(held("large", IN_MEMORY + 1), data=None),
        Served("named", "image/jpeg", 5, "named"),
    ]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 60), st.sampled_from(["put", "drop"])),
        max_size=60,
    )
)
def test_memory_holds_at_most_its_bytes_and_nothing_that_was_dropped(
    steps: list[tuple[str, int, str]],
) -> None:
    at_hand = AtHand(100)
    owners = {name: UUID(int=number % 3) for number, name in enumerate("abcdef")}

    for name, size, step in steps:
        if step == "put":
            at_hand.put(name, owners[name], held(name, size))
        else:
            at_hand.drop(owners[name])
            assert [at_hand.get(each) for each in owners if owners[each] == owners[name]] == [
                None,
                None,
            ]
        found = [served for each in owners if (served := at_hand.get(each))]
        assert sum(len(served.data or b"") for served in found) <= 100


# ---- what a rendition will be -----------------------------------------------------------------


def image_of(width: int, height: int, focal: tuple[float, float] | None = None) -> Image:
    return Image(
        workspace_id=uuid4(),
        origin=ImageOrigin.UPLOADED,
        media_type="image/jpeg",
        byte_size=1,
        sha256="0" * 64,
        source_media_type="image/jpeg",
        source_sha256="0" * 64,
        width=width,
        height=height,
        frames=1,
        has_alpha=False,
        declares_ai=False,
        has_c2pa=False,
        dominant_color="#000000",
        thumbhash="",
        perceptual_hash="0" * 16,
        focal_x=focal[0] if focal else None,
        focal_y=focal[1] if focal else None,
        object_key="",
    )


Fractions = st.floats(0, 1, allow_nan=False)
Images = st.builds(
    image_of,
    st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.none() | st.tuples(Fractions, Fractions),
)
Sides = st.integers(1, MAX_SIDE)


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """What `Rendition.of` takes, as it can be."""
    fit = draw(st.sampled_from(Fit))
    needs_both = fit is not Fit.INSIDE
    width = draw(Sides if needs_both else st.none() | Sides)
    height = draw(Sides if needs_both or width is None else st.none() | Sides)
    return {
        "width": width,
        "height": height,
        "fit": fit,
        "format": draw(st.sampled_from(ImageFormat)),
        "quality": draw(st.none() | st.integers(1, 100)),
    }


@given(image=Images, width=Sides)
def test_a_rendition_of_a_width_is_in_proportion_and_never_enlarged(
    image: Image, width: int
) -> None:
    rendition = Rendition.of(image, width=width)

    actual, height = rendition.size(image)
    assert actual == rendition.width == min(width, image.width)
    assert 1 <= height <= image.height
    assert abs(height - image.height * actual / image.width) <= 1


@given(image=Images, asked=asked())
def test_a_rendition_is_known_by_its_name(image: Image, asked: dict[str, Any]) -> None:
    rendition = Rendition.of(image, **asked)

    assert Rendition.parse(rendition.name) == rendition
    assert len(rendition_key(uuid4(), "0" * 64, rendition.name)) < 255


@given(
    name=st.text(max_size=20)
    | st.from_regex(
        r"[0-9]{0,5}x[0-9]{0,5}-(inside|cover|contain|pad)(-f[0-9]{1,4}_[0-9]{1,4})?(-q[0-9]{1,3})?"
        r"\.(auto|jpeg|webp|avif|png)",
        fullmatch=True,
    )
)
def test_a_name_that_is_taken_is_one_that_is_given(name: str) -> None:
    rendition = Rendition.parse(name)

    if rendition is not None:
        x, y = rendition.focal or (0, 0)
        image = image_of(MAX_SIDE, MAX_SIDE, (x / 1000, y / 1000) if rendition.focal else None)
        again = Rendition.of(
            image,
            width=rendition.width,
            height=rendition.height,
            fit=rendition.fit,
            format=rendition.format,
            quality=rendition.quality,
        )
        assert (rendition.name, again) == (name, rendition)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"width": 320}, "320x-inside.auto"),
        ({"width": 9 * 100}, "640x-inside.auto"),
        ({"height": 100, "format": ImageFormat.PNG}, "x100-inside.png"),
        ({"width": 100, "height": 50, "quality": 7}, "100x50-inside-q7.auto"),
        (
            {"width": 1080, "height": 1350, "fit": Fit.COVER, "format": ImageFormat.WEBP},
            "1080x1350-cover-f500_300.webp",
        ),
        ({"width": 50, "height": 50, "fit": Fit.PAD}, "50x50-pad.auto"),
    ],
)
def test_a_name_tells_what_a_rendition_is(asked: dict[str, Any], name: str) -> None:
    assert Rendition.of(image_of(640, 480, (0.5, 0.3)), **asked).name == name


@pytest.mark.parametrize(
    ("asked", "field", "limit"),
    [
        ({}, "width", None),
        ({"width": 0}, "width", 1),
        ({"width": MAX_SIDE + 1}, "width", MAX_SIDE),
        ({"width": 10, "height": -1}, "height", 1),
        ({"height": MAX_SIDE + 1}, "height", MAX_SIDE),
        ({"width": 10, "fit": Fit.COVER}, "fit", None),
        ({"height": 10, "fit": Fit.PAD}, "fit", None),
        ({"width": 10, "quality": 0}, "quality", 1),
        ({"width": 10, "quality": 101}, "quality", 100),
    ],
)
def test_what_cannot_be_is_rejected(asked: dict[str, Any], field: str, limit: int | None) -> None:
    with pytest.raises(Rejected) as refused:
        Rendition.of(image_of(640, 480), **asked)

    assert (refused.value.field, refused.value.limit) == (field, limit)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", ImageFormat.AVIF),
        ("image/webp,*/*", ImageFormat.WEBP),
        ("image/webp;q=0.9, IMAGE/AVIF ; q=0.5", ImageFormat.AVIF),
        ("*/*", ImageFormat.JPEG),
        ("", ImageFormat.JPEG),
        ("text/html", ImageFormat.JPEG),
        ("image/avifx, ,;,", ImageFormat.JPEG),
        ("image/avif;q=0, image/webp", ImageFormat.WEBP),
        ("image/avif;q=0.0,image/webp; q=0", ImageFormat.JPEG),
        ("image/avif;q=0.5", ImageFormat.AVIF),
    ],
)
def test_auto_is_decided_by_what_the_client_accepts(accept: str, format: ImageFormat) -> None:
    auto = Rendition(width=320, quality=50)

    decided = auto.encoded_for(accept)

    assert decided == Rendition(width=320, quality=50, format=format)
    assert (auto.media_type, decided.media_type) == (None, f"image/{format}")


@pytest.mark.parametrize("format", [each for each in ImageFormat if each is not ImageFormat.AUTO])
def test_a_format_that_was_asked_for_stays(format: ImageFormat) -> None:
    rendition = Rendition(width=320, format=format)

    assert rendition.encoded_for("image/avif,image/webp") == rendition


@pytest.mark.parametrize(
    ("accept", "kind"), [("image/avif", "AVIF"), ("image/webp", "WEBP"), ("*/*", "JPEG")]
)
async def test_auto_is_kept_under_the_name_of_what_it_became(
    accept: str, kind: str, renditions: Renditions, image: Image
) -> None:
    served = await renditions.find(image.id, digest_of(image), "64x-inside.auto", accept=accept)

    assert served.key.endswith(f"/64x-inside.{kind.lower()}")
    assert served.media_type == f"image/{kind.lower()}"
    assert opened(served.data or b"").format == kind


@pytest.mark.parametrize("format", [each for each in ImageFormat if each is not ImageFormat.AUTO])
async def test_what_is_served_has_the_size_and_type_that_were_told(
    format: ImageFormat, renditions: Renditions, image: Image
) -> None:
    rendition = Rendition.of(image, height=33, format=format)

    served = await renditions.find(image.id, digest_of(image), rendition.name)

    assert served.media_type == rendition.media_type
    assert opened(served.data or b"").size == rendition.size(image)


# ---- ladders ----------------------------------------------------------------------------------


def test_a_ladder_goes_up_and_ends_with_the_picture_itself() -> None:
    rungs = ladder(image_of(700, 350), [1280, 320, 640, 320, 2048], ImageFormat.WEBP)

    assert [rung.name for rung in rungs] == [
        "320x-inside.webp",
        "640x-inside.webp",
        "700x-inside.webp",
    ]


@given(image=Images, widths=st.lists(Sides, min_size=1, max_size=MAX_LADDER))
def test_no_two_rungs_of_a_ladder_are_equally_wide(image: Image, widths: list[int]) -> None:
    sizes = [rung.size(image)[0] for rung in ladder(image, widths, ImageFormat.AUTO)]

    assert sizes == sorted({min(width, image.width) for width in widths})


@pytest.mark.parametrize("widths", [[], [100] * (MAX_LADDER + 1)])
def test_a_ladder_of_no_or_too_many_rungs_is_rejected(widths: list[int]) -> None:
    with pytest.raises(Rejected) as refused:
        ladder(image_of(640, 480), widths, ImageFormat.AUTO)

    assert (refused.value.field, refused.value.limit) == ("widths", MAX_LADDER)


@pytest.mark.parametrize("width", [0, -1, MAX_SIDE + 1])
def test_a_rung_that_cannot_be_is_rejected(width: int) -> None:
    with pytest.raises(Rejected) as refused:
        ladder(image_of(640, 480), [100, width], ImageFormat.AUTO)

    assert refused.value.actual == width


@pytest.mark.parametrize(
    ("width", "media_type", "name"),
    [
        (5000, "image/jpeg", "640x-inside.jpeg"),
        (640, "image/webp", "640x-inside.webp"),
        (100, "image/jpeg", "100x-inside.jpeg"),
    ],
)
def test_the_grid_rendition_is_one_like_any_other(width: int, media_type: str, name: str) -> None:
    assert grid_rendition(width, media_type) == name
    format = ImageFormat(media_type.removeprefix("image/"))
    assert Rendition.of(image_of(width, 10), width=640, format=format).name == name
    assert Rendition.parse(name) is not None


@ON_SQLITE
async def test_the_grid_rendition_is_there_when_the_image_is(
    library: Library, renditions: Renditions, store: MemoryStore, alice: Viewer
) -> None:
    image = (await library.add_image(alice, jpeg(960, 720), NewImage())).image
    puts = list(store.puts)

    served = await renditions.find(image.id, digest_of(image), "640x-inside.jpeg")

    assert opened(served.data or b"").size == (640, 480)
    assert store.puts == puts
