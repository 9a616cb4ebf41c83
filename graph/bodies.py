"""Request bodies as they arrive: counted, timed, and drained where nobody wants them."""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import Message, Receive

from graph.refusals import Refusal

SLOWEST_BODY: Final = 10 * 1024
"""Bytes a second: what a body must arrive with on average, once its stall time is used up."""

DRAIN_BYTES: Final = 16 * 1024 * 1024
DRAIN_SECONDS: Final = 5
"""How much of an unread body to swallow before a refusal. What stays unread makes the kernel
reset the connection, and the client then sees no answer (half of the time, as measured)."""


class Body:
    """An ASGI `receive` that counts and times the body of a request as it arrives."""

    def __init__(self, receive: Receive, stall_seconds: float) -> None:
        self._receive = receive
        self.stall_seconds = stall_seconds
        self.limit: int | None = None
        self.began = 0.0
        self.size = 0
        self.complete = False

    def expect(self, limit: int, declared: str | None) -> None:
        """From now on, refuse more than `limit` bytes, at once if so many are `declared`."""
        self.limit = limit
        self.began = asyncio.get_running_loop().time()
        with suppress(ValueError):
            self._refuse_over(int(declared or 0), limit)

    async def receive(self) -> Message:
        if self.limit is None or self.complete:
            return await self._next()
        deadline = self.began + self.stall_seconds + self.size / SLOWEST_BODY
        try:
            async with asyncio.timeout_at(deadline):
                message = await self._next()
        except TimeoutError:
            raise Refusal(
                "REQUEST_TIMEOUT", "The body arrives too slowly. Try again on a better line."
            ) from None
        self._refuse_over(self.size, self.limit)
        return message

    def _refuse_over(self, size: int, limit: int) -> None:
        if size > limit:
            raise Refusal("PAYLOAD_TOO_LARGE", f"The body is too large; {limit} bytes are allowed.")

    async def drain(self) -> None:
        stop = self.size + DRAIN_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.complete and self.size < stop:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self.size += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)  # a disconnect completes it too
        return message
