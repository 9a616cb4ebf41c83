"""Images: what a picture is, how it is shown, and what can be changed of it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional
from uuid import UUID

import strawberry
from strawberry import relay

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
from storage import models, renditions, search
from storage.errors import Rejected
from storage.library import ImagePatch
from storage.models import ImageOrigin, Orientation
from storage.rendering import Fit
from storage.renditions import MAX_SIDE, ImageFormat

if TYPE_CHECKING:
    from graph.contents import Attachment
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
    row: strawberry.Private[models.Image]
    id: relay.NodeID[UUID]
    version: int = strawberry.field(
        description="Grows with every change; give it as `expectedVersion` to change safely."
    )
    origin: ImageOrigin = strawberry.field(description="How it came into the library.")
    is_ai_generated: bool = strawberry.field(description="Whether an AI model made it.")
    filename: str | None = strawberry.field(description="The name of the uploaded file.")
    title: str = strawberry.field(description="What people call it; may be empty.")
    alt_text: str | None = strawberry.field(
        description="What it shows, for those who cannot see it."
    )
    tags: list[str] = strawberry.field(description="In alphabetical order.")
    is_favorite: bool = strawberry.field(description="Whether it is marked as a favourite.")
    mime_type: str = strawberry.field(description="What the bytes are, e.g. `image/jpeg`.")
    byte_size: int = strawberry.field(description="The size of the file in bytes.")
    sha256: str = strawberry.field(description="The SHA-256 of the file, hexadecimal.")
    width: int = strawberry.field(description="Pixels, as displayed.")
    height: int = strawberry.field(description="Pixels, as displayed.")
    orientation: Orientation = strawberry.field(description="Its shape, as displayed.")
    dominant_color: str = strawberry.field(description="Its main colour, as `#rrggbb`.")
    thumbhash: str = strawberry.field(
        description="A blurred impression of it, in base64, to show while it loads. "
        "See https://evanw.github.io/thumbhash/."
    )
    perceptual_hash: str = strawberry.field(
        description="16 hexadecimal digits. Of pictures that look alike few of the 64 bits differ."
    )
    frames: int = strawberry.field(description="How many there are; more than 1 in an animation.")
    source_mime_type: str = strawberry.field(
        description="What was sent. HEIC is kept as JPEG, as browsers do not show it."
    )
    declares_ai: bool = strawberry.field(
        description="Whether the file came with an IPTC mark that says an AI model made it."
    )
    had_content_credentials: bool = strawberry.field(
        description="Whether the file came with Content Credentials (C2PA), which the kept file "
        "has not any more."
    )
    focal_point: FocalPoint | None = strawberry.field(
        description="What to keep in sight when it is cropped; null for the middle."
    )
    created_at: datetime = strawberry.field(description="When it came into the library.")
    updated_at: datetime = strawberry.field(description="When it last changed.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was put into the trash; null for an image in the library."
    )

    @classmethod
    def from_row(cls, row: models.Image) -> "Image":
        return cls(
            row=row,
            id=row.id,
            version=row.version,
            origin=row.origin,
            is_ai_generated=row.is_ai_generated,
            filename=row.filename or None,
            title=row.title,
            alt_text=row.alt_text,
            tags=row.tags,
            is_favorite=row.is_favorite,
            mime_type=row.media_type,
            byte_size=row.byte_size,
            sha256=row.sha256,
            width=row.width,
            height=row.height,
            orientation=search.orientation(row.width, row.height),
            dominant_color=row.dominant_color,
            thumbhash=row.thumbhash,
            perceptual_hash=row.perceptual_hash,
            frames=row.frames,
            source_mime_type=row.source_media_type,
            declares_ai=row.declares_ai,
            had_content_credentials=row.has_c2pa,
            focal_point=_focal_point(row),
            created_at=row.created_at,
            updated_at=row.updated_at,
            deleted_at=row.deleted_at,
        )

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
    async def versions(self, info: Info) -> list["ImageVersion"]:
        rows = await info.context.versions_of_image.load(self.id)
        return [ImageVersion.of(self.row, row, info) for row in rows]

    @strawberry.field(description="Where it is attached, the oldest place first.")
    async def usages(
        self, info: Info
    ) -> list[Annotated["Attachment", strawberry.lazy("graph.contents")]]:
        from graph.contents import Attachment

        rows = await info.context.attachments_of_image.load(self.id)
        return [Attachment.from_row(row) for row in rows]


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


def _focal_point(row: models.Image) -> FocalPoint | None:
    if row.focal_x is None or row.focal_y is None:
        return None
    return FocalPoint(x=row.focal_x, y=row.focal_y)


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
