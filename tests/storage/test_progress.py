"""Whoever listens to a job misses nothing that counts, whatever gets lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import make_url

from storage.jobs import postgres_dsn
from storage.progress import (
    PROGRESS,
    SECONDS_TO_FLUSH,
    Bus,
    Hub,
    LocalBus,
    Mailbox,
    PostgresBus,
)

NEVER = 3600.0


class Rows:
    """What the database would say of jobs, and how often it was asked."""

    def __init__(self) -> None:
        self.states: dict[UUID, str] = {}
        self.reads: list[UUID] = []
        self.faults = 0

    async def read(self, id: UUID) -> str | None:
        self.reads.append(id)
        await asyncio.sleep(0)
        if self.faults:
            self.faults -= 1
            raise ConnectionResetError("the database is away")
        return self.states.get(id)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@asynccontextmanager
async def running(hub: Hub[str]) -> AsyncIterator[Hub[str]]:
    task = asyncio.create_task(hub.run())
    yield hub
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def hub(rows: Rows) -> AsyncIterator[Hub[str]]:
    """A hub that reads only when it is told to."""
    async with running(Hub(rows.read, reread=NEVER)) as hub:
        yield hub


async def soon(mailbox: Mailbox[str]) -> str | None:
    return await asyncio.wait_for(mailbox.take(), 10)


async def settled() -> None:
    """Everything that could happen by itself has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


# ---- a mailbox --------------------------------------------------------------------------------


async def test_a_mailbox_keeps_the_newest_state_only() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for state in ("first", "second", "third"):
        mailbox.put(state)

    taken = await mailbox.take()

    assert taken == "third"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.take(), 0.01)


async def test_a_mailbox_that_is_closed_gives_nothing_more() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.put("unread")

    mailbox.close()

    assert await mailbox.take() is None
    assert await mailbox.take() is None


# ---- a hub ------------------------------------------------------------------------------------


async def test_a_listener_is_given_the_state_after_every_change(hub: Hub[str], rows: Rows) -> None:
    id = uuid4()
    heard = []

    async with hub.listen(id) as mailbox:
        for state in ("queued", "running", "succeeded"):
            rows.states[id] = state
            hub.look_again(id)
            heard.append(await soon(mailbox))

    assert heard == ["queued", "running", "succeeded"]


async def test_what_happens_between_registering_and_reading_is_not_missed(
    hub: Hub[str], rows: Rows
) -> None:
    id = uuid4()
    rows.states[id] = "queued"

    async with hub.listen(id) as mailbox:
        read_before = await rows.read(id)
        rows.states[id] = "succeeded"
        hub.look_again(id)
        told = await soon(mailbox)

    assert (read_before, told) == ("queued", "succeeded")


async def test_many_listeners_cost_one_read(hub: Hub[str], rows: Rows) -> None:
    id = uuid4()
    rows.states[id] = "running"

    async def listen() -> str | None:
        async with hub.listen(id) as mailbox:
            return await soon(mailbox)

    listening = [asyncio.create_task(listen()) for _ in range(100)]
    await settled()
    hub.look_again(id)
    heard = await asyncio.gather(*listening)

    assert heard == ["running"] * 100
    assert rows.reads == [id]


async def test_many_messages_at_once_cost_one_read(hub: Hub[str], rows: Rows) -> None:
    id = uuid4()
    rows.states[id] = "running"

    async with hub.listen(id) as mailbox:
        for _ in range(50):
            hub.look_again(id)
        await soon(mailbox)
        await settled()

    assert rows.reads == [id]


async def test_a_job_that_nobody_listens_to_is_not_read(hub: Hub[str], rows: Rows) -> None:
    listened_to, left, never = uuid4(), uuid4(), uuid4()
    rows.states[listened_to] = "running"
    async with hub.listen(left):
        pass

    async with hub.listen(listened_to) as mailbox:
        hub.look_again(left)
        hub.look_again(never)
        hub.look_again()
        await soon(mailbox)
        await settled()

    assert rows.reads == [listened_to]


