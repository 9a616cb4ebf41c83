"""How fast a rendition that was made before is handed out, beside nginx and the least that can be.

    python -m benchmarks.delivery

Starts the real service twice, with and without room for renditions in memory; nginx, where it is
installed; and two Python programs of a few lines under the same server, uvicorn: one sends bytes
and does nothing else, one is Starlette's FileResponse. Asks each in turn for the same bytes over 16
kept-alive connections, and checks every answer's status and length. The figures to read are the
ratios: all of them, and the client, share the machine.
"""

import json
import os
import selectors
import shutil
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from benchmarks.processes import background, free_port, wait_for

CONNECTIONS = 16
SECONDS = 3.0
ROUNDS = 5

FILE_RESPONSE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
app = Starlette(routes=[Route("/{name}", lambda request: FileResponse(sys.argv[2]))])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""

BARE = """
import sys
import uvicorn
body = open(sys.argv[2], "rb").read()
headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"%d" % len(body))]
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
"""

NGINX = """
worker_processes 1; daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


@dataclass
class Contestant:
    """A server, what it should answer, and how it did: requests/s, and its CPU µs for each."""

    url: str
    pid: int
    body: bytes
    etag: str | None = None
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def run(self) -> None:
        began = _cpu_seconds(self.pid)
        rate = _rate(self)
        self.rates.append(rate)
        self.costs.append((_cpu_seconds(self.pid) - began) / (rate * SECONDS) * 1e6)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # nginx reads as somebody else
        memory, memory_pid = stack.enter_context(_darkroom(folder / "memory", {}))
        no_memory = {"DARKROOM_RENDITION_MEMORY_BYTES": "0"}
        disk, disk_pid = stack.enter_context(_darkroom(folder / "disk", no_memory))
        body = urllib.request.urlopen(memory).read()
        picture = folder / "picture.jpg"
        picture.write_bytes(body)
        servers = {
            "uvicorn and nothing else, bytes in memory": Contestant(
                *stack.enter_context(_python(BARE, picture)), body
            ),
            "Darkroom, from memory": Contestant(memory, memory_pid, body),
            "Darkroom, from disk": Contestant(disk, disk_pid, body),
            "Darkroom, 304": Contestant(memory, memory_pid, b"", _etag(memory)),
            "Starlette's FileResponse": Contestant(
                *stack.enter_context(_python(FILE_RESPONSE, picture)), body
            ),
        }
        if shutil.which("nginx"):
            nginx = Contestant(*stack.enter_context(_nginx(folder)), body)
            servers = {"nginx, sendfile, one worker": nginx} | servers
        for _ in range(ROUNDS):
            for server in servers.values():
                server.run()
    peers = [name for name in servers if name.startswith(("nginx", "Starlette"))]
    print(f"\n{len(body):,} bytes, {CONNECTIONS} connections\n")
    print("| server | requests/s | CPU µs |" + "".join(f" {peer} = 1 |" for peer in peers))
    print("| --- | --- | --- |" + " --- |" * len(peers))
    for name, server in servers.items():
        ratios = "".join(f" {server.rate / servers[peer].rate:.2f} |" for peer in peers)
        cost = statistics.median(server.costs)
        print(f"| {name} | {server.rate:,.0f} | {cost:.0f} |{ratios}")


def _rate(server: Contestant) -> float:
    """Answers a second over all connections, each of them checked for its status and length."""
    parts = urlsplit(server.url)
    assert parts.port
    extra = f"If-None-Match: {server.etag}\r\n" if server.etag else ""
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}\r\n".encode()
    expected = b"HTTP/1.1 304 " if server.etag else b"HTTP/1.1 200 "
    buffer = bytearray(2**20)
    missing: dict[int, int] = {}  # bytes of the answer that each connection waits for
    answers = 0
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", parts.port)))
            missing[connection.fileno()] = 0
            ready.register(connection, selectors.EVENT_READ, connection)
            connection.sendall(request)
        began = time.perf_counter()
        while time.perf_counter() < began + SECONDS:
            for key, _ in ready.select(1):
                received = key.data.recv_into(buffer)
                if not missing[key.fd]:  # an answer begins
                    assert buffer.startswith(expected), bytes(buffer[:100])
                    head = buffer.index(b"\r\n\r\n", 0, received) + 4
                    missing[key.fd] = head + len(server.body)
                missing[key.fd] -= received
                assert received
                assert missing[key.fd] >= 0
                if not missing[key.fd]:
                    answers += 1
                    key.data.send(request)
        return answers / (time.perf_counter() - began)


def _cpu_seconds(pid: int) -> float:
    """Of a process and those below it. Nought where the system does not tell."""
    ticks = 0
    for one in [pid, *children(pid)]:
        with suppress(FileNotFoundError, ProcessLookupError):
            figures = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(figures[11]) + int(figures[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children(int(child))]
    return found


def _etag(url: str) -> str:
    return str(urllib.request.urlopen(url).headers["ETag"])


@contextmanager
def _darkroom(folder: Path, more: dict[str, str]) -> Iterator[tuple[str, int]]:
    """The URL of a rendition 640 pixels wide that was made before, and the process."""
    port = free_port()
    settings = {"DARKROOM_DATA_DIR": str(folder), "DARKROOM_PORT": str(port)} | more
    with background([sys.executable, "-m", "graph", "serve"], settings) as process:
        wait_for(port)
        noise = Random(1).randbytes(32 * 24 * 3)
        picture = Image.frombytes("RGB", (32, 24), noise).resize((1600, 1200))
        file = BytesIO()
        picture.save(file, "JPEG", quality=92)
        query = (
            "mutation($input: UploadImageInput!) { uploadImage(input: $input) "
            "{ image { rendition(width: 640, format: JPEG) { url } } } }"
        )
        operations = json.dumps({"query": query, "variables": {"input": {"file": None}}})
        answer = post_form(
            f"http://127.0.0.1:{port}/graphql",
            {"operations": operations, "map": '{"0": ["variables.input.file"]}'},
            file.getvalue(),
        )
        url = str(answer["data"]["uploadImage"]["image"]["rendition"]["url"])
        urllib.request.urlopen(url).read()
        yield url, process.pid


def post_form(url: str, fields: dict[str, str], file: bytes) -> Any:
    edge = "edge-of-a-part"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    parts.append(
        f'--{edge}\r\nContent-Disposition: form-data; name="0"; filename="a.jpg"\r\n\r\n'.encode()
        + file
        + f"\r\n--{edge}--\r\n".encode()
    )
    headers = {
        "Content-Type": f"multipart/form-data; boundary={edge}",
        "GraphQL-Require-Preflight": "1",
    }
    request = urllib.request.Request(url, b"".join(parts), headers)
    return json.load(urllib.request.urlopen(request))


@contextmanager
def _python(program: str, path: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    with background([sys.executable, "-c", program, str(port), str(path)], {}) as process:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/picture.jpg", process.pid


@contextmanager
def _nginx(folder: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port))
    with background(["nginx", "-c", str(configuration)], {}) as process:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/picture.jpg", process.pid


if __name__ == "__main__":
    main()
