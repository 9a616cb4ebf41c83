"""A TCP proxy that can fail in all the ways a network and a server can."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

BUSY = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 71\r\n"
    b"Connection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"
)


class Fault(Enum):
    NONE = "passes all on"
    BUSY = "answers 503 itself"
    SILENT = "takes everything and says nothing"
    CUT = "passes on some bytes, then hangs up"
    DOWN = "hangs up at once"


class Proxy:
    """Stands before the server at `url`; `self.url` is its own address.

    With CUT, each connection is cut after `passes` bytes of what the client sends.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self.fault = Fault.NONE
        self.passes = 0
        self.connections = 0
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()

    def fail(self, fault: Fault, passes: int = 0) -> None:
        """From now on, and for the connections that are open, too."""
        self.fault, self.passes = fault, passes
        if fault is not Fault.NONE:
            for writer in list(self._open):
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            match self.fault:
                case Fault.DOWN:
                    pass
                case Fault.SILENT:
                    while await reader.read(65536):
                        pass
                case Fault.BUSY:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(BUSY)
                    await writer.drain()
                case _:
                    await self._pass_on(reader, writer)
        self._open.discard(writer)
        writer.transport.abort() if self.fault is Fault.CUT else writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._open.add(back)
        left = self.passes if self.fault is Fault.CUT else None

        async def forth() -> None:
            nonlocal left
            while data := await reader.read(65536):
                if left is not None:
                    data, left = data[:left], left - len(data[:left])
                back.write(data)
                await back.drain()
                if left == 0:
                    return

        async def home() -> None:
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(home())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._open.discard(back)
            back.close()


@asynccontextmanager
async def proxy_for(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.fail(Fault.DOWN)
        await asyncio.sleep(0)
