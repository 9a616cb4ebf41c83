"""Throw-away databases on a PostgreSQL server that runs anyway."""

import os
import secrets
from collections.abc import Awaitable, Callable

import asyncpg
from sqlalchemy import make_url

DEFAULT = "postgresql://postgres@127.0.0.1:5432/postgres"


class Server:
    """Makes databases with names of our own, from one migrated template, and drops them all."""

    def __init__(self, admin_dsn: str) -> None:
        self._admin_dsn = admin_dsn
        self._names: list[str] = []
        self._template: str | None = None

    async def new_database(self, migrate: Callable[[str], Awaitable[None]]) -> str:
        """The URL of a database that is migrated and empty."""
        if self._template is None:
            self._template = await self._create()
            await migrate(self._url(self._template))
        return self._url(await self._create(self._template))

    async def clean_up(self) -> None:
        for name in self._names:
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _create(self, template: str = "template1") -> str:
        name = f"darkroom_test_{secrets.token_hex(6)}"
        self._names.append(name)
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def _url(self, name: str) -> str:
        return make_url(self._admin_dsn).set(database=name).render_as_string(hide_password=False)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._admin_dsn, timeout=5)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def find_server() -> Server | None:
    """The one that TEST_POSTGRES_DSN names, or one on the standard port, or None."""
    dsn = os.environ.get("TEST_POSTGRES_DSN", DEFAULT)
    try:
        connection = await asyncpg.connect(dsn, timeout=3)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return None
    await connection.close()
    return Server(dsn)
