"""Who asks: keys that are shown once, kept as a hash, and worthless once revoked."""

import asyncio
import hashlib
from uuid import uuid4

import pytest
from sqlmodel import select

from storage.database import Database
from storage.errors import NotFound
from storage.models import ApiKey, Workspace
from storage.viewers import TOKEN_PREFIX, Viewer, Viewers


@pytest.fixture
def viewers(database: Database) -> Viewers:
    return Viewers(database)


async def test_a_key_opens_its_workspace_in_its_name(viewers: Viewers, database: Database) -> None:
    token = await viewers.create_key("team", "dashboard")

    viewer = await viewers.by_token(token)

    async with database.reading() as session:
        workspace = (await session.exec(select(Workspace))).one()
    assert workspace.name == "team"
    assert viewer == Viewer(workspace.id, "dashboard")


async def test_keys_of_one_workspace_share_it_and_of_two_do_not(viewers: Viewers) -> None:
    tokens = [await viewers.create_key(name, "key") for name in ("team", "team", "other")]

    first, second, third = [await viewers.by_token(token) for token in tokens]

    assert first is not None
    assert second is not None
    assert third is not None
    assert first.workspace_id == second.workspace_id != third.workspace_id


async def test_a_new_workspace_that_many_ask_for_at_once_is_one(
    viewers: Viewers, database: Database
) -> None:
    tokens = await asyncio.gather(*(viewers.create_key("team", f"{n}") for n in range(10)))

    async with database.reading() as session:
        workspaces = (await session.exec(select(Workspace))).all()
    assert len(set(tokens)) == 10
    assert [workspace.name for workspace in workspaces] == ["team"]


async def test_a_token_is_kept_nowhere(viewers: Viewers, database: Database) -> None:
    token = await viewers.create_key("team", "dashboard")

    async with database.reading() as session:
        (row,) = (await session.exec(select(ApiKey))).all()
    assert token.startswith(TOKEN_PREFIX)
    assert token.removeprefix(TOKEN_PREFIX) not in repr(row.model_dump())
    assert row.token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token not in repr(await viewers.keys())


async def test_a_token_cannot_be_guessed(viewers: Viewers) -> None:
    tokens = [await viewers.create_key("team", "key") for _ in range(5)]

    assert len(set(tokens)) == 5
    assert all(len(token) - len(TOKEN_PREFIX) == 43 for token in tokens)  # 256 bits in base64


async def test_what_is_no_token_of_ours_opens_nothing(viewers: Viewers) -> None:
    token = await viewers.create_key("team", "dashboard")
    sha256 = hashlib.sha256(token.encode()).hexdigest()

    for wrong in ["", TOKEN_PREFIX, token[:-1], token + " ", token.upper(), sha256, "\0", "%"]:
        assert await viewers.by_token(wrong) is None


async def test_keys_are_listed_from_the_oldest_on(viewers: Viewers) -> None:
    for name in ("first", "second", "third"):
        await viewers.create_key("team", name)

    keys = await viewers.keys()

    assert [(key.workspace, key.name, key.revoked_at) for key in keys] == [
        ("team", "first", None),
        ("team", "second", None),
        ("team", "third", None),
    ]


async def test_a_revoked_key_opens_nothing_and_the_others_still_do(viewers: Viewers) -> None:
    gone = await viewers.create_key("team", "gone")
    stays = await viewers.create_key("team", "stays")
    (key,) = [key for key in await viewers.keys() if key.name == "gone"]

    await viewers.revoke_key(key.id)

    assert await viewers.by_token(gone) is None
    assert await viewers.by_token(stays) is not None


async def test_a_key_was_revoked_when_it_was_revoked_first(viewers: Viewers) -> None:
    await viewers.create_key("team", "gone")
    (before,) = await viewers.keys()
    await viewers.revoke_key(before.id)
    (once,) = await viewers.keys()

    await viewers.revoke_key(before.id)

    (twice,) = await viewers.keys()
    assert once.revoked_at is not None
    assert twice.revoked_at == once.revoked_at


async def test_a_key_that_never_was_cannot_be_revoked(viewers: Viewers) -> None:
    token = await viewers.create_key("team", "dashboard")

    with pytest.raises(NotFound):
        await viewers.revoke_key(uuid4())

    assert await viewers.by_token(token) is not None


async def test_there_is_a_key_while_one_is_not_revoked(viewers: Viewers) -> None:
    at_first = await viewers.has_key()
    await viewers.create_key("team", "dashboard")
    then = await viewers.has_key()
    (key,) = await viewers.keys()
    await viewers.revoke_key(key.id)

    assert [at_first, then, await viewers.has_key()] == [False, True, False]


async def test_the_local_viewer_is_always_the_same(viewers: Viewers, database: Database) -> None:
    first = await viewers.local()

    others = await asyncio.gather(*(Viewers(database).local() for _ in range(5)))

    assert set(others) == {first}
    assert first.name == "local"
