"""Money: never more than a budget allows, however many ask at once; and the books always add up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from storage import idempotency
from storage.database import Database
from storage.errors import BudgetExceeded, RateLimited, Rejected
from storage.generations import OPERATION, Failure, Generations, NewGeneration
from storage.idempotency import Use
from storage.jobs import Jobs
from storage.ledger import Budgets, Ledger, month_of
from storage.models import Dollars, Generation, micros
from storage.search import PageRequest
from storage.viewers import Viewer
from tests.storage.rows import ON_POSTGRES

ALL = PageRequest(100)


def new(cost: str, **fields: Any) -> NewGeneration:
    return NewGeneration("p", "m", "A sea", 1, 64, 64, estimated_cost=Decimal(cost), **fields)


@pytest.fixture
async def jobs(database: Database) -> AsyncIterator[Jobs]:
    async with AsyncExitStack() as stack:
        yield await Jobs.open(database.url, stack)


def colleague(viewer: Viewer) -> Viewer:
    """Another viewer of the same workspace."""
    return Viewer(viewer.workspace_id, "colleague")


@pytest.mark.parametrize(
    "budgets", [Budgets(workspace=Decimal("0.50")), Budgets(viewer=Decimal("0.50"))]
)
async def test_many_at_once_never_exceed_a_budget(
    budgets: Budgets, database: Database, jobs: Jobs, alice: Viewer
) -> None:
    generations = Generations(database, jobs, budgets=budgets)

    answers = await asyncio.gather(
        *(generations.request(alice, new("0.06")) for _ in range(30)), return_exceptions=True
    )

    taken = [each for each in answers if isinstance(each, Generation)]
    refused = [each for each in answers if isinstance(each, BudgetExceeded)]
    assert (len(taken), len(refused)) == (8, 22)
    assert {(each.remaining, each.estimated) for each in refused} == {
        (Decimal("0.02"), Decimal("0.06"))
    }
    balances = await Ledger(database, budgets).balances(alice)
    assert balances.workspace.reserved == balances.viewer.reserved == Decimal("0.48")
    assert balances.remaining == Decimal("0.02")


async def test_a_viewers_budget_is_its_own_and_the_workspaces_is_shared(
    database: Database, jobs: Jobs, alice: Viewer, bob: Viewer
) -> None:
    budgets = Budgets(workspace=Decimal("1.00"), viewer=Decimal("0.60"))
    generations = Generations(database, jobs, budgets=budgets)
    await generations.request(alice, new("0.60"))

    with pytest.raises(BudgetExceeded, match="viewer's budget"):
        await generations.request(alice, new("0.10"))
    await generations.request(colleague(alice), new("0.40"))
    with pytest.raises(BudgetExceeded, match="workspace's budget"):
        await generations.request(colleague(alice), new("0.10"))
    await generations.request(bob, new("0.60"))


async def test_what_was_reserved_and_not_spent_is_free_again(
    database: Database, jobs: Jobs, alice: Viewer
) -> None:
    generations = Generations(database, jobs, budgets=Budgets(workspace=Decimal("0.10")))
    first = await generations.request(alice, new("0.10"))

    await generations.cancel(alice, first.id)

    await generations.request(alice, new("0.10"))


async def test_nothing_is_left_of_a_request_that_a_budget_refused(
    database: Database, jobs: Jobs, alice: Viewer
) -> None:
    budgets = Budgets(workspace=Decimal("0.10"))
    generations = Generations(database, jobs, budgets=budgets)

    with pytest.raises(BudgetExceeded):
        await generations.request(alice, new("0.11"), idempotency_key="k")

    ledger = Ledger(database, budgets)
    assert (await ledger.entries(alice, None, ALL)).rows == []
    assert (await ledger.balances(alice)).workspace.reserved == 0
    assert (await generations.page(alice, None, ALL)).rows == []
    await generations.request(alice, new("0.09"), idempotency_key="another")


async def test_a_repeat_is_answered_although_the_budget_is_used_up(
    database: Database, jobs: Jobs, alice: Viewer
) -> None:
    generations = Generations(database, jobs, budgets=Budgets(workspace=Decimal("0.10")))

    answers = await asyncio.gather(
        *(generations.request(alice, new("0.10"), idempotency_key="k") for _ in range(10))
    )

    assert len({answer.id for answer in answers}) == 1


async def test_a_queue_has_an_end_for_each_viewer(
    database: Database, jobs: Jobs, alice: Viewer
) -> None:
    generations = Generations(database, jobs, waiting=3)

    answers = await asyncio.gather(
        *(generations.request(alice, new("0")) for _ in range(10)), return_exceptions=True
    )

    refused = [each for each in answers if isinstance(each, RateLimited)]
    assert len(refused) == 7
    assert refused[0].retry_after == 30
    await generations.request(colleague(alice), new("0"))


async def test_another_workspaces_money_is_not_told(
    database: Database, jobs: Jobs, alice: Viewer, bob: Viewer
) -> None:
    generations = Generations(database, jobs)
    await generations.request(alice, new("0.10"))
    ledger = Ledger(database, Budgets())

    assert (await ledger.entries(bob, None, ALL)).rows == []
    assert (await ledger.balances(bob)).workspace.reserved == 0
    assert len((await ledger.entries(alice, None, ALL)).rows) == 1


async def test_months_are_apart(database: Database, jobs: Jobs, alice: Viewer) -> None:
    await Generations(database, jobs).request(alice, new("0.10"))
    ledger = Ledger(database, Budgets())

    assert (await ledger.balances(alice, "2001-01")).workspace.reserved == 0
    assert (await ledger.entries(alice, "2001-01", ALL)).rows == []
    (entry,) = (await ledger.entries(alice, month_of(datetime.now(UTC)), ALL)).rows
    assert (entry.viewer, entry.estimated) == (alice.name, Decimal("0.10"))


@pytest.mark.parametrize("month", ["2026", "2026-13", "November", "", "2026-11-01"])
async def test_what_is_no_month_is_refused(month: str, database: Database, alice: Viewer) -> None:
    with pytest.raises(Rejected) as refused:
        await Ledger(database, Budgets()).balances(alice, month)

    assert refused.value.field == "month"


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    deeds=st.lists(
        st.tuples(
            st.integers(0, 200_000),
            st.sampled_from(["leave", "cancel", "succeed", "refuse", "lose"]),
            st.booleans(),
            st.integers(0, 300_000),
        ),
        max_size=8,
    )
)
async def test_the_books_add_up_whatever_becomes_of_generations(
    deeds: list[tuple[int, str, bool, int]], database: Database, jobs: Jobs, alice: Viewer
) -> None:
    generations = Generations(database, jobs)
    ledger = Ledger(database, Budgets())

    for cost, deed, is_called, charged in deeds:
        viewer = alice if cost % 2 else colleague(alice)
        amount = f"{Decimal(cost) / 1_000_000:f}"
        id = (await generations.request(viewer, new(amount))).id
        if is_called:
            await generations.take_latch(id)
            await generations.charge(id, Decimal(charged) / 1_000_000)
        match deed:
            case "cancel":
                await generations.cancel(viewer, id)
            case "succeed":
                await generations.succeed(id)
            case "refuse":
                await generations.fail(id, Failure("CONTENT_POLICY", "No."))
            case "lose":
                await generations.fail(id, Failure("OUTCOME_UNKNOWN", "Who knows?"))

    entries = (await ledger.entries(alice, None, PageRequest(1000))).rows
    for viewer in (alice, colleague(alice)):
        balances = await ledger.balances(viewer)
        own = [entry for entry in entries if entry.viewer == viewer.name]
        for balance, these in ((balances.workspace, entries), (balances.viewer, own)):
            open_ = [entry.estimated for entry in these if entry.state == "reserved"]
            assert balance.reserved == sum(open_)
            assert balance.spent == sum(entry.actual for entry in these)


@given(st.decimals(min_value=0, max_value=10**6, places=6))
def test_an_amount_is_kept_to_the_millionth(amount: Decimal) -> None:
    kept = Dollars().process_bind_param(amount, None)  # type: ignore[arg-type]  # it asks no dialect

    assert kept == micros(amount)
    assert Dollars().process_result_value(kept, None) == amount  # type: ignore[arg-type]  # nor here


@ON_POSTGRES
async def test_a_key_that_another_request_takes_meanwhile_gives_its_generation(
    database: Database, jobs: Jobs, alice: Viewer
) -> None:
    generations = Generations(database, jobs)
    first = await generations.request(alice, new("1"))
    use = Use.of("key", OPERATION, new("1"))
    assert use

    async with database.writing() as session:
        # As on the turn of a month, when they wait for no common budget.
        await idempotency.remember(session, alice, use, first.id)
        asked = asyncio.create_task(generations.request(alice, new("1"), idempotency_key="key"))
        await until_somebody_waits(database)
    second = await asked

    assert second.id == first.id


async def until_somebody_waits(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(10), database.connection() as connection:
        while not (await connection.execute(waiting)).scalar_one():  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
