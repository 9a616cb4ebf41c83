"""Keeps objects and their rows in step, whatever crashes.

An object's row is `pending` before its bytes are written, becomes `live` in the transaction that
gives it a meaning, and is `doomed` in the one that takes it away, before its bytes go. What a crash
leaves is swept: no bytes without a row, no row without a use.
"""

import hashlib
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, or_, update
from sqlalchemy import select as rows_of
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database, insert_once
from storage.errors import Conflict, LibraryError
from storage.failpoints import reach
from storage.models import FINAL, Generation, ObjectState, StoredObject, now, table_of
from storage.objects import ObjectStore
from storage.statements import Given, Term

log = logging.getLogger(__name__)

OBJECTS = table_of(StoredObject)


@dataclass(frozen=True, slots=True)
class Purpose:
    """Whose an object is, and what for."""

    workspace_id: UUID
    image_id: UUID | None = None
    generation_id: UUID | None = None
    lives_for: timedelta | None = None


class Keeper:
    def __init__(self, database: Database, store: ObjectStore, *, grace: timedelta) -> None:
        """`grace` is how long a pending object may take until the sweep gives it up."""
        self._database = database
        self._store = store
        self._grace = grace

    async def put(
        self, key: str, data: bytes | Path, *, media_type: str, sha256: str, size: int, of: Purpose
    ) -> bool:
        """Write an object that nothing refers to yet. Says whether it still has to be settled.

        A key stands for its bytes, so what an interrupted try left pending is written anew, and
        what is live already is left as it is. Raises Conflict for a key that is being deleted.
        """
        async with self._database.writing() as session:
            row = StoredObject(
                key=key,
                workspace_id=of.workspace_id,
                state=ObjectState.PENDING,
                media_type=media_type,
                byte_size=size,
                sha256=sha256,
                image_id=of.image_id,
                generation_id=of.generation_id,
                expires_at=now() + of.lives_for if of.lives_for else None,
            )
            if not await insert_once(session, row):
                earlier = (
                    await session.exec(select(StoredObject).where(StoredObject.key == key))
                ).one_or_none()
                if earlier is None or earlier.state is ObjectState.DOOMED:
                    raise Conflict("The object is being deleted. Try again in a minute.")
                if earlier.state is ObjectState.LIVE:
                    return False
                earlier.changed_at = now()
        reach("object.named")
        await self._store.put(key, data, media_type=media_type)
        reach("object.written")
        if not await self._database.fetch(Term(_named, Given(key))):
            # Swept while it was written, or its image was deleted: for the next sweep to find.
            doomed = {"state": ObjectState.DOOMED, "changed_at": now()}
            async with self._database.writing() as session:
                await insert_once(session, StoredObject(**(row.model_dump() | doomed)))
        return True

    async def put_live(self, key: str, data: bytes, *, media_type: str, of: Purpose) -> None:
        """Write an object that is its own meaning, such as a preview."""
        sha256 = hashlib.sha256(data).hexdigest()
        size = len(data)
        if await self.put(key, data, media_type=media_type, sha256=sha256, size=size, of=of):
            async with self._database.writing() as session:
                await self.settle(session, key)

    async def settle(self, session: AsyncSession, key: str) -> None:
        """Make a pending object live, in the transaction that refers to it.

        Another process may have done so already, with the same bytes. Raises Conflict when the
        sweep has given it up meanwhile.
        """
        settled = await session.exec(
            update(StoredObject)
            .where(col(StoredObject.key) == key, col(StoredObject.state) != ObjectState.DOOMED)
            .values(state=ObjectState.LIVE, changed_at=now())
        )
        if settled.rowcount != 1:
            raise Conflict("The upload took too long and was given up. Send it again.")

    async def doom_image(self, session: AsyncSession, image_id: UUID) -> None:
        """Give up everything that was stored for an image, in the transaction that deletes it."""
        await session.exec(
            update(StoredObject)
            .where(col(StoredObject.image_id) == image_id)
            .values(state=ObjectState.DOOMED, changed_at=now())
        )

    async def doom_under(self, session: AsyncSession, prefix: str) -> None:
        """Give up all objects whose keys begin so, in the transaction that needs them no more."""
        await session.exec(
            update(StoredObject)
            .where(col(StoredObject.key).startswith(prefix, autoescape=True))
            .values(state=ObjectState.DOOMED, changed_at=now())
            .execution_options(synchronize_session=False)
        )

    async def doom(self, *keys: str) -> None:
        """Give objects up that nothing refers to."""
        async with self._database.writing() as session:
            await session.exec(
                update(StoredObject)
                .where(col(StoredObject.key).in_(keys), col(StoredObject.state) != ObjectState.LIVE)
                .values(state=ObjectState.DOOMED, changed_at=now())
            )

    async def sweep(self) -> int:
        """Delete what is doomed, expired, or pending for longer than the grace. Says how many."""
        unfinished = select(Generation.id).where(col(Generation.status).not_in(FINAL))
        async with self._database.writing() as session:
            await session.exec(
                update(StoredObject)
                .where(
                    or_(
                        (col(StoredObject.state) == ObjectState.PENDING)
                        & (col(StoredObject.changed_at) < now() - self._grace)
                        & col(StoredObject.expires_at).is_(None)
                        & or_(
                            col(StoredObject.generation_id).is_(None),
                            col(StoredObject.generation_id).not_in(unfinished),
                        ),
                        (col(StoredObject.state) != ObjectState.DOOMED)
                        & (col(StoredObject.expires_at) < now()),
                    )
                )
                .values(state=ObjectState.DOOMED, changed_at=now())
                .execution_options(synchronize_session=False)
            )
        return await self.purge()

    async def purge(self, image_id: UUID | None = None) -> int:
        """Delete what is doomed: the bytes first, then the row. Says how many.

        A store that fails keeps its rows for the next time, and is no error here.
        """
        doomed = select(StoredObject.key).where(StoredObject.state == ObjectState.DOOMED)
        if image_id:
            doomed = doomed.where(StoredObject.image_id == image_id)
        async with self._database.reading() as session:
            keys = (await session.exec(doomed.limit(1000))).all()
        gone = []
        for key in keys:
            try:
                await self._store.delete(key)
                reach("object.deleted")
                gone.append(key)
            except LibraryError as fault:
                log.warning("object.delete_failed key=%s reason=%s", key, fault)
        if gone:
            async with self._database.writing() as session:
                await session.exec(delete(StoredObject).where(col(StoredObject.key).in_(gone)))
        return len(gone)


def _named(key: Any) -> Select[Any]:
    return rows_of(OBJECTS.c.key).where(OBJECTS.c.key == key)
