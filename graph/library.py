"""The library, page by page: which images, in which order, and how many there are of each kind."""

from collections.abc import Sequence
from typing import Annotated

import strawberry
from strawberry import relay

from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info
from graph.filters import ImageFilter, ImageSort
from graph.ids import uuid_of
from graph.images import Image, row_fields
from graph.pages import After, Before, First, Last, page_info, page_request
from graph.selections import selected
from storage import facets, filters
from storage.facets import MAX_TAGS, Count, Facet
from storage.filters import Usage
from storage.models import ImageOrigin, Orientation
from storage.search import SortField


@strawberry.type(description="How many images came into the library in one way.")
class OriginCount:
    origin: ImageOrigin = strawberry.field(description="The way.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="How many images have a tag.")
class TagCount:
    tag: str = strawberry.field(description="The tag.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="How many images have a value.")
class ValueCount:
    value: str = strawberry.field(description="The value.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="How many images have a shape.")
class OrientationCount:
    orientation: Orientation = strawberry.field(description="The shape.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="How many images came into the library in a month.")
class MonthCount:
    month: str = strawberry.field(description="The month in UTC, as `2026-11`.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(description="How many images are used in one way. One can be used in several.")
class UsageCount:
    usage: Usage = strawberry.field(description="The way.")
    count: int = strawberry.field(description="How many.")


@strawberry.type(
    description="How many images of each kind match, exactly, under the same filter and search. "
    "Each is counted only when asked."
)
class ImageFacets:
    filter: strawberry.Private[filters.ImageFilter]

    @strawberry.field(description="By how they came into the library: every way.")
    async def origins(self, info: Info) -> list[OriginCount]:
        counts = await self._count(info, facets.origins)
        return [OriginCount(origin=ImageOrigin(each.value), count=each.count) for each in counts]

    @strawberry.field(
        description="By tag: the most frequent first, of equally frequent ones in alphabetical "
        "order."
    )
    async def tags(
        self,
        info: Info,
        first: Annotated[
            int, strawberry.argument(description=f"How many tags, 1 to {MAX_TAGS}.")
        ] = 20,
    ) -> list[TagCount]:
        counts = await self._count(info, facets.most_tagged(first))
        return [TagCount(tag=each.value, count=each.count) for each in counts]

    @strawberry.field(
        description="By the provider that made them, the most frequent first; others are left out."
    )
    async def providers(self, info: Info) -> list[ValueCount]:
        counts = await self._count(info, facets.providers)
        return [ValueCount(value=each.value, count=each.count) for each in counts]

    @strawberry.field(description="By shape: every shape.")
    async def orientations(self, info: Info) -> list[OrientationCount]:
        counts = await self._count(info, facets.orientations)
        return [
            OrientationCount(orientation=Orientation(each.value), count=each.count)
            for each in counts
        ]

    @strawberry.field(description="By the month in which they came, the newest first.")
    async def months(self, info: Info) -> list[MonthCount]:
        counts = await self._count(info, facets.months)
        return [MonthCount(month=each.value, count=each.count) for each in counts]

    @strawberry.field(description="By whether and how they are used: every way.")
    async def usage(self, info: Info) -> list[UsageCount]:
        counts = await self._count(info, facets.usage)
        return [UsageCount(usage=Usage(each.value), count=each.count) for each in counts]

    async def _count(self, info: Info, facet: Facet) -> list[Count]:
        return await info.context.library.count_by(facet, info.context.viewer, self.filter)


@strawberry.type(description="An image, and its place in the list.")
class ImageEdge:
    cursor: str = strawberry.field(description="Its place: give it as `after` or `before`.")
    node: Image = strawberry.field(description="The image.")


@strawberry.type(description="A page of images.")
class ImageConnection:
    filter: strawberry.Private[filters.ImageFilter]
    cursors: strawberry.Private[Sequence[str]]
    total: strawberry.Private[int | None]
    nodes: list[Image] = strawberry.field(description="The images.")
    page_info: relay.PageInfo = strawberry.field(description="Whether and where it goes on.")

    @strawberry.field(description="The images, each with its cursor.")
    def edges(self) -> list[ImageEdge]:
        return [
            ImageEdge(cursor=cursor, node=node)
            for cursor, node in zip(self.cursors, self.nodes, strict=True)
        ]

    @strawberry.field(description="How many images match in all, exactly. Counted only when asked.")
    def total_count(self) -> int:
        assert self.total is not None  # as it was seen to be asked for
        return self.total

    @strawberry.field(description="How many of each kind match in all.")
    def facets(self) -> ImageFacets:
        return ImageFacets(filter=self.filter)


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
                description="Only those in whose filename, title, tags, alt text or prompt each "
                "of these words occurs, or begins a word, in any case, with or without accents. "
                "A single letter or digit is found only as a word."
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
            row_fields({*selected(info, "nodes"), *selected(info, "edges", "node")}),
            counts="totalCount" in selected(info),
        )
        return ImageConnection(
            filter=wanted,
            cursors=page.cursors,
            total=page.total,
            nodes=[Image.from_row(row) for row in page.rows],
            page_info=page_info(page),
        )
