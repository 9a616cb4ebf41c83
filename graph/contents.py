"""Contents, posts in the making, and the images attached to them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
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
from graph.images import said
from graph.pages import page_info, page_request
from storage import models
from storage.attachments import MAX_ATTACHMENTS
from storage.contents import ContentPatch
from storage.cursors import Page
from storage.errors import Rejected
from storage.models import ContentState, Platform

if TYPE_CHECKING:
    from graph.images import Image, ImageVersion


@strawberry.type(description="A post in the making, owned by the caller's own system.")
class Content(relay.Node):
    id: relay.NodeID[UUID]
    version: int = strawberry.field(
        description="Grows with every change; give it as `expectedVersion` to change safely."
    )
    external_id: str = strawberry.field(description="Its name in the caller's own system.")
    text: str = strawberry.field(description="What the post says.")
    platforms: list[Platform] = strawberry.field(description="Where it is to appear.")
    state: ContentState = strawberry.field(description="How far it has come.")
    scheduled_at: datetime | None = strawberry.field(description="When it is to appear.")
    auto_image: bool = strawberry.field(
        description="Whether the service may find or make an image if it has none in time."
    )
    created_at: datetime = strawberry.field(description="When it was first saved.")
    updated_at: datetime = strawberry.field(description="When it, or its attachments, changed.")

    @classmethod
    def from_row(cls, row: models.Content) -> "Content":
        return cls(
            id=row.id,
            version=row.version,
            external_id=row.external_id,
            text=row.text,
            platforms=[Platform(name) for name in row.platforms],
            state=row.state,
            scheduled_at=row.scheduled_at,
            auto_image=row.auto_image,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @strawberry.field(description="Its images, in the order they are shown.")
    async def attachments(
        self,
        info: Info,
        first: Annotated[
            int,
            strawberry.argument(
                description=f"How many from the front, 1 to {MAX_ATTACHMENTS}. Default: all, as a "
                "content takes no more. For a list of contents ask for fewer, at a lower cost."
            ),
        ] = MAX_ATTACHMENTS,
    ) -> list["Attachment"]:
        size = page_request(first, None).size
        rows = await info.context.attachments_of_content.load(self.id)
        return [Attachment.from_row(row) for row in rows[:size]]


@strawberry.type(description="An image's place in a content.")
class Attachment(relay.Node):
    row: strawberry.Private[models.Attachment]
    id: relay.NodeID[UUID]
    position: int = strawberry.field(description="0 is shown first.")
    alt_text_override: str | None = strawberry.field(
        description="What the image shows here, where that differs from its own alt text."
    )

    @classmethod
    def from_row(cls, row: models.Attachment) -> "Attachment":
        return cls(
            row=row, id=row.id, position=row.position, alt_text_override=row.alt_text_override
        )

    @strawberry.field(description="The image.")
    async def image(self, info: Info) -> Annotated["Image", strawberry.lazy("graph.images")]:
        from graph.images import Image

        row = await info.context.image.load(self.row.image_id)
        assert row is not None  # a foreign key says so
        return Image.from_row(row)

    @strawberry.field(
        description="The file that was published here, where the image has another one by now."
    )
    async def published_version(
        self, info: Info
    ) -> Annotated["ImageVersion", strawberry.lazy("graph.images")] | None:
        from graph.images import ImageVersion

        if self.row.published_sha256 is None:
            return None
        image = await info.context.image.load(self.row.image_id)
        versions = await info.context.versions_of_image.load(self.row.image_id)
        found = [row for row in versions if row.sha256 == self.row.published_sha256]
        return ImageVersion.of(image, found[0], info) if image and found else None

    @strawberry.field(description="The content that shows it.")
    async def content(self, info: Info) -> Content:
        row = await info.context.content.load(self.row.content_id)
        assert row is not None  # a foreign key says so
        return Content.from_row(row)


@strawberry.type(description="An attachment, and its place in the list.")
class AttachmentEdge:
    cursor: str = strawberry.field(description="Its place: give it as `after`.")
    node: Attachment = strawberry.field(description="The attachment.")


@strawberry.type(description="A page of the places where an image is attached.")
class AttachmentConnection:
    page: strawberry.Private[Page[models.Attachment]]
    nodes: list[Attachment] = strawberry.field(description="The attachments.")

    @classmethod
    def of(cls, page: Page[models.Attachment]) -> "AttachmentConnection":
        return cls(page=page, nodes=[Attachment.from_row(row) for row in page.rows])

    @strawberry.field(description="The attachments, each with its cursor.")
    def edges(self) -> list[AttachmentEdge]:
        return [
            AttachmentEdge(cursor=cursor, node=node)
            for cursor, node in zip(self.page.cursors, self.nodes, strict=True)
        ]

    @strawberry.field(description="Whether and where it goes on.")
    def page_info(self) -> relay.PageInfo:
        return page_info(self.page)


@strawberry.type
class ContentQueries:
    @strawberry.field(description="A content by its id, or by its externalId; null for none.")
    async def content(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID | None, strawberry.argument(description="The content's id.")
        ] = None,
        external_id: Annotated[
            str | None, strawberry.argument(description="Its name in the caller's own system.")
        ] = None,
    ) -> Content | None:
        if (id is None) == (external_id is None):
            raise Rejected("Give id or externalId, one of them.", field="id")
        if external_id is not None:
            row = await info.context.contents.by_external_id(info.context.viewer, external_id)
        else:
            row = await info.context.content.load(uuid_of(str(id), "Content"))
        return Content.from_row(row) if row else None


# ---- what can be done ----------------------------------------------------------------------------

SaveContentError = Annotated[
    InvalidInputError | NotFoundError | ConflictError | UnavailableError,
    strawberry.union("SaveContentError", description="Why a content was not saved."),
]
AttachToContentError = Annotated[
    InvalidInputError | NotFoundError | ConflictError | UnavailableError,
    strawberry.union("AttachToContentError", description="Why attachments did not change."),
]


@strawberry.input(
    description="A content to make or change. A field that is left out stays as it is. "
    "With neither id nor externalId a new content is made, under an externalId of its own."
)
class SaveContentInput:
    id: strawberry.ID | None = strawberry.field(
        default=None, description="Change this content; it must exist."
    )
    external_id: strawberry.Maybe[str] = strawberry.field(
        default=None,
        description="Without id: change the content of this name, or make it. With id: rename it.",
    )
    text: strawberry.Maybe[str] = strawberry.field(default=None, description="What the post says.")
    platforms: strawberry.Maybe[list[Platform]] = strawberry.field(
        default=None, description="Where it is to appear."
    )
    state: strawberry.Maybe[ContentState] = strawberry.field(
        default=None, description="How far it has come; SCHEDULED needs a time."
    )
    scheduled_at: strawberry.Maybe[datetime | None] = strawberry.field(
        default=None, description="When it is to appear."
    )
    auto_image: strawberry.Maybe[bool] = strawberry.field(
        default=None, description="Whether the service may find or make an image if it has none."
    )
    expected_version: int | None = strawberry.field(
        default=None, description="Change it only if it still has this version."
    )


@strawberry.type(description="The content as it is now.")
class SaveContentPayload:
    content: Content | None = strawberry.field(default=None, description="The saved content.")
    errors: list[SaveContentError] = strawberry.field(
        default_factory=list, description="Why nothing was saved; empty when it was."
    )


@strawberry.input(description="Images to show in a content, and where.")
class AttachToContentInput:
    content_id: strawberry.ID = strawberry.field(description="The content.")
    image_ids: list[strawberry.ID] = strawberry.field(
        description="The images, in the order to be shown. One that is attached already moves."
    )
    position: int | None = strawberry.field(
        default=None, description="Where the first goes; 0 is shown first. Default: the end."
    )
    alt_text_override: str | None = strawberry.field(
        default=None, description="What the images show here, instead of their own alt text."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key changes nothing more."
    )


@strawberry.type(description="The content with its attachments as they are now.")
class AttachToContentPayload:
    content: Content | None = strawberry.field(default=None, description="The content.")
    errors: list[AttachToContentError] = strawberry.field(
        default_factory=list, description="Why nothing changed; empty when it did."
    )


@strawberry.type(description="The content without what was detached.")
class DetachFromContentPayload:
    content: Content | None = strawberry.field(default=None, description="The content.")
    errors: list[AttachToContentError] = strawberry.field(
        default_factory=list, description="Why nothing changed; empty when it did."
    )


@strawberry.type
class ContentMutations:
    @mutation("Make a content, or change one. Repeatable with an externalId.")
    async def save_content(
        self,
        info: Info,
        input: Annotated[SaveContentInput, strawberry.argument(description="The content.")],
    ) -> SaveContentPayload:
        row = await info.context.contents.save(
            info.context.viewer,
            ContentPatch(**said(input)),
            id=uuid_of(input.id, "Content") if input.id else None,
            expected_version=input.expected_version,
        )
        return SaveContentPayload(content=Content.from_row(row))

    @mutation("Show one or many images in a content. All of them, or none.")
    async def attach_to_content(
        self,
        info: Info,
        input: Annotated[
            AttachToContentInput, strawberry.argument(description="Which, and where.")
        ],
    ) -> AttachToContentPayload:
        row = await info.context.contents.attach(
            info.context.viewer,
            uuid_of(input.content_id, "Content"),
            [uuid_of(id, "Image") for id in input.image_ids],
            position=input.position,
            alt_text_override=input.alt_text_override,
            idempotency_key=input.idempotency_key,
        )
        return AttachToContentPayload(content=Content.from_row(row))

    @mutation("Take images out of a content; they stay in the library. All of them, or none.")
    async def detach_from_content(
        self,
        info: Info,
        attachment_ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(description="The places to clear, all of one content."),
        ],
    ) -> DetachFromContentPayload:
        row = await info.context.contents.detach(
            info.context.viewer, [uuid_of(id, "Attachment") for id in attachment_ids]
        )
        return DetachFromContentPayload(content=Content.from_row(row))

    @mutation("Give a content's images a new order.")
    async def reorder_attachments(
        self,
        info: Info,
        content_id: Annotated[strawberry.ID, strawberry.argument(description="The content.")],
        attachment_ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(description="Each of its attachments once, in the new order."),
        ],
    ) -> AttachToContentPayload:
        row = await info.context.contents.reorder(
            info.context.viewer,
            uuid_of(content_id, "Content"),
            [uuid_of(id, "Attachment") for id in attachment_ids],
        )
        return AttachToContentPayload(content=Content.from_row(row))
