"""Strawberry's ASGI view, made to keep the GraphQL-over-HTTP and graphql-transport-ws specs.

    view = View(schema, context=make_context, limits=TransportLimits(), shutdown=asyncio.Event())
    routes = [Route("/graphql", view), WebSocketRoute("/graphql", view)]

An HTTP request walks down `View.answer`: negotiate, authenticate, read, execute. Whoever finds a
fault raises `Refusal` with a code of `STATUS`. WebSockets keep Strawberry's handler, with the
messages checked before it sees them and a fresh context for each operation.

https://graphql.github.io/graphql-over-http/draft/
https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverSSE.md (distinct connections)
https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
https://github.com/jaydenseric/graphql-multipart-request-spec
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple, cast
from uuid import uuid4

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.ides import GraphQL_IDE
from strawberry.http.streaming import SSETransport, merge_stream_with_heartbeat
from strawberry.schema import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from graph.bodies import Body
from graph.operations import unforeseen
from graph.refusals import (
    GRAPHQL_RESPONSE,
    JSON,
    RETRY_AFTER,
    STATUS,
    Refusal,
    Unauthenticated,
)
from graph.sockets import Handshake, Socket, TransportHandler, flaw_in_operation
from graph.uploads import put_files, text_of
from storage.errors import Unavailable

PREFLIGHT_HEADERS: Final = ("graphql-require-preflight", "apollo-require-preflight")

SSE: Final = SSETransport()


@dataclass(frozen=True, slots=True)
class TransportLimits:
    max_json_bytes: int = 1024 * 1024
    max_upload_bytes: int = 52 * 1024 * 1024
    """Of a whole multipart body."""
    max_files: int = 10
    body_stall_seconds: float = 30
    init_wait_seconds: float = 10
    max_subscriptions: int = 20
    """Operations at a time on one socket, queries and mutations too."""
    max_ws_message_bytes: int = 256 * 1024


class Accepted(NamedTuple):
    """What the client can read: a media type for one result, a stream of events, or both."""

    media_type: str | None
    events: bool

    @classmethod
    def by(cls, header: str) -> "Accepted":
        """https://www.rfc-editor.org/rfc/rfc9110#field.accept; no header means application/json."""
        quality: dict[str, float] = {}
        for item in (header or JSON).split(","):
            media_type, *parameters = (part.strip().lower() for part in item.split(";"))
            weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
            with suppress(ValueError):
                quality[media_type] = float(weight)
        ranges = (JSON, "application/*", "*/*")
        plain = next((quality[name] for name in ranges if name in quality), 0.0)
        graphql = quality.get(GRAPHQL_RESPONSE, 0.0)
        events = quality.get("text/event-stream", 0.0)
        if events > max(plain, graphql):
            return cls(None, events=True)
        if graphql > 0 and graphql >= plain:
            return cls(GRAPHQL_RESPONSE, events=events > 0)
        return cls(JSON if plain > 0 else None, events=events > 0)


