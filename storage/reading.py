"""Rows as the driver gives them: the short road for what is often read, see `storage.statements`.

A reading is one statement, and so sees one state of the database, without a transaction around it.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import asyncpg
from anyio import CapacityLimiter, to_thread
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg as postgresql
from sqlalchemy.engine import URL

from storage.errors import Unavailable
from storage.statements import Prepared, Statements, Term

log = logging.getLogger(__name__)

Rows = Sequence[Sequence[Any]]

LONGEST = 30
"""Seconds that a reading may take."""

GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what is left of a connection that was ended while it rested
    ConnectionError,
)


class Reader(Protocol):
    async def fetch(self, wanted: Term) -> Rows:
        """Raises what the driver raises, and Unavailable for what takes too long."""
        ...

    async def close(self) -> None: ...


class SqliteReader:
    """Reads on the event loop what is read at once, and in a thread what takes longer.

    To hand a statement to a thread and its rows back takes as long as ten such readings, and more
    where the loop is busy: SQLite lets go of the interpreter at every row. So a statement is begun
    right here, and left when it was not done in a moment, to be run again by a thread.
    """

    MOMENT = 0.003
    """Seconds of the processor: what a busy machine makes of them does not count."""
    WAIT = 0.02
    """Seconds by the clock, where the disk is slow."""
    STEPS = 2000
    """Of SQLite's machine between two looks at the clocks: 0.1 ms or less."""
    THREADS = 4

    def __init__(self, url: URL, *, longest: float = LONGEST) -> None:
        self._path = url.database or ":memory:"
        self._longest = longest
        self._statements = Statements(sqlite.dialect())
        self._here: sqlite3.Connection | None = None
        self._began = self._worked = 0.0
        self._idle: list[sqlite3.Connection] = []
        self._threads = CapacityLimiter(self.THREADS)

    async def fetch(self, wanted: Term) -> Rows:
        prepared = self._statements.prepared(wanted)
        parameters = prepared.parameters(wanted)
        log.debug("read sql=%s", prepared.sql)
        rows = None if prepared.takes_long else self._at_once(prepared, parameters)
        if rows is None:
            rows = await to_thread.run_sync(
                self._in_time, prepared, parameters, limiter=self._threads
            )
        return prepared.rows(rows)

    def _at_once(self, prepared: Prepared, parameters: Sequence[Any]) -> Rows | None:
        """None when it would take longer."""
        if self._here is None:
            self._here = self._connect(wait=0)
            self._here.set_progress_handler(self._is_late, self.STEPS)
        self._began, self._worked = time.perf_counter(), time.thread_time()
        try:
            return self._here.execute(prepared.sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY):
                raise
            prepared.takes_long = True
            return None

    def _is_late(self) -> bool:
        return (
            time.thread_time() - self._worked > self.MOMENT
            or time.perf_counter() - self._began > self.WAIT
        )

    def _in_time(self, prepared: Prepared, parameters: Sequence[Any]) -> Rows:
        connection = self._idle.pop() if self._idle else self._connect(wait=30)
        began, last = time.thread_time(), time.perf_counter() + self._longest
        connection.set_progress_handler(lambda: time.perf_counter() > last, self.STEPS)
        try:
            return connection.execute(prepared.sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_INTERRUPT:
                raise
            raise _took_too_long(self._longest) from None
        finally:
            self._idle.append(connection)
            # With other values it may take longer, or not as long.
            prepared.takes_long = time.thread_time() - began > self.MOMENT / 2

    def _connect(self, *, wait: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=wait,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute("PRAGMA query_only=ON")
        return connection

    async def close(self) -> None:
        for connection in (self._here, *self._idle):
            if connection is not None:
                connection.close()
        self._here = None
        self._idle.clear()


class PostgresReader:
    """Reads on connections of its own, of which none is made before it is needed.

    PostgreSQL plans each reading for its values: the plan that it makes for any (from the sixth
    time on) does not know how many of a workspace's images they select, and takes four times as
    long for a page.
    """

    SETTINGS: ClassVar = {
        "plan_cache_mode": "force_custom_plan",
        "default_transaction_read_only": "on",
    }
    WAIT = 10
    """Seconds until one of the connections is free."""

    def __init__(self, url: URL, *, pool_size: int, longest: float = LONGEST) -> None:
        make_dialect: Any = postgresql.dialect  # it has no types
        dialect = make_dialect()
        self._statements = Statements(dialect)
        arguments: dict[str, Any] = dialect.create_connect_args(url)[1]
        arguments.setdefault("server_settings", {}).update(self.SETTINGS)
        self._arguments = {"timeout": 5, "command_timeout": longest} | arguments
        self._size = pool_size
        self._longest = longest
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, wanted: Term) -> Rows:
        prepared = self._statements.prepared(wanted)
        parameters = prepared.parameters(wanted)
        log.debug("read sql=%s", prepared.sql)
        pool = self._pool or await self._open()
        try:
            rows = await self._rows(pool, prepared.sql, parameters)
        except GONE:
            # The server was away, and may be back: then only the old connections are gone.
            await pool.expire_connections()
            rows = await self._rows(pool, prepared.sql, parameters)
        return prepared.rows(rows)

    async def _rows(self, pool: asyncpg.Pool, sql: str, parameters: Sequence[Any]) -> Sequence[Any]:
        async with asyncio.timeout(self.WAIT):
            connection = await pool.acquire()
        try:
            return await connection.fetch(sql, *parameters)
        except TimeoutError:
            raise _took_too_long(self._longest) from None
        finally:
            await pool.release(connection)

    async def _open(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    min_size=0, max_size=self._size, reset=_nothing, **self._arguments
                )
            return self._pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def _took_too_long(seconds: float) -> Unavailable:
    return Unavailable(
        f"The database did not find this within {seconds:g} seconds. Ask for less: fewer values "
        "in the filter, a shorter range of dates, or no totals."
    )


async def _nothing(connection: object) -> None:
    """A reading leaves nothing behind that would have to be put back."""
