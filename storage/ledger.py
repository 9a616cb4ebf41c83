"""Money: reserved before a provider is asked, settled when it is known what that has cost.

An account is a workspace's month. Its row is locked by whoever reserves, so that however many ask
at once, together they never go over a budget. Amounts are US dollars.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.cursors import Page, PageRequest, cut, page_of
from storage.database import Database, insert_once
from storage.errors import BudgetExceeded, Rejected
from storage.models import EntryState, Generation, LedgerEntry, Spending, now
from storage.viewers import Viewer

WORKSPACE = ""
"""Stands for the viewer in the row of the whole workspace."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most that a month may cost, of a workspace and of each viewer in it; None is no bound."""

    workspace: Decimal | None = None
    viewer: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """One month: what was spent, what is reserved for what still runs, and what may be."""

    month: str
    spent: Decimal
    reserved: Decimal
    budget: Decimal | None

    @property
    def remaining(self) -> Decimal | None:
        if self.budget is None:
            return None
        return max(self.budget - self.spent - self.reserved, Decimal(0))


@dataclass(frozen=True, slots=True)
class Balances:
    workspace: Balance
    viewer: Balance

    @property
    def remaining(self) -> Decimal | None:
        """What the viewer may still spend; None where nothing bounds it."""
        left = (self.workspace.remaining, self.viewer.remaining)
        return min((each for each in left if each is not None), default=None)


class Ledger:
    """Tells what was spent. Reserving and settling happen in others' transactions, see below."""

    def __init__(self, database: Database, budgets: Budgets) -> None:
        self._database = database
        self.budgets = budgets

    async def balances(self, viewer: Viewer, month: str | None = None) -> Balances:
        """Of a month as in `2026-11`, or this one. Raises Rejected."""
        wanted = _checked(month) if month is not None else month_of(now())
        async with self._database.reading() as session:
            return await _balances(session, viewer, wanted, self.budgets)

    async def entries(
        self, viewer: Viewer, month: str | None, request: PageRequest
    ) -> Page[LedgerEntry]:
        """The workspace's, the newest first. Raises Rejected."""
        wanted = select(LedgerEntry).where(LedgerEntry.workspace_id == viewer.workspace_id)
        if month is not None:
            wanted = wanted.where(LedgerEntry.month == _checked(month))
        of = (viewer.workspace_id, month)
        column = col(LedgerEntry.created_at)
        statement = page_of(wanted, request, column, col(LedgerEntry.id), descending=True, of=of)
        async with self._database.reading() as session:
            rows = (await session.exec(statement)).all()
        return cut(rows, request, column, of=of)


def month_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m")


# ---- within a caller's transaction ---------------------------------------------------------------


async def lock(session: AsyncSession, viewer: Viewer) -> str:
    """Let nobody else in the workspace reserve until this transaction has ended. The month."""
    month = month_of(now())
    for name in (WORKSPACE, viewer.name):
        await insert_once(
            session, Spending(workspace_id=viewer.workspace_id, month=month, viewer=name)
        )
    await session.exec(
        select(Spending.month)
        .where(
            Spending.workspace_id == viewer.workspace_id,
            Spending.month == month,
            Spending.viewer == WORKSPACE,
        )
        .with_for_update(key_share=True)
    )
    return month


async def reserve(
    session: AsyncSession, generation: Generation, month: str, budgets: Budgets
) -> None:
    """Set the estimated cost aside, in the month that was locked. Raises BudgetExceeded."""
    viewer = Viewer(generation.workspace_id, generation.requested_by)
    estimated = generation.estimated_cost
    balances = await _balances(session, viewer, month, budgets)
    for whose, balance in (("workspace", balances.workspace), ("viewer", balances.viewer)):
        if balance.remaining is not None and estimated > balance.remaining:
            raise BudgetExceeded(
                f"This would cost about ${estimated:f}, and ${balance.remaining:f} are left of the "
                f"{whose}'s budget of ${balance.budget:f} for {month}. Ask for fewer pictures, "
                "a lower quality or another model.",
                remaining=balance.remaining,
                estimated=estimated,
            )
    await _add(session, viewer, month, reserved=estimated)
    session.add(
        LedgerEntry(
            generation_id=generation.id,
            workspace_id=generation.workspace_id,
            viewer=generation.requested_by,
            month=month,
            estimated=estimated,
        )
    )


async def settle(session: AsyncSession, generation: Generation, *, is_known: bool) -> None:
    """Book what a generation that has just ended cost, once.

    Where nobody knows whether its last call was paid for, what was reserved counts as spent.
    """
    actual = generation.actual_cost
    if not is_known:
        actual = max(actual, generation.estimated_cost)
    entry = (
        await session.exec(
            update(LedgerEntry)
            .where(
                col(LedgerEntry.generation_id) == generation.id,
                col(LedgerEntry.state) == EntryState.RESERVED,
            )
            .values(
                state=EntryState.SETTLED if is_known else EntryState.ASSUMED,
                actual=actual,
                settled_at=now(),
            )
            .returning(LedgerEntry)
            .execution_options(synchronize_session=False)
        )
    ).scalar_one_or_none()
    if entry is not None:
        viewer = Viewer(entry.workspace_id, entry.viewer)
        await _add(session, viewer, entry.month, reserved=-entry.estimated, spent=actual)


async def _add(
    session: AsyncSession,
    viewer: Viewer,
    month: str,
    *,
    reserved: Decimal,
    spent: Decimal = Decimal(0),
) -> None:
    """To the workspace first, and then to the viewer: one order for all."""
    for name in (WORKSPACE, viewer.name):
        await session.exec(
            update(Spending)
            .where(
                col(Spending.workspace_id) == viewer.workspace_id,
                col(Spending.month) == month,
                col(Spending.viewer) == name,
            )
            .values(
                reserved=col(Spending.reserved) + reserved,
                spent=col(Spending.spent) + spent,
            )
            .execution_options(synchronize_session=False)
        )


async def _balances(
    session: AsyncSession, viewer: Viewer, month: str, budgets: Budgets
) -> Balances:
    rows: Sequence[Spending] = (
        await session.exec(
            select(Spending)
            .where(
                Spending.workspace_id == viewer.workspace_id,
                Spending.month == month,
                col(Spending.viewer).in_((WORKSPACE, viewer.name)),
            )
            .execution_options(populate_existing=True)
        )
    ).all()
    found = {row.viewer: row for row in rows}

    def balance(name: str, budget: Decimal | None) -> Balance:
        row = found.get(name)
        zero = Decimal(0)
        return Balance(month, row.spent if row else zero, row.reserved if row else zero, budget)

    return Balances(balance(WORKSPACE, budgets.workspace), balance(viewer.name, budgets.viewer))


def _checked(month: str) -> str:
    try:
        return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).strftime("%Y-%m")
    except ValueError:
        raise Rejected(f"month is as in 2026-11, not {month[:20]!r}.", field="month") from None
