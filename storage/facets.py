"""How many images match, in all and of each kind: exactly.

Counters that the database keeps with the images answer for whatever they tell apart, day by day;
the first and the last day of a range, of which only a part counts, and every other filter are
counted image by image.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import eq
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    String,
    case,
    cast,
    func,
    literal,
    union_all,
)
from sqlalchemy import select as rows_of

from storage.conditions import (
    COUNTS,
    EVERY,
    PLACES,
    POSTS,
    TAGS,
    Found,
    counted,
    matching,
    placed,
)
from storage.database import Database
from storage.errors import Rejected
from storage.filters import (
    Between,
    ImageFilter,
    Tagged,
    Usage,
    check,
    is_counted,
    moment,
    searched,
    tag_of,
)
from storage.inverted import IMAGES, INTEGER, Shelf, driven_by_text, word_hits
from storage.models import ContentState, ImageOrigin, Orientation, TagCount, table_of
from storage.statements import Given, Term

MAX_TAGS = 100

# By names of their own, since filters look into the same tables.
TAGGED: Final = TAGS.alias("tagged")
USES: Final = PLACES.alias("uses")
USERS: Final = POSTS.alias("users")
TAG_COUNTS: Final = table_of(TagCount)


@dataclass(frozen=True, slots=True)
class Count:
    """How many have this value."""

    value: str
    count: int


async def total(database: Database, shelf: Shelf, filter: ImageFilter) -> int:
    """How many match. Raises Rejected for a filter that makes no sense, as all here do."""
    [[number]] = await database.fetch(total_of(shelf, filter))
    return int(number)


async def origins(database: Database, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every origin, also of those that no image has."""
    found = await _grouped(database, shelf, filter, "origin")
    return [Count(origin, found.get(origin, 0)) for origin in ImageOrigin]


