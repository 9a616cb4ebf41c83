"""Posts in the making: saved again and again, with their images in an order without gaps."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import select

from storage.attachments import MAX_ATTACHMENTS
from storage.contents import MAX_TEXT, ContentPatch, Contents
from storage.cursors import PageRequest
from storage.database import Database
from storage.errors import Conflict, IdempotencyMismatch, NotFound, Rejected, TooLong
from storage.models import Attachment, Content, ContentState
from storage.viewers import Viewer
from tests.storage.conftest import Ear
from tests.storage.rows import ON_SQLITE, insert_images

NOON = datetime(2027, 5, 4, 12, 0, tzinfo=UTC)
POST = ContentPatch(external_id="post")


async def images_in(contents: Contents, viewer: Viewer, content: Content) -> list[UUID]:
    """The content's images in their order, whose positions count from 0 without gaps."""
    (rows,) = await contents.attachments_of_contents(viewer, [content.id])
    assert [row.position for row in rows] == list(range(len(rows)))
    return [row.image_id for row in rows]


async def attachments_in(contents: Contents, viewer: Viewer, content: Content) -> list[UUID]:
    (rows,) = await contents.attachments_of_contents(viewer, [content.id])
    return [row.id for row in rows]


async def read(contents: Contents, viewer: Viewer, id: UUID) -> Content:
    (content,) = await contents.by_id(viewer, [id])
    assert content is not None
    return content


async def count_contents(database: Database) -> int:
    async with database.reading() as session:
        return len((await session.exec(select(Content.id))).all())


# ---- told -------------------------------------------------------------------------------------


async def test_whoever_shows_where_an_image_is_used_is_told_when_that_changes(
    database: Database, alice: Viewer
) -> None:
    ear = Ear()
    contents = Contents(database, changed=ear)
    a, b, c, d = await insert_images(database, alice, 4)
    post = await contents.save(alice, POST)

    async def told(act: Awaitable[object]) -> list[UUID]:
        ear.told.clear()
        await act
        return sorted(ear.told)

    async def place_of(image: UUID) -> UUID:
        (places,) = await contents.usages_of_images(alice, [image], PageRequest(1))
        return places.rows[0].id

    assert await told(contents.attach(alice, post.id, [a, b])) == sorted([a, b])
    assert await told(contents.attach(alice, post.id, [c])) == [c]
    assert await told(contents.attach(alice, post.id, [d], position=2)) == sorted([c, d])
    assert await told(contents.attach(alice, post.id, [a], position=0, alt_text_override="A")) == [
        a
    ]
    order = [await place_of(image) for image in (a, d, b, c)]
    assert await told(contents.reorder(alice, post.id, order)) == sorted([b, d])
    assert await told(contents.detach(alice, [await place_of(b)])) == sorted([b, c])

    used = sorted([a, d, c])
    for patch in (
        ContentPatch(state=ContentState.SCHEDULED, scheduled_at=NOON),
        ContentPatch(scheduled_at=NOON + timedelta(days=1)),
        ContentPatch(state=ContentState.PUBLISHED),
    ):
        assert await told(contents.save(alice, patch, id=post.id)) == used


async def test_what_leaves_every_use_as_it_is_is_not_told(
    database: Database, alice: Viewer, bob: Viewer
) -> None:
    ear = Ear()
    contents = Contents(database, changed=ear)
    [image] = await insert_images(database, alice, 1)
    post = await contents.save(alice, POST)
    await contents.attach(alice, post.id, [image], idempotency_key="k")
    ear.told.clear()

    await contents.attach(alice, post.id, [image], idempotency_key="k")
    await contents.save(alice, ContentPatch(text="New words"), id=post.id)
    await contents.save(alice, ContentPatch(state=ContentState.DRAFT), id=post.id)
    await contents.save(alice, ContentPatch(state=ContentState.PUBLISHED))
    for refused in (
        contents.attach(bob, post.id, [image]),
        contents.attach(alice, post.id, [uuid4()]),
        contents.detach(alice, [uuid4()]),
    ):
        with pytest.raises(NotFound):
            await refused

    assert ear.told == []


# ---- saved ------------------------------------------------------------------------------------


