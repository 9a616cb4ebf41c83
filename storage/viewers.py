"""Who asks, and the keys by which they say so."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy import select as rows_of
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database, insert_once
from storage.errors import NotFound
from storage.models import ApiKey, Workspace, now
from storage.statements import Given, Term

TOKEN_PREFIX = "dk_"  # noqa: S105  # public: secret scanners know leaked keys by it


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whoever asks, and the workspace they ask in. The first argument of every use case."""

    workspace_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An API key without its secret."""

    id: UUID
    workspace: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


class Viewers:
    """Makes, lists and revokes API keys, and tells whose a token is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def local(self) -> Viewer:
        """The one viewer of a service that only this machine can reach."""
        return await self.of_workspace("local")

    async def of_workspace(self, name: str) -> Viewer:
        """The operator, in a team's library, which is made if it is new."""
        async with self._database.writing() as session:
            workspace_id = await _workspace(session, name)
        return Viewer(workspace_id, "local")

    async def by_token(self, token: str) -> Viewer | None:
        """None for a token that is unknown or revoked."""
        found = await self._database.fetch(Term(_whose, Given(_sha256(token))))
        return Viewer(*found[0]) if found else None

    async def create_key(self, workspace: str, name: str) -> str:
        """The new token, which is kept nowhere: show it once. Makes the workspace if it is new."""
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        async with self._database.writing() as session:
            workspace_id = await _workspace(session, workspace)
            session.add(ApiKey(workspace_id=workspace_id, name=name, token_sha256=_sha256(token)))
        return token

    async def keys(self) -> list[KeyInfo]:
        """All keys, the oldest first."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(ApiKey, Workspace.name)
                .join(Workspace, col(Workspace.id) == ApiKey.workspace_id)
                .order_by(col(ApiKey.created_at))
            )
            return [
                KeyInfo(key.id, workspace, key.name, key.created_at, key.revoked_at)
                for key, workspace in rows
            ]

    async def has_key(self) -> bool:
        """Whether anybody can come in."""
        return any(key.revoked_at is None for key in await self.keys())

    async def revoke_key(self, id: UUID) -> None:
        """Works from the next operation on. Raises NotFound."""
        async with self._database.writing() as session:
            key = await session.get(ApiKey, id)
            if key is None:
                raise NotFound("API key", id)
            key.revoked_at = key.revoked_at or now()


def _whose(token_sha256: Any) -> Select[UUID, str]:
    return rows_of(col(ApiKey.workspace_id), col(ApiKey.name)).where(
        col(ApiKey.token_sha256) == token_sha256, col(ApiKey.revoked_at).is_(None)
    )


async def _workspace(session: AsyncSession, name: str) -> UUID:
    await insert_once(session, Workspace(name=name))
    return (await session.exec(select(Workspace.id).where(Workspace.name == name))).one()


def _sha256(token: str) -> str:
    # A token has 256 random bits, so a plain hash cannot be searched and needs no salt.
    return hashlib.sha256(token.encode()).hexdigest()
