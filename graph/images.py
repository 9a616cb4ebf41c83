"""Images: what a picture is, how it is shown, and what can be changed of it."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, Optional
from uuid import UUID

import strawberry
from strawberry import relay
from strawberry.types import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info
from graph.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    mutation,
)
from graph.ids import uuid_of
from graph.pages import After, First, page_request
from storage import models, renditions, search
from storage.errors import Rejected
from storage.library import ImagePatch
from storage.models import ImageOrigin, Orientation
from storage.rendering import Fit
from storage.renditions import MAX_SIDE, ImageFormat

if TYPE_CHECKING:
    from graph.contents import AttachmentConnection
    from graph.generations import Generation

SRCSET = (320, 640, 1080, 1440)
MIN_EXPIRY, MAX_EXPIRY = 60, 86_400
EXPIRES_IN = 3600

ExpiresIn = Annotated[
    int,
    strawberry.argument(
        description=f"For how many seconds the URL must work, {MIN_EXPIRY} to {MAX_EXPIRY:,}."
    ),
]


@strawberry.type(description="A derived size of an image.")
class Rendition:
    url: str = strawberry.field(description="Where to get it: signed, so anyone who has it may.")
    width: int = strawberry.field(description="Pixels.")
    height: int = strawberry.field(description="Pixels.")
    mime_type: str | None = strawberry.field(
        description="What it is encoded as; null for AUTO, which the browser's `Accept` decides."
    )

    @classmethod
    def of(
        cls, image: models.Image, rendition: renditions.Rendition, info: Info, expires_in: int
    ) -> "Rendition":
        width, height = rendition.size(image)
        return cls(
            url=info.context.urls.rendition(image, rendition, expires_in),
            width=width,
            height=height,
            mime_type=rendition.media_type,
        )


@strawberry.type(description="What matters most in a picture: 0 to 1 from its top left corner.")
class FocalPoint:
    x: float = strawberry.field(description="0 is the left edge, as displayed; 1 the right.")
    y: float = strawberry.field(description="0 is the upper edge, as displayed; 1 the lower.")


@strawberry.type(description="A picture in the library, uploaded or generated.")
class Image(relay.Node):
    """Its plain fields have the names that they have in a row. See `ROW_FIELDS` for the others."""

    row: strawberry.Private[models.Image]
    id: relay.NodeID[UUID]
    version: int = strawberry.field(
        description="Grows with every change; give it as `expectedVersion` to change safely."
    )
    origin: ImageOrigin = strawberry.field(description="How it came into the library.")
    is_ai_generated: bool = strawberry.field(description="Whether an AI model made it.")
    title: str = strawberry.field(description="What people call it; may be empty.")
    alt_text: str | None = strawberry.field(
        description="What it shows, for those who cannot see it."
    )
    is_favorite: bool = strawberry.field(description="Whether it is marked as a favourite.")
    media_type: str = strawberry.field(
        name="mimeType", description="What the bytes are, e.g. `image/jpeg`."
    )
    byte_size: int = strawberry.field(description="The size of the file in bytes.")
    sha256: str = strawberry.field(description="The SHA-256 of the file, hexadecimal.")
    width: int = strawberry.field(description="Pixels, as displayed.")
    height: int = strawberry.field(description="Pixels, as displayed.")
    dominant_color: str = strawberry.field(description="Its main colour, as `#rrggbb`.")
    thumbhash: str = strawberry.field(
        description="A blurred impression of it, in base64, to show while it loads. "
        "See https://evanw.github.io/thumbhash/."
    )
    perceptual_hash: str = strawberry.field(
        description="16 hexadecimal digits. Of pictures that look alike few of the 64 bits differ."
    )
    frames: int = strawberry.field(description="How many there are; more than 1 in an animation.")
    source_media_type: str = strawberry.field(
        name="sourceMimeType",
        description="What was sent. HEIC is kept as JPEG, as browsers do not show it.",
    )
    declares_ai: bool = strawberry.field(
        description="Whether the file came with an IPTC mark that says an AI model made it."
    )
    has_c2pa: bool = strawberry.field(
        name="hadContentCredentials",
        description="Whether the file came with Content Credentials (C2PA), which the kept file "
        "has not any more.",
    )
    created_at: datetime = strawberry.field(description="When it came into the library.")
    updated_at: datetime = strawberry.field(description="When it last changed.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was put into the trash; null for an image in the library."
    )

    @classmethod
    def from_row(cls, row: models.Image) -> "Image":
        """Without its constructor, which takes ten times as long: a page has up to a hundred."""
        image = cls.__new__(cls)
        image.__dict__.update(vars(row), row=row)
        return image

    @strawberry.field(description="The name of the uploaded file.")
    def filename(self) -> str | None:
        return self.row.filename or None

    @strawberry.field(description="In alphabetical order.")
    def tags(self) -> list[str]:
        return self.row.tags

    @strawberry.field(description="Its shape, as displayed.")
    def orientation(self) -> Orientation:
        return search.orientation(self.row.width, self.row.height)

    @strawberry.field(description="What to keep in sight when it is cropped; null for the middle.")
    def focal_point(self) -> FocalPoint | None:
        if self.row.focal_x is None or self.row.focal_y is None:
            return None
        return FocalPoint(x=self.row.focal_x, y=self.row.focal_y)

    @strawberry.field(description="Where to get the file itself: signed, so anyone who has it may.")
    def url(self, info: Info, expires_in: ExpiresIn = EXPIRES_IN) -> str:
        return info.context.urls.original(self.row, _expiry(expires_in))

    @strawberry.field(
        description="A derived size: told at once, made when it is first fetched. Give a width, "
        "a height or both; it is never enlarged, unless PAD asks for the frame."
    )
    def rendition(
        self,
        info: Info,
        width: Annotated[
            int | None, strawberry.argument(description=f"Pixels, 1 to {MAX_SIDE:,}.")
        ] = None,
        height: Annotated[
            int | None, strawberry.argument(description=f"Pixels, 1 to {MAX_SIDE:,}.")
        ] = None,
        fit: Annotated[
            Fit, strawberry.argument(description="How it fills width and height.")
        ] = Fit.INSIDE,
        format: Annotated[
            ImageFormat, strawberry.argument(description="What it is encoded as.")
        ] = ImageFormat.AUTO,
        quality: Annotated[
            int | None,
            strawberry.argument(description="1 to 100. Default: what suits the format."),
        ] = None,
        expires_in: ExpiresIn = EXPIRES_IN,
    ) -> Rendition:
        rendition = renditions.Rendition.of(
            self.row, width=width, height=height, fit=fit, format=format, quality=quality
        )
        return Rendition.of(self.row, rendition, info, _expiry(expires_in))

    @strawberry.field(
        description="The `srcset` of an HTML image: these widths as far as the image has them, and "
        "its own where it has not."
    )
    def srcset(
        self,
        info: Info,
        widths: Annotated[
            list[int] | None,
            strawberry.argument(description="Pixels, at most 20. Default: 320, 640, 1080, 1440."),
        ] = None,
        format: Annotated[
            ImageFormat, strawberry.argument(description="What they are encoded as.")
        ] = ImageFormat.AUTO,
        expires_in: ExpiresIn = EXPIRES_IN,
    ) -> str:
        made = (
            Rendition.of(self.row, each, info, _expiry(expires_in))
            for each in renditions.ladder(self.row, SRCSET if widths is None else widths, format)
        )
        return ", ".join(f"{rendition.url} {rendition.width}w" for rendition in made)

    @strawberry.field(description="The recipe, when the origin is GENERATED.")
    async def generation(
        self, info: Info
    ) -> Annotated["Generation", strawberry.lazy("graph.generations")] | None:
        from graph.generations import Generation

        if self.row.generation_id is None:
            return None
        row = await info.context.generation.load(self.row.generation_id)
        return Generation.from_row(row) if row else None

    @strawberry.field(description="The image that it was made from, while that is there.")
    async def parent(self, info: Info) -> Optional["Image"]:
        if self.row.parent_id is None:
            return None
        row = await info.context.image.load(self.row.parent_id)
        return Image.from_row(row) if row else None

    @strawberry.field(description="The bytes that it had before they were replaced, newest first.")
    async def versions(self, info: Info, first: First = None) -> list["ImageVersion"]:
        size = page_request(first, None).size
        rows = await info.context.versions_of_image.load(self.id)
        return [ImageVersion.of(self.row, row, info) for row in rows[:size]]

    @strawberry.field(description="Where it is attached, page by page, the oldest place first.")
    async def usages(
        self, info: Info, first: First = None, after: After = None
    ) -> Annotated["AttachmentConnection", strawberry.lazy("graph.contents")]:
        from graph.contents import AttachmentConnection

        key = (self.id, page_request(first, after))
        return AttachmentConnection.of(await info.context.usages_of_image.load(key))


PLACE = ("id", "sha256", "deleted_at")
SIZES = (*PLACE, "media_type", "width", "height", "focal_x", "focal_y")
ROW_FIELDS: Final[Mapping[str, Collection[str]]] = {
    "__typename": (),
    "focalPoint": ("focal_x", "focal_y"),
    "generation": ("generation_id",),
    "id": ("id",),
    "orientation": ("width", "height"),
    "parent": ("parent_id",),
    "rendition": SIZES,
    "srcset": SIZES,
    "url": SIZES,
    "usages": ("id",),
    "versions": PLACE,
}
"""What the fields of an image need of its row that is not what they are called themselves."""


def row_fields(names: Iterable[str]) -> frozenset[str]:
    """What the fields with these GraphQL names need of an image's row."""
    fields = _row_fields()
    return frozenset(each for name in names for each in fields[name])


