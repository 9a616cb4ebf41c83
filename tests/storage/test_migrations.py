"""A database is brought to what the models say, once or again, alone or by many at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

from storage import migrations
from storage.database import Database, sqlite_url
from storage.facets import total
from storage.filters import ImageFilter, Text
from storage.inverted import Shelf
from storage.migrations import is_current, migrate
from storage.viewers import Viewers
from tests.postgres import Server, find_server


@pytest.fixture(scope="module")
def unmigrated(postgres: Server) -> Iterator[Server]:
    """A server whose new databases have no tables."""
    server = asyncio.run(find_server())
    assert server is not None  # the fixture `postgres` found one
    yield server
    asyncio.run(server.clean_up())


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table, of each kind in turn."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "empty.db")
    server: Server = request.getfixturevalue("unmigrated")
    return asyncio.run(server.new_database(_leave_it))


async def _leave_it(_: str) -> None:
    pass


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    database = Database(empty_url)
    yield database
    await database.close()


TEXT_INDEXES = {"images_by_words", "images_by_folded_filename"}
"""PostgreSQL's, which the models cannot tell of: SQLite has tables in their place."""


def differences(connection: Connection) -> list[Any]:
    """What a new migration would have to do. The job engine's tables are its own."""

    def is_ours(_: Any, name: str | None, kind: str, is_reflected: bool, __: Any) -> bool:
        if kind == "index" and is_reflected:
            return name not in TEXT_INDEXES
        return kind != "table" or not is_reflected or name in SQLModel.metadata.tables

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_object": is_ours}
    )
    return list(compare_metadata(context, SQLModel.metadata))


def our_tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) & set(SQLModel.metadata.tables)


