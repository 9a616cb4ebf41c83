"""Killed at each step of a job, or stopped in its midst: it is paid for once at most, and whoever
watches hears its end.

`storage/failpoints.py` lets a process die at a named point. One process on SQLite is started again;
of several on PostgreSQL and S3 another worker takes over, and the API process that did not take the
wish tells how it ended.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from tests import midjourney_server, openai_server
from tests.end_to_end import operations as op
from tests.end_to_end.installation import LOST, Cluster, Installation, migrated, new_key, shared
from tests.end_to_end.service import JSON, Service
from tests.generation.test_provenance import Authority
from tests.midjourney_server import MidjourneyServer, Step, drawn
from tests.openai_server import OpenAIServer
from tests.postgres import Server
from tests.seaweed import Seaweed

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDLESS = [Step("SUBMITTED", "0%")]
"""A task that the proxy never comes to."""


@dataclass(frozen=True)
class Crash:
    """Where a worker dies, how the generation ends then, and how often it was drawn in all."""

    failpoint: str
    is_made: bool
    drawn: int = 1
    provider: str = "openai"
    count: int = 1

    @property
    def settings(self) -> dict[str, str]:
        """A preview is shown when it is what dies."""
        is_shown = self.failpoint == "preview.kept"
        return {"FAILPOINT": self.failpoint, "PROVIDER_PREVIEWS": "1" if is_shown else "0"}

    @property
    def wish(self) -> JSON:
        small = {"width": 816, "height": 816, "quality": "LOW"}
        asked = small if self.provider == "openai" else {"width": 1024, "height": 1024}
        named = {"prompt": f"Until {self.failpoint}", "idempotencyKey": self.failpoint}
        return named | asked | {"provider": self.provider, "count": self.count}


CRASHES = [
    Crash("job.begun", is_made=True),
    Crash("latch.taken", is_made=False, drawn=0),
    Crash("latch.given_back", is_made=True, provider="midjourney"),
    Crash("task.kept", is_made=True, provider="midjourney"),
    Crash("preview.kept", is_made=False),
    Crash("cost.kept", is_made=False),
    Crash("image.arrived", is_made=False),
    Crash("object.named", is_made=False),
    Crash("object.written", is_made=True),
    Crash("image.inserted", is_made=True),
    Crash("image.kept", is_made=True),
    Crash("image.catalogued", is_made=True),
    Crash("image.announced", is_made=True),
    Crash("image.announced@2", is_made=True, provider="midjourney", count=4),
    Crash("generation.ended", is_made=True),
]
ALIKE = ("image.arrived", "image.kept", "image.announced")
"""Points that leave behind what their neighbour does: with several processes is enough of them."""

TOLD_APART = [crash for crash in CRASHES if crash.failpoint not in ALIKE]


class StandIns:
    """Both providers, which hold on to what they are asked for or answer it."""

    def __init__(self, openai: OpenAIServer, midjourney: MidjourneyServer) -> None:
        self.openai, self.midjourney = openai, midjourney
        self.settings = {
            "OPENAI_API_KEY": openai_server.API_KEY,
            "OPENAI_BASE_URL": openai.url,
            "MIDJOURNEY_BASE_URL": midjourney.url,
            "MIDJOURNEY_SECRET": midjourney_server.SECRET,
            "MIDJOURNEY_TERMS_ACKNOWLEDGED": "true",
            "MIDJOURNEY_PRICE": "0.08",
            "MIDJOURNEY_POLL_SECONDS": "0.05",
        }

    def hold(self) -> None:
        self.openai.seconds, self.midjourney.script = 3600, ENDLESS
        self.openai.is_asked.clear()
        self.midjourney.is_polled.clear()

    async def asked(self, provider: str) -> None:
        is_openai = provider == "openai"
        event = self.openai.is_asked if is_openai else self.midjourney.is_polled
        await asyncio.wait_for(event.wait(), 40)

    def answer(self, crash: Crash) -> None:
        """As the crash needs it."""
        self.openai.seconds = 0.4 if crash.failpoint == "preview.kept" else 0
        self.midjourney.script = drawn()
        if crash.failpoint == "latch.given_back":
            self.midjourney.fail_with("429", on="imagine")

    def drawn(self, crash: Crash) -> int:
        """How often the wish came so far that it costs."""
        asked = [request.fields["prompt"] for request in self.openai.requests]
        return sum(crash.wish["prompt"] in prompt for prompt in asked + self.midjourney.prompts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand_ins() -> AsyncIterator[StandIns]:
    async with (
        openai_server.openai_server() as openai,
        midjourney_server.midjourney_server("csharp") as midjourney,
    ):
        yield StandIns(openai, midjourney)


async def wish(service: Service, crash: Crash, key: str | None = None) -> str:
    answer = (await service.ask(op.WISH, key=key, input=crash.wish))["generateImage"]
    assert answer["errors"] == []
    return str(answer["generation"]["id"])


async def check(
    service: Service, id: str, events: list[JSON], crash: Crash, key: str | None = None
) -> None:
    """The events of who watched, the row, the pictures and the money tell the same story."""
    end = ("SUCCEEDED", None) if crash.is_made else ("FAILED", "OUTCOME_UNKNOWN")
    finished = [event for event in events if event["__typename"] == "GenerationFinished"]
    assert finished == events[-1:]
    assert (finished[0]["status"], (finished[0]["failure"] or {}).get("code")) == end

    row = (await service.ask(op.RECIPE_OF, key=key, id=id))["generation"]
    assert (row["status"], (row["failure"] or {}).get("code")) == end
    assert len(row["images"]) == (crash.count if crash.is_made else 0)
    library = (await service.ask(op.IMAGES, key=key))["images"]
    assert {node["id"] for node in library["nodes"]} == {image["id"] for image in row["images"]}

    told = await service.ask(op.LEDGER, key=key)
    (entry,) = told["ledger"]["nodes"]
    estimated, actual = Decimal(row["estimatedCost"]), Decimal(row["actualCost"])
    assert (actual > 0) == (crash.is_made or crash.failpoint not in ("latch.taken", "preview.kept"))
    spent = actual if crash.is_made else max(actual, estimated)
    assert (entry["state"], Decimal(entry["actual"])) == (
        "SETTLED" if crash.is_made else "ASSUMED",
        spent,
    )
    account = told["budgets"]["workspace"]
    assert Decimal(account["spent"]) == spent
    assert Decimal(account["reserved"]) == 0


# ---- one process, which is started again -------------------------------------------------------


def signing(folder: Path) -> dict[str, str]:
    """Settings with which pictures are signed: what a crash leaves is then signed once more."""
    options = Authority("An authority").issue()
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_text(str(options.certificates))
    secret.write_text(options.private_key.get_secret_value())  # type: ignore[union-attr]  # no file
    return {"C2PA_CERTIFICATES": str(chain), "C2PA_PRIVATE_KEY": str(secret)}


def alone(folder: Path, stand_ins: StandIns) -> Service:
    times = {"GRACE_MINUTES": "0.01", "SWEEP_SECONDS": "0.3"}
    return Service(folder, **times, **signing(folder), **stand_ins.settings)


@pytest.mark.parametrize("crash", TOLD_APART, ids=lambda crash: crash.failpoint)
async def test_killed_and_started_again_it_is_paid_for_once_at_most(
    crash: Crash, tmp_path: Path, stand_ins: StandIns
) -> None:
    service = alone(tmp_path, stand_ins)
    service.settings |= crash.settings
    stand_ins.openai.requests.clear()
    stand_ins.midjourney.submits.clear()
    stand_ins.answer(crash)
    try:
        await asyncio.to_thread(service.start)
        with suppress(*LOST):
            await wish(service, crash)
        assert await service.running.died()

        service.settings["FAILPOINT"] = ""
        await asyncio.to_thread(service.start)
        id = await wish(service, crash)  # under the same key, so that it is the same
        events = await service.watched(op.PROGRESS, id=id)

        await check(service, id, events, crash)
        assert stand_ins.drawn(crash) == crash.drawn
        await Installation(service).balance()
    finally:
        service.stop()


# ---- several processes, of which one worker dies -----------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    postgres: Server,
    seaweed: Seaweed,
    stand_ins: StandIns,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Cluster]:
    """With a worker of its own, which does one job at a time."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(
        folder,
        **shared(await postgres.new_database(migrated), seaweed, folder.name),
        **stand_ins.settings,
        GENERATIONS_AT_ONCE="1",
        PROVIDER_PREVIEWS="0",
        LEASE_SECONDS="1",
        GRACE_MINUTES="0.01",
        SWEEP_SECONDS="0.3",
    )
    try:
        cluster.add_worker()
        await asyncio.to_thread(cluster.start)
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: crash.failpoint)
async def test_a_job_whose_worker_was_killed_is_ended_by_another_and_told_by_the_other_api(
    crash: Crash, cluster: Cluster, stand_ins: StandIns
) -> None:
    key = await new_key(cluster.one, crash.failpoint, "who waits")
    stand_ins.openai.requests.clear()
    stand_ins.midjourney.submits.clear()
    stand_ins.hold()
    busy = await wish(cluster.one, replace(crash, failpoint=f"no {crash.failpoint}"))
    await stand_ins.asked(crash.provider)  # so the worker that shall survive has no hand free
    stand_ins.answer(crash)

    victim = cluster.add_worker(**crash.settings)
    id = await wish(cluster.one, crash, key)
    watching = asyncio.create_task(cluster.two.watched(op.PROGRESS, key=key, id=id))
    assert await victim.died()
    await cluster.two.ask(op.CANCEL, id=busy)
    events = await asyncio.wait_for(watching, 60)

    await check(cluster.one, id, events, crash, key)
    assert stand_ins.drawn(crash) == crash.drawn
    await Installation(cluster.one).balance()


