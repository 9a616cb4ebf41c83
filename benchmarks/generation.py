"""How little a generation costs beside its provider, and how soon its watchers are told.

    python -m benchmarks.generation

The real service in a process of its own, on SQLite; a provider that stands in for OpenAI in this
one, which notes when it is asked and when it tells something. Both read the same clock, so that the
time between the two is known. Prints Markdown. Takes about two minutes.
"""

import asyncio
import base64
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.processes import background, free_port, wait_for
from tests.pictures import encoded, photo

GENERATIONS = 100
WATCHERS = (1, 100, 1000)
PER_SOCKET = 20
STEPS = 8  # that every watcher is told
SIZE = (1088, 1360)

MUTATION = (
    "mutation($input: GenerateImageInput!) { generateImage(input: $input) "
    "{ generation { id } errors { __typename } } }"
)
WATCH = (
    "subscription($id: ID!) { generationProgress(id: $id) { __typename sequence "
    "... on GenerationProgressed { previewUrl } ... on GenerationFinished { status } } }"
)


@dataclass
class Provider:
    """Streams a preview whenever `step` is set, and then a picture. Times by prompt.

    Each picture is another one: the same would be known by its bytes, and not be stored again.
    """

    pictures: Iterator[str]
    asked: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    sent: list[float] = field(default_factory=list)
    previews: int = 0
    step: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        wish = await request.json()
        self.asked[wish["prompt"]] = time.time()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(self.previews):
            await self.step.wait()
            self.step.clear()
            self.sent.append(time.time())
            await self._tell(response, "partial_image", partial_image_index=number)
        usage = {"input_tokens": 9, "output_tokens": 400, "total_tokens": 409}
        self.told[wish["prompt"]] = time.time()
        await self._tell(response, "completed", usage=usage)
        return response

    async def _tell(self, response: web.StreamResponse, name: str, **more: object) -> None:
        kind = f"image_generation.{name}"
        event = {"type": kind, "b64_json": next(self.pictures), "created_at": 0} | more
        await response.write(f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode())


def main() -> None:
    asyncio.run(_measure())


async def _measure() -> None:
    files = [encoded(photo(*SIZE, seed=seed), "PNG") for seed in range(GENERATIONS + 20)]
    provider = Provider(cycle(base64.b64encode(file).decode() for file in files))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = await stack.enter_async_context(_served(provider))
        port = free_port()
        settings = {
            "DARKROOM_DATA_DIR": str(folder / "data"),
            "DARKROOM_PORT": str(port),
            "DARKROOM_OPENAI_API_KEY": "sk-of-the-benchmark",
            "DARKROOM_OPENAI_BASE_URL": url,
            "DARKROOM_OPENAI_MODEL": "gpt-image-2.5-flare",
        }
        stack.enter_context(background([sys.executable, "-m", "graph", "serve"], settings))
        await asyncio.to_thread(wait_for, port)
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        await _one_after_the_other(session, provider)
        await _watched(session, provider)


async def _one_after_the_other(session: aiohttp.ClientSession, provider: Provider) -> None:
    random = Random(1)
    answers, calls, overheads = [], [], []
    for number in range(GENERATIONS + 5):
        prompt = f"A sea, number {number}"
        # People do not wish in step with the worker, which looks at its queue in equal intervals.
        await asyncio.sleep(random.uniform(0, 0.1))
        began = time.time()
        id = await _wish(session, prompt)
        answered = time.time()
        async with _watching(session, [id]) as events:
            async for _, _, event in events:
                if event["__typename"] == "GenerationFinished":
                    assert event["status"] == "SUCCEEDED", event
                    break
        ended = time.time()
        if number < 5:
            continue  # until everything is warm
        answers.append(answered - began)
        calls.append(provider.asked[prompt] - answered)
        drawing = provider.told[prompt] - provider.asked[prompt]
        overheads.append(ended - began - drawing)
    print(f"\n{GENERATIONS} generations of {SIZE[0]} x {SIZE[1]}, one at a time\n")
    print("| milliseconds | p50 | p95 |\n| --- | --- | --- |")
    print(_row("the mutation answers", answers))
    print(_row("from the answer to the provider's call", calls))
    print(_row("all of it but the provider", overheads))


