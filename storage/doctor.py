"""Compares rows and bytes, both ways, and mends what can be mended without losing anything.

A row is written before its bytes and goes after them. So bytes without a row, or a live row without
its bytes, are never the middle of something: somebody else has been at the store or the database.
"""

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, update
from sqlmodel import col, select

from storage.database import Database
from storage.errors import Conflict, NotFound
from storage.keeper import Keeper
from storage.models import Image, ImageVersion, ObjectState, StoredObject, now
from storage.objects import ObjectStore
from storage.objects.listing import Listing, listing_of
from storage.trash import Trash
from storage.viewers import Viewer

log = logging.getLogger(__name__)

PAGE = 500
QUARANTINE = "quarantine/"
MOST = 0.01
"""What part of all objects may change hands before somebody has to say that this is meant."""

Progress = Callable[[int, int], None]
"""How many of how many."""


class Kind(StrEnum):
    """What is wrong with an object."""

    MISSING = "row without bytes"
    WRONG_SIZE = "wrong size"
    WRONG_BYTES = "wrong bytes"
    UNNAMED = "bytes without a row"
    STALE = "left by a crash"


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    key: str


@dataclass(slots=True)
class Report:
    """`objects` is how many rows and keys were compared."""

    objects: int = 0
    faults: list[Fault] = field(default_factory=list)

    def counts(self) -> Counter[Kind]:
        return Counter(fault.kind for fault in self.faults)

    def of(self, *kinds: Kind) -> list[str]:
        return [fault.key for fault in self.faults if fault.kind in kinds]


@dataclass(slots=True)
class Repairs:
    """What was done, in numbers."""

    quarantined: int = 0
    renditions_dropped: int = 0
    versions_dropped: int = 0
    images_put_into_trash: int = 0
    swept: int = 0


