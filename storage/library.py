"""The library: the use cases on images, one transaction each."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from anyio import to_thread
from sqlalchemy import or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import facets, idempotency
from storage.changes import Notice, Told, tell_nobody
from storage.database import Database
from storage.errors import Conflict, NotFound
from storage.facets import Count, Facet
from storage.failpoints import reach
from storage.inputs import check_version, checked_point, checked_tags, checked_text
from storage.intake import Arrival, Intake, Source
from storage.inverted import Shelf
from storage.keeper import Keeper, Purpose
from storage.marks import Mark, Seal
from storage.models import (
    Generation,
    GenerationImage,
    Image,
    ImageOrigin,
    ImageTag,
    Picture,
    now,
)
from storage.renditions import grid_rendition, rendition_key
from storage.search import FIELDS, ImageFilter, Page, PageRequest, Search, Sort
from storage.viewers import Viewer
from storage.words import fold, words_of

MAX_TRIES = 5  # of a transaction that others keep from its end

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
}


@dataclass(frozen=True, slots=True)
class NewImage:
    """What is known of a picture beside its bytes.

    `mark` is what its maker says of it, for those who are given the file; an AI picture without
    one counts as made by AI from the first pixel to the last.
    """

    filename: str | None = None
    title: str | None = None
    alt_text: str | None = None
    tags: Sequence[str] = ()
    origin: ImageOrigin = ImageOrigin.UPLOADED
    is_ai_generated: bool = False
    mark: Mark | None = None
    generation_id: UUID | None = None
    parent_id: UUID | None = None
    prompt: str | None = None

    def checked(self) -> "NewImage":
        """Raises Rejected for what cannot be kept."""
        return replace(
            self,
            filename=checked_text("filename", self.filename),
            title=checked_text("title", self.title),
            alt_text=checked_text("alt_text", self.alt_text),
            tags=checked_tags(self.tags),
            is_ai_generated=self.is_ai_generated or self.mark is not None,
            mark=self.mark or (Mark.TRAINED if self.is_ai_generated else None),
        )


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
    """`duplicate_of` had the same bytes before: it is `image` itself, or one in the trash."""

    image: Image
    duplicate_of: Image | None = None

    @property
    def is_duplicate(self) -> bool:
        """Whether nothing was added."""
        return self.duplicate_of is not None and self.duplicate_of.id == self.image.id


class Library:
    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        intake: Intake,
        *,
        seal: Seal | None = None,
        changed: Told = tell_nobody,
    ) -> None:
        """`seal` signs what its maker marks as made by AI, and nothing that just claims to be.

        `changed` is told of every image that came or has other words now.
        """
        self._database = database
        self._keeper = keeper
        self._intake = intake
        self._seal = seal
        self._changed = changed

    async def add_image(
        self,
        viewer: Viewer,
        source: Source | bytes,
        new: NewImage,
        *,
        id: UUID | None = None,
        idempotency_key: str | None = None,
        stands_for: object = None,
        sha256: str | None = None,
    ) -> Added:
        """Take a file in. The same bytes again give back the image that is there.

        `id` is the image's id to be, for a caller that must find it again after a crash.
        `stands_for` is what the idempotency key was given for, where that is not these arguments,
        and `sha256` is what the bytes were announced as. Raises Rejected in its many forms, and
        IdempotencyMismatch.
        """
        checked = new.checked()
        async with self._intake.take(source, sha256=sha256, mark=checked.mark) as arrival:
            use = _use(idempotency_key, stands_for or (arrival.source_sha256, checked))
            async with self._database.reading() as session:
                if earlier := await self._earlier(session, viewer, arrival, use):
                    return earlier
            return await self._keep(viewer, arrival, checked, id or uuid4(), use)

    async def recall(
        self, viewer: Viewer, *, idempotency_key: str | None, stands_for: object
    ) -> Added | None:
        """What an earlier request with this key made. Raises IdempotencyMismatch, NotFound."""
        use = _use(idempotency_key, stands_for)
        if use is None:
            return None
        async with self._database.reading() as session:
            return await _recalled(session, viewer, use)

    async def _earlier(
        self, session: AsyncSession, viewer: Viewer, arrival: Arrival, use: idempotency.Use | None
    ) -> Added | None:
        """The image of an earlier request with this key, or with these bytes."""
        if use and (recalled := await _recalled(session, viewer, use)):
            return recalled
        twin = await twin_of(session, viewer, arrival, in_trash=False)
        return Added(twin, duplicate_of=twin) if twin else None

    async def _keep(
        self, viewer: Viewer, arrival: Arrival, new: NewImage, id: UUID, use: idempotency.Use | None
    ) -> Added:
        if self._seal and new.mark:
            arrival = await to_thread.run_sync(partial(_sealed, arrival, self._seal))
        keys = await store(self._keeper, viewer, arrival, id, new.generation_id)
        try:
            for _ in range(MAX_TRIES):
                try:
                    return await self._insert(viewer, arrival, new, id, use, keys)
                except IntegrityError:
                    # The same bytes, or the same key, came by another request meanwhile.
                    async with self._database.reading() as session:
                        earlier = await self._earlier(session, viewer, arrival, use)
                    if earlier is not None:
                        await self._keeper.doom(*keys)
                        return earlier
                    # It is gone again: now nothing stands in the way.
            raise Conflict("The same picture comes and goes all the time. Send it again.")
        except (Conflict, NotFound):
            await self._keeper.doom(*keys)
            raise

    async def _insert(
        self,
        viewer: Viewer,
        arrival: Arrival,
        new: NewImage,
        id: UUID,
        use: idempotency.Use | None,
        keys: Sequence[str],
    ) -> Added:
        """The row, in the transaction that settles its bytes."""
        image = Image(
            id=id,
            workspace_id=viewer.workspace_id,
            origin=new.origin,
            is_ai_generated=new.is_ai_generated or arrival.shown.declares_ai,
            filename=new.filename or "",
            title=new.title or "",
            alt_text=new.alt_text,
            generation_id=new.generation_id,
            tag_rows=[ImageTag(image_id=id, tag=tag) for tag in new.tags],
            **picture_of(arrival, id),
        )
        async with self._database.writing() as session:
            for key in keys:
                await self._keeper.settle(session, key)
            parent = await session.get(Image, new.parent_id) if new.parent_id else None
            image.parent_id = parent.id if parent else None  # it may be gone
            await _describe(session, image, prompt=new.prompt)
            session.add(image)
            await session.flush()
            if use:
                await idempotency.remember(session, viewer, use, id)
            trashed = await twin_of(session, viewer, arrival, in_trash=True)
            await self._changed(session, [Notice(viewer.workspace_id, id, is_new=True)])
            reach("image.inserted")
        reach("image.kept")
        return Added(image, duplicate_of=trashed)

    async def clean(self, data: bytes, *, mark: Mark | None = None) -> tuple[bytes, str]:
        """A file to be shown and not kept, made clean like any other; and its media type.

        Raises Rejected in its many forms, and RateLimited.
        """
        async with self._intake.take(data, mark=mark) as arrival:
            return await to_thread.run_sync(arrival.clean.read_bytes), arrival.shown.media_type

    async def image(self, viewer: Viewer, id: UUID) -> Image:
        """Raises NotFound."""
        found = (await self.images_by_id(viewer, [id]))[0]
        if found is None:
            raise NotFound("image", id)
        return found

    async def images_by_id(self, viewer: Viewer, ids: Sequence[UUID]) -> list[Image | None]:
        """In the order of `ids`, None for what is not there or not the viewer's.

        What is in the trash is there: its `deleted_at` tells.
        """
        async with self._database.reading() as session:
            rows = await session.exec(
                select(Image).where(
                    col(Image.id).in_(ids), Image.workspace_id == viewer.workspace_id
                )
            )
            found = {image.id: image for image in rows}
        return [found.get(id) for id in ids]

    async def images(
        self,
        viewer: Viewer,
        filter: ImageFilter,
        sort: Sort,
        request: PageRequest,
        fields: Collection[str] = FIELDS,
        *,
        counts: bool = False,
    ) -> Page[Image]:
        """Plain rows, which have the fields that are asked for. Raises Rejected for nonsense.

        The page knows the total if it `counts`, as the database saw it at the same moment.
        """
        shelf = self._shelf(viewer, filter)
        total = facets.total_of(shelf, filter) if counts else None
        search = Search(shelf, filter, sort, fields, total)
        if probe := search.probe():
            [probed] = await self._database.fetch(probe)
            search = search.knowing(probed)
        rows = await self._database.fetch(search.statement(request))
        page = search.page(rows, request)
        if counts and page.total is None:  # it lies beyond all images, so no row brought it
            page = replace(page, total=await self.count_images(viewer, filter))
        return page

    async def count_images(self, viewer: Viewer, filter: ImageFilter) -> int:
        """How many match, exactly. Raises Rejected, as `images` does."""
        return await facets.total(self._database, self._shelf(viewer, filter), filter)

    async def count_by(self, facet: Facet, viewer: Viewer, filter: ImageFilter) -> list[Count]:
        """How many match of each kind, see `storage.facets`. Raises Rejected, as `images` does."""
        return await facet(self._database, self._shelf(viewer, filter), filter)

    def _shelf(self, viewer: Viewer, filter: ImageFilter) -> Shelf:
        return Shelf(
            viewer.workspace_id, in_trash=filter.is_deleted, is_sqlite=self._database.is_sqlite
        )

    async def images_of_generations(self, viewer: Viewer, ids: Sequence[UUID]) -> list[list[Image]]:
        """The pictures that each generation brought, in their order, without those in the trash.

        One query for all.
        """
        async with self._database.reading() as session:
            rows = await session.exec(
                select(GenerationImage.generation_id, Image)
                .join(Image, col(Image.id) == GenerationImage.image_id)
                .where(
                    col(GenerationImage.generation_id).in_(ids),
                    Image.workspace_id == viewer.workspace_id,
                    col(Image.deleted_at).is_(None),
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
            image = await locked(session, viewer, id)
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
                image.focal_x, image.focal_y = checked_point(changes["focal_point"])
            if "tags" in changes:
                kept = {row.tag: row for row in image.tag_rows}
                names = checked_tags(changes["tags"] or ())
                image.tag_rows = [kept.get(tag) or ImageTag(image_id=id, tag=tag) for tag in names]
            if changes:
                await touch(session, image)
            await self._changed(session, [Notice(viewer.workspace_id, id)])
        return image


def _original_key(arrival: Arrival, id: UUID) -> str:
    return f"images/{id}/{arrival.shown.sha256}.{EXTENSIONS[arrival.shown.media_type]}"


def _sealed(arrival: Arrival, seal: Seal) -> Arrival:
    """The arrival with its two files signed: its clean file is another one from now on.

    A manifest that it came with is kept within ours.
    """
    shown = arrival.shown
    if shown.mark is None:
        return arrival
    parent = None
    if shown.has_c2pa:
        parent = arrival.source.read_bytes(), shown.source_media_type
    clean = seal(arrival.clean.read_bytes(), shown.media_type, shown.mark, parent=parent)
    grid = seal(arrival.grid.read_bytes(), shown.grid_media_type, shown.mark, dated=False)
    arrival.clean.write_bytes(clean)
    arrival.grid.write_bytes(grid)
    sha256 = hashlib.sha256(clean).hexdigest()
    return replace(arrival, shown=replace(shown, byte_size=len(clean), sha256=sha256))


async def store(
    keeper: Keeper, viewer: Viewer, arrival: Arrival, id: UUID, generation_id: UUID | None = None
) -> tuple[str, str]:
    """Write the clean file and its grid rendition, and give their keys, to be settled."""
    shown = arrival.shown
    key = _original_key(arrival, id)
    await keeper.put(
        key,
        arrival.clean,
        media_type=shown.media_type,
        sha256=shown.sha256,
        size=shown.byte_size,
        of=Purpose(viewer.workspace_id, image_id=id, generation_id=generation_id),
    )
    grid_name = grid_rendition(shown.width, shown.grid_media_type)
    grid_key = rendition_key(id, shown.sha256, grid_name)
    grid = await to_thread.run_sync(arrival.grid.read_bytes)
    await keeper.put(
        grid_key,
        grid,
        media_type=shown.grid_media_type,
        sha256=hashlib.sha256(grid).hexdigest(),
        size=len(grid),
        of=Purpose(viewer.workspace_id, image_id=id),
    )
    return key, grid_key


def picture_of(arrival: Arrival, id: UUID) -> dict[str, Any]:
    """The columns of a Picture, for bytes that become an image's."""
    shown = arrival.shown
    known = {name: getattr(shown, name) for name in Picture.model_fields if hasattr(shown, name)}
    return known | {
        "source_sha256": arrival.source_sha256,
        "object_key": _original_key(arrival, id),
    }


