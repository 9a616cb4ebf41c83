"""Who listens to a job's progress, in this process and across processes.

The row is the truth; a message only says "look again". A bus carries the job's id and nothing else,
and the hub of every process reads the row once, however many listen there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import asyncpg

log = logging.getLogger(__name__)

State = TypeVar("State")
Message = TypeVar("Message")

PROGRESS = "darkroom_progress"
"""The channel on which the ids of generations are told."""

SECONDS_TO_FLUSH = 3.0


class Bus(Protocol):
    """Tells every process that has a hub that a job changed."""

    async def tell(self, id: UUID) -> None: ...


class Mailbox(Generic[State]):
    """Holds the newest state that its listener has not seen: a slow one costs no memory."""

    def __init__(self) -> None:
        self._newest: State | None = None
        self._full = asyncio.Event()
        self._closed = False

    def put(self, state: State) -> None:
        self._newest = state
        self._full.set()

    def close(self) -> None:
        self._closed = True
        self._full.set()

    async def take(self) -> State | None:
        """The newest state, as soon as there is one; None when the hub has closed."""
        await self._full.wait()
        if self._closed:
            return None
        self._full.clear()
        return self._newest


class Hub(Generic[State]):
    """Gives the states of jobs to whoever listens in this process.

    `read` gives the state of a job, or None if it is gone. Register first and read the state then:
    so nothing falls between. All jobs that somebody listens to are read again every `reread`
    seconds, so that a message that was lost delays a listener and never strands it.
    """

    def __init__(
        self, read: Callable[[UUID], Awaitable[State | None]], *, reread: float = 10.0
    ) -> None:
        self._read = read
        self._reread = reread
        self._mailboxes: dict[UUID, set[Mailbox[State]]] = {}
        self._stale: set[UUID] = set()
        self._wake = asyncio.Event()
        self._closed = False

    @asynccontextmanager
    async def listen(self, id: UUID) -> AsyncIterator[Mailbox[State]]:
        mailbox: Mailbox[State] = Mailbox()
        if self._closed:
            mailbox.close()
        self._mailboxes.setdefault(id, set()).add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[id].discard(mailbox)
            if not self._mailboxes[id]:
                del self._mailboxes[id]

    def look_again(self, id: UUID | None = None) -> None:
        """Read a job's state (or all jobs') and deliver it; many calls at once make one read."""
        self._stale.update(self._mailboxes if id is None else {id} & self._mailboxes.keys())
        self._wake.set()

    def close(self) -> None:
        """End every listener's stream, now and from now on."""
        self._closed = True
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()

    async def run(self) -> None:
        """Deliver until cancelled."""
        clock = asyncio.get_running_loop().time
        due = clock() + self._reread
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            if clock() >= due:  # however much is said of some jobs
                self.look_again()
                due = clock() + self._reread
            self._wake.clear()
            while self._stale:
                await self._deliver(self._stale.pop())

    async def _deliver(self, id: UUID) -> None:
        try:
            state = await self._read(id)
        except Exception:
            # The next re-read finds what this one missed.
            log.exception("progress.read_failed id=%s", id)
            return
        if state is not None:
            for mailbox in self._mailboxes.get(id, ()):
                mailbox.put(state)


class LocalBus:
    """One process: whoever tells also hears."""

    def __init__(self, heard: Callable[[UUID | None], None]) -> None:
        self._heard = heard

    async def tell(self, id: UUID) -> None:
        self._heard(id)


class Outbox:
    """Ids that wait to be sent, each once however often it was put in."""

    def __init__(self) -> None:
        self._ids: set[UUID] = set()
        self._filled = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    def put(self, id: UUID) -> None:
        self._ids.add(id)
        self._filled.set()
        self._sent.clear()

    async def wait(self) -> None:
        """Until there is something to send."""
        await self._filled.wait()

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(SECONDS_TO_FLUSH):
                await self._sent.wait()
        except TimeoutError:
            log.warning("progress.unsent jobs=%s", len(self._ids))

    @contextmanager
    def emptied(self) -> Iterator[list[str]]:
        """All that is in it, to be sent. If that fails, it is in it again."""
        ids, self._ids = self._ids, set()
        self._filled.clear()
        try:
            yield [str(id) for id in ids]
        except BaseException:
            self._ids |= ids
            self._filled.set()
            raise
        if not self._ids:  # else more was put in meanwhile
            self._sent.set()


class PostgresListener(Generic[Message]):
    """LISTEN on a connection of its own. `heard(None)` means: anything may have been said.

    `parse` makes a message of what was told on the channel, and raises ValueError if it is none.
    """

    def __init__(
        self,
        dsn: str,
        channel: str,
        parse: Callable[[str], Message],
        heard: Callable[[Message | None], None],
    ) -> None:
        self._dsn = dsn
        self._channel = channel
        self._parse = parse
        self._heard = heard

    async def run(self) -> None:
        """Serve until cancelled; connect again whenever the connection is lost."""
        while True:
            try:
                await self._connect()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
                log.warning("progress.bus_lost channel=%s reason=%s", self._channel, fault)
                await asyncio.sleep(1)

    async def _connect(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5, command_timeout=5)
        try:
            await connection.add_listener(self._channel, self._receive)
            self._heard(None)  # whatever was said while nobody listened
            while True:
                await self._serve(connection)
        finally:
            connection.terminate()

    async def _serve(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """What is done again and again while the connection stands."""
        await asyncio.sleep(5)
        await connection.execute("SELECT 1")  # is anybody there?

    def _receive(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            message = self._parse(str(payload))
        except ValueError:
            log.warning("progress.no_message channel=%s", self._channel)
            return
        self._heard(message)


class PostgresBus(PostgresListener[UUID]):
    """LISTEN and NOTIFY on one connection.

    Messages of one process within `coalesce` seconds are sent as one statement, since NOTIFY takes
    a lock that all of the server's commits share.
    """

    def __init__(
        self, dsn: str, heard: Callable[[UUID | None], None], *, coalesce: float = 0.02
    ) -> None:
        super().__init__(dsn, PROGRESS, UUID, heard)
        self._coalesce = coalesce
        self._outbox = Outbox()

    async def tell(self, id: UUID) -> None:
        self._outbox.put(id)

    async def flush(self) -> None:
        """Wait until all that was told is sent, or a server that is away has had its time."""
        await self._outbox.flush()

    async def _serve(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            async with asyncio.timeout(5):
                await self._outbox.wait()
        except TimeoutError:
            await connection.execute("SELECT 1")  # is anybody there?
            return
        await asyncio.sleep(self._coalesce)
        with self._outbox.emptied() as ids:
            await connection.execute(
                "SELECT pg_notify($1, id) FROM unnest($2::text[]) AS id", self._channel, ids
            )
