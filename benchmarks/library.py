"""A library page, its count, its facets and its search, from a thousand images to a million.

    python -m benchmarks.library [--sizes 1000,10000,100000,1000000] [--postgres URL]

The real service in a process of its own, over HTTP, on SQLite and, where one answers, PostgreSQL.
One workspace holds a fifth of all images, forty others share the rest. The client is on the same
two cores, so only ratios mean much. Prints Markdown. With all sizes it takes half an hour, most of
which goes into filling the tables; what that costs is told, too.
"""

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import insert, text

from benchmarks.processes import background, free_port, wait_for
from storage.counters import Counters
from storage.database import Database, sqlite_url
from storage.migrations import migrate
from storage.models import Image, ImageOrigin, ImageTag, ObjectState, StoredObject
from storage.viewers import Viewers
from storage.words import words_of

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CONNECTIONS = (1, 16, 64)
SECONDS = 2.0
BATCH = 5_000
OTHERS = 40
UPKEEP = 20_000
"""Images that are added to tell what the triggers cost."""
TOKEN_OF = "bench"
YEARS = 2
NEWEST = datetime(2026, 11, 1, tzinfo=UTC)
VOCABULARY = (
    "harbour morning bread coffee studio linen garden river winter market glass paper copper "
    "bicycle window table orange light shadow stone forest ceramic workshop opening portrait "
    "recipe ocean skyline poster signal velvet"
)
WORDS = VOCABULARY.split()
RARE = 400  # one image in so many is of a lighthouse

FIELDS = (
    "id title filename altText mimeType byteSize width height origin isAiGenerated isFavorite "
    "dominantColor thumbhash createdAt updatedAt"
)
PAGE = (
    "query($f: ImageFilter, $s: String, $a: String) "
    f"{{ images(filter: $f, search: $s, after: $a, first: 50) {{ nodes {{ {FIELDS} }} "
    "pageInfo { hasNextPage endCursor } %s } }"
)
FACETS = (
    "query($f: ImageFilter) { images(filter: $f, first: 1) { facets { "
    "origins { origin count } orientations { orientation count } months { month count } "
    "tags(first: 20) { tag count } } } }"
)


@dataclass(frozen=True, slots=True)
class Query:
    name: str
    text: str
    variables: Callable[[Random], dict[str, Any]]


def ninety_days(random: Random, origin: str = "GENERATED") -> dict[str, Any]:
    """Another range for each request, so that nobody can answer from memory."""
    start = NEWEST - timedelta(days=random.randrange(90, 365), seconds=random.randrange(86_400))
    times = {"gte": start.isoformat(), "lt": (start + timedelta(days=90)).isoformat()}
    return {"f": {"origin": {"in": [origin]}, "createdAt": times}}


QUERIES = (
    Query("page of 50 x 15, origin and dates", PAGE % "", ninety_days),
    Query("the same, with totalCount", PAGE % "totalCount", ninety_days),
    Query("newest 50 of a word", PAGE % "", lambda random: {"s": random.choice(WORDS)}),
    Query(
        "a word, origin and dates, with totalCount",
        PAGE % "totalCount",
        lambda random: {"s": "lighthouse", "f": ninety_days(random, "UPLOADED")["f"]},
    ),
    Query("facets of all", FACETS, lambda _: {"f": None}),
)
HALF_WAY = Query("half way down, by cursor", PAGE % "", lambda _: {})


# ---- the table -----------------------------------------------------------------------------------


