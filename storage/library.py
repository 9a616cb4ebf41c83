"""The library: the use cases on images, one transaction each."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID, uuid4

from anyio import to_thread
from sqlalchemy import func, or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import idempotency
from storage.database import Database
from storage.errors import Conflict, ImageInUse, LibraryError, NotFound, Rejected, TooLong
from storage.intake import Arrival, Intake, Source
from storage.keeper import Keeper, Purpose
from storage.models import (
    Attachment,
    Content,
    Generation,
    GenerationImage,
    Image,
    ImageOrigin,
    ImageTag,
    now,
)
from storage.renditions import grid_rendition, rendition_key
from storage.search import (
    ImageFilter,
    Page,
    PageRequest,
    Sort,
    cut,
    fold,
    images_of,
    matching,
    page_of,
    sort_column,
)
from storage.viewers import Viewer

log = logging.getLogger(__name__)

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
}
MAX_TAGS = 50
MAX_LENGTH = {"filename": 255, "title": 255, "alt_text": 1000, "tag": 64}


@dataclass(frozen=True, slots=True)
class NewImage:
    """What is known of a picture beside its bytes."""

    filename: str | None = None
    title: str | None = None
    alt_text: str | None = None
    tags: Sequence[str] = ()
    origin: ImageOrigin = ImageOrigin.UPLOADED
    is_ai_generated: bool = False
    generation_id: UUID | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class ImagePatch:
    """The fields to change: those that are not `...`."""

    title: Any = ...
    alt_text: Any = ...
    tags: Any = ...
    is_favorite: Any = ...
    focal_point: Any = ...


@dataclass(frozen=True, slots=True)
class Added:
    """`is_duplicate`: the library had these bytes already, and `image` is that picture."""

    image: Image
    is_duplicate: bool


class Library:
    """`deleted` is told of every image that is gone, for what has it at hand."""

    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        intake: Intake,
        *,
        deleted: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._intake = intake
        self._deleted = deleted

    async def add_image(
        self,
        viewer: Viewer,
        source: Source | bytes,
        new: NewImage,
        *,
        id: UUID | None = None,
        idempotency_key: str | None = None,
    ) -> Added:
        """Take a file in. The same bytes again give back the image that is there.

        `id` is the image's id to be, for a caller that must find it again after a crash.
        Raises Rejected in its many forms, and IdempotencyMismatch.
        """
        checked = _checked(new)
        async with self._intake.take(source) as arrival:
            use = idempotency.Use.of(idempotency_key, "uploadImage", arrival.source_sha256, checked)
            async with self._database.reading() as session:
                if earlier := await self._earlier(session, viewer, arrival, use):
                    return earlier
            return await self._keep(viewer, arrival, checked, id or uuid4(), use)

    async def _earlier(
        self, session: AsyncSession, viewer: Viewer, arrival: Arrival, use: idempotency.Use | None
    ) -> Added | None:
        """The image of an earlier request with this key, or with these bytes."""
        if use and (subject_id := await idempotency.recall(session, viewer, use)):
            image = await session.get(Image, subject_id)
            if image is None:
                raise NotFound("image", subject_id)
            return Added(image, is_duplicate=False)
        same = select(Image).where(
            Image.workspace_id == viewer.workspace_id,
            or_(
                col(Image.sha256) == arrival.shown.sha256,
                col(Image.source_sha256) == arrival.source_sha256,
            ),
        )
        image = (await session.exec(same.order_by(col(Image.created_at)))).first()
        return Added(image, is_duplicate=True) if image else None

    async def _keep(
        self, viewer: Viewer, arrival: Arrival, new: NewImage, id: UUID, use: idempotency.Use | None
    ) -> Added:
        shown = arrival.shown
        key = f"images/{id}/{shown.sha256}.{EXTENSIONS[shown.media_type]}"
        grid_key = rendition_key(
            id, shown.sha256, grid_rendition(shown.width, shown.grid_media_type)
        )
        of = Purpose(viewer.workspace_id, image_id=id, generation_id=new.generation_id)
        await self._keeper.put(
            key,
            arrival.clean,
            media_type=shown.media_type,
            sha256=shown.sha256,
            size=shown.byte_size,
            of=of,
        )
        grid = await to_thread.run_sync(arrival.grid.read_bytes)
        await self._keeper.put(
            grid_key,
            grid,
            media_type=shown.grid_media_type,
            sha256=hashlib.sha256(grid).hexdigest(),
            size=len(grid),
            of=Purpose(viewer.workspace_id, image_id=id),
        )
        image = Image(
            id=id,
            workspace_id=viewer.workspace_id,
            origin=new.origin,
            is_ai_generated=new.is_ai_generated or shown.declares_ai,
            filename=new.filename or "",
            title=new.title or "",
            alt_text=new.alt_text,
            media_type=shown.media_type,
            byte_size=shown.byte_size,
            sha256=shown.sha256,
            source_media_type=shown.source_media_type,
            source_sha256=arrival.source_sha256,
            width=shown.width,
            height=shown.height,
            frames=shown.frames,
            has_alpha=shown.has_alpha,
            declares_ai=shown.declares_ai,
            has_c2pa=shown.has_c2pa,
            dominant_color=shown.dominant_color,
            thumbhash=shown.thumbhash,
            perceptual_hash=shown.perceptual_hash,
            object_key=key,
            generation_id=new.generation_id,
            search_text=fold(new.filename, new.title, new.alt_text, new.prompt),
            tag_rows=[ImageTag(image_id=id, tag=tag) for tag in new.tags],
        )
        try:
            async with self._database.writing() as session:
                for settled in (key, grid_key):
                    await self._keeper.settle(session, settled)
                session.add(image)
                await session.flush()
                if use:
                    await idempotency.remember(session, viewer, use, id)
            return Added(image, is_duplicate=False)
        except IntegrityError:
            # The same bytes, or the same key, came by another request while we were writing.
            await self._keeper.doom(key, grid_key)
            async with self._database.reading() as session:
                earlier = await self._earlier(session, viewer, arrival, use)
            if earlier is None:
                raise
            return earlier

    async def image(self, viewer: Viewer, id: UUID) -> Image:
        """Raises NotFound."""
        found = (await self.images_by_id(viewer, [id]))[0]
        if found is None:
            raise NotFound("image", id)
        return found

    async def images_by_id(self, viewer: Viewer, ids: Sequence[UUID]) -> list[Image | None]:
        """In the order of `ids`, None for what is not there or not the viewer's."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(Image).where(
                    col(Image.id).in_(ids), Image.workspace_id == viewer.workspace_id
                )
            )
            found = {image.id: image for image in rows}
        return [found.get(id) for id in ids]

    async def images(
        self, viewer: Viewer, filter: ImageFilter, sort: Sort, request: PageRequest
    ) -> Page[Image]:
        """Raises Rejected for a filter, search or cursor that makes no sense."""
        column = sort_column(sort)
        of = (viewer.workspace_id, filter, sort)
        statement = page_of(
            images_of(viewer.workspace_id, filter),
            request,
            column,
            col(Image.id),
            descending=sort.descending,
            of=of,
        )
        async with self._database.reading() as session:
            rows = (await session.exec(statement)).all()
        return cut(rows, request, column, of=of)

    async def count_images(self, viewer: Viewer, filter: ImageFilter) -> int:
        """How many match, exactly."""
        counted = (
            select(func.count())
            .select_from(Image)
            .where(Image.workspace_id == viewer.workspace_id, matching(filter))
        )
        async with self._database.reading() as session:
            return (await session.exec(counted)).one()

    async def images_of_generations(self, viewer: Viewer, ids: Sequence[UUID]) -> list[list[Image]]:
        """The pictures that each generation brought, in their order. One query for all."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(GenerationImage.generation_id, Image)
                .join(Image, col(Image.id) == GenerationImage.image_id)
                .where(
                    col(GenerationImage.generation_id).in_(ids),
                    Image.workspace_id == viewer.workspace_id,
                )
                .order_by(col(GenerationImage.position))
            )
            found: dict[UUID, list[Image]] = {}
            for generation_id, image in rows:
                found.setdefault(generation_id, []).append(image)
        return [found.get(id, []) for id in ids]

    async def update_image(
        self, viewer: Viewer, id: UUID, patch: ImagePatch, *, expected_version: int | None
    ) -> Image:
        """Change what the patch names, and nothing else. Raises NotFound, Conflict, Rejected."""
        async with self._database.writing() as session:
            image = await _locked(session, viewer, id)
            check_version("image", image.version, expected_version)
            said = {f.name: getattr(patch, f.name) for f in fields(patch)}
            changes = {name: value for name, value in said.items() if value is not ...}
            if "title" in changes:
                image.title = checked_text("title", changes["title"]) or ""
            if "alt_text" in changes:
                image.alt_text = checked_text("alt_text", changes["alt_text"])
            if "is_favorite" in changes:
                image.is_favorite = bool(changes["is_favorite"])
            if "focal_point" in changes:
                image.focal_x, image.focal_y = _checked_point(changes["focal_point"])
            if "tags" in changes:
                kept = {row.tag: row for row in image.tag_rows}
                names = checked_tags(changes["tags"] or ())
                image.tag_rows = [kept.get(tag) or ImageTag(image_id=id, tag=tag) for tag in names]
            if changes:
                image.search_text = fold(
                    image.filename, image.title, image.alt_text, await _prompt(session, image)
                )
                image.version += 1
                image.updated_at = now()
        return image

    async def delete_image(self, viewer: Viewer, id: UUID, *, force: bool = False) -> None:
        """Delete the picture, its bytes and renditions for good.

        Raises NotFound, and ImageInUse unless forced: then it is detached everywhere first.
        """
        async with self._database.writing() as session:
            image = await _locked(session, viewer, id)
            attachments = (
                await session.exec(
                    select(Attachment)
                    .where(Attachment.image_id == id)
                    # Two deletions lock the contents they share in one order.
                    .order_by(col(Attachment.content_id))
                )
            ).all()
            if attachments and not force:
                raise ImageInUse([attachment.id for attachment in attachments])
            for attachment in attachments:
                await detach(session, attachment)
            await session.flush()
            await session.delete(image)
            await session.flush()
            await self._keeper.doom_image(session, id)
        self._deleted(id)
        try:
            await self._keeper.purge(id)
        except LibraryError as fault:  # the sweep will try again
            log.warning("image.purge_failed image_id=%s reason=%s", id, fault)


async def detach(session: AsyncSession, attachment: Attachment) -> None:
    """Take one image out of its content and close the gap. The content is changed by it."""
    content = await session.get(Content, attachment.content_id, with_for_update=True)
    assert content is not None  # a foreign key says so
    await session.delete(attachment)
    await session.flush()
    await renumber(session, content)


async def renumber(
    session: AsyncSession, content: Content, ordered: Sequence[Attachment] | None = None
) -> None:
    """Give the content's attachments the positions 0, 1, 2 … in their order, or in `ordered`."""
    if ordered is None:
        ordered = (
            await session.exec(
                select(Attachment)
                .where(Attachment.content_id == content.id)
                .order_by(col(Attachment.position))
            )
        ).all()
    for position, attachment in enumerate(ordered):
        attachment.position = position
    content.version += 1
    content.updated_at = now()


