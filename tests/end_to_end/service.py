"""The real service in processes of its own, and clients that talk to it as anybody would."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from gql import Client, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.websockets import WebsocketsTransport

ROOT = Path(__file__).parents[2]
JSON = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """`python -m graph …` with settings of its own, its output in a file."""

    def __init__(self, arguments: list[str], settings: Mapping[str, str], log: Path) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DARKROOM_")}
        named = {f"DARKROOM_{name}": value for name, value in settings.items()}
        self.log = log
        with log.open("a") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-W", "error", "-m", "graph", *arguments],
                env=inherited | named,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_logged(self, pattern: str, seconds: float = 20) -> str:
        """The first line that matches, once it is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(f".*(?:{pattern}).*", self.log.read_text()):
                return found.group()
            assert self.popen.poll() is None, f"ended early:\n{self.log.read_text()}"
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} never came:\n{self.log.read_text()}")

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.popen.kill()
        self.popen.wait(10)

    async def died(self, seconds: float = 40) -> bool:
        """By SIGKILL, as soon as it has; others go on meanwhile."""
        return await asyncio.to_thread(self.popen.wait, seconds) == -signal.SIGKILL

    def terminate(self, seconds: float = 20) -> int:
        """SIGTERM; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.kill()


class Service:
    """One API process, and how to start it again on the same data."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"serve-{self.port}.log"
        self.settings = {"DATA_DIR": str(folder / "data"), "PORT": str(self.port)} | settings
        self.process: Process | None = None

    def start(self, *arguments: str) -> "Service":
        return self.launch(*arguments).wait_until_ready()

    def launch(self, *arguments: str) -> "Service":
        """Begin to start: several can do so at once."""
        self.process = Process(["serve", *arguments], self.settings, self.log)
        return self

    def wait_until_ready(self) -> "Service":
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            assert self.running.popen.poll() is None, f"ended early:\n{self.log.read_text()}"
            if time.monotonic() > deadline:
                self.running.popen.send_signal(signal.SIGABRT)  # where it stands, into the log
                self.running.popen.wait(10)
                raise AssertionError(f"never ready:\n{self.log.read_text()}")
            time.sleep(0.05)

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command on the same settings, to its end."""
        named = {f"DARKROOM_{name}": value for name, value in self.settings.items()}
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "graph", *arguments],
            env=os.environ | named,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    # ---- clients ------------------------------------------------------------------------------

    async def ask(self, query: str, *, key: str | None = None, **variables: Any) -> JSON:
        """The data of an operation, through the gql client over HTTP. Raises on errors."""
        transport = AIOHTTPTransport(url=f"{self.url}/graphql", headers=_headers(key))
        async with Client(transport=transport) as session:
            return dict(await session.execute(GraphQLRequest(query, variable_values=variables)))

    async def post(self, query: str, *, key: str | None = None, **variables: Any) -> httpx.Response:
        """The raw answer, errors and all."""
        async with httpx.AsyncClient() as client:
            return await client.post(
                f"{self.url}/graphql",
                json={"query": query, "variables": variables},
                headers=_headers(key),
            )

    async def fetch(self, url: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(url)

    async def upload(
        self,
        query: str,
        data: bytes,
        filename: str = "picture.jpg",
        *,
        key: str | None = None,
        **input: Any,
    ) -> JSON:
        """An upload as the multipart request specification says, with plain HTTP."""
        variables = {"input": {"file": None} | input}
        return await self._send(query, variables, "variables.input.file", filename, data, key)

    async def replace(
        self, query: str, id: str, data: bytes, filename: str = "picture.jpg"
    ) -> JSON:
        """An image's new file, sent as an upload is; the payload."""
        variables = {"id": id, "file": None}
        sent = await self._send(query, variables, "variables.file", filename, data)
        return dict(sent["replaceImage"])

    async def _send(
        self,
        query: str,
        variables: JSON,
        place: str,
        filename: str,
        data: bytes,
        key: str | None = None,
    ) -> JSON:
        operations = {"query": query, "variables": variables}
        async with httpx.AsyncClient(timeout=30) as client:
            response = await client.post(
                f"{self.url}/graphql",
                data={"operations": json.dumps(operations), "map": json.dumps({"0": [place]})},
                files={"0": (filename, data)},
                headers=_headers(key) | {"GraphQL-Require-Preflight": "1"},
            )
        body: JSON = response.json()
        assert "errors" not in body, body
        return dict(body["data"])

    async def watched(self, query: str, *, key: str | None = None, **variables: Any) -> list[JSON]:
        """All events of a subscription to one field, to its end."""
        async with self.watching(query, key=key, **variables) as events:
            return [next(iter(event.values())) async for event in events]

    @asynccontextmanager
    async def watching(
        self, query: str, *, key: str | None = None, **variables: Any
    ) -> AsyncIterator[AsyncIterator[JSON]]:
        """The events of a subscription, through the gql client over graphql-transport-ws."""
        transport = WebsocketsTransport(
            url=f"ws://127.0.0.1:{self.port}/graphql",
            init_payload=_headers(key),
            subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        )
        async with Client(transport=transport) as session:
            events = session.subscribe(GraphQLRequest(query, variable_values=variables))
            try:
                yield events
            finally:
                await events.aclose()

    async def stream(
        self, query: str, *, key: str | None = None, **variables: Any
    ) -> AsyncIterator[tuple[str, JSON]]:
        """The server-sent events of a subscription, with plain HTTP: (event, data)."""
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream(
                "POST",
                f"{self.url}/graphql",
                json={"query": query, "variables": variables},
                headers=_headers(key) | {"Accept": "text/event-stream"},
            ) as response,
        ):
            assert response.status_code == 200, await response.aread()
            event = ""
            async for line in response.aiter_lines():
                name, _, value = line.partition(":")
                if name == "event":
                    event = value.strip()
                elif name == "data":
                    yield event, json.loads(value) if value.strip() else {}
                elif not line and event == "complete":
                    return


@contextmanager
def running(service: Service, *arguments: str) -> Iterator[Service]:
    try:
        yield service.start(*arguments)
    finally:
        service.stop()


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