async def _watched(session: aiohttp.ClientSession, provider: Provider) -> None:
    print("\n| watchers | from the provider's word to theirs, p50 ms | p99 ms |")
    print("| --- | --- | --- |")
    for watchers in WATCHERS:
        provider.previews, provider.sent = STEPS, []
        id = await _wish(session, f"A sea, for {watchers}")
        heard: list[list[float]] = [[] for _ in range(watchers)]
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(_watching(session, [id] * min(PER_SOCKET, left)))
                for left in range(watchers, 0, -PER_SOCKET)
            ]
            listening = [
                asyncio.create_task(_hear(events, heard, at * PER_SOCKET))
                for at, events in enumerate(sockets)
            ]
            await asyncio.sleep(1 + watchers / 250)  # all have their first event by then
            for step in range(STEPS):
                provider.step.set()
                for _ in range(500):
                    if min(map(len, heard)) > step:
                        break
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.3)  # previews are told four times a second at most
            await asyncio.gather(*listening)
        waits = [at - provider.sent[step] for own in heard for step, at in enumerate(own[:STEPS])]
        p50, p99 = _percentile(waits, 50), _percentile(waits, 99)
        print(f"| {watchers:,} | {p50 * 1000:.0f} | {p99 * 1000:.0f} |")


Events = AsyncIterator[tuple[int, float, dict[str, Any]]]


async def _hear(events: Events, heard: list[list[float]], first: int) -> None:
    """Until each of a socket's watchers has been told of the end."""
    seen: dict[int, str] = {}
    ended = 0
    async for watcher, at, event in events:
        preview = event.get("previewUrl")
        if preview and seen.get(watcher) != preview.partition("?")[0]:
            seen[watcher] = preview.partition("?")[0]
            heard[first + watcher].append(at)
        ended += event["__typename"] == "GenerationFinished"
        if ended == len(heard[first : first + PER_SOCKET]):
            return


@asynccontextmanager
async def _watching(session: aiohttp.ClientSession, ids: list[str]) -> AsyncIterator[Events]:
    """One socket with a watcher for each id: (which watcher, when, event), as they come."""
    async with session.ws_connect("/graphql", protocols=["graphql-transport-ws"]) as socket:
        await socket.send_json({"type": "connection_init"})
        assert (await socket.receive_json())["type"] == "connection_ack"
        for number, id in enumerate(ids):
            payload = {"query": WATCH, "variables": {"id": id}}
            await socket.send_json({"id": str(number), "type": "subscribe", "payload": payload})

        async def events() -> Events:
            async for message in socket:
                at, told = time.time(), json.loads(message.data)
                if told["type"] == "next":
                    data = told["payload"]["data"]
                    yield int(told["id"]), at, data["generationProgress"]

        yield events()


async def _wish(session: aiohttp.ClientSession, prompt: str) -> str:
    body = {"query": MUTATION, "variables": {"input": {"prompt": prompt}}}
    async with session.post("/graphql", json=body) as answer:
        told = await answer.json()
    return str(told["data"]["generateImage"]["generation"]["id"])


@asynccontextmanager
async def _served(provider: Provider) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/images/generations", provider.generate)
    app.router.add_get("/v1/models", lambda _: _no_models())
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


async def _no_models() -> web.Response:
    return web.json_response({"object": "list", "data": []})


def _percentile(values: list[float], percent: int) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(percent / 100 * (len(ranked) - 1)))]


def _row(what: str, seconds: list[float]) -> str:
    p50, p95 = _percentile(seconds, 50), _percentile(seconds, 95)
    return f"| {what} | {p50 * 1000:.0f} | {p95 * 1000:.0f} |"


if __name__ == "__main__":
    main()