class Filling:
    """Images of one database, the newest last, so that a larger table begins with a smaller."""

    def __init__(self, database: Database, workspaces: Sequence[UUID]) -> None:
        self._database = database
        self._workspaces = workspaces
        self._counters = Counters(database)
        self.size = 0

    async def grow(self, size: int, largest: int) -> float:
        """The images up to `size`, of `largest` in two years. Seconds for each thousand."""
        began = time.perf_counter()
        added = size - self.size
        while self.size < size:
            numbers = range(self.size, min(self.size + BATCH, size))
            images = [self._image(number, largest) for number in numbers]
            tags = [
                {"image_id": image["id"], "tag": WORDS[number % 7]}
                for number, image in zip(numbers, images, strict=True)
                if number % 3 == 0
            ]
            async with self._database.writing() as session:
                await (await session.connection()).execute(insert(Image), images)
                await (await session.connection()).execute(insert(ImageTag), tags)
            self.size = numbers.stop
        took = time.perf_counter() - began
        await self._counters.fold()  # as a worker does every minute
        await self._tidy()
        return took / added * 1000

    async def _tidy(self) -> None:
        """What PostgreSQL does by itself, when a table has changed much; and SQLite's likeness."""
        if self._database.is_sqlite:
            async with self._database.connection() as connection:
                await connection.execute(text("ANALYZE"))
        else:
            server = await asyncpg.connect(self._database.url.render_as_string(False), timeout=5)
            await server.execute("VACUUM ANALYZE")
            await server.close()

    async def forget_upkeep(self) -> None:
        """From now on, nobody keeps counters, text indexes and the tags' copies in step."""
        async with self._database.connection() as connection:
            if self._database.is_sqlite:
                names = text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                for name in (await connection.execute(names)).scalars().all():
                    await connection.execute(text(f"DROP TRIGGER {name}"))
            else:
                for table in ("images", "image_tags"):
                    await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))

    def _image(self, number: int, largest: int) -> dict[str, Any]:
        random = Random(number)
        # The order of creation is mixed: a small table reaches as far back as a large one.
        age = random.random() * YEARS * 365 * 86_400
        created = NEWEST - timedelta(seconds=age)
        words = random.sample(WORDS, 6) + (["lighthouse"] if number % RARE == 0 else [])
        filename, title = f"{words[0]}-{number}.jpg", f"{words[1]} {words[2]}".title()
        width, height = random.choice(((1080, 1350), (1080, 1080), (1920, 1080)))
        is_ours = number % 5 == 0
        return {
            "id": uuid4(),
            "workspace_id": self._workspaces[0 if is_ours else 1 + number % OTHERS],
            "version": 1,
            "origin": ImageOrigin.GENERATED if number % 2 else ImageOrigin.UPLOADED,
            "is_ai_generated": bool(number % 2),
            "is_favorite": number % 50 == 0,
            "filename": filename,
            "title": title,
            "alt_text": " ".join(words[3:]),
            "name_text": " ".join(words_of(filename, title)),
            "search_text": " ".join(words_of(" ".join(words[3:]))),
            "media_type": "image/jpeg",
            "source_media_type": "image/jpeg",
            "byte_size": random.randrange(10**5, 10**7),
            "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
            "source_sha256": hashlib.sha256(f"source {number}".encode()).hexdigest(),
            "width": width,
            "height": height,
            "frames": 1,
            "has_alpha": False,
            "declares_ai": False,
            "has_c2pa": False,
            "dominant_color": "#808080",
            "thumbhash": "3OcRJYB4d3h/iIeHeEh3eIhw+j2w",
            "perceptual_hash": "0" * 16,
            "object_key": "images/none",
            "created_at": created,
            "updated_at": created,
        }


async def begun(url: str) -> tuple[Database, Filling, str]:
    """A migrated and empty database, and the key of the workspace that is asked for."""
    database = Database(url)
    await migrate(database)
    viewers = Viewers(database)
    token = await viewers.create_key(TOKEN_OF, "bench")
    names = [TOKEN_OF, *(f"other-{number}" for number in range(OTHERS))]
    workspaces = [(await viewers.of_workspace(name)).workspace_id for name in names]
    async with database.writing() as session:
        session.add(
            StoredObject(
                key="images/none",
                workspace_id=workspaces[0],
                state=ObjectState.LIVE,
                media_type="image/jpeg",
                byte_size=1,
                sha256="0" * 64,
            )
        )
    return database, Filling(database, workspaces), token


# ---- asking --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests a second by connections; milliseconds of one alone, and of the server's CPU."""

    rates: dict[int, float]
    p50: float
    cpu: float


