"""The trash: images that were deleted, and can be restored or purged."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from graph.context import Info
from graph.errors import (
    ConflictError,
    DuplicateImageError,
    ErrorCode,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    UserError,
    mutation,
    user_error,
)
from graph.ids import id_of, parse_id, uuid_of
from graph.images import Image
from graph.pricing import MAX_SHOWN_USAGES
from storage import models
from storage.errors import ImageInUse
from storage.trash import Outcome

if TYPE_CHECKING:
    from graph.contents import Attachment

Ids = Annotated[list[strawberry.ID], strawberry.argument(description="The images, at most 100.")]


@strawberry.type(description="The image cannot be deleted while posts show it.")
class ImageInUseError(UserError):
    attachment_ids: strawberry.Private[list[UUID]]

    @strawberry.field(description=f"The places that show it, at most {MAX_SHOWN_USAGES}.")
    async def usages(
        self, info: Info
    ) -> list[Annotated["Attachment", strawberry.lazy("graph.contents")]]:
        from graph.contents import Attachment

        rows = await info.context.attachment.load_many(self.attachment_ids[:MAX_SHOWN_USAGES])
        return [Attachment.from_row(row) for row in rows if row is not None]


@user_error.register
def _(failure: ImageInUse) -> UserError:
    return ImageInUseError(
        message=failure.message,
        code=ErrorCode[failure.code],
        attachment_ids=failure.attachment_ids,
    )


DeleteImageError = Annotated[
    NotFoundError | ImageInUseError | ConflictError | InvalidInputError | UnavailableError,
    strawberry.union("DeleteImageError", description="Why an image was not deleted."),
]
RestoreImageError = Annotated[
    NotFoundError | DuplicateImageError | ConflictError | InvalidInputError | UnavailableError,
    strawberry.union("RestoreImageError", description="Why an image was not restored."),
]


@strawberry.type(description="What was deleted.")
class DeleteImagePayload:
    deleted_image_id: strawberry.ID | None = strawberry.field(
        default=None, description="The image that is in the trash now."
    )
    errors: list[DeleteImageError] = strawberry.field(
        default_factory=list, description="Why nothing was deleted; empty when it was."
    )


@strawberry.type(description="What became of one image, or would become of it.")
class DeleteImageResult:
    attachments: strawberry.Private[list[models.Attachment]]
    id: strawberry.ID = strawberry.field(description="The image, as it was named.")
    deleted: bool = strawberry.field(
        description="Whether it was deleted or, on a dry run, would be."
    )
    image: Image | None = strawberry.field(
        description="The image; null when there is none, or it was purged."
    )
    error: DeleteImageError | None = strawberry.field(
        description="Why it is not deleted; null when it is."
    )

    @strawberry.field(
        description=f"The places that it is, or would be, taken out of, at most {MAX_SHOWN_USAGES}."
    )
    async def usages(
        self, info: Info
    ) -> list[Annotated["Attachment", strawberry.lazy("graph.contents")]]:
        from graph.contents import Attachment

        return [Attachment.from_row(row) for row in self.attachments[:MAX_SHOWN_USAGES]]

    @classmethod
    def of(
        cls, id: strawberry.ID, outcome: Outcome, *, purged: bool = False
    ) -> "DeleteImageResult":
        failure = outcome.failure
        is_gone = purged and failure is None
        return cls(
            id=id,
            deleted=failure is None,
            image=Image.from_row(outcome.image) if outcome.image and not is_gone else None,
            attachments=list(outcome.attachments),
            error=user_error(failure) if failure else None,  # type: ignore[arg-type]  # one of the union's
        )


@strawberry.type(description="One result for each image, in the order they were named.")
class DeleteImagesPayload:
    results: list[DeleteImageResult] = strawberry.field(
        default_factory=list, description="What became of each image."
    )
    errors: list[DeleteImageError] = strawberry.field(
        default_factory=list, description="Why nothing was tried at all; else empty."
    )


@strawberry.type(description="What became of one image.")
class RestoreImageResult:
    id: strawberry.ID = strawberry.field(description="The image, as it was named.")
    image: Image | None = strawberry.field(description="The image; null when there is none.")
    error: RestoreImageError | None = strawberry.field(
        description="Why it is not restored; null when it is in the library."
    )


@strawberry.type(description="One result for each image, in the order they were named.")
class RestoreImagesPayload:
    results: list[RestoreImageResult] = strawberry.field(
        default_factory=list, description="What became of each image."
    )
    errors: list[RestoreImageError] = strawberry.field(
        default_factory=list, description="Why nothing was tried at all; else empty."
    )


@strawberry.type
class TrashMutations:
    @mutation("Put an image into the trash, from where it can be restored for a while.")
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
        context = info.context
        (outcome,) = await context.trash.delete(context.viewer, [image_id], force=force)
        if outcome.failure:
            raise outcome.failure
        return DeleteImagePayload(deleted_image_id=id_of("Image", image_id))

    @mutation("Put images into the trash: each that can be. One that is in use needs `force`.")
    async def delete_images(
        self,
        info: Info,
        ids: Ids,
        force: Annotated[
            bool,
            strawberry.argument(
                description="Delete them even if contents use them; they are detached first, and "
                "attached again when they are restored."
            ),
        ] = False,
        dry_run: Annotated[
            bool, strawberry.argument(description="Change nothing: only tell what would happen.")
        ] = False,
    ) -> DeleteImagesPayload:
        context = info.context
        outcomes = await context.trash.delete(
            context.viewer, _uuids(ids), force=force, dry_run=dry_run
        )
        return DeleteImagesPayload(
            results=[DeleteImageResult.of(id, each) for id, each in _by_id(ids, outcomes)]
        )

    @mutation("Take images out of the trash, back into the contents that showed them.")
    async def restore_images(self, info: Info, ids: Ids) -> RestoreImagesPayload:
        outcomes = await info.context.trash.restore(info.context.viewer, _uuids(ids))
        return RestoreImagesPayload(
            results=[
                RestoreImageResult(
                    id=id,
                    image=Image.from_row(each.image) if each.image else None,
                    error=user_error(each.failure) if each.failure else None,  # type: ignore[arg-type]  # one of the union's
                )
                for id, each in _by_id(ids, outcomes)
            ]
        )

    @mutation("Delete images in the trash for good: bytes, versions and renditions go, too.")
    async def purge_images(self, info: Info, ids: Ids) -> DeleteImagesPayload:
        outcomes = await info.context.trash.purge(info.context.viewer, _uuids(ids))
        return DeleteImagesPayload(
            results=[
                DeleteImageResult.of(id, each, purged=True) for id, each in _by_id(ids, outcomes)
            ]
        )


NOBODY = UUID(int=0)
"""The id of no image."""


def _uuids(ids: list[strawberry.ID]) -> list[UUID]:
    """What is no image's id is the id of no image, and has its own result like the others."""
    parsed = (parse_id(id) for id in ids)
    return [each[1] if each and each[0] == "Image" else NOBODY for each in parsed]


def _by_id(
    ids: list[strawberry.ID], outcomes: list[Outcome]
) -> list[tuple[strawberry.ID, Outcome]]:
    """Each id, as it was named, with what became of it."""
    found = {outcome.id: outcome for outcome in outcomes}
    return [(id, found[uuid]) for id, uuid in zip(ids, _uuids(ids), strict=True)]
