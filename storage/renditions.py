"""Derived sizes: made when they are first asked for, kept beside the original, gone with it."""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlalchemy import func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.errors import NotFound, Rejected
from storage.examination import GRID
from storage.failpoints import reach
from storage.keeper import Keeper, Purpose
from storage.models import Image, ImageVersion, ObjectState, Picture, StoredObject, now
from storage.objects import ObjectStore
from storage.rendering import Fit, Format, Spec, frame, render

ORIGINAL = "original"
AUTO = "auto"
DIGEST = 16  # hexadecimal digits of the SHA-256 that name an image's bytes in a URL
MAX_SIDE = 4096
REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")
MAX_LADDER = 20
QUALITY = {Format.JPEG: 80, Format.WEBP: 80, Format.AVIF: 60, Format.PNG: 100}
ACCEPTED = (Format.AVIF, Format.WEBP)  # for AUTO, the best first; everybody reads JPEG
IN_MEMORY = 1024 * 1024  # bytes of the largest object that is kept in memory

NAME = re.compile(
    r"(?P<width>\d{0,4})x(?P<height>\d{0,4})-(?P<fit>[a-z]+)"
    r"(-f(?P<x>\d{1,4})_(?P<y>\d{1,4}))?(-q(?P<quality>\d{1,3}))?\.(?P<format>[a-z]+)"
)


class ImageFormat(StrEnum):
    """What a rendition is encoded as. AUTO is decided by what the client accepts."""

    AUTO = AUTO
    JPEG = Format.JPEG.value
    WEBP = Format.WEBP.value
    AVIF = Format.AVIF.value
    PNG = Format.PNG.value


@dataclass(frozen=True, slots=True)
class Rendition:
    """A derived size, told without making it. Sides are pixels; None leaves a side to the ratio."""

    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.INSIDE
    format: ImageFormat = ImageFormat.AUTO
    quality: int | None = None
    focal: tuple[int, int] | None = None
    """Thousandths from the top left; only where the fit crops."""

    @classmethod
    def of(
        cls,
        image: Image,
        *,
        width: int | None = None,
        height: int | None = None,
        fit: Fit = Fit.INSIDE,
        format: ImageFormat = ImageFormat.AUTO,
        quality: int | None = None,
    ) -> "Rendition":
        """The rendition of an image, with its focal point. Raises Rejected for what cannot be."""
        _check(width, height, fit, quality)
        if fit is Fit.INSIDE and height is None:
            width = min(width or MAX_SIDE, image.width)  # what is not enlarged is one rendition
        focal = None
        if fit is Fit.COVER and image.focal_x is not None and image.focal_y is not None:
            focal = (round(image.focal_x * 1000), round(image.focal_y * 1000))
        return cls(width, height, fit, format, quality, focal)

    @property
    def name(self) -> str:
        """Its name in URLs and keys, e.g. `1080x1350-cover-f500_300-q80.webp`."""
        focal = f"-f{self.focal[0]}_{self.focal[1]}" if self.focal else ""
        quality = f"-q{self.quality}" if self.quality else ""
        sides = f"{self.width or ''}x{self.height or ''}"
        return f"{sides}-{self.fit}{focal}{quality}.{self.format}"

    @classmethod
    def parse(cls, name: str) -> "Rendition | None":
        """None for what is no name of ours."""
        found = NAME.fullmatch(name)
        if not found:
            return None
        try:
            rendition = cls(
                width=int(found["width"]) if found["width"] else None,
                height=int(found["height"]) if found["height"] else None,
                fit=Fit(found["fit"]),
                format=ImageFormat(found["format"]),
                quality=int(found["quality"]) if found["quality"] else None,
                focal=(int(found["x"]), int(found["y"])) if found["x"] else None,
            )
            _check(rendition.width, rendition.height, rendition.fit, rendition.quality)
        except (ValueError, Rejected):
            return None
        focal = rendition.focal
        if focal and (rendition.fit is not Fit.COVER or max(focal) > 1000):
            return None
        return rendition if rendition.name == name else None

    @property
    def media_type(self) -> str | None:
        """None while AUTO is not decided."""
        if self.format is ImageFormat.AUTO:
            return None
        return Format(self.format.value).media_type

    def size(self, image: Image) -> tuple[int, int]:
        """Pixels, exactly as it will be."""
        return frame((image.width, image.height), self.spec(Format.JPEG)).canvas

    def spec(self, format: Format) -> Spec:
        x, y = self.focal or (500, 500)
        return Spec(
            width=self.width,
            height=self.height,
            fit=self.fit,
            focal=(x / 1000, y / 1000),
            format=format,
            quality=self.quality or QUALITY[format],
        )

    def encoded_for(self, accept: str) -> "Rendition":
        """With AUTO decided by an `Accept` header: the best that it names, else JPEG."""
        if self.format is not ImageFormat.AUTO:
            return self
        named = _accepted(accept)
        best = next((format for format in ACCEPTED if format.media_type in named), Format.JPEG)
        return replace(self, format=ImageFormat(best.value))


