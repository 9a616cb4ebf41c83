"""Which images: a filter as a value, its limits, and what its texts are looked for as.

The operators are a closed set, and each is carried by an index within its workspace. A filter can
hold filters, as deep and as many as the limits here allow. `storage.conditions` says it in SQL.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from storage.errors import Rejected
from storage.models import ImageOrigin, Orientation
from storage.words import fold, words_of

MAX_LIST = 100
MAX_SEARCH = 200
MAX_BRANCHES = 20
MAX_DEPTH = 4
MAX_FILTERS = 100
MAX_VALUES = 500
"""In all lists of a filter and of the filters in it."""
MAX_LOOKUPS = 10
"""By tags, by use or by parts of filenames. Each is a subquery, and the time to plan a statement
grows faster than their number: PostgreSQL takes seconds for fifty of them."""
MIN_PART = 3
"""Characters of a filename's part: shorter ones are in no index."""
MAX_PART = 255
MAX_NAME = 255
"""Characters: no name or tag that is kept is longer."""
MAX_NUMBER = 2**31 - 1


class Usage(StrEnum):
    UNUSED = "unused"
    USED = "used"
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Between:
    """A range of times; None is open on that side."""

    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None


@dataclass(frozen=True, slots=True)
class Numbers:
    """A range of whole numbers; None is open on that side."""

    eq: int | None = None
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class Tagged:
    """None asks for nothing; an empty list is refused as a mistake."""

    any: Sequence[str] | None = None
    all: Sequence[str] | None = None
    none: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """Exactly this, or one of these."""

    eq: str | None = None
    among: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Exactly this, or one of these; a part or the beginning in any case, with or without accents.

    A part has 3 characters at least, a beginning one.
    """

    eq: str | None = None
    among: Sequence[str] | None = None
    contains: str | None = None
    starts_with: str | None = None


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Everything that is not None must hold.

    Of the words in `search` each must occur, or begin a word that occurs. `is_deleted` looks in the
    trash, and only there; together with `search` it belongs to the outermost filter.
    """

    ids: Sequence[UUID] | None = None
    origins: Sequence[ImageOrigin] | None = None
    provider: Named = field(default_factory=Named)
    model: Named = field(default_factory=Named)
    filename: Text = field(default_factory=Text)
    media_type: Named = field(default_factory=Named)
    created_at: Between = field(default_factory=Between)
    tags: Tagged = field(default_factory=Tagged)
    usage: Usage | None = None
    attached_to: UUID | None = None
    orientation: Orientation | None = None
    width: Numbers = field(default_factory=Numbers)
    height: Numbers = field(default_factory=Numbers)
    byte_size: Numbers = field(default_factory=Numbers)
    is_ai_generated: bool | None = None
    is_favorite: bool | None = None
    has_alt_text: bool | None = None
    all_of: Sequence["ImageFilter"] | None = None
    any_of: Sequence["ImageFilter"] | None = None
    none_of: "ImageFilter | None" = None
    is_deleted: bool = False
    search: str | None = None

    def branches(self) -> Iterator["ImageFilter"]:
        """The filters right inside."""
        yield from self.all_of or ()
        yield from self.any_of or ()
        if self.none_of is not None:
            yield self.none_of

    def values(self) -> int:
        """How many its own lists hold."""
        names = (self.provider, self.model, self.filename, self.media_type)
        tags = (self.tags.any, self.tags.all, self.tags.none)
        lists = (self.ids, self.origins, *(each.among for each in names), *tags)
        return sum(len(each) for each in lists if each is not None)

    def lookups(self) -> int:
        """How many things it asks that are not told in the image's own row."""
        asked = (
            *(self.tags.any, self.tags.all, self.tags.none),
            *(self.filename.contains, self.filename.starts_with),
            *(self.usage, self.attached_to),
        )
        return sum(each is not None for each in asked)


