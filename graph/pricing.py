"""What an operation costs: as many objects as it may bring, before it is run.

A list is as long as its arguments say, else as stated here. Each fragment is priced once for each
page that it is spread on, so the time to price a document is linear in its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLType,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NamedTypeNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
    value_from_ast_untyped,
)

from storage.filters import Usage
from storage.models import ImageOrigin, Orientation

MAX_PICTURES: Final = 20
"""Of a generation, and of those it was made from: more than any provider of ours makes or takes."""
MAX_SHOWN_USAGES: Final = 20
"""Of an image that is deleted; `Image.usages` tells all, page by page."""
MAX_PROVIDERS: Final = 20
"""Ours are six; others can be installed beside them."""
MAX_MODELS: Final = 100
"""Of a provider: a server of one's own tells which it has."""
MAX_MONTHS: Final = 120
"""Ten years of the service, whose clock says when an image came."""
MAX_HEADERS: Final = 10
"""Of a request that sends a file to a store."""
SRCSET_WIDTHS: Final = 4
"""The URLs of a `srcset`, where nobody says for which widths."""

LENGTHS: Final[Mapping[str, int]] = {
    "DeleteImageResult.usages": MAX_SHOWN_USAGES,
    "Generation.images": MAX_PICTURES,
    "Generation.references": MAX_PICTURES,
    "ImageFacets.months": MAX_MONTHS,
    "ImageFacets.orientations": len(Orientation),
    "ImageFacets.origins": len(ImageOrigin),
    "ImageFacets.providers": MAX_PROVIDERS,
    "ImageFacets.usage": len(Usage),
    "ImageInUseError.usages": MAX_SHOWN_USAGES,
    "Provider.models": MAX_MODELS,
    "Query.providers": MAX_PROVIDERS,
    "UploadTarget.headers": MAX_HEADERS,
}
"""The most objects of each list that no argument bounds: neither its own, nor its page's."""

TEXTS: Final[Mapping[str, int]] = {
    "Content.text": 10,
    "CostEstimate.prompt": 10,
    "Generation.negativePrompt": 10,
    "Generation.prompt": 10,
    "Generation.revisedPrompt": 10,
}
"""What a text of up to 32,000 characters costs: an answer of them alone has some 16 MB."""


@dataclass(slots=True)
class Pricing:
    """How dear, in a valid document: an object that may come costs 1, and a leaf nothing.

    So the price is never less than the objects of the answer. A leaf that takes arguments is a URL
    to be signed, or several: each costs 1, too. A text that may be long costs what `TEXTS` says.

    `page` is how many things the arguments of a field ask for. It bounds the field itself where
    that is a list, and the lists of the object where that is a connection or a payload.
    """

    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    values: Mapping[str, object]
    default_page: int
    max_page: int
    introspection: "Introspection"
    priced: dict[tuple[str, int | None], int] = field(default_factory=dict)
    """Each fragment once, for each page that it is spread on."""

    def selections(
        self, selected: SelectionSetNode, parent: GraphQLNamedType | None, page: int | None = None
    ) -> int:
        cost = 0
        for node in selected.selections:
            match node:
                case FieldNode():
                    cost += self.of_field(node, cast(GraphQLCompositeType, parent), page)
                case InlineFragmentNode(type_condition=None):
                    cost += self.selections(node.selection_set, parent, page)
                case InlineFragmentNode(type_condition=NamedTypeNode() as on):
                    kind = self.schema.get_type(on.name.value)
                    cost += self.selections(node.selection_set, kind, page)
                case FragmentSpreadNode():
                    cost += self.fragment(self.fragments[node.name.value], page)
        return cost

    def fragment(self, node: FragmentDefinitionNode, page: int | None) -> int:
        key = (node.name.value, page)
        if key not in self.priced:
            on = self.schema.get_type(node.type_condition.name.value)
            self.priced[key] = self.selections(node.selection_set, on, page)
        return self.priced[key]

    def of_field(self, node: FieldNode, parent: GraphQLCompositeType, page: int | None) -> int:
        name = node.name.value
        definition = self.schema.get_field(parent, name)
        assert definition is not None, "validated"
        if node.selection_set is None:
            long = TEXTS.get(f"{parent.name}.{name}", 0)
            return self.of_leaf(node, definition) if definition.args else long
        if name in ("__schema", "__type"):
            return self.introspection.root(node, self.values)
        kind = get_named_type(definition.type)
        own = self.page(node, definition)
        if not is_list_type(get_nullable_type(definition.type)):
            return 1 + self.selections(node.selection_set, kind, own)
        length = length_of(parent, name, own, page)
        if length is None:
            length = self.max_page
        return length * (1 + self.selections(node.selection_set, kind))

    def of_leaf(self, node: FieldNode, definition: GraphQLField) -> int:
        """The URLs to be signed: as many as there are `widths`, or one."""
        if "widths" not in definition.args:
            return 1
        return self.count(_stated(node).get("widths")) or SRCSET_WIDTHS

    def page(self, node: FieldNode, definition: GraphQLField) -> int | None:
        """How many things the arguments ask for; None where there are no such arguments.

        It is what `first` or `last` say, else their default in the schema, else ours; or how many
        `ids` there are.
        """
        stated = _stated(node)
        if "ids" in definition.args:
            return self.count(stated.get("ids"))
        pages = definition.args.keys() & {"first", "last"}
        if not pages:
            return None
        sizes = (self.size(stated.get(name)) for name in pages)
        defaults = (self.size(definition.args[name].default_value) for name in pages)
        return max(sizes) or max(defaults) or self.default_page

    def size(self, value: object) -> int:
        """0 for what is absent or null, 1 for what a resolver will refuse."""
        match value:
            case VariableNode():
                return self.size(self.values.get(value.name.value))
            case IntValueNode():
                return self.size(int(value.value))
            case int() | float() if not isinstance(value, bool):  # Int takes 20.0 for 20
                return int(value) if 1 <= value <= self.max_page else 1
            case _:
                return 0

    def count(self, value: object) -> int:
        match value:
            case VariableNode():
                return self.count(self.values.get(value.name.value))
            case ListValueNode():
                return len(value.values)
            case list() | tuple():
                return len(value)
            case None:
                return 0
            case _:  # GraphQL takes one for a list of one
                return 1


