"""Transactions, the same on both databases."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import delete, make_url
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database, insert_once, sqlite_url
from storage.models import Attachment, Image, ImageTag, Workspace
from storage.viewers import Viewer
from tests.storage.rows import insert_images


async def names(database: Database) -> list[str]:
    async with database.reading() as session:
        return list((await session.exec(select(Workspace.name).order_by(Workspace.name))).all())


async def test_what_is_written_is_kept_when_the_block_ends(database: Database) -> None:
    async with database.writing() as session:
        session.add(Workspace(name="team"))

    assert await names(database) == ["team"]


async def test_what_is_written_is_undone_when_the_block_fails(database: Database) -> None:
    async def write_and_fail() -> None:
        async with database.writing() as session:
            session.add(Workspace(name="team"))
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()

    assert await names(database) == []


async def test_what_is_written_while_reading_is_not_kept(database: Database) -> None:
    async with database.reading() as session:
        session.add(Workspace(name="team"))
        await session.flush()

    assert await names(database) == []


async def test_whoever_reads_sees_one_state_of_the_database(database: Database) -> None:
    counted = select(Workspace.name)
    async with database.reading() as session:
        before = (await session.exec(counted)).all()
        async with database.writing() as other:
            other.add(Workspace(name="team"))

        after = (await session.exec(counted)).all()

    assert (before, after) == ([], [])
    assert await names(database) == ["team"]


async def test_rows_can_be_used_after_their_session(database: Database) -> None:
    async with database.writing() as session:
        workspace = Workspace(name="team")
        session.add(workspace)

    assert (workspace.name, workspace.created_at.tzinfo is not None) == ("team", True)


async def test_many_that_read_and_then_write_take_turns(database: Database) -> None:
    async with database.writing() as session:
        session.add(Workspace(name="0"))

    async def count_up() -> None:
        async with database.writing() as session:
            workspace = (await session.exec(select(Workspace).with_for_update())).one()
            await asyncio.sleep(0)
            workspace.name = str(int(workspace.name) + 1)

    await asyncio.gather(*(count_up() for _ in range(20)))

    assert await names(database) == ["20"]


async def test_a_row_is_inserted_once(database: Database) -> None:
    async with database.writing() as session:
        first = await insert_once(session, Workspace(name="team"))
        second = await insert_once(session, Workspace(name="team"))

    assert (first, second) == (True, False)
    assert await names(database) == ["team"]


async def test_a_row_that_many_insert_at_once_is_inserted_by_one(database: Database) -> None:
    async def insert() -> bool:
        async with database.writing() as session:
            return await insert_once(session, Workspace(name="team"))

    inserted = await asyncio.gather(*(insert() for _ in range(10)))

    assert sorted(inserted) == [False] * 9 + [True]


async def test_no_row_points_at_another_that_is_not_there(
    database: Database, alice: Viewer
) -> None:
    (image_id,) = await insert_images(database, alice, 1)

    with pytest.raises(IntegrityError):
        async with database.writing() as session:
            session.add(Attachment(content_id=image_id, image_id=image_id, position=0))

    async with database.reading() as session:
        assert (await session.exec(select(Attachment))).all() == []


async def test_tags_go_with_their_image(database: Database, alice: Viewer) -> None:
    (image_id,) = await insert_images(database, alice, 1)
    async with database.writing() as session:
        session.add(ImageTag(image_id=image_id, tag="sea"))

    async with database.writing() as session:
        await session.exec(delete(Image))

    async with database.reading() as session:
        assert (await session.exec(select(col(ImageTag.tag)))).all() == []


async def test_a_database_that_answers_is_in_good_health(database: Database) -> None:
    await database.check()


async def test_a_server_that_does_not_know_the_database_is_not_in_good_health(
    postgres_url: str,
) -> None:
    url = make_url(postgres_url).set(database="no_such_database")
    database = Database(url.render_as_string(hide_password=False))

    with pytest.raises(Exception, match="no_such_database"):
        await database.check()

    await database.close()


def test_a_path_of_any_kind_can_hold_the_database(tmp_path: Path) -> None:
    path = tmp_path / "100% ä ?#" / "darkroom.db"

    assert make_url(sqlite_url(path)).database == str(path)
