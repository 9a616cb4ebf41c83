"""A page of the library: which images, in which order, and how the database comes by them.

Where an index gives the images in the order that is asked for, it is walked from the page's edge on
until the page is full: a page then costs the same, however large the library is.
"""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, cast

from sqlalchemy import JSON, Dialect, Select, TypeDecorator, func, literal
from sqlalchemy import select as rows_of
from sqlalchemy.dialects.postgresql import ARRAY

from storage.conditions import EVERY, TAGS, Crowd, Found, crowds, matching, placed, with_tag
from storage.cursors import Page, PageRequest, cut, cut_by, edge, page_along, page_of
from storage.errors import Rejected
from storage.filters import (
    Between,
    ImageFilter,
    Named,
    Numbers,
    Tagged,
    Text,
    Usage,
    check,
    moment,
    parts,
    searched,
    tag_of,
)
from storage.inverted import (
    IMAGES,
    INTEGER,
    Driving,
    Hits,
    Shelf,
    driven_by_text,
    filename_hits,
    relevance,
    unindexed,
    word_hits,
)
from storage.models import Image, Orientation
from storage.statements import Given, Term
from storage.words import fold, words_of

__all__ = [
    "EVERY",
    "Between",
    "ImageFilter",
    "Named",
    "Numbers",
    "Orientation",
    "Page",
    "PageRequest",
    "Sort",
    "SortField",
    "Tagged",
    "Text",
    "Usage",
    "cut",
    "fold",
    "moment",
    "orientation",
    "page_of",
    "words_of",
]


FEW = 1000
"""Images that are looked up and put in order faster than they are come upon in passing."""

FIELDS: Final = frozenset({*IMAGES.c.keys(), "tags"}) - {
    "folded_filename",
    "name_text",
    "search_text",
}
"""What an image of a page can tell."""


