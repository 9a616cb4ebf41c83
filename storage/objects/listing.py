"""What a store holds, written down in a file of our own, so that a million keys need no memory."""

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from storage.objects import Listed, ObjectStore

BATCH = 1000


class Listing:
    """Keys and sizes as they were when the store was asked. A key can be ticked off."""

    def __init__(self, file: Path) -> None:
        # A scratch file: what it holds is worth nothing after a crash.
        self._rows = sqlite3.connect(file, isolation_level=None)
        self._rows.execute("PRAGMA journal_mode=OFF")
        self._rows.execute("PRAGMA synchronous=OFF")
        self._rows.execute(
            "CREATE TABLE listed (key TEXT PRIMARY KEY, size INTEGER, ticked INTEGER DEFAULT 0) "
            "WITHOUT ROWID"
        )

    def add(self, found: Sequence[Listed]) -> None:
        self._rows.execute("BEGIN")
        self._rows.executemany(
            "INSERT OR IGNORE INTO listed (key, size) VALUES (?, ?)",
            [(each.key, each.size) for each in found],
        )
        self._rows.execute("COMMIT")

    def tick(self, key: str) -> int | None:
        """The size of what has this key; None where nothing has it."""
        row = self._rows.execute(
            "UPDATE listed SET ticked = 1 WHERE key = ? RETURNING size", (key,)
        ).fetchone()
        return row[0] if row else None

    def unticked(self) -> Iterator[str]:
        yield from (key for (key,) in self._rows.execute("SELECT key FROM listed WHERE NOT ticked"))

    def __len__(self) -> int:
        (count,) = self._rows.execute("SELECT count(*) FROM listed").fetchone()
        return int(count)

    def close(self) -> None:
        self._rows.close()


@asynccontextmanager
async def listing_of(store: ObjectStore) -> AsyncIterator[Listing]:
    """The whole store's. Raises Unavailable rather than give a part of it."""
    with tempfile.TemporaryDirectory(prefix="listing-") as folder:
        listing = Listing(Path(folder) / "listing.db")
        try:
            found: list[Listed] = []
            async for each in store.walk():
                found.append(each)
                if len(found) == BATCH:
                    listing.add(found)
                    found.clear()
            listing.add(found)
            yield listing
        finally:
            listing.close()
