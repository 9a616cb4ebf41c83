"""One extension for every operation: parse, validate, limits and cost, remembered in one LRU.

    schema = Schema(query=Query, extensions=[Operations.with_limits(Limits())])

`Operations` decides whether an operation may run, `Schema` what clients read of its errors.
Both hold for HTTP, SSE and WebSocket alike. The road of an operation:

    text -> characters -> tokens -> parse -> depth, aliases, fields -> validate -> remember
         -> the operation asked for -> cost, with this request's variables -> run
    variables -> how many values, first of all

Strawberry's own limiters walk a fragment again for each of its spreads, so 21 nested fragments
stop the process for seconds; here each is measured once, in time linear in the document.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, NamedTuple
from uuid import uuid4

import strawberry
from graphql import (
    GRAPHQL_MAX_INT,
    DocumentNode,
    ExecutableDefinitionNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    Lexer,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Source,
    TokenKind,
    parse,
    specified_rules,
    validate,
    value_from_ast_untyped,
)
from graphql.language.parser import MAX_NESTING_DEPTH
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule
from strawberry.types import ExecutionContext

from graph.pricing import Introspection, Pricing

logger = logging.getLogger(__name__)

RULES: Final = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

TOO_MUCH: Final = {
    "TOO_MANY_CHARACTERS": "The document has {actual} characters, {limit} are allowed. Split it.",
    "TOO_MANY_TOKENS": "The document has {actual} tokens, {limit} are allowed. Split it.",
    "TOO_DEEP": "The document is {actual} levels deep, {limit} are allowed. Ask for what lies "
    "deeper by its id.",
    "TOO_MANY_ALIASES": "The operation has {actual} aliases, {limit} are allowed, and a fragment "
    "counts each time it is spread. Split it into several operations.",
    "TOO_MANY_FIELDS": "The operation has {actual} fields, {limit} are allowed, and a fragment "
    "counts each time it is spread. Split it into several operations.",
    "TOO_MANY_VALUES": "The variables hold {actual} values, {limit} are allowed. Ask in several "
    "operations.",
    "COST_EXCEEDED": "The operation may bring {actual} objects and signed URLs, {limit} are "
    "allowed. Ask for shorter pages, with a smaller `first` or `last`.",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an operation may be.

    The standard introspection query, 15 deep with 229 fields, passes with the defaults.
    """

    max_characters: int = 15_000
    max_tokens: int = 1_500
    max_depth: int = 15
    max_aliases: int = 15
    max_fields: int = 400
    max_values: int = 2_000
    """In all variables, objects and lists among them: to check and convert each takes time."""
    max_cost: int = 5_000
    default_page: int = 20
    """What resolvers give where neither `first` nor `last` is said."""
    max_page: int = 100
    """The most that resolvers accept as `first` or `last`; as they refuse more, more costs 1."""


