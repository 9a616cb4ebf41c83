"""Brings a database to the newest schema: ours by Alembic, the job engine's by itself."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from anyio import sleep, to_thread
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import jobs
from storage.database import Database


async def migrate(database: Database) -> None:
    """Safe to run on a database that is up to date."""
    async with database.connection() as connection:
        if not database.is_sqlite:
            await _take_turn(connection)
        await connection.run_sync(_upgrade)
    await to_thread.run_sync(jobs.migrate, database.url)


async def is_current(database: Database) -> bool:
    """Whether this release can work with the database as it is."""
    async with database.connection() as connection:
        return await connection.run_sync(_revision) == _script().get_current_head()


async def _take_turn(connection: AsyncConnection) -> None:
    """Two processes that start at once take turns, however long a large library takes.

    Whoever waits asks now and then: a statement that waits itself would be given up in between.
    """
    mine = text("SELECT pg_try_advisory_xact_lock(4801200626)")
    while not await connection.scalar(mine):  # noqa: ASYNC110  # the database tells nobody
        await sleep(0.2)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if (
        connection.dialect.name == "sqlite"
        and connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    ):
        raise RuntimeError("The migration would leave rows that refer to nothing.")
