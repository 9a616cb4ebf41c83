"""The library's images that a provider is shown: found, checked, and as files that all can read."""

from collections.abc import Sequence
from uuid import UUID

from anyio import to_thread

from generation.provider import InputImage
from storage.errors import NotFound, Rejected
from storage.library import Library
from storage.models import Image
from storage.objects import ObjectStore
from storage.rendering import Fit, Format, Spec, frame, render
from storage.viewers import Viewer

Inputs = tuple[Sequence[InputImage], InputImage | None]


class References:
    def __init__(self, library: Library, store: ObjectStore) -> None:
        self._library = library
        self._store = store

    async def look_up(self, viewer: Viewer, ids: Sequence[UUID], mask_id: UUID | None) -> Inputs:
        """The images without their bytes. Raises NotFound, Rejected."""
        images = await self._images(viewer, ids, mask_id)
        shown = [InputImage(b"", row.media_type, *_size(row)) for row in images]
        return (shown, None) if mask_id is None else (shown[:-1], shown[-1])

    async def load(
        self, viewer: Viewer, ids: Sequence[UUID], mask_id: UUID | None, *, side: int
    ) -> Inputs:
        """Upright, in sRGB, no side longer than `side` pixels. Raises NotFound, Rejected."""
        images = await self._images(viewer, ids, mask_id)
        with_alpha = [image.has_alpha or mask_id is not None for image in images]
        shown = [
            await self._rendered(image, Format.PNG if alpha else Format.JPEG, side)
            for image, alpha in zip(images, with_alpha, strict=True)
        ]
        return (shown, None) if mask_id is None else (shown[:-1], shown[-1])

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
        if mask_id is not None and _size(found[-1]) != _size(found[0]):
            (width, height), (has_width, has_height) = _size(found[0]), _size(found[-1])
            raise Rejected(
                f"The mask must be {width} x {height} pixels like the first reference, "
                f"not {has_width} x {has_height}.",
                field="maskImageId",
            )
        return found

    async def _rendered(self, image: Image, format: Format, side: int) -> InputImage:
        data = await self._store.get(image.object_key)
        spec = Spec(width=side, height=side, fit=Fit.INSIDE, format=format, quality=95)
        (file,) = await to_thread.run_sync(render, data, [spec])
        framed = frame(_size(image), spec)
        return InputImage(file, format.media_type, framed.width, framed.height)


def _size(image: Image) -> tuple[int, int]:
    return image.width, image.height
