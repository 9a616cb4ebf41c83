"""Every filter, by itself and within others: the same images as a filter in plain Python finds."""

from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from storage.conditions import Crowd
from storage.database import Database
from storage.errors import Rejected
from storage.filters import Between, ImageFilter, Named, Numbers, Tagged, Text, Usage
from storage.inverted import Shelf
from storage.library import ImagePatch, Library
from storage.models import ImageOrigin, Orientation
from storage.search import EVERY, FEW, PageRequest, Search, Sort, SortField
from storage.statements import Statements
from storage.viewers import Viewer
from tests.storage.rows import ON_POSTGRES, ON_SQLITE, image_rows, insert
from tests.storage.shelves import (
    CONDITIONS,
    MOMENTS,
    SHELF,
    Filters,
    Searches,
    fill,
    in_order,
    matches,
)

AGAIN = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the shelf is only read
)


@pytest.fixture
async def shelf(database: Database, alice: Viewer, bob: Viewer) -> Viewer:
    """Alice, whose library holds the pictures of the shelf. Bob's holds a like of each."""
    await fill(database, alice)
    dice = Random(5)
    await insert(
        database,
        *(
            image_rows(
                bob,
                tags=tuple(picture.tags),
                filename=picture.filename,
                name_text=" ".join(picture.name_words),
                created_at=dice.choice(MOMENTS),
            )
            for picture in SHELF
        ),
    )
    return alice


async def walk(
    library: Library, viewer: Viewer, filter: ImageFilter, sort: Sort, size: int, backwards: bool
) -> list[UUID]:
    """The images of all pages, in the order of the sort."""
    found: list[UUID] = []
    cursor = None
    while True:
        page = await library.images(viewer, filter, sort, PageRequest(size, cursor, backwards))
        ids = [image.id for image in page.rows]
        found = ids + found if backwards else found + ids
        if not (page.has_previous if backwards else page.has_next):
            return found
        cursor = page.cursors[0 if backwards else -1]


@given(
    filter=Filters,
    search=Searches,
    in_trash=st.booleans(),
    field=st.sampled_from(SortField),
    descending=st.booleans(),
    size=st.sampled_from([3, 20, 80]),
    backwards=st.booleans(),
)
@AGAIN
async def test_filters_within_filters_find_what_a_filter_in_plain_python_finds(
    filter: ImageFilter,
    search: str | None,
    in_trash: bool,
    field: SortField,
    descending: bool,
    size: int,
    backwards: bool,
    library: Library,
    shelf: Viewer,
) -> None:
    if field is SortField.RELEVANCE:
        search = search or "lake"
    wanted = replace(filter, search=search, is_deleted=in_trash)
    expected = [] if search == "," else in_order(wanted, Sort(field, descending))

    found = await walk(library, shelf, wanted, Sort(field, descending), size, backwards)

    assert found == expected
    assert await library.count_images(shelf, wanted) == len(expected)


@pytest.mark.parametrize("name", CONDITIONS)
@given(data=st.data())
@settings(AGAIN, max_examples=10)
async def test_every_condition_finds_what_it_should_by_itself(
    name: str, data: st.DataObject, library: Library, shelf: Viewer
) -> None:
    wanted = ImageFilter(**{name: data.draw(CONDITIONS[name])})

    page = await library.images(shelf, wanted, Sort(), PageRequest(80))

    assert [image.id for image in page.rows] == in_order(wanted, Sort())


@given(filter=Filters, sort=st.builds(Sort, st.sampled_from(list(SortField)[:4]), st.booleans()))
@settings(AGAIN, max_examples=30)
async def test_what_holds_for_many_is_found_as_what_holds_for_few(
    filter: ImageFilter, sort: Sort, database: Database, shelf: Viewer
) -> None:
    where = Shelf(shelf.workspace_id, in_trash=False, is_sqlite=database.is_sqlite)
    request = PageRequest(80)

    found = []
    unknown = Search(where, filter, sort)
    for search in (replace(unknown, many=EVERY), replace(unknown, few=EVERY)):
        rows = await database.fetch(search.statement(request))
        found.append([image.id for image in search.page(rows, request).rows])

    assert found == [in_order(filter, sort)] * 2


