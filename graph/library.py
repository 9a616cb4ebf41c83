"""The library, page by page: which images, and in which order."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import relay

from graph import enums
from graph.context import Info
from graph.ids import uuid_of
from graph.images import Image
from graph.pages import After, Before, First, Last, page_info, page_request
from storage import search
from storage.models import ImageOrigin
from storage.search import Orientation, SortField, Usage


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
    is_deleted: bool = strawberry.field(
        default=False, description="True looks in the trash, and only there."
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
            is_deleted=self.is_deleted,
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
class LibraryQueries:
    @strawberry.field(
        description="An image by its id, also one in the trash; null when there is none."
    )
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
