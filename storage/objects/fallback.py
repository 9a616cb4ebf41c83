"""Two stores as one, while a library moves from the second to the first."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from storage.errors import NotFound
from storage.objects import Listed, ObjectStore, Target


class FallbackStore:
    """Writes go to `main`; what it lacks is read from `former`; both forget what is deleted."""

    def __init__(self, main: ObjectStore, former: ObjectStore) -> None:
        self._main = main
        self._former = former

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        await self._main.put(key, data, media_type=media_type)

    async def put_new(self, key: str, data: bytes | Path, *, media_type: str) -> bool:
        return await self._main.put_new(key, data, media_type=media_type)

    async def get(self, key: str) -> bytes:
        try:
            return await self._main.get(key)
        except NotFound:
            return await self._former.get(key)

    async def size(self, key: str) -> int:
        try:
            return await self._main.size(key)
        except NotFound:
            return await self._former.size(key)

    async def stream(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        try:
            async with aclosing(self._main.stream(key, offset, length)) as chunks:  # type: ignore[type-var]  # generators can be closed
                async for chunk in chunks:
                    yield chunk
            return
        except NotFound:
            pass
        async with aclosing(self._former.stream(key, offset, length)) as chunks:  # type: ignore[type-var]  # generators can be closed
            async for chunk in chunks:
                yield chunk

    async def delete(self, key: str) -> None:
        await self._former.delete(key)
        await self._main.delete(key)

    async def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        """What both have comes twice, first as the main one has it."""
        async for each in self._main.walk(prefix):
            yield each
        async for each in self._former.walk(prefix):
            yield each

    async def url(self, key: str, *, expires_in: int) -> str | None:
        return None  # nobody knows which of the two has it

    async def target(
        self, key: str, *, media_type: str, size: int, sha256: str | None, expires_in: int
    ) -> Target | None:
        return await self._main.target(
            key, media_type=media_type, size=size, sha256=sha256, expires_in=expires_in
        )

    async def check(self) -> None:
        await self._main.check()
        await self._former.check()
