"""Which images, and in which order: what a client can ask for, as the library understands it."""

from datetime import datetime
from typing import Optional

import strawberry

from graph import enums
from graph.ids import uuid_of
from graph.inputs import looked_up_once
from storage import filters, search
from storage.filters import (
    MAX_BRANCHES,
    MAX_DEPTH,
    MAX_LIST,
    MAX_LOOKUPS,
    MAX_VALUES,
    MIN_PART,
    Usage,
)
from storage.models import ImageOrigin, Orientation
from storage.search import SortField


@looked_up_once
@strawberry.input(description="A range of times. Every bound that is given must hold.")
class DateTimeFilter:
    gt: datetime | None = strawberry.field(default=None, description="Later than this.")
    gte: datetime | None = strawberry.field(default=None, description="At this time or later.")
    lt: datetime | None = strawberry.field(default=None, description="Earlier than this.")
    lte: datetime | None = strawberry.field(default=None, description="At this time or earlier.")


@looked_up_once
@strawberry.input(description="A range of numbers. Every bound that is given must hold.")
class IntFilter:
    eq: int | None = strawberry.field(default=None, description="Just this.")
    gt: int | None = strawberry.field(default=None, description="More than this.")
    gte: int | None = strawberry.field(default=None, description="This or more.")
    lt: int | None = strawberry.field(default=None, description="Less than this.")
    lte: int | None = strawberry.field(default=None, description="This or less.")


@looked_up_once
@strawberry.input(description="A choice of names. Each that is given must hold.")
class NameFilter:
    eq: str | None = strawberry.field(default=None, description="Just this.")
    in_: list[str] | None = strawberry.field(
        name="in", default=None, description=f"One of these, at most {MAX_LIST}."
    )

    def to_search(self) -> filters.Named:
        return filters.Named(eq=self.eq, among=_tuple(self.in_))


@looked_up_once
@strawberry.input(description="A choice of texts. Each that is given must hold.")
class StringFilter:
    eq: str | None = strawberry.field(default=None, description="Just this.")
    in_: list[str] | None = strawberry.field(
        name="in", default=None, description=f"One of these, at most {MAX_LIST}."
    )
    contains: str | None = strawberry.field(
        default=None,
        description=f"Has this in it, in any case, with or without accents: {MIN_PART} characters "
        "at least.",
    )
    starts_with: str | None = strawberry.field(
        default=None, description="Begins with this, in any case, with or without accents."
    )

    def to_search(self) -> filters.Text:
        return filters.Text(
            eq=self.eq,
            among=_tuple(self.in_),
            contains=self.contains,
            starts_with=self.starts_with,
        )


@looked_up_once
@strawberry.input(description="A choice of origins.")
class ImageOriginFilter:
    in_: list[ImageOrigin] = strawberry.field(name="in", description="Any of these.")


@looked_up_once
@strawberry.input(description="A choice by tags. Every list that is given must hold.")
class TagFilter:
    any: list[str] | None = strawberry.field(
        default=None, description=f"Has one of these, at most {MAX_LIST}."
    )
    all: list[str] | None = strawberry.field(
        default=None, description=f"Has each of these, at most {MAX_LIST}."
    )
    none: list[str] | None = strawberry.field(
        default=None, description=f"Has none of these, at most {MAX_LIST}."
    )


