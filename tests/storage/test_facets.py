"""Counts of images by kind: the same as counting them one by one, whatever the filter."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import facets
from storage.database import Database
from storage.errors import Rejected
from storage.facets import Count
from storage.filters import Between, ImageFilter, Tagged, Usage
from storage.library import Library
from storage.models import ImageOrigin, Orientation
from storage.viewers import Viewer
from tests.storage.rows import ON_SQLITE, image_rows, insert
from tests.storage.shelves import (
    MOMENTS,
    TAGS,
    Filters,
    Picture,
    Searches,
    fill,
    matches,
    shape,
    usages,
)

AGAIN = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the shelf is only read
)


@pytest.fixture
async def shelf(database: Database, alice: Viewer, bob: Viewer) -> Viewer:
    """Alice, whose library holds the pictures of the shelf. Bob's holds one more."""
    await fill(database, alice)
    await insert(database, image_rows(bob, tags=("sea",), created_at=MOMENTS[2], provider="acme"))
    return alice


def most_first(counter: Counter[str], first: int | None = None) -> list[Count]:
    ranked = sorted(counter.items(), key=lambda each: (-each[1], each[0]))
    return [Count(value, n) for value, n in ranked[:first]]


def months_of(found: list[Picture]) -> list[Count]:
    counter = Counter(f"{picture.created_at:%Y-%m}" for picture in found)
    return [Count(month, counter[month]) for month in sorted(counter, reverse=True)]


async def check(library: Library, viewer: Viewer, filter: ImageFilter) -> None:
    """All counts of what matches are what counting one by one gives."""
    found = [] if filter.search == "," else matches(filter)
    origins = Counter(picture.origin for picture in found)
    shapes = Counter(map(shape, found))
    ways = Counter(usage for picture in found for usage in usages(picture))
    makers = Counter(picture.provider for picture in found if picture.provider)
    tags = Counter(tag for picture in found for tag in picture.tags)

    assert await library.count_images(viewer, filter) == len(found)
    assert await library.count_by(facets.origins, viewer, filter) == [
        Count(origin, origins[origin]) for origin in ImageOrigin
    ]
    assert await library.count_by(facets.orientations, viewer, filter) == [
        Count(each, shapes[each]) for each in Orientation
    ]
    assert await library.count_by(facets.usage, viewer, filter) == [
        Count(usage, ways[usage]) for usage in Usage
    ]
    assert await library.count_by(facets.providers, viewer, filter) == most_first(makers)
    assert await library.count_by(facets.months, viewer, filter) == months_of(found)
    assert await library.count_by(facets.most_tagged(3), viewer, filter) == most_first(tags, 3)


@given(filter=Filters, search=Searches, in_trash=st.booleans())
@AGAIN
async def test_every_count_is_what_counting_one_by_one_gives(
    filter: ImageFilter, search: str | None, in_trash: bool, library: Library, shelf: Viewer
) -> None:
    await check(library, shelf, replace(filter, search=search, is_deleted=in_trash))


@pytest.mark.parametrize("after", [None, *MOMENTS, MOMENTS[0].replace(year=1)])
@pytest.mark.parametrize("before", [None, *MOMENTS[::2], MOMENTS[0].replace(year=9999)])
@pytest.mark.parametrize("shift", [0, 1])
@ON_SQLITE
async def test_a_range_of_times_counts_to_the_microsecond(
    after: datetime | None,
    before: datetime | None,
    shift: int,
    library: Library,
    shelf: Viewer,
) -> None:
    tick = timedelta(microseconds=shift)
    start = after and after + tick
    wide = Between(gte=start, lt=before and before + tick)
    narrow = Between(gt=start, lte=before)

    for times in (wide, narrow):
        await check(library, shelf, ImageFilter(created_at=times))


@pytest.mark.parametrize("tag", [*TAGS, "nowhere", "se\0a"])
@pytest.mark.parametrize("in_trash", [False, True])
async def test_a_tag_alone_is_counted(
    tag: str, in_trash: bool, library: Library, shelf: Viewer
) -> None:
    kept = tag.replace("\0", "")
    expected = len(matches(ImageFilter(tags=Tagged(any=[kept]), is_deleted=in_trash)))

    asked = ImageFilter(tags=Tagged(all=[tag]), is_deleted=in_trash)

    assert await library.count_images(shelf, asked) == expected


@ON_SQLITE
@pytest.mark.parametrize(("first", "limit"), [(0, 1), (101, 100)])
async def test_too_many_tags_or_none_are_rejected(
    first: int, limit: int, library: Library, alice: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await library.count_by(facets.most_tagged(first), alice, ImageFilter())

    assert (refused.value.field, refused.value.limit, refused.value.actual) == (
        "first",
        limit,
        first,
    )
