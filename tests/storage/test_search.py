"""Lists of images: what is in them, in which order, and cut into pages that fit together.

The truth they are held against is a filter in plain Python over one shelf of pictures.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.errors import Rejected
from storage.library import Library, NewImage
from storage.models import Attachment, Content, ContentState, Image, ImageOrigin
from storage.search import (
    Between,
    ImageFilter,
    Orientation,
    Page,
    PageRequest,
    Sort,
    SortField,
    Tagged,
    Usage,
    fold,
    orientation,
    words_of,
)
from storage.trash import Trash
from storage.viewers import Viewer
from storage.words import MAX_INDEXED, MAX_WORD, SCOPE
from tests.pictures import jpeg
from tests.storage.rows import ON_SQLITE, image_rows, insert

MOMENTS = [datetime(2027, 1, 1, tzinfo=UTC) + timedelta(hours=9 * n) for n in range(8)]
TAGS = ["alps", "sea", "Été", "100%", "a_b"]
WORDS = ["Café", "zürich", "100%", "1000", "a_b", "axb", "50/50", "c\\d", "Straße", "LAKE"]
SHAPES = [(400, 300), (300, 400), (300, 300)]


@dataclass(frozen=True)
class Picture:
    """What is true of an image on the shelf."""

    id: UUID
    origin: ImageOrigin
    is_ai_generated: bool
    is_favorite: bool
    filename: str
    title: str
    byte_size: int
    size: tuple[int, int]
    tags: frozenset[str]
    created_at: datetime
    updated_at: datetime
    posts: frozenset[UUID]


def _pictures(dice: Random, count: int) -> list[Picture]:
    """Values repeat often, so that the order has many ties to break."""
    return [
        Picture(
            id=UUID(int=dice.getrandbits(128)),
            origin=dice.choice(list(ImageOrigin)),
            is_ai_generated=dice.random() < 0.4,
            is_favorite=dice.random() < 0.4,
            filename=f"{dice.choice('abAB')}{dice.choice('12')}.jpg",
            title=" ".join(dice.sample(WORDS, dice.randint(0, 3))),
            byte_size=dice.choice([10, 200, 3000]),
            size=dice.choice(SHAPES),
            tags=frozenset(dice.sample(TAGS, dice.randint(0, 3))),
            created_at=dice.choice(MOMENTS),
            updated_at=dice.choice(MOMENTS),
            posts=frozenset(dice.sample(list(POSTS), dice.choice([0, 0, 1, 2]))),
        )
        for _ in range(count)
    ]


POSTS = {UUID(int=n + 1): state for n, state in enumerate([*ContentState, ContentState.DRAFT])}
SHELF = _pictures(Random(7), 60)


@pytest.fixture
async def shelf(database: Database, alice: Viewer, bob: Viewer) -> Viewer:
    """Alice, whose library holds the pictures of the shelf. Bob's holds others."""
    pairs = [
        image_rows(
            alice,
            id=picture.id,
            tags=tuple(picture.tags),
            origin=picture.origin,
            is_ai_generated=picture.is_ai_generated,
            is_favorite=picture.is_favorite,
            filename=picture.filename,
            title=picture.title,
            byte_size=picture.byte_size,
            width=picture.size[0],
            height=picture.size[1],
            created_at=picture.created_at,
            updated_at=picture.updated_at,
            search_text=" ".join(words_of(picture.filename, picture.title)),
        )
        for picture in SHELF
    ]
    his = image_rows(bob, tags=("sea",), filename="a1.jpg", search_text="a1 jpg lake")
    await insert(database, *pairs, his)
    async with database.writing() as session:
        for id, state in POSTS.items():
            session.add(
                Content(
                    id=id,
                    workspace_id=alice.workspace_id,
                    external_id=str(id),
                    state=state,
                    scheduled_at=MOMENTS[0],
                )
            )
        await session.flush()
        for picture in SHELF:
            for post in picture.posts:
                session.add(Attachment(content_id=post, image_id=picture.id, position=0))
    return alice


