"""What changes in a library, told to whoever keeps a page of it on the screen.

The row is the truth here, too: a message names an image, and says "look again". Each process reads
the images that were named once for all of its listeners. Where a message may have been lost, or a
listener was too slow for all, it is told to begin anew.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import col, select

from storage.database import Database
from storage.models import Image
from storage.progress import Bus
from storage.viewers import Viewer

log = logging.getLogger(__name__)

LONGEST = 1000
"""Images that a listener may be behind. One that is further behind begins anew."""

AT_ONCE = 100
SECONDS_BETWEEN_TRIES = 1.0

Told = Callable[[Collection[UUID]], Awaitable[None]]
"""To be called with the images that have changed, after that is committed."""


async def tell_nobody(_: Collection[UUID]) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Change:
    """An image as it is now; None for one that is in the library no more."""

    image_id: UUID
    image: Image | None


class Mailbox:
    """The changes that a listener has not seen: of each image the newest alone."""

    def __init__(self) -> None:
        self._changes: dict[UUID, Change] = {}
        self._begins_anew = True
        self._full = asyncio.Event()
        self._full.set()
        self._closed = False

    def put(self, change: Change) -> None:
        if self._begins_anew:
            return  # it will read everything after this
        self._changes.pop(change.image_id, None)
        self._changes[change.image_id] = change
        if len(self._changes) > LONGEST:
            self.begin_anew()
        self._full.set()

    def begin_anew(self) -> None:
        self._changes.clear()
        self._begins_anew = True
        self._full.set()

    def close(self) -> None:
        self._closed = True
        self._full.set()

    async def take(self) -> list[Change] | None:
        """What has changed since, the oldest first; an empty list says: anything may have.

        None when there will be no more.
        """
        await self._full.wait()
        self._full.clear()
        if self._closed:
            return None
        if self._begins_anew:
            self._begins_anew = False
            return []
        changes = list(self._changes.values())
        self._changes.clear()
        return changes


class Changes:
    """`bus` carries what is told here to every process, this one too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mailboxes: dict[UUID, set[Mailbox]] = {}
        self._stale: dict[UUID, None] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self.bus: Bus | None = None

    async def tell(self, ids: Collection[UUID]) -> None:
        """These images have come, changed or gone."""
        if self.bus is not None:
            for id in ids:
                await self.bus.tell(id)

    def hear(self, id: UUID | None = None) -> None:
        """An image has changed; None says that any may have."""
        if not self._mailboxes:
            return  # nobody listens here
        if id is None:
            for mailbox in self._everybody():
                mailbox.begin_anew()
        else:
            self._stale[id] = None
            self._wake.set()

    async def watch(self, viewer: Viewer) -> AsyncGenerator[list[Change], None]:
        """What changes in the viewer's workspace from now on, in the order in which it did.

        An empty list, the first of all, says: read anew what you show.
        """
        with self._listening(viewer.workspace_id) as mailbox:
            while (changes := await mailbox.take()) is not None:
                yield changes

    def close(self) -> None:
        """End every listener's stream, now and from now on."""
        self._closed = True
        for mailbox in self._everybody():
            mailbox.close()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._stale:
                named = list(self._stale)[:AT_ONCE]
                for id in named:
                    del self._stale[id]
                await self._deliver(named)

    async def _deliver(self, ids: list[UUID]) -> None:
        try:
            async with self._database.reading() as session:
                rows = (await session.exec(select(Image).where(col(Image.id).in_(ids)))).all()
        except Exception:
            log.exception("changes.read_failed images=%s", len(ids))
            for mailbox in self._everybody():
                mailbox.begin_anew()
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)
            return
        found = {row.id: row for row in rows}
        for id in ids:
            image = found.get(id)
            if image is None:
                continue  # purged: it was told of when it went into the trash
            change = Change(id, None if image.deleted_at else image)
            for mailbox in self._mailboxes.get(image.workspace_id, ()):
                mailbox.put(change)

    @contextmanager
    def _listening(self, workspace_id: UUID) -> Iterator[Mailbox]:
        mailbox = Mailbox()
        if self._closed:
            mailbox.close()
        self._mailboxes.setdefault(workspace_id, set()).add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[workspace_id].discard(mailbox)
            if not self._mailboxes[workspace_id]:
                del self._mailboxes[workspace_id]

    def _everybody(self) -> Iterator[Mailbox]:
        for mailboxes in self._mailboxes.values():
            yield from mailboxes
