"""An AI picture says so, in its file and in every rendition; what is kept is sealed last of all."""

import asyncio
import hashlib
from datetime import timedelta
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from storage.containers import is_sealed
from storage.database import Database
from storage.intake import Intake
from storage.keeper import Keeper, Purpose
from storage.library import Library, NewImage
from storage.marks import Mark, combined
from storage.models import Image, ImageOrigin, ObjectState, StoredObject
from storage.objects.local import LocalObjectStore
from storage.renditions import DIGEST, ORIGINAL, Renditions
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import encoded, jpeg, opened, photo
from tests.storage.rows import ON_SQLITE, object_states, stored_files

AI = NewImage(origin=ImageOrigin.GENERATED, is_ai_generated=True)
EDITED = NewImage(origin=ImageOrigin.GENERATED, mark=Mark.COMPOSITE)
RENDITIONS = ["160x-inside.jpeg", "160x-inside.webp", "160x-inside.avif", "160x-inside.png"]


SEAL = b"jumdc2pa"


class Seals:
    """A Seal that no two files have alike, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mark, bytes | None, bool]] = []

    def __call__(
        self,
        data: bytes,
        media_type: str,
        mark: Mark,
        *,
        parent: tuple[bytes, str] | None = None,
        dated: bool = True,
    ) -> bytes:
        self.asked.append((media_type, mark, parent and parent[0], dated))
        if media_type == "image/jpeg":
            return with_manifest(data, uuid4().bytes)
        return data + SEAL + uuid4().bytes


@pytest.fixture
def seals() -> Seals:
    return Seals()


@pytest.fixture
def sealing(database: Database, keeper: Keeper, intake: Intake, seals: Seals) -> Library:
    return Library(database, keeper, intake, seal=seals)


@pytest.fixture
def sealed_renditions(
    database: Database, keeper: Keeper, store: LocalObjectStore, seals: Seals
) -> Renditions:
    return renditions_of(database, keeper, store, seals)


def renditions_of(
    database: Database, keeper: Keeper, store: LocalObjectStore, seals: Seals | None
) -> Renditions:
    return Renditions(
        database, keeper, store, threads=2, memory_bytes=0, kept=100, is_alone=False, seal=seals
    )


def mark_in(data: bytes) -> object:
    """As Pillow and expat read it; None without XMP."""
    packet = opened(data).info.get("xmp")
    if packet is None:
        return None
    (described,) = ElementTree.fromstring(packet).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    return described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")


async def served(renditions: Renditions, image: Image, name: str) -> bytes:
    found = await renditions.find(image.id, image.sha256[:DIGEST], name)
    assert found.data is not None
    return found.data


def with_manifest(data: bytes, more: bytes = b"") -> bytes:
    """A JPEG with a segment of C2PA's, of which nobody reads more than its name."""
    box = b"JP\0\1\0\0\0\1\0\0\0\x30jumb" + SEAL + more
    return data[:2] + b"\xff\xeb" + (len(box) + 2).to_bytes(2, "big") + box + data[2:]


# ---- the mark itself --------------------------------------------------------------------------


@pytest.mark.parametrize("mark", Mark)
def test_the_packet_is_xml_that_says_one_thing(mark: Mark) -> None:
    root = ElementTree.fromstring(mark.packet)

    (description,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description.attrib == {
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about": "",
        "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": mark.uri,
    }
    assert mark.uri == f"http://cv.iptc.org/newscodes/digitalsourcetype/{mark}"
    assert len(mark.packet) < 500


def test_nothing_that_is_said_takes_a_mark_away_and_composite_stays() -> None:
    assert combined() is None
    assert combined(None, None) is None
    assert combined(None, Mark.TRAINED) is Mark.TRAINED
    assert combined(Mark.TRAINED, Mark.COMPOSITE, None) is Mark.COMPOSITE
    assert combined(Mark.COMPOSITE, Mark.TRAINED) is Mark.COMPOSITE


# ---- files in the library ---------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    ("new", "mark"),
    [(AI, Mark.TRAINED), (EDITED, Mark.COMPOSITE)],
    ids=["by AI", "edited by AI"],
)
async def test_a_generated_picture_and_all_its_renditions_say_so(
    library: Library,
    renditions: Renditions,
    alice: Viewer,
    new: NewImage,
    mark: Mark,
    format: str,
) -> None:
    image = (await library.add_image(alice, encoded(photo(), format), new)).image

    assert (image.is_ai_generated, image.declares_ai) == (True, False)
    for name in (ORIGINAL, *RENDITIONS):
        assert mark_in(await served(renditions, image, name)) == mark.uri


@ON_SQLITE
async def test_the_renditions_of_a_gif_say_what_it_cannot(
    library: Library, renditions: Renditions, alice: Viewer
) -> None:
    image = (await library.add_image(alice, encoded(photo(), "GIF"), AI)).image

    assert mark_in(await served(renditions, image, ORIGINAL)) is None
    for name in RENDITIONS:
        assert mark_in(await served(renditions, image, name)) == Mark.TRAINED.uri