async def test_a_new_content_is_a_draft_that_says_nothing(
    contents: Contents, alice: Viewer
) -> None:
    saved = await contents.save(alice, ContentPatch(external_id="post"))

    found = await read(contents, alice, saved.id)
    assert (found.external_id, found.text, found.platforms) == ("post", "", [])
    assert (found.state, found.scheduled_at) == (ContentState.DRAFT, None)
    assert (found.auto_image, found.version) == (False, 1)


async def test_what_a_patch_says_is_kept(contents: Contents, alice: Viewer) -> None:
    patch = ContentPatch("post", "Hello 😀", ["instagram"], ContentState.SCHEDULED, NOON, True)

    saved = await contents.save(alice, patch)

    found = await read(contents, alice, saved.id)
    assert (found.external_id, found.text, found.platforms) == ("post", "Hello 😀", ["instagram"])
    assert (found.state, found.scheduled_at) == (ContentState.SCHEDULED, NOON)
    assert found.auto_image


async def test_saving_again_with_the_external_id_changes_the_same_content(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    first = await contents.save(alice, ContentPatch(external_id="post", text="Before"))

    second = await contents.save(alice, ContentPatch(external_id="post", auto_image=True))

    assert (second.id, second.version) == (first.id, 2)
    assert (second.text, second.auto_image) == ("Before", True)
    assert await count_contents(database) == 1


async def test_saving_without_any_id_makes_a_content_each_time(
    contents: Contents, alice: Viewer
) -> None:
    first = await contents.save(alice, ContentPatch(text="One"))

    second = await contents.save(alice, ContentPatch(text="Two"))

    assert first.id != second.id
    assert first.external_id != second.external_id


async def test_saving_by_id_can_change_the_external_id(contents: Contents, alice: Viewer) -> None:
    saved = await contents.save(alice, ContentPatch(external_id="before"))

    await contents.save(alice, ContentPatch(external_id="after"), id=saved.id)

    found = await contents.by_external_id(alice, "after")
    assert found is not None
    assert (found.id, found.version) == (saved.id, 2)
    assert await contents.by_external_id(alice, "before") is None


async def test_an_external_id_that_is_another_contents_is_a_conflict(
    contents: Contents, alice: Viewer
) -> None:
    await contents.save(alice, ContentPatch(external_id="taken"))
    mine = await contents.save(alice, ContentPatch(external_id="mine"))

    with pytest.raises(Conflict) as refused:
        await contents.save(alice, ContentPatch(external_id="taken", text="New"), id=mine.id)

    assert "'taken'" in refused.value.message
    found = await read(contents, alice, mine.id)
    assert (found.external_id, found.text, found.version) == ("mine", "", 1)


async def test_the_same_external_id_saved_many_times_at_once_is_one_content(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    saved = await asyncio.gather(
        *(
            contents.save(alice, ContentPatch(external_id="post", text=f"No. {n}"))
            for n in range(10)
        )
    )

    assert len({content.id for content in saved}) == 1
    assert sorted(content.version for content in saved) == list(range(1, 11))
    assert await count_contents(database) == 1


async def test_two_workspaces_can_use_the_same_external_id(
    contents: Contents, alice: Viewer, bob: Viewer
) -> None:
    hers = await contents.save(alice, ContentPatch(external_id="post", text="Hers"))

    his = await contents.save(bob, ContentPatch(external_id="post", text="His"))

    assert his.id != hers.id
    assert (await read(contents, alice, hers.id)).text == "Hers"


async def test_a_change_of_a_version_that_is_gone_is_a_conflict(
    contents: Contents, alice: Viewer
) -> None:
    saved = await contents.save(alice, POST)
    await contents.save(alice, ContentPatch(text="First"), id=saved.id, expected_version=1)

    with pytest.raises(Conflict):
        await contents.save(alice, ContentPatch(text="Second"), id=saved.id, expected_version=1)

    found = await read(contents, alice, saved.id)
    assert (found.text, found.version) == ("First", 2)


async def test_a_new_scheduled_content_needs_a_time(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await contents.save(alice, ContentPatch(state=ContentState.SCHEDULED))

    assert refused.value.field == "scheduledAt"
    assert await count_contents(database) == 0


async def test_a_scheduled_content_cannot_lose_its_time(contents: Contents, alice: Viewer) -> None:
    saved = await contents.save(
        alice, ContentPatch(state=ContentState.SCHEDULED, scheduled_at=NOON)
    )

    with pytest.raises(Rejected):
        await contents.save(alice, ContentPatch(scheduled_at=None), id=saved.id)

    found = await read(contents, alice, saved.id)
    assert (found.scheduled_at, found.version) == (NOON, 1)


async def test_a_time_is_the_same_moment_in_any_zone(contents: Contents, alice: Viewer) -> None:
    in_tokyo = NOON.astimezone(timezone(timedelta(hours=9)))

    saved = await contents.save(alice, ContentPatch(scheduled_at=in_tokyo))

    assert (await read(contents, alice, saved.id)).scheduled_at == NOON


@pytest.mark.parametrize(
    "time",
    [
        pytest.param(datetime(2027, 5, 4, 12, 0), id="without a zone"),  # noqa: DTZ001
        pytest.param(
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), id="before the calendar"
        ),
    ],
)
async def test_a_time_that_is_no_moment_is_rejected(
    time: datetime, contents: Contents, database: Database, alice: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await contents.save(alice, ContentPatch(external_id="post", scheduled_at=time))

    assert refused.value.field == "scheduledAt"
    assert await count_contents(database) == 0


@ON_SQLITE
@pytest.mark.parametrize(
    ("patch", "field", "limit"),
    [
        (ContentPatch(external_id=""), "externalId", 255),
        (ContentPatch(external_id="x" * 256), "externalId", 255),
        (ContentPatch(text="x" * (MAX_TEXT + 1)), "text", MAX_TEXT),
    ],
)
async def test_a_text_beyond_its_limit_is_rejected(
    patch: ContentPatch,
    field: str,
    limit: int,
    contents: Contents,
    database: Database,
    alice: Viewer,
) -> None:
    with pytest.raises(Rejected) as refused:
        await contents.save(alice, patch)

    assert (refused.value.field, refused.value.limit) == (field, limit)
    assert await count_contents(database) == 0


async def test_a_sign_that_no_database_keeps_is_left_out_of_a_text(
    contents: Contents, alice: Viewer
) -> None:
    saved = await contents.save(alice, ContentPatch(text="Hel\0lo"))

    assert (await read(contents, alice, saved.id)).text == "Hello"


async def test_a_sign_that_no_database_keeps_is_refused_in_an_external_id(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    with pytest.raises(Rejected) as refused:
        await contents.save(alice, ContentPatch(external_id="po\0st"))

    assert refused.value.field == "externalId"
    assert await count_contents(database) == 0


async def test_nothing_is_found_by_an_external_id_that_no_database_keeps(
    contents: Contents, alice: Viewer
) -> None:
    await contents.save(alice, ContentPatch(external_id="post"))

    assert await contents.by_external_id(alice, "po\0st") is None


# ---- attached ---------------------------------------------------------------------------------


async def test_images_are_attached_at_the_end_in_their_order(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b, c, d = await insert_images(database, alice, 4)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [b])

    changed = await contents.attach(alice, content.id, [d, a, c])

    assert await images_in(contents, alice, content) == [b, d, a, c]
    assert changed.version == 3


@pytest.mark.parametrize(
    ("position", "order"),
    [(0, "cdab"), (1, "acdb"), (2, "abcd"), (99, "abcd"), (None, "abcd")],
)
async def test_images_are_attached_where_they_were_wished(
    position: int | None, order: str, contents: Contents, database: Database, alice: Viewer
) -> None:
    images = dict(zip("abcd", await insert_images(database, alice, 4), strict=True))
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [images["a"], images["b"]])

    await contents.attach(alice, content.id, [images["c"], images["d"]], position=position)

    assert await images_in(contents, alice, content) == [images[name] for name in order]


async def test_an_image_that_is_attached_already_moves_and_stays_the_same_attachment(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b, c = await insert_images(database, alice, 3)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a, b, c])
    first, second, third = await attachments_in(contents, alice, content)

    await contents.attach(alice, content.id, [c], position=0)

    assert await images_in(contents, alice, content) == [c, a, b]
    assert await attachments_in(contents, alice, content) == [third, first, second]


async def test_an_image_that_is_named_twice_is_attached_once(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)

    await contents.attach(alice, content.id, [a, b, a])

    assert await images_in(contents, alice, content) == [a, b]


async def test_an_alt_text_of_its_own_outlives_a_move(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a], alt_text_override="Here: a")

    await contents.attach(alice, content.id, [b, a])

    (rows,) = await contents.attachments_of_contents(alice, [content.id])
    assert [row.alt_text_override for row in rows] == [None, "Here: a"]


async def test_an_unknown_image_among_known_ones_attaches_none(
    contents: Contents, database: Database, alice: Viewer, bob: Viewer
) -> None:
    (mine,) = await insert_images(database, alice, 1)
    (his,) = await insert_images(database, bob, 1)
    content = await contents.save(alice, POST)

    with pytest.raises(NotFound) as refused:
        await contents.attach(alice, content.id, [mine, his])

    assert (refused.value.what, refused.value.id) == ("image", his)
    assert await images_in(contents, alice, content) == []
    assert (await read(contents, alice, content.id)).version == 1


@ON_SQLITE
@pytest.mark.parametrize(
    ("count", "arguments", "field"),
    [
        pytest.param(0, {}, "imageIds", id="no images"),
        pytest.param(1, {"position": -1}, "position", id="a place before the first"),
        pytest.param(
            1, {"alt_text_override": "x" * 1001}, "alt_text", id="an alt text that is too long"
        ),
        pytest.param(1, {"idempotency_key": ""}, "idempotencyKey", id="an empty key"),
        pytest.param(MAX_ATTACHMENTS + 1, {}, "imageIds", id="too many images"),
    ],
)
async def test_what_makes_no_sense_is_not_attached(
    count: int,
    arguments: dict[str, Any],
    field: str,
    contents: Contents,
    database: Database,
    alice: Viewer,
) -> None:
    images = await insert_images(database, alice, count)
    content = await contents.save(alice, POST)

    with pytest.raises(Rejected) as refused:
        await contents.attach(alice, content.id, images, **arguments)

    assert refused.value.field == field
    assert await images_in(contents, alice, content) == []


@ON_SQLITE
async def test_a_full_content_takes_no_other_image_but_moves_its_own(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, MAX_ATTACHMENTS + 1)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, images[:-1])

    with pytest.raises(Rejected):
        await contents.attach(alice, content.id, images[-1:])
    await contents.attach(alice, content.id, [images[5]], position=0)

    assert await images_in(contents, alice, content) == [
        images[5],
        *images[:5],
        *images[6:MAX_ATTACHMENTS],
    ]


