"""WebSockets: Strawberry's handler of graphql-transport-ws, behind a check of what clients send.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

import asyncio
import copy
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from graphql import GraphQLError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import (
    NonJsonMessageReceived,
    NonTextMessageReceived,
    WebSocketDisconnected,
)
from strawberry.subscriptions.protocols.graphql_transport_ws import handlers

from graph.operations import unforeseen
from graph.refusals import Unauthenticated

if TYPE_CHECKING:
    from graph.view import View


@dataclass(slots=True)
class Handshake:
    """What a WebSocket begins with. Strawberry fills in `connection_params` at init."""

    websocket: WebSocket
    connection_params: Mapping[str, object] = field(default_factory=dict)


class Socket(ASGIWebSocketAdapter):
    """Text frames of bounded size, in and out, on a socket that may close at any moment."""

    view: "View"
    ws: WebSocket

    async def iter_json(
        self, *, ignore_parsing_errors: bool = False
    ) -> AsyncGenerator[object, None]:
        while self._open():
            message = await self.ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                raise NonTextMessageReceived
            if len(text.encode()) > self.view.limits.max_ws_message_bytes:
                await self.close(1009, "Message too big")
                return
            try:
                decoded = self.view.decode_json(text)
            except json.JSONDecodeError as error:
                raise NonJsonMessageReceived from error
            yield decoded

    async def send_json(self, message: Mapping[str, object]) -> None:
        if not self._open():
            raise WebSocketDisconnected
        try:
            await self.ws.send_text(self.view.encode_json(message).decode())
        except (WebSocketDisconnect, RuntimeError) as error:
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        if self._open():
            with suppress(WebSocketDisconnect, RuntimeError):
                # RFC 6455 leaves 123 bytes for the reason, and some reasons quote the client.
                await self.ws.close(code, reason.encode()[:123].decode(errors="ignore"))

    def _open(self) -> bool:
        states = {self.ws.application_state, self.ws.client_state}
        return WebSocketState.DISCONNECTED not in states


class TransportHandler(handlers.BaseGraphQLTransportWSHandler[Any, None]):
    """Strawberry's handler of graphql-transport-ws, behind a check of what clients send."""

    view: "View"
    context: Handshake

    async def handle(self) -> None:
        """Serve until the client leaves or the process does."""
        serving = asyncio.create_task(self._serve())
        leaving = asyncio.create_task(self.view.shutdown.wait())
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            await self.websocket.close(1001, "Going away")
        finally:
            leaving.cancel()
            serving.cancel()
            await asyncio.gather(serving, leaving, return_exceptions=True)

    async def _serve(self) -> None:
        try:
            await super().handle()
        except Exception as error:
            unforeseen(error, uuid4().hex)
            await self.websocket.close(1011, "Internal server error")

    async def handle_message(self, message: Any) -> None:
        if flaw := _flaw(message):
            await self.handle_invalid_message(flaw)
        else:
            await super().handle_message(message)

    async def handle_subscribe(self, message: Any) -> None:
        full = len(self.operations) >= self.view.limits.max_subscriptions
        if self.connection_acknowledged and message["id"] not in self.operations and full:
            error = GraphQLError(
                f"{len(self.operations)} operations are open here; complete one of them first.",
                extensions={"code": "TOO_MANY_SUBSCRIPTIONS"},
            )
            payload = [error.formatted]
            await self.send_message({"id": message["id"], "type": "error", "payload": payload})
        else:
            await super().handle_subscribe(message)

    async def run_operation(self, operation: handlers.Operation[Any, None]) -> None:
        handshake = self.context
        try:
            context = await self.view.make_context(handshake.websocket, handshake.connection_params)
        except Unauthenticated as error:
            refusal = GraphQLError(str(error), extensions={"code": "UNAUTHENTICATED"})
        except Exception as error:
            refusal = unforeseen(error, uuid4().hex)
        else:
            # The same socket and the same operations, with a context of its own.
            runner: handlers.BaseGraphQLTransportWSHandler[Any, None] = copy.copy(self)
            runner.context = context
            await handlers.BaseGraphQLTransportWSHandler.run_operation(runner, operation)
            return
        with suppress(WebSocketDisconnected):
            await operation.send_initial_errors([refusal])

    async def handle_task_exception(self, error: Exception) -> None:
        if not isinstance(error, WebSocketDisconnected):
            unforeseen(error, uuid4().hex)


def _flaw(message: object) -> str | None:
    """What makes `message` none of the protocol's, if anything."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message must be an object with a type"
    kind = message["type"]
    if kind in ("subscribe", "complete") and not isinstance(message.get("id"), str):
        return f"A {kind} message must have a string as its id"
    if kind == "subscribe":
        return flaw_in_operation(message.get("payload"))
    if not isinstance(message.get("payload", {}), dict):
        return "A payload must be an object"
    return None


def flaw_in_operation(data: object) -> str | None:
    if isinstance(data, list):
        return "Batches are not supported; send one operation at a time."
    if not isinstance(data, dict):
        return "An operation must be a JSON object with a query."
    if not isinstance(data.get("query"), str) or not data["query"]:
        return "query must be a string that is not empty."
    for name, kind in (("variables", dict), ("operationName", str), ("extensions", dict)):
        if not isinstance(data.get(name), kind | None):
            return f"{name} must be {'a string' if kind is str else 'an object'} or null."
    return None
