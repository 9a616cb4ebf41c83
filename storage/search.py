"""A page of the library: which images, in which order, and how the database comes by them.

Where an index gives the images in the order that is asked for, it is walked from the page's edge on
until the page is full: a page then costs the same, however large the library is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, false, func, literal, true
from sqlalchemy import select as rows_of
from sqlmodel import SQLModel, col, select

from storage.cursors import Page, PageRequest, cut, cut_by, page_by, page_of
from storage.errors import Rejected
from storage.filters import (
    Between,
    Crowd,
    Found,
    ImageFilter,
    Named,
    Numbers,
    Tagged,
    Text,
    Usage,
    check,
    crowds,
    kept,
    matching,
    moment,
    parts,
    placed,
    searched,
)
from storage.inverted import (
    Driving,
    Hits,
    Shelf,
    filename_hits,
    relevance,
    unindexed,
    word_hits,
)
from storage.models import Image, Orientation
from storage.words import fold, words_of

__all__ = [
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


IMAGES = SQLModel.metadata.tables["images"]
TAGS = SQLModel.metadata.tables["image_tags"]


FEW = 1000
"""Images that are looked up and put in order faster than they are come upon in passing."""

EVERY = frozenset(Crowd)


class SortField(StrEnum):
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    FILENAME = "filename"
    BYTE_SIZE = "byte_size"
    RELEVANCE = "relevance"


@dataclass(frozen=True, slots=True)
class Sort:
    field: SortField = SortField.CREATED_AT
    descending: bool = True


class _Listed:
    """An image of a page: reads like the row's own class, which takes thirty times as long to make.

    It belongs to no session, and nobody changes it.
    """

    def __init__(self, row: Any, tags: list[str]) -> None:
        self.__dict__.update(row._mapping)
        self.tags = tags


@dataclass(frozen=True, slots=True)
class Search:
    """What one page of images is cut from, and the page by its request.

    The statement gives images, each with the number that it is sorted by where it has none itself.
    """

    shelf: Shelf
    filter: ImageFilter
    sort: Sort
    many: frozenset[Crowd] = frozenset()
    few: frozenset[Crowd] = frozenset()

    def probe(self) -> Any:
        """A statement whose row tells how many images there are of each crowd, up to `FEW` + 1.

        None where nothing has to be known: PostgreSQL knows its tables well enough by itself.
        Raises Rejected, as `statement` does.
        """
        check(self.filter)
        found = crowds(self.shelf, self.filter) if self.shelf.is_sqlite else {}
        if not found:
            return None
        return rows_of(
            *(
                rows_of(func.count())
                .select_from(rows.limit(FEW + 1).subquery())
                .scalar_subquery()
                .label(crowd.name)
                for crowd, rows in found.items()
            )
        )

    def knowing(self, probed: Any) -> "Search":
        """The same, with what the probe has found."""
        many = frozenset(Crowd[name] for name, n in probed._mapping.items() if n > FEW)
        return replace(self, many=many, few=frozenset(Crowd[n] for n in probed._mapping) - many)

    def statement(self, request: PageRequest) -> Any:
        """Raises Rejected for a filter, search, sort or cursor that makes no sense."""
        match self.sort.field:
            case SortField.CREATED_AT:
                return self._by_place(request)
            case SortField.RELEVANCE:
                points = self._points()
                wanted = select(Image, points.label("points"))
            case _:
                wanted = select(Image, literal(0).label("points"))
        return page_by(
            wanted.where(matching(self.shelf, self.filter, Found(many=self.many))),
            request,
            self._keys,
            descending=self.sort.descending,
            of=self._of,
            along=self._along,
        )

    def page(self, rows: Sequence[Any], request: PageRequest, tags: Sequence[Any]) -> Page[Image]:
        """From the plain rows that the statement gave, and (image id, tag) of their tags."""

        def keys(row: Any) -> Sequence[Any]:
            match self.sort.field:
                case SortField.CREATED_AT:
                    return row.place, row.id
                case SortField.RELEVANCE:
                    return row.points, row.place, row.id
                case field:
                    return getattr(row, field.value), row.id

        page = cut_by(rows, request, keys, of=self._of)
        tags_of: dict[UUID, list[str]] = {}
        for id, tag in tags:
            tags_of.setdefault(id, []).append(tag)
        listed = [_Listed(row, tags_of.get(row.id, [])) for row in page.rows]
        return Page(cast("list[Image]", listed), page.cursors, page.has_next, page.has_previous)

    @property
    def _of(self) -> object:
        return self.shelf.workspace_id, self.filter, self.sort

    @property
    def _keys(self) -> Sequence[Any]:
        match self.sort.field:
            case SortField.CREATED_AT:
                return col(Image.place), col(Image.id)
            case SortField.RELEVANCE:
                return self._points(), col(Image.place), col(Image.id)
            case field:
                return col(getattr(Image, field.value)), col(Image.id)

    @property
    def _along(self) -> Sequence[Any]:
        """The keys; where there are few images to put in order, as no index gives it."""
        return [unindexed(self.shelf, key) for key in self._keys] if self.few else self._keys

    def _points(self) -> ColumnElement[int]:
        words = searched(self.filter.search) if self.filter.search is not None else None
        if words is None:
            raise Rejected(
                "RELEVANCE is how well an image answers to a search, and there is none. "
                "Give a search, or sort by something else.",
                field="sort",
            )
        return relevance(self.shelf, words) if words else literal(0)

    def _by_place(self, request: PageRequest) -> Any:
        """By the index that gives the order, and of those by the one that finds the fewest."""
        keys = self._keys
        along = self._along
        wanted = select(Image, literal(0).label("points"))
        found = Found(many=self.many)
        if hits := self._hits():
            found, text = hits
            along = (text.place,)
            join = Driving(text.index, IMAGES, col(Image.place) == text.place)
            wanted = wanted.select_from(join).where(text.condition)
        elif tag := _only_tag(self.filter.tags):
            found = Found(by_tag=tag, many=EVERY)
            tagged = TAGS.alias("tagged")
            along = (tagged.c.place, tagged.c.image_id)
            wanted = wanted.select_from(
                Driving(tagged, IMAGES, col(Image.id) == tagged.c.image_id)
            ).where(
                tagged.c.workspace_id == self.shelf.workspace_id,
                tagged.c.is_deleted == (true() if self.shelf.in_trash else false()),
                tagged.c.tag == tag,
            )
        if found.many == EVERY:
            wanted = wanted.where(*placed(along[0], self.filter.created_at))
        return page_by(
            wanted.where(matching(self.shelf, self.filter, found)),
            request,
            keys,
            descending=self.sort.descending,
            of=self._of,
            along=along,
        )

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


def _only_tag(tags: Tagged) -> str | None:
    """A tag that every image must have."""
    for names in (tags.all, tags.any if tags.any and len(tags.any) == 1 else None):
        if names:
            return kept(names[0])
    return None


def orientation(width: int, height: int) -> Orientation:
    """The shape that the filter by orientation finds."""
    if width == height:
        return Orientation.SQUARE
    return Orientation.LANDSCAPE if width > height else Orientation.PORTRAIT
