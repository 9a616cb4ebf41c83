"""The view over HTTP and SSE: real requests to a real server, exact statuses and bodies."""

import asyncio
import json
import logging
import select
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.websockets import WebSocket
from strawberry.file_uploads import Upload as StrawberryUpload
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from graph.operations import Operations, Schema
from graph.refusals import Unauthenticated
from graph.uploads import SCALARS, Upload
from graph.view import TransportLimits, View

GRAPHQL_RESPONSE = "application/graphql-response+json"
PREFLIGHT = {"GraphQL-Require-Preflight": "1"}
JSON_BODY = "Content-Type: application/json"

ran: list[str] = []
"""The mutations that ran, and the streams that ended, since the test began."""


@dataclass
class Context:
    number: int


@strawberry.input
class Wrapped:
    file: Upload


@strawberry.type
class Query:
    @strawberry.field
    def ping(self) -> str:
        return "pong"

    @strawberry.field
    def context_number(self, info: strawberry.Info[Context, None]) -> int:
        return info.context.number

    @strawberry.field
    def echo(self, value: JSON) -> JSON:
        return value

    @strawberry.field
    def number(self, value: int) -> int:
        return value

    @strawberry.field
    def unpaired(self) -> str:
        return "\ud800"

    @strawberry.field
    def huge(self) -> JSON:
        return JSON(2**80)

    @strawberry.field
    def fail(self) -> str | None:
        raise RuntimeError("the password is hunter2")

    @strawberry.field
    def fail_hard(self) -> str:
        raise RuntimeError("the password is hunter2")


@strawberry.type
class Mutation:
    @strawberry.mutation
    def touch(self) -> int:
        ran.append("touch")
        return 1

    @strawberry.mutation
    async def upload(self, file: Upload) -> str:
        ran.append("upload")
        return (await file.read()).decode()

    @strawberry.mutation
    async def upload_many(self, files: list[Upload]) -> list[str]:
        ran.append("upload")
        return [(await file.read()).decode() for file in files]

    @strawberry.mutation
    async def upload_wrapped(self, input: Wrapped) -> str | None:
        ran.append("upload")
        return input.file.filename

    @strawberry.mutation
    async def upload_as_strawberry_does(self, file: StrawberryUpload) -> str:
        ran.append("upload")
        return type(file).__name__


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int) -> AsyncGenerator[int, None]:
        try:
            for number in range(to):
                yield number
                await asyncio.sleep(0.01)
        finally:
            ran.append("ended")

    @strawberry.subscription
    async def fail(self) -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("the password is hunter2")


numbers = count()


async def make_context(
    connection: Request | WebSocket, connection_params: Mapping[str, object]
) -> object:
    assert connection_params == {}
    match connection.headers.get("authorization"):
        case "Bearer nobody":
            raise Unauthenticated("This token has expired. Sign in again.")
        case "Bearer broken":
            raise RuntimeError("the password is hunter2")
    return Context(next(numbers))


