"""Posts in the making, and the images attached to them: one transaction each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import idempotency
from storage.attachments import attached_to, hold, put_into, renumber, usages
from storage.changes import Notice, Told, tell_nobody
from storage.cursors import Page, PageRequest
from storage.database import Database
from storage.errors import Conflict, IdempotencyMismatch, NotFound, Rejected
from storage.failpoints import reach
from storage.filters import moment
from storage.inputs import check_version, checked_text
from storage.models import Attachment, Content, ContentState, now
from storage.viewers import Viewer

MAX_TEXT = 32_000


@dataclass(frozen=True, slots=True)
class ContentPatch:
    """The fields to save: those that are not `...`."""

    external_id: Any = ...
    text: Any = ...
    platforms: Any = ...
    state: Any = ...
    scheduled_at: Any = ...
    auto_image: Any = ...

    def said(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not ...}


class Contents:
    """`changed` is told of every image that is used otherwise: put into a content or taken out of
    it, in another place there, or in one that has another state or time.
    """

    def __init__(self, database: Database, *, changed: Told = tell_nobody) -> None:
        self._database = database
        self._changed = changed

    async def save(
        self,
        viewer: Viewer,
        patch: ContentPatch,
        *,
        id: UUID | None = None,
        expected_version: int | None = None,
    ) -> Content:
        """Change the content with this id, or with the patch's external id, or make a new one.

        Saving with an external id is repeatable: the second time finds what the first made.
        Raises NotFound (for an id), Conflict (the version, or the external id is another's),
        Rejected.
        """
        said = patch.said()
        _check(said)
        try:
            async with self._database.writing() as session:
                content = await self._found(session, viewer, id, said.get("external_id"))
                if content is None:
                    content = Content(workspace_id=viewer.workspace_id, external_id=str(uuid4()))
                    session.add(content)
                    before = None
                else:
                    before = content.state, content.scheduled_at
                    check_version("content", content.version, expected_version)
                    content.version += 1
                for name, value in said.items():
                    setattr(content, name, value)
                if content.state is ContentState.SCHEDULED and content.scheduled_at is None:
                    raise Rejected(
                        "A scheduled content needs a time: give scheduledAt.", field="scheduledAt"
                    )
                content.updated_at = now()
                if before not in (None, (content.state, content.scheduled_at)):
                    shown = await attached_to(session, content)
                    await self._tell(session, content, [each.image_id for each in shown])
            return content
        except IntegrityError:
            twin = None if id else await self.by_external_id(viewer, said.get("external_id", ""))
            if twin is not None:
                # Another request made it while we were about to: now it is there to be changed.
                return await self.save(viewer, patch, id=twin.id, expected_version=expected_version)
            raise Conflict(
                f"Another content has the externalId {said.get('external_id')!r}. "
                "Read that one, or choose another externalId."
            ) from None

    async def _found(
        self, session: AsyncSession, viewer: Viewer, id: UUID | None, external_id: str | None
    ) -> Content | None:
        if id is not None:
            return await _locked(session, viewer, id)
        if external_id is None:
            return None
        return (
            await session.exec(
                select(Content)
                .where(
                    Content.workspace_id == viewer.workspace_id,
                    Content.external_id == external_id,
                )
                .with_for_update(key_share=True)
            )
        ).one_or_none()

    async def by_external_id(self, viewer: Viewer, external_id: str) -> Content | None:
        if "\0" in external_id:  # which PostgreSQL would not even compare
            return None
        async with self._database.reading() as session:
            return (
                await session.exec(
                    select(Content).where(
                        Content.workspace_id == viewer.workspace_id,
                        Content.external_id == external_id,
                    )
                )
            ).one_or_none()

    async def by_id(self, viewer: Viewer, ids: Sequence[UUID]) -> list[Content | None]:
        """In the order of `ids`, None for what is not there or not the viewer's."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(Content).where(
                    col(Content.id).in_(ids), Content.workspace_id == viewer.workspace_id
                )
            )
            found = {content.id: content for content in rows}
        return [found.get(id) for id in ids]

    async def attachments_by_id(
        self, viewer: Viewer, ids: Sequence[UUID]
    ) -> list[Attachment | None]:
        """In the order of `ids`, None for what is not there or not the viewer's."""
        rows = await self._attachments(viewer, col(Attachment.id).in_(ids))
        found = {attachment.id: attachment for attachment in rows}
        return [found.get(id) for id in ids]

    async def attachments_of_contents(
        self, viewer: Viewer, ids: Sequence[UUID]
    ) -> list[list[Attachment]]:
        """Each content's attachments, by position. One query for all."""
        rows = await self._attachments(viewer, col(Attachment.content_id).in_(ids))
        return [[row for row in rows if row.content_id == id] for id in ids]

    async def usages_of_images(
        self, viewer: Viewer, ids: Sequence[UUID], request: PageRequest
    ) -> list[Page[Attachment]]:
        """Where each image is attached, the oldest place first: a page of each. One query for all.

        Raises Rejected for what is no cursor of usages.
        """
        async with self._database.reading() as session:
            return await usages(session, viewer, ids, request)

    async def _attachments(self, viewer: Viewer, condition: Any) -> Sequence[Attachment]:
        async with self._database.reading() as session:
            return (
                await session.exec(
                    select(Attachment)
                    .join(Content, col(Content.id) == Attachment.content_id)
                    .where(condition, Content.workspace_id == viewer.workspace_id)
                    .order_by(col(Attachment.position))
                )
            ).all()

    async def attach(
        self,
        viewer: Viewer,
        content_id: UUID,
        image_ids: Sequence[UUID],
        *,
        position: int | None = None,
        alt_text_override: str | None = None,
        idempotency_key: str | None = None,
    ) -> Content:
        """Put images into a content at `position` (0 is first), or at its end, in their order.

        An image stands in a content once: one that is there already moves to the new place.
        Raises NotFound (for the content or an image), Rejected, IdempotencyMismatch.
        """
        wanted = list(dict.fromkeys(image_ids))
        if not wanted:
            raise Rejected("imageIds is empty. Name at least one image.", field="imageIds")
        if position is not None and position < 0:
            raise Rejected("position counts from 0, the first place.", field="position", limit=0)
        alt_text = checked_text("alt_text", alt_text_override)
        use = idempotency.Use.of(
            idempotency_key, "attachToContent", content_id, wanted, position, alt_text
        )
        try:
            async with self._database.writing() as session:
                await hold(session, wanted)
                content = await _locked(session, viewer, content_id)
                if use and await idempotency.recall(session, viewer, use):
                    return content
                moved = await put_into(
                    session, content, wanted, position=position, alt_text=alt_text
                )
                if use:
                    await idempotency.remember(session, viewer, use, content_id)
                await self._tell(session, content, moved)
                reach("attach.writing")
            reach("attach.committed")
            return content
        except IntegrityError:
            if use is None:
                raise
            # The key came by a request for another content while we were writing.
            raise IdempotencyMismatch(use.key) from None

    async def detach(self, viewer: Viewer, attachment_ids: Sequence[UUID]) -> Content:
        """Take attachments out of their content. All of them, or none.

        Raises NotFound, and Rejected when they are of different contents.
        """
        wanted = list(dict.fromkeys(attachment_ids))
        known = await self.attachments_by_id(viewer, wanted)
        for id, attachment in zip(wanted, known, strict=True):
            if attachment is None:
                raise NotFound("attachment", id)
        content_ids = {attachment.content_id for attachment in known if attachment}
        if len(content_ids) != 1:
            raise Rejected(
                "attachmentIds must name attachments of one content.", field="attachmentIds"
            )
        async with self._database.writing() as session:
            content = await _locked(session, viewer, content_ids.pop())
            attached = {row.id: row for row in await attached_to(session, content)}
            for id in wanted:
                if id not in attached:  # detached by another request meanwhile
                    raise NotFound("attachment", id)
                await session.delete(attached[id])
            await session.flush()
            moved = await renumber(session, content)
            await self._tell(session, content, {attached[id].image_id for id in wanted} | moved)
        return content

    async def reorder(
        self, viewer: Viewer, content_id: UUID, attachment_ids: Sequence[UUID]
    ) -> Content:
        """Give all attachments of a content a new order.

        Raises NotFound, and Conflict when the ids are not exactly the content's attachments.
        """
        async with self._database.writing() as session:
            content = await _locked(session, viewer, content_id)
            attached = {
                attachment.id: attachment for attachment in await attached_to(session, content)
            }
            if sorted(attached) != sorted(attachment_ids):
                raise Conflict(
                    f"attachmentIds must name each of the content's {len(attached)} attachments "
                    "once. Read the content again and decide anew."
                )
            moved = await renumber(session, content, [attached[id] for id in attachment_ids])
            await self._tell(session, content, moved)
        return content

    async def _tell(
        self, session: AsyncSession, content: Content, image_ids: Collection[UUID]
    ) -> None:
        await self._changed(session, [Notice(content.workspace_id, id) for id in image_ids])


