"""Plans: one Python function for all objects of a type that are asked for the same fields.

A plan takes attributes, global ids, `__typename` and synchronous methods, where all beneath them is
of that kind too. It leaves out what is asynchronous, abstract or has extensions. Its function
raises at every value that is not just what it should be; to say what is wrong is not its task.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import CoroutineType, FunctionType
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from graphql import (
    GRAPHQL_MAX_INT,
    GRAPHQL_MIN_INT,
    GraphQLBoolean,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLString,
    Undefined,
    get_nullable_type,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path
from strawberry.execution import optimized_is_awaitable
from strawberry.relay import Node
from strawberry.schema import schema_converter
from strawberry.schema.base import BaseSchema
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext as Executor
from strawberry.schema.types.base_scalars import isoformat
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.cast import TYPE_CAST_ATTRIBUTE
from strawberry.types.field import StrawberryField

Arguments: TypeAlias = Mapping[str, object]


class Unusual(Exception):
    """A field or a value that graphql-core has to see to."""


@dataclass(eq=False, frozen=True, slots=True)
class Plan:
    complete: Callable[[object, Sequence[Arguments]], Any]
    """Takes the value, and what to call the methods with. What it leaves out is None, in place."""
    methods: Sequence["Method"]
    rest: GroupedFieldSet
    """What it leaves out."""


class Nowhere:
    """The path in a method's `info`: whoever looks at it gets graphql-core's instead."""

    def __getattr__(self, name: str) -> Any:
        raise Unusual


@dataclass(frozen=True, slots=True)
class Method:
    """A field that a synchronous method of the object's class resolves."""

    parent: GraphQLObjectType
    definition: GraphQLField
    details: FieldDetailsList

    def arguments(self, executor: Executor) -> Arguments:
        """What to call it with, for all objects: so only what nobody can change."""
        schema: BaseSchema = _strawberry(executor.schema)
        field, nodes = _strawberry(self.definition), [each.node for each in self.details]
        given = get_argument_values(
            self.definition, nodes[0], executor.variable_values, None, executor.hide_suggestions
        )
        if any(isinstance(value, list | dict) for value in given.values()):
            raise Unusual
        nowhere = cast(Path, Nowhere())
        raw = executor.build_resolve_info(self.definition, nodes, self.parent, nowhere)
        _, arguments = schema_converter.get_arguments(
            field=field,
            source=None,
            info=schema.config.info_class(_raw_info=raw, _field=field),
            kwargs=given,
            config=schema.config,
            scalar_registry=schema.schema_converter.scalar_registry,
        )
        return cast(Arguments, arguments)


def _strawberry(made: Any) -> Any:
    """What Strawberry has made a graphql-core schema, type or field from; None for others."""
    return made.extensions.get(schema_converter.GraphQLCoreConverter.DEFINITION_BACKREF)


SURE: Final[Mapping[object, str]] = {
    GraphQLString: "type({0}) is str",
    GraphQLID: "type({0}) is str",
    GraphQLBoolean: "type({0}) is bool",
    GraphQLInt: f"type({{0}}) is int and {GRAPHQL_MIN_INT} <= {{0}} <= {GRAPHQL_MAX_INT}",
    GraphQLFloat: "type({0}) is float and {0} - {0} == 0",  # neither infinite nor no number
}
"""Of which values graphql-core makes nothing else."""