def _accepted(accept: str) -> set[str]:
    """The media types that an `Accept` header names, without those that it refuses by `q=0`."""
    named = set()
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if not any(REFUSED.fullmatch(parameter) for parameter in parameters):
            named.add(media_type)
    return named


def _check(width: int | None, height: int | None, fit: Fit, quality: int | None) -> None:
    for name, side in (("width", width), ("height", height)):
        if side is not None and not 1 <= side <= MAX_SIDE:
            raise Rejected(
                f"{name} must be 1 to {MAX_SIDE:,} pixels, not {side}.",
                field=name,
                limit=1 if side < 1 else MAX_SIDE,
                actual=side,
            )
    if width is None and height is None:
        raise Rejected("Give a width, a height, or both.", field="width")
    if fit is not Fit.INSIDE and (width is None or height is None):
        raise Rejected(f"{fit.name} needs width and height.", field="fit")
    if quality is not None and not 1 <= quality <= 100:
        raise Rejected(
            f"quality must be 1 to 100, not {quality}.",
            field="quality",
            limit=1 if quality < 1 else 100,
            actual=quality,
        )


def ladder(image: Image, widths: Sequence[int], format: ImageFormat) -> list[Rendition]:
    """Renditions of these widths, the smallest first; beyond the image's own width, that one.

    Raises Rejected for widths that cannot be, or too many.
    """
    if not 1 <= len(widths) <= MAX_LADDER:
        raise Rejected(
            f"widths takes 1 to {MAX_LADDER} values, not {len(widths)}.",
            field="widths",
            limit=MAX_LADDER,
            actual=len(widths),
        )
    rungs = [Rendition.of(image, width=width, format=format) for width in sorted(set(widths))]
    return list({rung.size(image): rung for rung in reversed(rungs)}.values())[::-1]


def grid_rendition(image_width: int, media_type: str) -> str:
    """The name of the one that every library page shows, made when the image comes in."""
    format = next(each for each in ImageFormat if each.value == media_type.partition("/")[2])
    return Rendition(width=min(GRID, image_width), format=format).name


def prefix_of(image_id: UUID, sha256: str) -> str:
    """What the keys of an image's bytes, and of all their renditions, begin with."""
    return f"images/{image_id}/{sha256[:DIGEST]}"


def rendition_key(image_id: UUID, sha256: str, name: str) -> str:
    return f"{prefix_of(image_id, sha256)}/{name}"


@dataclass(frozen=True, slots=True)
class Served:
    """Bytes that may be delivered; `etag` stands for exactly them. Large ones are only named."""

    key: str
    media_type: str
    byte_size: int
    etag: str
    data: bytes | None = None


