"""Brings a database to the newest schema: ours by Alembic, the job engine's by itself."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from anyio import to_thread
from sqlalchemy import Connection

from storage import jobs
from storage.database import Database


async def migrate(database: Database) -> None:
    """Safe to run on a database that is up to date."""
    async with database.connection() as connection:
        await connection.run_sync(_upgrade)
    await to_thread.run_sync(jobs.migrate, database.url)


async def is_current(database: Database) -> bool:
    """Whether this release can work with the database as it is."""
    async with database.connection() as connection:
        return await connection.run_sync(_revision) == _script().get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Two processes that start at once take turns.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4801200626)")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if (
        connection.dialect.name == "sqlite"
        and connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    ):
        raise RuntimeError("The migration would leave rows that refer to nothing.")