@looked_up_once
@strawberry.input(
    description="Which images: every field that is given must hold. Filters can hold filters, "
    f"{MAX_DEPTH} deep; all together can name {MAX_VALUES} values, and ask for tags, for use and "
    f"for parts of filenames {MAX_LOOKUPS} times."
)
class ImageFilter:
    and_: list["ImageFilter"] | None = strawberry.field(
        name="and", default=None, description=f"Each of these holds, at most {MAX_BRANCHES}."
    )
    or_: list["ImageFilter"] | None = strawberry.field(
        name="or", default=None, description=f"One of these holds, at most {MAX_BRANCHES}."
    )
    not_: Optional["ImageFilter"] = strawberry.field(
        name="not", default=None, description="This does not hold."
    )
    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description=f"One of these images, at most {MAX_LIST}."
    )
    origin: ImageOriginFilter | None = strawberry.field(
        default=None, description="How it came into the library."
    )
    provider: NameFilter | None = strawberry.field(
        default=None, description="Who made it, of those that a provider made."
    )
    model: NameFilter | None = strawberry.field(
        default=None, description="What made it, of those that a provider made."
    )
    filename: StringFilter | None = strawberry.field(
        default=None, description="The name of the uploaded file."
    )
    mime_type: NameFilter | None = strawberry.field(
        default=None, description="What the bytes are, e.g. `image/jpeg`."
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
    width: IntFilter | None = strawberry.field(default=None, description="Pixels, as displayed.")
    height: IntFilter | None = strawberry.field(default=None, description="Pixels, as displayed.")
    byte_size: IntFilter | None = strawberry.field(
        default=None, description="The size of the file in bytes."
    )
    alt_text: enums.Presence | None = strawberry.field(
        default=None, description="Whether somebody has said what it shows."
    )
    is_ai_generated: bool | None = strawberry.field(
        default=None, description="Whether an AI model made it."
    )
    is_favorite: bool | None = strawberry.field(
        default=None, description="Whether it is marked as a favourite."
    )
    is_deleted: bool = strawberry.field(
        default=False,
        description="True looks in the trash, and only there. Not within another filter.",
    )

    def to_search(self, words: str | None = None) -> filters.ImageFilter:
        times, tags = self.created_at or DateTimeFilter(), self.tags or TagFilter()
        return filters.ImageFilter(
            all_of=_inner(self.and_),
            any_of=_inner(self.or_),
            none_of=None if self.not_ is None else self.not_.to_search(),
            ids=None if self.ids is None else tuple(uuid_of(id, "Image") for id in self.ids),
            origins=None if self.origin is None else tuple(self.origin.in_),
            provider=filters.Named() if self.provider is None else self.provider.to_search(),
            model=filters.Named() if self.model is None else self.model.to_search(),
            filename=filters.Text() if self.filename is None else self.filename.to_search(),
            media_type=filters.Named() if self.mime_type is None else self.mime_type.to_search(),
            created_at=filters.Between(gt=times.gt, gte=times.gte, lt=times.lt, lte=times.lte),
            tags=filters.Tagged(any=_tuple(tags.any), all=_tuple(tags.all), none=_tuple(tags.none)),
            usage=self.usage,
            attached_to=None if self.attached_to is None else uuid_of(self.attached_to, "Content"),
            orientation=self.orientation,
            width=_numbers(self.width),
            height=_numbers(self.height),
            byte_size=_numbers(self.byte_size),
            has_alt_text=None if self.alt_text is None else self.alt_text is enums.Presence.PRESENT,
            is_ai_generated=self.is_ai_generated,
            is_favorite=self.is_favorite,
            is_deleted=self.is_deleted,
            search=words,
        )


def _inner(given: list[ImageFilter] | None) -> tuple[filters.ImageFilter, ...] | None:
    return None if given is None else tuple(each.to_search() for each in given)


def _tuple(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _numbers(given: IntFilter | None) -> filters.Numbers:
    if given is None:
        return filters.Numbers()
    return filters.Numbers(eq=given.eq, gt=given.gt, gte=given.gte, lt=given.lt, lte=given.lte)


@looked_up_once
@strawberry.input(
    description="An order of images. Equal ones are ordered by their id, equally relevant ones by "
    "when they came."
)
class ImageSort:
    field: SortField = strawberry.field(description="What to sort by.")
    direction: enums.SortDirection = strawberry.field(
        default=enums.SortDirection.DESC, description="Which end comes first."
    )

    def to_search(self) -> search.Sort:
        return search.Sort(self.field, descending=self.direction is enums.SortDirection.DESC)