class Renditions:
    """Finds, or makes, what a delivery URL names.

    `threads` bounds how many are made at a time, `memory_bytes` what is kept at hand, and `kept`
    how many of an image are stored: further ones are made, served and forgotten. `is_alone` says
    that no other process deletes images, so that what is at hand needs no look at the database.
    """

    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        store: ObjectStore,
        *,
        threads: int,
        memory_bytes: int,
        kept: int,
        is_alone: bool,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._store = store
        self._threads = CapacityLimiter(threads)
        self._kept = kept
        self._is_alone = is_alone
        self._making: dict[str, asyncio.Lock] = {}
        self._at_hand = AtHand(memory_bytes)
        self._changes = 0

    def forget(self, image_id: UUID) -> None:
        """Have nothing of this image at hand any more: it was deleted, restored or replaced."""
        self._changes += 1
        self._at_hand.drop(image_id)

    async def find(
        self, image_id: UUID, digest: str, name: str, *, accept: str = "", in_trash: bool = False
    ) -> Served:
        """Bytes of an image, or of an earlier version of it. Links to what is in the trash are
        links of their own, so that those from before its deletion lead nowhere.

        Raises NotFound: for an image that is gone, or bytes it does not have.
        """
        rendition = None if name == ORIGINAL else Rendition.parse(name)
        if name != ORIGINAL:
            if rendition is None:
                raise NotFound("rendition", name)
            rendition = rendition.encoded_for(accept)
            name = rendition.name
        key = rendition_key(image_id, digest, name)
        place = f"trash/{key}" if in_trash else key
        at_hand = self._at_hand.get(place)
        if at_hand and self._is_alone:
            return at_hand
        changes = self._changes
        async with self._database.reading() as session:
            image = await session.get(Image, image_id)
            picture = await _picture(session, image, digest) if image else None
        if image is None or picture is None or (image.deleted_at is not None) != in_trash:
            self._at_hand.drop(image_id)
            raise NotFound("image", image_id)
        served = at_hand or await self._serve(image, picture, rendition, key)
        if changes == self._changes:  # else it may be gone, and would stay at hand for ever
            self._at_hand.put(place, image_id, served)
        return served

    async def preview(self, generation_id: UUID, name: str) -> Served:
        """Raises NotFound, also when the preview has expired."""
        served = await self._stored(f"generations/{generation_id}/{name}")
        if served is None:
            raise NotFound("preview", name)
        return await self._with_data(served)

    async def _serve(
        self, image: Image, picture: Picture, rendition: Rendition | None, key: str
    ) -> Served:
        if rendition is None:
            original = Served(
                picture.object_key, picture.media_type, picture.byte_size, picture.sha256
            )
            return await self._with_data(original)
        # One render of a key at a time in this process; two in two processes are harmless.
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                stored = await self._stored(key)
                if stored:
                    return await self._with_data(stored)
                return await self._make(image, picture, rendition, key)
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    async def _stored(self, key: str) -> Served | None:
        async with self._database.reading() as session:
            row = (
                await session.exec(
                    select(StoredObject).where(
                        StoredObject.key == key,
                        StoredObject.state == ObjectState.LIVE,
                        or_(
                            col(StoredObject.expires_at).is_(None),
                            col(StoredObject.expires_at) > now(),
                        ),
                    )
                )
            ).one_or_none()
        return Served(row.key, row.media_type, row.byte_size, row.sha256) if row else None

    async def _with_data(self, served: Served) -> Served:
        if served.data is not None or served.byte_size > IN_MEMORY:
            return served
        return replace(served, data=await self._store.get(served.key))

    async def _make(self, image: Image, picture: Picture, rendition: Rendition, key: str) -> Served:
        format = Format(rendition.format.value)
        original = await self._store.get(picture.object_key)
        (data,) = await to_thread.run_sync(
            partial(render, original, [rendition.spec(format)]), limiter=self._threads
        )
        sha256 = hashlib.sha256(data).hexdigest()
        served = Served(key, format.media_type, len(data), sha256, data)
        if await self._count(image.id) >= self._kept:
            return served
        is_new = await self._keeper.put(
            key,
            data,
            media_type=served.media_type,
            sha256=sha256,
            size=served.byte_size,
            of=Purpose(image.workspace_id, image_id=image.id),
        )
        if is_new and not await self._settled(image.id, picture.sha256[:DIGEST], key):
            await self._keeper.doom(key)
            raise NotFound("image", image.id)
        reach("rendition.kept")
        return served

    async def _settled(self, image_id: UUID, digest: str, key: str) -> bool:
        """Make a rendition live, if what it was made of is there: none outlives its bytes.

        Who deletes those now waits for us, or has won.
        """
        async with self._database.writing() as session:
            alive = await session.get(Image, image_id, with_for_update={"read": True})
            if alive is None or await _picture(session, alive, digest) is None:
                return False
            await self._keeper.settle(session, key)
            return True

    async def _count(self, image_id: UUID) -> int:
        async with self._database.reading() as session:
            counted = select(func.count()).where(StoredObject.image_id == image_id)
            return (await session.exec(counted)).one()


async def _picture(session: AsyncSession, image: Image, digest: str) -> Picture | None:
    """The image's bytes of that digest: those that it has, or had before."""
    if image.sha256[:DIGEST] == digest:
        return image
    earlier = await session.exec(
        select(ImageVersion).where(
            ImageVersion.image_id == image.id,
            col(ImageVersion.sha256).startswith(digest, autoescape=True),
        )
    )
    return earlier.first()


class AtHand:
    """Objects in memory, the least recently used going first when there are too many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._served: OrderedDict[str, tuple[UUID, Served]] = OrderedDict()

    def get(self, key: str) -> Served | None:
        found = self._served.get(key)
        if found is None:
            return None
        self._served.move_to_end(key)
        return found[1]

    def put(self, key: str, image_id: UUID, served: Served) -> None:
        if served.data is None or len(served.data) > IN_MEMORY or key in self._served:
            return
        self._served[key] = (image_id, served)
        self._bytes += len(served.data)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._served)))

    def drop(self, image_id: UUID) -> None:
        for key in [key for key, (owner, _) in self._served.items() if owner == image_id]:
            self._remove(key)

    def _remove(self, key: str) -> None:
        _, served = self._served.pop(key)
        self._bytes -= len(served.data or b"")