SMALL = TransportLimits(
    max_json_bytes=2_000, max_upload_bytes=5_000, max_files=2, body_stall_seconds=0.3
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    schema = Schema(
        Query,
        Mutation,
        Subscription,
        extensions=[Operations.with_limits()],
        config=StrawberryConfig(scalar_map=SCALARS),
    )
    views = {
        "/graphql": View(schema, context=make_context, limits=TransportLimits(), shutdown=None),
        "/small": View(schema, context=make_context, limits=SMALL, shutdown=None),
        "/ide": View(
            schema,
            context=make_context,
            limits=TransportLimits(),
            shutdown=None,
            graphql_ide="graphiql",
        ),
    }
    app = Starlette(routes=[Route(path, view) for path, view in views.items()])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = running.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    running.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def shared_client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as client:
        yield client


@pytest.fixture
def client(shared_client: httpx.Client) -> httpx.Client:
    ran.clear()
    return shared_client


def post(client: httpx.Client, query: object, /, **rest: Any) -> httpx.Response:
    headers = rest.pop("headers", {})
    return client.post("/graphql", json={"query": query, **rest}, headers=headers)


def error_of(response: httpx.Response) -> tuple[str, str]:
    """The code and message of the one error that is all the body holds."""
    body = response.json()
    assert list(body) == ["errors"]
    (error,) = body["errors"]
    return error["extensions"]["code"], error["message"]


# Media types and statuses


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("APPLICATION/JSON; charset=utf-8", "application/json"),
        (GRAPHQL_RESPONSE, GRAPHQL_RESPONSE),
        (f"{GRAPHQL_RESPONSE}, application/json;q=0.9", GRAPHQL_RESPONSE),
        (f"application/json, {GRAPHQL_RESPONSE}", GRAPHQL_RESPONSE),
        (f"application/json, {GRAPHQL_RESPONSE};q=0.5", "application/json"),
        (f"{GRAPHQL_RESPONSE};q=0, */*", "application/json"),
        (f"{GRAPHQL_RESPONSE}, application/json, text/event-stream", GRAPHQL_RESPONSE),
        ("text/html, */*;q=0.8", "application/json"),
        ("application/json;q=nonsense, application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/event-stream, application/json;q=0.5", "text/event-stream"),
    ],
)
def test_the_answer_has_the_media_type_the_client_prefers(
    client: httpx.Client, accept: str | None, content_type: str
) -> None:
    headers = {"Content-Type": "application/json"} | ({} if accept is None else {"Accept": accept})
    request = httpx.Request(
        "POST", f"{client.base_url}/graphql", headers=headers, content=b'{"query": "{ping}"}'
    )

    response = client.send(request)

    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == content_type


@pytest.mark.parametrize(
    "accept", ["text/html", "image/*", "application/json;q=0", "nonsense", ",;,;q=", "*/*;q=nan"]
)
def test_an_accept_header_without_our_media_types_is_answered_406(
    client: httpx.Client, accept: str
) -> None:
    response = post(client, "mutation{touch}", headers={"Accept": accept})

    assert response.status_code == 406
    assert error_of(response) == (
        "NOT_ACCEPTABLE",
        "Accept application/graphql-response+json or application/json.",
    )
    assert ran == []


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("{", {}, "GRAPHQL_PARSE_FAILED"),
        ("{nosuch}", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("query($n:Int!){number(value:$n)}", {"n": "x"}, "BAD_USER_INPUT"),
        ("query A{ping} query B{ping}", {}, "OPERATION_RESOLUTION_FAILURE"),
        ("{" + "ping " * 401 + "}", {}, "TOO_MANY_FIELDS"),
    ],
)
def test_what_was_not_executed_is_400_as_graphql_response_200_as_json_and_has_no_data(
    client: httpx.Client, query: str, variables: dict[str, Any], code: str
) -> None:
    strict = post(client, query, variables=variables, headers={"Accept": GRAPHQL_RESPONSE})
    lenient = post(client, query, variables=variables, headers={"Accept": "application/json"})

    assert (strict.status_code, lenient.status_code) == (400, 200)
    assert strict.json() == lenient.json()
    assert error_of(strict)[0] == code


@pytest.mark.parametrize(
    ("query", "data"), [("{ping fail}", {"ping": "pong", "fail": None}), ("{ping failHard}", None)]
)
def test_what_was_executed_is_200_and_has_data(
    client: httpx.Client, query: str, data: object
) -> None:
    response = post(client, query, headers={"Accept": GRAPHQL_RESPONSE})

    assert response.status_code == 200
    assert response.json()["data"] == data
    assert response.json()["errors"][0]["extensions"]["code"] == "INTERNAL"
    assert "hunter2" not in response.text


def test_a_named_operation_runs_with_its_variables(client: httpx.Client) -> None:
    query = "query A{ping} query B($n:Int!){number(value:$n)}"

    response = post(client, query, operationName="B", variables={"n": 7}, extensions={"x": 1})

    assert response.json() == {"data": {"number": 7}}