@cache
def _row_fields() -> Mapping[str, Collection[str]]:
    definition = get_object_definition(Image, strict=True)
    plain: dict[str, Collection[str]] = {
        field.graphql_name or to_camel_case(field.python_name): (field.python_name,)
        for field in definition.fields
    }
    return {**plain, **ROW_FIELDS}


@strawberry.type(description="An earlier file of an image.")
class ImageVersion:
    url: str = strawberry.field(description="Where to get it: signed, so anyone who has it may.")
    width: int = strawberry.field(description="Pixels, as displayed.")
    height: int = strawberry.field(description="Pixels, as displayed.")
    mime_type: str = strawberry.field(description="What the bytes are, e.g. `image/jpeg`.")
    byte_size: int = strawberry.field(description="The size of the file in bytes.")
    sha256: str = strawberry.field(description="The SHA-256 of the file, hexadecimal.")
    replaced_at: datetime = strawberry.field(description="When the image got another file.")

    @classmethod
    def of(cls, image: models.Image, row: models.ImageVersion, info: Info) -> "ImageVersion":
        return cls(
            url=info.context.urls.version(image, row, EXPIRES_IN),
            width=row.width,
            height=row.height,
            mime_type=row.media_type,
            byte_size=row.byte_size,
            sha256=row.sha256,
            replaced_at=row.replaced_at,
        )