@pytest.fixture
async def one_image(database: Database, alice: Viewer) -> Viewer:
    """Alice, whose library holds one image."""
    await insert(database, image_rows(alice, filename="a1.jpg"))
    return alice


# ---- the truth --------------------------------------------------------------------------------


def is_wanted(picture: Picture, filter: ImageFilter) -> bool:
    times, tags = filter.created_at, filter.tags
    return (
        (filter.ids is None or picture.id in filter.ids)
        and (filter.origins is None or picture.origin in filter.origins)
        and (times.gt is None or picture.created_at > times.gt)
        and (times.gte is None or picture.created_at >= times.gte)
        and (times.lt is None or picture.created_at < times.lt)
        and (times.lte is None or picture.created_at <= times.lte)
        and (tags.any is None or bool(picture.tags & set(tags.any)))
        and (tags.all is None or picture.tags >= set(tags.all))
        and (tags.none is None or not picture.tags & set(tags.none))
        and (filter.usage is None or filter.usage in usages(picture))
        and (filter.attached_to is None or filter.attached_to in picture.posts)
        and (filter.orientation is None or filter.orientation is orientation(*picture.size))
        and (filter.is_ai_generated is None or picture.is_ai_generated is filter.is_ai_generated)
        and (filter.is_favorite is None or picture.is_favorite is filter.is_favorite)
        and (
            filter.search is None
            or all(
                any(
                    word == other or (len(word) > 1 and other.startswith(word))
                    for other in words_of(picture.filename, picture.title)
                )
                for word in words_of(filter.search) or ["\0"]
            )
        )
    )


def usages(picture: Picture) -> set[Usage]:
    if not picture.posts:
        return {Usage.UNUSED}
    return {Usage.USED} | {Usage(POSTS[post].value) for post in picture.posts}


def wanted(filter: ImageFilter, sort: Sort) -> list[UUID]:
    def key(picture: Picture) -> Any:
        if sort.field is SortField.FILENAME:
            return fold(picture.filename), picture.id
        return getattr(picture, sort.field.value), picture.id

    found = [picture for picture in SHELF if is_wanted(picture, filter)]
    return [picture.id for picture in sorted(found, key=key, reverse=sort.descending)]


# ---- pages ------------------------------------------------------------------------------------


async def walk(
    library: Library,
    viewer: Viewer,
    filter: ImageFilter,
    sort: Sort,
    size: int,
    *,
    backwards: bool,
) -> list[Page[Image]]:
    """All pages, in the order in which they are read."""
    pages: list[Page[Image]] = []
    cursor = None
    while True:
        page = await library.images(viewer, filter, sort, PageRequest(size, cursor, backwards))
        pages.append(page)
        if not (page.has_previous if backwards else page.has_next):
            return pages
        cursor = page.cursors[0 if backwards else -1]


def some_of(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=4)


ZONES = [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))]
Times = st.builds(
    lambda time, zone, shift: (time + shift).astimezone(zone),
    st.sampled_from(MOMENTS),
    st.sampled_from(ZONES),
    st.sampled_from([timedelta(0), timedelta(minutes=-1), timedelta(minutes=1)]),
)
Filters = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(
            st.sampled_from([picture.id for picture in SHELF]), min_size=1, max_size=40
        ),
        "origins": some_of(list(ImageOrigin)),
        "created_at": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(["gt", "gte", "lt", "lte"], Times)
        ).map(lambda said: Between(**said)),
        "tags": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(["any", "all", "none"], some_of([*TAGS, "nowhere"]))
        ).map(lambda said: Tagged(**said)),
        "usage": st.sampled_from(Usage),
        "attached_to": st.sampled_from([*POSTS, UUID(int=99)]),
        "orientation": st.sampled_from(Orientation),
        "is_ai_generated": st.booleans(),
        "is_favorite": st.booleans(),
        "search": some_of([*WORDS, "cafe", "strasse", "lak", ".JPG", "%", "_"]).map(" ".join),
    },
)
# Few conditions at a time: all of them together match nothing.
FewConditions = st.builds(
    lambda said, names: ImageFilter(**{name: said[name] for name in list(said)[: len(names)]}),
    Filters,
    st.lists(st.none(), max_size=3),
)
WITHOUT_SEARCH = [field for field in SortField if field is not SortField.RELEVANCE]
Sorts = st.builds(Sort, st.sampled_from(WITHOUT_SEARCH), st.booleans())
AGAIN = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the shelf is only read
)