class Doctor:
    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        keeper: Keeper,
        trash: Trash,
        *,
        grace: timedelta,
    ) -> None:
        self._database = database
        self._store = store
        self._keeper = keeper
        self._trash = trash
        self._grace = grace

    async def examine(
        self, *, reads_bytes: bool = False, progress: Progress = lambda done, of: None
    ) -> Report:
        """Compare, and change nothing. `reads_bytes` computes every hash, which takes its time.

        Raises Unavailable when the store's listing fails: half of it would be worse than none.
        """
        report = Report()
        async with listing_of(self._store) as listing:
            total = await self._count()
            done = 0
            async for page in self._rows():
                for row in page:
                    fault = await self._fault(row, listing, reads_bytes=reads_bytes)
                    if fault:
                        report.faults.append(Fault(fault, row.key))
                    done += 1
                progress(done, max(done, total))
            unknown = [key for key in listing.unticked() if not key.startswith(QUARANTINE)]
            report.objects = done + len(unknown)
        for key in unknown:
            if await self._is_unnamed(key):
                report.faults.append(Fault(Kind.UNNAMED, key))
        return report

    async def _count(self) -> int:
        async with self._database.reading() as session:
            return (await session.exec(select(func.count()).select_from(StoredObject))).one()

    async def _rows(self) -> AsyncIterator[Sequence[StoredObject]]:
        last = ""
        while True:
            async with self._database.reading() as session:
                page = (
                    await session.exec(
                        select(StoredObject)
                        .where(StoredObject.key > last)
                        .order_by(col(StoredObject.key))
                        .limit(PAGE)
                    )
                ).all()
            if not page:
                return
            yield page
            last = page[-1].key

    async def _fault(
        self, row: StoredObject, listing: Listing, *, reads_bytes: bool
    ) -> Kind | None:
        size = listing.tick(row.key)
        if row.state is not ObjectState.LIVE:
            waits = row.state is ObjectState.PENDING and row.expires_at is not None
            is_old = row.changed_at < now() - self._grace
            return Kind.STALE if is_old and not waits else None
        if size is None:
            # It may have come after the listing was made, or have gone since.
            try:
                size = await self._store.size(row.key)
            except NotFound:
                return Kind.MISSING if await self._is_live(row.key) else None
        if size != row.byte_size:
            return Kind.WRONG_SIZE
        if reads_bytes and await self._sha256(row.key) != row.sha256:
            return Kind.WRONG_BYTES if await self._is_live(row.key) else None
        return None

    async def _sha256(self, key: str) -> str | None:
        digest = hashlib.sha256()
        try:
            async for chunk in self._store.stream(key):
                digest.update(chunk)
        except NotFound:
            return None
        return digest.hexdigest()

    async def _is_live(self, key: str) -> bool:
        async with self._database.reading() as session:
            row = await session.get(StoredObject, key)
        return row is not None and row.state is ObjectState.LIVE

    async def _is_unnamed(self, key: str) -> bool:
        """Whether it is still there, and still has no row."""
        async with self._database.reading() as session:
            if await session.get(StoredObject, key) is not None:
                return False
        try:
            await self._store.size(key)
        except NotFound:
            return False
        return True

    async def repair(self, report: Report, *, force: bool = False) -> Repairs:
        """Mend what an examination found. Nothing that may be somebody's is destroyed:

        bytes without a row go to `quarantine/`; damaged renditions are dropped, to be made anew; an
        image whose file is lost or damaged goes to the trash, from where it can be restored once
        its file was brought back from a backup.

        Raises Conflict when more than 1 % of all objects would change, unless forced: then it is
        likelier that the wrong store or an old database is looked at.
        """
        broken = [fault for fault in report.faults if fault.kind is not Kind.STALE]
        if len(broken) > MOST * report.objects and not force:
            raise Conflict(
                f"{len(broken)} of {report.objects} objects are broken, more than {MOST:.0%}. Look "
                "first whether DARKROOM_DATABASE_URL and DARKROOM_OBJECTS_URL belong together; "
                "repair with --force if they do."
            )
        repairs = Repairs()
        for key in report.of(Kind.UNNAMED):
            if await self._is_unnamed(key):
                await self._quarantine(key)
                repairs.quarantined += 1
        damaged = report.of(Kind.MISSING, Kind.WRONG_SIZE, Kind.WRONG_BYTES)
        for start in range(0, len(damaged), PAGE):
            await self._mend(damaged[start : start + PAGE], repairs)
        repairs.swept = await self._keeper.sweep()
        return repairs

    async def _quarantine(self, key: str) -> None:
        kept_as = f"{QUARANTINE}{datetime.now(UTC):%Y-%m-%d}/{key}"
        with tempfile.TemporaryDirectory(prefix="quarantine-") as folder:
            file = Path(folder) / "object"
            with file.open("wb") as copy:
                async for chunk in self._store.stream(key):
                    copy.write(chunk)
            await self._store.put(kept_as, file, media_type="application/octet-stream")
        await self._store.delete(key)
        log.info("doctor.quarantined key=%s as=%s", key, kept_as)

    async def _mend(self, keys: Sequence[str], repairs: Repairs) -> None:
        async with self._database.writing() as session:
            lost = (
                await session.exec(
                    select(Image.id, Image.workspace_id, Image.object_key).where(
                        col(Image.object_key).in_(keys)
                    )
                )
            ).all()
            versions = (
                await session.exec(
                    select(ImageVersion).where(col(ImageVersion.object_key).in_(keys))
                )
            ).all()
            originals = {key for _, _, key in lost}
            for version in versions:
                await session.delete(version)
            await session.flush()
            dropped = [key for key in keys if key not in originals]
            await session.exec(
                update(StoredObject)
                .where(col(StoredObject.key).in_(dropped))
                .values(state=ObjectState.DOOMED, changed_at=now())
                .execution_options(synchronize_session=False)
            )
        repairs.versions_dropped += len(versions)
        repairs.renditions_dropped += len(dropped) - len(versions)
        for id, workspace_id, _ in lost:
            repairs.images_put_into_trash += await self._put_into_trash(id, workspace_id)

    async def _put_into_trash(self, id: UUID, workspace_id: UUID) -> bool:
        viewer = Viewer(workspace_id, "doctor")
        (before,) = await self._trash.delete(viewer, [id], force=True, dry_run=True)
        if before.image is None or before.image.deleted_at is not None:
            return False
        await self._trash.delete(viewer, [id], force=True)
        log.warning("doctor.image_put_into_trash image_id=%s", id)
        return True
