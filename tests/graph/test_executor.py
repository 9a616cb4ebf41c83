"""The compiled executor beside graphql-core's: the same answers and errors, whatever is asked.

Random operations run over random data, of which a part is broken in every way in which a resolver
can break its promise. Each runs as graphql-core runs it, and several times compiled.
"""

import asyncio
import gc
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, NewType, Optional, cast
from uuid import UUID

import httpx
import pytest
import strawberry
from graphql import (
    GraphQLError,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    parse,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from strawberry import relay
from strawberry.extensions import FieldExtension, SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext as StockExecutor
from strawberry.types import ExecutionContext

from graph import executor
from graph.app import create_app
from graph.config import Settings
from graph.executor import MAX_VARIANTS, CompiledExecutor
from graph.operations import Limits, Operations, Schema
from tests.end_to_end import operations
from tests.pictures import jpeg

# ---- a schema with everything in it --------------------------------------------------------------

Coin = NewType("Coin", int)


def _minted(value: int) -> str | None:
    if value < 0:
        raise ValueError("no debts")
    return None if value == 13 else f"{value} ¢"


@strawberry.enum
class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@strawberry.enum
class Grade(IntEnum):
    LOW = 1
    HIGH = 2


@strawberry.enum
class Shape(Enum):
    ROUND = ("r",)
    FLAT = strawberry.enum_value("f", name="LEVEL")


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Part(Named):
    weight: float
    note: str | None


@strawberry.type
class Plain:
    """Implements nothing, so graphql-core takes any object for it."""

    name: str
    count: int | None

    @strawberry.field
    def doubled(self) -> int:
        return (self.count or 0) * 2


class Shouting(FieldExtension):
    def resolve(self, next_: Any, source: object, info: strawberry.Info, **kwargs: Any) -> Any:
        return f"{next_(source, info, **kwargs)}!"


@strawberry.type
class Thing(relay.Node):
    id: relay.NodeID[UUID]
    key: strawberry.ID
    text: str
    maybe_text: str | None
    count: int
    maybe_count: int | None
    ratio: float
    flag: bool | None
    colour: Colour
    grade: Grade | None
    shape: Shape
    at: datetime
    maybe_at: datetime | None
    price: Decimal | None
    coin: Coin
    in_: str | None = strawberry.field(name="in")
    tags: list[str]
    maybe_tags: list[str | None] | None
    matrix: list[list[int]]
    colours: list[Colour | None]
    part: Part | None
    sure_part: Part
    parts: list[Part]
    maybe_parts: list[Part | None] | None
    grid: list[list[Plain]] | None
    plain: Plain
    next: Optional["Thing"]
    either: Annotated[Part | Plain, strawberry.union("Either")] | None
    named: Named | None
    mood: strawberry.Private[str]

    @strawberry.field
    def shout(self, times: int = 1, loud: bool = False) -> str:
        return str(self.text) * times + "!" * loud

    @strawberry.field
    def first_of(self, words: list[str]) -> str | None:
        return words[0] if words else None

    @strawberry.field
    def made(self, colour: Colour = Colour.RED) -> Part | None:
        if self.mood == "fails":
            raise ValueError("not made")
        return Part(name=colour.name, weight=1.0, note=None)

    @strawberry.field
    def several(self, info: strawberry.Info, count: int | None = 2) -> list[Plain]:
        return [Plain(name=info.field_name, count=each) for each in range(count or 0)]

    @strawberry.field
    def where(self, info: strawberry.Info) -> str:
        return str(info.path.as_list())

    @strawberry.field
    def asked(self, info: strawberry.Info) -> str:
        return f"{info.context} {sorted(info.variable_values)} {len(info.selected_fields)}"

    @strawberry.field
    def secretly_late(self) -> str:
        return self.late_text()  # type: ignore[return-value]  # a coroutine, as a lazy author would

    async def late_text(self) -> str:
        return str(self.text)

    @strawberry.field
    async def late(self) -> str | None:
        if self.mood == "fails":
            raise ValueError("not in time")
        return self.maybe_text

    @strawberry.field
    async def late_part(self) -> Part:
        return self.sure_part

    @strawberry.field
    async def late_plains(self) -> list[Plain]:
        return [self.plain]

    @strawberry.field(extensions=[Shouting()])  # type: ignore[untyped-decorator]  # with extensions
    def extended(self) -> str:
        return self.text


@strawberry.type
class Query:
    @strawberry.field
    def things(self, info: strawberry.Info) -> list[Thing | None]:
        return info.root_value.things  # type: ignore[no-any-return]  # a namespace of the test's

    @strawberry.field
    def sure_things(self, info: strawberry.Info) -> list[Thing] | None:
        return info.root_value.things  # type: ignore[no-any-return]  # a namespace of the test's

    @strawberry.field
    async def thing(self, info: strawberry.Info) -> Thing | None:
        return info.root_value.thing  # type: ignore[no-any-return]  # a namespace of the test's


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def things(self, info: strawberry.Info) -> AsyncGenerator[Thing, None]:
        for thing in info.root_value.things:
            yield thing


class BareSchema(Schema):
    """Shows its errors as they are."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        pass


LIMITS = Limits(
    max_characters=10**6,
    max_tokens=10**6,
    max_depth=100,
    max_aliases=10**4,
    max_fields=10**4,
    max_cost=10**9,
)
SCALARS: Any = {
    Coin: strawberry.scalar(name="Coin", serialize=_minted),
    Decimal: strawberry.scalar(name="Money", serialize=lambda value: f"{value:.2f}"),
}
SCHEMA = BareSchema(
    Query,
    subscription=Subscription,
    types=[Part],
    extensions=[Operations.with_limits(LIMITS)],
    config=StrawberryConfig(scalar_map=SCALARS),
)


@contextmanager
def run_by(schema: strawberry.Schema, executor_class: type[StockExecutor]) -> Iterator[None]:
    before, schema.execution_context_class = schema.execution_context_class, executor_class
    try:
        yield
    finally:
        schema.execution_context_class = before


async def answers(query: str, values: dict[str, Any], root: object) -> list[str]:
    """One of a query, many of a subscription: as text, which tells 1 from true, and the order."""
    results = await SCHEMA.stream(query, values, root_value=root, context_value="context")
    return [_told(result) async for result in results]


def _told(result: Any) -> str:
    errors = [
        [error.message, error.path, [*map(str, error.locations or ())], repr(error.original_error)]
        for error in result.errors or ()
    ]
    told = json.dumps([result.data, errors], indent=1)
    return re.sub(r" at 0x[0-9a-f]+", "", told)


# ---- random data, partly broken ------------------------------------------------------------------


class Odd:
    def __repr__(self) -> str:  # without an address, as each run has its own
        return f"<{type(self).__name__}>"


class Later(Odd):
    """An awaitable, with the attributes of a Plain."""

    def __init__(self, value: object) -> None:
        self.value, self.name, self.count = value, "later", 1

    def __await__(self) -> Generator[None, None, object]:
        yield from ()
        return self.value


class Duck(Odd):
    """Looks like a Part and a Plain, but is neither."""

    name, weight, note, count, doubled = "duck", 1.5, None, 3, 4


class Failing(Part):
    """A Part by inheritance."""


class Broken(Exception):
    name, weight, note, count = "broken", 0.0, None, 1


@dataclass
class Data:
    """Makes things; the same seed makes the same, so every run has its own."""

    random: Random
    broken: float
    """How much of it."""

    def root(self) -> SimpleNamespace:
        things = [self.maybe(self.thing(2)) for _ in range(self.random.randrange(4))]
        return SimpleNamespace(things=self.listed(things), thing=self.maybe(self.thing(2)))

    def thing(self, depth: int) -> object:
        random = self.random
        thing = Thing(
            id=self.one(UUID(int=random.getrandbits(128)), 7, "text"),
            key=self.one(strawberry.ID("k"), 5, UUID(int=1)),
            text=self.one("text", "", "ü\ud800", 3, Colour.RED),
            maybe_text=self.maybe(self.one("maybe", Later("late"))),
            count=self.one(1, -(2**31), True, 3.0, "12", 2**31),
            maybe_count=self.maybe(self.one(2**31 - 1, 2.5)),
            ratio=self.one(1.5, -0.0, 1e308, 2, "1.5", float("nan"), float("inf"), Decimal("0.5")),
            flag=self.maybe(self.one(True, 1, 0.0, "yes")),
            colour=self.one(Colour.RED, Colour.BLUE, "red", "nothing"),
            grade=self.maybe(self.one(Grade.LOW, 2, True, 9)),
            shape=self.one(Shape.ROUND, Shape.FLAT, "f", ["r"]),
            at=self.one(datetime(2026, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), "today"),
            maybe_at=self.maybe(self.one(datetime(2026, 1, 1, tzinfo=UTC), 5)),
            price=self.maybe(self.one(Decimal("1.5"), 2, "much")),
            coin=self.one(Coin(5), Coin(0), Coin(-1), Coin(13), "penny"),
            in_=self.maybe("in"),
            tags=self.listed([self.one("a") for _ in range(random.randrange(3))]),
            maybe_tags=self.maybe(self.listed([self.maybe("b"), "c"])),
            matrix=self.listed([self.listed([self.one(1), 2]), []]),
            colours=self.listed([self.maybe(Colour.BLUE)]),
            part=self.maybe(self.part()),
            sure_part=self.one(self.part()),
            parts=self.listed([self.one(self.part()) for _ in range(random.randrange(3))]),
            maybe_parts=self.maybe(self.listed([self.maybe(self.part())])),
            grid=self.maybe(self.listed([self.listed([self.plain()]), []])),
            plain=self.one(self.plain()),
            next=self.maybe(self.thing(depth - 1)) if depth else None,
            either=self.maybe(random.choice([self.part, self.plain])()),
            named=self.maybe(self.part()),
            mood="fails" if random.random() < self.broken else "works",
        )
        if random.random() < self.broken:
            del thing.maybe_text
        return thing

    def part(self) -> object:
        part = Part(name=self.one("part"), weight=self.one(1.0), note=self.maybe("note"))
        if self.random.random() < self.broken:
            return strawberry.cast(self.random.choice([Thing, Part, Named]), part)
        return part

    def plain(self) -> object:
        return Plain(name=self.one("plain"), count=self.maybe(self.one(4)))

    def maybe(self, value: object) -> Any:
        return None if self.random.random() < 0.2 else self.one(value)

    def one(self, good: object, *rarer: object) -> Any:
        """Mostly the first; sometimes one of the others, or what has no place anywhere."""
        if self.random.random() >= self.broken:
            return good
        odd = [
            None, Odd(), Broken("odd"), Later(good), Duck(), [good], {"name": "dict"},
            Failing(name="failing", weight=2.0, note=None), strawberry.UNSET, len, b"raw",
        ]  # fmt: skip
        return self.random.choice([*rarer, *rarer, *rarer, *odd])

    def listed(self, items: list[object]) -> Any:
        if self.random.random() >= self.broken:
            return items
        return self.random.choice(
            [
                tuple(items),
                iter(items),
                dict.fromkeys(range(len(items))),
                "text",
                None,
                Later(items),
            ]
        )


# ---- random operations ---------------------------------------------------------------------------

VARIABLES = {"a": "Boolean!", "b": "Boolean! = true", "n": "Int! = 2", "colour": "Colour! = RED"}
ARGUMENTS = {
    "shout": ["", "(times: 2)", "(times: $n, loud: $a)", "(loud: true)"],
    "firstOf": ['(words: ["x", "y"])', '(words: "one")'],
    "made": ["", "(colour: BLUE)", "(colour: $colour)"],
    "several": ["", "(count: 1)", "(count: $n)", "(count: null)"],
}


@dataclass
class Asking:
    """Writes valid operations: the key of a field in the answer tells its arguments, too."""

    random: Random
    fragments: dict[str, str] = field(default_factory=dict)

    def operation(self, kind: str) -> str:
        field = self.random.choice(["things", "sureThings", "thing"])
        if kind == "subscription":
            field = "things"
        body = f"{field} {self.selection(SCHEMA._schema.type_map['Thing'], 3)}"
        text = " ".join([f"{{ {body} }}", *self.fragments.values()])
        declared = [f"${name}: {type_}" for name, type_ in VARIABLES.items() if f"${name}" in text]
        return f"{kind} Asked{f'({chr(44).join(declared)})' if declared else ''} {text}"

    def selection(self, kind: Any, depth: int) -> str:
        parts = [self.part(kind, depth) for _ in range(self.random.randrange(1, 9))]
        return f"{{ {' '.join(parts)} }}"

    def part(self, kind: Any, depth: int) -> str:
        match self.random.randrange(10):
            case 0 if depth:
                return f"... {self.condition()} {self.selection(kind, depth - 1)}"
            case 1 if depth:
                on = self.random.choice([kind, *getattr(kind, "interfaces", ())])
                if isinstance(kind, GraphQLUnionType):
                    on = self.random.choice(kind.types)
                return f"... on {on.name} {self.condition()} {self.selection(on, depth - 1)}"
            case 2 if depth:
                return f"...{self.fragment(kind, depth)} {self.condition()}"
        return self.field(kind, depth)

    def fragment(self, kind: Any, depth: int) -> str:
        known = [name for name in self.fragments if name.startswith(f"{kind.name}_")]
        if known and self.random.random() < 0.5:
            return self.random.choice(known)
        selection = self.selection(kind, depth - 1)
        name = f"{kind.name}_{len(self.fragments)}"
        self.fragments[name] = f"fragment {name} on {kind.name} {selection}"
        return name

    def field(self, kind: Any, depth: int) -> str:
        types = {
            name: get_named_type(definition.type)
            for name, definition in getattr(kind, "fields", {}).items()
        }
        name = self.random.choice(
            ["__typename", *(name for name, below in types.items() if depth or is_leaf_type(below))]
        )
        which, arguments = self.random.choice([*enumerate(ARGUMENTS.get(name, [""]))])
        alias = f"{name.strip('_')}{which}: " if which or self.random.random() < 0.2 else ""
        below = types.get(name)
        selected = "" if is_leaf_type(below) or not below else self.selection(below, depth - 1)
        return f"{alias}{name}{arguments} {self.condition()} {selected}"

    def condition(self) -> str:
        if self.random.random() < 0.8:
            return ""
        value = self.random.choice(["true", "false", "$a", "$b"])
        return f"@{self.random.choice(['include', 'skip'])}(if: {value})"


# graphql-core drops coroutines where null spreads; so it does without us.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", ["query", "subscription"])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**64), broken=st.sampled_from([0.0, 0.01, 0.05, 0.3]))
def test_whatever_is_asked_of_whatever_data_the_answer_is_graphql_cores(
    kind: str, seed: int, broken: float
) -> None:
    random = Random(seed)
    query = Asking(random).operation(kind)
    values = [
        {name: value for name, value in given_values.items() if f"${name}:" in query}
        for given_values in ({"a": True}, {"a": False, "b": False, "n": 3, "colour": "BLUE"})
    ]

    assert validate(SCHEMA._schema, parse(query)) == []

    async def compare() -> None:
        for each in values * 3:
            seed = random.getrandbits(64)
            with run_by(SCHEMA, StockExecutor):
                expected = await answers(query, each, Data(Random(seed), broken).root())
            with run_by(SCHEMA, CompiledExecutor):
                told = await answers(query, each, Data(Random(seed), broken).root())
            assert told == expected

    asyncio.run(compare())


def sound(count: int) -> SimpleNamespace:
    things = [Data(Random(seed), broken=0).thing(1) for seed in range(count)]
    return SimpleNamespace(things=things, thing=things[0])


THING = cast(GraphQLObjectType, SCHEMA._schema.type_map["Thing"])
ATTRIBUTES = {"id": "id"} | {
    name: definition.extensions["strawberry-definition"].python_name
    for name, definition in THING.fields.items()
    if definition.extensions["strawberry-definition"].is_basic_field
}
ODD = [
    None, True, 0, -1, 13, 2.0, 2.5, 2**31, -(2**31) - 1, 10**30, float("nan"), float("inf"), "",
    "1", "red", "f", b"raw", Decimal(2), UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), Colour.BLUE,
    Grade.HIGH, Shape.FLAT, [], (), {}, [None], (1,), ["a", None], [[1], None], [[2.5]], Odd(),
    Duck(), Later("late"), Later(None), Broken("broken"), strawberry.UNSET, len, [Duck()],
    [Broken("item")], [Later(1)], Part(name="part", weight=2, note=None),
    [[Later(Plain(name="plain", count=1))]],
    strawberry.cast(Thing, Part(name="cast", weight=2.0, note=None)), Plain(name="plain", count=1),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("name", ATTRIBUTES)
async def test_each_odd_value_is_answered_as_by_graphql_core(name: str) -> None:
    kind = get_named_type(THING.fields[name].type)
    below = ["__typename", *({"name", "weight", "text"} & getattr(kind, "fields", {}).keys())]
    selection = "" if is_leaf_type(kind) else f"{{ {' '.join(below)} }}"
    query = f"{{ things {{ text {name} {selection} }} }}"

    for odd in ODD:
        root = sound(3)
        setattr(root.things[1], ATTRIBUTES[name], odd)
        with run_by(SCHEMA, StockExecutor):
            expected = await answers(query, {}, root)
        with run_by(SCHEMA, CompiledExecutor):
            told = [await answers(query, {}, root) for _ in range(3)]
        assert told == [expected] * 3, odd


# ---- what is compiled, and what is not -----------------------------------------------------------


@contextmanager
def fields_run_one_by_one() -> Iterator[Counter[str]]:
    """By name, how often graphql-core executes a field."""
    counted: Counter[str] = Counter()

    def count(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code is StockExecutor.execute_field.__code__:
            counted[frame.f_locals["path"].key] += 1

    sys.setprofile(count)
    yield counted
    sys.setprofile(None)


async def compiled(query: str, root: object, **values: Any) -> Counter[str]:
    """Run an operation until it is known; how often graphql-core then executes which field."""
    with run_by(SCHEMA, CompiledExecutor):
        await answers(query, values, root)
        await answers(query, values, root)
        with fields_run_one_by_one() as counted:
            await answers(query, values, root)
    return counted


PLAIN = """{ things {
  __typename id key text maybeText count ratio flag colour grade shape at price coin in tags matrix
  part { name weight } parts { note } grid { name doubled } next { id } shout(times: 2)
  made { name } several { count } asked
} }"""


async def test_a_list_of_plain_objects_is_completed_without_graphql_core() -> None:
    root = sound(5)

    counted = await compiled(PLAIN, root)

    assert counted == {"things": 1}


async def test_what_is_asynchronous_or_abstract_is_left_to_graphql_core_alone() -> None:
    root = sound(5)
    query = """{ things {
      text late latePart { name weight } either { ... on Part { name } } tags extended
      firstOf(words: ["a"]) nested: next { text late }
    } }"""

    counted = await compiled(query, root)

    left = {"late", "latePart", "either", "extended", "firstOf", "nested", "things"}
    assert counted.keys() - {"name"} == left
    assert counted["latePart"] == 5


async def test_one_broken_object_makes_no_other_be_run_field_by_field() -> None:
    root = sound(5)
    root.things[3].count = "many"

    counted = await compiled("{ things { text count } }", root)

    assert counted == {"things": 1, "text": 1, "count": 1}


async def test_what_a_method_asks_of_its_path_it_is_told() -> None:
    root = sound(2)
    query = "{ things { where } }"

    await compiled(query, root)
    with run_by(SCHEMA, CompiledExecutor):
        told = await SCHEMA.execute(query, root_value=root)

    assert told.data == {
        "things": [{"where": "['things', 0, 'where']"}, {"where": "['things', 1, 'where']"}]
    }


async def test_an_extension_that_resolves_sees_every_field() -> None:
    class Watching(SchemaExtension):
        seen: ClassVar[Counter[str]] = Counter()

        def resolve(self, _next: Any, root: Any, info: Any, *args: str, **kwargs: Any) -> Any:
            self.seen[info.field_name] += 1
            return _next(root, info, *args, **kwargs)

    extensions = SCHEMA.extensions
    SCHEMA.extensions = (*extensions, Watching)

    await compiled("{ things { text } }", sound(5))

    SCHEMA.extensions = extensions
    assert Watching.seen == {"things": 3, "text": 15}


async def test_an_operation_is_remembered_as_long_as_its_document() -> None:
    extensions = SCHEMA.extensions
    SCHEMA.extensions = (Operations.with_limits(LIMITS, cache_size=1),)
    gc.collect()
    before = len(executor._seen)

    for number in range(20):
        await compiled(f"{{ things {{ text{number}: text }} }}", sound(1))
    gc.collect()
    after = len(executor._seen)

    SCHEMA.extensions = extensions
    assert after - before == 1


async def test_of_an_operation_only_so_many_variants_are_compiled() -> None:
    names = [f"v{number}" for number in range(6)]
    fields = " ".join(f"{name}: text @include(if: ${name})" for name in names)
    query = f"query({' '.join(f'${name}: Boolean!' for name in names)}) {{ things {{ {fields} }} }}"
    root = sound(1)

    with run_by(SCHEMA, CompiledExecutor):
        for number in range(2**6):
            values = {name: bool(number >> bit & 1) for bit, name in enumerate(names)}
            [told] = await answers(query, values, root)
            expected = {name: "text" for name, given in values.items() if given}
            assert json.loads(told) == [{"things": [expected]}, []]

    seen = [seen for seen in executor._seen.values() if len(seen.booleans) == 6]
    assert [len(each.variants) for each in seen] == [MAX_VARIANTS]


# ---- the library's own schema --------------------------------------------------------------------

VOLATILE = {
    "id", "url", "previewUrl", "sha256", "byteSize", "createdAt", "updatedAt", "deletedAt", "at",
    "replacedAt", "expiresAt", "uploadId", "deletedImageId", "elapsedSeconds", "thumbhash",
}  # fmt: skip
"""What differs from one day to the next: only its presence is compared."""


class Library:
    """The whole service in this process, asked over HTTP."""

    def __init__(self, app: Starlette, client: httpx.AsyncClient) -> None:
        [route] = [each for each in app.routes if getattr(each, "path", "") == "/graphql"][:1]
        self.schema: Schema = cast(Any, route).endpoint.schema
        self.client = client

    async def ask(self, query: str, **variables: Any) -> Any:
        response = await self.client.post("/graphql", json={"query": query, "variables": variables})
        return response.json()

    async def watch(self, query: str, **variables: Any) -> list[Any]:
        response = await self.client.post(
            "/graphql",
            json={"query": query, "variables": variables},
            headers={"Accept": "text/event-stream"},
        )
        lines = response.text.splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    async def send(self, query: str, place: str, file: bytes, /, **variables: Any) -> Any:
        response = await self.client.post(
            "/graphql",
            data={
                "operations": json.dumps({"query": query, "variables": variables}),
                "map": json.dumps({"0": [f"variables.{place}"]}),
            },
            files={"0": ("a.jpg", file)},
            headers={"GraphQL-Require-Preflight": "1"},
        )
        return response.json()

    async def a_day(self, number: int) -> list[Any]:
        """What all mutations answer, and a few refusals."""
        told: list[Any] = []
        ids = []
        for seed in (1, 2, 3):
            answer = await self.send(
                operations.UPLOAD,
                "input.file",
                jpeg(64, 48, seed=10 * number + seed),
                input={"file": None, "title": f"Picture {seed}", "tags": ["b", "a"]},
            )
            ids.append(answer["data"]["uploadImage"]["image"]["id"])
            told.append(answer)
        file = jpeg(60, 60, seed=10 * number + 9)
        told.append(await self.send(operations.REPLACE, "file", file, id=ids[0], file=None))
        told.append(await self.send(operations.UPLOAD, "input.file", b"text", input={"file": None}))
        patch = {"title": "New", "isFavorite": True, "altText": None}
        told.append(await self.ask(operations.UPDATE, id=ids[0], patch=patch))
        told.append(await self.ask(operations.UPDATE, id=ids[0], version=99, patch=patch))
        saved = await self.ask(
            operations.SAVE_CONTENT,
            input={"externalId": f"post-{number}", "text": "Hello", "platforms": ["INSTAGRAM"]},
        )
        content = saved["data"]["saveContent"]["content"]["id"]
        attach = {"contentId": content, "imageIds": ids}
        attached = await self.ask(operations.ATTACH, input=attach)
        places = attached["data"]["attachToContent"]["content"]["attachments"]
        places = [place["id"] for place in places]
        told += [saved, attached]
        told.append(await self.ask(operations.REORDER, id=content, ids=places[::-1]))
        told.append(await self.ask(operations.DELETE, id=ids[0]))
        told.append(await self.ask(operations.DETACH, ids=places[:1]))
        told.append(await self.ask(operations.DELETE_MANY, ids=[*ids[:2], "nothing"]))
        told.append(await self.ask(operations.RESTORE, ids=ids[:1]))
        told.append(await self.ask(operations.PURGE, ids=ids[:2]))
        told.append(await self.ask(operations.IMPORT, input={"url": "ftp://nowhere"}))
        upload = {"filename": "a.jpg", "mimeType": "image/jpeg", "byteSize": 100}
        made = await self.ask(operations.CREATE_UPLOAD, input=upload)
        upload_id = made["data"]["createUpload"]["uploadId"]
        told += [made, await self.ask(operations.COMPLETE_UPLOAD, id=upload_id)]
        wish = {"prompt": f"Day {number}", "width": 64, "height": 64}
        wished = await self.ask(operations.WISH, input=wish)
        generation = wished["data"]["generateImage"]["generation"]["id"]
        await self.watch(operations.PROGRESS, id=generation)
        told += [wished, await self.ask(operations.CANCEL, id=generation)]
        told.append(await self.ask(operations.RECIPE_OF, id=generation))
        told.append(await self.ask(operations.PROVIDERS))
        return told

    async def reads(self) -> list[Any]:
        """What all queries answer, and a subscription; nothing changes."""
        listed = await self.ask(operations.IMAGES, first=10)
        ids = [node["id"] for node in listed["data"]["images"]["nodes"]]
        wished = await self.ask("{ generations { nodes { id } } }")
        generation = wished["data"]["generations"]["nodes"][0]["id"]
        return [
            listed,
            await self.ask(operations.IMAGES, first=0),
            await self.ask(operations.IMAGES_WITH_URLS),
            await self.ask(operations.READ_CONTENT, externalId="post-0"),
            await self.ask(operations.PROVIDERS),
            await self.ask(operations.LEDGER),
            await self.ask(operations.ESTIMATE, input={"prompt": "A picture"}),
            await self.ask(operations.GENERATION, id=generation),
            await self.ask(operations.RECIPE_OF, id=generation),
            await self.watch(operations.PROGRESS, id=generation),
            await self.ask("{ images { nodes { id url(expiresIn: 1) title } } }"),
            await self.ask(
                "{ images { edges { node { tags usages { nodes { content { id } } } } } } }"
            ),
            *[await self.ask(operations.RENDITION, id=id, width=32) for id in ids],
            *[await self.ask(operations.VERSIONS, id=id) for id in [*ids, "nothing"]],
            *[await self.ask(operations.FILES, id=id) for id in ids],
        ]


@asynccontextmanager
async def library(folder: Path, template: Path) -> AsyncIterator[Library]:
    folder.mkdir()
    shutil.copy(template, folder / "darkroom.db")
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=folder,
        signing_keys="k" * 32,  # type: ignore[arg-type]  # pydantic splits these
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield Library(app, client)


async def test_days_in_two_libraries_are_the_same_compiled_or_not(
    sqlite_template: Path, tmp_path: Path
) -> None:
    async with library(tmp_path / "stock", sqlite_template) as stock:
        stock.schema.execution_context_class = StockExecutor
        expected = [await stock.a_day(number) for number in range(3)]

    async with library(tmp_path / "compiled", sqlite_template) as compiled:
        told = [await compiled.a_day(number) for number in range(3)]

    assert json.dumps(_masked(told), indent=1) == json.dumps(_masked(expected), indent=1)


async def test_a_library_reads_the_same_compiled_or_not(
    sqlite_template: Path, tmp_path: Path
) -> None:
    async with library(tmp_path / "library", sqlite_template) as opened:
        await opened.a_day(0)
        told = [_unsigned(await opened.reads()) for _ in range(3)]
        with run_by(opened.schema, StockExecutor):
            expected = _unsigned(await opened.reads())

    assert told == [expected] * 3


def _masked(answer: Any, key: str = "") -> Any:
    if isinstance(answer, dict):
        return {key: _masked(value, key) for key, value in answer.items()}
    if isinstance(answer, list):
        return [_masked(value) for value in answer]
    return key if key in VOLATILE and answer is not None else answer


def _unsigned(answer: Any) -> str:
    """As text, without what depends on the moment: when a URL was signed, and an event told."""
    moment = r'expires=\d+&signature=[-\w]+|"at": "[^"]+"'
    return re.sub(moment, "", json.dumps(answer, indent=1))
