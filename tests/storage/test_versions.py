"""Other bytes for an image: the same image, with its earlier bytes kept. On both databases."""

import asyncio
from uuid import uuid4

import pytest
from sqlmodel import select

from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.errors import Conflict, CorruptFile, DuplicateImage, NotFound
from storage.intake import Intake
from storage.keeper import Keeper
from storage.library import Library, NewImage
from storage.models import Attachment, ContentState, Image
from storage.objects.local import LocalObjectStore
from storage.search import ImageFilter
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg, png
from tests.storage.conftest import Ear
from tests.storage.rows import object_states, stored_files

JPEGS = [jpeg(120 + 10 * n, 90, seed=n) for n in range(6)]


@pytest.fixture
async def image(library: Library, alice: Viewer) -> Image:
    return (await library.add_image(alice, JPEGS[0], NewImage("beach.jpg", tags=["sea"]))).image


@pytest.fixture
def contents(database: Database) -> Contents:
    return Contents(database)


async def replace(versions: Versions, viewer: Viewer, image: Image, *files: bytes) -> Image:
    for file in files:
        image = (await versions.replace_image(viewer, image.id, file)).image
    return image


async def widths(versions: Versions, viewer: Viewer, image: Image) -> list[int]:
    """The widths of the earlier versions, the newest first: 120 is JPEGS[0], 130 is JPEGS[1] …"""
    (rows,) = await versions.of_images(viewer, [image.id])
    return [row.width for row in rows]


async def test_an_image_stays_the_same_with_other_bytes(
    versions: Versions, library: Library, store: LocalObjectStore, image: Image, alice: Viewer
) -> None:
    await versions.replace_image(alice, image.id, png(200, 100), filename="sea.png")

    after = await library.image(alice, image.id)
    assert (after.width, after.height, after.media_type) == (200, 100, "image/png")
    assert (after.filename, after.tags, after.created_at) == ("sea.png", ["sea"], image.created_at)
    assert after.version == image.version + 1
    assert after.object_key != image.object_key
    assert await store.size(after.object_key) == after.byte_size


async def test_it_is_found_by_its_new_name(
    versions: Versions, library: Library, image: Image, alice: Viewer
) -> None:
    await versions.replace_image(alice, image.id, JPEGS[1], filename="forest.jpg")

    assert await library.count_images(alice, ImageFilter(search="forest")) == 1
    assert await library.count_images(alice, ImageFilter(search="beach")) == 0


async def test_what_it_had_before_stays_as_an_earlier_version(
    versions: Versions, store: LocalObjectStore, image: Image, alice: Viewer
) -> None:
    await replace(versions, alice, image, JPEGS[1], JPEGS[2])

    assert await widths(versions, alice, image) == [130, 120]
    (rows,) = await versions.of_images(alice, [image.id])
    for row in rows:
        assert await store.size(row.object_key) == row.byte_size


async def test_too_many_earlier_versions_go_with_their_bytes_the_oldest_first(
    versions: Versions,
    keeper: Keeper,
    store: LocalObjectStore,
    database: Database,
    image: Image,
    alice: Viewer,
) -> None:
    await replace(versions, alice, image, *JPEGS[1:5])  # two are kept, beside the last
    await keeper.sweep()

    assert await widths(versions, alice, image) == [150, 140]
    assert len(await object_states(database)) == 6  # three files, each with its grid size
    assert len(stored_files(store)) == 6


async def test_what_something_published_shows_is_kept_for_as_long(
    versions: Versions, contents: Contents, keeper: Keeper, image: Image, alice: Viewer
) -> None:
    post = await contents.save(alice, ContentPatch(external_id="post"))
    await contents.attach(alice, post.id, [image.id])
    published = ContentPatch(external_id="post", state=ContentState.PUBLISHED)
    await contents.save(alice, published)

    await replace(versions, alice, image, *JPEGS[1:6])
    await keeper.sweep()

    assert await widths(versions, alice, image) == [160, 150, 120]
    ((attachment,),) = await contents.attachments_of_contents(alice, [post.id])
    assert attachment.published_sha256 == image.sha256


async def test_a_draft_shows_what_the_image_is_now(
    versions: Versions, contents: Contents, image: Image, alice: Viewer, database: Database
) -> None:
    post = await contents.save(alice, ContentPatch(external_id="post"))
    await contents.attach(alice, post.id, [image.id])

    await replace(versions, alice, image, JPEGS[1])

    async with database.reading() as session:
        (attachment,) = (await session.exec(select(Attachment))).all()
    assert (attachment.image_id, attachment.published_sha256) == (image.id, None)


