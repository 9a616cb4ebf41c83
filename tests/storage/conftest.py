"""What the use cases beside the library's need; and one PostgreSQL database for all of them."""

import asyncio
from collections.abc import Collection
from uuid import UUID

import asyncpg
import pytest
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.changes import Notice
from storage.contents import Contents
from storage.database import Database
from storage.keeper import Keeper
from storage.migrations import migrate
from storage.objects.local import LocalObjectStore
from storage.renditions import Renditions
from tests.postgres import Server


class Ear:
    """Remembers the images that it was told of."""

    def __init__(self) -> None:
        self.told: list[UUID] = []

    async def __call__(self, session: AsyncSession, notices: Collection[Notice]) -> None:
        self.told += [notice.image_id for notice in notices]


@pytest.fixture(scope="session")
def shared_postgres_url(postgres: Server) -> str:
    return asyncio.run(postgres.new_database(_migrate))


@pytest.fixture
def postgres_url(shared_postgres_url: str) -> str:
    """A migrated PostgreSQL database without rows: emptied, which is much faster than made anew."""
    asyncio.run(_empty(shared_postgres_url))
    return shared_postgres_url


async def _migrate(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.close()


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    for table in reversed(SQLModel.metadata.sorted_tables):
        await connection.execute(f"DELETE FROM {table.name}")
    await connection.close()


@pytest.fixture
def contents(database: Database) -> Contents:
    return Contents(database)


@pytest.fixture
def renditions(database: Database, keeper: Keeper, store: LocalObjectStore) -> Renditions:
    return Renditions(
        database, keeper, store, threads=2, memory_bytes=10**7, kept=100, is_alone=False
    )
