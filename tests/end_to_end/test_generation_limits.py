"""Two hundred wishes at once: exactly those are made that there is money for, and no more at a time
than is allowed.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from aiohttp import web

from generation.providers.openai_models import price
from tests.end_to_end import operations as op
from tests.end_to_end.installation import Cluster, Installation, migrated, new_key
from tests.end_to_end.service import JSON, Service
from tests.openai_server import API_KEY, OpenAIServer, openai_server, tokens
from tests.postgres import OwnServer, find_programs

REQUESTS, REPEATS, AFFORDED = 200, 40, 50
VIEWERS, AT_ONCE, AT_ONCE_FOR_ONE = 5, 8, 2  # so that both bounds are felt
SIDE = 816
MODEL = "gpt-image-2"  # whose tokens are published, so that an estimate is what it costs
PRICE = price(MODEL, text_in=1, image_in=0, image_out=tokens(16, SIDE, SIDE))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Counted:
    """OpenAI, and how many of its answers are awaited at a time: by one viewer, and by all."""

    def __init__(self) -> None:
        self.server = OpenAIServer()
        self.server.seconds = 0.3
        self.most: Counter[str] = Counter()
        self._now: Counter[str] = Counter()

    async def start(self) -> web.AppRunner:
        app = web.Application(middlewares=[self._count])
        app.add_routes(self.server.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "GET":
            return await handler(request)
        for name in ("all", (await request.json())["safety_identifier"]):
            self._now[name] += 1
            self.most[name] = max(self.most[name], self._now[name])
        try:
            return await handler(request)
        finally:
            self._now.subtract(["all", (await request.json())["safety_identifier"]])


@pytest.fixture
async def openai() -> AsyncIterator[Counted]:
    counted = Counted()
    runner = await counted.start()
    yield counted
    await runner.cleanup()


@pytest.fixture
def roomy_postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database whose server takes more connections than others leave us elsewhere.

    Four busy processes have about eighty.
    """
    programs = find_programs()
    if programs is None:
        yield request.getfixturevalue("postgres_url")
        return
    with TemporaryDirectory() as folder:  # not among ours, which the server's user may not enter
        server = OwnServer(programs, Path(folder))
        server.create()
        with Path(folder, "data", "postgresql.conf").open("a") as file:
            file.write("max_connections = 300\nfsync = off\n")
        server.start()
        try:
            asyncio.run(migrated(server.dsn))
            yield server.dsn
        finally:
            server.stop()


