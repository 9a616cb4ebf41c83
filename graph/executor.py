"""The compiled executor: plain objects, and lists of them, completed by functions made for them.

    schema = Schema(query=Query, execution_context_class=CompiledExecutor, extensions=[…])

graphql-core asks the same questions of every field of every object: which resolver, which
arguments, which type, is it a coroutine? The answers are the same for all objects of a selection.
A plan asks once, and writes the answers down as a Python function (`graph.plans`). The road of a
value that a resolver returned:

    an object, or a list of them -> was this operation run before? -> the plan for its selection,
      made at first need -> its function completes the value -> graphql-core adds what it left out

A plan knows only values that need no second look. At any other, and at any exception, graphql-core
completes the whole value anew, so errors, their paths and what becomes null are its own. Hence
**a synchronous method below the root may be called twice: it must not change anything.**
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from graphql import (
    FragmentDefinitionNode,
    GraphQLList,
    GraphQLObjectType,
    GraphQLResolveInfo,
    Undefined,
    print_ast,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graph.plans import Arguments, Plan, Writer

MAX_VARIANTS: Final = 16
"""Of an operation, by what its @skip and @include may read; what goes beyond is not compiled."""


class CompiledExecutor(StrawberryGraphQLCoreExecutionContext):
    """Runs one operation, or one event of a subscription."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begin()

    def build_per_event_executor(self, payload: object) -> "CompiledExecutor":
        executor = cast(CompiledExecutor, super().build_per_event_executor(payload))
        executor._begin()
        return executor

    def _begin(self) -> None:
        wraps_resolvers = self.middleware_manager and self.middleware_manager.middlewares
        self._plans = None if wraps_resolvers else _plans_for(self)
        self._arguments: dict[Plan, list[Arguments]] = {}

    def complete_list_value(
        self,
        return_type: GraphQLList[Any],
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        if planned := self._complete(return_type, field_details_list, result, position_context):
            return planned[1]
        return super().complete_list_value(
            return_type, field_details_list, info, path, result, position_context
        )

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        planned = self._complete(return_type, field_details_list, result, position_context)
        if not planned:
            return super().complete_object_value(
                return_type, field_details_list, info, path, result, position_context
            )
        plan, completed = planned
        if not plan.rest:
            return completed
        rest: Any = self.execute_fields(return_type, result, path, plan.rest, None)
        if not self.is_awaitable(rest):
            return completed | rest

        async def with_rest() -> dict[str, Any]:
            return cast(dict[str, Any], completed | await rest)

        return with_rest()

    def _complete(
        self,
        kind: GraphQLList[Any] | GraphQLObjectType,
        details: FieldDetailsList,
        value: object,
        position_context: object,
    ) -> "tuple[Plan, Any] | None":
        """None where there is no plan, or not for such a value."""
        if self._plans is None or position_context is not None:  # a position for @defer
            return None
        key = (kind, *[id(each.node) for each in details])
        try:
            if key not in self._plans:
                self._plans[key] = None
                self._plans[key] = Writer(self).plan(kind, details)
            plan = self._plans[key]
            if plan is None:
                return None
            if plan not in self._arguments:
                self._arguments[plan] = [method.arguments(self) for method in plan.methods]
            return plan, plan.complete(value, self._arguments[plan])
        except Exception:  # whatever it is: graphql-core meets it again, and tells where
            return None


Plans: TypeAlias = dict[tuple[object, ...], Plan | None]
"""By type and by the identity of the field's nodes, as two nodes may look alike."""


@dataclass(slots=True)
class Seen:
    """An operation that was run at least once: remembered as long as its document is cached."""

    fragments: dict[str, FragmentDefinitionNode]
    booleans: Sequence[str]
    """The variables that @skip and @include can read: they decide which fields there are."""
    variants: dict[tuple[object, ...], Plans] = field(default_factory=dict)

    def plans(self, executor: CompiledExecutor) -> Plans | None:
        if self.fragments != executor.fragment_definitions:  # the same node in another document
            return None
        given = executor.variable_values.coerced
        values = tuple(given.get(name, Undefined) for name in self.booleans)
        if values not in self.variants and len(self.variants) < MAX_VARIANTS:
            self.variants[values] = {}
        return self.variants.get(values)


_seen: Final[dict[int, Seen]] = {}
"""By the identity of the operation's node; the node's own hash walks through all of it."""


def _plans_for(executor: CompiledExecutor) -> Plans | None:
    """None at first sight: to compile takes longer than to run, and many come only once."""
    node = executor.operation
    if known := _seen.get(id(node)):
        return known.plans(executor)
    declared = node.variable_definitions or ()
    booleans = [
        each.variable.name.value
        for each in declared
        if print_ast(each.type).removesuffix("!") == "Boolean"
    ]
    _seen[id(node)] = Seen(executor.fragment_definitions, booleans)
    weakref.finalize(node, _seen.pop, id(node))
    return None