class View(GraphQL[Any, None]):
    """An ASGI app for `/graphql`: HTTP, SSE and graphql-transport-ws.

    `context` is awaited for every operation, with the request or socket and the payload of
    `connection_init` ({} over HTTP), and once more to accept or refuse a `connection_init`.
    When `shutdown` is set, subscriptions end: SSE completes, WebSockets close with 1001.
    """

    websocket_adapter_class: Any = Socket
    graphql_transport_ws_handler_class: Any = TransportHandler

    def __init__(
        self,
        schema: BaseSchema,
        *,
        context: Callable[[Request | WebSocket, Mapping[str, object]], Awaitable[object]],
        limits: TransportLimits,
        shutdown: asyncio.Event | None,
        allowed_origins: Sequence[str] = (),
        graphql_ide: GraphQL_IDE | None = None,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=graphql_ide,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            connection_init_wait_timeout=timedelta(seconds=limits.init_wait_seconds),
            max_subscriptions_per_connection=limits.max_subscriptions,
            allowed_origins=allowed_origins,
        )
        self.make_context = context
        self.limits = limits
        self.shutdown = shutdown or asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.run(WebSocket(scope, receive, send))
            return
        body = Body(receive, self.limits.body_stall_seconds)
        request = Request(scope, body.receive)
        try:
            response = await self._answer_or_refuse(request, body)
            await response(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            await request.close()

    async def _answer_or_refuse(self, request: Request, body: Body) -> Response:
        accepted = Accepted.by(request.headers.get("accept", ""))
        try:
            return await self.answer(request, body, accepted)
        except Refusal as refusal:
            error, status, headers = refusal.error, refusal.status, dict(refusal.headers)
        except ClientDisconnect:
            raise
        except Exception as exception:
            error, status, headers = unforeseen(exception, uuid4().hex), STATUS["INTERNAL"], {}
        if status != STATUS["REQUEST_TIMEOUT"]:
            await body.drain()
        if not body.complete and request.scope["http_version"].startswith("1"):
            headers["Connection"] = "close"
        return self._json({"errors": [error.formatted]}, status, accepted.media_type, headers)

    async def answer(self, request: Request, body: Body, accepted: Accepted) -> Response:
        if request.method not in ("GET", "POST"):
            raise Refusal("METHOD_NOT_ALLOWED", "Use GET or POST.", {"Allow": "GET, POST"})
        if self._wants_ide(request):
            return await self.render_graphql_ide(request)
        if accepted == (None, False):
            raise Refusal("NOT_ACCEPTABLE", f"Accept {GRAPHQL_RESPONSE} or {JSON}.")
        read = self._reader(request)
        try:
            context = await self.make_context(request, {})
        except Unauthenticated as error:
            headers = {"WWW-Authenticate": "Bearer"}
            raise Refusal("UNAUTHENTICATED", str(error), headers) from error
        except Unavailable as failure:
            headers = {"Retry-After": str(RETRY_AFTER)}
            raise Refusal("UNAVAILABLE", failure.message, headers) from failure
        return await self._execute(request, await read(request, body), context, accepted)

    def _wants_ide(self, request: Request) -> bool:
        browser = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        return browser and self.graphql_ide is not None and "query" not in request.query_params

    # Reading: from a URL, a JSON body or a multipart body to one operation.

    def _reader(self, request: Request) -> Callable[[Request, Body], Awaitable[GraphQLRequestData]]:
        if request.method == "GET":
            return self._read_url
        match request.headers.get("content-type", "").partition(";")[0].strip().lower():
            case "application/json":
                return self._read_json
            case "multipart/form-data" if any(h in request.headers for h in PREFLIGHT_HEADERS):
                return self._read_multipart
            case "multipart/form-data":
                raise Refusal(
                    "PREFLIGHT_REQUIRED",
                    "Send the header GraphQL-Require-Preflight: 1 with a multipart request. It "
                    "shows that no form on a foreign site sent it.",
                )
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", f"Send {JSON}, or multipart/form-data with files.")

    async def _read_url(self, request: Request, _: Body) -> GraphQLRequestData:
        data: dict[str, object] = {
            name: text or None for name, text in request.query_params.items()
        }
        for name in ("variables", "extensions"):
            if text := request.query_params.get(name):
                data[name] = self._decode(text, name)
        return _operation(data)

    async def _read_json(self, request: Request, body: Body) -> GraphQLRequestData:
        body.expect(self.limits.max_json_bytes, request.headers.get("content-length"))
        return _operation(self._decode(await request.body(), "The body"))

    async def _read_multipart(self, request: Request, body: Body) -> GraphQLRequestData:
        body.expect(self.limits.max_upload_bytes, request.headers.get("content-length"))
        try:
            form = await request.form(
                max_files=self.limits.max_files,
                max_fields=2,
                max_part_size=self.limits.max_json_bytes,
            )
        except (Refusal, ClientDisconnect):
            raise
        except Exception as error:  # whatever a parser of foreign bytes may raise
            reason = getattr(error, "detail", None) or getattr(error, "message", "")
            raise Refusal("BAD_REQUEST", f"The multipart body is malformed. {reason}") from error
        operation = self._decode(text_of(form, "operations"), "operations")
        places = self._decode(text_of(form, "map"), "map")
        put_files(operation, places, form)
        return _operation(operation)

    def _decode(self, text: str | bytes, name: str) -> object:
        try:
            return self.decode_json(text)
        except json.JSONDecodeError as error:
            raise Refusal("BAD_REQUEST", f"{name} must be JSON, in UTF-8: {error}.") from error

    # Executing: one result or a stream of them.

    async def _execute(
        self, request: Request, data: GraphQLRequestData, context: object, accepted: Accepted
    ) -> Response:
        asked: dict[str, Any] = {
            "query": data.query,
            "variable_values": data.variables,
            "operation_name": data.operation_name,
            "operation_extensions": data.extensions,
            "context_value": context,
        }
        allowed = {OperationType.QUERY}
        if request.method == "POST":
            allowed.add(OperationType.MUTATION)
        if accepted.media_type:
            try:
                result = await self.schema.execute(**asked, allowed_operation_types=allowed)
            except CannotGetOperationTypeError as error:
                raise Refusal("BAD_REQUEST", f"{error.as_http_error_reason()}.") from error
            except InvalidOperationTypeError as error:
                if error.operation_type is OperationType.MUTATION:
                    raise Refusal(
                        "METHOD_NOT_ALLOWED", "Send mutations by POST.", {"Allow": "POST"}
                    ) from error
                if not accepted.events:
                    raise Refusal(
                        "BAD_REQUEST",
                        "A subscription is a stream: accept text/event-stream, or use a WebSocket.",
                    ) from error
            else:
                answer = await self.process_result(request, result)
                executed = "data" in answer
                outcome = "EXECUTED" if executed else f"NOT_EXECUTED {accepted.media_type}"
                return self._json(answer, STATUS[outcome], accepted.media_type)
        allowed.add(OperationType.SUBSCRIPTION)
        results = await self.schema.stream(**asked, allowed_operation_types=allowed)
        return StreamingResponse(self._events(request, results), headers=SSE.headers)

    async def _events(
        self, request: Request, results: AsyncGenerator[Any, None]
    ) -> AsyncIterator[str]:
        """Server-sent events and heartbeats, until the results end or the process does."""

        async def encoded() -> AsyncGenerator[str, None]:
            async with aclosing(results):
                async for result in results:
                    answer = await self.process_result(request, result)
                    yield SSE.encode_next(answer, self.encode_json_string)

        events = merge_stream_with_heartbeat(
            encoded,
            lambda: SSE.heartbeat_message(self.encode_json_string),
            SSE.heartbeat_interval,
            send_initial_heartbeat=False,
        )()
        leaving = asyncio.create_task(self.shutdown.wait())
        coming: asyncio.Future[str | None] | None = None
        try:
            while not leaving.done():
                coming = asyncio.ensure_future(anext(events, None))
                await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    event = coming.result()
                    if event is None:
                        break
                    yield event
            yield SSE.encode_complete()
        finally:
            leaving.cancel()
            if coming:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await events.aclose()

    # What Strawberry asks of a view.

    async def process_result(
        self, request: Request, result: ExecutionResult
    ) -> GraphQLHTTPResponse:
        """Without `data` when nothing was executed. https://spec.graphql.org/draft/#sec-Response"""
        answer = await super().process_result(request, result)
        if result.data is None and not any(error.path for error in result.errors or ()):
            del answer["data"]
        return answer

    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Handshake:
        return Handshake(cast(WebSocket, request))

    async def on_ws_connect(self, context: Handshake) -> UnsetType:
        try:
            await self.make_context(context.websocket, context.connection_params)
        except Unauthenticated as error:
            raise ConnectionRejectionError from error
        return cast(UnsetType, UNSET)  # no payload with the acknowledgement

    def decode_json(self, data: str | bytes) -> object:
        """Stricter than json: no NaN, no lone surrogates, 1,024 levels. Raises JSONDecodeError."""
        return cast(object, orjson.loads(data))

    def encode_json(self, data: object) -> bytes:
        try:
            return orjson.dumps(data)
        except TypeError:  # integers over 64 bits, lone surrogates, keys that are numbers
            return json.dumps(data, separators=(",", ":")).encode()

    def _json(
        self,
        answer: object,
        status: int,
        media_type: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        content_type = f"{media_type or JSON}; charset=utf-8"
        return Response(self.encode_json(answer), status, headers, content_type)


def _operation(data: object) -> GraphQLRequestData:
    if flaw := flaw_in_operation(data):
        raise Refusal("BAD_REQUEST", flaw)
    sent = cast(dict[str, Any], data)
    return GraphQLRequestData(
        query=sent["query"],
        variables=sent.get("variables"),
        operation_name=sent.get("operationName"),
        extensions=sent.get("extensions"),
    )
