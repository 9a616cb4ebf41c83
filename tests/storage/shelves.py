"""A shelf of pictures with all that filters look at, and what a filter in plain Python finds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from storage.database import Database
from storage.filters import (
    Between,
    ImageFilter,
    Named,
    Numbers,
    Tagged,
    Text,
    Usage,
)
from storage.models import Attachment, Content, ContentState, ImageOrigin, Orientation, now
from storage.search import Sort, SortField, orientation
from storage.viewers import Viewer
from storage.words import fold, words_of
from tests.storage.rows import image_rows, insert

# Around midnight, the turn of a month, and a microsecond from each other.
MOMENTS = [
    datetime(2026, 12, 30, 9, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
    datetime(2027, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2027, 1, 1, 12, tzinfo=UTC),
    datetime(2027, 1, 2, tzinfo=UTC),
    datetime(2027, 2, 5, 6, tzinfo=UTC),
]
TAGS = ["alps", "sea", "Été", "100%", "sea side"]
FILENAMES = ["IMG_1.jpg", "img_2.JPG", "Éte.png", "lake-side.jpg", "a%b.webp", ""]
TITLES = ["", "Lake", "the lakes", "Sea side", "lake, lake and sea"]
PROMPTS = ["", "a lake", "lakeside at dawn", "the sea"]
MAKERS = [(None, None), (None, None), ("card", "card-1"), ("acme", "a"), ("acme", "b")]
POSTS = {UUID(int=n + 1): state for n, state in enumerate([*ContentState, ContentState.DRAFT])}


@dataclass(frozen=True)
class Picture:
    """What is true of an image on the shelf."""

    id: UUID
    origin: ImageOrigin
    provider: str | None
    model: str | None
    filename: str
    title: str
    prompt: str
    alt_text: str | None
    media_type: str
    width: int
    height: int
    byte_size: int
    is_ai_generated: bool
    is_favorite: bool
    is_deleted: bool
    tags: frozenset[str]
    created_at: datetime
    updated_at: datetime
    posts: frozenset[UUID]

    @property
    def name_words(self) -> list[str]:
        return words_of(self.filename, self.title, *sorted(self.tags))

    @property
    def other_words(self) -> list[str]:
        return words_of(self.alt_text, self.prompt)


def pictures(dice: Random, count: int) -> list[Picture]:
    """Values repeat often, so that the order has many ties to break."""
    made = []
    for _ in range(count):
        provider, model = dice.choice(MAKERS)
        is_deleted = dice.random() < 0.2
        made.append(
            Picture(
                id=UUID(int=dice.getrandbits(128)),
                origin=dice.choice(list(ImageOrigin)),
                provider=provider,
                model=model,
                filename=dice.choice(FILENAMES),
                title=dice.choice(TITLES),
                prompt=dice.choice(PROMPTS),
                alt_text=dice.choice([None, "A lake.", "Sea"]),
                media_type=dice.choice(["image/jpeg", "image/png"]),
                width=dice.choice([300, 400]),
                height=dice.choice([300, 400]),
                byte_size=dice.choice([10, 200, 3000]),
                is_ai_generated=dice.random() < 0.4,
                is_favorite=dice.random() < 0.4,
                is_deleted=is_deleted,
                tags=frozenset(dice.sample(TAGS, dice.randint(0, 3))),
                created_at=dice.choice(MOMENTS),
                updated_at=dice.choice(MOMENTS),
                posts=frozenset(
                    () if is_deleted else dice.sample(list(POSTS), dice.choice([0, 0, 1, 2]))
                ),
            )
        )
    return made


SHELF = pictures(Random(11), 80)


async def fill(database: Database, owner: Viewer, shelf: Sequence[Picture] = SHELF) -> None:
    rows = [
        image_rows(
            owner,
            id=picture.id,
            tags=tuple(picture.tags),
            origin=picture.origin,
            provider=picture.provider,
            model=picture.model,
            filename=picture.filename,
            title=picture.title,
            alt_text=picture.alt_text,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
            byte_size=picture.byte_size,
            is_ai_generated=picture.is_ai_generated,
            is_favorite=picture.is_favorite,
            deleted_at=now() if picture.is_deleted else None,
            name_text=" ".join(picture.name_words),
            search_text=" ".join(picture.other_words),
            created_at=picture.created_at,
            updated_at=picture.updated_at,
        )
        for picture in shelf
    ]
    await insert(database, *rows)
    async with database.writing() as session:
        for id, state in POSTS.items():
            session.add(
                Content(
                    id=id,
                    workspace_id=owner.workspace_id,
                    external_id=str(id),
                    state=state,
                    scheduled_at=MOMENTS[0],
                )
            )
        await session.flush()
        for picture in shelf:
            for post in picture.posts:
                session.add(Attachment(content_id=post, image_id=picture.id, position=0))


# ---- the truth -----------------------------------------------------------------------------------


def is_wanted(picture: Picture, filter: ImageFilter) -> bool:
    return (
        picture.is_deleted is filter.is_deleted
        and _holds(picture, filter)
        and (filter.search is None or points(picture, filter.search) > 0)
    )


def _holds(picture: Picture, filter: ImageFilter) -> bool:
    times, tags = filter.created_at, filter.tags
    return (
        (filter.ids is None or picture.id in filter.ids)
        and (filter.origins is None or picture.origin in filter.origins)
        and _is_named(picture.provider, filter.provider)
        and _is_named(picture.model, filter.model)
        and _is_written(picture.filename, filter.filename)
        and _is_named(picture.media_type, filter.media_type)
        and (times.gt is None or picture.created_at > times.gt)
        and (times.gte is None or picture.created_at >= times.gte)
        and (times.lt is None or picture.created_at < times.lt)
        and (times.lte is None or picture.created_at <= times.lte)
        and (tags.any is None or bool(picture.tags & _trimmed(tags.any)))
        and (tags.all is None or picture.tags >= _trimmed(tags.all))
        and (tags.none is None or not picture.tags & _trimmed(tags.none))
        and (filter.usage is None or filter.usage in usages(picture))
        and (filter.attached_to is None or filter.attached_to in picture.posts)
        and (filter.orientation is None or filter.orientation is shape(picture))
        and _is_in(picture.width, filter.width)
        and _is_in(picture.height, filter.height)
        and _is_in(picture.byte_size, filter.byte_size)
        and (filter.has_alt_text in (None, picture.alt_text is not None))
        and (filter.is_ai_generated in (None, picture.is_ai_generated))
        and (filter.is_favorite in (None, picture.is_favorite))
        and all(_holds(picture, each) for each in filter.all_of or ())
        and (filter.any_of is None or any(_holds(picture, each) for each in filter.any_of))
        and (filter.none_of is None or not _holds(picture, filter.none_of))
    )


def _trimmed(tags: Iterable[str]) -> set[str]:
    return {*map(str.strip, tags)}


def _is_named(value: str | None, wanted: Named | Text) -> bool:
    return (wanted.eq is None or value == wanted.eq) and (
        wanted.among is None or value in wanted.among
    )


def _is_written(value: str, wanted: Text) -> bool:
    return (
        _is_named(value, wanted)
        and (wanted.contains is None or fold(wanted.contains) in fold(value))
        and (wanted.starts_with is None or fold(value).startswith(fold(wanted.starts_with)))
    )


def _is_in(value: int, wanted: Numbers) -> bool:
    return (
        (wanted.eq is None or value == wanted.eq)
        and (wanted.gt is None or value > wanted.gt)
        and (wanted.gte is None or value >= wanted.gte)
        and (wanted.lt is None or value < wanted.lt)
        and (wanted.lte is None or value <= wanted.lte)
    )


def shape(picture: Picture) -> Orientation:
    return orientation(picture.width, picture.height)


def usages(picture: Picture) -> set[Usage]:
    if not picture.posts:
        return {Usage.UNUSED}
    return {Usage.USED} | {Usage(POSTS[post].value) for post in picture.posts}


def points(picture: Picture, search: str) -> int:
    """How well the picture answers to the search; 0 if it does not."""
    total = 0
    for word in dict.fromkeys(words_of(search)):

        def begins_one_of(words: Iterable[str], word: str = word) -> bool:
            return len(word) > 1 and any(each.startswith(word) for each in words)

        if word in picture.name_words:
            total += 4
        elif begins_one_of(picture.name_words):
            total += 3
        elif word in picture.other_words:
            total += 2
        elif begins_one_of(picture.other_words):
            total += 1
        else:
            return 0
    return total


def matches(filter: ImageFilter, shelf: Sequence[Picture] = SHELF) -> list[Picture]:
    return [picture for picture in shelf if is_wanted(picture, filter)]


def in_order(filter: ImageFilter, sort: Sort, shelf: Sequence[Picture] = SHELF) -> list[UUID]:
    def key(picture: Picture) -> Any:
        match sort.field:
            case SortField.RELEVANCE:
                return points(picture, filter.search or ""), picture.created_at, picture.id
            case SortField.FILENAME:
                return fold(picture.filename), picture.id
            case field:
                return getattr(picture, field.value), picture.id

    return [each.id for each in sorted(matches(filter, shelf), key=key, reverse=sort.descending)]


# ---- what can be asked ---------------------------------------------------------------------------


def some_of(values: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3).map(tuple)


def _made(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value with some of the fields."""
    return st.fixed_dictionaries({}, optional=fields).map(lambda said: kind(**said))


