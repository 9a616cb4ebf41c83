"""Several API processes and workers on one PostgreSQL."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.service import JSON, Process, Service
from tests.pictures import jpeg


class Cluster:
    """Two API processes that do no work, and workers that can be added and killed."""

    def __init__(self, folder: Path, database_url: str, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.settings = {
            "DATA_DIR": str(folder / "data"),
            "DATABASE_URL": database_url,
            "OBJECTS_URL": f"file://{folder}/objects",
            "SIGNING_KEYS": secrets.token_hex(32),
            "CARD_STAGE_SECONDS": "0.5",
            "LEASE_SECONDS": "2",
        }
        self.one, self.two = self._api(), self._api()
        self.workers: list[Process] = []

    def _api(self) -> Service:
        service = Service(self.folder, **self.settings)
        self.stack.callback(service.stop)
        return service.start("--no-worker")

    def add_worker(self) -> Process:
        worker = Process(["worker"], self.settings, self.folder / f"worker-{len(self.workers)}.log")
        self.stack.callback(worker.stop)
        self.workers.append(worker)
        worker.wait_until_logged("worker.ready")
        return worker

    def calls(self) -> int:
        logs = [worker.log.read_text() for worker in self.workers]
        return sum(log.count("provider.called") for log in logs)


@pytest.fixture
def cluster(tmp_path: Path, postgres_url: str) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, postgres_url, stack)


async def _watched(service: Service, id: str) -> list[JSON]:
    async with service.watching(op.PROGRESS, id=id) as events:
        return [event["generationProgress"] async for event in events]


async def test_a_worker_makes_what_one_api_took_on_and_the_other_watches(cluster: Cluster) -> None:
    cluster.add_worker()
    wish = await cluster.one.ask(op.GENERATE, input={"prompt": "Across", "width": 99, "height": 99})
    id = wish["generateImage"]["generation"]["id"]

    events = await _watched(cluster.two, id)

    assert events[-1]["status"] == "SUCCEEDED"
    assert len(events) >= 4
    image = (await cluster.two.ask(op.GENERATION, id=id))["generation"]["images"][0]
    assert (await cluster.two.fetch(image["url"])).status_code == 200


async def test_a_dead_workers_job_is_taken_over_and_its_watcher_told(cluster: Cluster) -> None:
    victim = cluster.add_worker()
    input = {"prompt": "Orphan", "count": 3, "width": 99, "height": 99}
    wish = await cluster.one.ask(op.GENERATE, input=input)
    id = wish["generateImage"]["generation"]["id"]
    watching = asyncio.create_task(_watched(cluster.two, id))
    victim.wait_until_logged("provider.called")

    cluster.add_worker()
    victim.kill()
    events = await asyncio.wait_for(watching, 40)

    assert events[-1]["__typename"] == "GenerationFinished"
    assert events[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"
    assert cluster.calls() == 1


async def test_a_worker_that_is_told_to_stop_finishes_its_job(cluster: Cluster) -> None:
    worker = cluster.add_worker()
    wish = await cluster.one.ask(op.GENERATE, input={"prompt": "Last", "width": 99, "height": 99})
    id = wish["generateImage"]["generation"]["id"]
    worker.wait_until_logged("provider.called")

    code = worker.terminate(20)

    assert code == 0
    assert (await cluster.one.ask(op.GENERATION, id=id))["generation"]["status"] == "SUCCEEDED"


async def test_what_changes_by_one_api_is_told_to_whoever_watches_the_other(
    cluster: Cluster,
) -> None:
    async with cluster.two.watching(op.LIBRARY_CHANGED) as events:
        first = (await anext(events))["libraryChanged"]
        answer = await cluster.one.upload(op.UPLOAD, jpeg())
        added = (await anext(events))["libraryChanged"]
        id = answer["uploadImage"]["image"]["id"]
        await cluster.one.ask(op.DELETE, id=id)
        deleted = (await anext(events))["libraryChanged"]

    assert first["__typename"] == "LibraryReset"
    assert (added["__typename"], added["image"]["id"]) == ("ImageAdded", id)
    assert (deleted["__typename"], deleted["imageId"]) == ("ImageDeleted", id)