def test_a_query_may_come_in_the_url(client: httpx.Client) -> None:
    params = {"query": "query A($n:Int!){number(value:$n)}", "variables": '{"n": 7}'}

    response = client.get("/graphql", params={**params, "operationName": "", "extensions": ""})

    assert response.json() == {"data": {"number": 7}}


@pytest.mark.parametrize("accept", ["application/json", GRAPHQL_RESPONSE])
def test_a_mutation_in_the_url_is_answered_405_and_does_not_run(
    client: httpx.Client, accept: str
) -> None:
    params = {"query": "mutation{touch}"}

    response = client.get("/graphql", params=params, headers={"Accept": accept})

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert error_of(response) == ("METHOD_NOT_ALLOWED", "Send mutations by POST.")
    assert ran == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_another_method_is_answered_405(client: httpx.Client, method: str) -> None:
    response = client.request(method, "/graphql", json={"query": "mutation{touch}"})

    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    assert error_of(response) == ("METHOD_NOT_ALLOWED", "Use GET or POST.")
    assert ran == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "application/graphql",
        "application/jsonp",
        "multipart/mixed; boundary=x",
        "nonsense",
    ],
)
def test_another_content_type_is_answered_415_and_nothing_runs(
    client: httpx.Client, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}

    response = client.post("/graphql", content=b'{"query":"mutation{touch}"}', headers=headers)

    assert response.status_code == 415
    assert error_of(response)[0] == "UNSUPPORTED_MEDIA_TYPE"
    assert ran == []


def test_a_urlencoded_form_is_never_read(client: httpx.Client) -> None:
    response = client.post("/graphql", data={"query": "mutation{touch}"})

    assert response.status_code == 415
    assert ran == []


def test_a_subscription_that_cannot_be_streamed_says_what_to_accept(client: httpx.Client) -> None:
    response = post(client, "subscription{count(to:3)}")

    assert response.status_code == 400
    assert error_of(response) == (
        "BAD_REQUEST",
        "A subscription is a stream: accept text/event-stream, or use a WebSocket.",
    )


def test_there_is_no_ide_unless_it_is_asked_for(client: httpx.Client) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

    without, with_one = (client.get(path, headers=browser) for path in ("/graphql", "/ide"))

    assert without.status_code == 400
    assert with_one.headers["content-type"].startswith("text/html")


# Malformed requests


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"1", id="number"),
        pytest.param(b'"x"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"true", id="boolean"),
        pytest.param(b"[]", id="empty batch"),
        pytest.param(b"[5]", id="batch of a number"),
        pytest.param(b'[{"query":"mutation{touch}"}]', id="batch"),
        pytest.param(b"{}", id="no query"),
        pytest.param(b'{"query":null}', id="null query"),
        pytest.param(b'{"query":""}', id="empty query"),
        pytest.param(b'{"query":["mutation{touch}"]}', id="list as query"),
        pytest.param(b'{"query":{"a":1}}', id="object as query"),
        pytest.param(b'{"query":"mutation{touch}","variables":[]}', id="list as variables"),
        pytest.param(b'{"query":"mutation{touch}","variables":"{}"}', id="text as variables"),
        pytest.param(b'{"query":"mutation{touch}","operationName":5}', id="number as name"),
        pytest.param(b'{"query":"mutation{touch}","extensions":0}', id="number as extensions"),
        pytest.param(b'{"query":"{ping}","variables":{"a":NaN}}', id="NaN"),
        pytest.param(b'{"query":"{ping}","variables":{"a":"\\ud800"}}', id="lone surrogate"),
        pytest.param(b'{"query":"\xff\xfe"}', id="not UTF-8"),
        pytest.param('{"query":"{ping}"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"query":"{ping}"}', id="byte order mark"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="lists 100,000 deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="objects 100,000 deep"),
        pytest.param(b'{"query":"{ping}"}{"query":"{ping}"}', id="two documents"),
        pytest.param(b"query=mutation{touch}", id="a form"),
        pytest.param(b"\0" * 1000, id="zeros"),
    ],
)
def test_a_malformed_body_is_answered_400_and_nothing_runs(
    client: httpx.Client, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}

    response = client.post("/graphql", content=body, headers=headers)

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert error_of(response)[0] == "BAD_REQUEST"
    assert ran == []


