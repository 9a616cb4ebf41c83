"""Images: the type, the library's pages, and what can be done with a picture."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import relay

from graph import enums
from graph.context import Info
from graph.errors import (
    ConflictError,
    ErrorCode,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    UserError,
    mutation,
    user_error,
)
from graph.ids import id_of, uuid_of
from graph.pages import After, Before, First, Last, page_info, page_request
from graph.uploads import Upload
from storage import models, renditions, search
from storage.errors import ImageInUse, Rejected
from storage.library import ImagePatch, NewImage
from storage.models import ImageOrigin
from storage.rendering import Fit
from storage.renditions import MAX_SIDE, ImageFormat
from storage.search import Orientation, SortField, Usage

if TYPE_CHECKING:
    from graph.contents import Attachment
    from graph.generations import Generation

SRCSET = (320, 640, 1080, 1440)
MIN_EXPIRY, MAX_EXPIRY = 60, 86_400

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
        )

    @strawberry.field(description="Where to get the file itself: signed, so anyone who has it may.")
    def url(self, info: Info, expires_in: ExpiresIn = 3600) -> str:
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
        expires_in: ExpiresIn = 3600,
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
        expires_in: ExpiresIn = 3600,
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

    @strawberry.field(description="Where it is attached, the oldest place first.")
    async def usages(
        self, info: Info
    ) -> list[Annotated["Attachment", strawberry.lazy("graph.contents")]]:
        from graph.contents import Attachment

        rows = await info.context.attachments_of_image.load(self.id)
        return [Attachment.from_row(row) for row in rows]


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


# ---- pages of the library ------------------------------------------------------------------------


@strawberry.input(description="A range of times. Every bound that is given must hold.")
class DateTimeFilter:
    gt: datetime | None = strawberry.field(default=None, description="Later than this.")
    gte: datetime | None = strawberry.field(default=None, description="At this time or later.")
    lt: datetime | None = strawberry.field(default=None, description="Earlier than this.")
    lte: datetime | None = strawberry.field(default=None, description="At this time or earlier.")


@strawberry.input(description="A choice of origins.")
class ImageOriginFilter:
    in_: list[ImageOrigin] = strawberry.field(name="in", description="Any of these.")


@strawberry.input(description="A choice by tags. Every list that is given must hold.")
class TagFilter:
    any: list[str] | None = strawberry.field(default=None, description="Has one of these.")
    all: list[str] | None = strawberry.field(default=None, description="Has each of these.")
    none: list[str] | None = strawberry.field(default=None, description="Has none of these.")


@strawberry.input(description="Which images: every field that is given must hold.")
class ImageFilter:
    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="One of these images."
    )
    origin: ImageOriginFilter | None = strawberry.field(
        default=None, description="How it came into the library."
    )
    created_at: DateTimeFilter | None = strawberry.field(
        default=None, description="When it came into the library."
    )
    tags: TagFilter | None = strawberry.field(default=None, description="What it is tagged with.")
    usage: Usage | None = strawberry.field(
        default=None, description="Whether, and by what kind of content, it is used."
    )
    attached_to: strawberry.ID | None = strawberry.field(
        default=None, description="Attached to this content."
    )
    orientation: Orientation | None = strawberry.field(default=None, description="Its shape.")
    is_ai_generated: bool | None = strawberry.field(
        default=None, description="Whether an AI model made it."
    )
    is_favorite: bool | None = strawberry.field(
        default=None, description="Whether it is marked as a favourite."
    )

    def to_search(self, words: str | None) -> search.ImageFilter:
        times, tags = self.created_at or DateTimeFilter(), self.tags or TagFilter()
        return search.ImageFilter(
            ids=None if self.ids is None else tuple(uuid_of(id, "Image") for id in self.ids),
            origins=None if self.origin is None else tuple(self.origin.in_),
            created_at=search.Between(gt=times.gt, gte=times.gte, lt=times.lt, lte=times.lte),
            tags=search.Tagged(any=tags.any, all=tags.all, none=tags.none),
            usage=self.usage,
            attached_to=None if self.attached_to is None else uuid_of(self.attached_to, "Content"),
            orientation=self.orientation,
            is_ai_generated=self.is_ai_generated,
            is_favorite=self.is_favorite,
            search=words,
        )


@strawberry.input(description="An order of images. Equal ones are ordered by their id.")
class ImageSort:
    field: SortField = strawberry.field(description="What to sort by.")
    direction: enums.SortDirection = strawberry.field(
        default=enums.SortDirection.DESC, description="Which end comes first."
    )

    def to_search(self) -> search.Sort:
        return search.Sort(self.field, descending=self.direction is enums.SortDirection.DESC)


@strawberry.type(description="An image, and its place in the list.")
class ImageEdge:
    cursor: str = strawberry.field(description="Its place: give it as `after` or `before`.")
    node: Image = strawberry.field(description="The image.")


@strawberry.type(description="A page of images.")
class ImageConnection:
    filter: strawberry.Private[search.ImageFilter]
    edges: list[ImageEdge] = strawberry.field(description="The images, each with its cursor.")
    nodes: list[Image] = strawberry.field(description="The images.")
    page_info: relay.PageInfo = strawberry.field(description="Whether and where it goes on.")

    @strawberry.field(description="How many images match in all, exactly. Counted only when asked.")
    async def total_count(self, info: Info) -> int:
        return await info.context.library.count_images(info.context.viewer, self.filter)


@strawberry.type
class ImageQueries:
    @strawberry.field(description="An image by its id; null when there is none.")
    async def image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The image's id.")],
    ) -> Image | None:
        row = await info.context.image.load(uuid_of(id, "Image"))
        return Image.from_row(row) if row else None

    @strawberry.field(description="The library, page by page.")
    async def images(
        self,
        info: Info,
        filter: Annotated[
            ImageFilter | None, strawberry.argument(description="Only those that match.")
        ] = None,
        search: Annotated[
            str | None,
            strawberry.argument(
                description="Only those in whose filename, title, alt text or prompt all of these "
                "words occur, in any case, with or without accents."
            ),
        ] = None,
        sort: Annotated[
            ImageSort | None, strawberry.argument(description="Default: the newest first.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> ImageConnection:
        wanted = (filter or ImageFilter()).to_search(search)
        page = await info.context.library.images(
            info.context.viewer,
            wanted,
            (sort or ImageSort(field=SortField.CREATED_AT)).to_search(),
            page_request(first, after, last, before),
        )
        images = [Image.from_row(row) for row in page.rows]
        return ImageConnection(
            filter=wanted,
            edges=[
                ImageEdge(cursor=cursor, node=image)
                for cursor, image in zip(page.cursors, images, strict=True)
            ],
            nodes=images,
            page_info=page_info(page),
        )


# ---- what can be done ----------------------------------------------------------------------------


@strawberry.type(description="The image cannot be deleted while posts show it.")
class ImageInUseError(UserError):
    attachment_ids: strawberry.Private[list[UUID]]

    @strawberry.field(description="The places that show it.")
    async def usages(
        self, info: Info
    ) -> list[Annotated["Attachment", strawberry.lazy("graph.contents")]]:
        from graph.contents import Attachment

        rows = await info.context.attachment.load_many(self.attachment_ids)
        return [Attachment.from_row(row) for row in rows if row is not None]


@user_error.register
def _(failure: ImageInUse) -> UserError:
    return ImageInUseError(
        message=failure.message,
        code=ErrorCode[failure.code],
        attachment_ids=failure.attachment_ids,
    )


UploadImageError = Annotated[
    InvalidInputError | ConflictError | NotFoundError | UnavailableError,
    strawberry.union("UploadImageError", description="Why a file was not taken in."),
]
UpdateImageError = Annotated[
    InvalidInputError | NotFoundError | ConflictError | UnavailableError,
    strawberry.union("UpdateImageError", description="Why an image was not changed."),
]
DeleteImageError = Annotated[
    NotFoundError | ImageInUseError | UnavailableError,
    strawberry.union("DeleteImageError", description="Why an image was not deleted."),
]


@strawberry.input(description="A picture file, and what is known of it.")
class UploadImageInput:
    file: Upload = strawberry.field(
        description="The file, sent by the GraphQL multipart request specification."
    )
    title: str | None = strawberry.field(default=None, description="What people call it.")
    alt_text: str | None = strawberry.field(
        default=None, description="What it shows, for those who cannot see it."
    )
    tags: list[str] | None = strawberry.field(default=None, description="At most 50.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key gives back the first one's image."
    )


@strawberry.type(description="The image that an upload made, or found.")
class UploadImagePayload:
    image: Image | None = strawberry.field(default=None, description="The image in the library.")
    duplicate_of: Image | None = strawberry.field(
        default=None,
        description="The same as `image`, when the library had these very bytes before. "
        "Then nothing was changed.",
    )
    errors: list[UploadImageError] = strawberry.field(
        default_factory=list, description="Why there is no image; empty when there is."
    )


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


@strawberry.type(description="What was deleted.")
class DeleteImagePayload:
    deleted_image_id: strawberry.ID | None = strawberry.field(
        default=None, description="The image that is gone."
    )
    errors: list[DeleteImageError] = strawberry.field(
        default_factory=list, description="Why nothing was deleted; empty when it was."
    )


@strawberry.type
class ImageMutations:
    @mutation("Add a picture (JPEG, PNG, WebP, GIF, AVIF or HEIC) to the viewer's library.")
    async def upload_image(
        self,
        info: Info,
        input: Annotated[UploadImageInput, strawberry.argument(description="The picture.")],
    ) -> UploadImagePayload:
        added = await info.context.library.add_image(
            info.context.viewer,
            input.file,
            NewImage(
                filename=input.file.filename,
                title=input.title,
                alt_text=input.alt_text,
                tags=input.tags or (),
            ),
            idempotency_key=input.idempotency_key,
        )
        image = Image.from_row(added.image)
        return UploadImagePayload(image=image, duplicate_of=image if added.is_duplicate else None)

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

    @mutation("Delete an image with its bytes and renditions, for good.")
    async def delete_image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The image's id.")],
        force: Annotated[
            bool,
            strawberry.argument(
                description="Delete it even if contents use it; it is detached from them first."
            ),
        ] = False,
    ) -> DeleteImagePayload:
        image_id = uuid_of(id, "Image")
        await info.context.library.delete_image(info.context.viewer, image_id, force=force)
        return DeleteImagePayload(deleted_image_id=id_of("Image", image_id))


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