@given(
    filter=FewConditions,
    sort=Sorts,
    size=st.sampled_from([3, 7, 20, 59, 60, 61]),
    backwards=st.booleans(),
)
@AGAIN
async def test_the_pages_together_are_what_a_filter_in_plain_python_gives(
    filter: ImageFilter,
    sort: Sort,
    size: int,
    backwards: bool,
    library: Library,
    shelf: Viewer,
) -> None:
    expected = wanted(filter, sort)

    pages = await walk(library, shelf, filter, sort, size, backwards=backwards)

    in_order = pages[::-1] if backwards else pages
    assert [image.id for page in in_order for image in page.rows] == expected
    assert all(len(page.rows) == size for page in pages[:-1])
    assert [page.has_next for page in in_order] == [True] * (len(pages) - 1) + [False]
    assert [page.has_previous for page in in_order] == [False] + [True] * (len(pages) - 1)
    assert await library.count_images(shelf, filter) == len(expected)


@given(sort=Sorts, place=st.integers(0, 59), size=st.integers(1, 12))
@AGAIN
async def test_a_cursor_stands_between_what_was_before_it_and_what_comes_after(
    sort: Sort, place: int, size: int, library: Library, shelf: Viewer
) -> None:
    order = wanted(ImageFilter(), sort)
    everything = await library.images(shelf, ImageFilter(), sort, PageRequest(60))
    cursor = everything.cursors[place]

    after = await library.images(shelf, ImageFilter(), sort, PageRequest(size, cursor))
    before = await library.images(shelf, ImageFilter(), sort, PageRequest(size, cursor, True))

    assert [image.id for image in after.rows] == order[place + 1 : place + 1 + size]
    assert [image.id for image in before.rows] == order[max(0, place - size) : place]


async def test_an_image_on_a_page_knows_its_tags(library: Library, shelf: Viewer) -> None:
    page = await library.images(shelf, ImageFilter(), Sort(), PageRequest(60))

    assert {image.id: frozenset(image.tags) for image in page.rows} == {
        picture.id: picture.tags for picture in SHELF
    }


async def test_an_empty_library_has_one_empty_page(library: Library, alice: Viewer) -> None:
    page = await library.images(alice, ImageFilter(), Sort(), PageRequest(10))

    assert (list(page.rows), list(page.cursors)) == ([], [])
    assert not page.has_next
    assert not page.has_previous


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("field", SortField)
async def test_pages_stay_whole_while_images_come_and_go(
    field: SortField,
    backwards: bool,
    library: Library,
    trash: Trash,
    database: Database,
    alice: Viewer,
) -> None:
    dice = Random(field.value)
    wish = ImageFilter(search="lake" if field is SortField.RELEVANCE else None)

    async def add(count: int) -> list[UUID]:
        rows = [
            image_rows(
                alice,
                filename=f"{dice.choice('abc')}.jpg",
                name_text=dice.choice(["lake", "lakes", "sea"]),
                search_text="a lake",
                byte_size=dice.choice([1, 2, 3]),
                created_at=dice.choice(MOMENTS),
                updated_at=dice.choice(MOMENTS),
            )
            for _ in range(count)
        ]
        return await insert(database, *rows)

    passing = await add(15)
    staying = await add(15)
    seen: list[UUID] = []
    cursor = None
    has_more = True

    while has_more:
        page = await library.images(alice, wish, Sort(field), PageRequest(4, cursor, backwards))
        seen.extend(image.id for image in page.rows)
        has_more = page.has_previous if backwards else page.has_next
        if page.cursors:
            cursor = page.cursors[0 if backwards else -1]
        if passing:
            await add(2)
            # Often the very image that the cursor stands on.
            gone = next((id for id in seen[-1:] if id in passing), dice.choice(passing))
            passing.remove(gone)
            await trash.delete(alice, [gone])

    assert len(seen) == len(set(seen))
    assert set(seen) >= set(staying)