async def test_a_repeated_request_attaches_once(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a], position=0, idempotency_key="key")
    await contents.attach(alice, content.id, [b], position=0)

    again = await contents.attach(alice, content.id, [a], position=0, idempotency_key="key")

    assert await images_in(contents, alice, content) == [b, a]
    assert again.version == 3


async def test_a_key_that_was_used_for_something_else_attaches_nothing(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a], idempotency_key="key")

    with pytest.raises(IdempotencyMismatch):
        await contents.attach(alice, content.id, [b], idempotency_key="key")

    assert await images_in(contents, alice, content) == [a]


async def test_a_key_that_is_used_for_many_contents_at_once_counts_for_one(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    (image,) = await insert_images(database, alice, 1)
    posts = [await contents.save(alice, ContentPatch(external_id=f"{n}")) for n in range(6)]

    answers = await asyncio.gather(
        *(contents.attach(alice, post.id, [image], idempotency_key="key") for post in posts),
        return_exceptions=True,
    )

    attached = await contents.attachments_of_contents(alice, [post.id for post in posts])
    assert sorted(map(len, attached)) == [0, 0, 0, 0, 0, 1]
    assert sorted(type(answer).__name__ for answer in answers) == [
        "Content",
        *["IdempotencyMismatch"] * 5,
    ]


async def test_images_attached_at_once_stand_without_gaps(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, 10)
    content = await contents.save(alice, POST)

    await asyncio.gather(
        *(
            contents.attach(alice, content.id, [id], position=number % 3)
            for number, id in enumerate(images)
        )
    )

    assert sorted(await images_in(contents, alice, content)) == sorted(images)
    assert (await read(contents, alice, content.id)).version == 11


async def test_one_image_attached_many_times_at_once_stands_there_once(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    (image,) = await insert_images(database, alice, 1)
    content = await contents.save(alice, POST)

    await asyncio.gather(*(contents.attach(alice, content.id, [image]) for _ in range(10)))

    assert await images_in(contents, alice, content) == [image]


# ---- detached ---------------------------------------------------------------------------------


async def test_detaching_closes_the_gaps(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b, c, d = await insert_images(database, alice, 4)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a, b, c, d])
    first, _, third, _ = await attachments_in(contents, alice, content)

    changed = await contents.detach(alice, [third, first])

    assert await images_in(contents, alice, content) == [b, d]
    assert (changed.id, changed.version) == (content.id, 3)


async def test_detaching_an_unknown_attachment_among_known_ones_detaches_none(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a, b])
    first, _ = await attachments_in(contents, alice, content)
    ghost = uuid4()

    with pytest.raises(NotFound) as refused:
        await contents.detach(alice, [first, ghost])

    assert refused.value.id == ghost
    assert await images_in(contents, alice, content) == [a, b]


