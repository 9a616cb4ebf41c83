"""One key, one effect: what a key stands for, and whose it is."""

from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from storage import idempotency
from storage.database import Database
from storage.errors import IdempotencyMismatch, Rejected
from storage.idempotency import Use
from storage.models import IdempotencyKey
from storage.viewers import Viewer


def use(key: str | None, operation: str = "upload", *arguments: object) -> Use:
    found = Use.of(key, operation, *arguments)
    assert found is not None
    return found


def test_without_a_key_there_is_nothing_to_remember() -> None:
    assert Use.of(None, "upload", 1) is None


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b"])
def test_a_key_that_cannot_be_kept_is_rejected(key: str) -> None:
    with pytest.raises(Rejected) as refused:
        Use.of(key, "upload")

    assert refused.value.field == "idempotencyKey"


def test_the_same_request_has_the_same_fingerprint() -> None:
    id = uuid4()

    assert use("key", "upload", id, ["a", "b"], None) == use("key", "upload", id, ["a", "b"], None)


@pytest.mark.parametrize(
    "other",
    [
        use("key", "attach", "a", "b"),
        use("key", "upload", "b", "a"),
        use("key", "upload", "a"),
        use("key", "upload", "a", "b", None),
        use("key", "upload", "a, b"),
        use("key", "upload", ("a", "b")),
        use("key", "upload", "a", None),
        use("key", "upload", "a", "None"),
    ],
)
def test_another_request_has_another_fingerprint(other: Use) -> None:
    assert other.fingerprint != use("key", "upload", "a", "b").fingerprint


@pytest.mark.parametrize("key", ["k", "x" * 255, "ключ 🔑", "' OR 1=1 --", "%", " k "])
async def test_a_key_is_recalled_as_it_was_given(
    key: str, database: Database, alice: Viewer, bob: Viewer
) -> None:
    subject_id = uuid4()
    async with database.writing() as session:
        await idempotency.remember(session, alice, use(key), subject_id)

    async with database.reading() as session:
        hers = await idempotency.recall(session, alice, use(key))
        his = await idempotency.recall(session, bob, use(key))
        another = await idempotency.recall(session, alice, use("another"))

    assert (hers, his, another) == (subject_id, None, None)


async def test_a_key_is_not_recalled_for_another_request(database: Database, alice: Viewer) -> None:
    async with database.writing() as session:
        await idempotency.remember(session, alice, use("key", "upload"), uuid4())

    with pytest.raises(IdempotencyMismatch) as refused:
        async with database.reading() as session:
            await idempotency.recall(session, alice, use("key", "attach"))

    assert "'key'" in refused.value.message


async def test_a_key_is_remembered_once(database: Database, alice: Viewer) -> None:
    first = uuid4()
    async with database.writing() as session:
        await idempotency.remember(session, alice, use("key"), first)

    with pytest.raises(IntegrityError):
        async with database.writing() as session:
            await idempotency.remember(session, alice, use("key"), uuid4())

    async with database.reading() as session:
        assert (await session.exec(select(IdempotencyKey.subject_id))).all() == [first]