def test_a_batch_is_told_to_come_one_by_one(client: httpx.Client) -> None:
    response = client.post("/graphql", json=[{"query": "{ping}"}] * 1_000)

    assert error_of(response)[1] == "Batches are not supported; send one operation at a time."


@pytest.mark.parametrize(
    "url",
    [
        "",
        "?",
        "?query=",
        "?query",
        "?variables={}",
        "?query={ping}&variables={",
        "?query={ping}&variables=[1]",
        "?query={ping}&variables=1",
        "?query={ping}&extensions=x",
        "?query={ping}&variables=" + "[" * 20_000,
    ],
)
def test_a_malformed_url_is_answered_400(client: httpx.Client, url: str) -> None:
    response = client.get(f"/graphql{url}")

    assert response.status_code == 400
    assert error_of(response)[0] == "BAD_REQUEST"


@pytest.mark.parametrize("type_", ["Int!", "JSON!"])
def test_variables_hundreds_of_levels_deep_are_no_failure(client: httpx.Client, type_: str) -> None:
    field = "number" if type_ == "Int!" else "echo"
    deep: object = 1
    for _ in range(500):
        deep = [deep]

    response = post(client, f"query($v:{type_}){{{field}(value:$v)}}", variables={"v": deep})

    assert response.status_code == 200


def test_values_that_orjson_cannot_write_are_written_all_the_same(client: httpx.Client) -> None:
    response = post(client, "{unpaired huge}", headers={"Accept": GRAPHQL_RESPONSE})

    assert response.text == '{"data":{"unpaired":"\\ud800","huge":1208925819614629174706176}}'


# Bodies that are too large or too slow


@pytest.mark.parametrize("size", [2_001, 200_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_over_the_limit_is_answered_413_every_time(
    client: httpx.Client, size: int, chunked: bool
) -> None:
    whole = b'{"query":"mutation{touch}"}'.ljust(size)
    parts = [whole[i : i + 65_536] for i in range(0, size, 65_536)]
    headers = {"Content-Type": "application/json"}

    for _ in range(20):
        content = iter(parts) if chunked else whole
        response = client.post("/small", content=content, headers=headers)

        assert response.status_code == 413
        assert error_of(response) == (
            "PAYLOAD_TOO_LARGE",
            "The body is too large; 2000 bytes are allowed.",
        )
    assert ran == []


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/small", "Content-Type: application/json", b"413"),
        ("/graphql", "Content-Type: application/json\r\nAuthorization: Bearer nobody", b"401"),
        ("/graphql", "Content-Type: application/json\r\nAuthorization: Bearer broken", b"500"),
        ("/graphql", "Content-Type: text/plain", b"415"),
    ],
)
def test_a_client_that_sends_all_before_it_reads_sees_an_early_refusal(
    server: str, path: str, header: str, status: bytes
) -> None:
    for _ in range(5):
        with connect(server, path, f"{header}\r\nContent-Length: 655360") as connection:
            for _ in range(10):
                connection.sendall(b" " * 65_536)
                time.sleep(0.001)

            assert connection.recv(12) == b"HTTP/1.1 " + status


def test_a_body_of_exactly_the_limit_is_read(client: httpx.Client) -> None:
    body = b'{"query":"{ping}"}'.ljust(2_000)

    response = client.post("/small", content=body, headers={"Content-Type": "application/json"})

    assert response.json() == {"data": {"ping": "pong"}}


def test_a_body_without_end_is_cut_off_after_a_while(server: str) -> None:
    sent = 0
    with connect(server, "/small", f"{JSON_BODY}\r\nTransfer-Encoding: chunked") as connection:
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(2_000):  # 125 MiB
                connection.sendall(chunk)
                sent += 0x10000
        except OSError:
            pass

    assert sent < 64 * 1024 * 1024