# ---- told to stop, by SIGTERM, before the job is done ------------------------------------------


class Stoppable:
    """Who takes wishes, who tells of them, and who works: one process, or several of them."""

    def __init__(self, folder: Path, stand_ins: StandIns, database_url: str | None) -> None:
        settings = stand_ins.settings | {"DRAIN_SECONDS": "1", "PROVIDER_PREVIEWS": "0"}
        self.cluster: Cluster | None = None
        if database_url is None:
            self.api = Service(folder, **settings)
        else:
            common = {
                "DATABASE_URL": database_url,
                "OBJECTS_URL": f"file://{folder}/objects",
                "SIGNING_KEYS": secrets.token_hex(32),
                "LEASE_SECONDS": "1",
            }
            self.cluster = Cluster(folder, **settings | common)
            self.api = self.cluster.one

    def start(self) -> None:
        if self.cluster is None:
            self.api.start()
        else:
            if not self.cluster.workers:
                self.cluster.start()
            self.cluster.add_worker().wait_until_logged("worker.ready")

    def terminate(self) -> int:
        """The one that works; the exit code."""
        worker = self.cluster.workers[-1] if self.cluster else self.api.running
        return worker.terminate(20)

    def stop(self) -> None:
        (self.cluster or self.api).stop()

    @property
    def log(self) -> str:
        return self.cluster.logs if self.cluster else self.api.log.read_text()


