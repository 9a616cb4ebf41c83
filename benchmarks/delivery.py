"""How fast a rendition that was made before is handed out, beside Starlette's FileResponse.

    python -m benchmarks.delivery

Starts the real service and a three-line Starlette application that serves the same bytes from a
file, and nginx where it is installed, and asks each in turn over 16 kept-alive connections. The
figure to read is the ratio: both servers, and the client, share the machine.
"""

import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

ROOT = Path(__file__).parents[1]
CONNECTIONS = 16
SECONDS = 3.0
ROUNDS = 3

FILE_RESPONSE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
app = Starlette(routes=[Route("/{name}", lambda request: FileResponse(sys.argv[2]))])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""

NGINX = """
worker_processes 1; daemon off; error_log stderr; pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(_darkroom(folder))
        bytes_ = urllib.request.urlopen(url).read()
        (folder / "picture.jpg").write_bytes(bytes_)
        servers = {
            "FileResponse": stack.enter_context(_file_response(folder / "picture.jpg")),
            "Darkroom, from memory": url,
            "Darkroom, 304": url,
        }
        if shutil.which("nginx"):
            servers["nginx"] = stack.enter_context(_nginx(folder))
        rates: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(ROUNDS):
            for name, target in servers.items():
                etag = _etag(target) if name.endswith("304") else None
                rates[name].append(asyncio.run(_rate(target, etag)))
    base = statistics.median(rates["FileResponse"])
    print(f"\n{len(bytes_):,} bytes, {CONNECTIONS} connections\n")
    print("| server | requests/s | ratio to FileResponse |\n| --- | --- | --- |")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"| {name} | {rate:,.0f} | {rate / base:.2f} |")


async def _rate(url: str, etag: str | None) -> float:
    """Requests per second over all connections."""
    parts = urlsplit(url)
    extra = f"If-None-Match: {etag}\r\n" if etag else ""
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}\r\n".encode()
    assert parts.port
    stop = time.perf_counter() + SECONDS
    counts = await asyncio.gather(
        *(_ask_until(stop, parts.port, request) for _ in range(CONNECTIONS))
    )
    return sum(counts) / SECONDS


async def _ask_until(stop: float, port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < stop:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if b" 304 " not in head[:16]:
            length = int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
        count += 1
    writer.close()
    return count


def _etag(url: str) -> str:
    return str(urllib.request.urlopen(url).headers["ETag"])


@contextmanager
def _darkroom(folder: Path) -> Iterator[str]:
    """The URL of a rendition 640 pixels wide that is in memory."""
    port = free_port()
    settings = {"DARKROOM_DATA_DIR": str(folder / "data"), "DARKROOM_PORT": str(port)}
    with _process([sys.executable, "-m", "graph", "serve"], settings):
        wait_for(port)
        noise = Random(1).randbytes(64 * 48 * 3)
        picture = Image.frombytes("RGB", (64, 48), noise).resize((1600, 1200))
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
        yield url


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
def _file_response(path: Path) -> Iterator[str]:
    port = free_port()
    with _process([sys.executable, "-c", FILE_RESPONSE, str(port), str(path)], {}):
        wait_for(port)
        yield f"http://127.0.0.1:{port}/picture.jpg"


@contextmanager
def _nginx(folder: Path) -> Iterator[str]:
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port))
    with _process(["nginx", "-c", str(configuration)], {}):
        wait_for(port)
        yield f"http://127.0.0.1:{port}/picture.jpg"


@contextmanager
def _process(command: list[str], settings: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env=os.environ | settings,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