def test_a_stalled_body_is_answered_408(server: str) -> None:
    with connect(server, "/small", f"{JSON_BODY}\r\nContent-Length: 100") as connection:
        connection.sendall(b'{"query":')

        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "errors": [
            {
                "message": "The body arrives too slowly. Try again on a better line.",
                "extensions": {"code": "REQUEST_TIMEOUT"},
            }
        ]
    }


def test_a_body_that_trickles_is_answered_408(server: str) -> None:
    with connect(server, "/small", f"{JSON_BODY}\r\nContent-Length: 1000") as connection:
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b" ")

        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_in_the_middle_is_no_error(
    server: str, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server, "/graphql", f"{JSON_BODY}\r\nContent-Length: 100") as connection:
        connection.sendall(b'{"query":')
    time.sleep(0.1)

    assert post(client, "{ping}").status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def connect(server: str, path: str, headers: str) -> socket.socket:
    host, port = server.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


# Who asks


def test_each_request_has_a_context_of_its_own(client: httpx.Client) -> None:
    first, second = (post(client, "{contextNumber}").json()["data"] for _ in range(2))

    assert second["contextNumber"] == first["contextNumber"] + 1


@pytest.mark.parametrize("accept", ["application/json", GRAPHQL_RESPONSE, "text/event-stream"])
def test_a_request_without_authority_is_answered_401_and_nothing_runs(
    client: httpx.Client, accept: str
) -> None:
    headers = {"Authorization": "Bearer nobody", "Accept": accept}

    response = post(client, "mutation{touch}", headers=headers)

    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert error_of(response) == ("UNAUTHENTICATED", "This token has expired. Sign in again.")
    assert ran == []


