"""Statements that are written once and answered on the short road, on both databases."""

import asyncio
import threading
import weakref
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import BigInteger, Select, func, literal, select, text
from sqlalchemy.dialects import sqlite

from storage.database import Database
from storage.errors import Unavailable
from storage.models import Workspace, table_of
from storage.statements import LARGEST, SIZE, Given, Statements, Term
from storage.viewers import Viewer
from tests.storage.rows import ON_POSTGRES, ON_SQLITE

WORKSPACES = table_of(Workspace)


def named(name: Any) -> Select[Any]:
    return select(WORKSPACES.c.id, WORKSPACES.c.created_at).where(WORKSPACES.c.name == name)


def one_of(*names: Any) -> Select[Any]:
    return select(WORKSPACES.c.id).where(WORKSPACES.c.name.in_(names))


def labelled(name: str) -> Select[Any]:
    return select(WORKSPACES.c.id.label(name))


def numbers_up_to(end: Any) -> Select[Any]:
    numbers = select(literal(1, BigInteger).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < end))
    return select(func.count()).select_from(numbers)


def emptied() -> Any:
    return text("DELETE FROM workspaces RETURNING name").columns(WORKSPACES.c.name)


def test_terms_that_differ_in_values_alone_share_one_statement() -> None:
    statements = Statements(sqlite.dialect())

    one, other = Term(named, Given("one")), Term(named, Given("other"))

    assert statements.prepared(one) is statements.prepared(other)
    assert statements.prepared(one).parameters(other) == ["other"]


def test_terms_of_other_functions_constants_or_numbers_of_values_have_their_own() -> None:
    terms = [
        Term(named, Given("one")),
        Term(one_of, Given("one")),
        Term(one_of, Given("one"), Given("two")),
        Term(one_of, "one"),
        Term(one_of, "two"),
    ]

    assert len({*terms}) == 5


def test_a_statement_is_kept_without_the_values_it_was_made_for() -> None:
    class Value(str):
        """One that can be watched."""

    statements = Statements(sqlite.dialect())
    value = Value("secret")
    gone = weakref.ref(value)

    statements.prepared(Term(one_of, Given("one"), Given(value)))
    del value

    assert gone() is None
    assert statements.kept == 1


def test_only_so_many_statements_are_kept_and_none_that_is_very_large() -> None:
    statements = Statements(sqlite.dialect())
    often = Term(named, Given("one"))
    kept = statements.prepared(often)

    for number in range(SIZE + 10):
        statements.prepared(Term(labelled, f"id_{number}"))
        statements.prepared(often)
    statements.prepared(Term(one_of, *(Given(str(number)) for number in range(LARGEST + 1))))

    assert statements.kept == SIZE
    assert statements.prepared(often) is kept


async def test_a_reading_gives_values_as_what_they_are(database: Database, alice: Viewer) -> None:
    async with database.reading() as session:
        workspace = await session.get_one(Workspace, alice.workspace_id)

    [(id, created_at)] = await database.fetch(Term(named, Given(workspace.name)))

    assert isinstance(id, UUID)
    assert (id, created_at) == (workspace.id, workspace.created_at)


async def test_a_reading_sees_what_was_written_just_before(database: Database) -> None:
    asked = Term(one_of, Given("new"), Given("newer"))
    assert list(await database.fetch(asked)) == []

    async with database.writing() as session:
        session.add(Workspace(name="newer"))

    assert len(await database.fetch(asked)) == 1


async def test_nothing_can_be_written_by_a_reading(database: Database) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        await database.fetch(Term(emptied))


@ON_SQLITE
async def test_a_short_reading_takes_no_thread(database: Database) -> None:
    before = threading.active_count()

    rows = await database.fetch(Term(numbers_up_to, Given(100, BigInteger())))

    assert rows[0][0] == 100
    assert threading.active_count() == before


@ON_SQLITE
async def test_a_long_reading_holds_nobody_up(database: Database) -> None:
    reading = asyncio.create_task(database.fetch(Term(numbers_up_to, Given(10**6, BigInteger()))))

    turns = 0
    while not reading.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert (await reading)[0][0] == 10**6
    assert turns > 10


async def test_a_reading_that_takes_too_long_is_given_up(database: Database) -> None:
    hurried = Database(database.url.render_as_string(False), longest=0.2)
    endless = Term(numbers_up_to, Given(10**10, BigInteger()))
    try:
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"within 0.2 seconds. Ask for less"):
                await hurried.fetch(endless)

        rows = await hurried.fetch(Term(numbers_up_to, Given(10, BigInteger())))
    finally:
        await hurried.close()

    assert rows[0][0] == 10


@ON_POSTGRES
async def test_a_migration_takes_as_long_as_it_has_to(database: Database) -> None:
    hurried = Database(database.url.render_as_string(False), longest=0.2)
    try:
        async with hurried.connection() as connection:
            await connection.execute(text("SELECT pg_sleep(0.5)"))
    finally:
        await hurried.close()


@ON_SQLITE
async def test_a_statement_that_was_long_may_be_short_with_other_values(database: Database) -> None:
    for end in (10**6, 100, 10, 10**6, 10):
        rows = await database.fetch(Term(numbers_up_to, Given(end, BigInteger())))
        assert rows[0][0] == end


@ON_POSTGRES
async def test_a_reading_outlives_the_connection_of_the_one_before(database: Database) -> None:
    asked = Term(one_of, Given("somebody"))
    await database.fetch(asked)
    async with database.writing() as session:
        await (await session.connection()).execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    assert list(await database.fetch(asked)) == []
