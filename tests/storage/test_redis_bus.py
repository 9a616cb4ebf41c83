"""The bus over Redis promises what the one over PostgreSQL does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from storage.progress import PROGRESS, Bus, Hub
from storage.redis_bus import RedisBus
from tests import redis as servers
from tests.proxy import Fault, proxy_for
from tests.storage.test_progress import NEVER, Ear, Rows, running, soon

redis_url = servers.redis_url  # a fixture


@pytest.fixture
def prefix() -> str:
    """A channel of our own on a server that others use, too."""
    return f"test_{uuid4().hex}_"


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[servers.OwnRedis]:
    server = servers.OwnRedis(tmp_path)
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def serving(bus: RedisBus) -> AsyncIterator[None]:
    task = asyncio.create_task(bus.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def on_the_line(url: str, prefix: str) -> AsyncIterator[tuple[RedisBus, Ear]]:
    """A bus that listens: it has said that anything may have changed."""
    ear = Ear()
    bus = RedisBus(url, ear.hear, prefix=prefix)
    async with serving(bus):
        await ear.until(lambda heard: heard == [None])
        yield bus, ear


async def until_lost(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(20):
        while "progress.bus_lost" not in caplog.text:  # noqa: ASYNC110  # the log has no event
            await asyncio.sleep(0.05)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    yield client
    await client.aclose()


async def test_two_processes_hear_each_other_and_themselves(redis_url: str, prefix: str) -> None:
    first, second = uuid4(), uuid4()

    async with (
        on_the_line(redis_url, prefix) as (bus_a, ear_a),
        on_the_line(redis_url, prefix) as (bus_b, ear_b),
    ):
        await bus_a.tell(first)
        await bus_b.tell(second)
        for ear in (ear_a, ear_b):
            await ear.until(lambda heard: {first, second} <= set(heard))

    assert sorted(map(str, ear_a.heard)) == sorted(map(str, [None, first, second]))
    assert sorted(map(str, ear_b.heard)) == sorted(map(str, [None, first, second]))


async def test_a_burst_is_heard_whole_and_each_job_once(redis_url: str, prefix: str) -> None:
    ids = [uuid4() for _ in range(200)]

    async with (
        on_the_line(redis_url, prefix) as (bus, _),
        on_the_line(redis_url, prefix) as (_, ear),
    ):
        for id in ids * 3:
            await bus.tell(id)
        await ear.until(lambda heard: set(ids) <= set(heard))

    assert sorted(map(str, ear.heard)) == sorted(map(str, [None, *ids]))


async def test_what_is_told_right_before_a_process_ends_is_heard(
    redis_url: str, prefix: str
) -> None:
    ids = [uuid4() for _ in range(50)]
    bus = RedisBus(redis_url, Ear().hear, prefix=prefix)

    async with on_the_line(redis_url, prefix) as (_, ear):
        async with serving(bus):
            for id in ids:
                await bus.tell(id)
            await bus.flush()
        await ear.until(lambda heard: set(ids) <= set(heard))

    assert len(ear.heard) == 1 + len(ids)


async def test_installations_on_one_server_do_not_hear_each_other(
    redis_url: str, prefix: str
) -> None:
    here, there = uuid4(), uuid4()

    async with (
        on_the_line(redis_url, prefix) as (bus, ear),
        on_the_line(redis_url, prefix + "other_") as (other_bus, other_ear),
    ):
        await other_bus.tell(there)
        await other_ear.until(lambda heard: there in heard)
        await bus.tell(here)
        await ear.until(lambda heard: here in heard)

    assert ear.heard == [None, here]


async def test_a_lost_connection_comes_back_and_nothing_that_was_said_is_lost(
    redis_url: str, prefix: str
) -> None:
    id = uuid4()

    async with (
        on_the_line(f"{redis_url}?client_name={prefix}", prefix) as (bus, ear),
        on_the_line(f"{redis_url}?client_name={prefix}", prefix) as (other_bus, other_ear),
        client_of(redis_url) as admin,
    ):
        killed = 0
        for client in await admin.client_list():
            if client["name"] == prefix:
                killed += await admin.client_kill_filter(_id=client["id"])
        await bus.tell(id)
        await other_bus.tell(uuid4())
        await ear.until(lambda heard: id in heard)
        await other_ear.until(lambda heard: heard.count(None) == 2)

    assert killed == 2  # the two that listen; nothing had been sent
    assert ear.heard[:2] == [None, None]  # anything may have changed meanwhile


async def test_the_end_of_a_job_that_nobody_could_tell_is_heard_when_the_line_is_back(
    redis_url: str, prefix: str
) -> None:
    id, rows = uuid4(), Rows()
    rows.states[id] = "running"
    hub = Hub(rows.read, reread=NEVER)

    async with (
        proxy_for(redis_url) as proxy,
        running(hub),
        hub.listen(id) as mailbox,
        serving(RedisBus(proxy.url.replace("http", "redis"), hub.look_again, prefix=prefix)),
        on_the_line(redis_url, prefix) as (other_bus, other_ear),
    ):
        assert await soon(mailbox) == "running"
        proxy.fail(Fault.DOWN)
        rows.states[id] = "succeeded"
        await other_bus.tell(id)
        await other_ear.until(lambda heard: id in heard)
        proxy.fail(Fault.NONE)
        heard = await soon(mailbox)

    assert heard == "succeeded"


async def test_a_server_that_has_frozen_counts_as_lost_and_is_found_again(
    own_redis: servers.OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    id = uuid4()

    async with serving(RedisBus(own_redis.url, ear.hear, seconds=0.2)):
        await ear.until(lambda heard: heard == [None])
        own_redis.freeze()
        await until_lost(caplog)
        own_redis.thaw()
        await ear.until(lambda heard: heard == [None, None])
        async with client_of(own_redis.url) as other:
            await other.publish(PROGRESS, str(id))
        await ear.until(lambda heard: id in heard)

    assert ear.heard == [None, None, id]


async def test_a_server_that_has_nothing_to_say_is_not_lost(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()

    async with serving(RedisBus(redis_url, ear.hear, prefix=prefix, seconds=0.1)):
        await ear.until(lambda heard: heard == [None])
        await asyncio.sleep(1)

    assert ear.heard == [None]
    assert caplog.messages == []


async def test_whoever_tells_does_not_wait_for_a_server_that_is_away(prefix: str) -> None:
    ear = Ear()
    nowhere = "redis://127.0.0.1:1"
    bus: Bus = RedisBus(nowhere, ear.hear, prefix=prefix)
    clock = asyncio.get_running_loop().time
    before = clock()

    for _ in range(1000):
        await bus.tell(uuid4())

    assert clock() - before < 0.5
    assert ear.heard == []


async def test_a_message_that_is_not_ours_disturbs_nobody(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    id = uuid4()

    async with on_the_line(redis_url, prefix) as (bus, ear), client_of(redis_url) as stranger:
        for data in ("no id", b"\xff\xfe", ""):
            await stranger.publish(prefix + PROGRESS, data)
        await bus.tell(id)
        await ear.until(lambda heard: id in heard)

    assert ear.heard == [None, id]
    assert caplog.messages == [f"progress.no_id channel={prefix}{PROGRESS}"] * 3


async def test_a_url_of_something_else_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisBus("http://127.0.0.1", Ear().hear)


async def test_a_password_that_is_refused_is_told_without_the_password(
    redis_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis_url.replace("redis://", "redis://nobody:tellnoone@")

    with caplog.at_level(logging.DEBUG):
        async with serving(RedisBus(url, Ear().hear, prefix=prefix)):
            await until_lost(caplog)

    assert "tellnoone" not in caplog.text
