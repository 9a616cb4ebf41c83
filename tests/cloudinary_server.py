"""A stand-in for Cloudinary: checks what it is sent as the real one does, and can be told to fail.

Written from the service's documentation and from what its own client sends.
"""

import asyncio
import hashlib
import tempfile
import time
from base64 import b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web

CLOUD, API_KEY, API_SECRET = "darkroom", "874837483274837", "a-secret-of-the-tests"
UNSIGNED = ("file", "api_key", "signature", "resource_type", "cloud_name")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Stored:
    file: Path
    md5: str
    created_at: datetime

    @property
    def size(self) -> int:
        return self.file.stat().st_size


class CloudinaryServer:
    """`calls` counts what was asked for. After `fail_with`, that many answers are failures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stored: dict[str, Stored] = {}
        self.calls: Counter[str] = Counter()
        self.url = ""
        self._failures: list[str] = []
        self.page = 500

    def fail_with(self, how: str, times: int = 1) -> None:
        """`how`: rate (420), html (502), error (500), hang, cut."""
        self._failures = [how] * times

    def routes(self) -> list[web.RouteDef]:
        api = f"/v1_1/{CLOUD}"
        return [
            web.post(f"{api}/raw/upload", self._guarded(self._upload)),
            web.post(f"{api}/raw/destroy", self._guarded(self._destroy)),
            web.get(f"{api}/raw/download", self._guarded(self._download)),
            web.get(f"{api}/ping", self._guarded(self._ping)),
            web.get(f"{api}/resources/raw/authenticated", self._guarded(self._list)),
            web.get(
                f"/{CLOUD}/raw/authenticated/{{signature}}/v1/{{id:.+}}",
                self._guarded(self._deliver),
            ),
        ]

    def _guarded(self, handle: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.calls[handle.__name__.strip("_")] += 1
            match self._failures.pop() if self._failures else None:
                case "rate":
                    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
                    headers = {"X-FeatureRateLimit-Reset": at}
                    return _error(420, "Rate Limit Exceeded.", headers)
                case "html":
                    return web.Response(status=502, text="<html>", content_type="text/html")
                case "error":
                    return _error(500, "General Error")
                case "hang":
                    await asyncio.sleep(60)
                case "cut":
                    assert request.transport is not None  # it is connected
                    request.transport.abort()
            return await handle(request)

        return answer

    async def _upload(self, request: web.Request) -> web.Response:
        form, file = await self._form(request)
        if refusal := _refusal(form):
            return refusal
        if file is None:
            return _error(400, "Missing required parameter - file")
        upload_id = request.headers.get("X-Unique-Upload-Id") or uuid4().hex
        unfinished = self._folder / upload_id
        unfinished.touch()
        if "Content-Range" in request.headers:
            place, _, total = request.headers["Content-Range"].removeprefix("bytes ").partition("/")
            first, last = map(int, place.split("-"))
            if first != unfinished.stat().st_size or last - first + 1 != len(file):
                return _error(400, "Invalid Content-Range")
            if last + 1 < int(total):
                _append(unfinished, file)
                return web.json_response({"done": False, "bytes": last + 1})
        _append(unfinished, file)
        id = form["public_id"]
        existing = id in self.stored and form.get("overwrite") == "0"
        if not existing:
            with unfinished.open("rb") as source:
                md5 = hashlib.file_digest(source, "md5").hexdigest()
            self.stored[id] = Stored(unfinished, md5, datetime.now(UTC))
        kept = self.stored[id]
        told: dict[str, Any] = {
            "public_id": id,
            "resource_type": "raw",
            "type": form["type"],
            "bytes": kept.size,
            "etag": kept.md5,
            "created_at": _stamp(kept),
        }
        return web.json_response(told | ({"existing": True} if existing else {}))

    async def _destroy(self, request: web.Request) -> web.Response:
        form, _ = await self._form(request)
        if refusal := _refusal(form):
            return refusal
        gone = self.stored.pop(form["public_id"], None)
        return web.json_response({"result": "ok" if gone else "not found"})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        asked = dict(request.query)
        if refusal := _refusal(asked):
            return refusal
        if int(asked["expires_at"]) < time.time():
            return _error(401, "Expired")
        kept = self.stored.get(asked["public_id"])
        return web.FileResponse(kept.file) if kept else _error(404, "Resource not found")

    async def _ping(self, request: web.Request) -> web.Response:
        return _unauthorized(request) or web.json_response({"status": "ok"})

    async def _list(self, request: web.Request) -> web.Response:
        if refusal := _unauthorized(request):
            return refusal
        prefix, after = request.query.get("prefix", ""), request.query.get("next_cursor", "")
        most = min(int(request.query["max_results"]), self.page)
        ids = [id for id in sorted(self.stored) if id.startswith(prefix) and id > after]
        told: dict[str, Any] = {
            "resources": [
                {
                    "public_id": id,
                    "bytes": self.stored[id].size,
                    "created_at": _stamp(self.stored[id]),
                }
                for id in ids[:most]
            ]
        }
        return web.json_response(told | ({"next_cursor": ids[most - 1]} if ids[most:] else {}))

    async def _deliver(self, request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        digest = hashlib.sha1(f"{id}{API_SECRET}".encode()).digest()
        expected = f"s--{urlsafe_b64encode(digest).decode()[:8]}--"
        if request.match_info["signature"] != expected:
            return web.Response(status=401, headers={"x-cld-error": "Invalid signature"})
        kept = self.stored.get(id)
        if kept is None:
            return web.Response(status=404, headers={"x-cld-error": "Resource not found"})
        return web.FileResponse(kept.file)  # ranges, too

    async def _form(self, request: web.Request) -> tuple[dict[str, str], bytes | None]:
        """Text parts first, the file last, as the service's own clients send them."""
        texts: dict[str, str] = {}
        if request.content_type != "multipart/form-data":
            return {name: str(value) for name, value in (await request.post()).items()}, None
        async for part in await request.multipart():
            assert part is not None
            assert not isinstance(part, str)  # no nested parts
            name = getattr(part, "name", None)
            if name == "file":
                return texts, bytes(await part.read())  # type: ignore[union-attr]
            texts[str(name)] = await part.text()  # type: ignore[union-attr]
        return texts, None


