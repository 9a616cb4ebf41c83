"""Where a page begins and ends: as SQL, and as a cursor that anybody may hand back.

Pages are cut by keyset, never by offset: a cursor holds the sort values and id of the row it stands
on, so any page costs what the first costs, and stays right while rows come and go around it.
"""

import binascii
import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

from sqlalchemy import BigInteger, literal, tuple_
from sqlmodel.sql.expression import SelectOfScalar

from storage.errors import Rejected
from storage.words import MAX_NAME

Row = TypeVar("Row")
Statement = TypeVar("Statement", bound=Any)


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
    total: int | None = None
    """How many there are on all pages, where that was asked for and came along."""


class _Cursors(Sequence[str]):
    """Of each row, made when it is looked at: most pages need the first and the last."""

    def __init__(
        self, rows: Sequence[Any], keys: Callable[[Any], Sequence[Any]], of: object
    ) -> None:
        self._rows = rows
        self._keys = keys
        self._of = of

    @cached_property
    def _seal(self) -> str:
        return _seal(self._of)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _Cursors(self._rows[index], self._keys, self._of)
        return _cursor(self._seal, self._keys(self._rows[index]))


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
    keys = (sort_by, id)
    values = edge(request, [key.type for key in keys], of=of)
    at = [literal(value, key.type) for value, key in zip(values, keys, strict=False)]
    down = descending != request.backwards
    return page_along(statement, keys, at, request.size + 1, down=down)


def cut(rows: Sequence[Row], request: PageRequest, sort_by: Any, *, of: Any) -> Page[Row]:
    """The page from the rows that `page_of` selected, in the order of the sort."""
    return cut_by(rows, request, lambda row: (getattr(row, sort_by.key), row.id), of=of)  # type: ignore[attr-defined]  # every row has an id


def page_along(
    statement: Statement, columns: Sequence[Any], edge: Sequence[Any], size: Any, *, down: bool
) -> Statement:
    """The `size` rows after the edge, or the first without one, in the order of the columns.

    Together these are no two rows' alike.
    """
    if edge:
        here, there = tuple_(*columns), tuple_(*edge)
        statement = statement.where(here < there if down else here > there)
    order = [column.desc() if down else column.asc() for column in columns]
    return statement.order_by(*order).limit(size)  # type: ignore[no-any-return]  # as above


def cut_by(
    rows: Sequence[Row], request: PageRequest, keys: Callable[[Row], Sequence[Any]], *, of: Any
) -> Page[Row]:
    """The page from the rows of `page_along`, asked for one more. `keys` tells a row's."""
    has_more = len(rows) > request.size
    kept = list(rows[: request.size])
    if request.backwards:
        kept.reverse()
    came_from_a_cursor = request.cursor is not None
    return Page(
        rows=kept,
        cursors=_Cursors(kept, keys, of),
        has_next=came_from_a_cursor if request.backwards else has_more,
        has_previous=has_more if request.backwards else came_from_a_cursor,
    )


def _cursor(seal: str, values: Sequence[Any]) -> str:
    said = [seal, *map(_said, values)]
    packed = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    return urlsafe_b64encode(packed.encode()).decode().rstrip("=")


def _said(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return value.hex
        case _:
            return value


def edge(request: PageRequest, types: Sequence[Any], *, of: object) -> list[Any]:
    """What the cursor holds: a value of each type; nothing where there is none. Raises Rejected."""
    cursor = request.cursor
    if cursor is None:
        return []
    try:
        packed = urlsafe_b64decode((cursor + "=" * (-len(cursor) % 4)).encode("ascii"))
        seal, *said = json.loads(packed)
        if not isinstance(seal, str):
            raise ValueError("not sealed")
        is_for_this = seal == _seal(of)
        # What was made for another sort has values of other kinds.
        values = (
            [_read(value, type) for value, type in zip(said, types, strict=True)]
            if is_for_this
            else []
        )
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise Rejected(
            "This is no cursor of ours. Take it from pageInfo or an edge of an earlier page.",
            field="before" if request.backwards else "after",
        ) from None
    if not is_for_this:
        raise Rejected(
            "This cursor was made for another filter, search or sort. "
            "Keep those as they were, or start from the first page.",
            field="before" if request.backwards else "after",
        )
    return values


def _read(said: Any, column_type: Any) -> Any:
    """The value in a cursor, if the column could have it. Raises ValueError and its like."""
    kind: type = getattr(column_type, "impl_instance", column_type).python_type
    value = said
    if kind is UUID:
        value = UUID(hex=said)
    elif kind is datetime:
        value = datetime.fromisoformat(said)
    if type(value) is not kind or not _is_storable(value, column_type):
        raise ValueError("of another kind")
    return value


def _is_storable(value: object, column_type: Any) -> bool:
    """Whether both databases can compare a column with it. ValueError for text that is none."""
    match value:
        case UUID():
            return True
        case datetime():
            # In the first and the last year, its time in UTC may be beyond the calendar.
            return value.tzinfo is not None and 1 < value.year < 9999
        case int():
            return abs(value) < (2**63 if isinstance(column_type, BigInteger) else 2**31)
        case str():
            return "\0" not in value and len(value.encode()) <= MAX_NAME
        case _:
            return False


def _seal(of: Any) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]
