"""The order of names is one and the same, whatever language a database was made for.

PostgreSQL is here one that was made for English: by itself it orders as a dictionary does.
"""

import asyncio
import secrets
from collections.abc import Iterator
from random import Random
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg as postgresql

from storage.database import Database
from storage.facets import most_tagged
from storage.inverted import Shelf
from storage.library import Library
from storage.migrations import migrate
from storage.models import Image
from storage.search import ImageFilter, PageRequest, Search, Sort, SortField, Text
from storage.statements import Statements, Term
from storage.viewers import Viewer, Viewers
from storage.words import MAX_NAME, fold
from tests.storage.rows import ON_POSTGRES, ON_SQLITE, image_rows, insert
from tests.storage.shelves import fill, in_order

BY_NAME = Sort(SortField.FILENAME, descending=False)
AGAIN = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every example has a workspace
)


@pytest.fixture(scope="module")
def english_url(shared_postgres_url: str) -> Iterator[str]:
    """A migrated database that was made for English."""
    name = f"darkroom_test_english_{secrets.token_hex(6)}"
    made_for = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
    create = f"CREATE DATABASE {name} TEMPLATE template0 {made_for}"
    try:
        asyncio.run(_execute(shared_postgres_url, create))
    except (asyncpg.PostgresSyntaxError, asyncpg.FeatureNotSupportedError):
        pytest.skip("this PostgreSQL is older than 15, or was built without ICU")
    url = make_url(shared_postgres_url).set(database=name).render_as_string(hide_password=False)
    try:
        asyncio.run(_migrate(url))
        yield url
    finally:
        asyncio.run(_execute(shared_postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgres_url(english_url: str) -> str:
    return english_url


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.close()


@pytest.fixture
async def viewer(database: Database) -> Viewer:
    return await new_viewer(database)


async def new_viewer(database: Database) -> Viewer:
    """Of a workspace that nobody has used yet."""
    viewers = Viewers(database)
    name = secrets.token_hex(6)
    found = await viewers.by_token(await viewers.create_key(name, name))
    assert found is not None
    return found


async def walk(library: Library, viewer: Viewer, sort: Sort, backwards: bool) -> list[Image]:
    """The images of all pages, in the order of the sort."""
    found: list[Image] = []
    cursor = None
    while True:
        request = PageRequest(2, cursor, backwards)
        page = await library.images(viewer, ImageFilter(), sort, request)
        found = [*page.rows, *found] if backwards else [*found, *page.rows]
        if not (page.has_previous if backwards else page.has_next):
            return found
        cursor = page.cursors[0 if backwards else -1]


@pytest.mark.parametrize("backwards", [False, True])
async def test_filenames_are_sorted_in_any_case_with_or_without_accents(
    backwards: bool, database: Database, library: Library, viewer: Viewer
) -> None:
    names = ["b.jpg", "Zoo.jpg", "a.jpg", "_x.jpg", "Éte.jpg", "10.jpg", "", "f.jpg", "A-b.jpg"]
    await insert(database, *(image_rows(viewer, filename=name) for name in names))

    found = await walk(library, viewer, BY_NAME, backwards)

    assert [image.filename for image in found] == [
        "", "10.jpg", "_x.jpg", "A-b.jpg", "a.jpg", "b.jpg", "Éte.jpg", "f.jpg", "Zoo.jpg",
    ]  # fmt: skip


@given(
    names=st.lists(
        st.text("aAzZéÅ_-1 .你ß", max_size=4)
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
        max_size=9,
    ),
    descending=st.booleans(),
    backwards=st.booleans(),
)
@AGAIN
async def test_any_filenames_are_sorted_by_the_numbers_of_their_folded_signs(
    names: list[str], descending: bool, backwards: bool, database: Database, library: Library
) -> None:
    viewer = await new_viewer(database)
    ids = await insert(database, *(image_rows(viewer, filename=name) for name in names))
    sort = Sort(SortField.FILENAME, descending)

    found = await walk(library, viewer, sort, backwards)

    keys = sorted(zip(map(fold, names), ids, strict=True), reverse=descending)
    assert [image.id for image in found] == [id for _, id in keys]


async def test_every_order_is_that_of_plain_python(
    database: Database, library: Library, viewer: Viewer
) -> None:
    await fill(database, viewer)
    sorts = [Sort(field) for field in SortField if field is not SortField.RELEVANCE]

    found = [await walk(library, viewer, sort, False) for sort in sorts]

    assert [[image.id for image in images] for images in found] == [
        in_order(ImageFilter(), sort) for sort in sorts
    ]


async def test_tags_are_in_the_order_of_their_signs_numbers(
    database: Database, library: Library, viewer: Viewer
) -> None:
    names = ("b", "A", "a-c", "ab", "é", "10", "_")
    in_signs_order = ["10", "A", "_", "a-c", "ab", "b", "é"]
    [id] = await insert(database, image_rows(viewer, tags=names))

    [listed] = await walk(library, viewer, Sort(), False)
    alone = await library.image(viewer, id)
    counted = await library.count_by(most_tagged(10), viewer, ImageFilter())

    assert listed.tags == in_signs_order
    assert alone.tags == in_signs_order
    assert [count.value for count in counted] == in_signs_order


# ---- long names ----------------------------------------------------------------------------------

WORDY = [chr(code) for code in range(0x3300, 0x3358) if len(fold(chr(code))) > 4]
"""Signs that stand for whole words."""


async def test_a_name_that_folds_to_more_than_an_index_takes_is_kept_and_sorted(
    database: Database, library: Library, viewer: Viewer
) -> None:
    dice = Random(3)
    names = ["".join(dice.choices(WORDY, k=255)) for _ in range(5)]
    assert min(len(fold(name).encode()) for name in names) > MAX_NAME
    ids = await insert(database, *(image_rows(viewer, filename=name) for name in names))

    found = await walk(library, viewer, BY_NAME, False)

    assert [image.id for image in found] == [
        id for _, id in sorted(zip(map(fold, names), ids, strict=True))
    ]


async def test_a_korean_name_of_full_length_is_found_by_its_end(
    database: Database, library: Library, viewer: Viewer
) -> None:
    name = "".join(chr(0xAC00 + 28 * n + 1) for n in range(255))
    await insert(database, image_rows(viewer, filename=name))

    found = ImageFilter(filename=Text(contains=name[-2:]))

    assert await library.count_images(viewer, found) == 1


# ---- by an index ---------------------------------------------------------------------------------


async def plan_of_the_second_page(database: Database, viewer: Viewer) -> str:
    """How the database comes by a page after a cursor, of more images than it would sort."""
    await insert(database, *(image_rows(viewer, filename=f"{n}.jpg") for n in range(500)))
    shelf = Shelf(viewer.workspace_id, in_trash=False, is_sqlite=database.is_sqlite)
    search = Search(shelf, ImageFilter(), BY_NAME)
    first = PageRequest(20)
    page = search.page(await database.fetch(search.statement(first)), first)
    wanted = search.statement(PageRequest(20, page.cursors[-1]))
    return await explained(database, wanted)


async def explained(database: Database, wanted: Term) -> str:
    if database.is_sqlite:
        prepared = Statements(sqlite.dialect()).prepared(wanted)
        async with database.connection() as connection:
            rows = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {prepared.sql}", tuple(prepared.parameters(wanted))
            )
            return "\n".join(map(str, rows.scalars(3)))
    dialect: Any = postgresql.dialect  # it has no types
    prepared = Statements(dialect()).prepared(wanted)
    server = await asyncpg.connect(database.url.render_as_string(hide_password=False), timeout=5)
    try:
        await server.execute("ANALYZE images")
        steps = await server.fetch(f"EXPLAIN {prepared.sql}", *prepared.parameters(wanted))
        return "\n".join(step[0] for step in steps)
    finally:
        await server.close()


@ON_SQLITE
async def test_sqlite_reads_a_page_by_filename_from_one_index(
    database: Database, viewer: Viewer
) -> None:
    plan = await plan_of_the_second_page(database, viewer)

    assert "SEARCH images USING INDEX images_by_name (workspace_id=? AND (" in plan
    assert "TEMP B-TREE" not in plan


@ON_POSTGRES
async def test_postgresql_reads_a_page_by_filename_from_one_index(
    database: Database, viewer: Viewer
) -> None:
    plan = await plan_of_the_second_page(database, viewer)

    assert "Index Scan using images_by_name" in plan
    assert "Index Cond: ((workspace_id = " in plan
    assert "ROW((folded_filename)" in plan.split("Index Cond:")[1].split("SubPlan")[0]
    assert "Sort" not in plan.split("SubPlan")[0]
