"""The schema as others read it: printed, described, and the same as the code's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
)

PRINTED = Path(__file__).parents[2] / "schema.graphql"


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema(PRINTED.read_text())


def test_the_printed_schema_is_the_codes(exported_schema: str) -> None:
    assert exported_schema == PRINTED.read_text(), "run `make schema`, and read the difference"


def test_everything_in_the_schema_is_described(schema: GraphQLSchema) -> None:
    bare = [name for name, description in _elements(schema) if not (description or "").strip()]

    assert bare == []


def test_every_description_is_a_sentence(schema: GraphQLSchema) -> None:
    odd = [
        name
        for name, description in _elements(schema)
        if (description or "").rstrip()[-1:] not in (".", "`")
    ]

    assert [name for name in odd if not _comes_from_relay(name)] == []


def test_every_mutation_answers_with_a_list_of_typed_errors(schema: GraphQLSchema) -> None:
    mutations = schema.mutation_type
    assert mutations is not None

    for name, field in mutations.fields.items():
        payload = schema.get_type(str(field.type).rstrip("!"))
        assert isinstance(payload, GraphQLObjectType), name
        assert str(payload.fields["errors"].type).endswith("Error!]!"), name


def test_every_error_type_is_a_user_error(schema: GraphQLSchema) -> None:
    errors = [
        type_
        for name, type_ in schema.type_map.items()
        if isinstance(type_, GraphQLObjectType) and name.endswith("Error")
    ]

    assert errors
    for type_ in errors:
        assert [interface.name for interface in type_.interfaces] == ["UserError"]


def _elements(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Every type, field, argument, input field and enum value, with its description."""
    for name, type_ in schema.type_map.items():
        if is_introspection_type(type_) or is_specified_scalar_type(type_):
            continue
        yield name, type_.description
        match type_:
            case GraphQLObjectType() | GraphQLInterfaceType():
                for field_name, field in type_.fields.items():
                    yield f"{name}.{field_name}", field.description
                    for argument_name, argument in field.args.items():
                        yield f"{name}.{field_name}({argument_name})", argument.description
            case GraphQLInputObjectType():
                for field_name, input_field in type_.fields.items():
                    yield f"{name}.{field_name}", input_field.description
            case GraphQLEnumType():
                for value_name, value in type_.values.items():
                    yield f"{name}.{value_name}", value.description


def _comes_from_relay(name: str) -> bool:
    """Strawberry's own words."""
    return name.endswith(".id") or name.partition(".")[0] in (
        "Node",
        "PageInfo",
        "DateTime",
        "Upload",
    )