async def test_its_own_bytes_again_change_nothing(
    versions: Versions, library: Library, keeper: Keeper, image: Image, alice: Viewer
) -> None:
    added = await versions.replace_image(alice, image.id, JPEGS[0])
    await keeper.sweep()

    assert added.is_duplicate
    assert (await library.image(alice, image.id)).version == image.version
    assert await widths(versions, alice, image) == []


async def test_bytes_it_had_before_can_come_back(
    versions: Versions,
    library: Library,
    keeper: Keeper,
    store: LocalObjectStore,
    image: Image,
    alice: Viewer,
) -> None:
    await replace(versions, alice, image, JPEGS[1], JPEGS[0])
    await keeper.sweep()

    after = await library.image(alice, image.id)
    assert (after.sha256, after.object_key) == (image.sha256, image.object_key)
    assert await widths(versions, alice, image) == [130]
    assert await store.size(after.object_key) == after.byte_size


async def test_bytes_of_another_image_are_refused(
    versions: Versions, library: Library, keeper: Keeper, image: Image, alice: Viewer
) -> None:
    other = (await library.add_image(alice, JPEGS[1], NewImage())).image

    with pytest.raises(DuplicateImage) as refused:
        await versions.replace_image(alice, image.id, JPEGS[1])

    assert refused.value.image_id == other.id
    await keeper.sweep()
    assert (await library.image(alice, image.id)).sha256 == image.sha256


async def test_a_refused_file_leaves_the_image_as_it_is(
    versions: Versions,
    library: Library,
    store: LocalObjectStore,
    image: Image,
    alice: Viewer,
) -> None:
    before = stored_files(store)

    with pytest.raises(CorruptFile):
        await versions.replace_image(alice, image.id, JPEGS[1][:500])

    assert (await library.image(alice, image.id)).version == image.version
    assert stored_files(store) == before


async def test_an_image_in_the_trash_is_not_replaced(
    versions: Versions, trash: Trash, image: Image, alice: Viewer
) -> None:
    await trash.delete(alice, [image.id])

    with pytest.raises(Conflict, match="Restore it first"):
        await versions.replace_image(alice, image.id, JPEGS[1])


async def test_an_image_that_was_deleted_meanwhile_is_not_replaced_and_nothing_is_left(
    database: Database,
    keeper: Keeper,
    intake: Intake,
    store: LocalObjectStore,
    trash: Trash,
    image: Image,
    alice: Viewer,
) -> None:
    class Slow:
        """A file that comes while somebody else deletes the image for good."""

        data: bytes | None = JPEGS[1]

        async def read(self, size: int = -1, /) -> bytes:
            await trash.delete(alice, [image.id])
            await trash.purge(alice, [image.id])
            data, self.data = self.data, b""
            return data or b""

    versions = Versions(database, keeper, intake, kept=2)

    with pytest.raises(NotFound):
        await versions.replace_image(alice, image.id, Slow())

    await keeper.sweep()
    assert await object_states(database) == {}
    assert stored_files(store) == []


async def test_an_image_is_replaced_only_in_the_version_that_was_seen(
    versions: Versions, image: Image, alice: Viewer
) -> None:
    with pytest.raises(Conflict):
        await versions.replace_image(alice, image.id, JPEGS[1], expected_version=7)

    await versions.replace_image(alice, image.id, JPEGS[1], expected_version=image.version)


async def test_of_replacements_at_once_each_wins_in_its_turn_and_nothing_is_lost(
    versions: Versions,
    library: Library,
    keeper: Keeper,
    store: LocalObjectStore,
    database: Database,
    image: Image,
    alice: Viewer,
) -> None:
    answers = await asyncio.gather(
        *(versions.replace_image(alice, image.id, file) for file in JPEGS[1:4])
    )
    await keeper.sweep()

    after = await library.image(alice, image.id)
    assert after.version == image.version + len(answers)
    assert len(await widths(versions, alice, image)) == 2
    assert len(await object_states(database)) == len(stored_files(store)) == 6


async def test_those_who_have_its_bytes_at_hand_are_told(
    database: Database, keeper: Keeper, intake: Intake, image: Image, alice: Viewer
) -> None:
    ear = Ear()
    versions = Versions(database, keeper, intake, kept=2, changed=ear)

    await versions.replace_image(alice, image.id, JPEGS[0])
    assert ear.told == []
    await versions.replace_image(alice, image.id, JPEGS[1])

    assert ear.told == [image.id]


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
async def test_an_image_of_another_workspace_does_not_exist(
    whose: str, versions: Versions, image: Image, alice: Viewer, bob: Viewer
) -> None:
    await replace(versions, alice, image, JPEGS[1])
    id = image.id if whose == "another's" else uuid4()

    with pytest.raises(NotFound):
        await versions.replace_image(bob, id, JPEGS[2])

    assert await versions.of_images(bob, [id]) == [[]]
    assert await widths(versions, alice, image) == [120]