def config_on(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    config.attributes["connection"] = connection
    return config


ONE = "00000000000000000000000000000001"
NOON = "2026-11-01 12:00:00.000000"


def image_of_the_first_release(number: int, filename: str, title: str) -> str:
    id = f"{number:032x}"
    return (
        "INSERT INTO images (id, workspace_id, version, origin, is_ai_generated, filename, title, "
        "is_favorite, media_type, byte_size, sha256, source_media_type, source_sha256, width, "
        "height, frames, has_alpha, declares_ai, has_c2pa, dominant_color, thumbhash, "
        "perceptual_hash, object_key, search_text, created_at, updated_at) "
        f"VALUES ('{id}', '{ONE}', 1, 'uploaded', false, '{filename}', '{title}', false, "
        f"'image/jpeg', 1, '{id}', 'image/jpeg', 'ab', 1, 1, 1, false, false, false, '#000000', "
        f"'', '', 'images/1', '', '{NOON}', '{NOON}')"
    )


A_TAGGED_IMAGE_OF_THE_FIRST_RELEASE = (
    f"INSERT INTO workspaces (id, name, created_at) VALUES ('{ONE}', 'team', '{NOON}')",
    "INSERT INTO objects (key, workspace_id, state, media_type, byte_size, sha256, changed_at) "
    f"VALUES ('images/1', '{ONE}', 'live', 'image/jpeg', 1, 'ab', '{NOON}')",
    image_of_the_first_release(1, "", "The beach"),
    f"INSERT INTO image_tags (image_id, tag) VALUES ('{ONE}', 'sea')",
)


async def test_the_migrations_make_what_the_models_say(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_difference_would_be_seen(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(text("DROP INDEX images_by_filename"))
        await connection.execute(text("ALTER TABLE images ADD COLUMN mood INTEGER"))

        found = await connection.run_sync(differences)
        await connection.rollback()

    assert {difference[0] for difference in found} == {"add_index", "remove_column"}


async def test_an_empty_database_is_not_current_until_it_is_migrated(empty: Database) -> None:
    before = await is_current(empty)

    await migrate(empty)

    assert (before, await is_current(empty)) == (False, True)
    async with empty.connection() as connection:
        assert await connection.run_sync(our_tables) == set(SQLModel.metadata.tables)


async def test_migrating_again_changes_nothing(database: Database) -> None:
    token = await Viewers(database).create_key("team", "dashboard")

    await migrate(database)

    assert await is_current(database)
    assert await Viewers(database).by_token(token) is not None


async def test_many_can_migrate_one_database_at_once(empty_url: str) -> None:
    databases = [Database(empty_url) for _ in range(3)]

    await asyncio.gather(*(migrate(database) for database in databases))

    assert [await is_current(database) for database in databases] == [True] * 3
    for database in databases:
        await database.close()


async def test_a_process_that_waits_for_another_to_migrate_holds_no_statement_open(
    unmigrated: Server,
) -> None:
    database = Database(await unmigrated.new_database(_leave_it))
    other = await asyncpg.connect(database.url.render_as_string(hide_password=False), timeout=5)
    await other.execute("SELECT pg_advisory_lock(4801200626)")

    waiting = asyncio.create_task(migrate(database))
    await asyncio.sleep(1)
    held = await other.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    was_done = waiting.done()
    await other.close()
    await waiting

    assert (was_done, held) == (False, 0)
    assert await is_current(database)
    await database.close()


async def test_a_database_of_another_release_is_not_current(empty: Database) -> None:
    await migrate(empty)
    async with empty.connection() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'future'"))

    assert not await is_current(empty)


async def test_nothing_is_lost_when_a_table_is_made_anew(empty: Database) -> None:
    async with empty.connection() as connection:
        await connection.run_sync(lambda sync: command.upgrade(config_on(sync), "0001"))
        for statement in A_TAGGED_IMAGE_OF_THE_FIRST_RELEASE:
            await connection.execute(text(statement))

    await migrate(empty)

    async with empty.connection() as connection:
        images = (await connection.execute(text("SELECT title, deleted_at FROM images"))).all()
        tags = (await connection.execute(text("SELECT tag FROM image_tags"))).all()
    assert [tuple(row) for row in images] == [("The beach", None)]
    assert [tuple(row) for row in tags] == [("sea",)]


DRAWN = (
    "INSERT INTO generations (id, workspace_id, requested_by, status, provider, model, prompt, "
    "requested_count, width, height, tags, attach, sequence, progress, stage, attempts, "
    "failure_is_retryable, created_at, beat_at) "
    f"VALUES ('{ONE}', '{ONE}', 'team', 'succeeded', 'card', 'card-1', 'a ☀\ufe0flake', "
    f"1, 1, 1, '[]', false, 1, 1, '', 1, false, '{NOON}', '{NOON}')",
    image_of_the_first_release(2, "", "Drawn"),
    f"UPDATE images SET generation_id = '{ONE}', alt_text = 'Alpen\u00adglow' "
    "WHERE title = 'Drawn'",
)
SUMMERS = range(3, 1300)
"""Numbers of images, more than are looked at at a time."""


@pytest.fixture
async def old_words(empty: Database) -> Database:
    """A database as the release before left it: its words were divided by what nobody sees."""
    async with empty.connection() as connection:
        await connection.run_sync(lambda sync: command.upgrade(config_on(sync), "0001"))
        for statement in (*A_TAGGED_IMAGE_OF_THE_FIRST_RELEASE, *DRAWN):
            await connection.exec_driver_sql(statement)
        for number in SUMMERS:
            image = image_of_the_first_release(number, "Co\u00adop.jpg", "🏖\ufe0fSummer")
            await connection.exec_driver_sql(image)
        await connection.run_sync(lambda sync: command.upgrade(config_on(sync), "0004"))
        for statement in (
            "UPDATE images SET folded_filename = 'co\u00adop.jpg', "
            "name_text = 'co op jpg 🏖 \ufe0fsummer' WHERE filename <> ''",
            "UPDATE images SET search_text = 'alpen glow a ☀ \ufe0flake' WHERE title = 'Drawn'",
            "UPDATE images SET title = 'The béach', name_text = 'sea beach the' "
            "WHERE title = 'The beach'",
        ):
            await connection.exec_driver_sql(statement)
    return empty


async def count(database: Database, filter: ImageFilter) -> int:
    shelf = Shelf(UUID(ONE), in_trash=False, is_sqlite=database.is_sqlite)
    return await total(database, shelf, filter)


async def test_images_get_the_words_that_their_texts_have_by_now(old_words: Database) -> None:
    found = [ImageFilter(search=search) for search in ("summer", "coop", "🏖\ufe0f summer")]
    found.append(ImageFilter(filename=Text(contains="coop.jpg")))
    lost = [ImageFilter(search="op"), ImageFilter(search="Sea")]
    before = [await count(old_words, filter) for filter in (*found, *lost)]

    await migrate(old_words)

    everyone = len(SUMMERS)
    assert before == [0, 0, 0, 0, everyone, 1]
    assert [await count(old_words, filter) for filter in found] == [everyone] * 4
    assert [await count(old_words, filter) for filter in lost] == [0, 1]


async def test_images_get_the_words_of_their_alt_text_and_prompt(old_words: Database) -> None:
    drawn = ImageFilter(search="alpenglow ☀ lake")
    before = await count(old_words, drawn)

    await migrate(old_words)

    assert (before, await count(old_words, drawn)) == (0, 1)


async def test_images_whose_words_are_as_they_were_are_not_written(old_words: Database) -> None:
    await migrate(old_words)

    async with old_words.connection() as connection:
        names = await connection.execute(
            text("SELECT name_text FROM images WHERE title = 'The béach'")
        )
        assert names.scalars().all() == ["sea beach the"]


async def test_every_step_can_be_taken_back(empty: Database) -> None:
    await migrate(empty)

    def take_back(connection: Connection) -> None:
        command.downgrade(config_on(connection), "base")

    async with empty.connection() as connection:
        await connection.run_sync(take_back)
        left = await connection.run_sync(our_tables)

    assert left == set()
    assert not await is_current(empty)
