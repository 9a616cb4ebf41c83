"""An ObjectStore in a folder."""

import math
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

from anyio import to_thread, wrap_file

from storage.errors import NotFound, Unavailable
from storage.failpoints import reach
from storage.objects import Listed, Target
from storage.objects.keys import checked

CHUNK = 256 * 1024
BATCH = 1000
MARKER = ".darkroom-objects"
ABANDONED = 3600
"""Seconds: another process may be in the middle of a put, but not for so long."""
# A key may be a part of another one's, and then names a folder, or the other way round.
MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

Answer = TypeVar("Answer")


class LocalObjectStore:
    """An ObjectStore in the folder `root`.

    A marker file is made with the folder and looked for at every start: a disk that is not
    mounted is an error then, and not an empty library.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self) -> None:
        """Make the folder, or recognise it; drop what interrupted puts left long ago.

        Raises Unavailable for a folder with other things in it, or one that lost its marker, or
        one that cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / MARKER).exists():
                if any(self.root.iterdir()):
                    raise Unavailable(
                        f"{self.root} holds files, but no {MARKER}: is the right disk mounted? "
                        "Point DARKROOM_OBJECTS_URL at an empty folder, or put the file back."
                    )
                (self.root / MARKER).touch()
            self._unfinished.mkdir(exist_ok=True)
            for left in self._unfinished.iterdir():
                if left.stat().st_mtime < time.time() - ABANDONED:
                    left.unlink(missing_ok=True)
        except OSError as fault:
            raise Unavailable(f"{self.root} cannot keep objects: {fault.strerror}.") from fault

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        await to_thread.run_sync(self._put, self._path(key), data, os.replace)

    async def put_new(self, key: str, data: bytes | Path, *, media_type: str) -> bool:
        try:
            # Unlike a rename, a link never takes the place of a file that is there.
            await to_thread.run_sync(self._put, self._path(key), data, os.link)
        except _Exists:
            return False
        return True

    def _put(self, path: Path, data: bytes | Path, name: Callable[[Path, Path], None]) -> None:
        # Written aside, flushed, then named: the final name never shows a part of a file.
        unfinished = self._unfinished / uuid4().hex
        with _faults_as_unavailable():
            try:
                with open(unfinished, "xb") as file:
                    if isinstance(data, Path):
                        with open(data, "rb") as source:
                            shutil.copyfileobj(source, file, CHUNK)
                    else:
                        file.write(data)
                    reach("object.half_written")
                    file.flush()
                    os.fsync(file.fileno())
                _place(unfinished, path, name)
            finally:
                unfinished.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent):
                _flush(folder)

    async def get(self, key: str) -> bytes:
        return await self._read(key, Path.read_bytes)

    async def size(self, key: str) -> int:
        return await self._read(key, _size)

    async def stream(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        async with wrap_file(await self._read(key, _opened)) as file:
            await file.seek(offset)
            left = math.inf if length is None else length
            while left > 0 and (chunk := await file.read(int(min(CHUNK, left)))):
                left -= len(chunk)
                yield chunk

    async def _read(self, key: str, how: Callable[[Path], Answer]) -> Answer:
        path = self._path(key)

        def read() -> Answer:
            with _faults_as_unavailable():
                try:
                    return how(path)
                except MISSING:
                    self._look_for_marker()
                    raise NotFound("object", key) from None

        return await to_thread.run_sync(read)

    async def delete(self, key: str) -> None:
        await to_thread.run_sync(self._delete, self._path(key))

    def _delete(self, path: Path) -> None:
        with _faults_as_unavailable():
            try:
                path.unlink()
            except MISSING:
                self._look_for_marker()
            folder = path.parent
            while folder != self.root:
                try:
                    folder.rmdir()
                except OSError:  # not empty, or gone already
                    break
                folder = folder.parent

    async def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        await self.check()
        batches = _batches(self.root, prefix)
        while batch := await to_thread.run_sync(next, batches, None):
            for listed in batch:
                yield listed
        await self.check()  # what a disk that went away did not show may be there

    async def url(self, key: str, *, expires_in: int) -> str | None:
        return None

    async def target(
        self, key: str, *, media_type: str, size: int, sha256: str | None, expires_in: int
    ) -> Target | None:
        return None

    async def check(self) -> None:
        await to_thread.run_sync(self._look_for_marker)

    def _look_for_marker(self) -> None:
        """What is missing on a disk that went away is not gone. Raises Unavailable."""
        if not (self.root / MARKER).exists():
            raise Unavailable(f"{self.root} lost its {MARKER}: is its disk still mounted?")

    @property
    def _unfinished(self) -> Path:
        return self.root / ".unfinished"

    def _path(self, key: str) -> Path:
        return self.root / checked(key)


class _Exists(Exception):
    """The key has bytes already."""


def _flush(folder: Path) -> None:
    """A name is safe only when its folder is on the disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _place(unfinished: Path, path: Path, name: Callable[[Path, Path], None]) -> None:
    """Give a file its final name. Raises _Exists where that is taken and must not be."""
    for tries_left in reversed(range(100)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            name(unfinished, path)
            return
        except (FileNotFoundError, FileExistsError):
            if path.exists() and name is os.link:
                raise _Exists from None
            # A delete took the folder, empty between the two lines: make it again.
            if not tries_left:
                raise


def _batches(root: Path, prefix: str) -> Iterator[list[Listed]]:
    """The files below `root`, folder by folder, without those that begin with a dot."""
    start = root / prefix.rpartition("/")[0]
    batch: list[Listed] = []
    for folder, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            key = path.relative_to(root).as_posix()
            if name.startswith(".") or not key.startswith(prefix):
                continue
            with suppress(FileNotFoundError):  # deleted meanwhile
                status = path.stat()
                written_at = datetime.fromtimestamp(status.st_mtime, UTC)
                batch.append(Listed(key, status.st_size, written_at))
            if len(batch) >= BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise IsADirectoryError
    return status.st_size


def _opened(path: Path) -> BinaryIO:
    return open(path, "rb")


@contextmanager
def _faults_as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise Unavailable(f"The object store does not work: {fault.strerror}.") from fault