async def test_attachments_of_two_contents_are_not_detached_together(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    (image,) = await insert_images(database, alice, 1)
    posts = [await contents.save(alice, ContentPatch(external_id=f"{n}")) for n in range(2)]
    for post in posts:
        await contents.attach(alice, post.id, [image])
    attachments = [(await attachments_in(contents, alice, post))[0] for post in posts]

    with pytest.raises(Rejected) as refused:
        await contents.detach(alice, attachments)

    assert refused.value.field == "attachmentIds"
    assert [await images_in(contents, alice, post) for post in posts] == [[image], [image]]


async def test_detaching_nothing_is_rejected(contents: Contents, alice: Viewer) -> None:
    with pytest.raises(Rejected):
        await contents.detach(alice, [])


async def test_of_many_requests_at_once_to_detach_one_attachment_exactly_one_does(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a, b])
    first, _ = await attachments_in(contents, alice, content)

    answers = await asyncio.gather(
        *(contents.detach(alice, [first]) for _ in range(6)), return_exceptions=True
    )

    assert [type(answer) for answer in answers].count(NotFound) == 5
    assert await images_in(contents, alice, content) == [b]
    assert (await read(contents, alice, content.id)).version == 3


# ---- reordered --------------------------------------------------------------------------------


async def test_attachments_take_the_order_they_are_given(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b, c = await insert_images(database, alice, 3)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a, b, c])
    first, second, third = await attachments_in(contents, alice, content)

    await contents.reorder(alice, content.id, [third, first, second])

    assert await images_in(contents, alice, content) == [c, a, b]


