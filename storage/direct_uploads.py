"""Files that clients send straight to the store: announced first, taken in when they are there.

What is sent lies under a key of its own until the link to it has expired. It is never served: what
is served comes out of the intake, under another key. So what is put there later changes nothing.
"""

import re
import tempfile
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4, uuid5

from sqlalchemy import delete, func, or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import idempotency
from storage.database import Database
from storage.errors import (
    Conflict,
    IdempotencyMismatch,
    NotFound,
    RateLimited,
    Rejected,
    TooLarge,
    UnsupportedMediaType,
)
from storage.failpoints import reach
from storage.inputs import checked_tags, checked_text
from storage.intake import Source, spool
from storage.library import Added, Library, NewImage
from storage.models import DirectUpload, Image, ObjectState, StoredObject, now
from storage.objects import ObjectStore, Target
from storage.viewers import Viewer

MEDIA_TYPES = ("jpeg", "png", "webp", "gif", "avif", "heic", "heif")
KEPT_COMPLETED = timedelta(days=1)
SHA256 = re.compile(r"[0-9a-f]{64}")
LAST_BYTES = timedelta(minutes=15)
"""A transfer that began before its link expired may still go on for so long."""


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A file as it is announced. `sha256` is hexadecimal, and may be unknown."""

    filename: str
    media_type: str
    byte_size: int
    sha256: str | None = None
    title: str | None = None
    alt_text: str | None = None
    tags: tuple[str, ...] = ()


class DirectUploads:
    """`lifetime` is how long a link works, `waiting` how many uploads a workspace may have open."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        library: Library,
        *,
        lifetime: timedelta,
        waiting: int,
        max_bytes: int,
        folder: Path | None,
    ) -> None:
        self._database = database
        self._store = store
        self._library = library
        self._lifetime = lifetime
        self._waiting = waiting
        self._max_bytes = max_bytes
        self._folder = folder

    async def create(
        self, viewer: Viewer, new: NewUpload, *, idempotency_key: str | None = None
    ) -> DirectUpload:
        """Announce a file. Raises Rejected, RateLimited, IdempotencyMismatch."""
        upload = self._checked(viewer, new)
        use = idempotency.Use.of(idempotency_key, "createUpload", new)
        try:
            async with self._database.writing() as session:
                if use and (known := await idempotency.recall(session, viewer, use)):
                    return await _found(session, viewer, known)
                await self._check_room(session, viewer)
                session.add(upload)
                # Named before a byte can come, and kept until none can come any more.
                session.add(
                    StoredObject(
                        key=upload.key,
                        workspace_id=viewer.workspace_id,
                        state=ObjectState.PENDING,
                        media_type=upload.media_type,
                        byte_size=upload.byte_size,
                        sha256=upload.sha256 or "",
                        expires_at=upload.expires_at + LAST_BYTES,
                    )
                )
                if use:
                    await idempotency.remember(session, viewer, use, upload.id)
        except IntegrityError:
            if use is None:
                raise
            async with self._database.reading() as session:  # the same request, sent twice at once
                known = await idempotency.recall(session, viewer, use)
                if known is None:
                    raise IdempotencyMismatch(use.key) from None
                return await _found(session, viewer, known)
        reach("direct_upload.created")
        return upload

    def _checked(self, viewer: Viewer, new: NewUpload) -> DirectUpload:
        kind, _, name = new.media_type.partition("/")
        if kind != "image" or name not in MEDIA_TYPES:
            raise UnsupportedMediaType(
                f"{new.media_type[:64]} is not kept here. Send JPEG, PNG, WebP, GIF, AVIF or HEIC.",
                field="mimeType",
            )
        if not 1 <= new.byte_size <= self._max_bytes:
            raise TooLarge(
                f"A file has 1 to {self._max_bytes:,} bytes, not {new.byte_size:,}.",
                field="byteSize",
                limit=self._max_bytes if new.byte_size > 1 else 1,
                actual=new.byte_size,
            )
        if new.sha256 is not None and not SHA256.fullmatch(new.sha256):
            raise Rejected("sha256 takes 64 hexadecimal digits, a to f small.", field="sha256")
        id = uuid4()
        return DirectUpload(
            id=id,
            workspace_id=viewer.workspace_id,
            key=f"incoming/{id}",
            filename=checked_text("filename", new.filename) or "",
            title=checked_text("title", new.title) or "",
            alt_text=checked_text("alt_text", new.alt_text),
            tags=checked_tags(new.tags),
            media_type=new.media_type,
            byte_size=new.byte_size,
            sha256=new.sha256,
            expires_at=now() + self._lifetime,
        )

    async def _check_room(self, session: AsyncSession, viewer: Viewer) -> None:
        open_ones = select(func.count()).where(
            DirectUpload.workspace_id == viewer.workspace_id,
            col(DirectUpload.image_id).is_(None),
            col(DirectUpload.expires_at) > now(),
        )
        if (await session.exec(open_ones)).one() >= self._waiting:
            raise RateLimited(
                f"{self._waiting} uploads are open already. Complete those first.",
                retry_after=self._lifetime.total_seconds(),
            )

    async def target(self, upload: DirectUpload) -> Target | None:
        """Where its bytes go to; None for a store that leaves that to us (see `receive`)."""
        left = (upload.expires_at - now()).total_seconds()
        return await self._store.target(
            upload.key,
            media_type=upload.media_type,
            size=upload.byte_size,
            sha256=upload.sha256,
            expires_in=max(1, int(left)),
        )

    async def receive(self, id: UUID, source: Source, *, media_type: str) -> None:
        """Take an upload's bytes ourselves: just those that were announced, and once.

        Raises NotFound, TooLarge, Rejected for other bytes, Conflict when they are there already.
        """
        async with self._database.reading() as session:
            upload = await session.get(DirectUpload, id)
        if upload is None or upload.expires_at < now():
            raise NotFound("upload", id)
        if media_type != upload.media_type:
            raise Rejected(
                f"{upload.media_type} was announced: send it as the Content-Type.",
                field="mimeType",
            )
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="incoming-") as name:
            file = Path(name) / "file"
            sha256 = await spool(source, file, max_bytes=upload.byte_size)
            size = file.stat().st_size
            if size != upload.byte_size or upload.sha256 not in (None, sha256):
                raise Rejected(
                    f"{upload.byte_size:,} bytes were announced, and other ones came. "
                    "Send the announced file.",
                    field="byteSize",
                    limit=upload.byte_size,
                    actual=size,
                )
            if not await self._store.put_new(upload.key, file, media_type=upload.media_type):
                raise Conflict("The file is here already. Complete the upload.")
        reach("direct_upload.received")

    async def complete(self, viewer: Viewer, id: UUID) -> Added:
        """Take in what was sent, by the same intake as everything. A repeat gives the same image.

        Raises NotFound (also after its time), Conflict while the bytes are not there, Rejected.
        """
        async with self._database.reading() as session:
            upload = await _found(session, viewer, id)
            if upload.image_id:
                return await self._completed(session, upload)
        try:
            size = await self._store.size(upload.key)
        except NotFound:
            raise Conflict(
                "The file has not arrived. Send it to the upload's target, then complete it."
            ) from None
        if size != upload.byte_size:
            raise Rejected(
                f"{upload.byte_size:,} bytes were announced, and {size:,} came. "
                "Create a new upload for the right ones.",
                field="byteSize",
                limit=upload.byte_size,
                actual=size,
            )
        new = NewImage(upload.filename, upload.title, upload.alt_text, upload.tags)
        async with aclosing(_Stream(self._store, upload.key)) as stream:
            added = await self._library.add_image(
                viewer, stream, new, id=_image_id(upload), sha256=upload.sha256
            )
        reach("direct_upload.kept")
        async with self._database.writing() as session:
            row = await session.get(DirectUpload, id, with_for_update=True)
            if row is not None:
                row.image_id = added.image.id
        if added.image.id == _image_id(upload):  # by us, or by the same request sent twice
            return Added(added.image)
        return added

    async def _completed(self, session: AsyncSession, upload: DirectUpload) -> Added:
        image = await session.get(Image, upload.image_id)
        if image is None:
            raise NotFound("image", upload.image_id)
        return Added(image, duplicate_of=None if image.id == _image_id(upload) else image)

    async def forget_expired(self) -> int:
        """Drop what cannot be completed any more; its bytes are swept. Says how many."""
        async with self._database.writing() as session:
            gone = await session.exec(
                delete(DirectUpload).where(
                    or_(
                        col(DirectUpload.image_id).is_(None)
                        & (col(DirectUpload.expires_at) < now() - LAST_BYTES),
                        col(DirectUpload.expires_at) < now() - KEPT_COMPLETED,
                    )
                )
            )
        return gone.rowcount


class _Stream:
    """An object as a Source, read as it comes."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._chunks = store.stream(key)

    async def read(self, size: int = -1, /) -> bytes:
        return await anext(self._chunks, b"")

    async def aclose(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close:
            await close()


async def _found(session: AsyncSession, viewer: Viewer, id: UUID) -> DirectUpload:
    upload = await session.get(DirectUpload, id)
    if upload is None or upload.workspace_id != viewer.workspace_id:
        raise NotFound("upload", id)
    return upload


def _image_id(upload: DirectUpload) -> UUID:
    """The image's id to be, so that a second try finds what the first one made."""
    return uuid5(upload.id, "image")