# ---- cursors ----------------------------------------------------------------------------------


async def first_cursor(library: Library, viewer: Viewer, sort: Sort) -> str:
    page = await library.images(viewer, ImageFilter(), sort, PageRequest(1))
    return page.cursors[0]


@ON_SQLITE
@pytest.mark.parametrize(
    ("filter", "sort"),
    [
        pytest.param(ImageFilter(is_favorite=True), Sort(), id="filter"),
        pytest.param(ImageFilter(search="lake"), Sort(), id="search"),
        pytest.param(ImageFilter(), Sort(SortField.UPDATED_AT), id="field"),
        pytest.param(ImageFilter(), Sort(descending=False), id="direction"),
    ],
)
async def test_a_cursor_is_no_good_for_another(
    filter: ImageFilter, sort: Sort, library: Library, one_image: Viewer
) -> None:
    cursor = await first_cursor(library, one_image, Sort())

    with pytest.raises(Rejected) as refused:
        await library.images(one_image, filter, sort, PageRequest(5, cursor))

    assert refused.value.field == "after"
    assert "another filter, search or sort" in refused.value.message


@ON_SQLITE
async def test_a_cursor_is_no_good_in_another_workspace(
    library: Library, one_image: Viewer, bob: Viewer
) -> None:
    cursor = await first_cursor(library, one_image, Sort())

    with pytest.raises(Rejected) as refused:
        await library.images(bob, ImageFilter(), Sort(), PageRequest(5, cursor, True))

    assert refused.value.field == "before"


def forged(cursor: str, *, value: Any = ..., id: Any = ...) -> str:
    """A cursor with our own seal, about another place."""
    seal, true_value, true_id = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    said = [seal, true_value if value is ... else value, true_id if id is ... else id]
    return urlsafe_b64encode(json.dumps(said).encode()).decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (SortField.BYTE_SIZE, 2**31),
        (SortField.BYTE_SIZE, -(2**63) - 1),
        (SortField.BYTE_SIZE, 10**400),
        (SortField.BYTE_SIZE, True),
        (SortField.BYTE_SIZE, 1.0),
        (SortField.BYTE_SIZE, None),
        (SortField.FILENAME, "a\0"),
        (SortField.FILENAME, "\ud800"),
        (SortField.FILENAME, ["a"]),
        (SortField.FILENAME, "a" * 2401),
        (SortField.UPDATED_AT, "0001-01-01T00:00:00+14:00"),
        (SortField.UPDATED_AT, "9999-12-31T23:59:59-14:00"),
        (SortField.UPDATED_AT, "2027-05-04T12:00:00"),
        (SortField.UPDATED_AT, "soon"),
        (SortField.CREATED_AT, 2**63),
        (SortField.CREATED_AT, "2027-05-04T12:00:00+00:00"),
        (SortField.UPDATED_AT, 1_800_000_000),
    ],
)
async def test_a_cursor_at_a_place_that_cannot_be_is_rejected(
    field: SortField, value: Any, library: Library, one_image: Viewer
) -> None:
    cursor = forged(await first_cursor(library, one_image, Sort(field)), value=value)

    with pytest.raises(Rejected) as refused:
        await library.images(one_image, ImageFilter(), Sort(field), PageRequest(5, cursor))

    assert refused.value.field == "after"