class Refused(Exception):
    """An operation that will not run, and the errors that say why."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__(*errors)
        self.errors = list(errors)


class Operations(SchemaExtension):
    """Decides whether an operation may run. `with_limits` makes one instance per operation."""

    def __init__(self, documents: "Documents") -> None:
        self.documents = documents

    @classmethod
    def with_limits(
        cls, limits: Limits | None = None, *, cache_size: int = 500
    ) -> Callable[[], "Operations"]:
        """What goes into `Schema(extensions=[...])`; all its instances share one LRU."""
        return partial(cls, Documents(limits or Limits(), cache_size))

    def on_parse(self) -> Iterator[None]:
        asked = self.execution_context
        name = asked.operation_name
        limits = self.documents.limits
        try:
            values = _count_values(asked.variables)
            _refuse_over("TOO_MANY_VALUES", limits.max_values, values)
            document = self.documents.prepared(asked.schema, asked.query or "")
            cost = document.cost(name, asked.variables or {}, limits)
            _refuse_over("COST_EXCEEDED", limits.max_cost, cost)
        except Refused as refused:
            # To raise from a hook breaks `Schema.stream`, and a syntax error would close the
            # whole WebSocket. The outcome of a validation is told well on every transport.
            asked.graphql_document = _stand_in(name)
            asked.pre_execution_errors = refused.errors
        else:
            asked.graphql_document = document.ast
            asked.pre_execution_errors = []  # not None: validated already
        yield


def _refuse_over(code: str, limit: int, actual: int) -> None:
    if actual > limit:
        actual = min(actual, GRAPHQL_MAX_INT)  # nested spreads count beyond what JSON can carry
        message = TOO_MUCH[code].format(limit=limit, actual=actual)
        raise Refused(
            GraphQLError(message, extensions={"code": code, "limit": limit, "actual": actual})
        )


def _count_values(variables: object) -> int:
    count, within = 0, [variables]
    while within:
        match within.pop():
            case dict() as named:
                count += len(named)
                within += named.values()
            case list() as listed:
                count += len(listed)
                within += (each for each in listed if isinstance(each, dict | list))
    return count


def _stand_in(name: str | None) -> DocumentNode:
    """What Strawberry holds instead of a refused document: a query by the name it looks for."""
    return DocumentNode(
        definitions=(
            OperationDefinitionNode(
                operation=OperationType.QUERY,
                name=NameNode(value=name) if name is not None else None,
                selection_set=SelectionSetNode(selections=()),
            ),
        )
    )


class Documents:
    """The LRU. Only what may run is kept, so refusals neither fill it nor grow in it."""

    def __init__(self, limits: Limits, cache_size: int) -> None:
        self.limits = limits
        self.prepared = lru_cache(maxsize=cache_size)(self._prepare)

    def _prepare(self, schema: strawberry.Schema, text: str) -> "Document":
        document = Document(schema._schema, self._parse(text))
        size = document.size()
        _refuse_over("TOO_DEEP", self.limits.max_depth, size.depth)
        _refuse_over("TOO_MANY_ALIASES", self.limits.max_aliases, size.aliases)
        _refuse_over("TOO_MANY_FIELDS", self.limits.max_fields, size.fields)

        no_hints = schema.config.disable_field_suggestions
        if errors := validate(schema._schema, document.ast, RULES, hide_suggestions=no_hints):
            raise Refused(*(_client_error(error, "GRAPHQL_VALIDATION_FAILED") for error in errors))
        return document

    def _parse(self, text: str) -> DocumentNode:
        _refuse_over("TOO_MANY_CHARACTERS", self.limits.max_characters, len(text))
        try:
            _refuse_over("TOO_MANY_TOKENS", self.limits.max_tokens, _count_tokens(text))
            return parse(text)
        except GraphQLSyntaxError as error:
            if "nested too deeply" in error.message:  # the parser's own limit, beyond any of ours
                _refuse_over("TOO_DEEP", self.limits.max_depth, MAX_NESTING_DEPTH + 1)
            raise Refused(_client_error(error, "GRAPHQL_PARSE_FAILED")) from None


def _count_tokens(text: str) -> int:
    lexer, count = Lexer(Source(text)), 0
    while lexer.advance().kind is not TokenKind.EOF:
        count += 1
    return count


class Document:
    """A parsed document. One that is cached keeps its `ast`, the same object on every use."""

    def __init__(self, schema: GraphQLSchema, ast: DocumentNode) -> None:
        self.schema = schema
        self.ast = ast
        self.operations: dict[str | None, OperationDefinitionNode] = {}
        self.fragments: dict[str, FragmentDefinitionNode] = {}
        for node in ast.definitions:
            if isinstance(node, OperationDefinitionNode):
                self.operations[node.name.value if node.name else None] = node
            elif isinstance(node, FragmentDefinitionNode):
                self.fragments[node.name.value] = node

    def size(self) -> "Size":
        """The largest of all definitions, of those no operation uses too: all get validated."""
        measuring = Measuring(self.fragments)
        try:
            sizes = [
                measuring.selections(node.selection_set)
                for node in self.ast.definitions
                if isinstance(node, ExecutableDefinitionNode)
            ]
        except RecursionError:  # hundreds of fragments, one in the other
            return Size(depth=MAX_NESTING_DEPTH + 1)
        return Size(*(max(column) for column in zip(Size(), *sizes, strict=True)))

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """The one asked for; Strawberry would take the first of several.

        https://spec.graphql.org/draft/#GetOperation()
        """
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        if name is not None and name in self.operations:
            return self.operations[name]
        raise Refused(
            GraphQLError(
                "The document has several operations; name one of them as operationName."
                if name is None
                else f"The document has no operation named {name!r}.",
                extensions={"code": "OPERATION_RESOLUTION_FAILURE"},
            )
        )

    def cost(self, name: str | None, variables: Mapping[str, object], limits: Limits) -> int:
        operation = self.operation(name)
        root = self.schema.get_root_type(operation.operation)
        assert root is not None, "validated"
        defaults = {
            variable.variable.name.value: value_from_ast_untyped(variable.default_value)
            for variable in operation.variable_definitions or ()
            if variable.default_value is not None
        }
        pricing = Pricing(
            self.schema,
            self.fragments,
            {**defaults, **variables},
            limits.default_page,
            limits.max_page,
            Introspection(self.schema, self.fragments),
        )
        return pricing.selections(operation.selection_set, root)


class Size(NamedTuple):
    depth: int = 0
    aliases: int = 0
    fields: int = 0


class Measuring:
    """How large: counted before validation, whose time grows with the square of the fields.

    Each fragment is measured once, whatever spreads it. A cycle is cut where it closes, so its
    fragments come out too small. That does no harm: validation refuses the document, and what
    is refused is not remembered.
    """

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self.fragments = fragments
        self.measured: dict[str, Size] = {}

    def selections(self, selected: SelectionSetNode | None) -> Size:
        depth = aliases = fields = 0
        for node in selected.selections if selected else ():
            match node:
                case FieldNode():
                    below = self.selections(node.selection_set)
                    size = Size(below.depth + 1, below.aliases + bool(node.alias), below.fields + 1)
                case InlineFragmentNode():
                    size = self.selections(node.selection_set)
                case FragmentSpreadNode():
                    size = self.fragment(node.name.value)
            depth = max(depth, size.depth)
            aliases += size.aliases
            fields += size.fields
        return Size(depth, aliases, fields)

    def fragment(self, name: str) -> Size:
        if name not in self.measured:
            self.measured[name] = Size()  # what a cycle finds
            if name in self.fragments:
                self.measured[name] = self.selections(self.fragments[name].selection_set)
        return self.measured[name]


FORESEEN: Final = (
    GraphQLError, MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError,
)  # fmt: skip


class Schema(strawberry.Schema):
    """A schema whose errors carry a code, and whose unforeseen errors keep their secrets.

    Strawberry hands every list of errors to `process_errors` before a client sees it, from
    queries, mutations and each event of a subscription. The list is changed in place.
    """

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        context = execution_context.context if execution_context else None
        request_id = getattr(context, "request_id", None) or uuid4().hex
        errors[:] = [_shown(error, str(request_id)) for error in errors]


def _shown(error: GraphQLError, request_id: str) -> GraphQLError:
    cause = error.original_error
    if cause is not None and (not isinstance(cause, FORESEEN) or _from_a_serializer(error)):
        return unforeseen(cause, request_id, error)
    if not (error.extensions or {}).get("code"):
        error.extensions = {**(error.extensions or {}), "code": "BAD_USER_INPUT"}
    return error


def unforeseen(
    cause: BaseException, request_id: str, error: GraphQLError | None = None
) -> GraphQLError:
    """Log `cause` and return what to show in its place; the request id leads from one to other."""
    path = error.path if error else None
    logger.error(
        "graphql.failed request_id=%s path=%s",
        request_id,
        ".".join(map(str, path or ())) or "-",
        exc_info=cause,
    )
    return GraphQLError(
        "Internal server error.",
        nodes=error.nodes if error else None,
        path=path,
        extensions={"code": "INTERNAL", "requestId": request_id},
    )


def _from_a_serializer(error: GraphQLError) -> bool:
    """Whether graphql-core itself could not show what a resolver returned.

    It says so with a GraphQLError, like one meant for clients, that quotes the value.
    """
    trace = error.original_error.__traceback__ if error.path and error.original_error else None
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals["__name__"].startswith("graphql.type.")


def _client_error(error: GraphQLError, code: str) -> GraphQLError:
    """The same error with a code, and without the exception that caused it."""
    return GraphQLError(
        error.message, error.nodes, error.source, error.positions, extensions={"code": code}
    )
