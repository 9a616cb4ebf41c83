"""Contents through the schema: their images, all of them or the first."""

from typing import Any

import pytest

from graph.ids import id_of
from graph.operations import Schema
from graph.parts import Parts
from storage.attachments import MAX_ATTACHMENTS
from storage.contents import ContentPatch
from storage.viewers import Viewer
from tests.graph.test_library import ask
from tests.graph.test_library import parts as parts
from tests.graph.test_library import viewer as viewer
from tests.graph.test_pricing import answer
from tests.storage.rows import ON_SQLITE, insert_images

pytestmark = ON_SQLITE


@pytest.fixture
async def full(parts: Parts, viewer: Viewer) -> str:
    """A content with as many images as it takes."""
    images = await insert_images(parts.database, viewer, MAX_ATTACHMENTS)
    content = await parts.contents.save(viewer, ContentPatch(external_id="post"))
    await parts.contents.attach(viewer, content.id, images)
    return id_of("Content", content.id)


def positions(attachments: list[dict[str, Any]]) -> list[int]:
    return [each["position"] for each in attachments]


async def test_all_images_of_a_content_come_unless_fewer_are_asked_for(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer, full: str
) -> None:
    query = """
    query Attachments($id: ID!) {
      content(id: $id) { all: attachments { position } some: attachments(first: 2) { position } }
    }
    """

    told = await ask(schema_of_the_library, parts, viewer, query, id=full)

    assert positions(told["content"]["all"]) == [*range(MAX_ATTACHMENTS)]
    assert positions(told["content"]["some"]) == [0, 1]


@pytest.mark.parametrize("first", [0, -1, MAX_ATTACHMENTS + 1])
async def test_fewer_than_one_or_more_than_all_are_refused(
    first: int, schema_of_the_library: Schema, parts: Parts, viewer: Viewer, full: str
) -> None:
    query = """
    query Attachments($id: ID!, $first: Int!) {
      content(id: $id) { attachments(first: $first) { position } }
    }
    """

    result = await answer(schema_of_the_library, parts, viewer, query, id=full, first=first)

    assert result.data == {"content": None}
    (error,) = result.errors or []
    assert error.extensions is not None
    assert (error.extensions["code"], error.extensions["argument"]) == ("BAD_USER_INPUT", "first")
