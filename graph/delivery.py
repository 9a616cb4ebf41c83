"""Hands out bytes by signed URL: originals, renditions and previews.

A signature binds the path and a coarse expiry. So a URL is good for one thing only, and stays the
same for a while, which lets browsers and proxies keep what they got.
"""

import hashlib
import hmac
import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from storage.errors import NotFound
from storage.models import Generation, Image
from storage.objects import ObjectStore
from storage.renditions import DIGEST, ORIGINAL, Rendition, Renditions, Served

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # the frontend may live elsewhere
}


class SignedUrls:
    """Signs with the first key and accepts all, so that keys can be replaced one by one."""

    def __init__(self, base_url: str, keys: Sequence[bytes]) -> None:
        self._base_url = base_url
        self._keys = keys

    def original(self, image: Image, expires_in: int) -> str:
        return self._sign(_image_path(image, ORIGINAL), expires_in)

    def rendition(self, image: Image, rendition: Rendition, expires_in: int) -> str:
        return self._sign(_image_path(image, rendition.spec), expires_in)

    def preview(self, generation: Generation, expires_in: int) -> str | None:
        if generation.preview_key is None:
            return None
        name = generation.preview_key.rsplit("/", 1)[1]
        return self._sign(f"/previews/{generation.id}/{name}", expires_in)

    def _sign(self, path: str, expires_in: int) -> str:
        """Good for at least `expires_in` seconds; the same URL comes out for a quarter of them."""
        window = max(60, expires_in // 4)
        expires = math.ceil((time.time() + expires_in) / window) * window
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


def _image_path(image: Image, spec: str) -> str:
    return f"/images/{image.id}/{image.sha256[:DIGEST]}/{spec}"


def _signature(key: bytes, path: str, expires: int) -> str:
    digest = hmac.new(key, f"{path}?{expires}".encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(digest[:24]).decode()


class Delivery:
    """The routes. A URL that is wrong in any way is one small 403; what is gone is a 404."""

    def __init__(self, renditions: Renditions, store: ObjectStore, urls: SignedUrls) -> None:
        self._renditions = renditions
        self._store = store
        self._urls = urls

    async def image(self, request: Request) -> Response:
        path = request.path_params
        return await self._answer(
            request, lambda: self._renditions.find(path["id"], path["digest"], path["spec"])
        )

    async def preview(self, request: Request) -> Response:
        path = request.path_params
        return await self._answer(
            request, lambda: self._renditions.preview(path["id"], path["name"])
        )

    async def _answer(self, request: Request, find: Callable[[], Awaitable[Served]]) -> Response:
        left = self._urls.expiry(request.url.path, dict(request.query_params))
        if left is None:
            return _refusal(403, "This link is not valid, or not any more. Ask for a new one.")
        try:
            served = await find()
        except NotFound:
            return _refusal(404, "The picture is gone.")
        headers = HEADERS | {
            "Cache-Control": f"public, max-age={left}, immutable",
            "ETag": f'"{served.etag}"',
            "Content-Type": served.media_type,
        }
        if f'"{served.etag}"' in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(served.byte_size)
        if request.method == "HEAD":
            return Response(headers=headers)
        return StreamingResponse(self._store.stream(served.key), headers=headers)


def _refusal(status: int, message: str) -> Response:
    return PlainTextResponse(message, status, headers={"Cache-Control": "no-store"} | HEADERS)
