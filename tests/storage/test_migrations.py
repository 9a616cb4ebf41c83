"""A database is brought to what the models say, once or again, alone or by many at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

from storage import migrations
from storage.database import Database, sqlite_url
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
NOON = "2026-11-01 12:00:00+00:00"
A_TAGGED_IMAGE_OF_THE_FIRST_RELEASE = (
    f"INSERT INTO workspaces (id, name, created_at) VALUES ('{ONE}', 'team', '{NOON}')",
    "INSERT INTO objects (key, workspace_id, state, media_type, byte_size, sha256, changed_at) "
    f"VALUES ('images/1', '{ONE}', 'live', 'image/jpeg', 1, 'ab', '{NOON}')",
    "INSERT INTO images (id, workspace_id, version, origin, is_ai_generated, filename, title, "
    "is_favorite, media_type, byte_size, sha256, source_media_type, source_sha256, width, height, "
    "frames, has_alpha, declares_ai, has_c2pa, dominant_color, thumbhash, perceptual_hash, "
    "object_key, search_text, created_at, updated_at) "
    f"VALUES ('{ONE}', '{ONE}', 1, 'uploaded', false, '', 'The beach', false, 'image/jpeg', 1, "
    "'ab', 'image/jpeg', 'ab', 1, 1, 1, false, false, false, '#000000', '', '', 'images/1', '', "
    f"'{NOON}', '{NOON}')",
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


async def test_every_step_can_be_taken_back(empty: Database) -> None:
    await migrate(empty)

    def take_back(connection: Connection) -> None:
        command.downgrade(config_on(connection), "base")

    async with empty.connection() as connection:
        await connection.run_sync(take_back)
        left = await connection.run_sync(our_tables)

    assert left == set()
    assert not await is_current(empty)