@pytest.fixture(params=["one process", "several processes"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings: where several processes keep what they share."""
    if request.param == "one process":
        return {}
    return {
        "DATABASE_URL": request.getfixturevalue("roomy_postgres"),
        "OBJECTS_URL": f"file://{tmp_path}/objects",
        "SIGNING_KEYS": secrets.token_hex(32),
    }


@pytest.fixture
async def services(
    places: dict[str, str], openai: Counted, tmp_path: Path
) -> AsyncIterator[Sequence[Service]]:
    """Those that take wishes."""
    settings = {
        "OPENAI_API_KEY": API_KEY,
        "OPENAI_BASE_URL": openai.server.url,
        "OPENAI_MODEL": MODEL,
        "PROVIDER_PREVIEWS": "0",
        "WORKSPACE_MONTHLY_BUDGET": str(AFFORDED * PRICE),
        "GENERATIONS_AT_ONCE": str(AT_ONCE),
        "GENERATIONS_EVERYWHERE": str(AT_ONCE),
        "GENERATIONS_PER_VIEWER": str(AT_ONCE_FOR_ONE),
        "GRACE_MINUTES": "0.01",
        "SWEEP_SECONDS": "0.3",
    }
    with ExitStack() as stack:
        if not places:
            service = Service(tmp_path, **settings)
            stack.callback(service.stop)
            yield [await asyncio.to_thread(service.start)]
        else:
            cluster = Cluster(tmp_path, **settings, **places)
            stack.callback(cluster.stop)
            for _ in range(2):
                cluster.add_worker()
            await asyncio.to_thread(cluster.start)
            yield [cluster.one, cluster.two]


async def test_of_two_hundred_wishes_at_once_those_are_made_that_there_is_money_for(
    services: Sequence[Service], openai: Counted
) -> None:
    service = services[0]
    keys = [await new_key(service, "the team", f"viewer-{n}") for n in range(VIEWERS)]
    plain = {"width": SIDE, "height": SIDE, "quality": "LOW"}
    shown = await service.ask(op.ESTIMATE, key=keys[0], input={"prompt": "000", **plain})
    estimate = shown["estimateGeneration"]
    assert Decimal(estimate["estimated"]) == PRICE
    assert Decimal(estimate["remainingBudget"]) == AFFORDED * PRICE

    async with httpx.AsyncClient(timeout=90, limits=httpx.Limits(max_connections=None)) as client:

        async def wish(number: int) -> JSON:
            input: dict[str, Any] = {"prompt": f"{number:03}", **plain}
            if number % (REQUESTS // REPEATS) == 0:
                input |= {"prompt": "One", "idempotencyKey": "the same"}
            elif number % 2:
                input["idempotencyKey"] = f"my own, {number}"
            answer = await client.post(
                f"{services[number % len(services)].url}/graphql",
                json={"query": op.WISH, "variables": {"input": input}},
                headers={"Authorization": f"Bearer {keys[number // 5 % VIEWERS]}"},
            )
            told = answer.json()
            assert "errors" not in told, told
            return dict(told["data"]["generateImage"])

        # The first of the equal ones before the others: else there may be no money left for it.
        first = await wish(0)
        answers = [first, *await asyncio.gather(*map(wish, range(1, REQUESTS)))]

    repeats = answers[:: REQUESTS // REPEATS]
    accepted = [answer["generation"]["id"] for answer in answers if answer["generation"]]
    refusals = [answer["errors"][0]["code"] for answer in answers if answer["errors"]]
    assert len({answer["generation"]["id"] for answer in repeats}) == 1
    assert len(accepted) == AFFORDED - 1 + REPEATS
    assert len(set(accepted)) == AFFORDED
    assert Counter(refusals) == {"BUDGET_EXCEEDED": REQUESTS - REPEATS - AFFORDED + 1}

    entries = await _ended(service, keys[0])
    assert {entry["generation"]["id"] for entry in entries} == set(accepted)
    assert Counter((entry["state"], Decimal(entry["actual"])) for entry in entries) == {
        ("SETTLED", PRICE): AFFORDED
    }
    drawn = Counter(request.fields["prompt"] for request in openai.server.requests)
    assert (len(drawn), drawn.total()) == (AFFORDED, AFFORDED)
    assert AT_ONCE_FOR_ONE < openai.most.pop("all") <= AT_ONCE
    assert (len(openai.most), max(openai.most.values())) == (VIEWERS, AT_ONCE_FOR_ONE)
    await _check_accounts(service, keys, entries)
    await Installation(service).balance()


async def _ended(service: Service, key: str) -> list[JSON]:
    """The ledger, when nothing is reserved any more."""
    async with asyncio.timeout(60):
        while True:
            told = await service.ask(op.LEDGER, key=key)
            if not Decimal(told["budgets"]["workspace"]["reserved"]):
                return list(told["ledger"]["nodes"])
            await asyncio.sleep(0.2)


async def _check_accounts(service: Service, keys: Sequence[str], entries: Sequence[JSON]) -> None:
    """The workspace's sum is the entries', and each viewer's is that of their own."""
    for number, key in enumerate(keys):
        budgets = (await service.ask(op.LEDGER, key=key))["budgets"]
        account = {name: Decimal(value) for name, value in budgets["workspace"].items()}
        everything = AFFORDED * PRICE
        assert account == {
            "spent": everything,
            "reserved": 0,
            "budget": everything,
            "remaining": 0,
        }
        own = [entry for entry in entries if entry["viewer"] == f"viewer-{number}"]
        assert Decimal(budgets["viewer"]["spent"]) == len(own) * PRICE
        assert Decimal(budgets["viewer"]["reserved"]) == 0


async def test_who_cancels_may_not_start_more_a_minute_than_others(tmp_path: Path) -> None:
    async def wish(service: Service, number: int) -> str:
        input = {"prompt": f"{number}", "width": SIDE, "height": SIDE, "quality": "LOW"}
        return str((await service.ask(op.WISH, input=input))["generateImage"]["generation"]["id"])

    async with openai_server() as openai:
        openai.seconds = 3600
        service = Service(
            tmp_path,
            OPENAI_API_KEY=API_KEY,
            OPENAI_BASE_URL=openai.url,
            GENERATIONS_PER_MINUTE="2",
        )
        try:
            await asyncio.to_thread(service.start)
            for number in range(5):
                openai.is_left.clear()
                id = await wish(service, number)
                await asyncio.sleep(1)
                await service.ask(op.CANCEL, id=id)
                if number < 2:
                    await asyncio.wait_for(openai.is_left.wait(), 1)

            assert [request.fields["prompt"] for request in openai.requests] == ["0", "1"]
        finally:
            service.stop()
