"""An object store for tests: what it holds is seen, and it can be slow or down."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from storage.errors import NotFound, Unavailable
from storage.objects import Listed, Target
from storage.objects.keys import checked


class MemoryStore:
    """An ObjectStore in memory. It keeps the promises of all stores (see test_objects.py).

    After `hold`, a put waits at its beginning: `reached` is set when one does, `let_go` ends it.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_down = False
        self.undeletable: set[str] = set()
        self.puts: list[str] = []
        self.reached = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        self._ask(key)
        self.reached.set()
        await self._open.wait()
        self.puts.append(key)
        self.objects[key] = data.read_bytes() if isinstance(data, Path) else data

    async def put_new(self, key: str, data: bytes | Path, *, media_type: str) -> bool:
        self._ask(key)
        if key in self.objects:
            return False
        self.objects[key] = data.read_bytes() if isinstance(data, Path) else data
        return True

    async def get(self, key: str) -> bytes:
        self._ask(key)
        if key not in self.objects:
            raise NotFound("object", key)
        return self.objects[key]

    async def size(self, key: str) -> int:
        return len(await self.get(key))

    async def stream(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        data = (await self.get(key))[offset:][:length]
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async def delete(self, key: str) -> None:
        self._ask(key)
        if key in self.undeletable:
            raise Unavailable("The store cannot delete this now.")
        self.objects.pop(key, None)

    async def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        await self.check()
        for key, data in list(self.objects.items()):
            if key.startswith(prefix):
                yield Listed(key, len(data), datetime.now(UTC))

    async def url(self, key: str, *, expires_in: int) -> str | None:
        return None

    async def target(
        self, key: str, *, media_type: str, size: int, sha256: str | None, expires_in: int
    ) -> Target | None:
        return None

    async def check(self) -> None:
        if self.is_down:
            raise Unavailable("The store is down.")

    def _ask(self, key: str) -> None:
        checked(key)
        if self.is_down:
            raise Unavailable("The store is down.")