@pytest.fixture(params=["one process on SQLite", "several on PostgreSQL"])
def stoppable(
    request: pytest.FixtureRequest, tmp_path: Path, stand_ins: StandIns
) -> Iterator[Stoppable]:
    is_alone = request.param == "one process on SQLite"
    url = None if is_alone else request.getfixturevalue("postgres_url")
    stoppable = Stoppable(tmp_path, stand_ins, url)
    stand_ins.openai.requests.clear()
    stand_ins.midjourney.submits.clear()
    stand_ins.midjourney.cancels.clear()
    stand_ins.hold()
    yield stoppable
    stoppable.stop()


async def stopped(stoppable: Stoppable, stand_ins: StandIns, asked: Crash) -> tuple[str, str]:
    """A key and a generation, whose provider was asked when the process was stopped."""
    await asyncio.to_thread(stoppable.start)
    key = await new_key(stoppable.api, "the team", "who waits")
    id = await wish(stoppable.api, asked, key)
    await stand_ins.asked(asked.provider)
    assert await asyncio.to_thread(stoppable.terminate) == 0
    return key, id


async def test_a_task_is_left_alone_by_who_is_stopped_and_asked_after_by_the_next(
    stoppable: Stoppable, stand_ins: StandIns
) -> None:
    asked = Crash("stopped", is_made=True, provider="midjourney", count=4)
    key, id = await stopped(stoppable, stand_ins, asked)
    *_, task = stand_ins.midjourney.tasks.values()
    task.steps = drawn()[-1:]

    await asyncio.to_thread(stoppable.start)
    async with asyncio.timeout(40):
        events = await stoppable.api.watched(op.PROGRESS, key=key, id=id)

    await check(stoppable.api, id, events, asked, key)
    assert (stand_ins.drawn(asked), stand_ins.midjourney.cancels) == (1, [])
    assert "worker.interrupted jobs=1" in stoppable.log
    assert not [word for word in (" ERROR ", "Traceback", "unclosed") if word in stoppable.log]


