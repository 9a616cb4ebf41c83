"""Which images: a filter as a condition in SQL.

Conditions are terms (see `storage.statements`): filters that differ in nothing but their values
share one statement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import eq, ge, gt, le, lt
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, literal, not_, or_, true
from sqlalchemy import select as rows_of

from storage.errors import Rejected
from storage.filters import (
    MAX_BRANCHES,
    MAX_NUMBER,
    Between,
    ImageFilter,
    Named,
    Numbers,
    Tagged,
    Text,
    Usage,
    bounded,
    check,
    kept,
    moment,
    parts,
    searched,
    tag_of,
)
from storage.inverted import IMAGES, INTEGER, Shelf, has_filename, has_words, unindexed
from storage.models import (
    Attachment,
    Content,
    ContentState,
    ImageCount,
    ImageTag,
    first_place,
    table_of,
)
from storage.statements import Given, Term

TAGS: Final = table_of(ImageTag)
PLACES: Final = table_of(Attachment)
POSTS: Final = table_of(Content)
COUNTS: Final = table_of(ImageCount)

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Between them, 64 bits are enough for a place."""


class Crowd(StrEnum):
    """Conditions that hold for few images or for most of them, which only looking tells."""

    WIDTH = "width"
    HEIGHT = "height"
    BYTE_SIZE = "byteSize"
    TAGS = "tags.any"
    USED = "usage"


