"""One key, one effect: a request that is sent twice does once what it asks for."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import IdempotencyMismatch, Rejected
from storage.models import IdempotencyKey
from storage.viewers import Viewer

MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Use:
    """A key, and a SHA-256 of what it is used for."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str | None, operation: str, *arguments: object) -> "Use | None":
        """None where the caller gave no key. The arguments must have a stable `repr`."""
        if key is None:
            return None
        if not 1 <= len(key) <= MAX_KEY:
            raise Rejected(
                f"idempotencyKey takes 1 to {MAX_KEY} characters, not {len(key)}.",
                field="idempotencyKey",
                limit=MAX_KEY,
                actual=len(key),
            )
        if "\0" in key:
            raise Rejected(
                "idempotencyKey holds a NUL, which no database keeps.", field="idempotencyKey"
            )
        return cls(key, hashlib.sha256(repr((operation, arguments)).encode()).hexdigest())


async def recall(session: AsyncSession, viewer: Viewer, use: Use) -> UUID | None:
    """What the key brought about before. Raises IdempotencyMismatch for another request's key."""
    earlier = (
        await session.exec(
            select(IdempotencyKey).where(
                IdempotencyKey.workspace_id == viewer.workspace_id, IdempotencyKey.key == use.key
            )
        )
    ).one_or_none()
    if earlier is None:
        return None
    if earlier.fingerprint != use.fingerprint:
        raise IdempotencyMismatch(use.key)
    return earlier.subject_id


async def remember(session: AsyncSession, viewer: Viewer, use: Use, subject_id: UUID) -> None:
    """In the transaction of the effect. A second one with the key fails with IntegrityError."""
    session.add(
        IdempotencyKey(
            workspace_id=viewer.workspace_id,
            key=use.key,
            fingerprint=use.fingerprint,
            subject_id=subject_id,
        )
    )
    await session.flush()