class Client:
    def __init__(self, port: int, token: str, pid: int) -> None:
        self.port = port
        self._token = token
        self.pid = pid

    def measure(self, query: Query) -> Measured:
        asyncio.run(self._ask(query, 4, 0.3))  # warm
        rates, p50 = {}, 0.0
        before = self._cpu_seconds()
        count = 0
        for connections in CONNECTIONS:
            times = asyncio.run(self._ask(query, connections, SECONDS))
            rates[connections] = len(times) / SECONDS
            count += len(times)
            if connections == 1:
                p50 = statistics.median(times) * 1000
        cpu = (self._cpu_seconds() - before) / max(count, 1) * 1000
        return Measured(rates, p50, cpu)

    async def half_way(self) -> str:
        """The cursor in the middle of the workspace."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        count = PAGE.replace("first: 50", "first: 1") % "totalCount"
        told = await self._post(reader, writer, self._request(count, {}))
        left, cursor = told["data"]["images"]["totalCount"] // 2, None
        walk = "query($a: String) { images(after: $a, first: 100) { pageInfo { endCursor } } }"
        while left > 0:
            told = await self._post(reader, writer, self._request(walk, {"a": cursor}))
            cursor, left = told["data"]["images"]["pageInfo"]["endCursor"], left - 100
        writer.close()
        return str(cursor)

    @property
    def rss(self) -> int:
        """MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    def _cpu_seconds(self) -> float:
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    async def _ask(self, query: Query, connections: int, seconds: float) -> list[float]:
        stop = time.perf_counter() + seconds
        asking = (self._ask_until(stop, query, seed) for seed in range(connections))
        return [each for times in await asyncio.gather(*asking) for each in times]

    async def _ask_until(self, stop: float, query: Query, seed: int) -> list[float]:
        random, times = Random(seed), []
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while (began := time.perf_counter()) < stop:
            request = self._request(query.text, query.variables(random))
            body = await self._raw(reader, writer, request)
            assert b'"errors"' not in body[:200], body[:500]
            times.append(time.perf_counter() - began)
        writer.close()
        return times

    def _request(self, query: str, variables: dict[str, Any]) -> bytes:
        body = json.dumps({"query": query, "variables": variables}).encode()
        return (
            f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def _post(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> Any:
        return json.loads(await self._raw(reader, writer, request))

    async def _raw(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> bytes:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head[:20], head
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return await reader.readexactly(length)


# ---- the run -------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--postgres", default="postgresql://postgres@127.0.0.1:5432/postgres")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _measured("SQLite", sqlite_url(folder / "library.db"), sizes, folder)
        if url := asyncio.run(new_database(arguments.postgres)):
            stack.callback(lambda: asyncio.run(drop(arguments.postgres, url)))
            _measured("PostgreSQL", url, sizes, folder)


def _measured(kind: str, url: str, sizes: Sequence[int], folder: Path) -> None:
    results: dict[str, dict[int, Measured]] = {}
    notes = []
    with asyncio.Runner() as runner:
        database, filling, token = runner.run(begun(url))
        for size in sizes:
            cost = runner.run(filling.grow(size, sizes[-1]))
            with ExitStack() as stack:
                client = served(url, token, folder, stack)
                for query in (*_queries(client),):
                    results.setdefault(query.name, {})[size] = client.measure(query)
                notes.append(f"{size:,}: {cost:.2f} ms an insert, {client.rss} MiB")
                print(f"... {kind}, {notes[-1]}", file=sys.stderr)
        with_upkeep = runner.run(filling.grow(sizes[-1] + UPKEEP, sizes[-1]))
        runner.run(filling.forget_upkeep())
        without = runner.run(filling.grow(sizes[-1] + 2 * UPKEEP, sizes[-1]))
        notes.append(f"then {with_upkeep:.2f} with all upkeep and {without:.2f} without")
        runner.run(database.close())
    _print(kind, results, notes)


def _queries(client: Client) -> Iterator[Query]:
    yield from QUERIES
    cursor = asyncio.run(client.half_way())
    yield Query(HALF_WAY.name, HALF_WAY.text, lambda _: {"a": cursor})


def served(url: str, token: str, folder: Path, stack: ExitStack) -> Client:
    port = free_port()
    settings = {
        "DARKROOM_ENVIRONMENT": "production",
        "DARKROOM_DATA_DIR": str(folder / "data"),
        "DARKROOM_DATABASE_URL": url,
        "DARKROOM_OBJECTS_URL": f"file://{folder}/objects",
        "DARKROOM_SIGNING_KEYS": "k" * 32,
        "DARKROOM_PORT": str(port),
        "DARKROOM_SWEEP_SECONDS": "3600",
    }
    arguments = [] if url.startswith("sqlite") else ["--no-worker"]
    command = [sys.executable, "-m", "graph", "serve", *arguments]
    process = stack.enter_context(background(command, settings))
    wait_for(port)
    time.sleep(1)
    return Client(port, token, process.pid)


def _print(kind: str, results: dict[str, dict[int, Measured]], notes: list[str]) -> None:
    print(f"\n### {kind}\n")
    columns = " | ".join(f"c={each}" for each in CONNECTIONS)
    print(f"| query | images | {columns} | p50 ms, c=1 | server CPU ms | growth |")
    print("| --- |" + " --- |" * (len(CONNECTIONS) + 4))
    for name, by_size in results.items():
        base = by_size.get(10_000)
        for size, each in by_size.items():
            rates = " | ".join(f"{each.rates[number]:,.0f}" for number in CONNECTIONS)
            growth = f"{each.p50 / base.p50:.2f}" if base and size >= 10_000 else ""
            print(f"| {name} | {size:,} | {rates} | {each.p50:.2f} | {each.cpu:.2f} | {growth} |")
    print("\n" + "; ".join(notes))


async def new_database(server: str) -> str | None:
    name = f"bench_{uuid4().hex[:8]}"
    try:
        connection = await asyncpg.connect(server, timeout=2)
    except OSError:
        return None
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return server.rpartition("/")[0] + "/" + name


async def drop(server: str, url: str) -> None:
    connection = await asyncpg.connect(server, timeout=2)
    await connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
    await connection.close()


if __name__ == "__main__":
    main()