EVERY = frozenset(Crowd)
RANGES = frozenset({Crowd.WIDTH, Crowd.HEIGHT, Crowd.BYTE_SIZE})


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the images without asking: that they have the words, the tag, the filename.

    A filename that has the index's trigrams is compared all the same. What holds for `many` is not
    looked up but compared, image by image, in the order that is asked for.
    """

    by_words: bool = False
    by_filename: bool = False
    by_tag: str | None = None
    many: frozenset[Crowd] = frozenset()
    is_counted: bool = False
    """Nothing is asked of the images but how many there are."""


def crowds(shelf: Shelf, filter: ImageFilter) -> dict[Crowd, Term]:
    """Rows to count, for conditions of which it is not known whether they hold for many.

    Raises Rejected for values that make no sense.
    """
    found: dict[Crowd, Term] = {}
    for crowd, column, numbers in _sizes(filter):
        if numbers not in (Numbers(), Numbers(eq=numbers.eq)):
            bounds = _sized(shelf, crowd, column, numbers, Found())
            found[crowd] = Term(_some_of, IMAGES, *_of_shelf(shelf), *bounds)
    if filter.tags.any is not None and len(filter.tags.any) > 1:
        found[Crowd.TAGS] = Term(_some_of, TAGS, *with_tag(shelf, TAGS, filter.tags.any))
    if filter.usage is Usage.USED:
        found[Crowd.USED] = Term(_shown, PLACES.c.image_id, Given(shelf.workspace_id))
    return found


def _some_of(table: Any, *conditions: Any) -> Select[Any]:
    return rows_of(literal(1)).select_from(table).where(*conditions)


def _sizes(filter: ImageFilter) -> list[tuple[Crowd, Any, Numbers]]:
    return [
        (Crowd.WIDTH, IMAGES.c.width, filter.width),
        (Crowd.HEIGHT, IMAGES.c.height, filter.height),
        (Crowd.BYTE_SIZE, IMAGES.c.byte_size, filter.byte_size),
    ]


def _of_shelf(shelf: Shelf) -> list[Term]:
    return [
        Term(eq, IMAGES.c.workspace_id, Given(shelf.workspace_id)),
        Term(_is_there if shelf.in_trash else _is_not_there, IMAGES.c.deleted_at),
    ]


def _is_there(column: Any) -> ColumnElement[bool]:
    return column.is_not(None)  # type: ignore[no-any-return]  # a column's


def _is_not_there(column: Any) -> ColumnElement[bool]:
    return column.is_(None)  # type: ignore[no-any-return]  # a column's


def matching(shelf: Shelf, filter: ImageFilter, found: Found = Found()) -> Term:
    """The filter as a condition on `images`. Raises Rejected for values that make no sense."""
    check(filter)
    return Term(
        and_,
        *_of_shelf(shelf),
        *([] if found.by_words else _said(shelf, filter)),
        *_conditions(shelf, filter, found),
    )


def counted(shelf: Shelf, filter: ImageFilter) -> Term:
    """The filter as a condition on `image_counts`, for a filter that `is_counted`: but its times.

    Raises Rejected for values that make no sense.
    """
    check(filter)
    return Term(
        and_,
        Term(eq, COUNTS.c.workspace_id, Given(shelf.workspace_id)),
        Term(eq, COUNTS.c.is_deleted, Given(shelf.in_trash)),
        *_counted(shelf, filter, Found()),
    )


Conditions: TypeAlias = list[Term]


def _conditions(shelf: Shelf, filter: ImageFilter, found: Found) -> Conditions:
    return [
        *_among("ids", IMAGES.c.id, filter.ids),
        *_among("origin", IMAGES.c.origin, filter.origins),
        *_named("provider", IMAGES.c.provider, filter.provider),
        *_named("model", IMAGES.c.model, filter.model),
        *_written(shelf, filter.filename, found),
        *_named("mimeType", IMAGES.c.media_type, filter.media_type),
        *_created(shelf, filter.created_at, found),
        *placed(IMAGES.c.place, filter.created_at),
        *_tagged(shelf, filter.tags, found),
        *_used(shelf, filter.usage, found),
        *_attached(filter.attached_to),
        *_equal(IMAGES.c.orientation, filter.orientation),
        *(
            condition
            for crowd, column, numbers in _sizes(filter)
            for condition in _sized(shelf, crowd, column, numbers, found)
        ),
        *_true(IMAGES.c.is_ai_generated, filter.is_ai_generated),
        *_true(IMAGES.c.is_favorite, filter.is_favorite),
        *_present(filter.has_alt_text),
        *_together(shelf, filter, _conditions),
    ]


def _counted(shelf: Shelf, filter: ImageFilter, _: Found) -> Conditions:
    return [
        *_among("origin", COUNTS.c.origin, filter.origins),
        *_named("provider", COUNTS.c.provider, filter.provider),
        *([] if filter.provider == Named() else [Term(_is_somebody, COUNTS.c.provider)]),
        *_equal(COUNTS.c.orientation, filter.orientation),
        *_true(COUNTS.c.is_ai_generated, filter.is_ai_generated),
        *_together(shelf, filter, _counted),
    ]


def _is_somebody(provider: Any) -> ColumnElement[bool]:
    """The counters say nothing where images have null, which is no provider's name."""
    return provider != ""  # type: ignore[no-any-return]  # a column's


def _together(
    shelf: Shelf,
    filter: ImageFilter,
    conditions: Callable[[Shelf, ImageFilter, Found], Conditions],
) -> Conditions:
    def holds(branch: ImageFilter) -> Term:
        return Term(_all, *conditions(shelf, branch, Found(many=RANGES)))

    held: Conditions = []
    if filter.all_of is not None:
        held.extend(holds(branch) for branch in bounded("and", filter.all_of, MAX_BRANCHES))
    if filter.any_of is not None:
        branches = bounded("or", filter.any_of, MAX_BRANCHES)
        held.append(Term(or_, *(holds(branch) for branch in branches)))
    if filter.none_of is not None:
        held.append(Term(_not, holds(filter.none_of)))
    return held


def _all(*conditions: Any) -> ColumnElement[bool]:
    return and_(true(), *conditions)


def _not(condition: Any) -> ColumnElement[bool]:
    """What is not known, as the provider of an upload, does not hold, so its opposite does."""
    return not_(func.coalesce(condition, false()))


def _among(name: str, column: Any, values: Sequence[Any] | None) -> Conditions:
    if values is None:
        return []
    return [Term(_in, column, *(Given(each, column.type) for each in bounded(name, values)))]


def _in(column: Any, *values: Any) -> ColumnElement[bool]:
    return column.in_(values)  # type: ignore[no-any-return]  # a column's


