"""An image's bytes can be replaced; what it had before stays as an earlier version of it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.changes import Notice, Told, tell_nobody
from storage.database import Database
from storage.errors import Conflict, DuplicateImage, NotFound
from storage.inputs import check_version, checked_text
from storage.intake import Arrival, Intake, Source
from storage.keeper import Keeper
from storage.library import (
    MAX_TRIES,
    Added,
    is_picture_of,
    locked,
    picture_of,
    store,
    touch,
    twin_of,
)
from storage.marks import Mark
from storage.models import Attachment, Content, ContentState, Image, ImageVersion, Picture
from storage.renditions import prefix_of
from storage.viewers import Viewer


class Versions:
    """`kept` earlier versions of an image stay, beside those that something published shows.

    `changed` is told of every image that has other bytes now, for whoever has the old ones at hand.
    """

    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        intake: Intake,
        *,
        kept: int,
        changed: Told = tell_nobody,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._intake = intake
        self._kept = kept
        self._changed = changed

    async def replace_image(
        self,
        viewer: Viewer,
        id: UUID,
        source: Source | bytes,
        *,
        filename: str | None = None,
        expected_version: int | None = None,
    ) -> Added:
        """Give an image other bytes. What it had becomes an earlier version of it.

        Raises NotFound, Conflict (for its version, or in the trash), DuplicateImage where another
        image has these bytes, and Rejected in its many forms.
        """
        name = checked_text("filename", filename)
        async with self._database.reading() as session:  # before a large file is worked on
            image = await session.get(Image, id)
        if image is None or image.workspace_id != viewer.workspace_id:
            raise NotFound("image", id)
        _check_replaceable(image, expected_version)
        # What was made from an AI picture is one too, even where its new file has lost the mark.
        mark = Mark.TRAINED if image.is_ai_generated else None
        async with self._intake.take(source, mark=mark) as arrival:
            keys = await store(self._keeper, viewer, arrival, id)
            try:
                for _ in range(MAX_TRIES):
                    try:
                        return await self._write(
                            viewer, id, arrival, keys, name=name, expected_version=expected_version
                        )
                    except IntegrityError:
                        async with self._database.reading() as session:
                            twin = await twin_of(session, viewer, arrival, in_trash=False)
                        if twin is not None:
                            raise DuplicateImage(twin.id) from None
                        # It is gone again: now nothing stands in the way.
                raise Conflict("The same picture comes and goes all the time. Send it again.")
            except (Conflict, NotFound):
                await self._keeper.doom(*keys)
                raise

    async def _write(
        self,
        viewer: Viewer,
        id: UUID,
        arrival: Arrival,
        keys: Sequence[str],
        *,
        name: str | None,
        expected_version: int | None,
    ) -> Added:
        """The row and its version, in the transaction that settles the new bytes."""
        async with self._database.writing() as session:
            image = await locked(session, viewer, id)
            _check_replaceable(image, expected_version)
            if is_picture_of(image, arrival):
                return Added(image, duplicate_of=image)
            for key in keys:
                await self._keeper.settle(session, key)
            await self._replace(session, image, arrival)
            image.filename = name or image.filename
            await touch(session, image)
            await session.flush()
            await self._forget_the_oldest(session, id)
            await self._changed(session, [Notice(viewer.workspace_id, id)])
        return Added(image)

    async def _replace(self, session: AsyncSession, image: Image, arrival: Arrival) -> None:
        """Keep what the image had as a version, and remember who has published that."""
        before = {name: getattr(image, name) for name in Picture.model_fields}
        session.add(ImageVersion(image_id=image.id, **before))
        published = select(Content.id).where(Content.state == ContentState.PUBLISHED)
        await session.exec(
            update(Attachment)
            .where(
                col(Attachment.image_id) == image.id,
                col(Attachment.published_sha256).is_(None),
                col(Attachment.content_id).in_(published),
            )
            .values(published_sha256=image.sha256)
        )
        for name, value in picture_of(arrival, image.id).items():
            setattr(image, name, value)
        image.is_ai_generated = image.is_ai_generated or image.declares_ai
        # It may have had these very bytes once.
        await session.exec(
            delete(ImageVersion).where(
                col(ImageVersion.image_id) == image.id, col(ImageVersion.sha256) == image.sha256
            )
        )

    async def _forget_the_oldest(self, session: AsyncSession, id: UUID) -> None:
        """Doom bytes that nothing published shows, where there are too many versions."""
        published = select(Attachment.published_sha256).where(
            Attachment.image_id == id, col(Attachment.published_sha256).is_not(None)
        )
        too_old = await session.exec(
            select(ImageVersion)
            .where(ImageVersion.image_id == id, col(ImageVersion.sha256).not_in(published))
            .order_by(col(ImageVersion.replaced_at).desc(), col(ImageVersion.sha256))
            .offset(self._kept)
        )
        for version in too_old.all():
            await session.delete(version)
            await session.flush()
            await self._keeper.doom_under(session, prefix_of(id, version.sha256))

    async def of_images(self, viewer: Viewer, ids: Sequence[UUID]) -> list[list[ImageVersion]]:
        """The earlier versions of each image, the newest first. One query for all."""
        async with self._database.reading() as session:
            rows = (
                await session.exec(
                    select(ImageVersion)
                    .join(Image, col(Image.id) == ImageVersion.image_id)
                    .where(
                        col(ImageVersion.image_id).in_(ids),
                        Image.workspace_id == viewer.workspace_id,
                    )
                    .order_by(col(ImageVersion.replaced_at).desc(), col(ImageVersion.sha256))
                )
            ).all()
        return [[row for row in rows if row.image_id == id] for id in ids]


def _check_replaceable(image: Image, expected_version: int | None) -> None:
    check_version("image", image.version, expected_version)
    if image.deleted_at is not None:
        raise Conflict("The image is in the trash. Restore it first, then replace its file.")
