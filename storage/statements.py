"""Statements that are written and compiled once, and given other values every time.

To write a statement in SQLAlchemy and to compile it takes many times as long as a database takes to
answer it. So what is often asked is told as a `Term`: which functions write it, and what they are
called with. Whatever differs from one request to the next is `Given` to it. Terms that differ in
nothing else are equal, and share one compiled statement:

    def key_of(sha256): return select(KEYS.c.name).where(KEYS.c.token_sha256 == sha256)

    await database.fetch(Term(key_of, Given(digest)))

A term's functions stand at the top of a module, or are SQLAlchemy's and Python's own, as `and_` or
`operator.gt`: made anew for each request, they would be other statements.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from sqlalchemy import Dialect, Float, Numeric, Uuid, bindparam
from sqlalchemy.types import TypeEngine
from sqlmodel.sql.sqltypes import UTCDateTime

SIZE = 500
"""Statements that are kept: they differ in filters, sorts and fields, so clients use few."""
LARGEST = 150
"""Parameters of one that is kept, so that all of them take some tens of MB at most."""


class Given:
    """A value that a statement is given; all are equal. Its type, where SQL does not imply it."""

    __slots__ = ("type", "value")

    def __init__(self, value: object, type: TypeEngine[Any] | None = None) -> None:
        self.value = value
        self.type = type

    def __eq__(self, other: object) -> bool:
        return type(other) is Given and other.type is self.type

    def __hash__(self) -> int:
        return hash(self.type)


class Term:
    """A statement, or a part of one: what `write` makes of the arguments.

    These can be terms, values that are given, tuples of them, and constants.
    """

    __slots__ = ("_hash", "arguments", "write")

    def __init__(self, write: Callable[..., Any], *arguments: Hashable) -> None:
        self.write = write
        self.arguments = arguments
        self._hash = hash((write, arguments))

    def __eq__(self, other: object) -> bool:
        if type(other) is not Term or other._hash != self._hash:
            return False
        return other.write == self.write and other.arguments == self.arguments

    def __hash__(self) -> int:
        return self._hash


@dataclass(eq=False, slots=True)
class Prepared:
    """A compiled statement: its SQL, where the values go, and what the columns mean."""

    sql: str
    _values: Sequence[tuple[int | None, Any, Callable[[Any], Any] | None]]
    """Of each parameter: which of the values, or what else, and how the driver wants it."""
    _columns: Sequence[tuple[int, Callable[[Any], Any]]]
    """Those that the driver does not read as what they are."""
    takes_long: bool = False
    """For whoever runs it to remember."""
    last_use: int = 0

    @property
    def size(self) -> int:
        return len(self._values)

    def parameters(self, wanted: Term) -> list[Any]:
        """Of a term that is equal to the one it was made for."""
        values = list(_given(wanted))
        said = [constant if n is None else values[n].value for n, constant, _ in self._values]
        return [
            value if bind is None else bind(value)
            for value, (_, _, bind) in zip(said, self._values, strict=True)
        ]

    def rows(self, fetched: Sequence[Any]) -> Sequence[Sequence[Any]]:
        if not self._columns or not fetched:
            return fetched
        columns: list[Any] = list(zip(*fetched, strict=True))
        for number, read in self._columns:
            columns[number] = [*map(read, columns[number])]
        return [*zip(*columns, strict=True)]


class Statements:
    """Those of one kind of database, the least recently used forgotten first."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: dict[Term, Prepared] = {}
        self._uses = 0

    @property
    def kept(self) -> int:
        return len(self._kept)

    def prepared(self, wanted: Term) -> Prepared:
        """Made, and kept unless it is very large."""
        prepared = self._kept.get(wanted)
        if prepared is None:
            prepared = self._prepare(wanted)
            if prepared.size > LARGEST:
                return prepared
            if len(self._kept) >= SIZE:
                del self._kept[min(self._kept, key=lambda term: self._kept[term].last_use)]
            self._kept[_without_values(wanted)] = prepared
        self._uses += 1
        prepared.last_use = self._uses
        return prepared

    def _prepare(self, wanted: Term) -> Prepared:
        numbers: dict[str, int] = {}

        def written(part: Any) -> Any:
            if type(part) is Given:
                name = f"given_{len(numbers)}"
                numbers[name] = len(numbers)
                return bindparam(name, type_=part.type)
            if type(part) is Term:
                return part.write(*map(written, part.arguments))
            return tuple(map(written, part)) if type(part) is tuple else part

        statement = written(wanted)
        options = {"render_postcompile": True}
        compiled: Any = statement.compile(dialect=self._dialect, compile_kwargs=options)
        return Prepared(
            str(compiled),
            [
                (numbers.get(name), bound.effective_value, self._binds(bound.type))
                for name in compiled.positiontup
                for bound in [compiled.binds[name]]
            ],
            [
                (number, read)
                for number, column in enumerate(statement.selected_columns)
                if (read := self._reads(column.type))
            ],
        )

    def _binds(self, type: TypeEngine[Any]) -> Callable[[Any], Any] | None:
        return type.dialect_impl(self._dialect).bind_processor(self._dialect)

    def _reads(self, type: TypeEngine[Any]) -> Callable[[Any], Any] | None:
        if isinstance(type, Numeric | Float):  # both drivers know numbers
            return None
        if self._dialect.name == "sqlite":
            if isinstance(type, Uuid):
                return _uuid
            if isinstance(type, UTCDateTime):
                return _time
        return type.dialect_impl(self._dialect).result_processor(self._dialect, None)


# SQLAlchemy's own do the same in six and four times the time, for each row.


def _uuid(stored: str | None) -> UUID | None:
    return None if stored is None else UUID(stored)


def _time(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored + "Z")


def _without_values(part: Any) -> Any:
    """Equal to it, and without what somebody sent: that may be large, and is nobody else's."""
    if type(part) is Given:
        return Given(None, part.type)
    if type(part) is Term:
        return Term(part.write, *map(_without_values, part.arguments))
    return tuple(map(_without_values, part)) if type(part) is tuple else part


def _given(part: Any) -> Iterator[Given]:
    """In the order in which they are written."""
    each: Any
    for each in part.arguments if type(part) is Term else part:
        kind = type(each)
        if kind is Given:
            yield each
        elif kind is Term or kind is tuple:
            yield from _given(each)
