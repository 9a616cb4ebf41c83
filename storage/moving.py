"""Copies a library to another store, while it is in use, and again after an interruption."""

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func
from sqlmodel import col, select

from storage.database import Database
from storage.doctor import PAGE, Progress
from storage.errors import LibraryError, NotFound
from storage.models import ObjectState, StoredObject
from storage.objects import ObjectStore
from storage.objects.listing import Listing, listing_of

log = logging.getLogger(__name__)

AT_ONCE = 8


@dataclass(slots=True)
class Moved:
    """`failed` are keys that could not be copied, with the reason."""

    copied: int = 0
    there_already: int = 0
    failed: dict[str, str] = field(default_factory=dict)


class Move:
    def __init__(self, database: Database, source: ObjectStore, target: ObjectStore) -> None:
        self._database = database
        self._source = source
        self._target = target

    async def run(self, progress: Progress = lambda done, of: None) -> Moved:
        """Copy every live object that the target lacks, bytes checked by their hash.

        Nothing is taken away from the source. Run it until nothing was copied. Raises Unavailable
        when the target cannot be listed.
        """
        moved = Moved()
        async with listing_of(self._target) as there:
            total, done, last = await self._count(), 0, ""
            while page := await self._page(last):
                done += len(page)
                await self._copy_all(page, there, moved)
                progress(done, max(done, total))
                last = page[-1].key
        return moved

    async def _count(self) -> int:
        counted = select(func.count()).where(StoredObject.state == ObjectState.LIVE)
        async with self._database.reading() as session:
            return (await session.exec(counted)).one()

    async def _page(self, last: str) -> Sequence[StoredObject]:
        async with self._database.reading() as session:
            return (
                await session.exec(
                    select(StoredObject)
                    .where(StoredObject.key > last, StoredObject.state == ObjectState.LIVE)
                    .order_by(col(StoredObject.key))
                    .limit(PAGE)
                )
            ).all()

    async def _copy_all(self, page: Sequence[StoredObject], there: Listing, moved: Moved) -> None:
        missing = [row for row in page if there.tick(row.key) != row.byte_size]
        moved.there_already += len(page) - len(missing)
        room = asyncio.Semaphore(AT_ONCE)

        async def copy(row: StoredObject) -> None:
            async with room:
                try:
                    if await self._copy(row):
                        moved.copied += 1
                except LibraryError as failure:
                    log.warning("move.failed key=%s reason=%s", row.key, failure.message)
                    moved.failed[row.key] = failure.message

        await asyncio.gather(*(copy(row) for row in missing))

    async def _copy(self, row: StoredObject) -> bool:
        digest = hashlib.sha256()
        with tempfile.TemporaryDirectory(prefix="move-") as folder:
            file = Path(folder) / "object"
            try:
                with file.open("wb") as copy:
                    async for chunk in self._source.stream(row.key):
                        digest.update(chunk)
                        copy.write(chunk)
            except NotFound:
                if await self._is_live(row.key):
                    raise
                return False  # deleted meanwhile
            if digest.hexdigest() != row.sha256:
                raise LibraryError("Its bytes are damaged: run `python -m graph doctor --read`.")
            await self._target.put(row.key, file, media_type=row.media_type)
        if not await self._is_live(row.key):
            await self._target.delete(row.key)  # deleted meanwhile: nobody would delete this copy
            return False
        return True

    async def _is_live(self, key: str) -> bool:
        async with self._database.reading() as session:
            row = await session.get(StoredObject, key)
        return row is not None and row.state is ObjectState.LIVE