def test_a_context_that_fails_is_answered_500_and_logged_under_the_same_request_id(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = post(client, "{ping}", headers={"Authorization": "Bearer broken"})

    assert response.status_code == 500
    assert error_of(response) == ("INTERNAL", "Internal server error.")
    request_id = response.json()["errors"][0]["extensions"]["requestId"]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage() == f"graphql.failed request_id={request_id} path=-"


# Uploads


Part = tuple[str, str | None, bytes]
ONE = b'{"query":"mutation($f:Upload!){upload(file:$f)}","variables":{"f":null}}'
MANY = (
    b'{"query":"mutation($f:[Upload!]!){uploadMany(files:$f)}","variables":{"f":[null,null,null]}}'
)


def multipart(*parts: Part) -> bytes:
    lines = []
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        lines += [head.encode(), content, b"\r\n"]
    return b"".join([*lines, b"--xyz--\r\n"])


def send(
    client: httpx.Client,
    body: bytes,
    *,
    headers: Mapping[str, str] = PREFLIGHT,
    content_type: str = "multipart/form-data; boundary=xyz",
    path: str = "/graphql",
) -> httpx.Response:
    return client.post(path, content=body, headers={**headers, "Content-Type": content_type})


@pytest.mark.parametrize("header", ["GraphQL-Require-Preflight", "apollo-require-preflight"])
def test_a_file_arrives_in_the_place_of_its_null(client: httpx.Client, header: str) -> None:
    parts = ("operations", None, ONE), ("map", None, b'{"0":["variables.f"]}'), ("0", "a", b"text")

    response = send(client, multipart(*parts), headers={header: "true"})

    assert response.json() == {"data": {"upload": "text"}}


def test_several_files_arrive_in_order(client: httpx.Client) -> None:
    places = b'{"b":["variables.f.2"],"a":["variables.f.0"],"c":["variables.f.1"]}'
    files: list[Part] = [("a", "a", b"1"), ("b", "b", b"3"), ("c", "c", b"2")]

    response = send(client, multipart(("operations", None, MANY), ("map", None, places), *files))

    assert response.json() == {"data": {"uploadMany": ["1", "2", "3"]}}


def test_a_file_arrives_in_an_input_object(client: httpx.Client) -> None:
    operation = {
        "query": "mutation($i:Wrapped!){uploadWrapped(input:$i)}",
        "variables": {"i": {"file": None}},
    }
    places = b'{"0":["variables.i.file"]}'
    operations = json.dumps(operation).encode()

    response = send(
        client,
        multipart(("operations", None, operations), ("map", None, places), ("0", "a.png", b"")),
    )

    assert response.json() == {"data": {"uploadWrapped": "a.png"}}


def test_strawberrys_own_upload_means_the_same(client: httpx.Client) -> None:
    operation = (
        b'{"query":"mutation($f:Upload!){uploadAsStrawberryDoes(file:$f)}","variables":{"f":null}}'
    )
    places = b'{"0":["variables.f"]}'

    response = send(
        client, multipart(("operations", None, operation), ("map", None, places), ("0", "a", b""))
    )

    assert response.json() == {"data": {"uploadAsStrawberryDoes": "UploadFile"}}


def test_a_multipart_request_without_a_preflight_header_is_answered_403_and_nothing_runs(
    client: httpx.Client,
) -> None:
    body = multipart(("operations", None, b'{"query":"mutation{touch}"}'), ("map", None, b"{}"))

    response = send(client, body, headers={})

    assert response.status_code == 403
    code, message = error_of(response)
    assert code == "PREFLIGHT_REQUIRED"
    assert "GraphQL-Require-Preflight" in message
    assert ran == []


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("mutation($f:Upload!){upload(file:$f)}", {"f": "text"}),
        ("mutation($f:Upload!){upload(file:$f)}", {"f": {"filename": "x"}}),
        ("mutation($f:Upload!){upload(file:$f)}", {"f": [1]}),
        ("mutation($f:Upload!){upload(file:$f)}", {"f": None}),
        ("mutation($i:Wrapped!){uploadWrapped(input:$i)}", {"i": {"file": 5}}),
        ('mutation{upload(file:"text")}', {}),
        ("mutation{upload(file:{a:1})}", {}),
    ],
)
def test_an_upload_that_is_no_file_is_refused_and_nothing_runs(
    client: httpx.Client, query: str, variables: dict[str, Any]
) -> None:
    response = post(client, query, variables=variables, headers={"Accept": GRAPHQL_RESPONSE})

    assert response.status_code == 400
    assert error_of(response)[0] in ("BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED")
    assert ran == []


OPERATIONS: Part = ("operations", None, ONE)
MAP: Part = ("map", None, b'{"0":["variables.f"]}')
FILE: Part = ("0", "a", b"text")