def _use(key: str | None, stands_for: object) -> idempotency.Use | None:
    return idempotency.Use.of(key, "uploadImage", stands_for)


async def _recalled(session: AsyncSession, viewer: Viewer, use: idempotency.Use) -> Added | None:
    subject_id = await idempotency.recall(session, viewer, use)
    if subject_id is None:
        return None
    image = await session.get(Image, subject_id)
    if image is None:
        raise NotFound("image", subject_id)
    return Added(image)


def is_picture_of(image: Image, arrival: Arrival) -> bool:
    """Whether the image has these very bytes, sent or clean.

    A clean file is not what it was before once it is sealed, so what was sent is compared as well.
    """
    return arrival.shown.sha256 == image.sha256 or arrival.source_sha256 in (
        image.sha256,
        image.source_sha256,
    )


async def twin_of(
    session: AsyncSession, viewer: Viewer, arrival: Arrival, *, in_trash: bool
) -> Image | None:
    """The viewer's oldest image that `is_picture_of` the arrival, in the trash or not."""
    same = select(Image).where(
        Image.workspace_id == viewer.workspace_id,
        col(Image.deleted_at).is_not(None) if in_trash else col(Image.deleted_at).is_(None),
        or_(
            col(Image.sha256) == arrival.shown.sha256,
            col(Image.sha256) == arrival.source_sha256,
            col(Image.source_sha256) == arrival.source_sha256,
        ),
    )
    return (await session.exec(same.order_by(col(Image.created_at)))).first()


async def locked(session: AsyncSession, viewer: Viewer, id: UUID) -> Image:
    """The viewer's image, which nobody else changes until we are done. Raises NotFound."""
    image = (
        await session.exec(
            select(Image)
            .where(Image.id == id, Image.workspace_id == viewer.workspace_id)
            .with_for_update(key_share=True)
        )
    ).one_or_none()
    if image is None:
        raise NotFound("image", id)
    return image


async def touch(session: AsyncSession, image: Image) -> None:
    """The row has changed: tell it by its version, and find it by its new words."""
    await _describe(session, image)
    image.version += 1
    image.updated_at = now()


async def _describe(session: AsyncSession, image: Image, *, prompt: str | None = None) -> None:
    """Set what the image is found by, from what is known of it."""
    generation = await session.get(Generation, image.generation_id) if image.generation_id else None
    if generation is not None:
        image.provider, image.model = generation.provider, generation.model
        prompt = prompt or generation.prompt
    image.folded_filename = fold(image.filename)
    image.name_text = " ".join(words_of(image.filename, image.title, *image.tags))
    image.search_text = " ".join(words_of(image.alt_text, prompt))
