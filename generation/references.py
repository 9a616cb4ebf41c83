"""The library's images that a provider is shown: found, checked, and as files that all can read."""

from base64 import b64decode
from collections.abc import Sequence
from io import BytesIO
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from PIL import Image as Pillow

from generation.provider import REFERENCE_SIDE, InputImage
from storage.errors import NotFound, Rejected
from storage.library import Library
from storage.models import Image
from storage.objects import ObjectStore
from storage.rendering import Fit, Format, Spec, frame, render
from storage.viewers import Viewer

Inputs = tuple[Sequence[InputImage], InputImage | None]

MASK_BYTES = 4_000_000
"""A mask's file has less: OpenAI takes no more."""

HALF = 128  # of an opacity from 0 to 255
AT_ONCE = 2


class References:
    """At most AT_ONCE files are rendered at a time, however many wishes ask for that."""

    def __init__(self, library: Library, store: ObjectStore) -> None:
        self._library = library
        self._store = store
        self._room = CapacityLimiter(AT_ONCE)

    async def look_up(self, viewer: Viewer, ids: Sequence[UUID], mask_id: UUID | None) -> Inputs:
        """The images without their bytes. Raises NotFound, Rejected."""
        images = await self._images(viewer, ids, mask_id)
        if mask_id is not None and _looks_opaque(images[-1]):
            await self._mask(images[-1], REFERENCE_SIDE)
        shown = [InputImage(b"", row.media_type, *_size(row)) for row in images]
        return (shown, None) if mask_id is None else (shown[:-1], shown[-1])

    async def load(
        self, viewer: Viewer, ids: Sequence[UUID], mask_id: UUID | None, *, side: int
    ) -> Inputs:
        """Upright, in sRGB, no side longer than `side` pixels. Raises NotFound, Rejected.

        The mask is a PNG with an alpha channel, and smaller than MASK_BYTES.
        """
        images = await self._images(viewer, ids, mask_id)
        pictures = images if mask_id is None else images[:-1]
        shown = [
            await self._rendered(image, Format.PNG if image.has_alpha else Format.JPEG, side)
            for image in pictures
        ]
        return shown, (None if mask_id is None else await self._mask(images[-1], side))

    async def _images(
        self, viewer: Viewer, ids: Sequence[UUID], mask_id: UUID | None
    ) -> list[Image]:
        wanted = [*ids] if mask_id is None else [*ids, mask_id]
        if not wanted:
            return []
        found = []
        for id, image in zip(wanted, await self._library.images_by_id(viewer, wanted), strict=True):
            if image is None or image.deleted_at is not None:
                raise NotFound("image", id)
            found.append(image)
        if mask_id is not None:
            _check_mask(found[-1], found[0])
        return found

    async def _mask(self, image: Image, side: int) -> InputImage:
        """Raises Rejected where nothing of it is transparent, at that size."""
        rendered = await self._rendered(image, Format.PNG, side)
        file = await to_thread.run_sync(_cut_out, rendered.data, limiter=self._room)
        if file is None:
            raise _no_hole("The mask is opaque everywhere.")
        return InputImage(file, rendered.media_type, rendered.width, rendered.height)

    async def _rendered(self, image: Image, format: Format, side: int) -> InputImage:
        data = await self._store.get(image.object_key)
        spec = Spec(width=side, height=side, fit=Fit.INSIDE, format=format, quality=95)
        (file,) = await to_thread.run_sync(render, data, [spec], limiter=self._room)
        framed = frame(_size(image), spec)
        return InputImage(file, format.media_type, framed.width, framed.height)


def _check_mask(mask: Image, masked: Image) -> None:
    """Raises Rejected, by what is known without the file."""
    if _size(mask) != _size(masked):
        (width, height), (has_width, has_height) = _size(masked), _size(mask)
        raise Rejected(
            f"The mask must be {width} x {height} pixels like the first reference, "
            f"not {has_width} x {has_height}.",
            field="maskImageId",
        )
    if not mask.has_alpha:
        raise _no_hole("The mask has no transparency.")


def _no_hole(fault: str) -> Rejected:
    return Rejected(
        f"{fault} Make a copy of the reference that is transparent where it may change, and upload "
        "that as a PNG.",
        field="maskImageId",
    )


def _looks_opaque(image: Image) -> bool:
    """By its ThumbHash, which may have lost a small hole: then the file decides."""
    return not int.from_bytes(b64decode(image.thumbhash)[:3], "little") >> 23


def _cut_out(file: bytes) -> bytes | None:
    """Its opacity over black, since the colours of a mask say nothing; None for one without holes.

    Where a soft edge takes too many bytes, it becomes a sharp one.
    """
    with Pillow.open(BytesIO(file)) as picture:
        opacity = picture.convert("RGBA").getchannel("A")
    if opacity.getextrema() == (255, 255):
        return None
    written = _png(opacity)
    if len(written) >= MASK_BYTES:
        written = _png(opacity.point(lambda value: 255 if value >= HALF else 0))
    return written


def _png(opacity: Pillow.Image) -> bytes:
    picture = Pillow.new("RGBA", opacity.size)
    picture.putalpha(opacity)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _size(image: Image) -> tuple[int, int]:
    return image.width, image.height