def mapped(places: bytes, *files: Part, operations: bytes = ONE) -> bytes:
    return multipart(("operations", None, operations), ("map", None, places), *(files or (FILE,)))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="no boundary in it"),
        pytest.param(multipart(OPERATIONS, MAP, FILE)[:-20], id="cut off"),
        pytest.param(b"--xyz\r\nno colon\r\n\r\nx\r\n--xyz--\r\n", id="no header"),
        pytest.param(b"--xyz\r\nContent-Disposition: form-data\r\n\r\n\r\n--xyz--", id="no name"),
        pytest.param(b"--xyz\r\n" + b"A: b\r\n" * 5_000 + b"\r\n--xyz--", id="5,000 headers"),
        pytest.param(multipart(MAP, FILE), id="no operations"),
        pytest.param(multipart(OPERATIONS, FILE), id="no map"),
        pytest.param(multipart(OPERATIONS, OPERATIONS, MAP, FILE), id="operations twice"),
        pytest.param(multipart(OPERATIONS, MAP, MAP, FILE), id="map twice"),
        pytest.param(multipart(("operations", "a", ONE), MAP, FILE), id="operations as a file"),
        pytest.param(multipart(OPERATIONS, ("map", "a", b"{}"), FILE), id="map as a file"),
        pytest.param(multipart(OPERATIONS, MAP, FILE, FILE), id="one name for two files"),
        pytest.param(multipart(OPERATIONS, MAP, ("more", None, b"")), id="one more field"),
        pytest.param(mapped(b"{"), id="map cut off"),
        pytest.param(mapped(b"[]"), id="map a list"),
        pytest.param(mapped(b"5"), id="map a number"),
        pytest.param(mapped(b"null"), id="map null"),
        pytest.param(mapped(b"[" * 100_000), id="map 100,000 deep"),
        pytest.param(mapped(b'{"0":5}'), id="a number as place"),
        pytest.param(mapped(b'{"0":"variables.f"}'), id="text as places"),
        pytest.param(mapped(b'{"0":[5]}'), id="a number as path"),
        pytest.param(mapped(b'{"0":[null]}'), id="null as path"),
        pytest.param(mapped(b'{"0":[]}'), id="no path"),
        pytest.param(mapped(b'{"0":["variables.f","variables.f"]}'), id="one path twice"),
        pytest.param(mapped(b'{"9":["variables.f"]}'), id="no such file"),
        pytest.param(mapped(b'{"operations":["variables.f"]}'), id="a field for a file"),
        pytest.param(mapped(b'{"0":["query"]}'), id="path to the query"),
        pytest.param(mapped(b'{"0":["variables"]}'), id="path to all variables"),
        pytest.param(mapped(b'{"0":["variables."]}'), id="path to no name"),
        pytest.param(mapped(b'{"0":["variables.g"]}'), id="path to what is not there"),
        pytest.param(mapped(b'{"0":["variables.f.x"]}'), id="path through null"),
        pytest.param(mapped(b'{"0":["variables.__class__"]}'), id="path to an attribute"),
        pytest.param(mapped(b'{"0":["variables' + b".f" * 9_000 + b'"]}'), id="path without end"),
        pytest.param(
            mapped(b'{"0":["variables.f"],"1":["variables.f"]}', FILE, ("1", "b", b"")),
            id="two files for one path",
        ),
        pytest.param(
            mapped(
                b'{"0":["extensions.f"]}',
                operations=b'{"query":"mutation{touch}","extensions":{"f":null}}',
            ),
            id="path outside the variables",
        ),
        pytest.param(
            mapped(
                b'{"0":["variables.f"]}',
                operations=b'{"query":"mutation($f:Upload!){upload(file:$f)}","variables":{"f":1}}',
            ),
            id="a number in its place",
        ),
        *(
            pytest.param(
                mapped(b'{"0":["variables.f.%s"]}' % i, operations=MANY), id=f"index {i!r}"
            )
            for i in (b"3", b"-1", b"00", b"x", b"", b"1e0", b"9" * 9_000)
        ),
        *(
            pytest.param(mapped(b"{}", operations=text), id=f"operations {text[:12]!r}")
            for text in (b"", b"{", b"5", b"null", b'"x"', b"[]", b"[" + ONE + b"]", b"{}")
        ),
        pytest.param(mapped(b"{}", operations=b'{"query":5}'), id="a number as query"),
    ],
)
def test_a_malformed_multipart_body_is_answered_400_and_nothing_runs(
    client: httpx.Client, body: bytes
) -> None:
    response = send(client, body)

    assert response.status_code == 400
    assert error_of(response)[0] == "BAD_REQUEST"
    assert ran == []


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=other",
        "multipart/form-data; boundary=" + "x" * 5_000,
        'multipart/form-data; boundary="',
    ],
)
def test_a_malformed_boundary_is_answered_400(client: httpx.Client, content_type: str) -> None:
    response = send(client, multipart(OPERATIONS, MAP, FILE), content_type=content_type)

    assert response.status_code == 400
    assert error_of(response)[0] == "BAD_REQUEST"
    assert ran == []


@pytest.mark.parametrize("charset", ["nonsense", "base64", "utf-16", "rot13", "idna"])
def test_a_strange_charset_is_no_failure(client: httpx.Client, charset: str) -> None:
    content_type = f"multipart/form-data; boundary=xyz; charset={charset}"

    response = send(client, multipart(OPERATIONS, MAP, FILE), content_type=content_type)

    assert response.status_code in (200, 400)