@ON_SQLITE
async def test_an_uploaded_picture_that_says_so_keeps_saying_so(
    library: Library, renditions: Renditions, alice: Viewer
) -> None:
    sent = jpeg(xmp=Mark.COMPOSITE.packet.replace(b"rdf:about", b"rdf:secret='4711' rdf:about"))

    image = (await library.add_image(alice, sent, NewImage())).image

    assert (image.is_ai_generated, image.declares_ai) == (True, True)
    for name in (ORIGINAL, *RENDITIONS):
        data = await served(renditions, image, name)
        assert mark_in(data) == Mark.COMPOSITE.uri
        assert b"4711" not in data


@ON_SQLITE
async def test_the_grid_rendition_says_so_from_the_first(
    library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    await library.add_image(alice, jpeg(), AI)

    files = [await store.get(key) for key in stored_files(store)]
    assert [mark_in(data) for data in files] == [Mark.TRAINED.uri] * 2


@ON_SQLITE
async def test_other_pictures_say_nothing(
    library: Library, renditions: Renditions, alice: Viewer
) -> None:
    image = (await library.add_image(alice, jpeg(), NewImage())).image

    for name in (ORIGINAL, *RENDITIONS):
        assert mark_in(await served(renditions, image, name)) is None


@ON_SQLITE
async def test_a_marked_file_that_comes_back_is_known(
    library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    image = (await library.add_image(alice, jpeg(), AI)).image
    kept = await store.get(image.object_key)

    again = await library.add_image(alice, kept, NewImage())

    assert again.is_duplicate
    assert again.image.id == image.id


@ON_SQLITE
async def test_what_takes_the_place_of_an_ai_picture_is_marked(
    library: Library, versions: Versions, renditions: Renditions, alice: Viewer
) -> None:
    image = (await library.add_image(alice, jpeg(), AI)).image

    replaced = (await versions.replace_image(alice, image.id, jpeg(seed=2))).image

    for name in (ORIGINAL, *RENDITIONS):
        assert mark_in(await served(renditions, replaced, name)) == Mark.TRAINED.uri


@ON_SQLITE
async def test_a_photo_whose_later_version_is_by_ai_stays_a_photo(
    library: Library, versions: Versions, renditions: Renditions, alice: Viewer
) -> None:
    photographed = (await library.add_image(alice, jpeg(), NewImage())).image
    sent = jpeg(seed=2, xmp=Mark.TRAINED.packet)

    replaced = (await versions.replace_image(alice, photographed.id, sent)).image

    assert replaced.is_ai_generated
    assert mark_in(await served(renditions, replaced, RENDITIONS[0])) == Mark.TRAINED.uri
    assert mark_in(await served(renditions, photographed, RENDITIONS[0])) is None


# ---- seals ------------------------------------------------------------------------------------


@ON_SQLITE
async def test_a_generated_picture_is_sealed_before_it_is_kept(
    sealing: Library, seals: Seals, store: LocalObjectStore, database: Database, alice: Viewer
) -> None:
    image = (await sealing.add_image(alice, jpeg(), EDITED)).image

    assert seals.asked == [
        ("image/jpeg", Mark.COMPOSITE, None, True),
        ("image/jpeg", Mark.COMPOSITE, None, False),  # the grid rendition
    ]
    data = await store.get(image.object_key)
    assert is_sealed(data)
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert image.byte_size == len(data)
    assert image.sha256 in image.object_key
    await assert_rows_tell_of_their_bytes(database, store)


@ON_SQLITE
async def test_a_manifest_of_its_maker_is_kept_within_the_seal(
    sealing: Library, seals: Seals, alice: Viewer
) -> None:
    sent = with_manifest(jpeg())

    image = (await sealing.add_image(alice, sent, AI)).image

    assert image.has_c2pa
    assert [parent for _, _, parent, _ in seals.asked] == [sent, None]


@ON_SQLITE
async def test_what_only_claims_to_be_by_ai_is_marked_but_not_sealed(
    sealing: Library,
    sealed_renditions: Renditions,
    seals: Seals,
    alice: Viewer,
) -> None:
    sent = with_manifest(jpeg(xmp=Mark.TRAINED.packet))

    image = (await sealing.add_image(alice, sent, NewImage())).image

    assert (image.declares_ai, image.has_c2pa) == (True, True)
    for name in (ORIGINAL, *RENDITIONS):
        data = await served(sealed_renditions, image, name)
        assert mark_in(data) == Mark.TRAINED.uri
        assert SEAL not in data
    assert seals.asked == []


@ON_SQLITE
async def test_the_same_picture_generated_twice_is_one(sealing: Library, alice: Viewer) -> None:
    first = await sealing.add_image(alice, jpeg(), AI)

    second = await sealing.add_image(alice, jpeg(), AI)

    assert second.is_duplicate
    assert second.image.id == first.image.id


@ON_SQLITE
async def test_a_sealed_file_that_comes_back_is_known(
    sealing: Library, versions: Versions, store: LocalObjectStore, alice: Viewer
) -> None:
    image = (await sealing.add_image(alice, jpeg(), AI)).image
    kept = await store.get(image.object_key)

    again = await sealing.add_image(alice, kept, NewImage())
    replaced = await versions.replace_image(alice, image.id, kept)

    assert (again.is_duplicate, again.image.id) == (True, image.id)
    assert (replaced.is_duplicate, replaced.image.sha256) == (True, image.sha256)


@ON_SQLITE
async def test_the_renditions_of_a_sealed_picture_are_sealed(
    sealing: Library,
    sealed_renditions: Renditions,
    database: Database,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    image = (await sealing.add_image(alice, jpeg(), AI)).image

    for name in RENDITIONS:
        data = await served(sealed_renditions, image, name)
        assert SEAL in data
        assert await served(sealed_renditions, image, name) == data
    await assert_rows_tell_of_their_bytes(database, store)


@ON_SQLITE
async def test_renditions_lose_no_mark_where_the_seal_is_gone(
    sealing: Library, renditions: Renditions, alice: Viewer
) -> None:
    image = (await sealing.add_image(alice, jpeg(), AI)).image

    data = await served(renditions, image, RENDITIONS[0])

    assert mark_in(data) == Mark.TRAINED.uri
    assert SEAL not in data


async def test_of_processes_that_seal_the_same_rendition_one_keeps_its_own(
    sealing: Library,
    seals: Seals,
    database: Database,
    keeper: Keeper,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    image = (await sealing.add_image(alice, jpeg(), AI)).image
    processes = [renditions_of(database, keeper, store, seals) for _ in range(5)]

    answers = await asyncio.gather(
        *(served(process, image, "160x-inside.jpeg") for process in processes)
    )

    assert {mark_in(answer) for answer in answers} == {Mark.TRAINED.uri}
    assert set((await object_states(database)).values()) == {ObjectState.LIVE}
    await assert_rows_tell_of_their_bytes(database, store)
    assert await served(processes[0], image, "160x-inside.jpeg") in answers


@ON_SQLITE
async def test_a_rendition_that_a_crash_left_half_kept_is_served_and_not_written_over(
    sealing: Library,
    sealed_renditions: Renditions,
    database: Database,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    image = (await sealing.add_image(alice, jpeg(), AI)).image
    key = f"images/{image.id}/{image.sha256[:DIGEST]}/160x-inside.jpeg"
    async with database.writing() as session:
        session.add(
            StoredObject(
                key=key,
                workspace_id=alice.workspace_id,
                state=ObjectState.PENDING,
                media_type="image/jpeg",
                byte_size=4,
                sha256=hashlib.sha256(b"left").hexdigest(),
                image_id=image.id,
            )
        )
    await store.put(key, b"left", media_type="image/jpeg")

    data = await served(sealed_renditions, image, "160x-inside.jpeg")

    assert opened(data).width == 160
    assert await store.get(key) == b"left"
    assert (await object_states(database))[key] is ObjectState.PENDING


async def assert_rows_tell_of_their_bytes(database: Database, store: LocalObjectStore) -> None:
    for key in await object_states(database):
        data = await store.get(key)
        async with database.reading() as session:
            row = await session.get(StoredObject, key)
        assert row is not None
        assert (row.byte_size, row.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@ON_SQLITE
async def test_a_sealed_file_that_a_crash_left_without_its_image_is_taken_in_under_another_key(
    sealing: Library,
    keeper: Keeper,
    database: Database,
    store: LocalObjectStore,
    seals: Seals,
    alice: Viewer,
) -> None:
    id = uuid4()
    data = seals(jpeg(xmp=Mark.TRAINED.packet), "image/jpeg", Mark.TRAINED)
    sha256 = hashlib.sha256(data).hexdigest()
    left = f"images/{id}/{sha256}.jpg"
    of = Purpose(alice.workspace_id, image_id=id)
    await keeper.put(left, data, media_type="image/jpeg", sha256=sha256, size=len(data), of=of)

    image = (await sealing.add_image(alice, await store.get(left), AI, id=id)).image

    assert image.id == id
    assert image.object_key != left
    states = await object_states(database)
    assert (states[image.object_key], states[left]) == (ObjectState.LIVE, ObjectState.PENDING)
    assert mark_in(await store.get(image.object_key)) == Mark.TRAINED.uri
    await assert_rows_tell_of_their_bytes(database, store)

    await Keeper(database, store, grace=timedelta(0)).sweep()

    assert set((await object_states(database)).values()) == {ObjectState.LIVE}
    assert left not in stored_files(store)
