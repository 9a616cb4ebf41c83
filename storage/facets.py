"""How many images match, in all and of each kind: exactly.

Counters that the database keeps with the images answer for whatever they tell apart, day by day;
the first and the last day of a range, of which only a part counts, and every other filter are
counted image by image.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Integer, Select, String, case, cast, func, literal, union_all
from sqlalchemy import select as rows_of
from sqlalchemy.sql.selectable import Subquery
from sqlmodel import SQLModel, col
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import Rejected
from storage.filters import (
    Between,
    ImageFilter,
    Tagged,
    Usage,
    check,
    counted,
    is_counted,
    kept,
    matching,
    moment,
    searched,
)
from storage.inverted import Shelf, word_hits
from storage.models import (
    ContentState,
    Image,
    ImageCount,
    ImageOrigin,
    Orientation,
    TagCount,
)

MAX_TAGS = 100

# By names of their own, since filters look into the same tables.
TAGGED = SQLModel.metadata.tables["image_tags"].alias("tagged")
PLACES = SQLModel.metadata.tables["attachments"].alias("places")
POSTS = SQLModel.metadata.tables["contents"].alias("posts")


@dataclass(frozen=True, slots=True)
class Count:
    """How many have this value."""

    value: str
    count: int


async def total(session: AsyncSession, shelf: Shelf, filter: ImageFilter) -> int:
    """How many match. Raises Rejected for a filter that makes no sense, as all here do."""
    check(filter)
    if is_counted(filter):
        kinds = _kinds(shelf, filter)
        return await _number(session, rows_of(func.coalesce(func.sum(kinds.c.n), 0)))
    if (tag := _bare_tag(filter)) is not None:
        counted_tags = _tag_counts(shelf).where(TagCount.tag == tag).subquery()
        return await _number(session, rows_of(func.coalesce(func.sum(counted_tags.c.n), 0)))
    words = searched(filter.search) if filter.search is not None else []
    if shelf.is_sqlite and words and filter == _just_search(filter):
        # Its text index knows the workspace, and the trash from the library.
        hits = word_hits(shelf, words)
        counted_words = rows_of(func.count()).select_from(hits.index).where(hits.condition)
        return await _number(session, counted_words)
    return await _number(
        session, rows_of(func.count()).select_from(Image).where(matching(shelf, filter))
    )


async def origins(session: AsyncSession, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every origin, also of those that no image has."""
    found = await _grouped(session, shelf, filter, "origin")
    return [Count(origin, found.get(origin, 0)) for origin in ImageOrigin]