def test_more_files_than_allowed_are_answered_400(client: httpx.Client) -> None:
    files: list[Part] = [(str(i), "a", b"") for i in range(3)]
    places = b'{"0":["variables.f.0"],"1":["variables.f.1"],"2":["variables.f.2"]}'

    response = send(client, mapped(places, *files, operations=MANY), path="/small")

    assert response.status_code == 400
    assert "Too many files. Maximum number of files is 2." in error_of(response)[1]
    assert ran == []


def test_an_upload_over_the_limit_is_answered_413_every_time(client: httpx.Client) -> None:
    body = mapped(b'{"0":["variables.f"]}', ("0", "a", b"x" * 3_000_000))

    for _ in range(10):
        response = send(client, body, path="/small")

        assert response.status_code == 413
        assert error_of(response)[1] == "The body is too large; 5000 bytes are allowed."
    assert ran == []


# Server-sent events


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    found = []
    for block in response.text.strip().split("\r\n\r\n"):
        event, data = block.split("\r\n")
        text = data.removeprefix("data:").strip()
        found.append((event.removeprefix("event: "), json.loads(text) if text else None))
    return found


STREAM = {"Accept": "text/event-stream"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_subscription_is_a_stream_of_events(client: httpx.Client, method: str) -> None:
    operation = {"query": "subscription{count(to:2)}"}
    sent: dict[str, Any] = {"params": operation} if method == "GET" else {"json": operation}

    response = client.request(method, "/graphql", headers=STREAM, **sent)

    assert response.headers["content-type"] == "text/event-stream"
    assert events(response) == [
        ("next", {"data": {"count": 0}}),
        ("next", {"data": {"count": 1}}),
        ("complete", None),
    ]


def test_a_client_that_reads_both_gets_a_query_at_once_and_a_subscription_as_a_stream(
    client: httpx.Client,
) -> None:
    both = {"Accept": f"{GRAPHQL_RESPONSE}, application/json, text/event-stream"}

    query = post(client, "{ping}", headers=both)
    subscription = post(client, "subscription{count(to:1)}", headers=both)

    assert query.json() == {"data": {"ping": "pong"}}
    assert events(subscription)[0] == ("next", {"data": {"count": 0}})


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription{nosuch}", "GRAPHQL_VALIDATION_FAILED"),
        ("{" + "ping " * 401 + "}", "TOO_MANY_FIELDS"),
        ("query A{ping} query B{ping}", "OPERATION_RESOLUTION_FAILURE"),
    ],
)
def test_a_refused_operation_is_one_event_and_the_end(
    client: httpx.Client, query: str, code: str
) -> None:
    response = post(client, query, headers=STREAM)

    (event, data), end = events(response)
    assert response.status_code == 200
    assert (event, list(data), data["errors"][0]["extensions"]["code"]) == (
        "next",
        ["errors"],
        code,
    )
    assert end == ("complete", None)


def test_a_mutation_in_the_url_of_a_stream_does_not_run(client: httpx.Client) -> None:
    response = client.get("/graphql", params={"query": "mutation{touch}"}, headers=STREAM)

    assert events(response)[0][1]["errors"][0]["message"] == "mutations are not allowed"
    assert ran == []


def test_a_subscription_that_fails_tells_no_secret_and_ends(client: httpx.Client) -> None:
    response = post(client, "subscription{fail}", headers=STREAM)

    assert [event for event, _ in events(response)] == ["next", "next", "complete"]
    assert events(response)[1][1]["errors"][0]["message"] == "Internal server error."
    assert "hunter2" not in response.text


def test_a_stream_that_is_left_ends_its_generator(client: httpx.Client) -> None:
    query = {"query": "subscription{count(to:100000)}"}

    with client.stream("POST", "/graphql", json=query, headers=STREAM) as response:
        next(response.iter_lines())

    deadline = time.monotonic() + 2
    while ran != ["ended"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ran == ["ended"]