async def test_a_call_that_outlasts_the_stop_is_told_as_unknown_and_not_made_again(
    stoppable: Stoppable, stand_ins: StandIns
) -> None:
    asked = Crash("stopped", is_made=False)
    key, id = await stopped(stoppable, stand_ins, asked)
    stand_ins.answer(asked)

    await asyncio.to_thread(stoppable.start)
    async with asyncio.timeout(40):
        events = await stoppable.api.watched(op.PROGRESS, key=key, id=id)

    (*_, finished) = events
    assert (finished["status"], finished["failure"]["code"]) == ("FAILED", "OUTCOME_UNKNOWN")
    row = (await stoppable.api.ask(op.RECIPE_OF, key=key, id=id))["generation"]
    assert (row["calls"], stand_ins.drawn(asked)) == (1, 1)
    (entry,) = (await stoppable.api.ask(op.LEDGER, key=key))["ledger"]["nodes"]
    assert (entry["state"], entry["actual"]) == ("ASSUMED", row["estimatedCost"])
    assert not [word for word in (" ERROR ", "Traceback", "unclosed") if word in stoppable.log]


# ---- before the job, beside it, and in the midst of it -----------------------------------------


async def test_a_wish_that_died_is_one_generation_when_it_is_repeated(
    installation: Installation, stand_ins: StandIns
) -> None:
    service, asked = installation.service, replace(CRASHES[0], failpoint="again")
    service.settings |= stand_ins.settings | {"PROVIDER_PREVIEWS": "0"}
    stand_ins.openai.requests.clear()
    stand_ins.answer(asked)

    for failpoint in ("generation.queueing", "generation.queued"):
        await asyncio.to_thread(installation.start, failpoint)
        await installation.dies(wish(service, asked))
    await asyncio.to_thread(installation.start)
    ids = {await wish(service, asked) for _ in range(2)}

    (id,) = ids
    await check(service, id, await service.watched(op.PROGRESS, id=id), asked)
    assert stand_ins.drawn(asked) == 1
    await installation.balance(2)


