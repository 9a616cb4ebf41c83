"""A library page, its count and its search beside PostGraphile, on the same table in the same run.

    python -m benchmarks.postgraphile [--postgres URL] [--size 100000] [--modules FOLDER]
    python -m benchmarks.postgraphile --database NAME --token TOKEN

Fills a new database as benchmarks/library.py does, or takes one that is filled already, starts both
services on it, and asks them in turn, three rounds each: the same questions, other variables at
each request, by the same client. Before that both must answer a sample with the same images. What
PostGraphile needs is installed by npm into a folder outside of the tree. Prints Markdown. The
client, both services and the database share the machine: read the ratios.

PostGraphile is asked in the way that suits it best: by the columns that our indexes are made for,
`place` instead of the time, `origin` by equality, and for the row's own id instead of a global one.
PostgreSQL plans each of its statements for the values in it, as it does for ours; `--plans auto`
leaves that to PostgreSQL, which then takes a slower plan for all values. It checks no token, and
what a workspace may see is a part of the question. A word is a part of a text to PostGraphile, and
a word or its beginning to us.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import uvloop

from benchmarks.library import (
    FIELDS,
    PAGE,
    TOKEN_OF,
    begun,
    drop,
    new_database,
    ninety_days,
    served,
)
from benchmarks.processes import background, free_port, wait_for
from storage.models import first_place

CONNECTIONS = (1, 16, 64)
SECONDS = 2.0
WARM_SECONDS = 1.5
ROUNDS = 3
ROWS = 50
VARIABLES = 2_000  # sets of them to a question
SAMPLE = 20  # of them are answered by both before anything is measured

PLANS = {"custom": "force_custom_plan", "auto": "auto"}

HERE = Path(__file__).parent / "postgraphile"
MODULES = Path(tempfile.gettempdir()) / "darkroom-postgraphile"

# Ours are asked for as benchmarks/library.py does; theirs come under the same names.
THEIR_FIELDS = FIELDS.replace("id ", "id: rowId ", 1).replace("mimeType", "mimeType: mediaType")
THEIR_PAGE = (
    "query($f: ImageFilter, $a: Cursor) "
    f"{{ images: allImages(filter: $f, after: $a, first: {ROWS}, "
    "orderBy: [PLACE_DESC, PRIMARY_KEY_DESC]) "
    f"{{ nodes {{ {THEIR_FIELDS} }} pageInfo {{ hasNextPage endCursor }} %s }} }}"
)
OUR_WALK = (
    "query($a: String) { images(after: $a, first: 100) "
    "{ edges { cursor } pageInfo { endCursor } } }"
)
THEIR_WALK = (
    "query($f: ImageFilter, $o: Int) { images: allImages(filter: $f, offset: $o, first: 100, "
    "orderBy: [PLACE_DESC, PRIMARY_KEY_DESC]) { edges { cursor } totalCount } }"
)

Variables = Mapping[str, Any]


# ---- the two of them -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """One that answers GraphQL under /graphql. `pid` is the first of its processes."""

    name: str
    port: int
    pid: int
    token: str | None = None

    def request(self, query: str, variables: Variables) -> bytes:
        body = json.dumps({"query": query, "variables": variables}).encode()
        key = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        return (
            f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"{key}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def answers(self, requests: Sequence[bytes]) -> list[Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        bodies = [await _body(reader, writer, request) for request in requests]
        writer.close()
        told = [json.loads(body) for body in bodies]
        assert not any("errors" in each for each in told), told
        return [each["data"]["images"] for each in told]

    def cpu_seconds(self) -> float:
        return sum(map(_cpu_seconds, _family(self.pid)))

    def rss(self) -> int:
        """MiB."""
        statuses = (Path(f"/proc/{pid}/status").read_text() for pid in _family(self.pid))
        sizes = (status.partition("VmRSS:")[2].split() for status in statuses)
        return sum(int(size[0]) for size in sizes if size) // 1024


def _family(pid: int) -> Iterator[int]:
    """The process and all that come from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _cpu_seconds(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _installed(folder: Path) -> tuple[str, str]:
    """The Node.js to run, and what is there, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted, done = (HERE / "package.json").read_text(), folder / "installed.json"
    for name in ("package.json", "server.mjs"):
        shutil.copy(HERE / name, folder)
    if not done.exists() or done.read_text() != wanted:
        command = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund")
        subprocess.run((*command, "--ignore-scripts"), cwd=folder, check=True, stdout=sys.stderr)
        done.write_text(wanted)
    modules = folder / "node_modules"
    node = shutil.which("node", path=f"{modules}/.bin{os.pathsep}{os.environ['PATH']}")
    assert node is not None, "PostGraphile needs Node.js"
    told = [subprocess.run((node, "--version"), check=True, capture_output=True, text=True).stdout]
    for name in ("postgraphile", "postgraphile-plugin-connection-filter", "grafast", "grafserv"):
        package = json.loads((modules / name / "package.json").read_text())
        told.append(f"{name} {package['version']}")
    return node, "Node.js " + ", ".join(each.strip() for each in told)


def _peer(node: str, folder: Path, url: str, plans: str, stack: ExitStack) -> Server:
    port = free_port()
    settings = {
        "NODE_ENV": "production",
        "DATABASE_URL": url,
        "PGOPTIONS": f"-c plan_cache_mode={PLANS[plans]}",
        "PORT": str(port),
    }
    process = stack.enter_context(background((node, str(folder / "server.mjs")), settings))
    wait_for(port)
    return Server("PostGraphile", port, process.pid)


def _ours(url: str, token: str, folder: Path, stack: ExitStack) -> Server:
    client = served(url, token, folder, stack)
    return Server("Darkroom", client.port, client.pid, token)


# ---- the questions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """The same for both: each has its own words for it, ours come first."""

    name: str
    texts: tuple[str, str]
    variables: Callable[[Random], tuple[Variables, Variables]]
    rows: range = range(ROWS, ROWS + 1)

    def requests(self, servers: Sequence[Server]) -> list[list[bytes]]:
        random = Random(self.name)
        drawn = [self.variables(random) for _ in range(VARIABLES)]
        return [
            [server.request(text, each) for each in variables]
            for server, text, variables in zip(
                servers, self.texts, zip(*drawn, strict=True), strict=True
            )
        ]


def _questions(ours: Server, theirs: Server, workspace: UUID) -> Iterator[Question]:
    seen = {"workspaceId": {"equalTo": str(workspace)}, "deletedAt": {"isNull": True}}

    def page(random: Random, origin: str = "GENERATED") -> tuple[Variables, Variables]:
        times = ninety_days(random)["f"]["createdAt"]
        first, last = (first_place(datetime.fromisoformat(times[key])) for key in ("gte", "lt"))
        place = {"greaterThanOrEqualTo": str(first), "lessThan": str(last)}
        return (
            {"f": {"origin": {"in": [origin]}, "createdAt": times}},
            {"f": seen | {"origin": {"equalTo": origin.lower()}, "place": place}},
        )

    def word(random: Random) -> tuple[Variables, Variables]:
        # Each image of a lighthouse has an even number, and so was uploaded.
        our, their = page(random, "UPLOADED")
        text = {"searchText": {"includesInsensitive": "lighthouse"}}
        return {"s": "lighthouse", **our}, {"f": their["f"] | text}

    yield Question("page of 50 x 15, origin and dates", (PAGE % "", THEIR_PAGE % ""), page)
    counted = (PAGE % "totalCount", THEIR_PAGE % "totalCount")
    yield Question("the same, with totalCount", counted, page)
    some = range(1, ROWS + 1)
    yield Question("a word, origin and dates, with totalCount", counted, word, some)
    cursors = asyncio.run(_cursors(ours, theirs, seen))

    def half_way(random: Random) -> tuple[Variables, Variables]:
        our, their = random.choice(cursors)
        return {"a": our}, {"f": seen, "a": their}

    yield Question("half way down, by cursor", (PAGE % "", THEIR_PAGE % ""), half_way)


async def _cursors(ours: Server, theirs: Server, seen: Variables) -> list[tuple[str, str]]:
    """Of a hundred images in the middle of the workspace. Ours are for what they came from."""
    (page,) = await theirs.answers([theirs.request(THEIR_WALK, {"f": seen})])
    steps = page["totalCount"] // 2 // 100
    (their,) = await theirs.answers([theirs.request(THEIR_WALK, {"f": seen, "o": steps * 100})])
    cursor = None
    for _ in range(steps + 1):
        (our,) = await ours.answers([ours.request(OUR_WALK, {"a": cursor})])
        cursor = our["pageInfo"]["endCursor"]
    one, other = ([edge["cursor"] for edge in page["edges"]] for page in (our, their))
    return list(zip(one, other, strict=True))


async def _assert_alike(
    servers: Sequence[Server], question: Question, requests: Sequence[Sequence[bytes]]
) -> None:
    told = [
        await server.answers(each[:SAMPLE]) for server, each in zip(servers, requests, strict=True)
    ]
    for one, other in zip(*told, strict=True):
        assert len(one["nodes"]) in question.rows, one
        assert _gist(one) == _gist(other), (question.name, one, other)


def _gist(images: dict[str, Any]) -> Any:
    names = [node["filename"] for node in images["nodes"]]  # no other image has it
    return names, images["pageInfo"]["hasNextPage"], images.get("totalCount")


# ---- asking --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Measured:
    """Of one server and one question. By connections, an entry for each round."""

    rates: dict[int, list[float]] = field(default_factory=dict)
    p50: dict[int, list[float]] = field(default_factory=dict)
    p99: dict[int, list[float]] = field(default_factory=dict)
    requests: int = 0
    cpu: float = 0
    database_cpu: float = 0

    def add(self, connections: int, times: list[float], took: float) -> None:
        *_, p99 = cuts = statistics.quantiles(times, n=100)
        self.rates.setdefault(connections, []).append(len(times) / took)
        self.p50.setdefault(connections, []).append(cuts[49] * 1000)
        self.p99.setdefault(connections, []).append(p99 * 1000)
        self.requests += len(times)

    def rate(self, connections: int) -> float:
        return statistics.median(self.rates[connections])

    def cell(self, connections: int) -> str:
        p50, p99 = (statistics.median(each[connections]) for each in (self.p50, self.p99))
        return f"{self.rate(connections):,.0f} ({p50:.1f} / {p99:.1f})"


class Backends:
    """The processes of PostgreSQL that serve this database, if they are on this machine."""

    def __init__(self, url: str) -> None:
        self._url = url

    def cpu_seconds(self) -> dict[int, float]:
        """By process, as pools open and close them."""
        pids = asyncio.run(self._pids())
        return {pid: _cpu_seconds(pid) for pid in pids if Path(f"/proc/{pid}").exists()}

    async def _pids(self) -> list[int]:
        connection = await asyncpg.connect(self._url)
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        await connection.close()
        return [row["pid"] for row in rows]


def _measure(question: Question, servers: Sequence[Server], backends: Backends) -> list[Measured]:
    requests = question.requests(servers)
    asyncio.run(_assert_alike(servers, question, requests))
    results = [Measured() for _ in servers]
    draws = [cycle(each) for each in requests]
    rows = question.rows
    for server, draw in zip(servers, draws, strict=True):
        _run(_ask(server, draw, rows, 16, WARM_SECONDS))
    for connections in CONNECTIONS:
        for _ in range(ROUNDS):
            for server, draw, measured in zip(servers, draws, results, strict=True):
                before, database_before = server.cpu_seconds(), backends.cpu_seconds()
                began = time.perf_counter()
                times = _run(_ask(server, draw, rows, connections, SECONDS))
                measured.add(connections, times, time.perf_counter() - began)
                measured.cpu += server.cpu_seconds() - before
                after = backends.cpu_seconds()
                measured.database_cpu += sum(
                    spent - database_before.get(pid, 0) for pid, spent in after.items()
                )
    return results


def _run(asking: Coroutine[Any, Any, list[float]]) -> list[float]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asking)


async def _ask(
    server: Server, draw: Iterator[bytes], rows: range, connections: int, seconds: float
) -> list[float]:
    stop = time.perf_counter() + seconds
    asking = (_ask_until(stop, server.port, draw, rows) for _ in range(connections))
    return [each for times in await asyncio.gather(*asking) for each in times]


async def _ask_until(stop: float, port: int, draw: Iterator[bytes], rows: range) -> list[float]:
    times = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (began := time.perf_counter()) < stop:
        body = await _body(reader, writer, next(draw))
        times.append(time.perf_counter() - began)
        assert b'"errors"' not in body, body[:500]
        assert body.count(b'"thumbhash"') in rows, body[:500]
    writer.close()
    return times


async def _body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> bytes:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b" 200 " in head[:20], head
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return await reader.readexactly(length)


# ---- the run -------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgres", default="postgresql://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--modules", type=Path, default=MODULES, help="where npm installs")
    parser.add_argument("--plans", choices=PLANS, default="custom", help="of PostGraphile's")
    parser.add_argument("--database", help="one that is filled already")
    parser.add_argument("--token", help="of its workspace, which holds a fifth of the images")
    arguments = parser.parse_args()
    node, versions = _installed(arguments.modules)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        if arguments.database:
            url, token = _beside(arguments.postgres, arguments.database), arguments.token
        else:
            found = asyncio.run(new_database(arguments.postgres))
            assert found is not None, "no PostgreSQL answers"
            url = found
            stack.callback(lambda: asyncio.run(drop(arguments.postgres, url)))
            token = asyncio.run(_filled(url, arguments.size))
        workspace, size = asyncio.run(_workspace(url))
        theirs = _peer(node, arguments.modules, url, arguments.plans, stack)
        ours = _ours(url, token, Path(name), stack)
        print(f"\n### PostgreSQL, {size:,} images\n\n{versions}, plans {arguments.plans}\n")
        _print_head()
        for question in _questions(ours, theirs, workspace):
            _print(question, *_measure(question, (ours, theirs), Backends(url)))
        print(f"\nMemory: PostGraphile {theirs.rss()} MiB, Darkroom {ours.rss()} MiB")


def _beside(server: str, name: str) -> str:
    return server.rpartition("/")[0] + "/" + name


async def _filled(url: str, size: int) -> str:
    database, filling, token = await begun(url)
    await filling.grow(size, size)
    await database.close()
    return token


async def _workspace(url: str) -> tuple[UUID, int]:
    """The one that is asked for, and how many images there are."""
    connection = await asyncpg.connect(url)
    id = await connection.fetchval("SELECT id FROM workspaces WHERE name = $1", TOKEN_OF)
    size = await connection.fetchval("SELECT count(*) FROM images")
    await connection.close()
    return id, size


def _print_head() -> None:
    columns = " | ".join(f"c={each}" for each in CONNECTIONS)
    print(f"| requests/s (p50 / p99 in ms) | | {columns} | server CPU ms | database CPU ms |")
    print("| --- |" + " --- |" * (len(CONNECTIONS) + 3))


def _print(question: Question, ours: Measured, theirs: Measured) -> None:
    for name, each in (("PostGraphile", theirs), ("Darkroom", ours)):
        cells = " | ".join(map(each.cell, CONNECTIONS))
        cpu, database = (
            f"{seconds / each.requests * 1000:.2f}" for seconds in (each.cpu, each.database_cpu)
        )
        print(f"| {question.name} | {name} | {cells} | {cpu} | {database} |")
    ratios = (f"**{ours.rate(each) / theirs.rate(each):.2f}**" for each in CONNECTIONS)
    cpu, database = (
        f"{one / ours.requests / max(other / theirs.requests, 1e-9):.2f}"
        for one, other in ((ours.cpu, theirs.cpu), (ours.database_cpu, theirs.database_cpu))
    )
    print(f"| | ratio | {' | '.join(ratios)} | {cpu} | {database} |", flush=True)


if __name__ == "__main__":
    main()
