"""Throw-away databases on a PostgreSQL server that runs anyway, and servers to be stopped."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

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


class OwnServer:
    """A PostgreSQL server of our own, in `folder`, that can be stopped and started."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user)
            for parent in self._folder.parents[:-2]:  # so that the user comes this far
                parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", "start", "-w", "-o", options, "-l", str(self._folder / "server.log"))

    def stop(self) -> None:
        """At once, as if its machine had lost its power."""
        self._run("pg_ctl", "stop", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), "-D", str(self._folder / "data"), *arguments],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )


def find_programs() -> Path | None:
    """Where the server's programs are: on the path, or where Debian keeps them."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
