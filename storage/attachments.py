"""Attachments within a caller's transaction: put into a content, and taken out again.

Images are locked before contents, and both in the order of their ids: two that change the same ones
then wait for each other in one direction only. The locks are those of PostgreSQL that let foreign
keys be checked (`FOR NO KEY UPDATE`): it checks those of a row again that a transaction changes
twice, also when that is the attachment of an image which somebody else holds.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import Conflict, NotFound, Rejected
from storage.models import Attachment, Content, Image, now

MAX_ATTACHMENTS = 100


async def hold(session: AsyncSession, image_ids: Sequence[UUID]) -> None:
    """Let no image be deleted until we are done: a deletion then wins or loses as a whole.

    Comes before a content is locked. A deletion takes its locks in that order, too; otherwise the
    two could wait for each other.
    """
    await session.exec(
        select(Image.id)
        .where(col(Image.id).in_(image_ids))
        .order_by(col(Image.id))
        .with_for_update(read=True)
    )


async def put_into(
    session: AsyncSession,
    content: Content,
    image_ids: Sequence[UUID],
    *,
    position: int | None,
    alt_text: str | None,
) -> None:
    """Attach images of the content's workspace, which are held, to a content that is locked."""
    found = await session.exec(
        select(Image.id, Image.deleted_at).where(
            col(Image.id).in_(image_ids), Image.workspace_id == content.workspace_id
        )
    )
    existing = dict(found.all())
    for id in image_ids:
        if id not in existing:
            raise NotFound("image", id)
        if existing[id] is not None:
            raise Conflict("The image is in the trash. Restore it first, then attach it.")
    attached = await attached_to(session, content)
    moved = {row.image_id: row for row in attached if row.image_id in image_ids}
    others = [row for row in attached if row.image_id not in image_ids]
    if len(others) + len(image_ids) > MAX_ATTACHMENTS:
        raise Rejected(
            f"A content takes at most {MAX_ATTACHMENTS} images.",
            field="imageIds",
            limit=MAX_ATTACHMENTS,
            actual=len(others) + len(image_ids),
        )
    placed = [
        moved.get(id) or Attachment(content_id=content.id, image_id=id, position=0)
        for id in image_ids
    ]
    for attachment in placed:
        attachment.alt_text_override = alt_text or attachment.alt_text_override
    session.add_all(placed)
    place = len(others) if position is None else min(position, len(others))
    await renumber(session, content, [*others[:place], *placed, *others[place:]])
    await session.flush()


async def attached_to(session: AsyncSession, content: Content) -> Sequence[Attachment]:
    return (
        await session.exec(
            select(Attachment)
            .where(Attachment.content_id == content.id)
            .order_by(col(Attachment.position))
        )
    ).all()


async def lock_contents(session: AsyncSession, ids: Collection[UUID]) -> list[Content]:
    """Let nobody else change these contents until we are done.

    Comes before any row that points at one of them is written or deleted. A foreign key locks a
    little, too, and two that have done so could not both lock the rest.
    """
    rows = await session.exec(
        select(Content)
        .where(col(Content.id).in_(ids))
        .order_by(col(Content.id))
        .with_for_update(key_share=True)
    )
    return list(rows)


async def detach(session: AsyncSession, attachments: Sequence[Attachment]) -> None:
    """Take images out of their contents and close the gaps. The contents are changed by it."""
    contents = await lock_contents(session, {each.content_id for each in attachments})
    for attachment in attachments:
        await session.delete(attachment)
    await session.flush()
    for content in contents:
        await renumber(session, content)


async def renumber(
    session: AsyncSession, content: Content, ordered: Sequence[Attachment] | None = None
) -> None:
    """Give the content's attachments the positions 0, 1, 2 … in their order, or in `ordered`."""
    if ordered is None:
        ordered = await attached_to(session, content)
    for position, attachment in enumerate(ordered):
        attachment.position = position
    content.version += 1
    content.updated_at = now()