def _between(column: Any, times: Between) -> Conditions:
    bounds = ((gt, times.gt), (ge, times.gte), (lt, times.lt), (le, times.lte))
    return [
        Term(compare, column, Given(moment("filter", time)))
        for compare, time in bounds
        if time is not None
    ]


def _created(shelf: Shelf, times: Between, found: Found) -> Conditions:
    """To count, SQLite reads the images themselves only where their places do not tell enough.

    A place may be up to a second later than its image, see `placed`, and never earlier.
    """
    bounds = _between(IMAGES.c.created_at, times)
    start, end = times.gte, times.lt
    if not (shelf.is_sqlite and found.is_counted and start and end and len(bounds) == 2):
        return bounds
    start, end = moment("filter", start), moment("filter", end)
    if not EARLIEST < start < end < LATEST:
        return bounds
    surely = (
        Term(ge, IMAGES.c.place, Given(first_place(start + timedelta(seconds=1)))),
        Term(lt, IMAGES.c.place, Given(first_place(end))),
    )
    return [Term(or_, Term(_all, *surely), Term(_all, *bounds))]


def placed(place: Any, times: Between) -> Conditions:
    """What follows for the place, by which the images are ordered: it begins with the time.

    Images of one microsecond may have spilled over into the next, hence the second more.
    """
    after, before = times.gte or times.gt, times.lte or times.lt
    bounds = []
    if after is not None and (start := moment("filter", after)) > EARLIEST:
        bounds.append(Term(ge, place, Given(first_place(min(start, LATEST)))))
    if before is not None and (end := moment("filter", before)) < LATEST:
        last = max(end, EARLIEST) + timedelta(seconds=1)
        bounds.append(Term(lt, place, Given(first_place(last))))
    return bounds


def _sized(shelf: Shelf, crowd: Crowd, column: Any, numbers: Numbers, found: Found) -> Conditions:
    for number in (numbers.eq, numbers.gt, numbers.gte, numbers.lt, numbers.lte):
        if number is not None and not -MAX_NUMBER <= number <= MAX_NUMBER:
            raise Rejected(
                f"{crowd} takes numbers up to {MAX_NUMBER:,}.",
                field="filter",
                limit=MAX_NUMBER,
                actual=number,
            )
    ranged = unindexed(shelf, column) if crowd in found.many else column
    bounds = (
        (eq, column, numbers.eq),
        (gt, ranged, numbers.gt),
        (ge, ranged, numbers.gte),
        (lt, ranged, numbers.lt),
        (le, ranged, numbers.lte),
    )
    return [
        Term(compare, compared, Given(number))
        for compare, compared, number in bounds
        if number is not None
    ]


def _named(name: str, column: Any, wanted: Named | Text) -> Conditions:
    conditions = []
    if wanted.eq is not None:
        conditions.append(Term(eq, column, Given(kept(wanted.eq))))
    if wanted.among is not None:
        names = [kept(value) for value in bounded(f"{name}.in", wanted.among)]
        conditions += _among(f"{name}.in", column, names)
    return conditions


def _written(shelf: Shelf, wanted: Text, found: Found) -> Conditions:
    conditions = _named("filename", IMAGES.c.filename, wanted)
    for part, is_beginning in parts(wanted):
        conditions.append(
            has_filename(shelf, part, is_beginning=is_beginning, is_looked_up=not found.by_filename)
        )
    return conditions


def _tagged(shelf: Shelf, tags: Tagged, found: Found) -> Conditions:
    conditions: Conditions = []
    if tags.any is not None:
        names = bounded("tags.any", tags.any)
        if {*map(tag_of, names)} != {found.by_tag}:
            conditions.append(
                Term(_has_tag, *_tag_names(names))
                if Crowd.TAGS in found.many
                else Term(_is_tagged, *with_tag(shelf, TAGS, names))
            )
    if tags.all is not None:
        first, *others = _tag_names(bounded("tags.all", tags.all))
        if first.value != found.by_tag:
            conditions.append(Term(_has_tag, first))
        if others:
            conditions.append(Term(_has_tags, Given(len(others), INTEGER), *others))
    if tags.none is not None:
        names = bounded("tags.none", tags.none)
        conditions.append(Term(not_, Term(_has_tag, *_tag_names(names))))
    return conditions


