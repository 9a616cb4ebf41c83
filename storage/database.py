"""The rows' home: SQLite (one file, WAL) or PostgreSQL, the same code on both."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Connection, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import Unavailable
from storage.reading import LONGEST, PostgresReader, Reader, Rows, SqliteReader
from storage.statements import Term

log = logging.getLogger(__name__)

AWAY = ("08", "53", "57P", "40001", "40P01")
"""Connections lost, resources used up, a server that stops or starts, transactions that met:
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises of itself."""

DRIVERS = (sqlite3.Error, asyncpg.PostgresError, *LOST)

RETRY_AFTER = 5  # seconds


class Database:
    """Sessions on one engine. Whoever made it closes it.

    On SQLite a transaction that will write says so at its beginning (`BEGIN IMMEDIATE`): one that
    read first and wants to write later is refused at once, however long it would be ready to wait.
    """

    def __init__(self, url: str, *, pool_size: int = 10, longest: float = LONGEST) -> None:
        """`longest` is in seconds: what a reading, and on PostgreSQL any statement, may take."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = (
            _sqlite(self.url) if self.is_sqlite else _postgresql(self.url, pool_size, longest)
        )
        self._writing_engine = self._engine.execution_options(writes=True)
        # On SQLite every transaction sees one state; PostgreSQL has to be asked for that.
        self._reading_engine = (
            self._engine
            if self.is_sqlite
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._reader: Reader = (
            SqliteReader(self.url, longest=longest)
            if self.is_sqlite
            else PostgresReader(self.url, pool_size=pool_size, longest=longest)
        )

    async def fetch(self, wanted: Term) -> Rows:
        """The plain rows of one statement that only reads: for what is often asked."""
        async with self._answering():
            return await self._reader.fetch(wanted)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database. Nothing it does is kept."""
        async with (
            self._answering(),
            AsyncSession(self._reading_engine, expire_on_commit=False) as session,
        ):
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction: kept when the block ends, undone when it raises."""
        async with (
            self._answering(),
            AsyncSession(self._writing_engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """A database that does not answer is Unavailable; it may be back in a moment."""
        try:
            yield
        except (OSError, DBAPIError, PoolTimeout, *DRIVERS) as fault:
            if isinstance(fault, (DBAPIError, *DRIVERS)) and not self._is_away(fault):
                raise
            log.warning("database.unavailable reason=%s", type(fault.__cause__ or fault).__name__)
            raise Unavailable(
                "The database does not answer. Try again in a few seconds.", retry_after=RETRY_AFTER
            ) from fault

    def _is_away(self, fault: BaseException) -> bool:
        driver = fault.orig if isinstance(fault, DBAPIError) else fault
        if self.is_sqlite:
            return any(word in str(driver) for word in ("locked", "disk"))
        if isinstance(fault, DBAPIError) and fault.connection_invalidated:
            return True
        if isinstance(fault, (InterfaceError, OperationalError, *LOST)):
            return True
        return str(getattr(driver, "sqlstate", None)).startswith(AWAY)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """One transaction without objects, for migrations: it takes as long as it has to.

        SQLite changes a table by making it anew and dropping the old one, with which all rows would
        go that refer to it: so it does not follow references here.
        """
        engine = (
            self._writing_engine.execution_options(rebuilds=True)
            if self.is_sqlite
            else _postgresql(self.url, pool_size=1, longest=None)
        )
        try:
            async with engine.connect() as connection:
                try:
                    async with connection.begin():
                        yield connection
                finally:
                    await connection.invalidate()  # nobody else gets one without references
        finally:
            if not self.is_sqlite:
                await engine.dispose()

    async def check(self) -> None:
        """Raises what the driver raises when the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self._reader.close()
        await self._engine.dispose()


async def insert_once(session: AsyncSession, row: SQLModel) -> bool:
    """Insert `row` unless a unique index already holds its like. Says whether it was inserted.

    On PostgreSQL this waits for a concurrent transaction that inserts the same.
    """
    table = type(row)
    dialect = session.get_bind().dialect.name
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    statement = insert.values(row.model_dump()).on_conflict_do_nothing().returning(text("1"))
    return (await session.exec(statement)).first() is not None


def sqlite_url(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string()


def _postgresql(url: URL, pool_size: int, longest: float | None) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={"timeout": 5, "command_timeout": longest},
    )


def _sqlite(url: URL) -> AsyncEngine:
    engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"))

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("rebuilds"):  # it has an effect only outside of a transaction
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine
