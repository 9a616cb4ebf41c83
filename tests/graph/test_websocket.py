"""The view over WebSocket: graphql-transport-ws on a real server, and how a server shuts down."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import strawberry
import uvicorn
import websockets
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from graph.operations import Operations, Schema
from graph.refusals import Unauthenticated
from graph.view import TransportLimits, View

TRANSPORT_WS = Subprotocol("graphql-transport-ws")
INIT = {"type": "connection_init"}
ACK = {"type": "connection_ack"}

ended: list[str] = []
"""The subscriptions that began in this test and whose generators ended."""


@dataclass
class Context:
    number: int
    params: Mapping[str, object]


@strawberry.type
class Query:
    @strawberry.field
    def ping(self) -> str:
        return "pong"

    @strawberry.field
    def context_number(self, info: strawberry.Info[Context, None]) -> int:
        return info.context.number

    @strawberry.field
    def token(self, info: strawberry.Info[Context, None]) -> str:
        return str(info.context.params.get("token"))

    @strawberry.field
    def fail(self) -> str | None:
        raise RuntimeError("the password is hunter2")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int = 1_000_000, delay: float = 0.01) -> AsyncGenerator[int, None]:
        ended_in_this_test = ended
        try:
            for number in range(to):
                yield number
                await asyncio.sleep(delay)
        finally:
            ended_in_this_test.append("count")

    @strawberry.subscription
    async def fail(self) -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("the password is hunter2")


numbers = count()
expired: set[str] = set()


async def make_context(
    connection: Request | WebSocket, connection_params: Mapping[str, object]
) -> object:
    token = str(connection_params.get("token", ""))
    if token == "nobody" or token in expired:
        raise Unauthenticated("This token has expired. Sign in again.")
    if token == "broken":
        raise RuntimeError("the password is hunter2")
    return Context(next(numbers), connection_params)


def make_schema() -> Schema:
    return Schema(Query, subscription=Subscription, extensions=[Operations.with_limits()])


def make_app(schema: Schema, shutdown: asyncio.Event | None) -> Starlette:
    def view(**limits: Any) -> View:
        return View(
            schema,
            context=make_context,
            limits=TransportLimits(**limits),
            shutdown=shutdown,
            allowed_origins=["https://app.example"],
        )

    views = {
        "/graphql": view(),
        "/small": view(max_subscriptions=2, max_ws_message_bytes=1_000, init_wait_seconds=0.2),
    }
    return Starlette(
        routes=[WebSocketRoute(path, view) for path, view in views.items()]
        + [Route("/graphql", views["/graphql"])]
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    app = make_app(make_schema(), None)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = running.servers[0].sockets[0].getsockname()
    yield f"ws://{host}:{port}"
    running.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    global ended
    ended = []  # another: subscriptions of the test before may still be ending
    expired.clear()


Connect = Callable[..., Any]


@pytest.fixture
def connect(server: str) -> Connect:
    """A socket; with `init=` one that is acknowledged."""

    @asynccontextmanager
    async def connect(
        path: str = "/graphql", *, init: Mapping[str, object] | None = None, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        options.setdefault("subprotocols", [TRANSPORT_WS])
        async with websockets.connect(server + path, **options) as ws:
            if init is not None:
                await say(ws, INIT | {"payload": init})
                assert await hear(ws) == ACK
            yield ws

    return connect


async def say(ws: ClientConnection, message: object) -> None:
    await ws.send(message if isinstance(message, str | bytes) else json.dumps(message))


async def hear(ws: ClientConnection) -> Any:
    frame = await asyncio.wait_for(ws.recv(), 5)
    assert isinstance(frame, str), "browsers' clients read text frames only"
    return json.loads(frame)


async def close_of(ws: ClientConnection) -> tuple[int, str]:
    """The code and reason of the close; whatever is said before it is passed over."""
    with suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(ws.recv(), 5)
    assert ws.protocol.close_rcvd is not None, "the server dropped the connection"
    return ws.protocol.close_rcvd.code, ws.protocol.close_rcvd.reason


def subscribe(query: str, id: str = "1", **payload: object) -> dict[str, object]:
    return {"id": id, "type": "subscribe", "payload": {"query": query, **payload}}


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        await asyncio.sleep(0.01)


# Operations


async def test_a_subscription_is_told_next_by_next_and_completed(connect: Connect) -> None:
    async with connect(init={}) as ws:
        await say(ws, subscribe("subscription{count(to:2)}"))

        heard = [await hear(ws) for _ in range(3)]

    assert heard == [
        {"id": "1", "type": "next", "payload": {"data": {"count": 0}}},
        {"id": "1", "type": "next", "payload": {"data": {"count": 1}}},
        {"id": "1", "type": "complete"},
    ]


async def test_a_query_with_a_name_and_variables_is_answered(connect: Connect) -> None:
    query = "query A{ping} query B($a:Boolean!){ping @include(if:$a) b:ping}"
    async with connect(init={}) as ws:
        await say(ws, subscribe(query, operationName="B", variables={"a": False}))

        heard = [await hear(ws) for _ in range(2)]

    assert heard[0]["payload"] == {"data": {"b": "pong"}}
    assert heard[1] == {"id": "1", "type": "complete"}


async def test_two_subscriptions_share_a_socket(connect: Connect) -> None:
    async with connect(init={}) as ws:
        await say(ws, subscribe("subscription{count(to:2)}", "a"))
        await say(ws, subscribe("subscription{count(to:2)}", "b"))

        heard = [await hear(ws) for _ in range(6)]

    assert sorted(message["id"] for message in heard) == ["a", "a", "a", "b", "b", "b"]


async def test_a_completed_subscription_ends_its_generator_and_frees_its_id(
    connect: Connect,
) -> None:
    async with connect(init={}) as ws:
        await say(ws, subscribe("subscription{count}"))
        await hear(ws)

        await say(ws, {"id": "1", "type": "complete"})
        await until(lambda: ended == ["count"])
        await say(ws, subscribe("{ping}"))
        while "data" not in (message := await hear(ws))["payload"] or "ping" not in str(message):
            pass

    assert ended == ["count"]
    assert message["payload"] == {"data": {"ping": "pong"}}


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_socket_that_is_left_ends_its_generators(
    connect: Connect, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(init={}) as ws:
        for id_ in "abc":
            await say(ws, subscribe("subscription{count}", id_))
        while (await hear(ws))["id"] != "c":
            pass

        if how == "abort":
            ws.transport.abort()
        else:
            await ws.close()
        await until(lambda: len(ended) == 3)

    assert ended == ["count"] * 3
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_ping_is_answered(connect: Connect) -> None:
    async with connect() as ws:
        await say(ws, {"type": "ping", "payload": {"a": 1}})

        assert await hear(ws) == {"type": "pong"}


async def test_the_gql_client_gets_on_with_it(server: str) -> None:
    transport = WebsocketsTransport(f"{server}/graphql", subprotocols=[TRANSPORT_WS])

    async with Client(transport=transport) as session:
        heard = [result async for result in session.subscribe(gql("subscription{count(to:3)}"))]

    assert heard == [{"count": 0}, {"count": 1}, {"count": 2}]


# Errors


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription{", "GRAPHQL_PARSE_FAILED"),
        ("subscription{nosuch}", "GRAPHQL_VALIDATION_FAILED"),
        ("{" + "ping " * 401 + "}", "TOO_MANY_FIELDS"),
        ("subscription A{count} subscription B{count}", "OPERATION_RESOLUTION_FAILURE"),
        ("subscription($to:Int!){count(to:$to)}", "BAD_USER_INPUT"),
    ],
)
async def test_a_refused_operation_is_an_error_and_the_socket_stays(
    connect: Connect, query: str, code: str
) -> None:
    async with connect(init={}) as ws:
        await say(ws, subscribe(query, "bad"))
        error = await hear(ws)
        await say(ws, subscribe("{ping}", "good"))
        answer = await hear(ws)

    assert (error["id"], error["type"]) == ("bad", "error")
    assert [e["extensions"]["code"] for e in error["payload"]] == [code]
    assert answer == {"id": "good", "type": "next", "payload": {"data": {"ping": "pong"}}}


@pytest.mark.parametrize(
    ("query", "place"), [("{fail}", 0), ("subscription{fail}", 1)], ids=["query", "subscription"]
)
async def test_an_unforeseen_error_is_masked_and_logged_under_the_same_request_id(
    connect: Connect, query: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(init={}) as ws:
        await say(ws, subscribe(query))
        heard = [await hear(ws) for _ in range(place + 1)]

    (error,) = heard[place]["payload"]["errors"]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert error["message"] == "Internal server error."
    assert f"request_id={error['extensions']['requestId']} " in record.getMessage()
    assert "hunter2" not in json.dumps(heard)


# Who asks


async def test_each_operation_has_a_context_of_its_own_with_the_params_of_the_init(
    connect: Connect,
) -> None:
    heard = []
    async with connect(init={"token": "alice"}) as ws:
        for _ in range(2):
            await say(ws, subscribe("{contextNumber token}"))
            heard.append((await hear(ws))["payload"]["data"])
            await hear(ws)

    assert [answer["token"] for answer in heard] == ["alice", "alice"]
    assert heard[0]["contextNumber"] != heard[1]["contextNumber"]


async def test_an_init_without_authority_is_closed_4403(connect: Connect) -> None:
    async with connect() as ws:
        await say(ws, INIT | {"payload": {"token": "nobody"}})

        assert await close_of(ws) == (4403, "Forbidden")


async def test_an_init_that_fails_is_closed_1011_and_logged(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect() as ws:
        await say(ws, INIT | {"payload": {"token": "broken"}})

        assert await close_of(ws) == (1011, "Internal server error")
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage().startswith("graphql.failed request_id=")


async def test_authority_that_ends_is_an_error_of_the_next_operation(connect: Connect) -> None:
    async with connect(init={"token": "alice"}) as ws:
        expired.add("alice")
        await say(ws, subscribe("{ping}"))

        error = await hear(ws)

    assert error == {
        "id": "1",
        "type": "error",
        "payload": [
            {
                "message": "This token has expired. Sign in again.",
                "extensions": {"code": "UNAUTHENTICATED"},
            }
        ],
    }


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil"])
async def test_a_page_on_a_foreign_origin_is_answered_403(connect: Connect, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(origin=origin):
            pass

    assert caught.value.response.status_code == 403


async def test_a_page_on_an_allowed_origin_may_connect(connect: Connect) -> None:
    async with connect(origin="https://app.example", init={}) as ws:
        await say(ws, subscribe("{ping}"))

        assert (await hear(ws))["type"] == "next"


# The protocol


@pytest.mark.parametrize("protocols", [["graphql-ws"], ["nonsense"], []])
async def test_another_protocol_is_closed_4406(connect: Connect, protocols: list[str]) -> None:
    async with connect(subprotocols=protocols or None) as ws:
        assert await close_of(ws) == (4406, "Subprotocol not acceptable")


@pytest.mark.parametrize(
    ("messages", "close"),
    [
        ([INIT, INIT], (4429, "Too many initialisation requests")),
        ([subscribe("{ping}")], (4401, "Unauthorized")),
        (
            [INIT, subscribe("subscription{count}"), subscribe("{ping}")],
            (4409, "Subscriber for 1 already exists"),
        ),
    ],
)
async def test_a_message_out_of_turn_closes_the_socket(
    connect: Connect, messages: list[object], close: tuple[int, str]
) -> None:
    async with connect() as ws:
        for message in messages:
            await say(ws, message)

        assert await close_of(ws) == close


async def test_a_socket_that_says_nothing_is_closed_4408(connect: Connect) -> None:
    async with connect("/small") as ws:
        assert await close_of(ws) == (4408, "Connection initialisation timeout")


def frame(type_: str, **rest: object) -> str:
    return json.dumps({"type": type_, **rest})


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut off"),
        pytest.param("nonsense", id="no JSON"),
        pytest.param("[]", id="list"),
        pytest.param("1", id="number"),
        pytest.param("null", id="null"),
        pytest.param('"subscribe"', id="string"),
        pytest.param("{}", id="no type"),
        pytest.param('{"type":null}', id="null as type"),
        pytest.param('{"type":["ping"]}', id="list as type"),
        pytest.param(frame("nonsense"), id="unknown type"),
        pytest.param(frame("n\u00f6" * 500), id="unknown type of 1,000 letters"),
        pytest.param(frame("start", id="1", payload={"query": "{ping}"}), id="legacy start"),
        pytest.param(frame("connection_init", payload=1), id="number as init payload"),
        pytest.param(frame("connection_init", payload=[1]), id="list as init payload"),
        pytest.param(frame("ping", payload=1), id="number as ping payload"),
        pytest.param(frame("pong", payload="x"), id="string as pong payload"),
        pytest.param(frame("subscribe", payload={"query": "{ping}"}), id="no id"),
        pytest.param(frame("subscribe", id=1, payload={"query": "{ping}"}), id="number as id"),
        pytest.param(frame("subscribe", id=[1], payload={"query": "{ping}"}), id="list as id"),
        pytest.param(frame("subscribe", id="1"), id="no payload"),
        pytest.param(frame("subscribe", id="1", payload=1), id="number as payload"),
        pytest.param(frame("subscribe", id="1", payload=[]), id="list as payload"),
        pytest.param(frame("subscribe", id="1", payload={}), id="no query"),
        pytest.param(frame("subscribe", id="1", payload={"query": 1}), id="number as query"),
        pytest.param(frame("subscribe", id="1", payload={"query": ""}), id="empty query"),
        pytest.param(json.dumps(subscribe("{ping}", variables=[])), id="list as variables"),
        pytest.param(json.dumps(subscribe("{ping}", operationName=1)), id="number as name"),
        pytest.param(json.dumps(subscribe("{ping}", extensions=[])), id="list as extensions"),
        pytest.param(frame("complete"), id="complete without id"),
        pytest.param(frame("complete", id=[1]), id="complete with a list as id"),
        pytest.param('{"type":"ping","payload":' + "[" * 20_000, id="20,000 deep"),
        pytest.param('{"a":' * 20_000 + "1" + "}" * 20_000, id="objects 20,000 deep"),
        pytest.param('{"type":"ping","payload":{"a":NaN}}', id="NaN"),
        pytest.param(b'{"type":"connection_init"}', id="binary"),
        pytest.param(b"\xff\x00", id="binary nonsense"),
    ],
)
@pytest.mark.parametrize("init", [None, {}], ids=["before init", "after init"])
async def test_a_malformed_message_closes_the_socket_4400_and_nothing_else(
    connect: Connect,
    message: str | bytes,
    init: dict[str, object] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connect(init=init) as ws:
        await say(ws, message)

        code, reason = await close_of(ws)

    assert code == 4400
    assert reason
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_id_longer_than_a_close_reason_is_no_failure(connect: Connect) -> None:
    async with connect(init={}) as ws:
        for _ in range(2):
            await say(ws, subscribe("subscription{count}", "ö" * 200))

        code, reason = await close_of(ws)

    assert code == 4409
    assert len(reason.encode()) <= 123


async def test_a_message_that_is_too_large_closes_the_socket_1009(connect: Connect) -> None:
    async with connect("/small", init={}) as ws:
        await say(ws, subscribe("{ping}" + " " * 1_000))

        assert await close_of(ws) == (1009, "Message too big")


async def test_one_operation_too_many_is_an_error_and_the_others_go_on(connect: Connect) -> None:
    async with connect("/small", init={}) as ws:
        for id_ in "abc":
            await say(ws, subscribe("subscription{count}", id_))
        heard = [await hear(ws) for _ in range(20)]

    (error,) = [message for message in heard if message["type"] == "error"]
    assert error == {
        "id": "c",
        "type": "error",
        "payload": [
            {
                "message": "2 operations are open here; complete one of them first.",
                "extensions": {"code": "TOO_MANY_SUBSCRIPTIONS"},
            }
        ],
    }
    assert {message["id"] for message in heard[-4:]} == {"a", "b"}


# Shutdown


@pytest.mark.parametrize("delay", [0, 60], ids=["busy", "idle"])
async def test_setting_shutdown_closes_sockets_1001_and_completes_streams(delay: int) -> None:
    shutdown = asyncio.Event()
    config = uvicorn.Config(
        make_app(make_schema(), shutdown), port=0, lifespan="off", log_config=None
    )
    running = uvicorn.Server(config)
    serving = asyncio.create_task(running._serve())  # without its signal handlers
    await until(lambda: running.started)
    host = f"127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    query = {"query": f"subscription{{count(delay:{delay})}}"}

    async with (
        websockets.connect(f"ws://{host}/graphql", subprotocols=[TRANSPORT_WS]) as ws,
        httpx.AsyncClient(base_url=f"http://{host}") as client,
        client.stream(
            "GET", "/graphql", params=query, headers={"Accept": "text/event-stream"}
        ) as response,
    ):
        await say(ws, INIT)
        await say(ws, subscribe(query["query"]))
        lines = response.aiter_lines()
        heard = [await hear(ws), await hear(ws), await anext(lines)]
        shutdown.set()
        close = await close_of(ws)
        rest = [line async for line in lines]

    running.should_exit = True
    await serving
    assert [heard[0]["type"], heard[1]["type"], heard[2]] == [
        "connection_ack",
        "next",
        "event: next",
    ]
    assert close == (1001, "Going away")
    assert rest[-3:-1] == ["event: complete", "data: "]
    assert rest.count("event: complete") == 1
    assert ended == ["count", "count"]


SERVICE = """
import asyncio, sys, uvicorn
sys.path[:0] = {paths!r}
import test_websocket

class Server(uvicorn.Server):
    def handle_exit(self, sig, frame):
        loop.call_soon_threadsafe(shutdown.set)
        super().handle_exit(sig, frame)

async def main():
    global loop, shutdown
    loop, shutdown = asyncio.get_running_loop(), asyncio.Event()
    app = test_websocket.make_app(test_websocket.make_schema(), shutdown)
    server = Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

asyncio.run(main())
"""


async def test_sigterm_with_open_streams_ends_the_process_within_a_second() -> None:
    paths = [str(Path(__file__).parent), os.getcwd()]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE.format(paths=paths)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        host = f"127.0.0.1:{process.stdout.readline().strip()}"
        query = {"query": "subscription{count(delay:60)}"}
        async with (
            websockets.connect(f"ws://{host}/graphql", subprotocols=[TRANSPORT_WS]) as ws,
            httpx.AsyncClient(base_url=f"http://{host}") as client,
            client.stream(
                "GET", "/graphql", params=query, headers={"Accept": "text/event-stream"}
            ) as response,
        ):
            await say(ws, INIT)
            await say(ws, subscribe(query["query"]))
            lines = response.aiter_lines()
            assert [(await hear(ws))["type"] for _ in range(2)] == ["connection_ack", "next"]
            assert await anext(lines) == "event: next"

            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            code, _ = await close_of(ws)
            rest = [line async for line in lines]
            await asyncio.to_thread(process.wait, 5)
            took = time.monotonic() - began

    assert code in (1001, 1012)
    assert "event: complete" in rest
    assert took < 1