def _expiry(seconds: int) -> int:
    if not MIN_EXPIRY <= seconds <= MAX_EXPIRY:
        raise Rejected(
            f"expiresIn must be {MIN_EXPIRY} to {MAX_EXPIRY:,} seconds, not {seconds}.",
            field="expires_in",
            limit=MIN_EXPIRY if seconds < MIN_EXPIRY else MAX_EXPIRY,
            actual=seconds,
        )
    return seconds


# ---- what can be changed -------------------------------------------------------------------------


UpdateImageError = Annotated[
    InvalidInputError | NotFoundError | ConflictError | UnavailableError,
    strawberry.union("UpdateImageError", description="Why an image was not changed."),
]


@strawberry.input(description="What matters most in a picture: 0 to 1 from its top left corner.")
class FocalPointInput:
    x: float = strawberry.field(description="0 is the left edge, as displayed; 1 the right.")
    y: float = strawberry.field(description="0 is the upper edge, as displayed; 1 the lower.")


@strawberry.input(description="What to change. A field that is left out stays as it is.")
class UpdateImageInput:
    title: strawberry.Maybe[str | None] = strawberry.field(
        default=None, description="Null empties it."
    )
    alt_text: strawberry.Maybe[str | None] = strawberry.field(
        default=None, description="Null removes it."
    )
    tags: strawberry.Maybe[list[str] | None] = strawberry.field(
        default=None, description="All of the new tags; null removes them."
    )
    is_favorite: strawberry.Maybe[bool] = strawberry.field(
        default=None, description="Mark it as a favourite, or take the mark away."
    )
    focal_point: strawberry.Maybe[FocalPointInput | None] = strawberry.field(
        default=None, description="What to keep in sight when it is cropped; null for the middle."
    )


@strawberry.type(description="The image as it is now.")
class UpdateImagePayload:
    image: Image | None = strawberry.field(default=None, description="The changed image.")
    errors: list[UpdateImageError] = strawberry.field(
        default_factory=list, description="Why nothing changed; empty when it did."
    )


@strawberry.type
class ImageMutations:
    @mutation("Change what is known of an image.")
    async def update_image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The image's id.")],
        patch: Annotated[UpdateImageInput, strawberry.argument(description="What to change.")],
        expected_version: Annotated[
            int | None,
            strawberry.argument(
                description="Change it only if it still has this version: else a ConflictError."
            ),
        ] = None,
    ) -> UpdateImagePayload:
        row = await info.context.library.update_image(
            info.context.viewer,
            uuid_of(id, "Image"),
            _patch(patch),
            expected_version=expected_version,
        )
        return UpdateImagePayload(image=Image.from_row(row))


def _patch(given: UpdateImageInput) -> ImagePatch:
    fields = said(given)
    if isinstance(point := fields.get("focal_point"), FocalPointInput):
        fields["focal_point"] = (point.x, point.y)
    return ImagePatch(**fields)


def said(patch: object) -> dict[str, object]:
    """The fields of a patch that were given, with their values: null is a value, too."""
    return {
        name: maybe.value
        for name, maybe in vars(patch).items()
        if isinstance(maybe, strawberry.Some)
    }