def _stated(node: FieldNode) -> dict[str, ValueNode]:
    return {each.name.value: each.value for each in node.arguments or ()}


def length_of(parent: GraphQLNamedType, name: str, own: int | None, page: int | None) -> int | None:
    """How many objects a list holds at most; None where nobody has said."""
    if own is not None:
        return own
    if name == "errors":
        return 1  # of a payload: the failure that ended it
    return LENGTHS.get(f"{parent.name}.{name}", page)


@dataclass(slots=True)
class Introspection:
    """How many objects tell of the schema: counted, as all of them are at hand.

    graphql-core lets lists of fields stand three deep in one another, so a query of a thousand
    characters can ask for tens of thousands. Each type is counted once for each selection.
    """

    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    counted: dict[tuple[int, int], int] = field(default_factory=dict)

    def root(self, node: FieldNode, values: Mapping[str, object]) -> int:
        """Of `__schema`, or of `__type`, which takes a name."""
        assert self.schema.query_type is not None
        definition = self.schema.get_field(self.schema.query_type, node.name.value)
        assert definition is not None
        named = {
            name: values.get(value.name.value)
            if isinstance(value, VariableNode)
            else value_from_ast_untyped(value)
            for name, value in _stated(node).items()
        }
        return self.of_field(node, definition, None, **named)

    def selections(
        self, selected: SelectionSetNode, parent: GraphQLObjectType, value: object
    ) -> int:
        # A list of arguments is made anew each time, so its items have no lasting identity.
        key = (id(selected), id(value)) if isinstance(value, GraphQLType) else None
        if key in self.counted:
            return self.counted[key]
        count = 0
        for node in selected.selections:
            match node:
                case FieldNode(selection_set=SelectionSetNode()):
                    definition = parent.fields[node.name.value]
                    everything = {"includeDeprecated": True} if definition.args else {}
                    count += self.of_field(node, definition, value, **everything)
                case InlineFragmentNode():
                    count += self.selections(node.selection_set, parent, value)
                case FragmentSpreadNode():
                    below = self.fragments[node.name.value].selection_set
                    count += self.selections(below, parent, value)
        if key:
            self.counted[key] = count
        return count

    def of_field(
        self, node: FieldNode, definition: GraphQLField, value: object, **arguments: object
    ) -> int:
        assert node.selection_set is not None, "validated"
        assert definition.resolve is not None
        info: Any = SimpleNamespace(schema=self.schema)
        found = definition.resolve(value, info, **arguments)
        if found is None:
            return 0
        items = found if is_list_type(get_nullable_type(definition.type)) else [found]
        kind = cast(GraphQLObjectType, get_named_type(definition.type))
        return sum(1 + self.selections(node.selection_set, kind, item) for item in items)
