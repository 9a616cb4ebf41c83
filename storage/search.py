"""Which images, in which order, and where a page begins and ends: as SQL.

Pages are cut by keyset, never by offset: a cursor holds the sort value and id of the row it stands
on, so any page costs what the first costs, and stays right while rows come and go around it.
"""

import binascii
import hashlib
import json
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, literal, tuple_
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from storage.errors import Rejected
from storage.models import Attachment, Content, ContentState, Image, ImageOrigin, ImageTag

Row = TypeVar("Row")

MAX_LIST = 100
MAX_SEARCH = 200


class Usage(StrEnum):
    UNUSED = "unused"
    USED = "used"
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    PUBLISHED = "published"


class Orientation(StrEnum):
    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    SQUARE = "square"


@dataclass(frozen=True, slots=True)
class Between:
    """A range of times; None is open on that side."""

    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tagged:
    """None asks for nothing; an empty list is refused as a mistake."""

    any: Sequence[str] | None = None
    all: Sequence[str] | None = None
    none: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Everything that is not None must hold. `search` words must all occur, in any place.

    `is_deleted` looks in the trash, and only there.
    """

    ids: Sequence[UUID] | None = None
    origins: Sequence[ImageOrigin] | None = None
    created_at: Between = field(default_factory=Between)
    tags: Tagged = field(default_factory=Tagged)
    usage: Usage | None = None
    attached_to: UUID | None = None
    orientation: Orientation | None = None
    is_ai_generated: bool | None = None
    is_favorite: bool | None = None
    is_deleted: bool = False
    search: str | None = None


class SortField(StrEnum):
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    FILENAME = "filename"
    BYTE_SIZE = "byte_size"


@dataclass(frozen=True, slots=True)
class Sort:
    field: SortField = SortField.CREATED_AT
    descending: bool = True


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`size` rows after a cursor, or before one when `backwards`."""

    size: int
    cursor: str | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows in the order of the sort, each with its cursor."""

    rows: Sequence[Row]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


def fold(*texts: str | None) -> str:
    """Text as the search sees it: lower case, without accents, words apart by one space."""
    joined = unicodedata.normalize("NFKD", " ".join(text for text in texts if text))
    joined = joined.replace("\0", "")  # which no database keeps
    bare = "".join(sign for sign in joined if not unicodedata.combining(sign))
    return " ".join(bare.casefold().split())


def matching(filter: ImageFilter) -> ColumnElement[bool]:
    """The filter as a condition on `images`. Raises Rejected for values that make no sense."""
    return and_(
        *_among("ids", col(Image.id), filter.ids),
        *_among("origin", col(Image.origin), filter.origins),
        *_between(col(Image.created_at), filter.created_at),
        *_tagged(filter.tags),
        *_used(filter.usage),
        *_attached(filter.attached_to),
        *_oriented(filter.orientation),
        *_equal(col(Image.is_ai_generated), filter.is_ai_generated),
        *_equal(col(Image.is_favorite), filter.is_favorite),
        col(Image.deleted_at).is_not(None)
        if filter.is_deleted
        else col(Image.deleted_at).is_(None),
        *_said(filter.search),
    )


def _among(name: str, column: Any, values: Sequence[Any] | None) -> list[ColumnElement[bool]]:
    return [] if values is None else [column.in_(_bounded(name, values))]


def _bounded(name: str, values: Sequence[Any]) -> Sequence[Any]:
    if not 1 <= len(values) <= MAX_LIST:
        raise Rejected(
            f"{name} takes 1 to {MAX_LIST} values, not {len(values)}. "
            "Leave it out to filter by something else.",
            field="filter",
            limit=MAX_LIST,
            actual=len(values),
        )
    return values


def moment(field: str, time: datetime) -> datetime:
    """The time in UTC, as it is kept. Raises Rejected for one that is no moment."""
    try:
        if time.utcoffset() is None:
            raise ValueError("without a zone")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Rejected(
            f"{field} takes a time with its zone, e.g. 2027-05-04T12:00:00Z.", field=field
        ) from None


def _between(column: Any, times: Between) -> list[ColumnElement[bool]]:
    bounds = [
        None if times.gt is None else column > moment("filter", times.gt),
        None if times.gte is None else column >= moment("filter", times.gte),
        None if times.lt is None else column < moment("filter", times.lt),
        None if times.lte is None else column <= moment("filter", times.lte),
    ]
    return [bound for bound in bounds if bound is not None]


def _tagged(tags: Tagged) -> list[ColumnElement[bool]]:
    def has(*names: str) -> ColumnElement[bool]:
        names = tuple(name.replace("\0", "") for name in names)  # as they are kept
        return exists().where(col(ImageTag.image_id) == col(Image.id), col(ImageTag.tag).in_(names))

    conditions: list[ColumnElement[bool]] = []
    if tags.any is not None:
        conditions.append(has(*_bounded("tags.any", tags.any)))
    if tags.all is not None:
        conditions.extend(has(tag) for tag in _bounded("tags.all", tags.all))
    if tags.none is not None:
        conditions.append(~has(*_bounded("tags.none", tags.none)))
    return conditions


def _used(usage: Usage | None) -> list[ColumnElement[bool]]:
    attached = exists().where(col(Attachment.image_id) == col(Image.id))
    match usage:
        case None:
            return []
        case Usage.USED:
            return [attached]
        case Usage.UNUSED:
            return [~attached]
        case _:
            state = ContentState(usage.value)
            return [
                attached.where(
                    col(Content.id) == col(Attachment.content_id), col(Content.state) == state
                )
            ]


def _attached(content_id: UUID | None) -> list[ColumnElement[bool]]:
    if content_id is None:
        return []
    return [
        exists().where(
            col(Attachment.image_id) == col(Image.id), col(Attachment.content_id) == content_id
        )
    ]


def _oriented(orientation: Orientation | None) -> list[ColumnElement[bool]]:
    width, height = col(Image.width), col(Image.height)
    match orientation:
        case None:
            return []
        case Orientation.LANDSCAPE:
            return [width > height]
        case Orientation.PORTRAIT:
            return [width < height]
        case Orientation.SQUARE:
            return [width == height]


def _equal(column: Any, value: bool | None) -> list[ColumnElement[bool]]:
    return [] if value is None else [column.is_(value)]


def _said(search: str | None) -> list[ColumnElement[bool]]:
    if search is None:
        return []
    if len(search) > MAX_SEARCH:
        raise Rejected(
            f"search takes at most {MAX_SEARCH} characters, not {len(search)}.",
            field="search",
            limit=MAX_SEARCH,
            actual=len(search),
        )
    words = fold(search).split()
    if not words:
        raise Rejected("search is empty. Name a word, or leave it out.", field="search")
    return [col(Image.search_text).contains(word, autoescape=True) for word in words]


def page_of(
    statement: SelectOfScalar[Row],
    request: PageRequest,
    sort_by: Any,
    id: Any,
    *,
    descending: bool,
    of: Any,
) -> SelectOfScalar[Row]:
    """`statement` cut to a page, plus one row that tells whether there are more.

    `of` is whatever the cursors are bound to. Raises Rejected for a cursor made for something else.
    """
    down = descending != request.backwards
    place = tuple_(sort_by, id)
    if request.cursor is not None:
        value, row_id = _read_cursor(request, _kind(sort_by), of)
        edge = tuple_(literal(value, sort_by.type), literal(row_id, id.type))
        statement = statement.where(place < edge if down else place > edge)
    order = (sort_by.desc(), id.desc()) if down else (sort_by.asc(), id.asc())
    return statement.order_by(*order).limit(request.size + 1)


def cut(rows: Sequence[Row], request: PageRequest, sort_by: Any, *, of: Any) -> Page[Row]:
    """The page from the rows that `page_of` selected, in the order of the sort."""
    has_more = len(rows) > request.size
    kept = list(rows[: request.size])
    if request.backwards:
        kept.reverse()
    came_from_a_cursor = request.cursor is not None
    return Page(
        rows=kept,
        cursors=[_cursor(getattr(row, sort_by.key), row.id, of) for row in kept],  # type: ignore[attr-defined]  # every row has an id
        has_next=came_from_a_cursor if request.backwards else has_more,
        has_previous=has_more if request.backwards else came_from_a_cursor,
    )


def _cursor(value: Any, id: UUID, of: Any) -> str:
    said = value.isoformat() if isinstance(value, datetime) else value
    packed = json.dumps([_seal(of), said, id.hex], separators=(",", ":"))
    return urlsafe_b64encode(packed.encode()).decode().rstrip("=")


def _read_cursor(request: PageRequest, kind: type, of: Any) -> tuple[Any, UUID]:
    cursor = request.cursor or ""
    try:
        packed = urlsafe_b64decode((cursor + "=" * (-len(cursor) % 4)).encode("ascii"))
        seal, said, id = json.loads(packed)
        row_id = UUID(hex=id)
        value = datetime.fromisoformat(said) if kind is datetime else said
        if type(value) is not kind or not _is_storable(value):
            raise ValueError("of another kind")
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise Rejected(
            "This is no cursor of ours. Take it from pageInfo or an edge of an earlier page.",
            field="before" if request.backwards else "after",
        ) from None
    if seal != _seal(of):
        raise Rejected(
            "This cursor was made for another filter, search or sort. "
            "Keep those as they were, or start from the first page.",
            field="before" if request.backwards else "after",
        )
    return value, row_id


def _kind(column: Any) -> type:
    """The Python type of a column's values, also where SQLModel wraps it."""
    kind: type = getattr(column.type, "impl_instance", column.type).python_type
    return kind


def _is_storable(value: object) -> bool:
    """Whether both databases can compare a column with it. ValueError for text that is none."""
    match value:
        case datetime():
            # In the first and the last year, its time in UTC may be beyond the calendar.
            return value.tzinfo is not None and 1 < value.year < 9999
        case int():
            return abs(value) < 2**31
        case str():
            return "\0" not in value and len(value.encode()) <= 4 * 255
        case _:
            return False


def _seal(of: Any) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]


def sort_column(sort: Sort) -> Any:
    return {
        SortField.CREATED_AT: col(Image.created_at),
        SortField.UPDATED_AT: col(Image.updated_at),
        SortField.FILENAME: col(Image.filename),
        SortField.BYTE_SIZE: col(Image.byte_size),
    }[sort.field]


def images_of(workspace_id: UUID, filter: ImageFilter) -> SelectOfScalar[Image]:
    """The workspace's images that match, in no order yet."""
    return select(Image).where(Image.workspace_id == workspace_id, matching(filter))


def orientation(width: int, height: int) -> Orientation:
    """The shape that the filter by orientation finds."""
    if width == height:
        return Orientation.SQUARE
    return Orientation.LANDSCAPE if width > height else Orientation.PORTRAIT