async def _locked(session: AsyncSession, viewer: Viewer, id: UUID) -> Content:
    """The viewer's content, which nobody else changes until we are done."""
    content = (
        await session.exec(
            select(Content)
            .where(Content.id == id, Content.workspace_id == viewer.workspace_id)
            .with_for_update(key_share=True)
        )
    ).one_or_none()
    if content is None:
        raise NotFound("content", id)
    return content


def _check(said: dict[str, Any]) -> None:
    external_id = said.get("external_id", "-")
    if not 1 <= len(external_id) <= 255:
        raise Rejected(
            f"externalId takes 1 to 255 characters, not {len(external_id)}.",
            field="externalId",
            limit=255,
            actual=len(external_id),
        )
    if "\0" in external_id:
        raise Rejected("externalId holds a NUL, which no database keeps.", field="externalId")
    if said.get("scheduled_at") is not None:
        said["scheduled_at"] = moment("scheduledAt", said["scheduled_at"])
    text = said.get("text", "")
    if len(text) > MAX_TEXT:
        raise Rejected(
            f"text takes at most {MAX_TEXT:,} characters, not {len(text):,}.",
            field="text",
            limit=MAX_TEXT,
            actual=len(text),
        )
    if "text" in said:
        said["text"] = text.replace("\0", "")
