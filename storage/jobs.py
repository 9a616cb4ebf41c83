"""Durable work, on DBOS. The one module that knows it.

DBOS decides when code runs, and runs it again after a crash; what a client sees of a job is in our
own row. A job is enqueued in the transaction of its row, so that there is never one without the
other, and gets nothing but the row's id.
"""

import asyncio
import fcntl
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
from anyio import to_thread
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from dbos import error as dbos_error
from dbos._queue import QueueRateLimit, queue_worker_thread
from sqlalchemy.engine import URL
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import Unavailable
from storage.models import now

log = logging.getLogger(__name__)

# Pinned: by default DBOS takes a hash of the code, and a new release would leave old jobs lying.
# Raise it only together with a drain.
APPLICATION_VERSION = "darkroom-1"
WORKFLOW = "darkroom_job"
QUEUED = ["ENQUEUED", "DELAYED"]
UNFINISHED = [*QUEUED, "PENDING"]
ENDED = ["SUCCESS", "ERROR", "CANCELLED"]

Handler = Callable[[UUID], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs of a queue run: in one process, for one owner, in all; and start a minute."""

    at_once: int
    at_once_for_one: int
    at_once_everywhere: int | None = None
    starts_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a worker has begun."""

    id: str
    queue: str | None
    executor_id: str | None


def migrate(url: URL) -> None:
    """Make or update DBOS's own tables. Blocks."""
    DBOS.migrate(_system_url(url))


class Jobs:
    """Enqueues, cancels and looks up jobs, from any process."""

    def __init__(self, client: DBOSClient) -> None:
        self._client = client
        self.worker: Worker | None = None  # the one in this process

    @classmethod
    async def open(cls, url: URL, stack: AsyncExitStack) -> "Jobs":
        """Connected until the stack closes. The database must be migrated."""
        client = await to_thread.run_sync(
            lambda: DBOSClient(
                system_database_url=_system_url(url), serializer=DBOSPortableJSONSerializer()
            )
        )
        stack.push_async_callback(to_thread.run_sync, client.destroy)
        return cls(client)

    async def enqueue(self, session: AsyncSession, id: UUID, *, queue: str, fair_by: str) -> None:
        """In the session's transaction. Jobs with the same `fair_by` share their turns."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": queue,
            "workflow_id": str(id),
            "queue_partition_key": fair_by,
            "app_version": APPLICATION_VERSION,
        }
        await session.run_sync(
            lambda sync: self._client.enqueue_in_transaction(sync, options, queue, str(id))
        )

    def hurry(self, queue: str) -> None:
        """A job was committed: our worker, if there is one, need not wait for its next look."""
        if self.worker is not None:
            self.worker.look(queue)

    async def cancel(self, id: UUID) -> None:
        """A queued job never starts. One that runs goes on: what it is about has to stop it.

        The engine would forget that a running one was ever started, and start another in its
        stead, however few it may start a minute.
        """
        if await self.known([id], QUEUED):
            await to_thread.run_sync(self._client.cancel_workflow, str(id))

    async def unfinished(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of `ids` that still wait, or run, or will run again."""
        return await self.known(ids, UNFINISHED)

    async def known(self, ids: Sequence[UUID], states: list[str] | None = None) -> set[UUID]:
        """Those of `ids` that the engine remembers, in one of its states or in any."""
        if not ids:  # which to the engine means: all there are
            return set()
        found = await to_thread.run_sync(
            lambda: self._client.list_workflows(
                workflow_ids=[str(id) for id in ids],
                status=states,
                load_input=False,
                load_output=False,
            )
        )
        return {UUID(status.workflow_id) for status in found}

    async def running(self, executor_id: str | None = None) -> list[Running]:
        """The jobs that some worker has begun, or that one."""
        found = await to_thread.run_sync(
            lambda: self._client.list_workflows(
                status="PENDING", executor_id=executor_id, load_input=False, load_output=False
            )
        )
        return [Running(job.workflow_id, job.queue_name, job.executor_id) for job in found]

    async def requeue(self, job: Running) -> None:
        """Let another worker run it again, from its beginning."""
        await to_thread.run_sync(
            partial(self._client.resume_workflow, job.id, queue_name=job.queue)
        )

    async def forget(self, older_than: timedelta) -> None:
        """Drop the engine's notes of jobs that ended long ago; our own rows stay."""
        before = (now() - older_than).isoformat()
        ended = await to_thread.run_sync(
            lambda: self._client.list_workflows(
                status=ENDED,
                completed_before=before,
                limit=1000,
                load_input=False,
                load_output=False,
            )
        )
        if ended:
            ids = [job.workflow_id for job in ended]
            await to_thread.run_sync(self._client.delete_workflows, ids)


class Worker:
    """Runs jobs in this process: `handlers` by queue. There is one in a process, as of DBOS.

    A job that is interrupted has `seconds_to_leave`, to close what it holds; and so have, at the
    same time, all threads that look into queues, where a database is away.
    """

    def __init__(
        self,
        url: URL,
        handlers: Mapping[str, Handler],
        *,
        embedded: bool,
        seconds_to_leave: float = 10,
    ) -> None:
        self._url = url
        self._handlers = handlers
        self._seconds_to_leave = seconds_to_leave
        # Embedded, the next start must know its own jobs again; a shared database must never
        # take two processes for one.
        self.executor_id = "embedded" if embedded else f"worker-{uuid4()}"
        self._dbos: DBOS | None = None
        self._bells = {queue: _Bell() for queue in handlers}
        self._threads: list[threading.Thread] = []

    async def start(self, limits: Mapping[str, Limits], *, poll_seconds: float) -> None:
        """Take work, and first what the last run of this embedded service left undone.

        `limits` are by queue, for each that has a handler.
        """
        config: DBOSConfig = {
            "name": "darkroom",
            "system_database_url": _system_url(self._url),
            "application_version": APPLICATION_VERSION,
            "executor_id": self.executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "run_migrations": False,
            "max_executor_threads": 32,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.05,
        }
        logging.getLogger("dbos").addFilter(_is_worth_reading)
        self._dbos = dbos = DBOS(config=config)

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
        async def run(queue: str, id: str) -> None:
            # One step, which the handler makes repeatable by what it finds in the row.
            await DBOS.run_step_async(
                {"name": "run", "preemptible": True}, self._handlers[queue], UUID(id)
            )

        DBOS.listen_queues([])  # they are looked into below
        DBOS.launch()
        for name, bell in self._bells.items():
            bounds = limits[name]
            everywhere = bounds.at_once_everywhere
            queue = await DBOS.register_queue_async(
                name,
                worker_concurrency=min(bounds.at_once, everywhere or bounds.at_once),
                global_concurrency=everywhere,
                partition_concurrency=min(
                    bounds.at_once_for_one, everywhere or bounds.at_once_for_one
                ),
                limiter=_a_minute(bounds.starts_per_minute),
                polling_interval_sec=poll_seconds,
                on_conflict="always_update",
            )
            # As DBOS starts it for every queue, but with a stop event that rings.
            thread = threading.Thread(
                target=queue_worker_thread, args=(bell, dbos, queue), name=name, daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def look(self, queue: str) -> None:
        """Into the queue, at once. Nothing happens for one that has no handler here."""
        if queue in self._bells:
            self._bells[queue].ring()

    async def stop(self, *, drain_seconds: float) -> None:
        """Take no more work, wait for what runs, and interrupt the rest, for the next start.

        No job uses anything afterwards. Of one that is interrupted the engine notes nothing, so
        that it counts as running until this process is known to be gone, and then runs again.
        """
        if self._dbos is None:
            return
        await to_thread.run_sync(self._take_no_more, self._dbos)
        running = set(self._dbos._workflow_tasks)
        if running:
            log.info("worker.draining running=%s seconds=%s", len(running), drain_seconds)
            _, running = await asyncio.wait(running, timeout=drain_seconds)
        if running:
            log.warning("worker.interrupted jobs=%s", len(running))
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=self._seconds_to_leave)
        if running:
            log.error("worker.left jobs=%s", len(running))
        # Not on the loop: it sleeps.
        await to_thread.run_sync(partial(DBOS.destroy, destroy_registry=True))
        logging.getLogger("dbos").removeFilter(_is_worth_reading)

    def _take_no_more(self, dbos: DBOS) -> None:
        """Blocks."""
        for event in (*self._bells.values(), *dbos.background_thread_stop_events):
            event.set()
        deadline = time.monotonic() + self._seconds_to_leave
        for thread in self._threads:
            thread.join(timeout=max(0, deadline - time.monotonic()))


class _Bell(threading.Event):
    """The stop event of a queue's thread, which waits for it between two looks into the queue.

    A ring ends the wait, and nothing else: the limits of the queue are asked as at any look.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rung = threading.Event()

    def ring(self) -> None:
        self._rung.set()

    def set(self) -> None:
        super().set()
        self.ring()

    def wait(self, timeout: float | None = None) -> bool:
        self._rung.wait(timeout)
        self._rung.clear()
        return self.is_set()


class Reaper:
    """Gives the jobs of dead workers to live ones, on PostgreSQL.

    Every worker holds an advisory lock by its name, which dies with its connection. Whoever gets
    the lock of another knows that it is dead, and puts its running jobs back into their queues.

    A server that was away has dropped all locks, and the first to come back would get everybody's:
    so after each fault nobody is taken for dead until a `lease` has passed.
    """

    def __init__(
        self,
        url: URL,
        jobs: Jobs,
        executor_id: str,
        *,
        lease: timedelta = timedelta(seconds=15),
        seconds: float = 2.0,
    ) -> None:
        self._dsn = postgres_dsn(url)
        self._jobs = jobs
        self._executor_id = executor_id
        self._lease = lease
        self._seconds = seconds
        self._reaps_from = 0.0  # by time.monotonic

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Hold our lock, before the first job, and reap beside the block."""
        connection = await self._connect()
        task = asyncio.create_task(self._run(connection), name="reaper")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=10)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _lock_of(self._executor_id))
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _run(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            while True:
                await asyncio.sleep(self._seconds)
                try:
                    if connection.is_closed():
                        self._wait_for_the_others()
                        connection = await self._connect()
                    await self._reap(connection)
                except Exception as fault:  # a database that is away comes back
                    log.warning("reaper.failed reason=%r", fault)
                    connection.terminate()
                    self._wait_for_the_others()
        finally:
            connection.terminate()

    def _wait_for_the_others(self) -> None:
        """They have lost their locks just as we have, and may live."""
        self._reaps_from = time.monotonic() + self._lease.total_seconds()

    async def _reap(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        if time.monotonic() < self._reaps_from:
            await connection.fetchval("SELECT 1")  # is anybody there?
            return
        running = await self._jobs.running()
        for executor in {job.executor_id for job in running} - {self._executor_id, None}:
            lock = _lock_of(str(executor))
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
                continue
            try:
                for job in await self._jobs.running(executor):
                    log.warning("job.reaped job_id=%s worker=%s", job.id, executor)
                    await self._jobs.requeue(job)
            finally:
                await connection.fetchval("SELECT pg_advisory_unlock($1)", lock)


@contextmanager
def only_process(database: Path) -> Iterator[None]:
    """Be the one service on this SQLite file. Raises Unavailable when another is.

    The lock ends with the process, however it ends.
    """
    with open(f"{database}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"Another Darkroom already serves {database}. Stop it, or give this one another "
                "DARKROOM_DATA_DIR. Several processes need PostgreSQL: set DARKROOM_DATABASE_URL."
            ) from None
        yield


def postgres_dsn(url: URL) -> str:
    """The URL as asyncpg and psycopg read it. Holds the password: never log it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _a_minute(starts: int | None) -> QueueRateLimit | None:
    return None if starts is None else {"limit": starts, "period": 60.0}


def _system_url(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return url.set(drivername="sqlite").render_as_string()
    return postgres_dsn(url)


def _lock_of(executor_id: str) -> int:
    digest = hashlib.sha256(f"darkroom.worker.{executor_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """DBOS logs every cancelled job, twice or with a traceback, as if that were a fault."""
    fault = record.exc_info[1] if record.exc_info else None
    if isinstance(fault, dbos_error.DBOSWorkflowCancelledError | asyncio.CancelledError):
        return False
    return not record.getMessage().startswith("Asyncio task cancelled")
