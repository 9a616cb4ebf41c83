"""One way in for every picture: a file is spooled, hashed, and decoded where it can do no harm."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process, to_thread

from storage.errors import CorruptFile, Rejected, TooLarge
from storage.pictures import Description, inspect

CHUNK = 256 * 1024


class Source(Protocol):
    """A file as an upload brings it."""

    async def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that may come in. It is at `path` only while the intake's block lasts."""

    path: Path
    byte_size: int
    sha256: str
    description: Description


class Intake:
    """Takes files, over `folder` or the system's own, under bounds.

    They are `max_bytes`, `max_pixels`, `seconds` to decode, and `workers` at a time. Decoding runs
    in worker processes, since a thread that a hostile file holds cannot be stopped.
    """

    def __init__(
        self, folder: Path | None, *, max_bytes: int, max_pixels: int, seconds: float, workers: int
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._decoders = CapacityLimiter(workers)

    @asynccontextmanager
    async def take(self, source: Source | bytes) -> AsyncIterator[Arrival]:
        """Raises TooLarge, UnsupportedMediaType, TooManyPixels or CorruptFile; leaves no file."""
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="arrival-") as file:
            path = Path(file.name)
            digest = hashlib.sha256()
            size = 0
            async for chunk in _chunks(source):
                size += len(chunk)
                if size > self._max_bytes:
                    raise TooLarge(
                        f"The file is larger than {self._max_bytes:,} bytes, the most we accept. "
                        "Scale it down, or save it with more compression.",
                        field="file",
                        limit=self._max_bytes,
                        actual=size,
                    )
                await to_thread.run_sync(file.write, chunk)
                await to_thread.run_sync(digest.update, chunk)
            if not size:
                raise CorruptFile("The file is empty.", field="file")
            file.flush()
            yield Arrival(path, size, digest.hexdigest(), await self._describe(path))

    async def _describe(self, path: Path) -> Description:
        try:
            with anyio.fail_after(self._seconds):
                return await to_process.run_sync(
                    partial(inspect, path, max_pixels=self._max_pixels),
                    cancellable=True,  # on time-out the process is killed
                    limiter=self._decoders,
                )
        except TimeoutError:
            raise Rejected(
                f"The picture takes longer than {self._seconds:g} seconds to decode. "
                "Export it anew, without progressive scans.",
                field="file",
                limit=self._seconds,
            ) from None
        except BrokenWorkerProcess:
            raise CorruptFile(
                "The file breaks the decoder. Export it anew.", field="file"
            ) from None


async def _chunks(source: Source | bytes) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    while chunk := await source.read(CHUNK):
        yield chunk