@ON_SQLITE
async def test_a_probe_tells_few_from_many(database: Database, alice: Viewer) -> None:
    rows = [image_rows(alice, tags=("sea",), width=n) for n in range(1, FEW + 3)]
    await insert(database, *rows)
    filter = ImageFilter(
        width=Numbers(gt=1), height=Numbers(lt=480), tags=Tagged(any=("sea", "sky"))
    )
    search = Search(Shelf(alice.workspace_id, in_trash=False, is_sqlite=True), filter, Sort())

    probe = search.probe()
    assert probe
    known = search.knowing((await database.fetch(probe))[0])

    assert known.many == {Crowd.WIDTH, Crowd.TAGS}
    assert known.few == {Crowd.HEIGHT}


# ---- what makes no sense -------------------------------------------------------------------------


def deep(levels: int) -> ImageFilter:
    filter = ImageFilter(is_favorite=True)
    for _ in range(levels):
        filter = ImageFilter(none_of=filter)
    return filter


IDS = tuple(UUID(int=n) for n in range(100))
MANY_TAGS = tuple(ImageFilter(tags=Tagged(any=(f"tag {n}", "sea"))) for n in range(20))
MANY = tuple(ImageFilter(is_favorite=True) for _ in range(20))


@ON_SQLITE
@pytest.mark.parametrize(
    ("filter", "limit", "actual"),
    [
        (deep(5), 4, 5),
        (ImageFilter(any_of=()), 20, 0),
        (ImageFilter(all_of=(*MANY, ImageFilter())), 20, 21),
        (ImageFilter(any_of=tuple(ImageFilter(all_of=MANY) for _ in range(5))), 100, 106),
        (ImageFilter(none_of=ImageFilter(is_deleted=True)), None, None),
        (ImageFilter(filename=Text(contains="ab")), 3, 2),
        (ImageFilter(filename=Text(contains="´ab")), 3, 2),
        (ImageFilter(filename=Text(starts_with="")), 1, 0),
        (ImageFilter(filename=Text(starts_with="a" * 256)), 255, 256),
        (ImageFilter(provider=Named(among=())), 100, 0),
        (ImageFilter(provider=Named(eq="a" * 256)), 255, 256),
        (ImageFilter(tags=Tagged(none=("a" * 256,))), 255, 256),
        (ImageFilter(all_of=tuple(ImageFilter(ids=IDS) for _ in range(6))), 500, 600),
        (ImageFilter(all_of=MANY_TAGS[:11]), 10, 11),
        (ImageFilter(any_of=MANY_TAGS[:10], usage=Usage.USED), 10, 11),
        (ImageFilter(width=Numbers(gt=2**31)), 2**31 - 1, 2**31),
        (ImageFilter(all_of=(ImageFilter(tags=Tagged(any=())),)), 100, 0),
    ],
)
async def test_a_filter_beyond_the_limits_is_rejected(
    filter: ImageFilter, limit: int | None, actual: int | None, library: Library, alice: Viewer
) -> None:
    refusals = []
    for ask in (
        library.count_images(alice, filter),
        library.images(alice, filter, Sort(), PageRequest(5)),
    ):
        with pytest.raises(Rejected) as refused:
            await ask
        refusals.append(refused.value)

    assert {(each.field, each.limit, each.actual) for each in refusals} == {
        ("filter", limit, actual)
    }


async def test_filters_as_deep_as_they_may_be_work(library: Library, shelf: Viewer) -> None:
    found = await library.count_images(shelf, deep(4))

    assert found == len(matches(ImageFilter(is_favorite=True)))


async def test_as_many_values_and_lookups_as_there_may_be_work(
    library: Library, shelf: Viewer
) -> None:
    values = ImageFilter(any_of=tuple(ImageFilter(ids=(*IDS[:99], SHELF[0].id)) for _ in range(5)))

    assert await library.count_images(shelf, values) == len(matches(values))
    for lookups in (ImageFilter(all_of=MANY_TAGS[:10]), ImageFilter(any_of=MANY_TAGS[:10])):
        assert await library.count_images(shelf, lookups) == len(matches(lookups))


async def test_an_image_has_all_of_the_tags_however_often_they_are_named(
    library: Library, database: Database, alice: Viewer
) -> None:
    tags = tuple(f"tag {n}" for n in range(50))
    [whole, _] = await insert(
        database, image_rows(alice, tags=tags), image_rows(alice, tags=tags[1:])
    )
    wanted = ImageFilter(tags=Tagged(all=tags + tags))

    page = await library.images(alice, wanted, Sort(), PageRequest(5), counts=True)

    assert [image.id for image in page.rows] == [whole]
    assert page.total == 1


