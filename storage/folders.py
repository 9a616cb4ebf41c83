"""Brings a folder of pictures into a library, and goes on where it was interrupted."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anyio import open_file, to_thread
from sqlmodel import col, select

from storage.database import Database
from storage.errors import LibraryError, RateLimited
from storage.intake import CHUNK
from storage.library import Library, NewImage
from storage.models import Image
from storage.viewers import Viewer

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Imported:
    """`failed` tells why, for each file that was not taken in."""

    added: int = 0
    there_already: int = 0
    failed: dict[Path, str] = field(default_factory=dict)


class FolderImport:
    """`at_once` files are worked on at a time."""

    def __init__(self, database: Database, library: Library, *, at_once: int) -> None:
        self._database = database
        self._library = library
        self._at_once = at_once

    async def run(
        self,
        viewer: Viewer,
        folder: Path,
        *,
        tags: Sequence[str] = (),
        progress: Progress = lambda done, of: None,
    ) -> Imported:
        """Take in every file below `folder` but hidden ones, under their names.

        What the library has, or has in its trash, is recognised by its bytes and left as it is.
        """
        files = await to_thread.run_sync(_files, folder)
        imported = Imported()
        waiting = iter(files)
        done = 0

        async def work() -> None:
            nonlocal done
            for file in waiting:
                try:
                    await self._take(viewer, file, tags, imported)
                except LibraryError as failure:
                    imported.failed[file] = failure.message
                except OSError as fault:
                    imported.failed[file] = f"The file cannot be read: {fault.strerror}."
                done += 1
                progress(done, len(files))

        async with asyncio.TaskGroup() as workers:
            for _ in range(self._at_once):
                workers.create_task(work())
        return imported

    async def _take(
        self, viewer: Viewer, file: Path, tags: Sequence[str], imported: Imported
    ) -> None:
        if await self._is_known(viewer, await to_thread.run_sync(_sha256, file)):
            imported.there_already += 1
            return
        while True:
            async with await open_file(file, "rb") as source:
                try:
                    new = NewImage(filename=file.name[-255:], tags=tags)
                    added = await self._library.add_image(viewer, source, new)
                    break
                except RateLimited as busy:  # the service beside us has work, too
                    await asyncio.sleep(busy.retry_after or 1)
        if added.is_duplicate:
            imported.there_already += 1
        else:
            imported.added += 1

    async def _is_known(self, viewer: Viewer, sha256: str) -> bool:
        known = select(Image.id).where(
            Image.workspace_id == viewer.workspace_id, col(Image.source_sha256) == sha256
        )
        async with self._database.reading() as session:
            return (await session.exec(known.limit(1))).first() is not None


def _files(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not is_hidden:
            found.append(path)
    return found


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
