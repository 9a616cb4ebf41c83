"""The library through the schema: what it answers, and how often it asks the database for it."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from graphql import GraphQLObjectType, get_named_type, is_leaf_type
from sqlalchemy import Engine, event
from strawberry import relay

from graph.config import Settings
from graph.operations import Schema
from graph.parts import Parts, open_parts
from storage.database import Database
from storage.models import Attachment, Content, ContentState, GenerationStatus, ImageOrigin
from storage.viewers import Viewer
from tests.graph.contexts import context_of
from tests.storage.rows import ON_SQLITE, image_rows, insert, insert_generation

PAGE = """
query Page($first: Int, $filter: ImageFilter, $search: String, $sort: ImageSort) {
  images(first: $first, filter: $filter, search: $search, sort: $sort) {
    edges { cursor }
    nodes {
      id title tags orientation url srcset rendition(width: 320) { url width }
      generation { prompt model } usages { nodes { position content { externalId } } }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""
SOME = {"rendition": "(width: 320)"}
COUNTS = """
query Counts($filter: ImageFilter, $search: String) {
  images(first: 1, filter: $filter, search: $search) {
    totalCount
    facets {
      origins { origin count } tags(first: 2) { tag count } providers { value count }
      orientations { orientation count } months { month count } usage { usage count }
    }
  }
}
"""


@pytest.fixture
async def parts(database_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=tmp_path,
        objects_url=f"file://{tmp_path}/objects",
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes it a secret
        signing_keys="k" * 32,  # type: ignore[arg-type]  # and splits these
    )
    async with open_parts(settings, works=False) as parts:
        yield parts


@pytest.fixture
def viewer(parts: Parts) -> Viewer:
    assert parts.local_viewer is not None
    return parts.local_viewer


@pytest.fixture
async def shelf(parts: Parts, viewer: Viewer) -> list[UUID]:
    """60 images, the oldest first: each generated, tagged, and in one of three posts."""
    return await fill(parts.database, viewer, 60)


async def fill(database: Database, viewer: Viewer, count: int) -> list[UUID]:
    prompts = [f"a lake {n}" for n in range(3)]
    made = [
        await insert_generation(database, viewer, GenerationStatus.SUCCEEDED, prompt)
        for prompt in prompts
    ]
    rows = [
        image_rows(
            viewer,
            tags=("lake",) if n % 2 else ("lake", "sea"),
            origin=ImageOrigin.GENERATED,
            generation_id=made[n % 3],
            provider="card",
            model="card-1",
            title=f"Picture {n}",
            name_text=f"picture {n}",
            search_text="a lake",
        )
        for n in range(count)
    ]
    ids = await insert(database, *rows)
    async with database.writing() as session:
        posts = [
            Content(workspace_id=viewer.workspace_id, external_id=str(n), state=ContentState.DRAFT)
            for n in range(3)
        ]
        session.add_all(posts)
        await session.flush()
        for n, id in enumerate(ids):
            session.add(Attachment(content_id=posts[n % 3].id, image_id=id, position=n // 3))
    return ids


async def ask(
    schema: Schema, parts: Parts, viewer: Viewer, query: str, **variables: object
) -> dict[str, Any]:
    context = context_of(parts, viewer)
    result = await schema.execute(query, variables, context_value=context)
    assert result.errors is None
    assert result.data is not None
    return result.data


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are sent to any database meanwhile, but those about transactions."""
    sent: list[str] = []

    def note(_: object, __: object, statement: str, *rest: object) -> None:
        if statement.startswith(("SELECT", "WITH")):
            sent.append(statement)

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sent.append(record.getMessage())

    reading, handler = logging.getLogger("storage.reading"), Note()
    level = reading.level
    event.listen(Engine, "before_cursor_execute", note)
    reading.addHandler(handler)
    reading.setLevel(logging.DEBUG)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        reading.removeHandler(handler)
        reading.setLevel(level)


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"search": "lake"},
        {"search": "lake", "sort": {"field": "RELEVANCE"}},
        {"filter": {"tags": {"all": ["lake"]}}},
        {"filter": {"or": [{"provider": {"eq": "card"}}, {"not": {"isFavorite": True}}]}},
    ],
)
async def test_a_page_takes_as_many_statements_whatever_its_size(
    variables: dict[str, object],
    schema_of_the_library: Schema,
    parts: Parts,
    viewer: Viewer,
) -> None:
    with counted() as for_five:
        five = await ask(schema_of_the_library, parts, viewer, PAGE, first=5, **variables)
    with counted() as for_fifty:
        fifty = await ask(schema_of_the_library, parts, viewer, PAGE, first=50, **variables)

    # The images with their tags, their generations, their attachments, the contents of those.
    assert (len(for_five), len(for_fifty)) == (4, 4)
    assert len(five["images"]["nodes"]) == 5
    assert len(fifty["images"]["nodes"]) == 50
    (usage,) = fifty["images"]["nodes"][0]["usages"]["nodes"]
    assert usage["content"]["externalId"] in ("0", "1", "2")


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("variables", [{}, {"search": "lake"}, {"filter": {"usage": "DRAFT"}}])
async def test_all_counts_take_one_statement_each(
    variables: dict[str, object], schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    with counted() as sent:
        told = await ask(schema_of_the_library, parts, viewer, COUNTS, **variables)

    assert len(sent) == 1 + 6  # the page with the total, the facets
    assert told["images"]["totalCount"] == 60
    assert told["images"]["facets"]["tags"] == [
        {"tag": "lake", "count": 60},
        {"tag": "sea", "count": 30},
    ]
    assert told["images"]["facets"]["providers"] == [{"value": "card", "count": 60}]
    assert {"usage": "DRAFT", "count": 60} in told["images"]["facets"]["usage"]
    assert told["images"]["facets"]["orientations"][0] == {"orientation": "LANDSCAPE", "count": 60}
    assert [each["count"] for each in told["images"]["facets"]["months"]] == [60]
    assert told["images"]["facets"]["origins"][2] == {"origin": "GENERATED", "count": 60}


async def test_what_is_not_asked_for_is_not_counted(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    with counted() as sent:
        await ask(schema_of_the_library, parts, viewer, "{ images { nodes { title } } }")

    assert len(sent) == 1


async def test_only_what_is_asked_for_is_read(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    with counted() as sent:
        await ask(schema_of_the_library, parts, viewer, "{ images { nodes { title } } }")

    assert "images.title" in sent[0]
    assert "images.alt_text" not in sent[0]
    assert "image_tags" not in sent[0]


@ON_SQLITE
@pytest.mark.usefixtures("shelf")
async def test_each_field_of_an_image_can_be_asked_for_alone(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer
) -> None:
    described = cast(GraphQLObjectType, schema_of_the_library._schema.type_map["Image"])
    fields = [
        name
        if is_leaf_type(get_named_type(field.type))
        else f"{name}{SOME.get(name, '')} {{ __typename }}"
        for name, field in described.fields.items()
    ]

    for field in fields:
        answers = [
            await ask(schema_of_the_library, parts, viewer, f"{{ images {{ {asked} }} }}")
            for asked in (
                f"nodes {{ {field} }}",
                f"edges {{ node {{ ... on Image {{ {field} }} }} }}",
            )
        ]
        nodes, edges = (answer["images"] for answer in answers)
        assert len(nodes["nodes"]) == 20
        assert [edge["node"] for edge in edges["edges"]] == nodes["nodes"]


@ON_SQLITE
async def test_every_field_of_the_filter_is_understood(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer, shelf: list[UUID]
) -> None:
    filter = {
        "and": [{"isFavorite": False}],
        "or": [{"isFavorite": False}, {"isAiGenerated": True}],
        "not": {"isFavorite": True},
        "ids": [str(relay.GlobalID("Image", str(shelf[7])))],
        "origin": {"in": ["GENERATED"]},
        "provider": {"eq": "card", "in": ["card"]},
        "model": {"eq": "card-1"},
        "filename": {"eq": "", "in": [""]},
        "mimeType": {"eq": "image/jpeg"},
        "createdAt": {"gte": "2020-01-01T00:00:00Z"},
        "tags": {"any": ["lake"], "all": ["lake"], "none": ["sea"]},
        "usage": "DRAFT",
        "orientation": "LANDSCAPE",
        "width": {"eq": 640, "gt": 639, "gte": 640, "lt": 641, "lte": 640},
        "height": {"eq": 480},
        "byteSize": {"eq": 1000},
        "altText": "MISSING",
        "isAiGenerated": False,
        "isFavorite": False,
        "isDeleted": False,
    }

    told = await ask(
        schema_of_the_library,
        parts,
        viewer,
        "query Q($filter: ImageFilter) { images(filter: $filter) { nodes { title } totalCount } }",
        filter=filter,
    )

    assert told == {"images": {"nodes": [{"title": "Picture 7"}], "totalCount": 1}}
