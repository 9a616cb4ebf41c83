"""What changes in a library, told to whoever keeps a page of it on the screen.

The row is the truth here, too: a notice names an image, and says "look again". Each process reads
the images that were named once for all of its listeners. Where a notice may have been lost, or a
listener was too slow for all, it is told to begin anew.

A notice is a part of the transaction that it tells of, so none is lost with a process that dies or
ends. On PostgreSQL it is a NOTIFY, which goes to all processes if the transaction is kept. On
SQLite one process serves, and hears itself when a transaction is over. What another one does beside
it, such as an import, leaves a mark in the file: the file's `user_version`, which serves no other
purpose here. Whoever sees that the mark has moved only knows that anything may have changed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import event, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.models import Image
from storage.viewers import Viewer

log = logging.getLogger(__name__)

LIBRARY = "darkroom_library"
"""The channel on which PostgreSQL carries the notices."""

LONGEST = 1000
"""Images that a listener may be behind. One that is further behind begins anew."""

AT_ONCE = 100
SECONDS_BETWEEN_TRIES = 1.0
SECONDS_BETWEEN_LOOKS = 2.0
HIGHEST_MARK = 2**31 - 1
NOTIFY = text("SELECT pg_notify(:channel, line) FROM unnest(CAST(:lines AS text[])) AS line")


@dataclass(frozen=True, slots=True)
class Notice:
    """An image has come, has changed or is used otherwise, or has gone."""

    workspace_id: UUID
    image_id: UUID
    is_new: bool = False

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.image_id} {'new' if self.is_new else 'known'}"

    @classmethod
    def parse(cls, line: str) -> "Notice":
        """Raises ValueError for what is none."""
        workspace_id, image_id, age = line.split(" ")
        return cls(UUID(workspace_id), UUID(image_id), age == "new")


Told = Callable[[AsyncSession, Collection[Notice]], Awaitable[None]]
"""To be called at the end of a transaction, within it, with the images that it changes."""


async def tell_nobody(_session: AsyncSession, _notices: Collection[Notice]) -> None:
    """Where nobody wants to know."""


def after(session: AsyncSession, do: Callable[[], None]) -> None:
    """Call `do` when the session's transaction is over.

    Also when it was undone: whoever is cancelled while it commits does not learn what became of it.
    """
    for moment in ("after_commit", "after_rollback"):
        event.listen(session.sync_session, moment, lambda _: do())


@dataclass(frozen=True, slots=True)
class Change:
    """An image as it is now; None for one that is in the library no more.

    `is_new` says that the listener was not told of it before, `is_purged` that it is gone for good.
    """

    image_id: UUID
    image: Image | None
    is_new: bool = False
    is_purged: bool = False


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
        unseen = self._changes.pop(change.image_id, None)
        if unseen and unseen.is_new and change.image:
            change = replace(change, is_new=True)
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
    """On SQLite, `is_alone` says that this process serves; another one leaves that a mark."""

    def __init__(
        self,
        database: Database,
        *,
        is_alone: bool = True,
        seconds_between_looks: float = SECONDS_BETWEEN_LOOKS,
    ) -> None:
        self._database = database
        self._is_alone = is_alone
        self._seconds_between_looks = seconds_between_looks
        self._mailboxes: dict[UUID, set[Mailbox]] = {}
        self._stale: dict[UUID, Notice] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._mark: int | None = None
        self._looking = asyncio.Lock()

    async def tell(self, session: AsyncSession, notices: Collection[Notice]) -> None:
        """To be told if the session's transaction is kept, and when it is."""
        if not notices:
            return
        connection = await session.connection()
        if not self._database.is_sqlite:
            lines = [str(notice) for notice in notices]
            await connection.execute(NOTIFY, {"channel": LIBRARY, "lines": lines})
        elif self._is_alone:
            after(session, lambda: self._hear_all(notices))
        else:
            mark = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
            await connection.exec_driver_sql(f"PRAGMA user_version = {(mark + 1) % HIGHEST_MARK}")

    def hear(self, notice: Notice | None = None) -> None:
        """An image has changed; None says that any may have."""
        if notice is None:
            self._begin_anew()
        elif notice.workspace_id in self._mailboxes:  # else nobody listens here
            waiting = self._stale.get(notice.image_id)
            is_new = notice.is_new or (waiting is not None and waiting.is_new)
            self._stale[notice.image_id] = replace(notice, is_new=is_new)
            self._wake.set()

    def _hear_all(self, notices: Collection[Notice]) -> None:
        for notice in notices:
            self.hear(notice)

    async def watch(self, viewer: Viewer) -> AsyncGenerator[list[Change], None]:
        """What changes in the viewer's workspace from now on, in the order in which it did.

        An empty list, the first of all, says: read anew what you show.
        """
        with self._listening(viewer.workspace_id) as mailbox:
            await self._look()  # whatever moves the mark after this is news
            while (changes := await mailbox.take()) is not None:
                yield changes

    def close(self) -> None:
        """End every listener's stream, now and from now on."""
        self._closed = True
        for mailbox in self._everybody():
            mailbox.close()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._deliver_what_is_heard())
            both.create_task(self._look_out())

    async def _deliver_what_is_heard(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._stale:
                ids = list(self._stale)[:AT_ONCE]
                await self._deliver([self._stale.pop(id) for id in ids])

    async def _deliver(self, notices: list[Notice]) -> None:
        ids = [notice.image_id for notice in notices]
        try:
            async with self._database.reading() as session:
                rows = (await session.exec(select(Image).where(col(Image.id).in_(ids)))).all()
        except Exception:
            log.exception("changes.read_failed images=%s", len(ids))
            self._begin_anew()
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)
            return
        found = {row.id: row for row in rows}
        for notice in notices:
            image = found.get(notice.image_id)
            if image is None:  # all that is left of it is what the notice says
                workspace_id = notice.workspace_id
                change = Change(notice.image_id, None, is_purged=True)
            else:
                workspace_id = image.workspace_id
                is_there = image.deleted_at is None
                change = Change(
                    image.id, image if is_there else None, is_new=is_there and notice.is_new
                )
            for mailbox in self._mailboxes.get(workspace_id, ()):
                mailbox.put(change)

    async def _look_out(self) -> None:
        """Look now and then, while somebody listens, whether another process left a mark."""
        while self._database.is_sqlite:
            await asyncio.sleep(self._seconds_between_looks)
            if self._mailboxes:
                await self._look()

    async def _look(self) -> None:
        """Let everybody begin anew if the mark has moved; one look after the other."""
        if not self._database.is_sqlite:
            return
        try:
            async with self._looking, self._database.reading() as session:
                connection = await session.connection()
                mark = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
        except Exception:
            log.exception("changes.look_failed")  # the next one finds what this one missed
            return
        if mark != self._mark:
            self._mark = mark
            self._begin_anew()

    def _begin_anew(self) -> None:
        for mailbox in self._everybody():
            mailbox.begin_anew()

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
