"""Derived sizes: made when they are first asked for, kept beside the original, gone with it."""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlmodel import col, select

from storage.database import Database
from storage.errors import NotFound
from storage.keeper import Keeper, Purpose
from storage.models import Image, StoredObject
from storage.objects import ObjectStore
from storage.pictures import fitted, render

MEDIA_TYPES = {"jpg": "image/jpeg", "webp": "image/webp"}
ORIGINAL = "original"
DIGEST = 16  # hexadecimal digits of the SHA-256 that name an image's bytes in a URL


@dataclass(frozen=True, slots=True)
class Rendition:
    """What a rendition will be, told without making it. Width and height are pixels.

    `spec` names it among the image's renditions, as in `640.jpg`.
    """

    spec: str
    width: int
    height: int
    media_type: str

    @classmethod
    def of(cls, image: Image, width: int) -> "Rendition":
        """At most `width` wide and never enlarged. What may be transparent becomes WebP."""
        fit = fitted(image.width, image.height, width)
        extension = "jpg" if image.media_type == "image/jpeg" else "webp"
        return cls(f"{fit[0]}.{extension}", *fit, MEDIA_TYPES[extension])

    @classmethod
    def parse(cls, image: Image, spec: str) -> "Rendition | None":
        """None for what `of` never gives."""
        if not re.fullmatch(r"[1-9][0-9]{0,4}\.(jpg|webp)", spec):
            return None
        rendition = cls.of(image, int(spec.split(".")[0]))
        return rendition if rendition.spec == spec else None


@dataclass(frozen=True, slots=True)
class Served:
    """An object that may be delivered; `etag` stands for exactly its bytes."""

    key: str
    media_type: str
    byte_size: int
    etag: str


class Renditions:
    """Finds, or makes, what a delivery URL names. `threads` bounds how many are made at a time."""

    def __init__(
        self, database: Database, keeper: Keeper, store: ObjectStore, *, threads: int
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._store = store
        self._threads = CapacityLimiter(threads)
        self._making: dict[str, asyncio.Lock] = {}

    async def find(self, image_id: UUID, digest: str, spec: str) -> Served:
        """Raises NotFound: for an image that is gone, or bytes it does not have."""
        async with self._database.reading() as session:
            image = await session.get(Image, image_id)
        if image is None or image.sha256[:DIGEST] != digest:
            raise NotFound("image", image_id)
        if spec == ORIGINAL:
            return Served(image.object_key, image.media_type, image.byte_size, image.sha256)
        rendition = Rendition.parse(image, spec)
        if rendition is None:
            raise NotFound("rendition", spec)
        key = f"images/{image.id}/{image.sha256[:DIGEST]}/{spec}"
        # One render of a key at a time in this process; two in two processes are harmless.
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return await self._kept(key) or await self._make(image, rendition, key)
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    async def preview(self, generation_id: UUID, name: str) -> Served:
        """Raises NotFound, also when the preview has expired."""
        served = await self._kept(f"generations/{generation_id}/{name}")
        if served is None:
            raise NotFound("preview", name)
        return served

    async def _kept(self, key: str) -> Served | None:
        async with self._database.reading() as session:
            row = (
                await session.exec(
                    select(StoredObject).where(
                        StoredObject.key == key, col(StoredObject.state) == "live"
                    )
                )
            ).one_or_none()
        return Served(row.key, row.media_type, row.byte_size, row.sha256) if row else None

    async def _make(self, image: Image, rendition: Rendition, key: str) -> Served:
        original = await self._store.get(image.object_key)
        size = (rendition.width, rendition.height)
        data = await to_thread.run_sync(
            partial(render, original, size, rendition.media_type), limiter=self._threads
        )
        sha256 = hashlib.sha256(data).hexdigest()
        served = Served(key, rendition.media_type, len(data), sha256)
        if await self._keeper.put(
            key,
            data,
            media_type=served.media_type,
            sha256=sha256,
            size=served.byte_size,
            of=Purpose(image.workspace_id, image_id=image.id),
        ):
            async with self._database.writing() as session:
                # No rendition outlives its image: whoever deletes it now waits for us, or has won.
                alive = await session.exec(
                    select(Image.id).where(Image.id == image.id).with_for_update(read=True)
                )
                if alive.one_or_none() is not None:
                    await self._keeper.settle(session, key)
                    return served
            await self._keeper.doom(key)
            raise NotFound("image", image.id)
        return await self._kept(key) or served