async def test_what_was_cancelled_when_the_service_died_is_never_asked_for(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    service = alone(tmp_path, stand_ins)
    service.settings |= {"PROVIDER_PREVIEWS": "0", "FAILPOINT": "generation.ended"}
    service.settings |= {"GENERATIONS_PER_VIEWER": "1"}
    busy, queued = (replace(CRASHES[0], failpoint=name) for name in ("busy", "queued"))
    stand_ins.openai.requests.clear()
    stand_ins.hold()
    try:
        await asyncio.to_thread(service.start)
        running = await wish(service, busy)
        await stand_ins.asked("openai")
        id = await wish(service, queued)
        with suppress(*LOST):
            await service.ask(op.CANCEL, id=id)
        assert await service.running.died()

        service.settings["FAILPOINT"] = ""
        await asyncio.to_thread(service.start)
        await service.watched(op.PROGRESS, id=running)  # which had to end before the other began
        events = await service.watched(op.PROGRESS, id=id)
        await asyncio.sleep(0.5)  # the job had time to begin

        assert [event["status"] for event in events] == ["CANCELLED"]
        row = (await service.ask(op.RECIPE_OF, id=id))["generation"]
        assert (row["status"], row["calls"], row["attempts"]) == ("CANCELLED", 0, 0)
        assert (stand_ins.drawn(busy), stand_ins.drawn(queued)) == (1, 0)
        entries = (await service.ask(op.LEDGER))["ledger"]["nodes"]
        states = {entry["generation"]["id"]: entry["state"] for entry in entries}
        assert states == {running: "ASSUMED", id: "SETTLED"}
        spent = {entry["generation"]["id"]: Decimal(entry["actual"]) for entry in entries}
        assert spent[id] == 0
        assert spent[running] > 0
    finally:
        service.stop()


async def test_what_was_cancelled_when_the_api_died_is_left_soon_and_its_place_is_taken(
    postgres_url: str, tmp_path: Path, stand_ins: StandIns
) -> None:
    cluster = Cluster(
        tmp_path,
        **stand_ins.settings,
        DATABASE_URL=postgres_url,
        OBJECTS_URL=f"file://{tmp_path}/objects",
        SIGNING_KEYS=secrets.token_hex(32),
        GENERATIONS_AT_ONCE="1",
        PROVIDER_PREVIEWS="1",
    )
    cluster.one.settings["FAILPOINT"] = "generation.ended"
    running, waiting = (replace(CRASHES[0], failpoint=name) for name in ("running", "waiting"))
    stand_ins.openai.requests.clear()
    stand_ins.openai.is_left.clear()
    stand_ins.hold()
    try:
        cluster.add_worker()
        await asyncio.to_thread(cluster.start)
        id = await wish(cluster.two, running)
        await stand_ins.asked("openai")
        next_id = await wish(cluster.two, waiting)
        stand_ins.openai.seconds = 0

        with suppress(*LOST):
            await cluster.one.ask(op.CANCEL, id=id)
        assert await cluster.one.running.died()

        await asyncio.wait_for(stand_ins.openai.is_left.wait(), 5)
        async with asyncio.timeout(20):
            events = await cluster.two.watched(op.PROGRESS, id=next_id)
        assert events[-1]["status"] == "SUCCEEDED"
        row = (await cluster.two.ask(op.RECIPE_OF, id=id))["generation"]
        assert (row["status"], row["calls"], row["images"]) == ("CANCELLED", 1, [])
    finally:
        cluster.stop()


async def test_a_task_that_is_drawn_while_the_service_is_dead_is_submitted_once(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    service = alone(tmp_path, stand_ins)
    asked = Crash("polled", is_made=True, provider="midjourney", count=4)
    stand_ins.midjourney.submits.clear()
    stand_ins.hold()
    try:
        await asyncio.to_thread(service.start)
        id = await wish(service, asked)
        await stand_ins.asked("midjourney")
        service.running.kill()
        *_, task = stand_ins.midjourney.tasks.values()
        task.steps = drawn()[-1:]
        await asyncio.to_thread(service.start)
        events = await service.watched(op.PROGRESS, id=id)

        await check(service, id, events, asked)
        assert stand_ins.drawn(asked) == 1
    finally:
        service.stop()
