"""Operations: what may run, what it may cost, and what clients read of errors."""

import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError, get_introspection_query
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionResult

from graph.operations import Documents, Limits, Operations, Schema


@strawberry.type
class Node:
    name: str = "node"

    @strawberry.field
    def next(self) -> "Node":
        return Node()

    @strawberry.field
    def nodes(self, first: int = 20, last: int | None = None) -> list["Node"]:
        return []

    @strawberry.field
    def page(self, first: int | None = None) -> "Page":
        return Page()

    @strawberry.field
    def all(self) -> list["Node"]:
        return []

    @strawberry.field
    def url(self, width: int = 320) -> str:
        return ""

    @strawberry.field
    def srcset(self, widths: list[int] | None = None) -> str:
        return ""


@strawberry.type
class Page:
    nodes: list[Node] = strawberry.field(default_factory=list)
    errors: list[Node] = strawberry.field(default_factory=list)
    total: Node = strawberry.field(default_factory=Node)


@strawberry.type
class Query:
    @strawberry.field
    def named(self, ids: list[strawberry.ID]) -> list[Node]:
        return []

    @strawberry.field
    def deleted(self, ids: list[strawberry.ID]) -> Page:
        return Page()

    @strawberry.field
    def ping(self) -> str:
        return "pong"

    @strawberry.field
    def node(self) -> Node:
        return Node()

    @strawberry.field
    def nodes(self, first: int | None = None, last: int | None = None) -> list[Node]:
        return []

    @strawberry.field
    def secret(self) -> str | None:
        raise RuntimeError("the password is hunter2")

    @strawberry.field
    def number(self) -> int | None:
        return "hunter2"  # type: ignore[return-value]  # what a faulty resolver does

    @strawberry.field
    def expected(self, code: str | None = None) -> str | None:
        raise GraphQLError("Not yours.", extensions={"code": code} if code else None)