Anything = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400])
    | st.text(max_size=20)
    | st.sampled_from(["\0", "\ud800", "x" * 10_000, "00000000000000000000000000000000"])
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2027-05-04"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@given(sort=Sorts, value=Anything, id=Anything, keeps=st.sampled_from(["value", "id", "neither"]))
@AGAIN
async def test_a_cursor_with_a_forged_inside_is_rejected_or_harmless(
    sort: Sort, value: Any, id: Any, keeps: str, library: Library, one_image: Viewer
) -> None:
    cursor = forged(
        await first_cursor(library, one_image, sort),
        value=... if keeps == "value" else value,
        id=... if keeps == "id" else id,
    )

    with suppress(Rejected):
        page = await library.images(one_image, ImageFilter(), sort, PageRequest(100, cursor))
        assert len(page.rows) <= 1


@given(
    cursor=st.text(max_size=60)
    | st.binary(max_size=60).map(lambda data: urlsafe_b64encode(data).decode())
    | Anything.map(lambda value: urlsafe_b64encode(json.dumps(value).encode()).decode())
    | st.sampled_from(["[" * 100_000, "x" * 1_000_000]).map(
        lambda text: urlsafe_b64encode(text.encode()).decode()
    ),
    backwards=st.booleans(),
)
@AGAIN
async def test_a_cursor_that_we_did_not_make_is_rejected(
    cursor: str, backwards: bool, library: Library, one_image: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await library.images(one_image, ImageFilter(), Sort(), PageRequest(5, cursor, backwards))

    assert refused.value.field == ("before" if backwards else "after")


# ---- the search -------------------------------------------------------------------------------


async def found(library: Library, database: Database, viewer: Viewer, text: str, said: str) -> bool:
    """Whether the search finds an image with this title."""
    await insert(database, image_rows(viewer, title=text, search_text=" ".join(words_of(text))))
    return await library.count_images(viewer, ImageFilter(search=said)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Café au lait", "cafe"),
        ("cafe", "CAFÉ"),
        ("Cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("Straße", "STRASSE"),
        ("İstanbul", "istanbul"),
        ("ΟΔΟΣ", "οδός"),
        ("שָׁלוֹם", "שלום"),
        ("ﬁsh ①", "fish 1"),
        ("a beach\n at\tdawn", "dawn  beach"),
        ("sunset", "sun"),
        ("100% wool", "100%"),
        ("a_b", "a_b"),
        ("50/500", "50/50"),
        ("c\\d", "c\\d"),
        ("it's", "it's"),
        ("IMG_1234.jpg", "1234"),
        ("at the sea 🌊", "🌊"),
        ("東京タワー", "タワー"),
        ("हिन्दी में", "हिन्दी"),
        ("🏖\ufe0fSummer", "summer"),
        ("☀ beach", "☀\ufe0f"),
        ("☀\ufe0f beach", "☀ beach"),
        ("co\u00adoperate", "cooperate"),
        ("supermarket", "super\u200bmarket"),
        ("👩\u200d👩\u200d👧 at home", "👧"),
        ("می\u200cخواهم", "میخواهم"),
        ("میخواهم", "می\u200cخواهم"),
        ("کتاب\u200cها", "کتاب"),
        ("ភាសាខ្មែរ", "ខ្មែរ"),
        ("မြန်မာဘာသာ", "ဘာသာ"),
        ("ภาษาไทย", "ไทย"),
        ("བོད་ཡིག", "ཡིག"),
        ("x" * 100, "x" * 100),
        ("Hello", "He\0llo"),
    ],
)
async def test_a_search_finds(
    text: str, said: str, library: Library, database: Database, alice: Viewer
) -> None:
    assert await found(library, database, alice, text, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sunset", "nse"),
        ("axb", "a_b"),
        ("alps", "a"),
        ("anything", "%"),
        ("anything", "_"),
        ("50", "50/60"),
        ("cd", "c\\d"),
        ("हिन्दी", "ह"),
        ("beach", "beach dawn"),
    ],
)
async def test_a_search_does_not_find(
    text: str, said: str, library: Library, database: Database, alice: Viewer
) -> None:
    assert not await found(library, database, alice, text, said)


