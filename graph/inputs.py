"""Input objects whose fields are looked up once, where Strawberry does so for every value anew.

    @looked_up_once
    @strawberry.input
    class DateTimeFilter: …

It matters for what comes with every page: a filter has two dozen fields, most of them left out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from strawberry.schema.config import StrawberryConfig
from strawberry.types.arguments import InputContext
from strawberry.types.base import StrawberryType

Input = TypeVar("Input", bound=type[Any])


class Known(NamedTuple):
    """A field of an input: its name in Python, and the type of its values."""

    name: str
    type: StrawberryType | type


def looked_up_once(input: Input) -> Input:
    """Each of its fields is required or has a default."""
    fields: dict[str, Known] = {}

    def made(input: type[Any], sent: Mapping[str, Any], context: InputContext) -> object:
        if not fields:  # at the first value, when every type is there
            fields.update(_known(input, context.config))
        given = {
            fields[name].name: context.convert(value, fields[name].type, name)
            for name, value in sent.items()
        }
        return input(**given)

    input.__strawberry_definition__.from_input = made
    return input


def _known(input: type[Any], config: StrawberryConfig) -> dict[str, Known]:
    definition = input.__strawberry_definition__
    return {
        config.name_converter.from_field(field): Known(
            field.python_name, field.resolve_type(type_definition=definition)
        )
        for field in definition.fields
    }
