"""Images through the schema: where they are attached, page by page, and what they were before."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from graph.ids import id_of
from graph.operations import Schema
from graph.parts import Parts
from storage.models import Attachment, Content, Image, ImageVersion, Picture, Workspace
from storage.viewers import Viewer
from tests.graph.test_library import ask, counted
from tests.graph.test_library import parts as parts
from tests.graph.test_library import viewer as viewer
from tests.graph.test_pricing import answer
from tests.storage.rows import ON_SQLITE, insert_images

USAGES = """
query Usages($id: ID!, $first: Int, $after: String) {
  image(id: $id) {
    usages(first: $first, after: $after) {
      nodes { content { externalId } }
      edges { cursor node { content { externalId } } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }
}
"""
LONG_AGO = datetime(2026, 11, 1, tzinfo=UTC)


async def attached(
    parts: Parts, viewer: Viewer, image_id: UUID, count: int, *, in_workspace: UUID | None = None
) -> list[str]:
    """Attach the image to new contents, and say their external ids, the oldest place first.

    Of two places each, the time is the same.
    """
    workspace_id = in_workspace or viewer.workspace_id
    contents = [Content(workspace_id=workspace_id, external_id=str(uuid4())) for _ in range(count)]
    async with parts.database.writing() as session:
        session.add_all(contents)
        await session.flush()
        places = [
            Attachment(
                id=uuid4(),
                content_id=content.id,
                image_id=image_id,
                position=0,
                created_at=LONG_AGO + timedelta(minutes=n // 2),
            )
            for n, content in enumerate(contents)
        ]
        session.add_all(places)
    names = {content.id: content.external_id for content in contents}
    places.sort(key=lambda place: (place.created_at, place.id))
    return [names[place.content_id] for place in places]


def names_in(usages: dict[str, Any]) -> list[str]:
    return [node["content"]["externalId"] for node in usages["nodes"]]


async def test_the_places_of_an_image_come_page_by_page_the_oldest_first(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    image, other = await insert_images(parts.database, viewer, 2)
    names = await attached(parts, viewer, image, 8)
    await attached(parts, viewer, other, 3)
    pages: list[dict[str, Any]] = []
    after = None

    for _ in range(3):
        asked = {"id": id_of("Image", image), "first": 3, "after": after}
        told = await ask(schema_of_the_library, parts, viewer, USAGES, **asked)
        pages.append(told["image"]["usages"])
        after = pages[-1]["pageInfo"]["endCursor"]

    assert [names_in(page) for page in pages] == [names[:3], names[3:6], names[6:]]
    assert [
        (page["pageInfo"]["hasPreviousPage"], page["pageInfo"]["hasNextPage"]) for page in pages
    ] == [(False, True), (True, True), (True, False)]
    for page in pages:
        cursors = [edge["cursor"] for edge in page["edges"]]
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
        assert page["pageInfo"]["startCursor"] == cursors[0]
        assert page["pageInfo"]["endCursor"] == cursors[-1]


async def test_twenty_places_come_when_nobody_says_how_many(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    (image,) = await insert_images(parts.database, viewer, 1)
    names = await attached(parts, viewer, image, 21)

    told = await ask(schema_of_the_library, parts, viewer, USAGES, id=id_of("Image", image))

    assert names_in(told["image"]["usages"]) == names[:20]
    assert told["image"]["usages"]["pageInfo"]["hasNextPage"] is True


async def test_an_image_that_is_attached_nowhere_has_an_empty_page(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    (image,) = await insert_images(parts.database, viewer, 1)

    told = await ask(schema_of_the_library, parts, viewer, USAGES, id=id_of("Image", image))

    assert told["image"]["usages"] == {
        "nodes": [],
        "edges": [],
        "pageInfo": {
            "hasNextPage": False,
            "hasPreviousPage": False,
            "startCursor": None,
            "endCursor": None,
        },
    }


async def test_a_place_in_another_workspace_is_not_told(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    (image,) = await insert_images(parts.database, viewer, 1)
    other = Workspace(name="another")
    async with parts.database.writing() as session:
        session.add(other)
    await attached(parts, viewer, image, 2, in_workspace=other.id)
    names = await attached(parts, viewer, image, 1)

    told = await ask(schema_of_the_library, parts, viewer, USAGES, id=id_of("Image", image))

    assert names_in(told["image"]["usages"]) == names


async def test_the_places_of_many_images_take_one_statement_for_each_page_that_is_asked(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    images = await insert_images(parts.database, viewer, 30)
    for image in images:
        await attached(parts, viewer, image, 3)
    query = """
    query Usages($first: Int) {
      images(first: $first) {
        nodes { one: usages(first: 1) { nodes { id } } two: usages(first: 2) { nodes { id } } }
      }
    }
    """

    with counted() as for_three:
        await ask(schema_of_the_library, parts, viewer, query, first=3)
    with counted() as for_thirty:
        told = await ask(schema_of_the_library, parts, viewer, query, first=30)

    assert (len(for_three), len(for_thirty)) == (1 + 2, 1 + 2)
    for node in told["images"]["nodes"]:
        assert (len(node["one"]["nodes"]), len(node["two"]["nodes"])) == (1, 2)
        assert node["one"]["nodes"] == node["two"]["nodes"][:1]


@ON_SQLITE
@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ("first: 0", "first"),
        ("first: 101", "first"),
        ('after: "nonsense"', "after"),
        ('after: "WyJ4IiwxXQ"', "after"),
    ],
)
async def test_a_page_that_is_none_is_refused_and_another_is_given_all_the_same(
    arguments: str, argument: str, schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    (image,) = await insert_images(parts.database, viewer, 1)
    names = await attached(parts, viewer, image, 1)
    usages = "{ nodes { content { externalId } } }"
    query = f"""
    query Usages($id: ID!) {{
      wrong: image(id: $id) {{ usages({arguments}) {usages} }}
      right: image(id: $id) {{ usages(first: 5) {usages} }}
    }}
    """

    result = await answer(schema_of_the_library, parts, viewer, query, id=id_of("Image", image))

    assert result.data is not None
    assert result.data["wrong"] is None
    assert names_in(result.data["right"]["usages"]) == names
    (error,) = result.errors or []
    assert error.extensions is not None
    assert (error.extensions["code"], error.extensions["argument"]) == ("BAD_USER_INPUT", argument)


@ON_SQLITE
async def test_a_cursor_of_another_list_is_refused(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    (image,) = await insert_images(parts.database, viewer, 1)
    listed = "{ images { pageInfo { endCursor } } }"
    told = await ask(schema_of_the_library, parts, viewer, listed)
    cursor = told["images"]["pageInfo"]["endCursor"]

    result = await answer(
        schema_of_the_library, parts, viewer, USAGES, id=id_of("Image", image), after=cursor
    )

    assert result.data == {"image": None}
    assert [error.extensions["code"] for error in result.errors or () if error.extensions] == [
        "BAD_USER_INPUT"
    ]


@ON_SQLITE
async def test_as_many_versions_come_as_are_asked_for_the_newest_first(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    (id,) = await insert_images(parts.database, viewer, 1)
    digests = [f"{n:064x}" for n in range(25)]
    async with parts.database.writing() as session:
        image = await session.get_one(Image, id)
        known = {name: getattr(image, name) for name in Picture.model_fields}
        for n, sha256 in enumerate(digests):
            replaced_at = LONG_AGO - timedelta(days=n)
            version = known | {"sha256": sha256, "replaced_at": replaced_at}
            session.add(ImageVersion(image_id=id, **version))
    query = """
    query Versions($id: ID!) {
      image(id: $id) { two: versions(first: 2) { sha256 } some: versions { sha256 } }
    }
    """

    told = await ask(schema_of_the_library, parts, viewer, query, id=id_of("Image", id))

    assert [each["sha256"] for each in told["image"]["two"]] == digests[:2]
    assert [each["sha256"] for each in told["image"]["some"]] == digests[:20]