def check(filter: ImageFilter) -> None:
    """Raises Rejected for a filter that, with the filters in it, is beyond the limits."""
    level, every = [filter], [filter]
    for depth in range(MAX_DEPTH + 1):
        inner = [branch for each in level for branch in each.branches()]
        every += inner
        if inner and depth == MAX_DEPTH:
            raise Rejected(
                f"A filter can hold filters {MAX_DEPTH} deep, and this one goes deeper.",
                field="filter",
                limit=MAX_DEPTH,
                actual=MAX_DEPTH + 1,
            )
        if any(each.is_deleted or each.search is not None for each in inner):
            raise Rejected(
                "isDeleted looks in the trash or in the library, never in both. "
                "Give it in the outermost filter.",
                field="filter",
            )
        _check_number("can hold {limit} filters", MAX_FILTERS, len(every))
        level = inner
    _check_number("can name {limit} values", MAX_VALUES, sum(each.values() for each in every))
    _check_number(
        "can ask for tags, for use and for parts of filenames {limit} times",
        MAX_LOOKUPS,
        sum(each.lookups() for each in every),
    )


def _check_number(what: str, limit: int, actual: int) -> None:
    if actual > limit:
        raise Rejected(
            f"A filter {what.format(limit=limit)} in all, and this one has {actual}. "
            "Ask for less at a time.",
            field="filter",
            limit=limit,
            actual=actual,
        )


def is_counted(filter: ImageFilter) -> bool:
    """Whether the counters tell apart what the filter tells apart, but for its outermost times."""
    from_counters = ImageFilter(
        origins=filter.origins,
        provider=filter.provider,
        orientation=filter.orientation,
        is_ai_generated=filter.is_ai_generated,
        created_at=filter.created_at,
        all_of=filter.all_of,
        any_of=filter.any_of,
        none_of=filter.none_of,
        is_deleted=filter.is_deleted,
    )
    return filter == from_counters and all(
        branch.created_at == Between() and is_counted(branch) for branch in filter.branches()
    )


def bounded(name: str, values: Sequence[Any], limit: int = MAX_LIST) -> Sequence[Any]:
    if not 1 <= len(values) <= limit:
        raise Rejected(
            f"{name} takes 1 to {limit} values, not {len(values)}. "
            "Leave it out to filter by something else.",
            field="filter",
            limit=limit,
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


def parts(wanted: Text) -> list[tuple[str, bool]]:
    """The parts of a filename that are looked for, folded, and whether it begins with them.

    Raises Rejected for those that are too short or too long.
    """
    found = []
    if wanted.starts_with is not None:
        found.append((_part("filename.startsWith", wanted.starts_with, 1), True))
    if wanted.contains is not None:
        found.append((_part("filename.contains", wanted.contains, MIN_PART), False))
    return found


def _part(name: str, said: str, least: int) -> str:
    part = fold(said[: MAX_PART + 1])
    if not least <= len(part) or len(said) > MAX_PART:
        raise Rejected(
            f"{name} takes {least} to {MAX_PART} characters.",
            field="filter",
            limit=MAX_PART if len(said) > MAX_PART else least,
            actual=len(said) if len(said) > MAX_PART else len(part),
        )
    return part


def kept(text: str) -> str:
    """As the databases keep it: none keeps a NUL. Raises Rejected for a name that none can have."""
    if len(text) > MAX_NAME:
        raise Rejected(
            f"A filter takes names and tags of at most {MAX_NAME} characters, not {len(text)}.",
            field="filter",
            limit=MAX_NAME,
            actual=len(text),
        )
    return text.replace("\0", "")


def tag_of(text: str) -> str:
    """As images have it. Raises Rejected, as `kept` does."""
    return kept(text).strip()


def searched(search: str) -> list[str]:
    """The words to look for, each once. A search of commas and the like has none: it finds nothing.

    Raises Rejected for an empty search, and for one that is too long.
    """
    if len(search) > MAX_SEARCH:
        raise Rejected(
            f"search takes at most {MAX_SEARCH} characters, not {len(search)}.",
            field="search",
            limit=MAX_SEARCH,
            actual=len(search),
        )
    if not fold(search):
        raise Rejected("search is empty. Name a word, or leave it out.", field="search")
    return list(dict.fromkeys(words_of(search)))