@ON_SQLITE
async def test_relevance_without_a_search_is_rejected(library: Library, alice: Viewer) -> None:
    with pytest.raises(Rejected) as refused:
        await library.images(alice, ImageFilter(), Sort(SortField.RELEVANCE), PageRequest(5))

    assert refused.value.field == "sort"


# ---- the index in step ---------------------------------------------------------------------------


async def test_an_image_is_found_by_its_new_words_and_not_by_its_old_ones(
    library: Library, database: Database, alice: Viewer
) -> None:
    [id] = await insert(database, image_rows(alice, filename="IMG_7.jpg"))
    changes = ImagePatch(title="Lake", alt_text="Reeds", tags=["alps"])
    await library.update_image(alice, id, changes, expected_version=None)
    await library.update_image(alice, id, ImagePatch(title="Sea"), expected_version=None)

    async def found(search: str) -> int:
        return await library.count_images(alice, ImageFilter(search=search))

    assert [await found(word) for word in ("sea", "reeds", "alps", "7", "lake")] == [1, 1, 1, 1, 0]


async def test_images_of_one_moment_have_a_place_each(
    library: Library, database: Database, alice: Viewer
) -> None:
    twins = [UUID(int=(5 << 117) + n) for n in range(4)]
    rows = [image_rows(alice, id=id, created_at=MOMENTS[0], name_text="lake") for id in twins]
    await insert(database, *rows)

    found = await walk(library, alice, ImageFilter(search="lake"), Sort(), 1, False)

    assert sorted(found) == twins
    assert found == await walk(library, alice, ImageFilter(), Sort(), 3, False)


# ---- the indexes are used ------------------------------------------------------------------------


EVERY_OPERATOR = {
    "ids": ImageFilter(ids=(UUID(int=1),)),
    "origin": ImageFilter(origins=(ImageOrigin.IMPORTED,)),
    "provider": ImageFilter(provider=Named(eq="acme")),
    "model": ImageFilter(model=Named(among=("a", "b"))),
    "filename.eq": ImageFilter(filename=Text(eq="a")),
    "filename.contains": ImageFilter(filename=Text(contains="abc")),
    "filename.startsWith": ImageFilter(filename=Text(starts_with="a")),
    "mimeType": ImageFilter(media_type=Named(eq="image/png")),
    "createdAt": ImageFilter(created_at=Between(gte=MOMENTS[0], lt=MOMENTS[4])),
    "tags": ImageFilter(tags=Tagged(any=("sea",))),
    "usage": ImageFilter(usage=Usage.SCHEDULED),
    "attachedTo": ImageFilter(attached_to=UUID(int=1)),
    "orientation": ImageFilter(orientation=Orientation.SQUARE),
    "width": ImageFilter(width=Numbers(eq=300)),
    "byteSize": ImageFilter(byte_size=Numbers(gte=300)),
    "isFavorite": ImageFilter(is_favorite=True),
    "isAiGenerated": ImageFilter(is_ai_generated=True),
    "altText": ImageFilter(has_alt_text=False),
    "search": ImageFilter(search="lake"),
    "isDeleted": ImageFilter(is_deleted=True),
}


@ON_SQLITE
@pytest.mark.parametrize("name", EVERY_OPERATOR)
async def test_no_operator_reads_the_whole_table(
    name: str, database: Database, alice: Viewer
) -> None:
    filter = EVERY_OPERATOR[name]
    shelf = Shelf(alice.workspace_id, in_trash=filter.is_deleted, is_sqlite=True)
    wanted = Search(shelf, filter, Sort()).statement(PageRequest(50))
    prepared = Statements(sqlite.dialect()).prepared(wanted)

    async with database.connection() as connection:
        rows = await connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {prepared.sql}", tuple(prepared.parameters(wanted))
        )
        plan = [str(step) for step in rows.scalars(3)]

    scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    assert scans == []


@ON_POSTGRES
async def test_the_text_search_of_postgresql_is_an_index_scan(
    database: Database, alice: Viewer
) -> None:
    rows = [image_rows(alice, name_text="lake" if n == 7 else f"w{n}") for n in range(300)]
    await insert(database, *rows)
    async with database.connection() as connection:
        await connection.execute(text("ANALYZE images"))
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await connection.execute(
            text(
                "EXPLAIN SELECT id FROM images WHERE image_words(images.workspace_id, "
                "images.deleted_at IS NOT NULL, images.name_text, images.search_text) "
                f"@@ '''o{alice.workspace_id.hex}lake'':*'::tsquery"
            )
        )
        lines = "\n".join(str(line) for line in plan.scalars())
        await connection.rollback()

    assert "images_by_words" in lines
