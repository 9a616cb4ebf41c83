"""The service on each kind of set-up, its books, and how it dies where it is told to."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from aiohttp import ClientError
from gql.transport.exceptions import TransportConnectionFailed

from graph.config import Settings
from graph.parts import open_store
from storage.database import Database
from storage.doctor import Doctor, Report
from storage.keeper import Keeper
from storage.migrations import migrate
from storage.models import ObjectState
from storage.trash import Trash
from storage.viewers import Viewers
from tests.end_to_end import operations as op
from tests.end_to_end.service import Process, Service, free_port
from tests.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from tests.storage.rows import object_states

LOST = (httpx.TransportError, ClientError, TransportConnectionFailed, ConnectionError)
"""How it looks when the other side dies."""


class Installation:
    """A service on one kind of set-up, that dies where it is told to."""

    def __init__(self, service: Service) -> None:
        self.service = service

    @property
    def is_served(self) -> bool:
        """By S3 and PostgreSQL, rather than embedded."""
        return "S3_ENDPOINT_URL" in self.service.settings

    def start(self, failpoint: str | None = None) -> None:
        self.service.settings["FAILPOINT"] = failpoint or ""
        self.service.start()

    async def dies(self, work: Awaitable[object]) -> None:
        """Without an answer, by SIGKILL."""
        with suppress(*LOST):
            raise AssertionError(f"it answered: {await work}")
        assert await asyncio.to_thread(self.service.running.popen.wait, 10) == -9

    @asynccontextmanager
    async def doctor(self) -> AsyncIterator[tuple[Doctor, Database]]:
        settings = settings_of(self.service)
        database = Database(settings.database)
        async with open_store(settings, settings.objects_url) as store:
            keeper = Keeper(database, store, grace=timedelta(0))
            trash = Trash(database, keeper, kept_for=timedelta(days=1))
            yield Doctor(database, store, keeper, trash, grace=timedelta(0)), database
        await database.close()

    async def balance(self, objects: int | None = None) -> None:
        """When the sweep had time, rows and bytes must be the same, and these many."""
        async with self.doctor() as (doctor, database):
            for _ in range(50):
                report = await doctor.examine(reads_bytes=True)
                states = set((await object_states(database)).values())
                balanced = Report(report.objects if objects is None else objects)
                if report == balanced and ObjectState.DOOMED not in states:
                    return
                await asyncio.sleep(0.2)
        assert report == balanced

    async def images(self, **filter: object) -> dict[str, str]:
        """The ids of the library's images, with the SHA-256 of what their URLs deliver."""
        told = (await self.service.ask(op.IMAGES_WITH_URLS, filter=filter or None))["images"]
        async with httpx.AsyncClient() as client:
            answers = [await client.get(node["url"]) for node in told["nodes"]]
        assert [answer.status_code for answer in answers] == [200] * told["totalCount"]
        digests = [hashlib.sha256(answer.content).hexdigest() for answer in answers]
        assert digests == [node["sha256"] for node in told["nodes"]]
        return {node["id"]: digest for node, digest in zip(told["nodes"], digests, strict=True)}


@pytest.fixture(params=["local and SQLite", "S3 and PostgreSQL"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    settings = {
        "GRACE_MINUTES": "0.02",
        "SWEEP_SECONDS": "0.3",
        "IMPORT_NETWORKS": "127.0.0.0/8",
        "IMPORT_PORTS": str(free_port()),
    }
    if request.param != "local and SQLite":
        settings |= shared(
            request.getfixturevalue("postgres_url"),
            request.getfixturevalue("seaweed"),
            tmp_path.name,
        )
    service = Service(tmp_path, **settings)
    yield Installation(service)
    service.stop()


def shared(database_url: str, seaweed: Seaweed, folder: str) -> dict[str, str]:
    """Settings of processes that share a PostgreSQL database, and a folder of an S3 bucket."""
    return {
        "DATABASE_URL": database_url,
        "SIGNING_KEYS": secrets.token_hex(32),
        "OBJECTS_URL": f"s3://media/{folder}",
        "S3_ENDPOINT_URL": seaweed.url,
        "S3_ACCESS_KEY_ID": ACCESS_KEY,
        "S3_SECRET_ACCESS_KEY": SECRET_KEY,
    }


class Cluster:
    """Two API processes that do no work, and workers that can be added and killed."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.settings = settings
        self._folder = folder
        self.one, self.two = Service(folder, **settings), Service(folder, **settings)
        self.workers: list[Process] = []

    def start(self) -> None:
        for service in (self.one, self.two):
            service.launch("--no-worker")
        for service in (self.one, self.two):
            service.wait_until_ready()

    def add_worker(self, **settings: str) -> Process:
        """One that has begun to start, with settings of its own beside the others'."""
        log = self._folder / f"worker-{len(self.workers)}.log"
        data = {"DATA_DIR": str(self._folder / "data")}
        self.workers.append(Process(["worker"], self.settings | data | settings, log))
        return self.workers[-1]

    def stop(self) -> None:
        for service in (self.one, self.two):
            service.stop()
        for worker in self.workers:
            worker.stop()

    @property
    def logs(self) -> str:
        files = {self.one.log, self.two.log, *(worker.log for worker in self.workers)}
        return "".join(file.read_text() for file in files)


async def migrated(url: str) -> None:
    """Bring an empty database to the present schema."""
    database = Database(url)
    await migrate(database)
    await database.close()


async def new_key(service: Service, workspace: str, name: str) -> str:
    """An API key for the running service."""
    database = Database(settings_of(service).database)
    key = await Viewers(database).create_key(workspace, name)
    await database.close()
    return key


def settings_of(service: Service) -> Settings:
    named = {name.lower(): value for name, value in service.settings.items()}
    return Settings(_env_file=None, **named)  # type: ignore[arg-type, call-arg]  # as text
