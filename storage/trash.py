"""The trash: deleted images wait there to be restored, or purged with their bytes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.attachments import MAX_ATTACHMENTS, attached_to, detach, lock_contents, put_into
from storage.changes import Notice, Told, tell_nobody
from storage.database import Database
from storage.errors import (
    Conflict,
    DuplicateImage,
    ImageInUse,
    LibraryError,
    NotFound,
    Rejected,
)
from storage.failpoints import reach
from storage.keeper import Keeper
from storage.models import Attachment, FormerPlace, Image, now
from storage.viewers import Viewer

MAX_IDS = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image, or would become of it; `failure` is why nothing did.

    `attachments` are the places that show it, before anything is done.
    """

    id: UUID
    image: Image | None
    attachments: Sequence[Attachment] = ()
    failure: LibraryError | None = None


class Trash:
    """`kept_for` is how long an image stays. `changed` is told of every image that came or went."""

    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        *,
        kept_for: timedelta,
        changed: Told = tell_nobody,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._kept_for = kept_for
        self._changed = changed

    async def delete(
        self, viewer: Viewer, ids: Sequence[UUID], *, force: bool = False, dry_run: bool = False
    ) -> list[Outcome]:
        """Put images into the trash: each that can be, in one transaction.

        An image that a content shows fails with ImageInUse unless forced: then it is detached
        everywhere, and its places are remembered. `dry_run` only tells. Raises Rejected for too
        many ids.
        """
        wanted = _bounded(ids)
        working = self._database.reading if dry_run else self._database.writing
        async with working() as session:
            images = await _locked(session, viewer, wanted)
            # From now on none can be attached; and from the contents' locks on, none detached.
            await lock_contents(session, await _contents_of(session, images))
            attachments = await _attachments(session, images)
            outcomes = [
                _deletion(id, images.get(id), attachments.get(id, ()), force=force) for id in wanted
            ]
            if not dry_run:
                going = [each for each in outcomes if each.image and not each.failure]
                moved = await _put_into_trash(session, going)
                await self._tell(session, viewer, outcomes, moved)
                reach("trash.deleting")
        if not dry_run:
            reach("trash.deleted")
        return outcomes

    async def restore(self, viewer: Viewer, ids: Sequence[UUID]) -> list[Outcome]:
        """Take images out of the trash, back into the contents that showed them.

        One whose bytes the library has again fails with DuplicateImage. What is not in the trash
        stays as it is, and is no failure. Raises Rejected for too many ids.
        """
        wanted = _bounded(ids)
        while True:
            try:
                async with self._database.writing() as session:
                    images = await _locked(session, viewer, wanted)
                    outcomes = [await _restored(session, id, images.get(id)) for id in wanted]
                    restored = [each.id for each in outcomes if each.failure is None]
                    moved = await _put_back(session, restored)
                    await self._tell(session, viewer, outcomes, moved)
                break
            except IntegrityError:
                continue  # the same bytes came while we looked: now they are seen
        return outcomes

    async def purge(self, viewer: Viewer, ids: Sequence[UUID]) -> list[Outcome]:
        """Delete images in the trash for good: rows, bytes, every version and rendition.

        An image that is not in the trash fails with Conflict. Raises Rejected for too many ids.
        """
        wanted = _bounded(ids)
        async with self._database.writing() as session:
            images = await _locked(session, viewer, wanted)
            outcomes = [_purging(id, images.get(id)) for id in wanted]
            await self._purge(
                session, [each.image for each in outcomes if each.image and not each.failure]
            )
            await self._tell(session, viewer, outcomes)
        reach("purge.doomed")
        for outcome in outcomes:
            if outcome.failure is None:
                await self._keeper.purge(outcome.id)
        return outcomes

    async def purge_expired(self) -> int:
        """Purge what has been in the trash for long enough. Says how many."""
        async with self._database.writing() as session:
            rows = await session.exec(
                select(Image)
                .where(col(Image.deleted_at) < now() - self._kept_for)
                .order_by(col(Image.deleted_at))
                .limit(MAX_IDS)
                .with_for_update(skip_locked=True)
            )
            expired = rows.all()
            await self._purge(session, expired)
            notices = [Notice(image.workspace_id, image.id) for image in expired]
            await self._changed(session, notices)
        for image in expired:
            await self._keeper.purge(image.id)
        return len(expired)

    async def _purge(self, session: AsyncSession, images: Sequence[Image]) -> None:
        for image in images:
            await session.delete(image)
        await session.flush()
        for image in images:
            await self._keeper.doom_image(session, image.id)

    async def _tell(
        self,
        session: AsyncSession,
        viewer: Viewer,
        outcomes: Sequence[Outcome],
        moved: Collection[UUID] = (),
    ) -> None:
        """Of the images that came or went, and of those that have another place by it."""
        ids = dict.fromkeys([*(each.id for each in outcomes if each.failure is None), *moved])
        await self._changed(session, [Notice(viewer.workspace_id, id) for id in ids])


