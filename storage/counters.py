"""The counters on PostgreSQL, kept short: few rows are read where an image is counted.

Whoever changes images adds rows and folds them where they are more than a few, so that nobody waits
for another (see `storage.models.ImageCount`). What is left of a day that is over is folded here.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text

from storage.database import Database
from storage.models import ImageCount, TagCount, table_of

BATCH: Final = 20_000
"""Rows to a transaction."""

KINDS: Final = {
    table_of(counter).name: [
        column.name for column in table_of(counter).c if column.name not in ("id", "n")
    ]
    for counter in (ImageCount, TagCount)
}
"""What is counted apart, by table."""


class Counters:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = dict.fromkeys(KINDS, 0)

    async def fold(self) -> None:
        """Make one row of each counter that got rows since the last time.

        SQLite has one row of each, always.
        """
        if not self._database.is_sqlite:
            for table, kinds in KINDS.items():
                await self._fold(table, kinds)

    async def _fold(self, table: str, kinds: Sequence[str]) -> None:
        """Rows of transactions that have not ended are left for whoever adds to them next."""
        async with self._database.reading() as session:
            connection = await session.connection()
            newest = f"SELECT coalesce(max(id), 0) FROM {table}"  # noqa: S608  # a name of ours
            last = (await connection.execute(text(newest))).scalar_one()
        for first in range(self._seen[table], last, BATCH):
            async with self._database.writing() as session:
                await (await session.connection()).execute(
                    text(_folding(table, kinds)),
                    {"first": first + 1, "last": min(first + BATCH, last)},
                )
        self._seen[table] = last


def _folding(table: str, kinds: Sequence[str]) -> str:
    named = ", ".join(kinds)
    return f"""
WITH many AS (
    SELECT {named} FROM {table} WHERE ({named}) IN
        (SELECT {named} FROM {table} WHERE id BETWEEN :first AND :last)
    GROUP BY {named} HAVING count(*) > 1
), free AS (
    SELECT id FROM {table} JOIN many USING ({named}) FOR UPDATE OF {table} SKIP LOCKED
), gone AS (
    DELETE FROM {table} USING free WHERE {table}.id = free.id RETURNING {table}.*
)
INSERT INTO {table} ({named}, n)
SELECT {named}, sum(n) FROM gone GROUP BY {named} HAVING sum(n) <> 0
"""  # noqa: S608  # names of ours