@pytest.mark.parametrize("wrong", ["one is missing", "one is there twice", "one is unknown"])
async def test_an_order_that_does_not_name_each_attachment_once_is_a_conflict(
    wrong: str, contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, [a, b])
    first, second = await attachments_in(contents, alice, content)
    orders = {
        "one is missing": [second],
        "one is there twice": [second, first, second],
        "one is unknown": [second, first, uuid4()],
    }

    with pytest.raises(Conflict):
        await contents.reorder(alice, content.id, orders[wrong])

    assert await images_in(contents, alice, content) == [a, b]
    assert (await read(contents, alice, content.id)).version == 2


# ---- whatever is done, in whatever order ------------------------------------------------------

Places = st.lists(st.integers(0, 5), min_size=1, max_size=4)
Actions = st.one_of(
    st.tuples(st.just("attach"), Places, st.none() | st.integers(0, 7)),
    st.tuples(st.just("detach"), Places),
    st.tuples(st.just("reorder"), st.randoms(use_true_random=False)),
)


@ON_SQLITE
@given(actions=st.lists(Actions, max_size=8))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every example has its content
)
async def test_whatever_is_done_the_order_is_that_of_a_list(
    actions: list[tuple[Any, ...]], contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, 6)
    content = await contents.save(alice, ContentPatch())
    order: list[UUID] = []

    for name, *arguments in actions:
        attachments = dict(zip(order, await attachments_in(contents, alice, content), strict=True))
        match name:
            case "attach":
                places, position = arguments
                placed = list(dict.fromkeys(images[place] for place in places))
                await contents.attach(alice, content.id, placed, position=position)
                others = [id for id in order if id not in placed]
                place = len(others) if position is None else position
                order = [*others[:place], *placed, *others[place:]]
            case "detach":
                gone = [images[place] for place in arguments[0] if images[place] in order]
                if gone:
                    await contents.detach(alice, [attachments[id] for id in gone])
                order = [id for id in order if id not in gone]
            case "reorder":
                arguments[0].shuffle(order)
                await contents.reorder(alice, content.id, [attachments[id] for id in order])

        assert await images_in(contents, alice, content) == order


# ---- read -------------------------------------------------------------------------------------