async def test_a_listener_hears_of_its_own_job_only(hub: Hub[str], rows: Rows) -> None:
    mine, other = uuid4(), uuid4()
    rows.states = {mine: "mine", other: "other"}

    async with hub.listen(mine) as mailbox, hub.listen(other) as others:
        hub.look_again(other)
        await soon(others)
        hub.look_again(mine)
        heard = await soon(mailbox)

    assert heard == "mine"


async def test_a_lost_message_is_healed_by_reading_again(rows: Rows) -> None:
    id = uuid4()
    rows.states[id] = "succeeded"

    async with running(Hub(rows.read, reread=0.05)) as hub, hub.listen(id) as mailbox:
        heard = await soon(mailbox)

    assert heard == "succeeded"


async def test_a_lost_message_is_healed_however_much_is_said_of_other_jobs(rows: Rows) -> None:
    lost, busy = uuid4(), uuid4()
    rows.states = {lost: "succeeded", busy: "running"}

    async with (
        running(Hub(rows.read, reread=0.2)) as hub,
        hub.listen(lost) as mailbox,
        hub.listen(busy),
    ):

        async def chatter() -> None:
            while True:
                hub.look_again(busy)
                await asyncio.sleep(0.02)

        talking = asyncio.create_task(chatter())
        heard = await soon(mailbox)
        talking.cancel()

    assert heard == "succeeded"


async def test_a_read_that_fails_delays_and_does_not_end(rows: Rows) -> None:
    id, other = uuid4(), uuid4()
    rows.states = {id: "running", other: "other"}
    rows.faults = 1

    async with running(Hub(rows.read, reread=0.05)) as hub, hub.listen(id) as mailbox:
        hub.look_again(id)
        heard = await soon(mailbox)

    assert heard == "running"
    assert len(rows.reads) >= 2


@pytest.mark.parametrize("steps", range(6))
async def test_a_hub_that_is_woken_and_cancelled_at_once_ends(steps: int, rows: Rows) -> None:
    hub = Hub(rows.read, reread=NEVER)
    task = asyncio.create_task(hub.run())
    await settled()

    hub.look_again()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()

    done, _ = await asyncio.wait([task], timeout=1)
    assert done == {task}


async def test_a_job_without_a_row_has_no_state_to_tell(hub: Hub[str], rows: Rows) -> None:
    gone, there = uuid4(), uuid4()
    rows.states[there] = "running"

    async with hub.listen(gone) as silent, hub.listen(there) as mailbox:
        hub.look_again()
        await soon(mailbox)
        await settled()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent.take(), 0.01)


async def test_closing_ends_every_listeners_stream(hub: Hub[str]) -> None:
    async with hub.listen(uuid4()) as first, hub.listen(uuid4()) as second:
        waiting = asyncio.gather(soon(first), soon(second))
        await settled()

        hub.close()

        assert list(await waiting) == [None, None]


async def test_whoever_listens_after_the_closing_is_ended_at_once(hub: Hub[str]) -> None:
    hub.close()

    async with hub.listen(uuid4()) as mailbox:
        assert await soon(mailbox) is None


# ---- a bus ------------------------------------------------------------------------------------


