"""What operations cost: never less than the objects they bring, and never too much to be asked.

A library that fills every list to its end is asked at random, and for what programs really ask.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    get_introspection_query,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_introspection_type,
    is_leaf_type,
    is_list_type,
    is_object_type,
)
from pydantic import SecretStr
from strawberry.types.execution import ExecutionResult

from generation.catalogue import open_catalogue
from generation.providers.options import (
    CatalogueOptions,
    GeminiOptions,
    MidjourneyOptions,
    OpenAIOptions,
    StabilityOptions,
)
from graph.ids import id_of
from graph.images import SRCSET
from graph.operations import Documents, Limits, Schema
from graph.parts import Parts
from graph.pricing import (
    LENGTHS,
    MAX_MODELS,
    MAX_PICTURES,
    MAX_PROVIDERS,
    SRCSET_WIDTHS,
    TEXTS,
)
from storage.database import Database
from storage.models import (
    Attachment,
    Content,
    ContentState,
    Generation,
    GenerationImage,
    GenerationStatus,
    ImageOrigin,
    ImageVersion,
    LedgerEntry,
    Picture,
)
from storage.viewers import Viewer
from tests.graph.contexts import context_of
from tests.graph.test_library import parts as parts
from tests.graph.test_library import viewer as viewer
from tests.storage.rows import ON_SQLITE, image_rows, insert

LIMIT = Limits().max_cost
IMAGE = (
    "id version origin isAiGenerated filename title altText tags isFavorite mimeType byteSize "
    "sha256 width height orientation dominantColor thumbhash url createdAt updatedAt"
)


# ---- a library whose lists are full --------------------------------------------------------------


@dataclass
class Shelf:
    images: list[UUID]
    contents: list[UUID]
    generations: list[UUID]
    attachments: list[UUID]

    def ids(self, kind: str) -> list[str]:
        known = {
            "Image": self.images,
            "Content": self.contents,
            "Generation": self.generations,
            "Attachment": self.attachments,
        }
        return [id_of(kind, id) for id in known[kind]]


@pytest.fixture
async def shelf(parts: Parts, viewer: Viewer) -> Shelf:
    """100 images in each of 25 posts; 30 generations, each of them with more than it may show."""
    return await fill(parts.database, viewer)


async def fill(database: Database, viewer: Viewer) -> Shelf:
    contents = [
        Content(workspace_id=viewer.workspace_id, external_id=str(n), state=ContentState.DRAFT)
        for n in range(25)
    ]
    async with database.writing() as session:
        session.add_all(contents)
    generations: list[Generation] = []
    for n in range(30):
        generations.append(wish(viewer, contents[n % 25].id, generations[-1:]))
    async with database.writing() as session:
        for generation in generations:
            session.add(generation)
            await session.flush()
    rows = [
        image_rows(
            viewer,
            tags=("lake", f"tag {n}"),
            origin=ImageOrigin.GENERATED,
            generation_id=generations[n % 30].id,
            provider=f"provider-{n % 5}",
            model="card-1",
            width=4000,
            height=3000,
            focal_x=0.5,
            focal_y=0.5,
        )
        for n in range(100)
    ]
    images = await insert(database, *rows)
    attachments = [
        Attachment(content_id=content.id, image_id=id, position=n)
        for content in contents
        for n, id in enumerate(images)
    ]
    async with database.writing() as session:
        session.add_all(attachments)
        for generation in generations:
            session.add(entry(viewer, generation))
            generation.reference_image_ids = [str(id) for id in images[:25]]
            session.add(generation)
            for n, id in enumerate(images[:25]):
                session.add(
                    GenerationImage(
                        generation_id=generation.id, position=n, image_id=id, sequence=n
                    )
                )
        for (_, image), attachment in zip(rows, attachments, strict=False):
            versions = [version_of(image) for _ in range(25)]
            session.add_all(versions)
            attachment.published_sha256 = versions[0].sha256
            session.add(attachment)
    return Shelf(
        images,
        [content.id for content in contents],
        [generation.id for generation in generations],
        [attachment.id for attachment in attachments[:100]],
    )


def wish(viewer: Viewer, content_id: UUID, earlier: list[Generation]) -> Generation:
    return Generation(
        id=uuid4(),
        workspace_id=viewer.workspace_id,
        requested_by=viewer.name,
        status=GenerationStatus.FAILED,
        provider="card",
        model="card-1",
        prompt="a lake",
        requested_count=25,
        width=640,
        height=480,
        content_id=content_id,
        retry_of=earlier[0].id if earlier else None,
        failure_code="RATE_LIMITED",
    )


def entry(viewer: Viewer, generation: Generation) -> LedgerEntry:
    return LedgerEntry(
        generation_id=generation.id,
        workspace_id=viewer.workspace_id,
        viewer=viewer.name,
        month="2026-11",
        estimated=Decimal(1),
    )


def version_of(image: Any) -> ImageVersion:
    known = {name: getattr(image, name) for name in Picture.model_fields}
    return ImageVersion(image_id=image.id, **known | {"sha256": uuid4().hex * 2})


# ---- how to ask, and to count --------------------------------------------------------------------


async def answer(
    schema: Schema, parts: Parts, viewer: Viewer, query: str, **variables: object
) -> ExecutionResult:
    context = context_of(parts, viewer)
    result = await schema.execute(query, variables, context_value=context)
    assert isinstance(result, ExecutionResult)
    return result


def price_of(schema: Schema, query: str, **variables: object) -> int:
    document = Documents(Limits(), cache_size=1).prepared(schema, query)
    return document.cost(None, variables, Limits())


def objects_in(value: object) -> int:
    """Of an answer, the outermost one not counted."""

    def count(value: object) -> int:
        match value:
            case dict():
                return 1 + sum(map(count, value.values()))
            case list():
                return sum(map(count, value))
            case _:
                return 0

    return count(value) - 1


# ---- lists and their bounds ----------------------------------------------------------------------


def fields_of(schema: Schema) -> Iterator[tuple[GraphQLNamedType, str, GraphQLField]]:
    for kind in schema._schema.type_map.values():
        if is_introspection_type(kind):
            continue
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, definition in kind.fields.items():
                yield kind, name, definition


def lists_of(schema: Schema) -> dict[str, tuple[GraphQLNamedType, GraphQLField]]:
    """Every field that gives a list of objects."""
    return {
        f"{kind.name}.{name}": (kind, definition)
        for kind, name, definition in fields_of(schema)
        if is_list_type(get_nullable_type(definition.type))
        and not is_leaf_type(get_named_type(definition.type))
    }


def asks_for_a_number(definition: GraphQLField) -> bool:
    return bool(definition.args.keys() & {"first", "last", "ids"})


def is_paged(schema: Schema, kind: GraphQLNamedType) -> bool:
    """Whether every field that gives such an object says how much it holds."""
    givers = [each for _, _, each in fields_of(schema) if get_named_type(each.type) is kind]
    return bool(givers) and all(map(asks_for_a_number, givers))


def test_every_list_of_objects_has_a_bound(schema_of_the_library: Schema) -> None:
    unbounded = [
        name
        for name, (kind, definition) in lists_of(schema_of_the_library).items()
        if not asks_for_a_number(definition)
        and not name.endswith("Payload.errors")
        and name not in LENGTHS
        and not is_paged(schema_of_the_library, kind)
    ]

    assert unbounded == [], "give it `first`, or state its length in graph/pricing.py"


def test_every_long_text_has_a_price(schema_of_the_library: Schema) -> None:
    long = {"text", "prompt", "revisedPrompt", "negativePrompt"}
    texts = {
        f"{kind.name}.{name}" for kind, name, _ in fields_of(schema_of_the_library) if name in long
    }

    assert texts == TEXTS.keys()


def test_long_texts_cannot_be_asked_for_without_end(schema_of_the_library: Schema) -> None:
    fields = " ".join(f"t{n}: text" for n in range(15))
    query = f"query($ids: [ID!]!) {{nodes(ids: $ids) {{... on Content {{{fields}}}}}}}"

    assert price_of(schema_of_the_library, query, ids=["id"] * 100) == 100 * (1 + 15 * 10)


def test_every_stated_length_is_that_of_a_list_in_the_schema(schema_of_the_library: Schema) -> None:
    assert LENGTHS.keys() <= lists_of(schema_of_the_library).keys()


async def test_no_provider_of_ours_makes_more_pictures_than_a_generation_shows() -> None:
    key = SecretStr("k")
    options = CatalogueOptions(
        openai=OpenAIOptions(model="gpt-image-2.6-flare", api_key=key),
        compatible=OpenAIOptions(model="sd", base_url="http://127.0.0.1:1/v1", is_compatible=True),
        stability=StabilityOptions(key),
        gemini=GeminiOptions(key),
        midjourney=MidjourneyOptions("http://127.0.0.1:1"),
    )

    async def nothing(_: object) -> Any:
        raise AssertionError("nobody is asked here")

    opening = open_catalogue(options, fetch=nothing, fetch_midjourney=nothing, quarter=nothing)
    async with opening as catalogue:
        models = [model for each in catalogue.providers.values() for model in each.models]
        most_models = max(len(each.models) for each in catalogue.providers.values())

    assert len(catalogue.providers) == 6 <= MAX_PROVIDERS
    assert most_models <= MAX_MODELS
    assert max(model.max_count for model in models) <= MAX_PICTURES
    assert max(model.max_references for model in models) <= MAX_PICTURES


def test_a_srcset_costs_what_it_has_when_nobody_says() -> None:
    assert len(SRCSET) == SRCSET_WIDTHS


# ---- what programs ask ---------------------------------------------------------------------------

FRONTEND = {
    "a page of 50 cards": (
        "{ images(first: 50) { totalCount nodes { id title thumbhash rendition(width: 640) { url "
        "width height } } pageInfo { hasNextPage endCursor } } }",
        102,
    ),
    "a page of 50 with everything": (
        f"{{ images(first: 50) {{ totalCount nodes {{ {IMAGE} srcset rendition(width: 320) {{ url "
        "width height } generation { id prompt model } usages { nodes { position content { id "
        "externalId state } } pageInfo { hasNextPage } } } pageInfo { hasNextPage endCursor } } }",
        3_002,
    ),
    "a page of 50 by edges": (
        "{ images(first: 50) { edges { cursor node { id rendition(width: 320) { url } usages { "
        "edges { node { content { externalId } } } } } } pageInfo { endCursor } } }",
        3_202,
    ),
    "a page of 100": (f"{{ images(first: 100) {{ totalCount nodes {{ {IMAGE} }} }} }}", 201),
    "all counts": (
        "{ images(first: 1) { totalCount facets { origins { count } tags { count } providers { "
        "count } orientations { count } months { count } usage { count } } } }",
        173,
    ),
    "20 posts with all their images": (
        "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Content { id text attachments { position "
        "image { id title altText thumbhash } } } } }",
        4_220,
    ),
    "20 posts with ten renditions each": (
        "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Content { id text attachments(first: 10) "
        "{ position image { id title rendition(width: 320) { url } } } } } }",
        820,
    ),
    "one post to edit": (
        "query($id: ID!) { content(id: $id) { id text attachments { id position publishedVersion { "
        f"url }} image {{ {IMAGE} rendition(width: 320) {{ url }} generation {{ id }} }} }} }} }}",
        611,
    ),
    "a generation to watch": (
        "query($generation: ID!) { generation(id: $generation) { status failure { code } retryOf { "
        f"id }} references {{ id }} images {{ {IMAGE} rendition(width: 320) {{ url }} }} content {{"
        " id } } }",
        84,
    ),
    "20 generations": (
        "{ generations(first: 20) { nodes { id status failure { code } images { id rendition("
        "width: 320) { url } } } pageInfo { endCursor } } }",
        842,
    ),
    "the providers": ("{ providers { name available models { name sizes maxCount } } }", 2_020),
    "an image's versions": (
        "query($image: ID!) { image(id: $image) { id versions { url replacedAt } } }",
        21,
    ),
    "what to delete": (
        "mutation($images: [ID!]!) { deleteImages(ids: $images, dryRun: true) { results { id "
        "usages { content { externalId } } image { id } error { __typename } } errors { __typename "
        "} } }",
        4_302,
    ),
}


def variables_on(shelf: Shelf) -> dict[str, object]:
    return {
        "ids": shelf.ids("Content")[:20],
        "id": shelf.ids("Content")[0],
        "generation": shelf.ids("Generation")[3],
        "image": shelf.ids("Image")[0],
        "images": shelf.ids("Image"),
    }


@pytest.mark.parametrize(("query", "price"), FRONTEND.values(), ids=FRONTEND.keys())
def test_what_programs_ask_is_allowed(
    query: str, price: int, schema_of_the_library: Schema
) -> None:
    shelf = Shelf(*([uuid4() for _ in range(100)] for _ in range(4)))

    assert price_of(schema_of_the_library, query, **variables_on(shelf)) == price <= LIMIT


@ON_SQLITE
async def test_what_programs_read_brings_no_more_than_its_price(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer, shelf: Shelf
) -> None:
    reading = [each for each in FRONTEND.values() if not each[0].startswith("mutation")]

    for query, price in reading:
        result = await answer(schema_of_the_library, parts, viewer, query, **variables_on(shelf))
        assert result.errors is None
        assert 0 < objects_in(result.data) <= price


# ---- what nobody should ask ----------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "actual"), [(1, 242_521), (2, 485_162_521)])
async def test_a_short_query_that_goes_round_and_round_is_refused(
    rounds: int, actual: int, schema_of_the_library: Schema
) -> None:
    inner = "id"
    for _ in range(rounds):
        inner = f"usages {{ nodes {{ content {{ attachments {{ image {{ {inner} }} }} }} }} }}"

    result = await schema_of_the_library.execute(
        f"{{ images(first: 60) {{ nodes {{ {inner} }} }} }}"
    )

    assert result.data is None
    (error,) = result.errors or []
    assert error.extensions == {"code": "COST_EXCEEDED", "limit": LIMIT, "actual": actual}


@pytest.mark.parametrize(
    ("leaf", "actual"),
    [
        ("url(expiresIn: 600)", 100 * 15),
        ("srcset", 100 * 15 * 4),
        (f"srcset(widths: {[*range(100, 120)]})", 100 * 15 * 20),
    ],
)
async def test_every_signed_url_is_counted(
    leaf: str, actual: int, schema_of_the_library: Schema
) -> None:
    asked = " ".join(f"a{n}: {leaf}" for n in range(15))
    query = f"{{ images(first: 100) {{ nodes {{ {asked} }} }} }}"

    assert price_of(schema_of_the_library, query) == 1 + 100 + actual


# ---- asking at random ----------------------------------------------------------------------------


@dataclass
class Asking:
    """Random queries through whatever the schema has, with ids of what is there."""

    schema: Schema
    random: Random
    shelf: Shelf
    aliases: int = 0
    most: int = field(init=False)

    def query(self) -> str:
        self.aliases = 0
        self.most = self.random.choice([2, 3, 5, 20, 100])
        query_type = self.schema._schema.query_type
        assert query_type is not None
        return self.selections(query_type, depth=self.random.randint(3, 13))

    def selections(self, kind: GraphQLNamedType, depth: int) -> str:
        if is_abstract_type(kind):
            one = self.random.choice(self.schema._schema.get_possible_types(kind))
            return f"{{ __typename ... on {one.name} {self.selections(one, depth)} }}"
        assert is_object_type(kind)
        inner = [name for name, each in kind.fields.items() if self.leads_on(each, depth)]
        leaves = [
            name for name, each in kind.fields.items() if is_leaf_type(get_named_type(each.type))
        ]
        chosen = self.random.sample(inner, min(len(inner), self.random.choice([1, 1, 1, 2, 3])))
        chosen += self.random.sample(leaves, min(len(leaves), 2))
        asked = [self.asked(name, kind.fields[name], depth) for name in chosen]
        return f"{{ __typename {' '.join(asked)} }}"

    def leads_on(self, definition: GraphQLField, depth: int) -> bool:
        kind = get_named_type(definition.type)
        return depth > 1 and not is_leaf_type(kind) and kind.name != "CostEstimate"

    def asked(self, name: str, definition: GraphQLField, depth: int) -> str:
        kind = get_named_type(definition.type)
        alias = ""
        if definition.args and self.aliases < 15:  # as two with other arguments do not merge
            self.aliases += 1
            alias = f"a{self.aliases}: "
        given = {
            argument: value
            for argument, each in definition.args.items()
            if (value := self.argument(argument, each, kind)) is not None
        }
        stated = ", ".join(f"{argument}: {value}" for argument, value in given.items())
        below = "" if is_leaf_type(kind) else self.selections(kind, depth - 1)
        return f"{alias}{name}{f'({stated})' if stated else ''} {below}"

    def argument(self, name: str, argument: GraphQLArgument, kind: GraphQLNamedType) -> str | None:
        match name:
            case "id":
                kinds = ["Image", "Content", "Generation", "Attachment"]
                known = kind.name if kind.name in kinds else self.random.choice(kinds)
                return f'"{self.random.choice(self.shelf.ids(known))}"'
            case "ids":
                known = self.random.choice(["Image", "Content", "Generation", "Attachment"])
                ids = self.random.sample(self.shelf.ids(known), self.random.randint(0, 20))
                return json.dumps(ids)
            case "first":
                return self.random.choice([None, str(self.random.randint(1, self.most))])
            case "width":
                return str(self.random.randint(1, 4000))
            case "widths":
                return self.random.choice([None, "[100, 200, 300]"])
            case _:
                assert not isinstance(argument.type, GraphQLNonNull) or argument.default_value
                return None


@ON_SQLITE
async def test_no_operation_that_is_accepted_brings_more_than_its_price(
    schema_of_the_library: Schema, parts: Parts, viewer: Viewer, shelf: Shelf
) -> None:
    asking = Asking(schema_of_the_library, Random(7), shelf)
    brought = []

    for _ in range(150):
        query = asking.query()
        price = price_of(schema_of_the_library, query)
        result = await answer(schema_of_the_library, parts, viewer, query)
        if price > LIMIT:
            assert (
                result.data,
                [e.extensions["code"] for e in result.errors or () if e.extensions],
            ) == (
                None,
                ["COST_EXCEEDED"],
            )
        else:
            assert result.errors is None, query
            objects = objects_in(result.data)
            assert objects <= price, query
            brought.append((objects, price))

    assert len(brought) > 75
    assert max(objects for objects, _ in brought) > 1_000
    assert sum(objects == price for objects, price in brought) > 20  # so prices are no mere guesses


# ---- introspection -------------------------------------------------------------------------------

ALL_OF_IT = get_introspection_query(
    descriptions=True,
    specified_by_url=True,
    directive_is_repeatable=True,
    schema_description=True,
    input_value_deprecation=True,
    one_of=True,
)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(ALL_OF_IT, id="the standard query"),
        pytest.param('{ __type(name: "Image") { fields { type { name } } } }', id="a type"),
        pytest.param('{ __type(name: "Nothing") { fields { type { name } } } }', id="no type"),
        pytest.param("{ __schema { types { possibleTypes { name } } } }", id="possible types"),
        pytest.param(
            "{ __schema { ...S } } fragment S on __Schema { types { ...T } } "
            "fragment T on __Type { ... { fields { args { type { ofType { name } } } } } }",
            id="fragments",
        ),
    ],
)
async def test_introspection_costs_the_objects_that_it_brings(
    query: str, schema_of_the_library: Schema
) -> None:
    result = await schema_of_the_library.execute(query)

    assert result.errors is None
    assert price_of(schema_of_the_library, query) == objects_in(result.data) < LIMIT / 2


async def test_a_name_in_a_variable_is_looked_up(schema_of_the_library: Schema) -> None:
    query = "query($name: String!) { __type(name: $name) { fields { type { name } } } }"

    result = await schema_of_the_library.execute(query, {"name": "Image"})

    price = price_of(schema_of_the_library, query, name="Image")
    assert price == objects_in(result.data) > 50


async def test_introspection_that_repeats_itself_is_refused(schema_of_the_library: Schema) -> None:
    types = (
        "types { fields { type { ofType { ofType { ofType { fields { type { name } } } } } } } }"
    )
    query = f"{{ __schema {{ {' '.join(f't{n}: {types}' for n in range(15))} }} }}"

    result = await schema_of_the_library.execute(query)

    assert [e.extensions["code"] for e in result.errors or () if e.extensions] == ["COST_EXCEEDED"]