@given(text=st.text(min_size=1, max_size=30))
def test_every_word_of_a_text_is_found_in_it(text: str) -> None:
    inside = words_of(text)

    assert all(word in inside for part in text.split() for word in words_of(part))


@given(text=st.text(max_size=30))
def test_what_is_folded_already_stays_as_it_is(text: str) -> None:
    assert fold(fold(text)) == fold(text)


async def test_a_prompt_of_more_words_than_an_index_takes_is_found_by_its_first(
    library: Library, alice: Viewer
) -> None:
    prompt = "".join(map(chr, range(0x20000, 0x20000 + 32_000)))

    await library.add_image(alice, jpeg(), NewImage(prompt=prompt))

    searches = (prompt[0], prompt[14_168], prompt[14_169], prompt[-1])
    found = [await library.count_images(alice, ImageFilter(search=each)) for each in searches]
    assert found == [1, 1, 0, 0]


async def test_both_texts_of_an_image_can_have_all_the_words_that_an_index_takes(
    database: Database, library: Library, alice: Viewer
) -> None:
    name, text = (
        words_of(" ".join("\U00010428" * 59 + f"{kind}{n:04}" for n in range(9_000)))
        for kind in "ab"
    )
    assert (
        sum(SCOPE + len(word.encode()) for word in set(name)) > MAX_INDEXED - SCOPE - 4 * MAX_WORD
    )

    await insert(database, image_rows(alice, name_text=" ".join(name), search_text=" ".join(text)))

    found = ImageFilter(search=f"{name[-1]} {text[-1]}")
    assert await library.count_images(alice, found) == 1


# ---- what makes no sense ----------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize(
    ("filter", "field", "limit", "actual"),
    [
        (ImageFilter(search="x" * 201), "search", 200, 201),
        (ImageFilter(search=""), "search", None, None),
        (ImageFilter(search=" \n "), "search", None, None),
        (ImageFilter(search="\0"), "search", None, None),
        (ImageFilter(ids=[]), "filter", 100, 0),
        (ImageFilter(ids=[uuid4() for _ in range(101)]), "filter", 100, 101),
        (ImageFilter(origins=[]), "filter", 100, 0),
        (ImageFilter(tags=Tagged(any=[])), "filter", 100, 0),
        (ImageFilter(tags=Tagged(all=[])), "filter", 100, 0),
        (ImageFilter(tags=Tagged(none=["x"] * 101)), "filter", 100, 101),
    ],
)
async def test_a_filter_that_makes_no_sense_is_rejected(
    filter: ImageFilter,
    field: str,
    limit: int | None,
    actual: int | None,
    library: Library,
    alice: Viewer,
) -> None:
    with pytest.raises(Rejected) as refused:
        await library.images(alice, filter, Sort(), PageRequest(5))

    assert (refused.value.field, refused.value.limit, refused.value.actual) == (
        field,
        limit,
        actual,
    )


@ON_SQLITE
@pytest.mark.parametrize("side", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize(
    "time",
    [
        pytest.param(datetime(2027, 5, 4), id="without a zone"),  # noqa: DTZ001
        pytest.param(
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), id="before the calendar"
        ),
    ],
)
async def test_a_time_that_is_no_moment_is_rejected(
    time: datetime, side: str, library: Library, alice: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await library.count_images(alice, ImageFilter(created_at=Between(**{side: time})))

    assert refused.value.field == "filter"


async def test_a_tag_that_no_database_keeps_is_searched_as_it_would_be_kept(
    library: Library, shelf: Viewer
) -> None:
    seas = await library.count_images(shelf, ImageFilter(tags=Tagged(any=["se\0a"])))

    assert seas == len([picture for picture in SHELF if "sea" in picture.tags])


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((2, 1), Orientation.LANDSCAPE),
        ((1, 2), Orientation.PORTRAIT),
        ((2, 2), Orientation.SQUARE),
    ],
)
def test_the_shape_of_a_picture_is_that_of_its_longer_side(
    size: tuple[int, int], shape: Orientation
) -> None:
    assert orientation(*size) is shape
