"""One way in for every picture: spooled and hashed here, examined and made clean elsewhere."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anyio import to_thread

from storage.containers import Bounds
from storage.decoders import Decoders
from storage.errors import CorruptFile, TooLarge
from storage.examination import Examination, Paths
from storage.failpoints import reach
from storage.marks import Mark

CHUNK = 256 * 1024


class Source(Protocol):
    """A file as an upload brings it."""

    async def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture that may come in: what was sent, the clean file and its grid rendition.

    The files are there while the block lasts. `source_sha256` is of the bytes that were sent.
    """

    source: Path
    clean: Path
    grid: Path
    source_sha256: str
    shown: Examination


class Intake:
    """Takes files of at most `max_bytes`, over `folder` or the system's own, under `bounds`."""

    def __init__(
        self, folder: Path | None, decoders: Decoders, *, max_bytes: int, bounds: Bounds
    ) -> None:
        self._folder = folder
        self._decoders = decoders
        self._max_bytes = max_bytes
        self._bounds = bounds

    @asynccontextmanager
    async def take(
        self, source: Source | bytes, *, sha256: str | None = None, mark: Mark | None = None
    ) -> AsyncIterator[Arrival]:
        """Leaves no file behind. Raises Rejected in its many forms, and RateLimited.

        `sha256` is what the bytes were announced as, in hexadecimal. `mark` is what is known of
        their making, beside what they say themselves.
        """
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="arrival-") as name:
            folder = Path(name)
            paths = Paths(folder / "source", folder / "clean", folder / "grid")
            source_sha256 = await spool(source, paths.source, max_bytes=self._max_bytes)
            if sha256 not in (None, source_sha256):
                raise CorruptFile(
                    "The bytes that came are not those that were announced: their SHA-256 is "
                    f"{source_sha256}. Send them again.",
                    field="sha256",
                )
            shown = await self._decoders.examine(paths, self._bounds, mark)
            yield Arrival(paths.source, paths.clean, paths.grid, source_sha256, shown)


async def spool(source: Source | bytes, path: Path, *, max_bytes: int) -> str:
    """Write a file down as it comes, and give its SHA-256. Raises TooLarge, CorruptFile."""
    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        async for chunk in _chunks(source):
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(
                    f"The file is larger than {max_bytes:,} bytes, the most we accept. "
                    "Scale it down, or save it with more compression.",
                    field="file",
                    limit=max_bytes,
                    actual=size,
                )
            await to_thread.run_sync(file.write, chunk)
            await to_thread.run_sync(digest.update, chunk)
            reach("arrival.half_read")
    if not size:
        raise CorruptFile("The file is empty.", field="file")
    return digest.hexdigest()


async def _chunks(source: Source | bytes) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    while chunk := await source.read(CHUNK):
        yield chunk