@strawberry.type
class Mutation:
    @strawberry.mutation
    def secret(self) -> str | None:
        raise RuntimeError("the password is hunter2")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def secret(self, after: int = 0) -> AsyncGenerator[int, None]:
        for number in range(after):
            yield number
        raise RuntimeError("the password is hunter2")


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Functions that were called: the same number on any machine, however busy."""
    calls: Counter[str] = Counter()

    def count(_frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            calls[event] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def schema_with(limits: Limits | None = None, *, cache_size: int = 10) -> Schema:
    return Schema(
        Query,
        Mutation,
        Subscription,
        extensions=[Operations.with_limits(limits, cache_size=cache_size)],
        config=StrawberryConfig(disable_field_suggestions=True),
    )


SCHEMA = schema_with()


def extensions_of(result: ExecutionResult) -> list[dict[str, Any]]:
    return [error.extensions or {} for error in result.errors or ()]


async def streamed(text: str, **options: Any) -> list[Any]:
    return [result async for result in await SCHEMA.stream(text, **options)]


def nested_spreads(depth: int, body: str = "...F{next} ...F{next}") -> str:
    """2 ** depth fields in a few kilobytes."""
    fragments = (f"fragment F{i} on Node {{{body.format(next=i + 1)}}}" for i in range(depth))
    return "\n".join(["{node{...F0}}", *fragments, f"fragment F{depth} on Node {{name}}"])


# How large


TOO_LARGE = {
    "characters": ("{ping}" + "#" * 15_000, "TOO_MANY_CHARACTERS", 15_000, 15_006),
    "tokens": ("{" + "ping " * 1_500 + "}", "TOO_MANY_TOKENS", 1_500, 1_502),
    "depth": ("{node" + "{next" * 15 + "{name}" + "}" * 16, "TOO_DEEP", 15, 17),
    "depth the parser gives up on": ("{node" + "{next" * 400 + "}" * 401, "TOO_DEEP", 15, 201),
    "depth of a literal": ("{nodes(first:" + "[" * 300 + "]" * 300 + ")}", "TOO_DEEP", 15, 201),
    "aliases": (
        "{" + " ".join(f"a{i}:ping" for i in range(300)) + "}",
        "TOO_MANY_ALIASES",
        15,
        300,
    ),
    "aliases in a fragment spread eight times": (
        "{node{" + "...F " * 8 + "}} fragment F on Node {a:name b:name}",
        "TOO_MANY_ALIASES",
        15,
        16,
    ),
    "fields": ("{" + "ping " * 401 + "}", "TOO_MANY_FIELDS", 400, 401),
    "fields in inline fragments": (
        "{" + "...{ping ping} ... on Query{ping} " * 134 + "}",
        "TOO_MANY_FIELDS",
        400,
        402,
    ),
    "fields of the first of two namesakes": (
        "query A{" + "ping " * 401 + "} query A{ping}",
        "TOO_MANY_FIELDS",
        400,
        401,
    ),
    "fields in a fragment nobody spreads": (
        "{ping} fragment F on Node{" + "name " * 401 + "}",
        "TOO_MANY_FIELDS",
        400,
        401,
    ),
    "2^20 fields in spreads": (nested_spreads(20), "TOO_MANY_FIELDS", 400, 2**20 + 1),
    "2^90 fields in spreads": (nested_spreads(90), "TOO_MANY_FIELDS", 400, 2**31 - 1),
    "cost": ("{nodes(first:100){nodes(first:50){next{name}}}}", "COST_EXCEEDED", 5_000, 10_100),
}


@pytest.mark.parametrize(
    ("text", "code", "limit", "actual"), TOO_LARGE.values(), ids=TOO_LARGE.keys()
)
async def test_an_operation_over_a_limit_is_refused_with_the_figures(
    text: str, code: str, limit: int, actual: int
) -> None:
    result = await SCHEMA.execute(text)

    assert result.data is None
    assert extensions_of(result) == [{"code": code, "limit": limit, "actual": actual}]


@pytest.mark.parametrize(
    ("variables", "actual"),
    [
        ({"ids": ["id"] * 2_000}, 2_001),
        ({"ids": [[]] * 10**5}, 10**5 + 1),
        ({"of": {"deep": [{"values": list(range(1_998))}]}}, 2_002),
        ({str(n): n for n in range(2_001)}, 2_001),
    ],
)
async def test_variables_of_too_many_values_are_refused_before_they_are_looked_at(
    variables: dict[str, Any], actual: int
) -> None:
    result = await SCHEMA.execute("query($ids: [ID!]!) {named(ids: $ids) {name}}", variables)

    assert extensions_of(result) == [{"code": "TOO_MANY_VALUES", "limit": 2_000, "actual": actual}]


async def test_as_many_values_as_there_may_be_are_taken() -> None:
    result = await SCHEMA.execute(
        "query($ids: [ID!]!) {named(ids: $ids) {name}}", {"ids": ["id"] * 1_999}
    )

    assert (result.data, result.errors) == ({"named": []}, None)


@pytest.mark.parametrize("text", [text for text, *_ in TOO_LARGE.values()], ids=TOO_LARGE.keys())
async def test_a_stream_refuses_as_an_execution_does(text: str) -> None:
    executed = await SCHEMA.execute(text)

    results = await streamed(text)

    assert [(r.data, extensions_of(r)) for r in results] == [(None, extensions_of(executed))]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(nested_spreads(20), id="spread twice, 20 deep"),
        pytest.param(nested_spreads(90, "...F{next} ...F{next}"), id="spread twice, 90 deep"),
        pytest.param(nested_spreads(20, "next{{...F{next}}} nodes{{...F{next}}}"), id="in fields"),
        pytest.param(nested_spreads(90).replace("{name}", "{}"), id="spread twice, all empty"),
        pytest.param(nested_spreads(180, "...F{next}"), id="a chain of 180"),
        pytest.param("{node{" + "...F " * 700 + "}} fragment F on Node{}", id="one, 700 times"),
        pytest.param("{" + "node{name}" * 190 + "}", id="190 fields of one name"),
        pytest.param("{ping " + "@skip(if:false)" * 200 + "}", id="200 directives"),
        pytest.param("{" + "nosuch " * 390 + "}", id="390 unknown fields"),
        pytest.param("{nodes(" + "first:1 " * 450 + "){name}}", id="450 arguments"),
        pytest.param("{node{...A}} fragment A on Node{next{...A ...A}}", id="a cycle"),
    ],
)
async def test_a_hostile_document_costs_no_more_than_a_million_calls(text: str) -> None:
    """On one slow core a tenth of a second; a limiter that doubles takes minutes here."""
    with counted_calls() as calls:
        await SCHEMA.execute(text)

    assert calls.total() < 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "{node{...A}} fragment A on Node{next{...A}}",
        "{node{...A}} fragment A on Node{...B ...B} fragment B on Node{...A ...A name}",
        "{node{...C}} fragment C on Node{...A} fragment A on Node{...B} fragment B on Node{...A}",
        "{node{...A}} fragment A on Node{nodes(first:100){...A}}",
    ],
)
async def test_a_cycle_of_fragments_is_refused_by_validation(text: str) -> None:
    result = await SCHEMA.execute(text)

    assert result.errors is not None
    assert "within itself" in result.errors[0].message
    assert {e["code"] for e in extensions_of(result)} == {"GRAPHQL_VALIDATION_FAILED"}


async def test_a_cycle_is_refused_the_second_time_too() -> None:
    text = "{node{...A}} fragment A on Node{next{...A}}"
    first = await SCHEMA.execute(text)

    second = await SCHEMA.execute(text)

    assert extensions_of(second) == extensions_of(first) == [{"code": "GRAPHQL_VALIDATION_FAILED"}]


async def test_a_query_with_a_dozen_aliases_passes() -> None:
    result = await SCHEMA.execute("{" + " ".join(f"a{i}: ping" for i in range(12)) + "}")

    assert result.errors is None


async def test_the_fullest_introspection_query_passes() -> None:
    text = get_introspection_query(
        descriptions=True,
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
        experimental_directive_deprecation=True,
        one_of=True,
    )

    result = await SCHEMA.execute(text)

    assert result.errors is None


# How dear


@pytest.mark.parametrize(
    ("text", "variables", "cost"),
    [
        pytest.param("{ping}", {}, 0, id="leaves are free"),
        pytest.param("{__typename node{name next{name}}}", {}, 2, id="objects cost 1"),
        pytest.param("{nodes(first:10){name}}", {}, 10, id="each of a list, too"),
        pytest.param("{nodes(first:10){next{name}}}", {}, 20, id="first multiplies"),
        pytest.param("{nodes(last:10){next{name}}}", {}, 20, id="last multiplies"),
        pytest.param("{nodes(first:3,last:10){next{name}}}", {}, 20, id="the larger of both"),
        pytest.param("{nodes{next{name}}}", {}, 40, id="neither: our default"),
        pytest.param("{node{nodes{next{name}}}}", {}, 41, id="the default of the schema"),
        pytest.param("{node{nodes(last:3){next{name}}}}", {}, 7, id="last beats first's default"),
        pytest.param("{nodes(first:9){nodes(first:9){next{name}}}}", {}, 171, id="pages multiply"),
        pytest.param("query($n:Int){nodes(first:$n){next{name}}}", {"n": 7}, 14, id="a variable"),
        pytest.param("query($n:Int){nodes(first:$n){next{name}}}", {"n": 7.0}, 14, id="7.0 is 7"),
        pytest.param("query($n:Int=6){nodes(first:$n){next{name}}}", {}, 12, id="its default"),
        pytest.param("query($n:Int=6){nodes(first:$n){next{name}}}", {"n": 2}, 4, id="overridden"),
        pytest.param(
            "query($n:Int){nodes(first:$n){next{name}}}", {"n": None}, 40, id="null is our default"
        ),
        pytest.param(
            "query($n:Int){nodes(first:$n){next{name}}}", {}, 40, id="no value is our default"
        ),
        pytest.param("{nodes(first:0){next{name}}}", {}, 2, id="0 will be refused"),
        pytest.param("{nodes(first:-5){next{name}}}", {}, 2, id="-5 will be refused"),
        pytest.param("{nodes(first:2147483647){next{name}}}", {}, 2, id="2^31 will be refused"),
        pytest.param("query($n:Int){nodes(first:$n){next{name}}}", {"n": True}, 40, id="no number"),
        pytest.param(
            "{nodes(first:5){...F ...F}} fragment F on Node{next{name}}", {}, 15, id="each spread"
        ),
        pytest.param(
            "{nodes(first:5){...on Node{next{name}} ...{next{name}}}}", {}, 15, id="inline"
        ),
        pytest.param("{node{page(first:9){nodes{next{name}}}}}", {}, 2 + 9 * 2, id="a page's list"),
        pytest.param(
            "{node{page(first:9){total{name}}}}", {}, 3, id="what is beside a page's list"
        ),
        pytest.param(
            "{node{page(first:9){total{page{nodes{name}}}}}}", {}, 4 + 20, id="a page in a page"
        ),
        pytest.param("{node{page{errors{name}}}}", {}, 3, id="errors of a payload: one"),
        pytest.param("{node{all{name}}}", {}, 1 + 100, id="a list without a bound: the most"),
        pytest.param(
            "{node{a:page(first:2){...F} b:page(first:3){...F}}} fragment F on Page{nodes{name}}",
            {},
            1 + (1 + 2) + (1 + 3),
            id="a fragment on two pages",
        ),
        pytest.param('{named(ids:["a","b"]){next{name}}}', {}, 4, id="ids count"),
        pytest.param('{named(ids:"a"){name}}', {}, 1, id="one id is a list of one"),
        pytest.param("{named(ids:[]){name}}", {}, 0, id="no ids"),
        pytest.param(
            "query($i:[ID!]!){named(ids:$i){name}}", {"i": ["a"] * 3}, 3, id="ids in a variable"
        ),
        pytest.param(
            'query($i:[ID!]!=["a","b"]){named(ids:$i){name}}', {}, 2, id="ids in its default"
        ),
        pytest.param(
            "query($i:ID!){named(ids:[$i,$i]){name}}", {"i": "a"}, 2, id="variables among ids"
        ),
        pytest.param(
            '{deleted(ids:["a","b"]){nodes{name} errors{name}}}', {}, 4, id="a payload's list"
        ),
        pytest.param("{node{url}}", {}, 2, id="a URL costs 1"),
        pytest.param("{nodes(first:5){a:url b:url(width:9)}}", {}, 15, id="each time"),
        pytest.param("{node{srcset}}", {}, 5, id="a srcset has four"),
        pytest.param("{node{srcset(widths:[1,2,3])}}", {}, 4, id="or as many as widths"),
        pytest.param(
            "query($w:[Int!]){node{srcset(widths:$w)}}", {"w": [1] * 20}, 21, id="in a variable"
        ),
        pytest.param(
            "query($n:Int){node{...F few:nodes(first:2){...F}}} "
            "fragment F on Node{nodes(first:$n){next{name}}}",
            {"n": 10},
            1 + 20 + 2 * (1 + 20),
            id="a variable in a fragment",
        ),
    ],
)
async def test_an_operation_costs_what_it_may_bring(
    text: str, variables: dict[str, Any], cost: int
) -> None:
    document = Documents(Limits(), cache_size=1).prepared(SCHEMA, text)

    assert document.cost(None, variables, Limits()) == cost


async def test_each_operation_of_a_document_has_its_own_cost() -> None:
    text = "query Dear($n:Int=100){...F} query Cheap($n:Int=1){...F} " + (
        "fragment F on Query{nodes(first:$n){nodes(first:$n){next{name}}}}"
    )

    dear = await SCHEMA.execute(text, operation_name="Dear")
    cheap = await SCHEMA.execute(text, operation_name="Cheap")

    assert extensions_of(dear) == [{"code": "COST_EXCEEDED", "limit": 5_000, "actual": 20_100}]
    assert cheap.data == {"nodes": []}


async def test_the_cost_follows_the_variables_of_each_request() -> None:
    text = "query($n:Int){nodes(first:$n){nodes(first:$n){next{name}}}}"

    small = await SCHEMA.execute(text, variable_values={"n": 10})
    large = await SCHEMA.execute(text, variable_values={"n": 100})

    assert small.data == {"nodes": []}
    assert extensions_of(large) == [{"code": "COST_EXCEEDED", "limit": 5_000, "actual": 20_100}]


# The LRU


def test_a_text_seen_before_gives_the_same_document() -> None:
    documents = Documents(Limits(), cache_size=2)

    first, second = (documents.prepared(SCHEMA, "{ping}") for _ in range(2))

    assert first.ast is second.ast


async def test_all_instances_of_one_schema_share_the_documents() -> None:
    make = Operations.with_limits()

    assert make() is not make()
    assert make().documents is make().documents


async def test_the_oldest_document_makes_room() -> None:
    documents = Documents(Limits(), cache_size=2)

    for text in ("{a:ping}", "{b:ping}", "{c:ping}"):
        documents.prepared(SCHEMA, text)

    assert documents.prepared.cache_info().currsize == 2


async def test_what_is_refused_takes_no_room() -> None:
    schema = schema_with()
    documents = schema.get_extensions()[0].documents  # type: ignore[attr-defined]  # an Operations

    for text in ("{", "{nosuch}", "{" + "ping " * 500 + "}"):
        await schema.execute(text)

    assert documents.prepared.cache_info().currsize == 0


async def test_one_set_of_documents_keeps_two_schemas_apart() -> None:
    @strawberry.type(name="Query")
    class Other:
        other: int = 1

    documents = Documents(Limits(), cache_size=5)
    documents.prepared(SCHEMA, "{ping}")

    with pytest.raises(Exception, match="Cannot query field 'ping'"):
        documents.prepared(Schema(Other), "{ping}")


# Which operation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("C", "The document has no operation named 'C'."),
        ("", "The document has no operation named ''."),
        (None, "The document has several operations; name one of them as operationName."),
    ],
)
async def test_an_operation_must_be_named_clearly(name: str | None, message: str) -> None:
    text = "query A{ping} query B{ping}"

    result = await SCHEMA.execute(text, operation_name=name)
    (streamed_result,) = await streamed(text, operation_name=name)

    for refused in (result, streamed_result):
        assert [error.message for error in refused.errors or ()] == [message]
        assert extensions_of(refused) == [{"code": "OPERATION_RESOLUTION_FAILURE"}]


async def test_a_named_operation_runs() -> None:
    result = await SCHEMA.execute("query A{ping} query B{b:ping}", operation_name="B")

    assert result.data == {"b": "pong"}


# Errors of clients


@pytest.mark.parametrize(
    ("text", "variables", "code", "message"),
    [
        ("{", {}, "GRAPHQL_PARSE_FAILED", "Syntax Error: Expected Name, found <EOF>."),
        ("{pin}", {}, "GRAPHQL_VALIDATION_FAILED", "Cannot query field 'pin' on type 'Query'."),
        ("query A{ping} query A{ping}", {}, "GRAPHQL_VALIDATION_FAILED", None),
        ("type A{b:Int}", {}, "GRAPHQL_VALIDATION_FAILED", None),
        ("{nodes(first:true){name}}", {}, "GRAPHQL_VALIDATION_FAILED", None),
        ("query($n:Int){nodes(first:$n){name}}", {"n": "x"}, "BAD_USER_INPUT", None),
        ("query($n:Int!){nodes(first:$n){name}}", {}, "BAD_USER_INPUT", None),
        ("{expected}", {}, "BAD_USER_INPUT", "Not yours."),
        ('{expected(code:"FORBIDDEN")}', {}, "FORBIDDEN", "Not yours."),
    ],
)
async def test_a_clients_error_says_what_is_wrong_and_has_a_code_and_is_not_logged(
    text: str,
    variables: dict[str, Any],
    code: str,
    message: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = await SCHEMA.execute(text, variable_values=variables)
    (streamed_result,) = await streamed(text, variable_values=variables)

    for refused in (result, streamed_result):
        assert {e["code"] for e in extensions_of(refused)} == {code}
        assert message is None or message == (refused.errors or [])[0].message
    assert caplog.records == []


async def test_an_error_points_at_its_place_in_the_text() -> None:
    result = await SCHEMA.execute("{\n  nosuch\n}")

    assert result.errors is not None
    assert result.errors[0].formatted["locations"] == [{"line": 2, "column": 3}]


# Errors of ours


@pytest.mark.parametrize(
    "text", ["{secret}", "mutation{secret}", "{number}"], ids=["query", "mutation", "leaf"]
)
async def test_an_unforeseen_error_is_masked_and_logged_under_the_same_request_id(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = await SCHEMA.execute(text)

    (error,) = result.errors or []
    assert error.message == "Internal server error."
    assert error.extensions is not None
    assert error.extensions["code"] == "INTERNAL"
    (record,) = caplog.records
    path = "number" if "number" in text else "secret"
    request_id = error.extensions["requestId"]
    assert (record.name, record.levelno) == ("graph.operations", logging.ERROR)
    assert record.getMessage() == f"graphql.failed request_id={request_id} path={path}"
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


async def test_an_unforeseen_error_keeps_nothing_of_its_cause() -> None:
    result = await SCHEMA.execute("{secret number}")

    assert "hunter2" not in repr([error.formatted for error in result.errors or ()])
    assert [error.original_error for error in result.errors or ()] == [None, None]


@pytest.mark.parametrize("after", [0, 2])
async def test_an_unforeseen_error_in_a_subscription_is_masked(
    after: int, caplog: pytest.LogCaptureFixture
) -> None:
    results = await streamed(f"subscription{{secret(after:{after})}}")

    assert [result.data for result in results] == [{"secret": n} for n in range(after)] + [None]
    error = results[-1].errors[0]
    record = caplog.records[0]
    assert len(caplog.records) == 1
    assert error.message == "Internal server error."
    assert error.extensions["requestId"] in record.getMessage()


async def test_the_request_id_of_the_context_is_the_one_shown() -> None:
    context = SimpleNamespace(request_id="from-the-proxy")

    result = await SCHEMA.execute("{secret}", context_value=context)

    assert extensions_of(result) == [{"code": "INTERNAL", "requestId": "from-the-proxy"}]


async def test_what_does_not_fail_keeps_its_data() -> None:
    result = await SCHEMA.execute("{ping secret}")

    assert result.data == {"ping": "pong", "secret": None}
