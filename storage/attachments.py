"""Attachments within a caller's transaction: put into a content, and taken out again.

Images are locked before contents, and both in the order of their ids: two that change the same ones
then wait for each other in one direction only. The locks are those of PostgreSQL that let foreign
keys be checked (`FOR NO KEY UPDATE`): it checks those of a row again that a transaction changes
twice, also when that is the attachment of an image which somebody else holds.
"""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, literal, tuple_
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.cursors import Page, PageRequest, cut_by, edge
from storage.errors import Conflict, NotFound, Rejected
from storage.models import Attachment, Content, Image, now
from storage.viewers import Viewer

MAX_ATTACHMENTS = 100
USAGES = "usages"
"""What the cursors of usages are bound to. They name a moment, so one fits every image."""


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
) -> set[UUID]:
    """Attach images of the content's workspace, which are held, to a content that is locked.

    Says which images have another place by it, or other words there.
    """
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
    pushed = await renumber(session, content, [*others[:place], *placed, *others[place:]])
    await session.flush()
    return {*image_ids, *pushed}


async def attached_to(session: AsyncSession, content: Content) -> Sequence[Attachment]:
    return (
        await session.exec(
            select(Attachment)
            .where(Attachment.content_id == content.id)
            .order_by(col(Attachment.position))
        )
    ).all()


async def usages(
    session: AsyncSession, viewer: Viewer, image_ids: Sequence[UUID], request: PageRequest
) -> list[Page[Attachment]]:
    """Where each image is attached, the oldest place first: a page forwards of each.

    One statement for all. Raises Rejected for what is no cursor of usages.
    """
    keys: Sequence[Any] = (col(Attachment.created_at), col(Attachment.id))
    rank = func.row_number().over(partition_by=col(Attachment.image_id), order_by=keys)
    ranked = (
        select(Attachment, rank.label("rank"))
        .join(Content, col(Content.id) == Attachment.content_id)
        .where(col(Attachment.image_id).in_(image_ids), Content.workspace_id == viewer.workspace_id)
    )
    if values := edge(request, [key.type for key in keys], of=USAGES):
        seen = [literal(value, key.type) for value, key in zip(values, keys, strict=True)]
        ranked = ranked.where(tuple_(*keys) > tuple_(*seen))
    first = ranked.subquery()
    rows = await session.exec(
        select(aliased(Attachment, first))
        .where(first.c.rank <= request.size + 1)
        .order_by(first.c.rank)
    )
    found: dict[UUID, list[Attachment]] = {}
    for row in rows:
        found.setdefault(row.image_id, []).append(row)
    return [
        cut_by(found.get(id, []), request, lambda row: (row.created_at, row.id), of=USAGES)
        for id in image_ids
    ]


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


async def detach(session: AsyncSession, attachments: Sequence[Attachment]) -> set[UUID]:
    """Take images out of their contents and close the gaps. The contents are changed by it.

    Says which images are in no place any more, or in another one.
    """
    contents = await lock_contents(session, {each.content_id for each in attachments})
    for attachment in attachments:
        await session.delete(attachment)
    await session.flush()
    moved = {each.image_id for each in attachments}
    for content in contents:
        moved |= await renumber(session, content)
    return moved


async def renumber(
    session: AsyncSession, content: Content, ordered: Sequence[Attachment] | None = None
) -> set[UUID]:
    """Give the content's attachments the positions 0, 1, 2 … in their order, or in `ordered`.

    Says which images have another one by it.
    """
    if ordered is None:
        ordered = await attached_to(session, content)
    moved = {each.image_id for place, each in enumerate(ordered) if each.position != place}
    for position, attachment in enumerate(ordered):
        attachment.position = position
    content.version += 1
    content.updated_at = now()
    return moved