def _tag_names(names: Sequence[str]) -> list[Given]:
    """Each once."""
    return [Given(name, TAGS.c.tag.type) for name in dict.fromkeys(map(tag_of, names))]


def _has_tag(*names: Any) -> ColumnElement[bool]:
    return exists().where(TAGS.c.image_id == IMAGES.c.id, TAGS.c.tag.in_(names))


def _has_tags(number: Any, *names: Any) -> ColumnElement[bool]:
    """All of them, told by one subquery, however many."""
    mine = rows_of(func.count()).where(TAGS.c.image_id == IMAGES.c.id, TAGS.c.tag.in_(names))
    return mine.scalar_subquery() == number  # type: ignore[no-any-return]  # a subquery's


def _is_tagged(*conditions: Any) -> ColumnElement[bool]:
    return IMAGES.c.id.in_(rows_of(TAGS.c.image_id).where(*conditions))


def with_tag(shelf: Shelf, tags: Any, names: Sequence[str]) -> Conditions:
    """Rows of `image_tags`, or of an alias of it, that have one of the tags."""
    return [
        Term(eq, tags.c.workspace_id, Given(shelf.workspace_id)),
        *_true(tags.c.is_deleted, shelf.in_trash),
        Term(_in, tags.c.tag, *_tag_names(names)),
    ]


def _used(shelf: Shelf, usage: Usage | None, found: Found) -> Conditions:
    workspace = Given(shelf.workspace_id)
    match usage:
        case None:
            return []
        case Usage.USED if Crowd.USED in found.many:
            return [Term(_is_attached)]
        case Usage.USED:
            return [Term(_is_shown, workspace)]
        case Usage.UNUSED:
            return [Term(not_, Term(_is_attached))]
        case _:
            return [Term(_is_shown, workspace, Given(ContentState(usage.value)))]


def _is_attached() -> ColumnElement[bool]:
    return exists().where(PLACES.c.image_id == IMAGES.c.id)


def _is_shown(workspace: Any, *states: Any) -> ColumnElement[bool]:
    return IMAGES.c.id.in_(_shown(PLACES.c.image_id, workspace, *states))


def _shown(column: Any, workspace: Any, *states: Any) -> Select[Any]:
    return (
        rows_of(column)
        .select_from(PLACES)
        .join(POSTS, POSTS.c.id == PLACES.c.content_id)
        .where(POSTS.c.workspace_id == workspace, *(POSTS.c.state == state for state in states))
    )


def _attached(content_id: UUID | None) -> Conditions:
    return [] if content_id is None else [Term(_is_attached_to, Given(content_id))]


def _is_attached_to(content_id: Any) -> ColumnElement[bool]:
    return IMAGES.c.id.in_(rows_of(PLACES.c.image_id).where(PLACES.c.content_id == content_id))


def _equal(column: Any, value: Any) -> Conditions:
    return [] if value is None else [Term(eq, column, Given(value))]


def _true(column: Any, value: bool | None) -> Conditions:
    # As the partial indexes say it, without a parameter: else SQLite does not see that they serve.
    return [] if value is None else [Term(_is_true if value else _is_false, column)]


def _is_true(column: Any) -> ColumnElement[bool]:
    return column == true()  # type: ignore[no-any-return]  # a column's


def _is_false(column: Any) -> ColumnElement[bool]:
    return column == false()  # type: ignore[no-any-return]  # a column's


def _present(value: bool | None) -> Conditions:
    return [] if value is None else [Term(_is_there if value else _is_not_there, IMAGES.c.alt_text)]


def _said(shelf: Shelf, filter: ImageFilter) -> Conditions:
    if filter.search is None:
        return []
    words = searched(filter.search)
    return [has_words(shelf, words) if words else Term(false)]
