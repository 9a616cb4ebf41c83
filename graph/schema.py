"""Assembles Query, Mutation and Subscription, and nothing else."""

import asyncio
from typing import Annotated

import strawberry
from graphql import GraphQLError
from strawberry import relay
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from graph import changes
from graph.arrivals import ArrivalMutations
from graph.changes import ChangeSubscriptions
from graph.contents import Attachment, Content, ContentMutations, ContentQueries
from graph.context import Info
from graph.errors import told
from graph.executor import CompiledExecutor
from graph.generations import (
    Generation,
    GenerationFinished,
    GenerationImageReady,
    GenerationMutations,
    GenerationProgressed,
    GenerationQueries,
    GenerationSubscriptions,
)
from graph.ids import parse_id
from graph.images import Image, ImageMutations
from graph.library import LibraryQueries
from graph.money import MoneyQueries
from graph.operations import Limits, Operations, Schema
from graph.providers import ProviderQueries
from graph.scalars import SCALARS
from graph.trash import TrashMutations
from graph.wishes import WishQueries
from storage.errors import Rejected

MAX_NODES = 100


async def _node(info: Info, id: str) -> relay.Node | None:
    type_name, uuid = parse_id(id) or (None, None)
    if uuid is None:
        return None
    context = info.context
    match type_name:
        case "Image":
            image = await context.image.load(uuid)
            return Image.from_row(image) if image else None
        case "Content":
            content = await context.content.load(uuid)
            return Content.from_row(content) if content else None
        case "Attachment":
            attachment = await context.attachment.load(uuid)
            return Attachment.from_row(attachment) if attachment else None
        case "Generation":
            generation = await context.generation.load(uuid)
            return Generation.from_row(generation) if generation else None
        case _:
            return None


@strawberry.type(description="Everything that can be read.")
class Query(
    LibraryQueries, ContentQueries, GenerationQueries, WishQueries, ProviderQueries, MoneyQueries
):
    @strawberry.field(description="Anything that has an id; null for what is not there.")
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")],
    ) -> relay.Node | None:
        return await _node(info, id)

    @strawberry.field(description="Many things by their ids, in that order, at most 100.")
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="Their ids.")],
    ) -> list[relay.Node | None]:
        if len(ids) > MAX_NODES:
            raise Rejected(
                f"ids takes at most {MAX_NODES} values, not {len(ids)}.",
                field="ids",
                limit=MAX_NODES,
                actual=len(ids),
            )
        return list(await asyncio.gather(*(_node(info, id) for id in ids)))


@strawberry.type(description="Everything that can be done. Each answer lists expected failures.")
class Mutation(
    ArrivalMutations, ImageMutations, TrashMutations, ContentMutations, GenerationMutations
):
    pass


@strawberry.type(description="Everything that can be watched.")
class Subscription(GenerationSubscriptions, ChangeSubscriptions):
    pass


class LibrarySchema(Schema):
    """Tells the library's expected failures by their codes, wherever they come up."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        errors[:] = [told(error) for error in errors]
        super().process_errors(errors, execution_context)


def create_schema(limits: Limits) -> Schema:
    """One per process: Strawberry's types belong to the schema that was made of them."""
    return LibrarySchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[GenerationProgressed, GenerationImageReady, GenerationFinished, *changes.TYPES],
        extensions=[Operations.with_limits(limits)],
        execution_context_class=CompiledExecutor,
        config=StrawberryConfig(scalar_map=SCALARS),  # sort_schema breaks unions in 0.341
    )