def _append(file: Path, part: bytes) -> None:
    with file.open("ab") as end:
        end.write(part)


def _refusal(asked: dict[str, str]) -> web.Response | None:
    """Why a signed request is not accepted."""
    signed = {name: value for name, value in asked.items() if name not in UNSIGNED and value}
    pairs = sorted(f"{name}={value.replace('&', '%26')}" for name, value in signed.items())
    text = "&".join(pairs)
    if asked.get("api_key") != API_KEY:
        return _error(401, "Unknown API key")
    if asked.get("signature") != hashlib.sha1((text + API_SECRET).encode()).hexdigest():
        return _error(
            401, f"Invalid Signature {asked.get('signature')}. String to sign - '{text}'."
        )
    if abs(time.time() - int(asked["timestamp"])) > 3600:
        return _error(400, f"Stale request - reported time is {asked['timestamp']}")
    return None


def _unauthorized(request: web.Request) -> web.Response | None:
    given = request.headers.get("Authorization", "").removeprefix("Basic ")
    if given and b64decode(given).decode() == f"{API_KEY}:{API_SECRET}":
        return None
    return _error(401, "Invalid credentials")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


def _stamp(stored: Stored) -> str:
    return stored.created_at.isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def cloudinary_server() -> AsyncIterator[CloudinaryServer]:
    folder = tempfile.TemporaryDirectory(prefix="cloudinary-")
    server = CloudinaryServer(Path(folder.name))
    app = web.Application(client_max_size=2**30)
    app.add_routes(server.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
        folder.cleanup()
