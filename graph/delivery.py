"""Hands out bytes by signed URL: originals, renditions and previews.

A signature binds the path and a coarse expiry. So a URL is good for one thing only, and stays the
same for a while, which lets browsers and proxies keep what they got.

`Delivery` looks a request through from its signature to its range. `Again` stands in front of the
whole application and gives what `Delivery` gave before to whoever asks for exactly the same.
"""

import hashlib
import hmac
import math
import re
import time
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.refusals import RETRY_AFTER
from storage.errors import NotFound, Unavailable
from storage.models import DirectUpload, Generation, Image, ImageVersion
from storage.objects import ObjectStore, Target
from storage.renditions import AUTO, DIGEST, ORIGINAL, Rendition, Renditions, Served, place_of

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # the frontend may live elsewhere
}
GIVEN = "darkroom.given"
"""Where in a request's scope its `Given` is."""
KNOWN = 4096
"""Requests whose answers can be given again; some 10 MB."""
LONGEST = 1024
"""Bytes of what such a request says; those of browsers say 300."""
PATHS = ("/images/", "/trash/")
VARYING = f".{AUTO}"


class SignedUrls:
    """Signs with the first key and accepts all, so that keys can be replaced one by one."""

    def __init__(self, base_url: str, keys: Sequence[bytes]) -> None:
        self._base_url = base_url
        self._keys = keys

    def original(self, image: Image, expires_in: int) -> str:
        return self._sign(_image_path(image, ORIGINAL), expires_in)

    def rendition(self, image: Image, rendition: Rendition, expires_in: int) -> str:
        return self._sign(_image_path(image, rendition.name), expires_in)

    def version(self, image: Image, version: ImageVersion, expires_in: int) -> str:
        return self._sign(_image_path(image, ORIGINAL, version.sha256), expires_in)

    def upload(self, upload: DirectUpload) -> Target:
        """Where this service takes an upload's bytes itself."""
        path = f"/uploads/{upload.id}"
        expires = int(upload.expires_at.timestamp())
        return Target("PUT", self._signed(path, expires), {"Content-Type": upload.media_type})

    def preview(self, generation: Generation, expires_in: int) -> str | None:
        if generation.preview_key is None:
            return None
        name = generation.preview_key.rsplit("/", 1)[1]
        return self._sign(f"/previews/{generation.id}/{name}", expires_in)

    def _sign(self, path: str, expires_in: int) -> str:
        """Good for at least `expires_in` seconds; the same URL comes out for a quarter of them."""
        window = max(60, expires_in // 4)
        return self._signed(path, math.ceil((time.time() + expires_in) / window) * window)

    def _signed(self, path: str, expires: int) -> str:
        signature = _signature(self._keys[0], path, expires)
        return f"{self._base_url}{path}?expires={expires}&signature={signature}"

    def expiry(self, path: str, query: dict[str, str]) -> int | None:
        """When the URL expires, in seconds from now. None for one that is not ours, or no more."""
        given = query.get("expires", "")
        if not (given.isascii() and given.isdigit() and len(given) <= 12):
            return None
        # Every key is tried, whichever fits, so that the time tells nothing.
        fits = [
            hmac.compare_digest(_signature(key, path, int(given)), query.get("signature", ""))
            for key in self._keys
        ]
        left = int(given) - int(time.time())
        return left if any(fits) and left > 0 else None


def _image_path(image: Image, name: str, sha256: str | None = None) -> str:
    """What is in the trash has links of its own, so that those from before it was put there end."""
    place = "images" if image.deleted_at is None else "trash"
    return f"/{place}/{image.id}/{(sha256 or image.sha256)[:DIGEST]}/{name}"


def _signature(key: bytes, path: str, expires: int) -> str:
    digest = hmac.new(key, f"{path}?{expires}".encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(digest[:24]).decode()


class Delivery:
    """The routes. A URL that is wrong in any way is one small 403; what is gone is a 404."""

    def __init__(self, renditions: Renditions, store: ObjectStore, urls: SignedUrls) -> None:
        self._renditions = renditions
        self._store = store
        self._urls = urls

    async def image(self, request: Request, *, in_trash: bool = False) -> Response:
        id, digest, name = (request.path_params[part] for part in ("id", "digest", "name"))
        accept = request.headers.get("accept", "")

        async def find() -> Served:
            served = await self._renditions.find(id, digest, name, accept=accept, in_trash=in_trash)
            place = place_of(id, digest, name, accept=accept, in_trash=in_trash)
            request.scope[GIVEN] = Given(place, served.etag, int(request.query_params["expires"]))
            return served

        return await self._answer(request, find, varies=name.endswith(VARYING))

    async def preview(self, request: Request) -> Response:
        path = request.path_params
        return await self._answer(
            request, lambda: self._renditions.preview(path["id"], path["name"])
        )

    async def _answer(
        self, request: Request, find: Callable[[], Awaitable[Served]], *, varies: bool = False
    ) -> Response:
        left = self._urls.expiry(request.url.path, dict(request.query_params))
        if left is None:
            return _refusal(403, "This link is not valid, or not any more. Ask for a new one.")
        try:
            served = await find()
        except NotFound:
            return _refusal(404, "The picture is gone.")
        except Unavailable as failure:
            return _refusal(503, failure.message, {"Retry-After": str(RETRY_AFTER)})
        headers = HEADERS | {
            "Cache-Control": _cache_control(left),
            "ETag": f'"{served.etag}"',
            "Content-Type": served.media_type,
        }
        if varies:
            headers["Vary"] = "Accept"
        if _names(request.headers.get("if-none-match", ""), served.etag):
            return Response(status_code=304, headers=headers)
        return self._whole_or_part(request, served, headers)

    def _whole_or_part(self, request: Request, served: Served, headers: dict[str, str]) -> Response:
        """https://www.rfc-editor.org/rfc/rfc9110#name-range-requests, one range of bytes."""
        status, first, last = 200, 0, served.byte_size - 1
        asked = request.headers.get("range")
        condition = request.headers.get("if-range")
        if asked and (condition is None or _names(condition, served.etag)):
            part = _range(asked, served.byte_size)
            if part is None:
                return _refusal(
                    416,
                    "Ask for one range of bytes that the picture has.",
                    {"Content-Range": f"bytes */{served.byte_size}"},
                )
            status, (first, last) = 206, part
            headers["Content-Range"] = f"bytes {first}-{last}/{served.byte_size}"
        headers["Accept-Ranges"] = "bytes"
        headers["Content-Length"] = str(last - first + 1)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        if served.data is not None:
            return Response(served.data[first : last + 1], status, headers)
        stream = self._store.stream(served.key, first, last - first + 1)
        return StreamingResponse(stream, status, headers)


@dataclass(frozen=True, slots=True)
class Given:
    """What an answer depends on, beside the request: the bytes at a place, until then.

    `expires` is the URL's, in seconds since 1970. The headers are those of a 200 and a 304 as they
    left, but for the age that caches may keep them to.
    """

    place: str
    etag: str
    expires: int
    headers: Sequence[tuple[bytes, bytes]] = ()
    headers_unchanged: Sequence[tuple[bytes, bytes]] = ()


Asked = tuple[str, bytes, bytes | None, bytes | None, bytes | None]


class Again:
    """Gives an answer again, before routes and other middleware see the request.

    It knows which requests were answered with a whole file: those to which every middleware said
    yes, and whose signature fits. Of them it looks again each time at what may have changed since:
    whether the URL has expired, and whether the picture is still there. All other requests, and
    what is not at hand, go the long way.
    """

    def __init__(self, app: ASGIApp, at_hand: Callable[[str], Served | None]) -> None:
        self._app = app
        self._at_hand = at_hand
        self._given: OrderedDict[Asked, Given] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path = scope["path"]
            headers = dict(reversed(scope["headers"]))  # of several of one name, the first
            if path.startswith(PATHS) and b"range" not in headers:
                asked = (
                    path,
                    scope["query_string"],
                    headers.get(b"host"),
                    headers.get(b"origin"),
                    headers.get(b"accept") if path.endswith(VARYING) else None,
                )
                if await self._give(asked, headers.get(b"if-none-match"), send):
                    return
                send = self._remembering(asked, scope, send)
        await self._app(scope, receive, send)

    async def _give(self, asked: Asked, condition: bytes | None, send: Send) -> bool:
        given = self._given.get(asked)
        if given is None:
            return False
        left = given.expires - int(time.time())
        served = self._at_hand(given.place) if left > 0 else None
        if served is None or served.data is None or served.etag != given.etag:
            return False
        self._given.move_to_end(asked)
        status, headers, body = 200, given.headers, served.data
        if condition is not None and _names(condition.decode("latin-1"), given.etag):
            status, headers, body = 304, given.headers_unchanged, b""
        headers = [*headers, _age(left)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True

    def _remembering(self, asked: Asked, scope: Scope, send: Send) -> Send:
        async def remember_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self._remember(asked, scope.get(GIVEN), message["headers"])
            await send(message)

        return remember_and_send

    def _remember(
        self, asked: Asked, given: Given | None, headers: Sequence[tuple[bytes, bytes]]
    ) -> None:
        if given is None or sum(len(each or b"") for each in asked) > LONGEST:
            return
        same = [header for header in headers if header[0] != b"cache-control"]
        of_bytes = (b"content-length", b"accept-ranges")
        self._given[asked] = replace(
            given,
            headers=same,
            headers_unchanged=[header for header in same if header[0] not in of_bytes],
        )
        if len(self._given) > KNOWN:
            self._given.popitem(last=False)


@lru_cache
def _age(left: int) -> tuple[bytes, bytes]:
    return b"cache-control", _cache_control(left).encode()


def _cache_control(left: int) -> str:
    return f"public, max-age={left}, immutable"


def _names(tags: str, etag: str) -> bool:
    """Whether a list of entity tags names this one."""
    given = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
    return "*" in given or f'"{etag}"' in given


def _range(header: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte that are asked for; None where there are none, or more ranges."""
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", header.strip())
    if not found or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:  # the last so many
        first, last = str(max(0, size - int(last))), ""
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    return (start, end) if start <= end else None


def _refusal(status: int, message: str, more: dict[str, str] | None = None) -> Response:
    headers = HEADERS | {"Cache-Control": "no-store"} | (more or {})
    return PlainTextResponse(message, status, headers=headers)