class Writer:
    """Writes the function of a plan, and the functions of the objects in it, in Python.

    Nothing of a client's stands in them but the keys of the answer, which are GraphQL names.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"Unusual": Unusual, "Coroutine": CoroutineType}
        self.methods: list[Method] = []

    def plan(
        self, kind: GraphQLList[Any] | GraphQLObjectType, details: FieldDetailsList
    ) -> Plan | None:
        rest: GroupedFieldSet = {}
        try:
            if isinstance(kind, GraphQLObjectType):
                name = self._object(kind, details, rest)
            else:
                value = self._value(GraphQLNonNull(kind), details, "value")
                name = self._function([f"return {value}"])
        except Unusual:
            return None
        exec(compile("\n".join(self.lines), "<a selection>", "exec"), self.names)  # noqa: S102  # see above
        return Plan(self.names[name], self.methods, rest)

    def _object(
        self, kind: GraphQLObjectType, details: FieldDetailsList, rest: GroupedFieldSet | None
    ) -> str:
        """The function of an object. What it cannot take goes into `rest`, or is Unusual."""
        lines = [f"if type(value) is not {self._name(_class_of(kind))}: raise Unusual"]
        if kind.is_type_of:  # Strawberry's own, which also asks what an object was cast to
            lines.append(f"if getattr(value, {TYPE_CAST_ATTRIBUTE!r}, None): raise Unusual")
        entries: list[str] = []
        for key, group in self._fields(kind, details).items():
            written, called = len(self.lines), len(self.methods)
            try:
                reading, entry = self._field(kind, group, f"v{len(entries)}")
            except Unusual:
                if rest is None:
                    raise
                del self.lines[written:], self.methods[called:]
                rest[key], reading, entry = group, [], "None"
            lines += reading
            entries.append(f"{key!r}: {entry}")
        if rest and len(rest) == len(entries):
            raise Unusual
        return self._function([*lines, f"return {{{', '.join(entries)}}}"])

    def _fields(self, kind: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        fields, deferred, _ = self.executor.collect_subfields(kind, details)
        for group in fields.values():
            known = self.executor.schema.get_field(kind, group[0].node.name.value)
            if not known or any(one.defer_usage or one.fragment_variable_values for one in group):
                raise Unusual
        if deferred:
            raise Unusual
        return fields

    def _field(
        self, parent: GraphQLObjectType, details: FieldDetailsList, name: str
    ) -> tuple[list[str], str]:
        """How to read it from the object into a name, and how to complete it from there."""
        node = details[0].node
        directives = {each.name.value for one in details for each in one.node.directives or ()}
        if directives - {"skip", "include"}:
            raise Unusual
        if node.name.value == "__typename":
            return [], repr(parent.name)
        definition = parent.fields.get(node.name.value)
        field = _strawberry(definition) if definition else None
        if definition is None or not isinstance(field, StrawberryField) or field.extensions:
            raise Unusual
        if field.base_resolver is None:
            if field.default_resolver is not getattr:
                raise Unusual
            value = self._value(definition.type, details, name)
            return [f"{name} = value.{field.python_name}"], value
        if attribute := _id_attribute(parent, definition):
            return [f"{name} = value.{attribute}"], f"{self._name(_global_id(parent))}({name})"
        function, index = self._name(_method(definition, details)), len(self.methods)
        self.methods.append(Method(parent, definition, details))
        reading = [
            f"{name} = {function}(value, **arguments[{index}])",
            f"if type({name}) is Coroutine: {name}.close()",  # and to complete it is Unusual
        ]
        return reading, self._value(definition.type, details, name)

    def _value(self, kind: GraphQLOutputType, details: FieldDetailsList, name: str) -> str:
        """An expression that completes the value of that name."""
        if not isinstance(kind, GraphQLNonNull):
            present = self._value(GraphQLNonNull(kind), details, name)
            return f"(None if {name} is None else {present})"
        kind = kind.of_type
        if isinstance(kind, GraphQLList):
            items = f"({name} if type({name}) is list else {self._name(_items)}({name}))"
            return f"[{self._value(kind.of_type, details, f'{name}_')} for {name}_ in {items}]"
        if isinstance(kind, GraphQLObjectType):
            return f"{self._object(kind, details, None)}({name}, arguments)"
        if not is_leaf_type(kind):
            raise Unusual
        return self._leaf(kind, name)

    def _leaf(self, kind: GraphQLLeafType, name: str) -> str:
        other = f"{self._name(_coerce(kind))}({name})"
        if kind in SURE:
            return f"({name} if {SURE[kind].format(name)} else {other})"
        if getattr(kind, "coerce_output_value", None) is isoformat:
            is_datetime = f"type({name}) is {self._name(datetime)}"
            return f"({name}.isoformat() if {is_datetime} else {other})"
        if isinstance(kind, schema_converter.CustomGraphQLEnumType):
            enum = cast(type[Enum], kind.wrapped_cls)
            members = {each: kind.coerce_output_value(each) for each in enum}
            is_member = f"type({name}) is {self._name(enum)}"
            return f"({self._name(members)}[{name}] if {is_member} else {other})"
        return other

    def _function(self, lines: list[str]) -> str:
        name = f"f{len(self.lines)}"
        self.lines += [f"def {name}(value, arguments):", *(f"    {line}" for line in lines)]
        return name

    def _name(self, constant: object) -> str:
        name = f"c{len(self.names)}"
        self.names[name] = constant
        return name


def _class_of(kind: GraphQLObjectType) -> type:
    """The class whose own instances are of this type and nothing else, such as an exception."""
    definition = _strawberry(kind)
    if not isinstance(definition, StrawberryObjectDefinition):
        raise Unusual
    origin = definition.origin
    needs_a_look = definition.is_type_of or definition.concrete_of
    if needs_a_look or issubclass(origin, Exception) or hasattr(origin, "__await__"):
        raise Unusual
    return origin


def _id_attribute(parent: GraphQLObjectType, definition: GraphQLField) -> str | None:
    """What Relay's `id` is made from; None for other fields, or where it is made otherwise."""
    node: Any = _class_of(parent)
    resolver = _strawberry(definition).base_resolver.wrapped_func
    ours = (resolver, getattr(node, "resolve_id", None), getattr(node, "resolve_typename", None))
    relays: Any = (Node._id, Node.resolve_id, Node.resolve_typename)
    if [getattr(each, "__func__", None) for each in ours] != [each.__func__ for each in relays]:
        return None
    if get_nullable_type(definition.type) is not GraphQLID:
        return None
    return cast(str, node.resolve_id_attr())


def _method(definition: GraphQLField, details: FieldDetailsList) -> FunctionType:
    """The function of a plain method that is given no lists and no objects."""
    resolver = _strawberry(definition).base_resolver
    given = [definition.args[each.name.value] for each in details[0].node.arguments or ()]
    if (
        resolver.is_async
        or not isinstance(resolver.wrapped_func, FunctionType)
        or not resolver.self_parameter
        or resolver.parent_parameter
        or resolver.root_parameter
        or not all(is_leaf_type(get_nullable_type(each.type)) for each in given)
    ):
        raise Unusual
    return resolver.wrapped_func


def _items(value: object) -> Sequence[object]:
    if type(value) is tuple:
        return value
    raise Unusual  # a generator would be used up when graphql-core comes to it


def _coerce(kind: GraphQLLeafType) -> Callable[[object], object]:
    """As graphql-core does, where it makes one value of one value."""

    def coerce(value: object) -> object:
        nothing = value is None or value is Undefined or isinstance(value, Exception)
        if nothing or optimized_is_awaitable(value):
            raise Unusual
        coerced = kind.coerce_output_value(value)
        if coerced is None or coerced is Undefined or optimized_is_awaitable(coerced):
            raise Unusual
        return coerced

    return coerce


def _global_id(kind: GraphQLObjectType) -> Callable[[object], str]:
    """https://relay.dev/graphql/objectidentification.htm, encoded as Strawberry does."""

    def encode(id: object) -> str:
        if not isinstance(id, UUID) and type(id) not in (str, int):
            raise Unusual
        return b64encode(f"{kind.name}:{id}".encode()).decode()

    return encode
