"""Bytes under keys: what we ask of a store, and the stores."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it: its size in bytes, and when it was written (UTC)."""

    key: str
    size: int
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send an object's bytes: one request, with just these headers."""

    method: str
    url: str
    headers: Mapping[str, str]


class ObjectStore(Protocol):
    """Immutable bytes under a key, e.g. `images/<uuid>/<sha256>.jpg`.

    Every method raises Unavailable when the store does not answer in time, or refuses us.
    """

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        """When this returns, the bytes outlive a crash. A file given as a path is left alone."""
        ...

    async def put_new(self, key: str, data: bytes | Path, *, media_type: str) -> bool:
        """Put, unless the key has bytes already. Of many at once one puts, and is told True."""
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

    def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        """All objects whose keys begin with `prefix`, in any order.

        Raises Unavailable in the middle rather than end early: what did not come may be there.
        """
        ...

    async def url(self, key: str, *, expires_in: int) -> str | None:
        """A link that anyone may GET for `expires_in` seconds. Does not check the key.

        None for a store that has no address of its own.
        """
        ...

    async def target(
        self, key: str, *, media_type: str, size: int, sha256: str | None, expires_in: int
    ) -> Target | None:
        """Where a client may put these very bytes, once, within `expires_in` seconds.

        `sha256` is hexadecimal. None for a store that cannot promise that.
        """
        ...

    async def check(self) -> None:
        """Raises Unavailable when the store cannot be used now."""
        ...