async def _locked(session: AsyncSession, viewer: Viewer, id: UUID) -> Image:
    """The viewer's image, which nobody else changes until we are done."""
    image = (
        await session.exec(
            select(Image)
            .where(Image.id == id, Image.workspace_id == viewer.workspace_id)
            .with_for_update()
        )
    ).one_or_none()
    if image is None:
        raise NotFound("image", id)
    return image


async def _prompt(session: AsyncSession, image: Image) -> str | None:
    if image.generation_id is None:
        return None
    generation = await session.get(Generation, image.generation_id)
    return generation.prompt if generation else None


def check_version(what: str, actual: int, expected: int | None) -> None:
    if expected is not None and expected != actual:
        raise Conflict(
            f"The {what} has version {actual} by now, not {expected}. "
            "Read it again and decide anew."
        )


def _checked(new: NewImage) -> NewImage:
    return NewImage(
        filename=checked_text("filename", new.filename),
        title=checked_text("title", new.title),
        alt_text=checked_text("alt_text", new.alt_text),
        tags=checked_tags(new.tags),
        origin=new.origin,
        is_ai_generated=new.is_ai_generated,
        generation_id=new.generation_id,
        prompt=new.prompt,
    )


def _checked_point(point: tuple[float, float] | None) -> tuple[float | None, float | None]:
    if point is None:
        return None, None
    for value in point:
        if not 0 <= value <= 1:
            raise Rejected(
                f"A focal point is 0 to 1 from the top left, not {value:g}.",
                field="focalPoint",
                limit=0 if value < 0 else 1,
                actual=value,
            )
    return point


def checked_text(name: str, text: str | None) -> str | None:
    """The text without what no database keeps. Raises TooLong."""
    if text is None:
        return None
    limit = MAX_LENGTH[name]
    if len(text) > limit:
        raise TooLong(
            f"{name} takes at most {limit} characters, not {len(text)}.",
            field=name,
            limit=limit,
            actual=len(text),
        )
    return text.replace("\0", "")


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Trimmed, each once, in alphabetical order. Raises Rejected."""
    names = sorted({(checked_text("tag", tag) or "").strip() for tag in tags})
    if "" in names:
        raise Rejected("A tag is empty. Leave it out.", field="tags")
    if len(names) > MAX_TAGS:
        raise Rejected(
            f"An image takes at most {MAX_TAGS} tags, not {len(names)}.",
            field="tags",
            limit=MAX_TAGS,
            actual=len(names),
        )
    return names
