"""What an operation asks for beneath a field, before it is resolved: so nothing else is read."""

from collections.abc import Iterator, Mapping, Sequence

from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, InlineFragmentNode

from graph.context import Info


def selected(info: Info, *path: str) -> set[str]:
    """The names of the fields at a path beneath the field, in any of its selections.

    Also of those that @skip or @include leave out: to read a little too much does no harm.
    """
    raw = info._raw_info
    nodes: Sequence[FieldNode] = raw.field_nodes
    for name in path:
        nodes = [
            node
            for parent in nodes
            for node in _fields(parent, raw.fragments)
            if node.name.value == name
        ]
    return {node.name.value for parent in nodes for node in _fields(parent, raw.fragments)}


def _fields(
    node: FieldNode | InlineFragmentNode | FragmentDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
) -> Iterator[FieldNode]:
    for each in node.selection_set.selections if node.selection_set else ():
        if isinstance(each, FieldNode):
            yield each
        elif isinstance(each, FragmentSpreadNode):
            yield from _fields(fragments[each.name.value], fragments)
        elif isinstance(each, InlineFragmentNode):
            yield from _fields(each, fragments)
