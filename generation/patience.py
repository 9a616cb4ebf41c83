"""What is paid for waits for our own database and store: they come back."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from storage.errors import RateLimited, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """Tries again for `seconds`, with a `pause` between. Whoever is cancelled waits no more."""

    seconds: float = 300
    pause: float = 1

    async def outlast(self, act: Callable[[], Awaitable[Result]]) -> Result:
        """What `act` gives once nothing that it needs is away, nor has too much to do.

        It may have been done, and just the word of that was lost: so it must be the same twice.
        Raises Unavailable in the end, but never RateLimited: after that a provider is asked again.
        """
        deadline = time.monotonic() + self.seconds
        while True:
            try:
                return await act()
            except Unavailable as fault:
                if time.monotonic() > deadline:
                    if isinstance(fault, RateLimited):
                        raise Unavailable(fault.message) from fault
                    raise
                log.info("patience.needed reason=%s", fault.message)
            await asyncio.sleep(self.pause)