class SortField(StrEnum):
    """The filename counts in any case, with or without accents."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    FILENAME = "folded_filename"
    BYTE_SIZE = "byte_size"
    RELEVANCE = "relevance"


@dataclass(frozen=True, slots=True)
class Sort:
    field: SortField = SortField.CREATED_AT
    descending: bool = True


class _Listed:
    """An image of a page: reads like the row's own class, but for fields that were not asked for.

    It belongs to no session, and nobody changes it. To make it takes a thirtieth of the time.
    """

    def __init__(self, names: Sequence[str], row: Sequence[Any]) -> None:
        self.__dict__.update(zip(names, row, strict=False))


@dataclass(frozen=True, slots=True)
class Search:
    """What one page of images is cut from, and the page by its request."""

    shelf: Shelf
    filter: ImageFilter
    sort: Sort
    fields: Collection[str] = FIELDS
    total: Term | None = None
    """A statement that counts all, to be answered along with the page."""
    many: frozenset[Crowd] = frozenset()
    few: frozenset[Crowd] = frozenset()

    def probe(self) -> Term | None:
        """A statement whose row tells how many images there are of each crowd, up to `FEW` + 1.

        None where nothing has to be known: PostgreSQL knows its tables well enough by itself.
        Raises Rejected, as `statement` does.
        """
        check(self.filter)
        found = crowds(self.shelf, self.filter) if self.shelf.is_sqlite else {}
        return Term(_up_to, FEW + 1, *found.values()) if found else None

    def knowing(self, probed: Sequence[int]) -> "Search":
        """The same, with what the probe has found."""
        found = dict(zip(crowds(self.shelf, self.filter), probed, strict=True))
        many = frozenset(crowd for crowd, n in found.items() if n > FEW)
        return replace(self, many=many, few=frozenset(found) - many)

    def statement(self, request: PageRequest) -> Term:
        """Raises Rejected for a filter, search, sort or cursor that makes no sense."""
        points: Hashable = None
        keys: Sequence[Hashable]
        match self.sort.field:
            case SortField.CREATED_AT:
                return self._by_place(request)
            case SortField.RELEVANCE:
                points = self._points()
                keys = (points, IMAGES.c.place, IMAGES.c.id)
            case SortField.FILENAME:
                keys = (_by_signs(IMAGES.c.folded_filename, self.shelf), IMAGES.c.id)
            case field:
                keys = (IMAGES.c[field.value], IMAGES.c.id)
        if self.few:  # so they are put in order, as no index gives it
            keys = [unindexed(self.shelf, key) for key in keys]
        condition = matching(self.shelf, self.filter, Found(many=self.many))
        return self._page(request, keys, condition, points=points)

    def page(self, rows: Sequence[Sequence[Any]], request: PageRequest) -> Page[Image]:
        """From the rows that the statement gave."""

        def keys(row: Any) -> Sequence[Any]:
            match self.sort.field:
                case SortField.CREATED_AT:
                    return row.place, row.id
                case SortField.RELEVANCE:
                    return row.points, row.place, row.id
                case field:
                    return getattr(row, field.value), row.id

        names = self._names()
        listed = [_Listed(names, row) for row in rows]
        page = cut_by(cast("list[Image]", listed), request, keys, of=self._of)
        if self.total is None:
            return page
        if rows:
            return replace(page, total=rows[0][-1])
        return page if request.cursor is not None else replace(page, total=0)

    @property
    def _of(self) -> object:
        return self.shelf.workspace_id, self.filter, self.sort

    def _names(self) -> tuple[str, ...]:
        """Of the columns: what is asked for, and what the cursors are made of."""
        match self.sort.field:
            case SortField.CREATED_AT:
                keys = {"id", "place"}
            case SortField.RELEVANCE:
                keys = {"id", "place", "points"}
            case field:
                keys = {"id", field.value}
        return tuple(sorted(keys.union(self.fields)))

    def _page(
        self,
        request: PageRequest,
        along: Sequence[Hashable],
        *conditions: Term,
        source: Hashable = IMAGES,
        points: Hashable = None,
    ) -> Term:
        types = [IMAGES.c.place.type, IMAGES.c.id.type]
        match self.sort.field:
            case SortField.CREATED_AT:
                pass
            case SortField.RELEVANCE:
                types.insert(0, INTEGER)
            case field:
                types[0] = IMAGES.c[field.value].type
        values = edge(request, types, of=self._of)
        return Term(
            _rows,
            self.shelf.is_sqlite,
            self._names(),
            points,
            self.total,
            source,
            conditions,
            tuple(along),
            # The text indexes know of the first alone.
            tuple(Given(*each) for each in zip(values, types[: len(along)], strict=False)),
            Given(request.size + 1, INTEGER),
            self.sort.descending != request.backwards,
        )

    def _points(self) -> Term:
        words = searched(self.filter.search) if self.filter.search is not None else None
        if words is None:
            raise Rejected(
                "RELEVANCE is how well an image answers to a search, and there is none. "
                "Give a search, or sort by something else.",
                field="sort",
            )
        return relevance(self.shelf, words) if words else Term(literal, 0)

    def _by_place(self, request: PageRequest) -> Term:
        """By the index that gives the order, and of those by the one that finds the fewest."""
        found = Found(many=self.many)
        source: Hashable = IMAGES
        along: Sequence[Hashable] = (IMAGES.c.place, IMAGES.c.id)
        conditions = []
        if hits := self._hits():
            found, text = hits
            source, along = Term(driven_by_text, text.index), (text.index.c.rowid,)
            conditions = [text.condition]
        elif tag := _only_tag(self.filter.tags):
            found = Found(by_tag=tag, many=EVERY)
            source, along = Term(_driven_by_tag), (TAGGED.c.place, TAGGED.c.image_id)
            conditions = with_tag(self.shelf, TAGGED, [tag])
        elif self.few:
            along = [unindexed(self.shelf, key) for key in along]
        if found.many == EVERY:
            conditions += placed(along[0], self.filter.created_at)
        condition = matching(self.shelf, self.filter, found)
        return self._page(request, along, *conditions, condition, source=source)

    def _hits(self) -> tuple[Found, Hits] | None:
        """What a text index of SQLite finds, in the order of places."""
        if not self.shelf.is_sqlite:
            return None
        if self.filter.search is not None and (words := searched(self.filter.search)):
            return Found(by_words=True, by_filename=True, many=EVERY), word_hits(self.shelf, words)
        for part, is_beginning in parts(self.filter.filename):
            found = Found(by_filename=True, many=EVERY)
            return found, filename_hits(part, is_beginning=is_beginning)
        return None


# ---- how the statements are written --------------------------------------------------------------


TAGGED: Final = TAGS.alias("tagged")


def _up_to(limit: int, *crowds: Select[Any]) -> Select[Any]:
    counts = (rows_of(func.count()).select_from(rows.limit(limit).subquery()) for rows in crowds)
    return rows_of(*(count.scalar_subquery() for count in counts))


def _rows(
    is_sqlite: bool,
    names: Sequence[str],
    points: Any,
    total: Any,
    source: Any,
    conditions: Sequence[Any],
    along: Sequence[Any],
    edge: Sequence[Any],
    size: Any,
    down: bool,
) -> Select[Any]:
    def column(name: str) -> Any:
        match name:
            case "points":
                return points.label("points")
            case "tags":
                return _tags(is_sqlite)
            case _:
                return IMAGES.c[name]

    columns = [*map(column, names)]
    if total is not None:
        columns.append(total.correlate(None).scalar_subquery().label("total"))
    wanted = rows_of(*columns).select_from(source).where(*conditions)
    return page_along(wanted, along, edge, size, down=down)


def _tags(is_sqlite: bool) -> Any:
    """All of an image's tags, in alphabetical order."""
    if is_sqlite:
        mine = rows_of(func.json_group_array(TAGS.c.tag, type_=_InOrder))
        return mine.where(TAGS.c.image_id == IMAGES.c.id).scalar_subquery().label("tags")
    mine = rows_of(TAGS.c.tag).where(TAGS.c.image_id == IMAGES.c.id).order_by(_collated(TAGS.c.tag))
    return func.array(mine.scalar_subquery(), type_=ARRAY(TAGS.c.tag.type)).label("tags")


def _by_signs(column: Any, shelf: Shelf) -> Hashable:
    """The column by its signs' numbers: PostgreSQL orders by the language it was made for, else."""
    return column if shelf.is_sqlite else Term(_collated, column)


def _collated(column: Any) -> Any:
    return column.collate("C")


class _InOrder(TypeDecorator[list[str]]):
    """SQLite has learnt but lately to put in order what it gathers."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> list[str]:
        return sorted(value or ())


def _driven_by_tag() -> Any:
    return Driving(TAGGED, IMAGES, IMAGES.c.id == TAGGED.c.image_id)


# ---- what is asked for ---------------------------------------------------------------------------


def _only_tag(tags: Tagged) -> str | None:
    """A tag that every image must have."""
    for names in (tags.all, tags.any if tags.any and len(tags.any) == 1 else None):
        if names:
            return tag_of(names[0])
    return None


def orientation(width: int, height: int) -> Orientation:
    """The shape that the filter by orientation finds."""
    if width == height:
        return Orientation.SQUARE
    return Orientation.LANDSCAPE if width > height else Orientation.PORTRAIT
