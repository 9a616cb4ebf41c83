"""The trash: deleted images wait there, come back as they were, or go. On both databases."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import select

from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.errors import Conflict, DuplicateImage, ImageInUse, NotFound, Rejected
from storage.keeper import Keeper
from storage.library import Library, NewImage
from storage.models import FormerPlace, Image, ImageTag, ImageVersion, ObjectState, now
from storage.objects.local import LocalObjectStore
from storage.renditions import DIGEST, Renditions
from storage.search import ImageFilter
from storage.trash import MAX_IDS, Trash
from storage.versions import Versions
from storage.viewers import Viewer
from tests.pictures import jpeg
from tests.storage.conftest import Ear
from tests.storage.rows import insert_images, object_states, stored_files

ANY = ImageFilter()
DELETED = ImageFilter(is_deleted=True)


@pytest.fixture
def contents(database: Database) -> Contents:
    return Contents(database)


@pytest.fixture
def renditions(database: Database, keeper: Keeper, store: LocalObjectStore) -> Renditions:
    return Renditions(database, keeper, store, threads=1, memory_bytes=0, kept=10, is_alone=False)


async def post(contents: Contents, viewer: Viewer, name: str, images: list[UUID]) -> UUID:
    content = await contents.save(viewer, ContentPatch(external_id=name))
    if images:
        await contents.attach(viewer, content.id, images)
    return content.id


async def places(contents: Contents, viewer: Viewer, *posts: UUID) -> list[list[UUID]]:
    """The images of each post, in their order."""
    found = await contents.attachments_of_contents(viewer, list(posts))
    assert all([row.position for row in rows] == list(range(len(rows))) for rows in found)
    return [[row.image_id for row in rows] for rows in found]


# ---- deleted ----------------------------------------------------------------------------------


async def test_a_deleted_image_leaves_the_library_and_lies_in_the_trash_with_its_bytes(
    trash: Trash, library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    image = (await library.add_image(alice, jpeg(), NewImage(tags=["sea"]))).image
    before = stored_files(store)

    (outcome,) = await trash.delete(alice, [image.id])

    assert outcome.failure is None
    assert (await library.count_images(alice, ANY), await library.count_images(alice, DELETED)) == (
        0,
        1,
    )
    (found,) = await library.images_by_id(alice, [image.id])
    assert found is not None
    assert found.deleted_at is not None
    assert found.version == 2
    assert stored_files(store) == before


async def test_to_delete_again_changes_nothing(
    trash: Trash, library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)
    await trash.delete(alice, [id])
    before = await library.image(alice, id)

    (outcome,) = await trash.delete(alice, [id])

    after = await library.image(alice, id)
    assert outcome.failure is None
    assert (after.deleted_at, after.version) == (before.deleted_at, before.version)


async def test_an_image_in_use_is_not_deleted_and_the_others_are(
    trash: Trash, library: Library, contents: Contents, database: Database, alice: Viewer
) -> None:
    used, unused = await insert_images(database, alice, 2)
    content_id = await post(contents, alice, "post", [used])
    ghost = uuid4()

    outcomes = await trash.delete(alice, [used, ghost, unused])

    ((attachment,),) = await contents.attachments_of_contents(alice, [content_id])
    refused, unknown, deleted = outcomes
    assert isinstance(refused.failure, ImageInUse)
    assert refused.failure.attachment_ids == [attachment.id]
    assert isinstance(unknown.failure, NotFound)
    assert deleted.failure is None
    assert [outcome.id for outcome in outcomes] == [used, ghost, unused]
    assert (await library.image(alice, used)).deleted_at is None


async def test_a_dry_run_tells_what_would_happen_and_changes_nothing(
    trash: Trash, library: Library, contents: Contents, database: Database, alice: Viewer
) -> None:
    used, unused = await insert_images(database, alice, 2)
    content_id = await post(contents, alice, "post", [used])

    gently = await trash.delete(alice, [used, unused], dry_run=True)
    by_force = await trash.delete(alice, [used, unused], force=True, dry_run=True)

    assert [type(each.failure) for each in gently] == [ImageInUse, type(None)]
    assert [type(each.failure) for each in by_force] == [type(None), type(None)]
    assert [row.content_id for row in by_force[0].attachments] == [content_id]
    assert await library.count_images(alice, ANY) == 2
    assert await places(contents, alice, content_id) == [[used]]


async def test_a_forced_deletion_closes_the_gaps_that_the_image_leaves(
    trash: Trash, contents: Contents, database: Database, alice: Viewer
) -> None:
    first, gone, last = await insert_images(database, alice, 3)
    one = await post(contents, alice, "one", [first, gone, last])
    two = await post(contents, alice, "two", [gone, first])

    await trash.delete(alice, [gone], force=True)

    assert await places(contents, alice, one, two) == [[first, last], [first]]
    assert [content and content.version for content in await contents.by_id(alice, [one])] == [3]


async def test_an_image_named_twice_is_deleted_once(
    trash: Trash, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)

    outcomes = await trash.delete(alice, [id, id])

    assert [outcome.id for outcome in outcomes] == [id]


@pytest.mark.parametrize("count", [0, MAX_IDS + 1])
@pytest.mark.parametrize("use_case", ["delete", "restore", "purge"])
async def test_too_many_or_no_images_at_a_time_are_refused(
    use_case: str, count: int, trash: Trash, alice: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await getattr(trash, use_case)(alice, [uuid4() for _ in range(count)])

    assert (refused.value.limit, refused.value.actual) == (MAX_IDS, count)


async def test_those_who_have_an_image_at_hand_are_told_when_it_goes_or_comes(
    database: Database, keeper: Keeper, alice: Viewer
) -> None:
    ear = Ear()
    trash = Trash(database, keeper, kept_for=timedelta(days=1), changed=ear)
    image, _ = await insert_images(database, alice, 2)
    await trash.delete(alice, [uuid4()])
    await trash.delete(alice, [image], dry_run=True)
    assert ear.told == []

    await trash.delete(alice, [image])
    await trash.restore(alice, [image])
    await trash.delete(alice, [image])
    await trash.purge(alice, [image])

    assert ear.told == [image] * 4


async def test_those_whose_place_is_another_by_it_are_told_as_well(
    database: Database, keeper: Keeper, contents: Contents, alice: Viewer
) -> None:
    ear = Ear()
    trash = Trash(database, keeper, kept_for=timedelta(days=1), changed=ear)
    first, second, third = await insert_images(database, alice, 3)
    content = await contents.save(alice, ContentPatch(external_id="post"))
    await contents.attach(alice, content.id, [first, second, third])

    await trash.delete(alice, [second], force=True)
    assert sorted(ear.told) == sorted([second, third])

    ear.told.clear()
    await trash.restore(alice, [second])
    assert sorted(ear.told) == sorted([second, third])


# ---- restored ---------------------------------------------------------------------------------


async def test_a_restored_image_is_as_it_was(trash: Trash, library: Library, alice: Viewer) -> None:
    new = NewImage("beach.jpg", "The beach", "Sand and sea", ["sand", "sea"])
    image = (await library.add_image(alice, jpeg(), new)).image
    await trash.delete(alice, [image.id])

    (outcome,) = await trash.restore(alice, [image.id])

    assert outcome.failure is None
    after = await library.image(alice, image.id)
    assert (after.title, after.alt_text, after.tags) == ("The beach", "Sand and sea", new.tags)
    assert (after.deleted_at, after.version) == (None, 3)
    assert await library.count_images(alice, ImageFilter(search="beach")) == 1


async def test_a_restored_image_goes_back_to_its_places(
    trash: Trash, contents: Contents, database: Database, alice: Viewer
) -> None:
    first, gone, last = await insert_images(database, alice, 3)
    one = await post(contents, alice, "one", [first, gone, last])
    two = await post(contents, alice, "two", [])
    await contents.attach(alice, two, [gone], alt_text_override="Only here")
    await trash.delete(alice, [gone], force=True)

    await trash.restore(alice, [gone])

    assert await places(contents, alice, one, two) == [[first, gone, last], [gone]]
    ((back,),) = await contents.attachments_of_contents(alice, [two])
    assert back.alt_text_override == "Only here"
    async with database.reading() as session:
        assert (await session.exec(select(FormerPlace))).all() == []


async def test_images_that_were_neighbours_are_neighbours_again(
    trash: Trash, contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, 5)
    content_id = await post(contents, alice, "post", images)
    await trash.delete(alice, [images[3], images[1], images[2]], force=True)

    await trash.restore(alice, [images[2], images[3], images[1]])

    assert await places(contents, alice, content_id) == [images]


async def test_what_is_not_in_the_trash_is_restored_without_a_change(
    trash: Trash, library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)

    (outcome,) = await trash.restore(alice, [id])

    assert outcome.failure is None
    assert (await library.image(alice, id)).version == 1


async def test_an_image_in_the_trash_does_not_hinder_its_bytes_from_coming_again(
    trash: Trash, library: Library, alice: Viewer
) -> None:
    old = (await library.add_image(alice, jpeg(), NewImage())).image
    await trash.delete(alice, [old.id])

    again = await library.add_image(alice, jpeg(), NewImage())

    assert again.image.id != old.id
    assert not again.is_duplicate
    assert again.duplicate_of is not None
    assert again.duplicate_of.id == old.id


async def test_an_image_whose_bytes_came_again_is_not_restored_until_those_are_deleted(
    trash: Trash, library: Library, alice: Viewer
) -> None:
    old = (await library.add_image(alice, jpeg(), NewImage())).image
    await trash.delete(alice, [old.id])
    new = (await library.add_image(alice, jpeg(), NewImage())).image

    (refused,) = await trash.restore(alice, [old.id])
    await trash.delete(alice, [new.id])
    (restored,) = await trash.restore(alice, [old.id])

    assert isinstance(refused.failure, DuplicateImage)
    assert refused.failure.image_id == new.id
    assert restored.failure is None


async def test_of_twins_in_the_trash_that_are_restored_at_once_one_is(
    trash: Trash, library: Library, alice: Viewer
) -> None:
    twins = []
    for _ in range(3):
        twins.append((await library.add_image(alice, jpeg(), NewImage())).image.id)
        await trash.delete(alice, twins[-1:])

    together = await trash.restore(alice, twins[:2])
    answers = await asyncio.gather(*(trash.restore(alice, [id]) for id in twins))

    outcomes = [*together, *(outcome for (outcome,) in answers)]
    assert {type(each.failure) for each in outcomes} == {type(None), DuplicateImage}
    assert await library.count_images(alice, ANY) == 1
    assert await library.count_images(alice, DELETED) == 2


async def test_an_image_in_the_trash_cannot_be_attached(
    trash: Trash, contents: Contents, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)
    content_id = await post(contents, alice, "post", [])
    await trash.delete(alice, [id])

    with pytest.raises(Conflict, match="Restore it first"):
        await contents.attach(alice, content_id, [id])

    assert await places(contents, alice, content_id) == [[]]


# ---- gone for good ----------------------------------------------------------------------------


async def test_a_purged_image_takes_its_rows_bytes_versions_and_renditions_with_it(
    trash: Trash,
    library: Library,
    versions: Versions,
    renditions: Renditions,
    store: LocalObjectStore,
    database: Database,
    alice: Viewer,
) -> None:
    image = (await library.add_image(alice, jpeg(), NewImage(tags=["sea"]))).image
    await renditions.find(image.id, image.sha256[:DIGEST], "160x-inside.jpeg")
    await versions.replace_image(alice, image.id, jpeg(seed=2))
    await trash.delete(alice, [image.id])

    (outcome,) = await trash.purge(alice, [image.id])

    assert outcome.failure is None
    with pytest.raises(NotFound):
        await library.image(alice, image.id)
    assert await object_states(database) == {}
    assert stored_files(store) == []
    async with database.reading() as session:
        for table in (ImageTag, ImageVersion, FormerPlace):
            assert (await session.exec(select(table))).all() == []


async def test_an_image_must_be_in_the_trash_to_be_purged(
    trash: Trash, library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)

    (outcome,) = await trash.purge(alice, [id])

    assert isinstance(outcome.failure, Conflict)
    assert (await library.image(alice, id)).deleted_at is None


async def test_what_was_in_the_trash_for_long_enough_is_purged_and_nothing_else(
    trash: Trash, library: Library, store: LocalObjectStore, database: Database, alice: Viewer
) -> None:
    old, young, alive = [
        (await library.add_image(alice, jpeg(seed=seed), NewImage())).image for seed in range(3)
    ]
    await trash.delete(alice, [old.id, young.id])
    async with database.writing() as session:
        row = await session.get(Image, old.id)
        assert row is not None
        row.deleted_at = now() - timedelta(days=31)

    assert await trash.purge_expired() == 1

    assert await library.images_by_id(alice, [old.id]) == [None]
    assert len(await object_states(database)) == 4
    assert not any(str(old.id) in key for key in stored_files(store))
    assert await trash.purge_expired() == 0
    assert alive.deleted_at is None


async def test_bytes_that_cannot_be_deleted_now_are_named_until_they_can(
    trash: Trash,
    keeper: Keeper,
    library: Library,
    store: LocalObjectStore,
    database: Database,
    alice: Viewer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    image = (await library.add_image(alice, jpeg(), NewImage())).image
    await trash.delete(alice, [image.id])
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "objects"
    store.root.rename(elsewhere)  # the disk is gone

    (outcome,) = await trash.purge(alice, [image.id])

    assert outcome.failure is None
    assert set((await object_states(database)).values()) == {ObjectState.DOOMED}
    elsewhere.rename(store.root)
    await keeper.sweep()
    assert await object_states(database) == {}
    assert stored_files(store) == []


# ---- at once ----------------------------------------------------------------------------------


async def test_an_image_that_is_attached_and_deleted_at_once_is_wholly_one_of_the_two(
    trash: Trash, library: Library, contents: Contents, database: Database, alice: Viewer
) -> None:
    posts = [await post(contents, alice, f"{n}", []) for n in range(4)]
    for id in await insert_images(database, alice, 5):
        for each in posts[:2]:
            await contents.attach(alice, each, [id])

        answers: list[object] = await asyncio.gather(
            *(contents.attach(alice, each, [id], position=0) for each in posts),
            trash.delete(alice, [id], force=True),
            *(contents.attach(alice, each, [id], position=0) for each in posts),
            return_exceptions=True,
        )

        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        assert {type(fault) for fault in faults} <= {Conflict}
    assert await library.count_images(alice, ANY) == 0
    assert await places(contents, alice, *posts) == [[]] * 4


async def test_images_that_share_their_posts_come_and_go_at_once(
    trash: Trash, library: Library, contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, 8)
    posts = [await post(contents, alice, f"{n}", []) for n in range(6)]
    for number, id in enumerate(images):
        for each in posts if number % 2 else posts[::-1]:
            await contents.attach(alice, each, [id])

    for _ in range(3):
        await asyncio.gather(*(trash.delete(alice, [id], force=True) for id in images))
        assert await places(contents, alice, *posts) == [[]] * 6
        await asyncio.gather(*(trash.restore(alice, [id]) for id in images))

    assert await library.count_images(alice, ANY) == 8
    assert [sorted(row) for row in await places(contents, alice, *posts)] == [sorted(images)] * 6


# ---- another's --------------------------------------------------------------------------------

UseCase = Callable[[Trash, Viewer, list[UUID]], Awaitable[Any]]


@pytest.mark.parametrize(
    "use_case",
    [
        pytest.param(lambda trash, viewer, ids: trash.delete(viewer, ids), id="delete"),
        pytest.param(
            lambda trash, viewer, ids: trash.delete(viewer, ids, force=True), id="by force"
        ),
        pytest.param(
            lambda trash, viewer, ids: trash.delete(viewer, ids, dry_run=True), id="dry run"
        ),
        pytest.param(lambda trash, viewer, ids: trash.restore(viewer, ids), id="restore"),
        pytest.param(lambda trash, viewer, ids: trash.purge(viewer, ids), id="purge"),
    ],
)
async def test_an_image_of_another_workspace_does_not_exist(
    use_case: UseCase,
    trash: Trash,
    library: Library,
    database: Database,
    alice: Viewer,
    bob: Viewer,
) -> None:
    kept, trashed = await insert_images(database, alice, 2)
    await trash.delete(alice, [trashed])

    outcomes = await use_case(trash, bob, [kept, trashed])

    assert [type(outcome.failure) for outcome in outcomes] == [NotFound, NotFound]
    assert [outcome.image for outcome in outcomes] == [None, None]
    assert await library.count_images(alice, ANY) == 1
    assert await library.count_images(alice, DELETED) == 1
