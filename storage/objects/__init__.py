"""Bytes under keys: what we ask of a store, and the stores."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class ObjectStore(Protocol):
    """Immutable bytes under a key, e.g. `images/<uuid>/<sha256>.jpg`.

    Every method raises Unavailable when the store does not answer.
    """

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        """When this returns, the bytes outlive a crash. A file given as a path is left alone."""
        ...

    async def get(self, key: str) -> bytes:
        """Raises NotFound."""
        ...

    async def size(self, key: str) -> int:
        """Bytes. Raises NotFound."""
        ...

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes, or `length` of them from `offset`, in chunks. Raises NotFound at the first."""
        ...

    async def delete(self, key: str) -> None:
        """Deleting what is not there is no error."""
        ...

    async def check(self) -> None:
        """Raises Unavailable when the store cannot be used now."""
        ...
