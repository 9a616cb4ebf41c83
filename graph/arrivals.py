"""How pictures arrive: by upload, straight to the store, from the web, or in place of another."""

from datetime import datetime
from typing import Annotated

import strawberry

from graph.context import Info
from graph.errors import (
    ConflictError,
    DuplicateImageError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    mutation,
)
from graph.ids import id_of, uuid_of
from graph.images import Image
from graph.uploads import Upload
from storage import models
from storage.direct_uploads import NewUpload
from storage.library import Added, NewImage
from storage.objects import Target

UploadImageError = Annotated[
    InvalidInputError | ConflictError | DuplicateImageError | NotFoundError | UnavailableError,
    strawberry.union("UploadImageError", description="Why a file was not taken in."),
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
        description="An image that had these very bytes before. The same as `image` when it is in "
        "the library: then nothing was changed. Another one when it is in the trash: then `image` "
        "is new, and `restoreImages` can bring the old one back instead, once `image` is deleted.",
    )
    errors: list[UploadImageError] = strawberry.field(
        default_factory=list, description="Why there is no image; empty when there is."
    )

    @classmethod
    def of(cls, added: Added) -> "UploadImagePayload":
        before = added.duplicate_of
        return cls(
            image=Image.from_row(added.image),
            duplicate_of=Image.from_row(before) if before else None,
        )


@strawberry.input(description="A picture file that will be sent straight to the store.")
class CreateUploadInput:
    filename: str = strawberry.field(description="The name of the file.")
    mime_type: str = strawberry.field(description="What it is, e.g. `image/jpeg`.")
    byte_size: int = strawberry.field(description="Its size in bytes, exactly.")
    sha256: str | None = strawberry.field(
        default=None,
        description="Its SHA-256, 64 hexadecimal digits: other bytes are refused then.",
    )
    title: str | None = strawberry.field(default=None, description="What people call it.")
    alt_text: str | None = strawberry.field(
        default=None, description="What it shows, for those who cannot see it."
    )
    tags: list[str] | None = strawberry.field(default=None, description="At most 50.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key gives back the first one's upload."
    )


@strawberry.type(description="A header of an HTTP request.")
class HttpHeader:
    name: str = strawberry.field(description="Its name.")
    value: str = strawberry.field(description="Its value.")


@strawberry.type(description="One HTTP request to send: the file as its body, these headers.")
class UploadTarget:
    method: str = strawberry.field(description="The request's method.")
    url: str = strawberry.field(description="Where to: signed, so anyone who has it may.")
    headers: list[HttpHeader] = strawberry.field(
        description="Just these; a browser sets `Content-Length` by itself."
    )
    expires_at: datetime = strawberry.field(description="Until when the request is accepted.")

    @classmethod
    def of(cls, target: Target, upload: models.DirectUpload) -> "UploadTarget":
        return cls(
            method=target.method,
            url=target.url,
            headers=[HttpHeader(name=name, value=text) for name, text in target.headers.items()],
            expires_at=upload.expires_at,
        )


@strawberry.type(description="Where to send the file.")
class CreateUploadPayload:
    upload_id: strawberry.ID | None = strawberry.field(
        default=None, description="What `completeUpload` takes, once the file was sent."
    )
    target: UploadTarget | None = strawberry.field(
        default=None, description="The request that sends the file. It works once."
    )
    errors: list[UploadImageError] = strawberry.field(
        default_factory=list, description="Why there is no upload; empty when there is."
    )


@strawberry.input(description="A picture on the web, and what is known of it.")
class ImportImageInput:
    url: str = strawberry.field(description="Where it is: a public http or https address.")
    title: str | None = strawberry.field(default=None, description="What people call it.")
    alt_text: str | None = strawberry.field(
        default=None, description="What it shows, for those who cannot see it."
    )
    tags: list[str] | None = strawberry.field(default=None, description="At most 50.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key gives back the first one's image."
    )


@strawberry.type
class ArrivalMutations:
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
        return UploadImagePayload.of(added)

    @mutation("Begin an upload straight to the store, past this API: best for large files.")
    async def create_upload(
        self,
        info: Info,
        input: Annotated[CreateUploadInput, strawberry.argument(description="The file.")],
    ) -> CreateUploadPayload:
        context = info.context
        upload = await context.direct_uploads.create(
            context.viewer,
            NewUpload(
                filename=input.filename,
                media_type=input.mime_type,
                byte_size=input.byte_size,
                sha256=input.sha256,
                title=input.title,
                alt_text=input.alt_text,
                tags=tuple(input.tags or ()),
            ),
            idempotency_key=input.idempotency_key,
        )
        target = await context.direct_uploads.target(upload) or context.urls.upload(upload)
        return CreateUploadPayload(
            upload_id=id_of("Upload", upload.id), target=UploadTarget.of(target, upload)
        )

    @mutation("Add the file that was sent to an upload's target. A repeat gives the same image.")
    async def complete_upload(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID, strawberry.argument(description="The upload, as it was begun.")
        ],
    ) -> UploadImagePayload:
        added = await info.context.direct_uploads.complete(
            info.context.viewer, uuid_of(id, "Upload")
        )
        return UploadImagePayload.of(added)

    @mutation("Add a picture from a public web address to the viewer's library.")
    async def import_image(
        self,
        info: Info,
        input: Annotated[ImportImageInput, strawberry.argument(description="The picture.")],
    ) -> UploadImagePayload:
        added = await info.context.imports.import_image(
            info.context.viewer,
            input.url,
            NewImage(title=input.title, alt_text=input.alt_text, tags=input.tags or ()),
            idempotency_key=input.idempotency_key,
        )
        return UploadImagePayload.of(added)

    @mutation(
        "Give an image another file. It stays the same image wherever it is used; what was "
        "published keeps the file it had, see `Image.versions`."
    )
    async def replace_image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The image's id.")],
        file: Annotated[Upload, strawberry.argument(description="The new file.")],
        expected_version: Annotated[
            int | None,
            strawberry.argument(
                description="Replace it only if it still has this version: else a ConflictError."
            ),
        ] = None,
    ) -> UploadImagePayload:
        added = await info.context.versions.replace_image(
            info.context.viewer,
            uuid_of(id, "Image"),
            file,
            filename=file.filename,
            expected_version=expected_version,
        )
        return UploadImagePayload.of(added)