async def orientations(session: AsyncSession, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every shape, also of those that no image has."""
    found = await _grouped(session, shelf, filter, "orientation")
    return [Count(shape, found.get(shape, 0)) for shape in Orientation]


async def providers(session: AsyncSession, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every provider that made one, most first. What none made is not counted."""
    found = await _grouped(session, shelf, filter, "provider")
    counts = [Count(name, n) for name, n in found.items() if name and n]
    return sorted(counts, key=lambda each: (-each.count, each.value))


async def months(session: AsyncSession, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every month in which one came, as `2026-11`, UTC, the newest first."""
    found = await _grouped(session, shelf, filter, "month")
    return [Count(month, n) for month, n in sorted(found.items(), reverse=True) if n]


Facet: TypeAlias = Callable[[AsyncSession, Shelf, ImageFilter], Awaitable[list[Count]]]


def most_tagged(first: int) -> Facet:
    """The tags that most have, most first; of as many each, in alphabetical order."""
    return partial(_tags, first=first)


async def _tags(
    session: AsyncSession, shelf: Shelf, filter: ImageFilter, *, first: int
) -> list[Count]:
    if not 1 <= first <= MAX_TAGS:
        raise Rejected(
            f"first must be 1 to {MAX_TAGS}, not {first}.",
            field="first",
            limit=1 if first < 1 else MAX_TAGS,
            actual=first,
        )
    check(filter)
    if filter == ImageFilter(is_deleted=filter.is_deleted):
        counts = _tag_counts(shelf).subquery()
    else:
        counts = (
            rows_of(TAGGED.c.tag, literal(1).label("n"))
            .join(Image, col(Image.id) == TAGGED.c.image_id)
            .where(matching(shelf, filter))
            .subquery()
        )
    n = func.sum(counts.c.n)
    most = (
        rows_of(counts.c.tag, n)
        .group_by(counts.c.tag)
        .having(n > 0)
        # By the signs' numbers, in every database and whatever language it was made for.
        .order_by(n.desc(), _by_signs(shelf, counts.c.tag))
        .limit(first)
    )
    found = await (await session.connection()).execute(most)
    return [Count(tag, int(count)) for tag, count in found]


def _by_signs(shelf: Shelf, column: Any) -> Any:
    return column if shelf.is_sqlite else column.collate("C")


async def usage(session: AsyncSession, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every way to be used. One image can be used in several ways, and counts in each."""
    everything = await total(session, shelf, filter)

    def shown(state: ContentState) -> Any:
        return func.max(case((POSTS.c.state == state, 1), else_=0)).label(state.value)

    per_image = (
        rows_of(PLACES.c.image_id, *map(shown, ContentState))
        .join(POSTS, POSTS.c.id == PLACES.c.content_id)
        .join(Image, col(Image.id) == PLACES.c.image_id)
        .where(POSTS.c.workspace_id == shelf.workspace_id, matching(shelf, filter))
        .group_by(PLACES.c.image_id)
        .subquery()
    )
    sums = [func.coalesce(func.sum(per_image.c[state.value]), 0) for state in ContentState]
    row = (
        await (await session.connection()).execute(
            rows_of(func.count(), *sums).select_from(per_image)
        )
    ).one()
    used, *by_state = map(int, row)
    found = dict(zip(ContentState, by_state, strict=True))
    return [
        Count(Usage.UNUSED, everything - used),
        Count(Usage.USED, used),
        *(Count(Usage(state.value), found[state]) for state in ContentState),
    ]


async def _number(session: AsyncSession, statement: Any) -> int:
    return int((await (await session.connection()).execute(statement)).scalar_one())


async def _grouped(
    session: AsyncSession, shelf: Shelf, filter: ImageFilter, name: str
) -> dict[str, int]:
    check(filter)
    kinds = _kinds(shelf, filter)
    by_kind = rows_of(kinds.c[name], func.sum(kinds.c.n)).group_by(kinds.c[name])
    found = await (await session.connection()).execute(by_kind)
    return {value: int(n) for value, n in found}


def _kinds(shelf: Shelf, filter: ImageFilter) -> Subquery:
    """Rows of origin, orientation, provider and month, each for `n` of the images that match."""
    if not is_counted(filter):
        return _of_images(shelf, filter).subquery()
    start, end = _bounds(filter.created_at)
    first, last = _next_day(start) if start else None, _day(end) if end else None
    if first and last and first >= last:
        return _of_images(shelf, filter).subquery()
    whole = _of_counters(shelf, filter)
    selected = [whole]
    if first and start:
        selected[0] = selected[0].where(col(ImageCount.day) >= first.date().isoformat())
        if start < first:
            edge = replace(filter, created_at=Between(gte=start, lt=first))
            selected.append(_of_images(shelf, edge))
    if last and end:
        selected[0] = selected[0].where(col(ImageCount.day) < last.date().isoformat())
        if last < end:
            edge = replace(filter, created_at=Between(gte=last, lt=end))
            selected.append(_of_images(shelf, edge))
    return union_all(*selected).subquery() if selected[1:] else selected[0].subquery()


def _of_counters(shelf: Shelf, filter: ImageFilter) -> Select[*tuple[Any, ...]]:
    month = func.substr(col(ImageCount.day), 1, 7)
    return rows_of(
        cast(col(ImageCount.origin), String).label("origin"),
        cast(col(ImageCount.orientation), String).label("orientation"),
        cast(col(ImageCount.provider), String).label("provider"),
        cast(month, String).label("month"),
        col(ImageCount.n).label("n"),
    ).where(counted(shelf, filter))


def _of_images(shelf: Shelf, filter: ImageFilter) -> Select[*tuple[Any, ...]]:
    created_at = col(Image.created_at)
    month = (
        func.substr(created_at, 1, 7)
        if shelf.is_sqlite
        else func.to_char(func.timezone("UTC", created_at), "YYYY-MM")
    )
    return rows_of(
        cast(col(Image.origin), String).label("origin"),
        cast(col(Image.orientation), String).label("orientation"),
        cast(func.coalesce(col(Image.provider), ""), String).label("provider"),
        cast(month, String).label("month"),
        cast(literal(1), Integer).label("n"),
    ).where(matching(shelf, filter))


def _bounds(times: Between) -> tuple[datetime | None, datetime | None]:
    """From when, and until before when. Times are kept to the microsecond."""
    tick = timedelta(microseconds=1)
    starts = [
        *([] if times.gte is None else [moment("filter", times.gte)]),
        *([] if times.gt is None else [_later(moment("filter", times.gt), tick)]),
    ]
    ends = [
        *([] if times.lt is None else [moment("filter", times.lt)]),
        *([] if times.lte is None else [_later(moment("filter", times.lte), tick)]),
    ]
    return max(starts, default=None), min(ends, default=None)


LAST = datetime(9999, 12, 31, tzinfo=UTC)


def _later(time: datetime, by: timedelta) -> datetime:
    return time + by if time < LAST else time


def _day(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _next_day(time: datetime) -> datetime:
    """The first day that begins at this time or later."""
    day = _day(time)
    return day if day == time else _later(day, timedelta(days=1))


def _tag_counts(shelf: Shelf) -> Any:
    return rows_of(col(TagCount.tag).label("tag"), col(TagCount.n).label("n")).where(
        col(TagCount.workspace_id) == shelf.workspace_id, col(TagCount.is_deleted) == shelf.in_trash
    )


def _bare_tag(filter: ImageFilter) -> str | None:
    """The one tag that the filter asks for, if it asks for nothing else."""
    names: Sequence[str] = [*(filter.tags.any or ()), *(filter.tags.all or ())]
    if len(names) != 1 or filter.tags.none is not None:
        return None
    bare = ImageFilter(is_deleted=filter.is_deleted, tags=filter.tags)
    return kept(names[0]) if filter == bare and filter.tags != Tagged() else None


def _just_search(filter: ImageFilter) -> ImageFilter:
    return ImageFilter(is_deleted=filter.is_deleted, search=filter.search)