async def orientations(database: Database, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every shape, also of those that no image has."""
    found = await _grouped(database, shelf, filter, "orientation")
    return [Count(shape, found.get(shape, 0)) for shape in Orientation]


async def providers(database: Database, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every provider that made one, most first. What none made is not counted."""
    found = await _grouped(database, shelf, filter, "provider")
    counts = [Count(name, n) for name, n in found.items() if name and n]
    return sorted(counts, key=lambda each: (-each.count, each.value))


async def months(database: Database, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every month in which one came, as `2026-11`, UTC, the newest first."""
    found = await _grouped(database, shelf, filter, "month")
    return [Count(month, n) for month, n in sorted(found.items(), reverse=True) if n]


Facet: TypeAlias = Callable[[Database, Shelf, ImageFilter], Awaitable[list[Count]]]


def most_tagged(first: int) -> Facet:
    """The tags that most have, most first; of as many each, in alphabetical order."""
    return partial(_tags, first=first)


async def _tags(
    database: Database, shelf: Shelf, filter: ImageFilter, *, first: int
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
        counts = _tag_counts(shelf)
    else:
        counts = Term(_counted_tags, matching(shelf, filter))
    most = await database.fetch(Term(_most, counts, Given(first, INTEGER), shelf.is_sqlite))
    return [Count(tag, int(count)) for tag, count in most]


async def usage(database: Database, shelf: Shelf, filter: ImageFilter) -> list[Count]:
    """Of every way to be used. One image can be used in several ways, and counts in each."""
    wanted = Term(
        _used, total_of(shelf, filter), Given(shelf.workspace_id), matching(shelf, filter)
    )
    [row] = await database.fetch(wanted)
    everything, used, *by_state = map(int, row)
    found = dict(zip(ContentState, by_state, strict=True))
    return [
        Count(Usage.UNUSED, everything - used),
        Count(Usage.USED, used),
        *(Count(Usage(state.value), found[state]) for state in ContentState),
    ]


async def _grouped(
    database: Database, shelf: Shelf, filter: ImageFilter, name: str
) -> dict[str, int]:
    check(filter)
    found = await database.fetch(Term(_by_kind, name, *_kinds(shelf, filter)))
    return {value: int(n) for value, n in found}


def total_of(shelf: Shelf, filter: ImageFilter) -> Term:
    """A statement that gives the total, see `total`."""
    check(filter)
    if is_counted(filter):
        counters, edges = _days(shelf, filter)
        just_counted = Found(is_counted=True)
        images = (Term(_number, IMAGES, matching(shelf, edge, just_counted)) for edge in edges)
        return Term(_added, *(Term(_sum, kinds) for kinds in counters), *images)
    if (tag := _bare_tag(filter)) is not None:
        return Term(_sum, _tag_counts(shelf, Term(eq, TAG_COUNTS.c.tag, Given(tag))))
    words = searched(filter.search) if filter.search is not None else []
    if not shelf.is_sqlite or not words:
        return Term(_number, IMAGES, matching(shelf, filter))
    hits = word_hits(shelf, words)
    if filter == _just_search(filter):
        # Its text index knows the workspace, and the trash from the library.
        return Term(_number, hits.index, hits.condition)
    found = Found(by_words=True, by_filename=True, many=EVERY)
    return Term(
        _number,
        Term(driven_by_text, hits.index),
        hits.condition,
        *placed(hits.index.c.rowid, filter.created_at),
        matching(shelf, filter, found),
    )


def _kinds(shelf: Shelf, filter: ImageFilter) -> list[Term]:
    """Rows of origin, orientation, provider and month, each for `n` of the images that match."""
    counters, edges = _days(shelf, filter)
    images = (Term(_images, shelf.is_sqlite, matching(shelf, edge)) for edge in edges)
    return [*counters, *images]


def _days(shelf: Shelf, filter: ImageFilter) -> tuple[list[Term], list[ImageFilter]]:
    """The counters of whole days, and the filters of the images that have to be looked at."""
    start, end = _bounds(filter.created_at)
    first, last = _next_day(start) if start else None, _day(end) if end else None
    if not is_counted(filter) or (first and last and first >= last):
        return [], [filter]
    days, edges = [], []
    if first and start:
        days.append(Term(_from_day, Given(first.date().isoformat())))
        if start < first:
            edges.append(replace(filter, created_at=Between(gte=start, lt=first)))
    if last and end:
        days.append(Term(_before_day, Given(last.date().isoformat())))
        if last < end:
            edges.append(replace(filter, created_at=Between(gte=last, lt=end)))
    return [Term(_counters, counted(shelf, filter), *days)], edges


def _tag_counts(shelf: Shelf, *conditions: Term) -> Term:
    return Term(
        _counters_of_tags,
        Term(eq, TAG_COUNTS.c.workspace_id, Given(shelf.workspace_id)),
        Term(eq, TAG_COUNTS.c.is_deleted, Given(shelf.in_trash)),
        *conditions,
    )


# ---- how the statements are written --------------------------------------------------------------


def _number(source: Any, *conditions: Any) -> Select[Any]:
    return rows_of(func.count()).select_from(source).where(*conditions)


def _added(*numbers: Select[Any]) -> Select[Any]:
    first, *others = (number.correlate(None).scalar_subquery() for number in numbers)
    return rows_of(sum(others, first))


def _sum(counts: Select[Any]) -> Select[Any]:
    return rows_of(_summed(counts.subquery().c.n))


def _summed(numbers: Any) -> Any:
    return cast(func.coalesce(func.sum(numbers), 0), BigInteger)


def _by_kind(name: str, *kinds: Select[Any]) -> Select[Any]:
    rows = _together(kinds)
    return rows_of(rows.c[name], _summed(rows.c.n)).group_by(rows.c[name])


def _together(rows: Sequence[Select[Any]]) -> Any:
    return union_all(*rows).subquery() if rows[1:] else rows[0].subquery()


def _counters(condition: Any, *days: Any) -> Any:
    month = func.substr(COUNTS.c.day, 1, 7)
    return rows_of(
        cast(COUNTS.c.origin, String).label("origin"),
        cast(COUNTS.c.orientation, String).label("orientation"),
        cast(COUNTS.c.provider, String).label("provider"),
        cast(month, String).label("month"),
        COUNTS.c.n.label("n"),
    ).where(condition, *days)


def _from_day(day: Any) -> Any:
    return COUNTS.c.day >= day


def _before_day(day: Any) -> Any:
    return COUNTS.c.day < day


def _images(is_sqlite: bool, condition: Any) -> Any:
    created_at = IMAGES.c.created_at
    month = (
        func.substr(created_at, 1, 7)
        if is_sqlite
        else func.to_char(func.timezone("UTC", created_at), "YYYY-MM")
    )
    return rows_of(
        cast(IMAGES.c.origin, String).label("origin"),
        cast(IMAGES.c.orientation, String).label("orientation"),
        cast(func.coalesce(IMAGES.c.provider, ""), String).label("provider"),
        cast(month, String).label("month"),
        cast(literal(1), Integer).label("n"),
    ).where(condition)


def _counters_of_tags(*conditions: Any) -> Select[Any]:
    return rows_of(TAG_COUNTS.c.tag.label("tag"), TAG_COUNTS.c.n.label("n")).where(*conditions)


def _counted_tags(condition: Any) -> Select[Any]:
    return (
        rows_of(TAGGED.c.tag, literal(1).label("n"))
        .join(IMAGES, IMAGES.c.id == TAGGED.c.image_id)
        .where(condition)
    )


def _most(tags: Select[Any], first: Any, is_sqlite: bool) -> Select[Any]:
    counts = tags.subquery()
    n = _summed(counts.c.n)
    # By the signs' numbers, in every database and whatever language it was made for.
    by_signs = counts.c.tag if is_sqlite else counts.c.tag.collate("C")
    return (
        rows_of(counts.c.tag, n)
        .group_by(counts.c.tag)
        .having(n > 0)
        .order_by(n.desc(), by_signs)
        .limit(first)
    )


def _used(everything: Select[Any], workspace: Any, condition: Any) -> Select[Any]:
    def shown(state: ContentState) -> Any:
        return func.max(case((USERS.c.state == state, 1), else_=0)).label(state.value)

    per_image = (
        rows_of(USES.c.image_id, *map(shown, ContentState))
        .join(USERS, USERS.c.id == USES.c.content_id)
        .join(IMAGES, IMAGES.c.id == USES.c.image_id)
        .where(USERS.c.workspace_id == workspace, condition)
        .group_by(USES.c.image_id)
        .subquery()
    )
    sums = [_summed(per_image.c[state.value]) for state in ContentState]
    return rows_of(everything.scalar_subquery(), func.count(), *sums).select_from(per_image)


# ---- days and bare filters -----------------------------------------------------------------------


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


def _bare_tag(filter: ImageFilter) -> str | None:
    """The one tag that the filter asks for, if it asks for nothing else."""
    names: Sequence[str] = [*(filter.tags.any or ()), *(filter.tags.all or ())]
    if len(names) != 1 or filter.tags.none is not None:
        return None
    bare = ImageFilter(is_deleted=filter.is_deleted, tags=filter.tags)
    return tag_of(names[0]) if filter == bare and filter.tags != Tagged() else None


def _just_search(filter: ImageFilter) -> ImageFilter:
    return ImageFilter(is_deleted=filter.is_deleted, search=filter.search)
