"""Derived sizes: made when they are first asked for, kept beside the original, gone with it."""

import asyncio
import hashlib
import os
import re
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlalchemy import func, or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.containers import is_sealed
from storage.database import Database, insert_once
from storage.errors import Conflict, NotFound, Rejected
from storage.examination import GRID
from storage.failpoints import reach
from storage.keeper import Keeper, Purpose
from storage.marks import Mark, Seal
from storage.models import Image, ImageVersion, ObjectState, Picture, StoredObject, now
from storage.objects import ObjectStore
from storage.objects.local import LocalObjectStore
from storage.rendering import Fit, Format, Spec, frame, mark_of, render

ORIGINAL = "original"
AUTO = "auto"
TRASH = "trash/"
DIGEST = 16  # hexadecimal digits of the SHA-256 that name an image's bytes in a URL
MAX_SIDE = 4096
REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")
MAX_LADDER = 20
QUALITY = {Format.JPEG: 80, Format.WEBP: 80, Format.AVIF: 60, Format.PNG: 100}
ACCEPTED = (Format.AVIF, Format.WEBP)  # for AUTO, the best first; everybody reads JPEG
IN_MEMORY = 1024 * 1024  # bytes of the largest object that is kept in memory
NAMED = 10_000  # objects that are known without their bytes; 5 MB of memory

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


def place_of(image_id: UUID, digest: str, name: str, *, accept: str, in_trash: bool) -> str:
    """Where an object is found; the same for all names that come to the same bytes.

    Raises NotFound for what is no name of ours.
    """
    if name != ORIGINAL:
        rendition = Rendition.parse(name)
        if rendition is None:
            raise NotFound("rendition", name)
        name = rendition.encoded_for(accept).name
    key = rendition_key(image_id, digest, name)
    return f"{TRASH}{key}" if in_trash else key


@dataclass(frozen=True, slots=True)
class Served:
    """Bytes that may be delivered; `etag` stands for exactly them. Large ones are only named.

    What is not `kept` cannot be read from the store again.
    """

    key: str
    media_type: str
    byte_size: int
    etag: str
    data: bytes | None = None
    kept: bool = True


