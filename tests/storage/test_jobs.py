"""Jobs come into being with their row, and one process alone serves a SQLite file."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import pytest

from storage.database import Database
from storage.errors import Unavailable
from storage.jobs import Jobs, Limits, Worker, only_process
from storage.migrations import migrate
from storage.viewers import Viewer
from tests.postgres import OwnServer, find_programs

HOLD = """
import sys, time
from pathlib import Path
from storage.jobs import only_process
with only_process(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
async def jobs(database: Database) -> AsyncIterator[Jobs]:
    async with AsyncExitStack() as stack:
        yield await Jobs.open(database.url, stack)


async def enqueue(
    jobs: Jobs, database: Database, viewer: Viewer, *ids: UUID, queue: str = "provider:card"
) -> None:
    async with database.writing() as session:
        for id in ids:
            await jobs.enqueue(session, id, queue=queue, fair_by=str(viewer.workspace_id))


# ---- in the transaction of its row ------------------------------------------------------------


async def test_a_job_is_there_once_its_transaction_is_committed(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    id = uuid4()

    await enqueue(jobs, database, alice, id)

    assert await jobs.unfinished([id]) == {id}


async def test_a_job_is_not_there_before_its_transaction_is_committed(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    id = uuid4()

    async with database.writing() as session:
        await jobs.enqueue(session, id, queue="provider:card", fair_by=str(alice.workspace_id))
        meanwhile = await jobs.unfinished([id])

    assert meanwhile == set()


async def test_a_transaction_that_is_undone_leaves_no_job(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    id = uuid4()

    async def enqueue_and_fail() -> None:
        async with database.writing() as session:
            await jobs.enqueue(session, id, queue="provider:card", fair_by=str(alice.workspace_id))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await enqueue_and_fail()

    assert await jobs.unfinished([id]) == set()


async def test_only_the_jobs_that_were_asked_for_are_told(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    ids = [uuid4() for _ in range(3)]
    await enqueue(jobs, database, alice, *ids)

    assert await jobs.unfinished([ids[0], ids[2], uuid4()]) == {ids[0], ids[2]}
    assert await jobs.unfinished([uuid4()]) == set()


async def test_asking_for_no_job_tells_of_none(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    await enqueue(jobs, database, alice, uuid4())

    assert await jobs.unfinished([]) == set()


async def test_a_cancelled_job_is_finished(jobs: Jobs, database: Database, alice: Viewer) -> None:
    cancelled, other = uuid4(), uuid4()
    await enqueue(jobs, database, alice, cancelled, other)

    await jobs.cancel(cancelled)

    assert await jobs.unfinished([cancelled, other]) == {other}


async def test_a_job_can_be_cancelled_again(jobs: Jobs, database: Database, alice: Viewer) -> None:
    id = uuid4()
    await enqueue(jobs, database, alice, id)
    await jobs.cancel(id)

    await jobs.cancel(id)

    assert await jobs.unfinished([id]) == set()


async def test_another_process_knows_the_jobs_too(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    id = uuid4()
    await enqueue(jobs, database, alice, id)

    async with AsyncExitStack() as stack:
        other = await Jobs.open(database.url, stack)
        found = await other.unfinished([id])

    assert found == {id}


# ---- a worker in the same process -------------------------------------------------------------


class Work:
    """A handler that notes what is begun, and ends once it is allowed to."""

    def __init__(self) -> None:
        self.queue = f"provider:{uuid4()}"
        self.begun: asyncio.Queue[UUID] = asyncio.Queue()
        self.may_end = asyncio.Event()

    async def do(self, id: UUID) -> None:
        self.begun.put_nowait(id)
        await self.may_end.wait()


@pytest.fixture
async def work(jobs: Jobs, database: Database) -> AsyncIterator[Work]:
    """Of a worker that looks into its queue once an hour, and does one job at a time."""
    work = Work()
    worker = Worker(database.url, {work.queue: work.do}, embedded=True)
    await worker.start({work.queue: Limits(1, 1)}, poll_seconds=3600)
    jobs.worker = worker
    yield work
    work.may_end.set()
    await worker.stop(drain_seconds=10)


async def test_a_job_that_is_hurried_begins_before_the_next_look(
    jobs: Jobs, database: Database, alice: Viewer, work: Work
) -> None:
    id = uuid4()
    await enqueue(jobs, database, alice, id, queue=work.queue)

    jobs.hurry(work.queue)

    assert await asyncio.wait_for(work.begun.get(), 10) == id


async def test_a_job_that_is_hurried_waits_for_its_turn(
    jobs: Jobs, database: Database, alice: Viewer, work: Work
) -> None:
    first, second = uuid4(), uuid4()
    await enqueue(jobs, database, alice, first, queue=work.queue)
    jobs.hurry(work.queue)
    await asyncio.wait_for(work.begun.get(), 10)

    await enqueue(jobs, database, alice, second, queue=work.queue)
    jobs.hurry(work.queue)
    await asyncio.sleep(0.5)

    assert work.begun.empty()
    assert await jobs.unfinished([first, second]) == {first, second}


async def test_a_hurry_for_a_queue_that_nobody_works_at_here_does_nothing(
    jobs: Jobs, database: Database, alice: Viewer, work: Work
) -> None:
    await enqueue(jobs, database, alice, uuid4(), queue=work.queue)

    jobs.hurry("provider:another")
    await asyncio.sleep(0.5)

    assert work.begun.empty()


async def test_a_job_that_runs_goes_on_when_it_is_cancelled_and_counts_as_started(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    slow, first, second = Slow(), uuid4(), uuid4()
    worker = await slow.start(database, jobs, Limits(9, 9, starts_per_minute=1))
    await enqueue(jobs, database, alice, first, queue=slow.queue)
    await asyncio.wait_for(slow.begun.get(), 10)

    await jobs.cancel(first)
    await enqueue(jobs, database, alice, second, queue=slow.queue)
    await asyncio.sleep(1.5)
    slow.may_end.set()
    await worker.stop(drain_seconds=10)

    assert (slow.ended, slow.left) == ([first], [])
    assert slow.begun.empty()
    assert await jobs.unfinished([first, second]) == {second}


async def test_what_one_may_have_at_once_is_at_most_what_all_may_have(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    slow, id = Slow(), uuid4()
    worker = await slow.start(database, jobs, Limits(8, 2, at_once_everywhere=1))
    await enqueue(jobs, database, alice, id, uuid4(), queue=slow.queue)

    await asyncio.wait_for(slow.begun.get(), 10)
    await asyncio.sleep(0.5)

    assert slow.begun.empty()
    slow.may_end.set()
    await worker.stop(drain_seconds=10)


# ---- a worker that stops ----------------------------------------------------------------------


MANY = Limits(9, 9)


class Slow:
    """A handler that goes on until it may end, and takes a while to leave."""

    def __init__(self) -> None:
        self.queue = f"provider:{uuid4()}"
        self.begun: asyncio.Queue[UUID] = asyncio.Queue()
        self.may_end = asyncio.Event()
        self.ended: list[UUID] = []
        self.left: list[UUID] = []

    async def do(self, id: UUID) -> None:
        self.begun.put_nowait(id)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            self.left.append(id)
            raise
        self.ended.append(id)

    async def start(self, database: Database, jobs: Jobs, limits: Limits = MANY) -> Worker:
        worker = Worker(database.url, {self.queue: self.do}, embedded=True)
        await worker.start({self.queue: limits}, poll_seconds=0.05)
        jobs.worker = worker
        return worker


async def test_a_job_that_ends_while_its_worker_waits_for_it_is_done(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    slow, id = Slow(), uuid4()
    worker = await slow.start(database, jobs)
    await enqueue(jobs, database, alice, id, queue=slow.queue)
    await asyncio.wait_for(slow.begun.get(), 10)
    asyncio.get_running_loop().call_later(0.5, slow.may_end.set)

    started = time.monotonic()
    await worker.stop(drain_seconds=30)

    assert (slow.ended, slow.left) == ([id], [])
    assert await jobs.unfinished([id]) == set()
    assert time.monotonic() - started < 10


async def test_a_job_that_its_worker_does_not_wait_for_has_left_and_is_done_by_the_next_one(
    jobs: Jobs, database: Database, alice: Viewer
) -> None:
    slow, ids = Slow(), {uuid4(), uuid4()}
    worker = await slow.start(database, jobs)
    await enqueue(jobs, database, alice, *ids, queue=slow.queue)
    begun = {await asyncio.wait_for(slow.begun.get(), 10) for _ in ids}

    await worker.stop(drain_seconds=0.2)

    assert begun == ids == set(slow.left)
    assert await jobs.unfinished([*ids]) == ids
    assert {UUID(job.id) for job in await jobs.running()} == ids
    slow.may_end.set()
    worker = await slow.start(database, jobs)
    again = {await asyncio.wait_for(slow.begun.get(), 10) for _ in ids}
    await worker.stop(drain_seconds=10)
    assert again == ids == set(slow.ended)
    assert await jobs.unfinished([*ids]) == set()


async def test_a_job_that_does_not_leave_holds_a_stop_up_for_a_while_only(
    jobs: Jobs, database: Database, alice: Viewer, caplog: pytest.LogCaptureFixture
) -> None:
    queue, begun, may_end = f"provider:{uuid4()}", asyncio.Event(), asyncio.Event()

    async def stay(id: UUID) -> None:
        begun.set()
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()

    worker = Worker(database.url, {queue: stay}, embedded=True, seconds_to_leave=0.2)
    await worker.start({queue: Limits(1, 1)}, poll_seconds=0.05)
    await enqueue(jobs, database, alice, uuid4(), queue=queue)
    await asyncio.wait_for(begun.wait(), 10)

    started = time.monotonic()
    await worker.stop(drain_seconds=0)

    assert time.monotonic() - started < 5
    assert "worker.left jobs=1" in caplog.text
    may_end.set()
    await asyncio.sleep(0.1)


@pytest.fixture
def own_postgres() -> Iterator[OwnServer]:
    programs = find_programs()
    if programs is None:
        pytest.skip("no programs of a PostgreSQL server")
    with TemporaryDirectory() as folder:  # not among ours, which the server's user may not enter
        server = OwnServer(programs, Path(folder))
        server.create()
        yield server


async def test_a_worker_of_many_queues_stops_soon_while_the_database_is_away(
    own_postgres: OwnServer,
) -> None:
    own_postgres.start()
    try:
        database = Database(own_postgres.dsn)
        await migrate(database)
        await database.close()
        slow, queues = Slow(), [f"provider:{number}" for number in range(4)]
        worker = Worker(
            database.url, dict.fromkeys(queues, slow.do), embedded=False, seconds_to_leave=1
        )
        await worker.start(dict.fromkeys(queues, Limits(1, 1)), poll_seconds=0.05)
    finally:
        own_postgres.stop()
    await asyncio.sleep(3)  # every queue has been looked into in vain

    started = time.monotonic()
    await worker.stop(drain_seconds=0)

    assert time.monotonic() - started < 10


async def test_a_worker_that_never_started_can_be_stopped(database: Database) -> None:
    worker = Worker(database.url, {}, embedded=True)

    await worker.stop(drain_seconds=10)

    assert worker.executor_id == "embedded"


# ---- one process on one file ------------------------------------------------------------------


def test_a_second_service_on_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "darkroom.db"

    with only_process(file), pytest.raises(Unavailable) as refused, only_process(file):
        pass

    assert str(file) in refused.value.message
    assert "DARKROOM_DATA_DIR" in refused.value.message


def test_a_file_can_be_served_again_after_its_service_has_ended(tmp_path: Path) -> None:
    file = tmp_path / "darkroom.db"
    with only_process(file):
        pass

    with only_process(file):
        held_again = True

    assert held_again


def test_a_service_that_failed_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "darkroom.db"
    with pytest.raises(ZeroDivisionError), only_process(file):
        raise ZeroDivisionError

    with only_process(file):
        held_again = True

    assert held_again


def test_two_files_can_be_served_at_once(tmp_path: Path) -> None:
    with only_process(tmp_path / "a.db"), only_process(tmp_path / "b.db"):
        both = True

    assert both


async def test_a_service_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "darkroom.db"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(file), stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"held\n"
    with pytest.raises(Unavailable), only_process(file):
        pass

    other.send_signal(signal.SIGKILL)
    await other.wait()

    with only_process(file):
        held = True
    assert held
