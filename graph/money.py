"""Money: what generations have cost, and what may still be spent."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import relay

from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info
from graph.generations import Generation
from graph.pages import After, First, page_info, page_request
from storage import models
from storage.ledger import Balance
from storage.models import EntryState

Month = Annotated[
    str | None,
    strawberry.argument(description="As in `2026-11`, in UTC. Default: this month, or all."),
]


@strawberry.type(description="An account in one month. All amounts are US dollars.")
class Spending:
    month: str = strawberry.field(description="As in `2026-11`, in UTC.")
    spent: Decimal = strawberry.field(description="What was paid, or may have been.")
    reserved: Decimal = strawberry.field(description="Set aside for what has not ended.")
    budget: Decimal | None = strawberry.field(description="The most there may be; null for any.")
    remaining: Decimal | None = strawberry.field(
        description="What may still be spent; null for any."
    )

    @classmethod
    def of(cls, balance: Balance) -> "Spending":
        return cls(
            month=balance.month,
            spent=balance.spent,
            reserved=balance.reserved,
            budget=balance.budget,
            remaining=balance.remaining,
        )


@strawberry.type(description="The accounts that a viewer's generations are paid from.")
class Budgets:
    workspace: Spending = strawberry.field(description="The whole workspace's.")
    viewer: Spending = strawberry.field(description="The viewer's own part of it.")


@strawberry.type(description="What one generation costs, and how surely that is known.")
class LedgerEntry:
    generation_id: strawberry.Private[UUID]
    viewer: str = strawberry.field(description="Who asked for it: the name of a key.")
    month: str = strawberry.field(description="The month that it counts for.")
    state: EntryState = strawberry.field(description="How surely the cost is known.")
    estimated: Decimal = strawberry.field(description="US dollars that were set aside.")
    actual: Decimal = strawberry.field(
        description="US dollars that count as spent; 0 while they are just reserved."
    )
    created_at: datetime = strawberry.field(description="When they were set aside.")
    settled_at: datetime | None = strawberry.field(description="When the generation ended.")

    @classmethod
    def from_row(cls, row: models.LedgerEntry) -> "LedgerEntry":
        return cls(
            generation_id=row.generation_id,
            viewer=row.viewer,
            month=row.month,
            state=row.state,
            estimated=row.estimated,
            actual=row.actual,
            created_at=row.created_at,
            settled_at=row.settled_at,
        )

    @strawberry.field(description="What the money was for.")
    async def generation(self, info: Info) -> Generation:
        row = await info.context.generation.load(self.generation_id)
        assert row is not None  # a foreign key says so
        return Generation.from_row(row)


@strawberry.type(description="An entry, and its place in the ledger.")
class LedgerEdge:
    cursor: str = strawberry.field(description="Its place: give it as `after`.")
    node: LedgerEntry = strawberry.field(description="The entry.")


@strawberry.type(description="A page of the ledger.")
class LedgerConnection:
    edges: list[LedgerEdge] = strawberry.field(description="Each with its cursor.")
    nodes: list[LedgerEntry] = strawberry.field(description="The entries.")
    page_info: relay.PageInfo = strawberry.field(description="Whether and where it goes on.")


@strawberry.type
class MoneyQueries:
    @strawberry.field(description="What was spent in a month, and what may still be.")
    async def budgets(self, info: Info, month: Month = None) -> Budgets:
        balances = await info.context.ledger.balances(info.context.viewer, month)
        return Budgets(
            workspace=Spending.of(balances.workspace), viewer=Spending.of(balances.viewer)
        )

    @strawberry.field(
        description="What each of the workspace's generations cost, the newest first."
    )
    async def ledger(
        self, info: Info, month: Month = None, first: First = None, after: After = None
    ) -> LedgerConnection:
        page = await info.context.ledger.entries(
            info.context.viewer, month, page_request(first, after)
        )
        nodes = [LedgerEntry.from_row(row) for row in page.rows]
        return LedgerConnection(
            edges=[
                LedgerEdge(cursor=cursor, node=node)
                for cursor, node in zip(page.cursors, nodes, strict=True)
            ],
            nodes=nodes,
            page_info=page_info(page),
        )