def _bounded(ids: Sequence[UUID]) -> list[UUID]:
    if not 1 <= len(ids) <= MAX_IDS:
        raise Rejected(
            f"ids takes 1 to {MAX_IDS} images at a time, not {len(ids)}.",
            field="ids",
            limit=MAX_IDS,
            actual=len(ids),
        )
    return list(dict.fromkeys(ids))


async def _locked(session: AsyncSession, viewer: Viewer, ids: Sequence[UUID]) -> dict[UUID, Image]:
    """The viewer's images, which nobody else changes until we are done; in one order for all."""
    rows = await session.exec(
        select(Image)
        .where(col(Image.id).in_(ids), Image.workspace_id == viewer.workspace_id)
        .order_by(col(Image.id))
        .with_for_update(key_share=True)
    )
    return {image.id: image for image in rows}


async def _contents_of(session: AsyncSession, images: Collection[UUID]) -> Sequence[UUID]:
    rows = await session.exec(
        select(Attachment.content_id).where(col(Attachment.image_id).in_(images)).distinct()
    )
    return rows.all()


async def _attachments(
    session: AsyncSession, images: dict[UUID, Image]
) -> dict[UUID, list[Attachment]]:
    rows = await session.exec(
        select(Attachment)
        .where(col(Attachment.image_id).in_(images))
        .order_by(col(Attachment.created_at), col(Attachment.id))
    )
    found: dict[UUID, list[Attachment]] = {}
    for attachment in rows:
        found.setdefault(attachment.image_id, []).append(attachment)
    return found


def _deletion(
    id: UUID, image: Image | None, attachments: Sequence[Attachment], *, force: bool
) -> Outcome:
    if image is None:
        return Outcome(id, None, failure=NotFound("image", id))
    if attachments and not force:
        in_use = ImageInUse([attachment.id for attachment in attachments])
        return Outcome(id, image, attachments, in_use)
    return Outcome(id, image, attachments)


async def _put_into_trash(session: AsyncSession, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Says which images have lost their places, or have another one."""
    for outcome in outcomes:
        if outcome.image and outcome.image.deleted_at is None:
            outcome.image.deleted_at = now()
            outcome.image.version += 1
    attachments = [each for outcome in outcomes for each in outcome.attachments]
    for attachment in attachments:
        session.add(
            FormerPlace(
                image_id=attachment.image_id,
                content_id=attachment.content_id,
                position=attachment.position,
                alt_text_override=attachment.alt_text_override,
            )
        )
    return await detach(session, attachments)


async def _restored(session: AsyncSession, id: UUID, image: Image | None) -> Outcome:
    if image is None:
        return Outcome(id, None, failure=NotFound("image", id))
    if image.deleted_at is None:
        return Outcome(id, image)
    twin = await session.exec(
        select(Image.id).where(
            Image.workspace_id == image.workspace_id,
            Image.sha256 == image.sha256,
            col(Image.deleted_at).is_(None),
        )
    )
    if twin_id := twin.one_or_none():
        return Outcome(id, image, failure=DuplicateImage(twin_id))
    image.deleted_at = None
    image.version += 1
    await session.flush()
    return Outcome(id, image)


async def _put_back(session: AsyncSession, image_ids: Sequence[UUID]) -> set[UUID]:
    """Attach images where they were, as far as those contents are there and have room.

    Says which images have another place by it.
    """
    places = (
        await session.exec(
            select(FormerPlace)
            .where(col(FormerPlace.image_id).in_(image_ids))
            .order_by(col(FormerPlace.content_id), col(FormerPlace.position))
        )
    ).all()
    contents = await lock_contents(session, {place.content_id for place in places})
    by_id = {content.id: content for content in contents}
    moved = set()
    for place in places:
        content = by_id[place.content_id]
        attached = await attached_to(session, content)
        is_there = any(each.image_id == place.image_id for each in attached)
        if not is_there and len(attached) < MAX_ATTACHMENTS:
            moved |= await put_into(
                session,
                content,
                [place.image_id],
                position=place.position,
                alt_text=place.alt_text_override,
            )
        await session.delete(place)
    await session.flush()
    return moved


def _purging(id: UUID, image: Image | None) -> Outcome:
    if image is None:
        return Outcome(id, None, failure=NotFound("image", id))
    if image.deleted_at is None:
        failure = Conflict("The image is not in the trash. Delete it first, then purge it.")
        return Outcome(id, image, failure=failure)
    return Outcome(id, image)
