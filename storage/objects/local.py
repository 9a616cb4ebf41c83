"""An ObjectStore in a folder."""

import math
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar
from uuid import uuid4

from anyio import to_thread, wrap_file

from storage.errors import NotFound, Unavailable

CHUNK = 256 * 1024
MARKER = ".darkroom-objects"
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
        """Make the folder, or recognise it; drop what an interrupted put left.

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
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished.mkdir()
        except OSError as fault:
            raise Unavailable(f"{self.root} cannot keep objects: {fault.strerror}.") from fault

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        await to_thread.run_sync(self._put, self._path(key), data)

    def _put(self, path: Path, data: bytes | Path) -> None:
        # Written aside, flushed, then renamed: the final name never shows a part of a file.
        unfinished = self._unfinished / uuid4().hex
        with _faults_as_unavailable():
            try:
                with open(unfinished, "xb") as file:
                    if isinstance(data, Path):
                        with open(data, "rb") as source:
                            shutil.copyfileobj(source, file, CHUNK)
                    else:
                        file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                _rename(unfinished, path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
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
        path = PurePosixPath(key)
        if str(path) != key or path.is_absolute() or "\0" in key or not path.parts:
            raise ValueError(f"not a key: {key!r}")
        if any(part.startswith(".") for part in path.parts):
            raise ValueError(f"not a key: {key!r}")
        return self.root / path


def _flush(folder: Path) -> None:
    """A name is safe only when its folder is on the disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(unfinished: Path, path: Path) -> None:
    for tries_left in reversed(range(100)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(unfinished, path)
            return
        except (FileNotFoundError, FileExistsError):
            # A delete took the folder, empty between the two lines: make it again.
            if not tries_left:
                raise


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