class Renditions:
    """Finds, or makes, what a delivery URL names.

    `threads` bounds how many are made at a time, `memory_bytes` what is kept at hand, and `kept`
    how many of an image are stored: further ones are made, served and forgotten. `is_alone` says
    that no other process deletes images, so that what is at hand needs no look at the database.
    `seal` signs the renditions of originals that are signed.
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
        seal: Seal | None = None,
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._store = store
        self._folder = str(store.root) if isinstance(store, LocalObjectStore) else None
        self._threads = CapacityLimiter(threads)
        self._kept = kept
        self._is_alone = is_alone
        self._seal = seal
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
        place = place_of(image_id, digest, name, accept=accept, in_trash=in_trash)
        known = self._at_hand.get(place)
        if known and self._is_alone and (served := await self._again(place, known)):
            return served
        changes = self._changes
        async with self._database.reading() as session:
            image = await session.get(Image, image_id)
            picture = await _picture(session, image, digest) if image else None
        if image is None or picture is None or (image.deleted_at is not None) != in_trash:
            self._at_hand.drop(image_id)
            raise NotFound("image", image_id)
        served = await self._again(place, known) if known else None
        if served is None:
            served = await self._serve(image, picture, place.removeprefix(TRASH))
        if changes == self._changes:  # else it may be gone, and would stay at hand for ever
            self._at_hand.put(place, image_id, served)
        return served

    def at_hand(self, place: str) -> Served | None:
        """What `find` found at that place before, with its bytes. None to have it look once more.

        Asks nobody and waits for nothing, and so only where no other process deletes images.
        """
        known = self._at_hand.get(place) if self._is_alone else None
        if known is None or known.data is not None:
            return known
        data = self._read_at_once(known)
        if data is None:
            return None
        served = replace(known, data=data)
        self._at_hand.hold(place, served)
        return served

    async def _again(self, place: str, known: Served) -> Served | None:
        """None if the bytes are there no more."""
        try:
            served = await self._with_data(known)
        except NotFound:
            return None
        self._at_hand.hold(place, served)
        return served

    async def preview(self, generation_id: UUID, name: str) -> Served:
        """Raises NotFound, also when the preview has expired."""
        served = await self._stored(f"generations/{generation_id}/{name}")
        if served is None:
            raise NotFound("preview", name)
        return await self._with_data(served)

    async def _serve(self, image: Image, picture: Picture, key: str) -> Served:
        rendition = Rendition.parse(key.rpartition("/")[2])
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
        data = self._read_at_once(served)
        return replace(served, data=await self._store.get(served.key) if data is None else data)

    def _read_at_once(self, served: Served) -> bytes | None:
        """The bytes, if they are in a file that the system holds in memory."""
        if self._folder is None or served.byte_size > IN_MEMORY:
            return None
        return _cached(f"{self._folder}/{served.key}", served.byte_size)

    async def _make(self, image: Image, picture: Picture, rendition: Rendition, key: str) -> Served:
        format = Format(rendition.format.value)
        original = await self._store.get(picture.object_key)
        # Of an earlier version only its file tells: what came later may be the first that AI made.
        is_ai = image.is_ai_generated if picture is image else picture.declares_ai
        mark = Mark.TRAINED if is_ai else None
        data, sealed = await to_thread.run_sync(
            partial(self._drawn, original, rendition.spec(format), mark), limiter=self._threads
        )
        sha256 = hashlib.sha256(data).hexdigest()
        served = Served(key, format.media_type, len(data), sha256, data)
        if await self._count(image.id) >= self._kept:
            return replace(served, kept=False)
        if sealed and not await self._claims(image, served):
            stored = await self._stored(key)
            return await self._with_data(stored) if stored else replace(served, kept=False)
        try:
            is_new = await self._keeper.put(
                key,
                data,
                media_type=served.media_type,
                sha256=sha256,
                size=served.byte_size,
                of=Purpose(image.workspace_id, image_id=image.id),
            )
        except Conflict:  # one of this name is being deleted
            return replace(served, kept=False)
        if is_new and not await self._settled(image.id, picture.sha256[:DIGEST], key):
            await self._keeper.doom(key)
            raise NotFound("image", image.id)
        reach("rendition.kept")
        return served

    def _drawn(self, original: bytes, spec: Spec, mark: Mark | None) -> tuple[bytes, bool]:
        """The rendition, and whether it is signed. In a thread."""
        (data,) = render(original, [spec], mark)
        if self._seal is None or not is_sealed(original):
            return data, False
        said = mark_of(data)
        if said is None:
            return data, False
        # What can be made anew need not prove its time: nobody waits for an authority to answer.
        return self._seal(data, spec.format.media_type, said, dated=False), True

    async def _claims(self, image: Image, served: Served) -> bool:
        """Name the object, unless somebody has: no two seals are alike, so only one may be written.

        What a crash leaves named is swept; until then the rendition is made for each who asks.
        """
        row = StoredObject(
            key=served.key,
            workspace_id=image.workspace_id,
            state=ObjectState.PENDING,
            media_type=served.media_type,
            byte_size=served.byte_size,
            sha256=served.etag,
            image_id=image.id,
        )
        async with self._database.writing() as session:
            return await insert_once(session, row)

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


def _cached(path: str, size: int) -> bytes | None:
    """A file's bytes, where the system has them in memory. None if not, or where that is unknown.

    Handing such a file to a thread and back takes thirty times as long as reading it. What has to
    come from the disk does not hold up the caller: Linux refuses it (preadv2's RWF_NOWAIT).
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    data = bytearray(size)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            read = os.preadv(handle, [data], 0, os.RWF_NOWAIT)
        finally:
            os.close(handle)
    except OSError:
        return None
    return bytes(data) if read == size else None


class AtHand:
    """What was served before: its name, and its bytes while there is room for them.

    The least recently used go first, when there are more bytes, or names, than may be.
    """

    def __init__(self, max_bytes: int, max_names: int = NAMED) -> None:
        self._max_bytes = max_bytes
        self._max_names = max_names
        self._bytes = 0
        self._named: OrderedDict[str, tuple[UUID, Served]] = OrderedDict()
        self._held: OrderedDict[str, None] = OrderedDict()  # those with their bytes
        self._owned: defaultdict[UUID, set[str]] = defaultdict(set)

    def get(self, key: str) -> Served | None:
        found = self._named.get(key)
        if found is None:
            return None
        self._named.move_to_end(key)
        if key in self._held:
            self._held.move_to_end(key)
        return found[1]

    def put(self, key: str, image_id: UUID, served: Served) -> None:
        self._remove(key)
        self._named[key] = (image_id, replace(served, data=None))
        self._owned[image_id].add(key)
        self.hold(key, served)
        if not served.kept and key not in self._held:
            self._remove(key)
        if len(self._named) > self._max_names:
            self._remove(next(iter(self._named)))

    def hold(self, key: str, served: Served) -> None:
        """The bytes of what is named."""
        found = self._named.get(key)
        data = served.data
        if found is None or found[1].etag != served.etag or data is None or key in self._held:
            return
        if len(data) > min(IN_MEMORY, self._max_bytes):
            return
        self._named[key] = (found[0], served)
        self._held[key] = None
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            self._let_go(next(iter(self._held)))

    def drop(self, image_id: UUID) -> None:
        for key in list(self._owned.get(image_id, ())):
            self._remove(key)

    def _let_go(self, key: str) -> None:
        """Of the bytes. What cannot be read again is forgotten altogether."""
        image_id, served = self._named[key]
        if not served.kept:
            self._remove(key)
            return
        del self._held[key]
        self._bytes -= len(served.data or b"")
        self._named[key] = (image_id, replace(served, data=None))

    def _remove(self, key: str) -> None:
        if key not in self._named:
            return
        image_id, served = self._named.pop(key)
        if key in self._held:
            del self._held[key]
            self._bytes -= len(served.data or b"")
        self._owned[image_id].discard(key)
        if not self._owned[image_id]:
            del self._owned[image_id]