async def test_contents_and_attachments_come_in_the_order_of_their_ids(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    a, b = await insert_images(database, alice, 2)
    posts = [await contents.save(alice, ContentPatch(external_id=f"{n}")) for n in range(3)]
    await contents.attach(alice, posts[0].id, [a, b])
    await contents.attach(alice, posts[2].id, [b])
    first, second = await attachments_in(contents, alice, posts[0])
    ghost = uuid4()

    by_id = await contents.by_id(alice, [posts[2].id, ghost, posts[0].id])
    of_posts = await contents.attachments_of_contents(alice, [posts[1].id, posts[2].id, ghost])
    of_images = await contents.usages_of_images(alice, [b, a], PageRequest(5))
    known = await contents.attachments_by_id(alice, [second, ghost, first])

    assert [post and post.id for post in by_id] == [posts[2].id, None, posts[0].id]
    assert [[row.image_id for row in rows] for rows in of_posts] == [[], [b], []]
    assert [[row.content_id for row in page.rows] for page in of_images] == [
        [posts[0].id, posts[2].id],
        [posts[0].id],
    ]
    assert [row and row.id for row in known] == [second, None, first]


# ---- another's --------------------------------------------------------------------------------

UseCase = Callable[[Contents, Viewer, UUID, UUID], Awaitable[Any]]


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
@pytest.mark.parametrize(
    ("use_case", "what"),
    [
        pytest.param(
            lambda contents, viewer, content, _: contents.save(
                viewer, ContentPatch(text="Mine"), id=content
            ),
            "content",
            id="save",
        ),
        pytest.param(
            lambda contents, viewer, content, _: contents.attach(viewer, content, [uuid4()]),
            "content",
            id="attach",
        ),
        pytest.param(
            lambda contents, viewer, content, attachment: contents.reorder(
                viewer, content, [attachment]
            ),
            "content",
            id="reorder",
        ),
        pytest.param(
            lambda contents, viewer, _, attachment: contents.detach(viewer, [attachment]),
            "attachment",
            id="detach",
        ),
    ],
)
async def test_a_content_of_another_workspace_does_not_exist(
    use_case: UseCase,
    what: str,
    whose: str,
    contents: Contents,
    database: Database,
    alice: Viewer,
    bob: Viewer,
) -> None:
    images = await insert_images(database, alice, 1)
    hers = await contents.save(alice, POST)
    await contents.attach(alice, hers.id, images)
    (attachment,) = await attachments_in(contents, alice, hers)
    ids = (hers.id, attachment) if whose == "another's" else (uuid4(), uuid4())

    with pytest.raises(NotFound) as refused:
        await use_case(contents, bob, *ids)

    assert refused.value.what == what
    assert await images_in(contents, alice, hers) == images
    found = await read(contents, alice, hers.id)
    assert (found.text, found.version) == ("", 2)


async def test_lists_hold_nothing_of_another_workspace(
    contents: Contents, database: Database, alice: Viewer, bob: Viewer
) -> None:
    images = await insert_images(database, alice, 1)
    hers = await contents.save(alice, POST)
    await contents.attach(alice, hers.id, images)
    attachments = await attachments_in(contents, alice, hers)

    assert await contents.by_id(bob, [hers.id]) == [None]
    assert await contents.by_external_id(bob, "post") is None
    assert await contents.attachments_by_id(bob, attachments) == [None]
    assert await contents.attachments_of_contents(bob, [hers.id]) == [[]]
    (his,) = await contents.usages_of_images(bob, images, PageRequest(5))
    assert his.rows == []


async def test_no_attachment_is_left_that_nothing_refers_to(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, 3)
    content = await contents.save(alice, POST)
    await contents.attach(alice, content.id, images)

    await contents.detach(alice, await attachments_in(contents, alice, content))

    async with database.reading() as session:
        assert (await session.exec(select(Attachment))).all() == []


async def test_an_alt_text_that_is_too_long_names_its_limit(
    contents: Contents, database: Database, alice: Viewer
) -> None:
    images = await insert_images(database, alice, 1)
    content = await contents.save(alice, POST)

    with pytest.raises(TooLong) as refused:
        await contents.attach(alice, content.id, images, alt_text_override="x" * 1001)

    assert (refused.value.limit, refused.value.actual) == (1000, 1001)
    assert await images_in(contents, alice, content) == []
