"""Images in the library: taken in once, changed safely. On both databases."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import col, select

from storage.containers.exif import write_orientation
from storage.database import Database
from storage.errors import (
    Conflict,
    CorruptFile,
    IdempotencyMismatch,
    LibraryError,
    NotFound,
    Rejected,
    TooLarge,
    TooLong,
    TooManyPixels,
    UnsupportedMediaType,
)
from storage.keeper import Keeper
from storage.library import Added, ImagePatch, Library, NewImage
from storage.models import (
    GenerationStatus,
    Image,
    ImageOrigin,
    ObjectState,
)
from storage.objects.local import LocalObjectStore
from storage.renditions import DIGEST, grid_rendition, rendition_key
from storage.search import ImageFilter, PageRequest, Sort
from storage.trash import Trash
from storage.viewers import Viewer
from tests.hostile import with_comment, with_exif
from tests.pictures import encoded, jpeg, opened, photo, png
from tests.storage.rows import (
    ON_SQLITE,
    insert_generation,
    insert_images,
    object_states,
    stored_files,
)

ANY = ImageFilter()


def keys_of(image: Image) -> list[str]:
    """What is stored of an image that nobody has looked at: the clean file, and its grid size."""
    grid = grid_rendition(image.width, "image/webp" if image.has_alpha else "image/jpeg")
    return sorted([image.object_key, rendition_key(image.id, image.sha256, grid)])


# ---- taken in ---------------------------------------------------------------------------------


async def test_an_added_image_is_found_with_what_its_bytes_show(
    library: Library, alice: Viewer
) -> None:
    added = await library.add_image(alice, jpeg(640, 360), NewImage(filename="beach.jpg"))

    found = await library.image(alice, added.image.id)

    assert (found.width, found.height, found.media_type) == (640, 360, "image/jpeg")
    assert found.filename == "beach.jpg"
    assert found.byte_size == len(jpeg(640, 360))
    assert not added.is_duplicate


async def test_what_is_told_of_a_new_image_is_kept(library: Library, alice: Viewer) -> None:
    new = NewImage("beach.jpg", "The beach", "Sand and sea", ["sea", "sand"])

    added = await library.add_image(alice, jpeg(), new)

    found = await library.image(alice, added.image.id)
    assert (found.title, found.alt_text) == ("The beach", "Sand and sea")
    assert found.tags == ["sand", "sea"]
    assert (found.origin, found.is_ai_generated) == (ImageOrigin.UPLOADED, False)
    assert (found.version, found.is_favorite) == (1, False)


async def test_times_come_back_aware(library: Library, alice: Viewer) -> None:
    added = await library.add_image(alice, jpeg(), NewImage())

    found = await library.image(alice, added.image.id)

    assert found.created_at.tzinfo is not None
    assert found.created_at == added.image.created_at


@ON_SQLITE
async def test_the_clean_file_and_its_grid_size_are_kept_and_nothing_else(
    library: Library, store: LocalObjectStore, database: Database, alice: Viewer
) -> None:
    data = with_exif(jpeg(960, 720))

    image = (await library.add_image(alice, data, NewImage())).image

    clean = await store.get(image.object_key)
    grid_key = f"images/{image.id}/{image.sha256[:DIGEST]}/640x-inside.jpeg"
    grid = await store.get(grid_key)
    assert image.sha256 == hashlib.sha256(clean).hexdigest() != image.source_sha256
    assert image.source_sha256 == hashlib.sha256(data).hexdigest()
    assert image.object_key == f"images/{image.id}/{image.sha256}.jpg"
    assert image.byte_size == len(clean) < len(data)
    assert opened(clean).tobytes() == opened(data).tobytes()
    assert opened(grid).size == (640, 853)
    assert b"marker-4711" not in clean + grid
    assert await object_states(database) == {
        image.object_key: ObjectState.LIVE,
        grid_key: ObjectState.LIVE,
    }
    assert stored_files(store) == keys_of(image)


async def test_what_an_examination_shows_is_kept(library: Library, alice: Viewer) -> None:
    picture = photo(64, 48).convert("RGBA")
    picture.putalpha(100)

    image = (await library.add_image(alice, encoded(picture, "PNG"), NewImage())).image

    found = await library.image(alice, image.id)
    assert (found.media_type, found.source_media_type) == ("image/png", "image/png")
    assert (found.frames, found.has_alpha) == (1, True)
    assert (found.declares_ai, found.has_c2pa, found.is_ai_generated) == (False, False, False)
    assert len(found.perceptual_hash) == 16
    assert (found.focal_x, found.focal_y) == (None, None)


@ON_SQLITE
async def test_a_picture_that_says_it_was_made_by_ai_is_marked_so(
    library: Library, alice: Viewer
) -> None:
    xmp = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description Iptc4xmpExt:DigitalSourceType="
        b"'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'/></x:xmpmeta>"
    )

    image = (await library.add_image(alice, jpeg(xmp=xmp), NewImage())).image

    assert (image.declares_ai, image.is_ai_generated) == (True, True)
    assert image.origin is ImageOrigin.UPLOADED


@ON_SQLITE
async def test_no_temporary_file_outlives_an_upload(
    library: Library, alice: Viewer, tmp_path: Path
) -> None:
    await library.add_image(alice, jpeg(), NewImage())

    assert list((tmp_path / "arrivals").iterdir()) == []


@ON_SQLITE
@pytest.mark.parametrize(
    ("file", "refusal"),
    [
        pytest.param(b"not a picture", UnsupportedMediaType, id="a text"),
        pytest.param(jpeg()[:2000], CorruptFile, id="a truncated picture"),
        pytest.param(b"", CorruptFile, id="an empty file"),
        pytest.param(jpeg() + bytes(10**6), TooLarge, id="more bytes than are accepted"),
        pytest.param(png(1001, 1000), TooManyPixels, id="more pixels than are accepted"),
    ],
)
async def test_what_is_rejected_leaves_nothing(
    file: bytes,
    refusal: type[Rejected],
    library: Library,
    store: LocalObjectStore,
    database: Database,
    alice: Viewer,
    tmp_path: Path,
) -> None:
    with pytest.raises(refusal) as refused:
        await library.add_image(alice, file, NewImage(), idempotency_key="once")

    assert refused.type is refusal
    assert await library.count_images(alice, ANY) == 0
    assert await object_states(database) == {}
    assert stored_files(store) == []
    assert list((tmp_path / "arrivals").iterdir()) == []


# ---- the same bytes ---------------------------------------------------------------------------


async def test_the_same_bytes_give_back_the_image_that_is_there(
    library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    first = await library.add_image(alice, jpeg(), NewImage(title="Before"))

    second = await library.add_image(alice, jpeg(), NewImage(title="After"))

    assert second.is_duplicate
    assert second.image.id == first.image.id
    assert second.image.title == "Before"
    assert await library.count_images(alice, ANY) == 1
    assert stored_files(store) == keys_of(first.image)


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(with_comment(jpeg()), id="with a comment"),
        pytest.param(jpeg(xmp=b"<x:xmpmeta>another camera</x:xmpmeta>"), id="with other metadata"),
        pytest.param(jpeg() + b"more", id="with something behind it"),
    ],
)
async def test_the_same_picture_with_other_metadata_is_a_duplicate(
    again: bytes, library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    first = await library.add_image(alice, jpeg(), NewImage())

    second = await library.add_image(alice, again, NewImage())

    assert second.is_duplicate
    assert second.image.id == first.image.id
    assert second.image.source_sha256 == hashlib.sha256(jpeg()).hexdigest()
    assert stored_files(store) == keys_of(first.image)


async def test_the_file_that_we_keep_is_a_duplicate_of_the_one_that_came(
    library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    first = await library.add_image(alice, with_comment(jpeg()), NewImage())
    kept = await store.get(first.image.object_key)

    second = await library.add_image(alice, kept, NewImage())

    assert (second.is_duplicate, second.image.id) == (True, first.image.id)


async def test_what_is_encoded_anew_is_known_by_the_bytes_that_came(
    library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    data = encoded(photo(), "AVIF")
    first = await library.add_image(alice, data, NewImage())

    second = await library.add_image(alice, data, NewImage())

    assert (second.is_duplicate, second.image.id) == (True, first.image.id)
    assert stored_files(store) == keys_of(first.image)


async def test_the_same_picture_stored_another_way_up_is_another(
    library: Library, alice: Viewer
) -> None:
    turned = jpeg(exif=b"Exif\0\0" + write_orientation(6))
    first = await library.add_image(alice, jpeg(), NewImage())

    second = await library.add_image(alice, turned, NewImage())

    assert not second.is_duplicate
    assert (first.image.width, second.image.width) == (320, 240)


async def test_the_same_bytes_are_another_image_in_another_workspace(
    library: Library, alice: Viewer, bob: Viewer
) -> None:
    hers = await library.add_image(alice, jpeg(), NewImage())

    his = await library.add_image(bob, jpeg(), NewImage())

    assert not his.is_duplicate
    assert his.image.id != hers.image.id
    assert his.image.object_key != hers.image.object_key


async def test_the_same_bytes_at_once_become_one_image_and_one_object(
    library: Library, store: LocalObjectStore, keeper: Keeper, database: Database, alice: Viewer
) -> None:
    data = jpeg()

    added = await asyncio.gather(
        *(library.add_image(alice, data, NewImage(title=f"No. {n}")) for n in range(10))
    )

    await keeper.sweep()
    keys = keys_of(added[0].image)
    assert {each.image.id for each in added} == {added[0].image.id}
    assert [each.is_duplicate for each in added].count(False) == 1
    assert await library.count_images(alice, ANY) == 1
    assert await object_states(database) == dict.fromkeys(keys, ObjectState.LIVE)
    assert stored_files(store) == keys


# ---- idempotency ------------------------------------------------------------------------------


async def test_a_repeated_request_gives_the_same_image(library: Library, alice: Viewer) -> None:
    new = NewImage(title="Once", tags=["b", "a"])
    first = await library.add_image(alice, jpeg(), new, idempotency_key="key")

    second = await library.add_image(alice, jpeg(), new, idempotency_key="key")

    assert second.image.id == first.image.id
    assert not second.is_duplicate
    assert await library.count_images(alice, ANY) == 1


@pytest.mark.parametrize(
    ("file", "new"),
    [
        pytest.param(jpeg(seed=2), NewImage(title="Once"), id="other bytes"),
        pytest.param(jpeg(seed=1), NewImage(title="Twice"), id="another title"),
    ],
)
async def test_a_key_that_was_used_for_something_else_is_a_conflict(
    file: bytes, new: NewImage, library: Library, store: LocalObjectStore, alice: Viewer
) -> None:
    first = await library.add_image(
        alice, jpeg(seed=1), NewImage(title="Once"), idempotency_key="key"
    )

    with pytest.raises(IdempotencyMismatch):
        await library.add_image(alice, file, new, idempotency_key="key")

    assert await library.count_images(alice, ANY) == 1
    assert stored_files(store) == keys_of(first.image)


async def test_a_key_for_many_files_at_once_takes_in_one_of_them(
    library: Library, store: LocalObjectStore, keeper: Keeper, alice: Viewer
) -> None:
    files = [jpeg(64, 48, seed=seed) for seed in range(5)]

    answers = await asyncio.gather(
        *(library.add_image(alice, file, NewImage(), idempotency_key="key") for file in files),
        return_exceptions=True,
    )

    await keeper.sweep()
    kept = [answer for answer in answers if isinstance(answer, Added)]
    refused = [answer for answer in answers if isinstance(answer, IdempotencyMismatch)]
    assert (len(kept), len(refused)) == (1, 4)
    assert await library.count_images(alice, ANY) == 1
    assert stored_files(store) == keys_of(kept[0].image)


async def test_a_repeated_request_for_an_image_that_was_purged_finds_nothing(
    library: Library, trash: Trash, alice: Viewer
) -> None:
    first = await library.add_image(alice, jpeg(), NewImage(), idempotency_key="key")
    await trash.delete(alice, [first.image.id])
    await trash.purge(alice, [first.image.id])

    with pytest.raises(NotFound):
        await library.add_image(alice, jpeg(), NewImage(), idempotency_key="key")

    assert await library.count_images(alice, ANY) == 0


async def test_a_key_means_something_else_in_another_workspace(
    library: Library, alice: Viewer, bob: Viewer
) -> None:
    hers = await library.add_image(alice, jpeg(seed=1), NewImage(), idempotency_key="key")

    his = await library.add_image(bob, jpeg(seed=2), NewImage(), idempotency_key="key")

    assert his.image.id != hers.image.id
    assert await library.count_images(alice, ANY) == 1


# ---- the texts --------------------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize(
    ("field", "new", "limit"),
    [
        ("filename", NewImage(filename="x" * 256), 255),
        ("title", NewImage(title="x" * 256), 255),
        ("alt_text", NewImage(alt_text="x" * 1001), 1000),
        ("tag", NewImage(tags=["x" * 65]), 64),
    ],
)
async def test_a_text_that_is_too_long_is_refused_before_the_file_is_read(
    field: str,
    new: NewImage,
    limit: int,
    library: Library,
    store: LocalObjectStore,
    alice: Viewer,
) -> None:
    with pytest.raises(TooLong) as refused:
        await library.add_image(alice, b"not even a picture", new)

    assert (refused.value.field, refused.value.limit, refused.value.actual) == (
        field,
        limit,
        limit + 1,
    )
    assert await library.count_images(alice, ANY) == 0
    assert stored_files(store) == []


async def test_the_longest_texts_are_kept_whole(library: Library, alice: Viewer) -> None:
    new = NewImage("ß" * 255, "😀" * 255, "é" * 1000, ["ש" * 64])

    added = await library.add_image(alice, jpeg(), new)

    found = await library.image(alice, added.image.id)
    assert (found.filename, found.title) == (new.filename, new.title)
    assert (found.alt_text, found.tags) == (new.alt_text, ["ש" * 64])


async def test_a_sign_that_no_database_keeps_is_left_out(library: Library, alice: Viewer) -> None:
    added = await library.add_image(
        alice, jpeg(), NewImage("a\0.jpg", "The\0 beach", "\0", ["se\0a"])
    )

    found = await library.image(alice, added.image.id)
    assert (found.filename, found.title, found.alt_text) == ("a.jpg", "The beach", "")
    assert found.tags == ["sea"]


async def test_tags_are_trimmed_and_kept_once_in_alphabetical_order(
    library: Library, alice: Viewer
) -> None:
    added = await library.add_image(
        alice, jpeg(), NewImage(tags=["sea", " beach ", "beach", "Sea", "\talps\n"])
    )

    found = await library.image(alice, added.image.id)
    assert found.tags == ["Sea", "alps", "beach", "sea"]
    assert added.image.tags == found.tags


@ON_SQLITE
@pytest.mark.parametrize("tags", [["sea", ""], ["  "], [f"tag {n}" for n in range(51)]])
async def test_tags_that_are_empty_or_too_many_are_rejected(
    tags: list[str], library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)

    with pytest.raises(Rejected) as refused:
        await library.update_image(alice, id, ImagePatch(tags=tags), expected_version=None)

    assert refused.value.field == "tags"
    assert (await library.image(alice, id)).tags == []


# ---- changed ----------------------------------------------------------------------------------


async def test_a_patch_changes_what_it_names_and_nothing_else(
    library: Library, alice: Viewer
) -> None:
    new = NewImage("beach.jpg", "The beach", "Sand", ["sea"])
    image = (await library.add_image(alice, jpeg(), new)).image

    await library.update_image(alice, image.id, ImagePatch(title="The sea"), expected_version=None)

    found = await library.image(alice, image.id)
    assert (found.title, found.alt_text, found.tags) == ("The sea", "Sand", ["sea"])
    assert (found.filename, found.is_favorite) == ("beach.jpg", False)
    assert found.version == 2
    assert found.updated_at > image.created_at


async def test_null_in_a_patch_clears(library: Library, alice: Viewer) -> None:
    new = NewImage("beach.jpg", "The beach", "Sand", ["sea"])
    image = (await library.add_image(alice, jpeg(), new)).image

    patch = ImagePatch(title=None, alt_text=None, tags=None)
    await library.update_image(alice, image.id, patch, expected_version=None)

    found = await library.image(alice, image.id)
    assert (found.title, found.alt_text, found.tags) == ("", None, [])


async def test_a_focal_point_is_set_and_cleared(
    library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)

    for point in ((0.25, 0.75), (0.0, 1.0)):
        await library.update_image(alice, id, ImagePatch(focal_point=point), expected_version=None)
        found = await library.image(alice, id)
        assert (found.focal_x, found.focal_y) == point
    await library.update_image(alice, id, ImagePatch(title="Other"), expected_version=None)
    assert (await library.image(alice, id)).focal_x == 0.0
    await library.update_image(alice, id, ImagePatch(focal_point=None), expected_version=4)

    found = await library.image(alice, id)
    assert (found.focal_x, found.focal_y, found.version) == (None, None, 5)


@ON_SQLITE
@pytest.mark.parametrize(
    ("point", "limit", "actual"),
    [((-0.1, 0.5), 0, -0.1), ((0.5, 1.01), 1, 1.01), ((2.0, -1.0), 1, 2.0)],
)
async def test_a_focal_point_outside_of_the_picture_is_rejected(
    point: tuple[float, float],
    limit: float,
    actual: float,
    library: Library,
    database: Database,
    alice: Viewer,
) -> None:
    (id,) = await insert_images(database, alice, 1)
    patch = ImagePatch(title="Mine", focal_point=point)

    with pytest.raises(Rejected) as refused:
        await library.update_image(alice, id, patch, expected_version=None)

    assert refused.value.field == "focalPoint"
    assert (refused.value.limit, refused.value.actual) == (limit, actual)
    found = await library.image(alice, id)
    assert (found.focal_x, found.title, found.version) == (None, "", 1)


async def test_a_patch_replaces_the_tags_with_its_own(library: Library, alice: Viewer) -> None:
    image = (await library.add_image(alice, jpeg(), NewImage(tags=["a", "b", "c"]))).image

    patch = ImagePatch(tags=["d", "b"])
    changed = await library.update_image(alice, image.id, patch, expected_version=None)

    assert changed.tags == ["b", "d"]
    assert (await library.image(alice, image.id)).tags == ["b", "d"]


async def test_an_empty_patch_is_no_change(
    library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)
    before = await library.image(alice, id)

    await library.update_image(alice, id, ImagePatch(), expected_version=1)

    after = await library.image(alice, id)
    assert (after.version, after.updated_at) == (1, before.updated_at)


async def test_a_change_of_a_version_that_is_gone_is_a_conflict(
    library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)
    await library.update_image(alice, id, ImagePatch(title="First"), expected_version=1)

    with pytest.raises(Conflict):
        await library.update_image(alice, id, ImagePatch(title="Second"), expected_version=1)

    found = await library.image(alice, id)
    assert (found.title, found.version) == ("First", 2)


async def test_of_many_changes_to_one_version_exactly_one_is_made(
    library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)

    answers = await asyncio.gather(
        *(
            library.update_image(alice, id, ImagePatch(title=f"No. {n}"), expected_version=1)
            for n in range(8)
        ),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers].count(Conflict) == 7
    assert (await library.image(alice, id)).version == 2


async def test_a_rejected_patch_changes_nothing(
    library: Library, database: Database, alice: Viewer
) -> None:
    (id,) = await insert_images(database, alice, 1)
    patch = ImagePatch(title="Fine", is_favorite=True, alt_text="x" * 1001)

    with pytest.raises(TooLong):
        await library.update_image(alice, id, patch, expected_version=None)

    found = await library.image(alice, id)
    assert (found.title, found.is_favorite, found.version) == ("", False, 1)


async def test_the_search_follows_a_change(
    library: Library, database: Database, alice: Viewer
) -> None:
    generation = await insert_generation(
        database, alice, GenerationStatus.SUCCEEDED, prompt="a lake at dawn"
    )
    new = NewImage(title="Water", generation_id=generation, prompt="a lake at dawn")
    image = (await library.add_image(alice, jpeg(), new)).image

    await library.update_image(alice, image.id, ImagePatch(title="Calm"), expected_version=None)

    assert await library.count_images(alice, ImageFilter(search="calm")) == 1
    assert await library.count_images(alice, ImageFilter(search="water")) == 0
    assert await library.count_images(alice, ImageFilter(search="dawn")) == 1


# ---- another's --------------------------------------------------------------------------------

UseCase = Callable[[Library, Viewer, UUID], Awaitable[Any]]


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
@pytest.mark.parametrize(
    "use_case",
    [
        pytest.param(lambda library, viewer, image: library.image(viewer, image), id="read"),
        pytest.param(
            lambda library, viewer, image: library.update_image(
                viewer, image, ImagePatch(title="Mine"), expected_version=None
            ),
            id="change",
        ),
        pytest.param(
            lambda library, viewer, image: library.update_image(
                viewer, image, ImagePatch(title="Mine"), expected_version=7
            ),
            id="change a version",
        ),
    ],
)
async def test_an_image_of_another_workspace_does_not_exist(
    use_case: UseCase,
    whose: str,
    library: Library,
    database: Database,
    alice: Viewer,
    bob: Viewer,
) -> None:
    (hers,) = await insert_images(database, alice, 1)
    id = hers if whose == "another's" else uuid4()

    with pytest.raises(NotFound) as refused:
        await use_case(library, bob, id)

    assert (refused.value.what, refused.value.id) == ("image", id)
    found = await library.image(alice, hers)
    assert (found.title, found.version) == ("", 1)


async def test_lists_hold_nothing_of_another_workspace(
    library: Library, database: Database, alice: Viewer, bob: Viewer
) -> None:
    hers = await insert_images(database, alice, 2)
    his = await insert_images(database, bob, 1)

    page = await library.images(bob, ANY, Sort(), PageRequest(10))
    asked = ImageFilter(ids=hers)

    assert [image.id for image in page.rows] == his
    assert await library.count_images(bob, ANY) == 1
    assert await library.count_images(bob, asked) == 0
    assert await library.images_by_id(bob, hers) == [None, None]


async def test_images_come_in_the_order_of_the_ids_that_were_asked_for(
    library: Library, database: Database, alice: Viewer
) -> None:
    first, second, third = await insert_images(database, alice, 3)
    ghost = uuid4()

    found = await library.images_by_id(alice, [third, ghost, first, second, first])

    assert [image and image.id for image in found] == [third, None, first, second, first]


# ---- a fault half way -------------------------------------------------------------------------


async def test_an_upload_that_could_not_be_stored_leaves_no_image(
    library: Library, store: LocalObjectStore, database: Database, alice: Viewer
) -> None:
    (store.root / "images").write_bytes(b"a file where the folder should be")

    with pytest.raises(LibraryError) as refused:
        await library.add_image(alice, jpeg(), NewImage())

    assert refused.value.code == "UNAVAILABLE"
    assert await library.count_images(alice, ANY) == 0
    assert list((await object_states(database)).values()) == [ObjectState.PENDING]


async def test_every_live_image_has_its_bytes(
    library: Library, store: LocalObjectStore, database: Database, alice: Viewer
) -> None:
    files = [jpeg(64, 48, seed=seed % 4) for seed in range(12)]

    await asyncio.gather(*(library.add_image(alice, file, NewImage()) for file in files))

    async with database.reading() as session:
        keys = (await session.exec(select(Image.object_key).order_by(col(Image.id)))).all()
    assert len(keys) == 4
    assert {await store.size(key) for key in keys} == {len(file) for file in files}
