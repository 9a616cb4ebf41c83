"""A bus over Redis, for more messages than PostgreSQL's NOTIFY should carry.

Redis keeps nothing that is published: whoever is not there misses it. So the same holds as for the
other buses: the row is the truth, and after every gap anything may have changed.
"""

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from storage.progress import PROGRESS, Outbox

log = logging.getLogger(__name__)


class RedisBus:
    """PUBLISH and SUBSCRIBE on two connections. `heard(None)` means: anything may have changed.

    `url` is `redis://…`, `rediss://…` or `unix://…`; ValueError says that it is not. The channel
    begins with `prefix`, since the number of a database does not keep installations apart here.
    Messages of one process within `coalesce` seconds travel together. A server that answers
    nothing for `seconds` counts as lost.
    """

    def __init__(
        self,
        url: str,
        heard: Callable[[UUID | None], None],
        *,
        prefix: str = "",
        coalesce: float = 0.02,
        seconds: float = 5.0,
    ) -> None:
        self._client = Redis.from_url(
            url,
            socket_connect_timeout=seconds,
            socket_timeout=seconds,
            # It would connect again by itself, and we would not know that something was missed.
            retry=Retry(NoBackoff(), 0),
        )
        self._heard = heard
        self._channel = prefix + PROGRESS
        self._coalesce = coalesce
        self._seconds = seconds
        self._outbox = Outbox()

    async def tell(self, id: UUID) -> None:
        self._outbox.put(id)

    async def flush(self) -> None:
        """Wait until all that was told is sent, or a server that is away has had its time."""
        await self._outbox.flush()

    async def run(self) -> None:
        """Listen and send until cancelled; connect again whenever a connection is lost."""
        while True:
            try:
                await self._serve()
            except* (OSError, TimeoutError, RedisError) as faults:
                log.warning("progress.bus_lost reason=%s", faults.exceptions[0])
            await asyncio.sleep(1)

    async def _serve(self) -> None:
        try:
            async with self._client.pubsub() as subscription, asyncio.TaskGroup() as both:
                both.create_task(self._listen(subscription))
                both.create_task(self._send())
        finally:
            await self._client.aclose()

    async def _listen(self, subscription: PubSub) -> None:
        await subscription.subscribe(self._channel)
        is_asked = False
        while True:
            message = await subscription.get_message(timeout=self._seconds)
            if message is None:
                # The client's own health checks ask, too, but mind no missing answer.
                if is_asked:
                    raise TimeoutError("no answer")
                await subscription.ping()
            elif message["type"] == "subscribe":
                self._heard(None)  # whatever was said while nobody listened
            elif message["type"] == "message":
                self._receive(message["data"])
            is_asked = message is None

    def _receive(self, data: bytes) -> None:
        try:
            id = UUID(data.decode())
        except ValueError:
            log.warning("progress.no_id channel=%s", self._channel)
            return
        self._heard(id)

    async def _send(self) -> None:
        while True:
            await self._outbox.wait()
            await asyncio.sleep(self._coalesce)
            with self._outbox.emptied() as ids:
                async with self._client.pipeline(transaction=False) as batch:
                    for id in ids:
                        batch.publish(self._channel, id)
                    await batch.execute()