Times = st.builds(
    lambda time, shift: time + shift,
    st.sampled_from(MOMENTS),
    st.sampled_from([timedelta(microseconds=n) for n in (-1, 0, 1)]),
)
Sizes = _made(
    Numbers, **dict.fromkeys(["eq", "gt", "gte", "lt", "lte"], st.sampled_from([300, 350, 400]))
)
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "ids": some_of([picture.id for picture in SHELF]),
    "origins": some_of(list(ImageOrigin)),
    "provider": _made(
        Named, eq=st.sampled_from(["acme", "card", "no", ""]), among=some_of(["acme", "", "\0"])
    ),
    "model": _made(Named, eq=st.sampled_from(["a", "b"]), among=some_of(["a", "card-1"])),
    "filename": _made(
        Text,
        eq=st.sampled_from(FILENAMES),
        among=some_of(FILENAMES),
        contains=st.sampled_from(["img_", "ETE", "%b.", "side", "jpg", "xyz"]),
        starts_with=st.sampled_from(["i", "IMG", "é", "lake-side", "side", "a%", "_"]),
    ),
    "media_type": _made(Named, eq=st.just("image/png"), among=some_of(["image/jpeg"])),
    "created_at": _made(Between, **dict.fromkeys(["gt", "gte", "lt", "lte"], Times)),
    "tags": _made(
        Tagged, **dict.fromkeys(["any", "all", "none"], some_of([*TAGS, " sea ", "nowhere"]))
    ),
    "usage": st.sampled_from(Usage),
    "attached_to": st.sampled_from([*POSTS, UUID(int=99)]),
    "orientation": st.sampled_from(Orientation),
    "width": Sizes,
    "height": Sizes,
    "byte_size": _made(Numbers, gte=st.sampled_from([10, 200]), lt=st.sampled_from([201, 9999])),
    "has_alt_text": st.booleans(),
    "is_ai_generated": st.booleans(),
    "is_favorite": st.booleans(),
}
COUNTED = ("origins", "provider", "orientation", "is_ai_generated")
"""What the counters tell apart."""


def _few(names: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Few conditions at a time: all of them together match nothing."""
    return st.lists(st.sampled_from(names), max_size=2, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: CONDITIONS[name] for name in chosen})
    )


def _nested(
    flat: st.SearchStrategy[dict[str, Any]], inner: st.SearchStrategy[Any]
) -> st.SearchStrategy[ImageFilter]:
    many = st.lists(inner, min_size=1, max_size=2).map(tuple)
    return st.builds(
        lambda said, more: ImageFilter(**said, **more),
        flat,
        st.fixed_dictionaries({}, optional={"all_of": many, "any_of": many, "none_of": inner}),
    )


def _filters(outer: Sequence[str], inner: Sequence[str]) -> st.SearchStrategy[ImageFilter]:
    leaves = _few(inner).map(lambda said: ImageFilter(**said))
    return _nested(_few(outer), leaves | _nested(_few(inner), leaves))


Filters = _filters(list(CONDITIONS), list(CONDITIONS)) | _filters([*COUNTED, "created_at"], COUNTED)
Searches = st.none() | some_of(["lake", "LAKES", "sea", "img", "1", "é", "100%", "of", ","]).map(
    " ".join
)