class Ear:
    """What was heard on a bus, in its order."""

    def __init__(self) -> None:
        self.heard: list[UUID | None] = []
        self._changed = asyncio.Event()

    def hear(self, id: UUID | None) -> None:
        self.heard.append(id)
        self._changed.set()

    async def until(self, is_enough: Callable[[list[UUID | None]], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_enough(self.heard):
                self._changed.clear()
                await self._changed.wait()


async def test_on_the_local_bus_whoever_tells_also_hears() -> None:
    ear = Ear()
    bus: Bus = LocalBus(ear.hear)
    id = uuid4()

    await bus.tell(id)

    assert ear.heard == [id]


@asynccontextmanager
async def on_the_line(dsn: str) -> AsyncIterator[tuple[PostgresBus, Ear]]:
    """A bus that listens: it has said that anything may have changed."""
    ear = Ear()
    bus = PostgresBus(dsn, ear.hear)
    task = asyncio.create_task(bus.run())
    await ear.until(lambda heard: heard == [None])
    yield bus, ear
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def dsn(postgres_url: str) -> str:
    return postgres_dsn(make_url(postgres_url))


async def execute(dsn: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    await connection.execute(statement, *arguments)
    await connection.close()


async def test_two_processes_hear_each_other_and_themselves(dsn: str) -> None:
    first, second = uuid4(), uuid4()

    async with on_the_line(dsn) as (bus_a, ear_a), on_the_line(dsn) as (bus_b, ear_b):
        await bus_a.tell(first)
        await bus_b.tell(second)
        for ear in (ear_a, ear_b):
            await ear.until(lambda heard: {first, second} <= set(heard))

    assert sorted(map(str, ear_a.heard)) == sorted(map(str, [None, first, second]))
    assert sorted(map(str, ear_b.heard)) == sorted(map(str, [None, first, second]))


async def test_a_burst_is_heard_whole_and_each_job_once(dsn: str) -> None:
    ids = [uuid4() for _ in range(200)]

    async with on_the_line(dsn) as (bus, _), on_the_line(dsn) as (_, ear):
        for id in ids * 3:
            await bus.tell(id)
        await ear.until(lambda heard: set(ids) <= set(heard))

    assert sorted(map(str, ear.heard)) == sorted(map(str, [None, *ids]))


async def test_what_is_told_right_before_a_process_ends_is_heard(dsn: str) -> None:
    ids = [uuid4() for _ in range(50)]
    bus = PostgresBus(dsn, Ear().hear)
    running = asyncio.create_task(bus.run())

    async with on_the_line(dsn) as (_, ear):
        for id in ids:
            await bus.tell(id)
        await bus.flush()
        running.cancel()
        await ear.until(lambda heard: set(ids) <= set(heard))

    assert len(ear.heard) == 1 + len(ids)


async def test_a_process_that_has_told_all_ends_at_once(dsn: str) -> None:
    never_connected = PostgresBus(dsn, Ear().hear)

    async with on_the_line(dsn) as (bus, ear):
        id = uuid4()
        await bus.tell(id)
        await ear.until(lambda heard: id in heard)
        async with asyncio.timeout(0.1):
            await bus.flush()
            await never_connected.flush()


async def test_a_process_does_not_wait_for_ever_to_tell_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = PostgresBus("postgresql://nobody@127.0.0.1:1/nowhere", Ear().hear)
    running = asyncio.create_task(bus.run())

    await bus.tell(uuid4())
    async with asyncio.timeout(SECONDS_TO_FLUSH + 5):
        await bus.flush()

    running.cancel()
    assert "progress.unsent jobs=1" in caplog.messages


async def test_databases_do_not_hear_each_other(dsn: str, postgres: object) -> None:
    elsewhere = make_url(dsn).set(database="postgres").render_as_string(hide_password=False)
    here, there = uuid4(), uuid4()

    async with on_the_line(dsn) as (bus, ear), on_the_line(elsewhere) as (other_bus, other_ear):
        await other_bus.tell(there)
        await other_ear.until(lambda heard: there in heard)
        await bus.tell(here)
        await ear.until(lambda heard: here in heard)

    assert ear.heard == [None, here]


async def test_a_lost_connection_comes_back_and_nothing_that_was_said_is_lost(dsn: str) -> None:
    id = uuid4()

    async with on_the_line(dsn) as (bus, ear), on_the_line(dsn) as (other_bus, other_ear):
        await execute(
            dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        await bus.tell(id)
        await other_bus.tell(uuid4())
        await ear.until(lambda heard: id in heard)
        await other_ear.until(lambda heard: heard.count(None) == 2)

    assert ear.heard[:2] == [None, None]  # anything may have changed meanwhile


async def test_a_message_that_is_not_ours_disturbs_nobody(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    id = uuid4()

    async with on_the_line(dsn) as (bus, ear):
        await execute(dsn, "SELECT pg_notify($1, $2)", PROGRESS, "no id")
        await bus.tell(id)
        await ear.until(lambda heard: id in heard)

    assert ear.heard == [None, id]
    assert caplog.messages == [f"progress.no_message channel={PROGRESS}"]
