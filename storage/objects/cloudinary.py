"""An ObjectStore in a cloud of Cloudinary.

Our exact bytes must come back, so objects are `raw` resources, whose public id is the key; and only
signed links open them, so their type is `authenticated`. Cloudinary's own library is synchronous
and keeps its settings in one global place, so we speak its protocol ourselves.

https://cloudinary.com/documentation/image_upload_api_reference
https://cloudinary.com/documentation/authentication_signatures
"""

import asyncio
import hashlib
import io
import logging
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import aiohttp
from anyio import to_thread
from yarl import URL

from storage.errors import NotFound, RateLimited, Unavailable
from storage.objects import Listed, Target
from storage.objects.keys import checked
from storage.objects.options import CloudinaryOptions

log = logging.getLogger(__name__)

CHUNK = 256 * 1024
PART = 6 * 2**20
"""Bytes that are sent at a time; what has more is sent in parts, of 5 MiB or more."""

PAGE = 500
ATTEMPTS = 3
RETRY_AFTER = 5  # seconds
CHECKED_FOR = 60
"""Seconds that a good answer to `check` holds: only 500 calls an hour of that kind are free."""


class CloudinaryObjectStore:
    """`session` is open; whoever opened it closes it."""

    def __init__(
        self, session: aiohttp.ClientSession, options: CloudinaryOptions, *, part: int = PART
    ) -> None:
        self._session = session
        self._options = options
        self._folder = f"{options.folder.strip('/')}/" if options.folder.strip("/") else ""
        self._part = part
        self._is_well_until = 0.0

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        await self._upload(key, data, overwrite=True)

    async def put_new(self, key: str, data: bytes | Path, *, media_type: str) -> bool:
        answer = await self._upload(key, data, overwrite=False)
        return not answer.get("existing", False)

    async def _upload(self, key: str, data: bytes | Path, *, overwrite: bool) -> Mapping[str, Any]:
        asked = {
            "public_id": self._public_id(key),
            "type": "authenticated",
            "overwrite": "1" if overwrite else "0",
        }
        if isinstance(data, bytes):
            size, md5 = len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()
        else:
            size, md5 = await to_thread.run_sync(_measured, data)
        upload_id = uuid4().hex
        answer: Mapping[str, Any] = {}
        for start in range(0, size or 1, self._part):
            body = await to_thread.run_sync(_read, data, start, self._part)
            headers = {}
            if size > self._part:
                last = start + len(body) - 1
                headers = {
                    "X-Unique-Upload-Id": upload_id,
                    "Content-Range": f"bytes {start}-{last}/{size}",
                }
            answer = await self._post("raw/upload", asked, body, headers)
        is_ours = overwrite or not answer.get("existing", False)
        if is_ours and (answer.get("bytes"), answer.get("etag", md5)) != (size, md5):
            raise Unavailable("The object store says that it kept other bytes. Try again.")
        return answer

    async def get(self, key: str) -> bytes:
        return b"".join([chunk async for chunk in self.stream(key)])

    async def size(self, key: str) -> int:
        async with self._fetch("HEAD", key) as answer:
            return int(answer.headers["Content-Length"])

    async def stream(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        if length == 0:
            await self.size(key)  # HTTP has no empty range
            return
        headers = {}
        if offset or length is not None:
            last = "" if length is None else offset + length - 1
            headers["Range"] = f"bytes={offset}-{last}"
        async with self._fetch("GET", key, headers) as answer:
            if answer.status == 416:
                return  # it begins after the end
            try:
                async for chunk in answer.content.iter_chunked(CHUNK):
                    yield chunk
            except (aiohttp.ClientError, TimeoutError, OSError) as fault:
                raise _unavailable(fault) from None

    async def delete(self, key: str) -> None:
        asked = {
            "public_id": self._public_id(key),
            "type": "authenticated",
            "invalidate": "1",
        }
        answer = await self._post("raw/destroy", asked)
        if answer.get("result") not in ("ok", "not found"):
            raise Unavailable("The object store did not delete. Try again in a few seconds.")

    async def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        asked = {"prefix": self._folder + prefix, "max_results": str(PAGE)}
        while True:
            page = await self._admin("resources/raw/authenticated", asked)
            for each in page["resources"]:
                written_at = datetime.fromisoformat(each["created_at"]).astimezone(UTC)
                key = each["public_id"].removeprefix(self._folder)
                yield Listed(key, each["bytes"], written_at)
            if "next_cursor" not in page:
                return
            asked["next_cursor"] = page["next_cursor"]

    async def url(self, key: str, *, expires_in: int) -> str | None:
        """From the API rather than the delivery network, whose links never end."""
        asked = {
            "public_id": self._public_id(key),
            "type": "authenticated",
            "expires_at": str(int(time.time()) + expires_in),
        }
        return f"{self._api('raw/download')}?{urlencode(self._signed(asked))}"

    async def target(
        self, key: str, *, media_type: str, size: int, sha256: str | None, expires_in: int
    ) -> Target | None:
        return None  # its uploads are forms, which promise neither a size nor a hash

    async def check(self) -> None:
        if time.monotonic() > self._is_well_until:
            await self._admin("ping", {})
            self._is_well_until = time.monotonic() + CHECKED_FOR

    async def _post(
        self,
        action: str,
        asked: Mapping[str, str],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Repeated where it fails: one key stands for the same bytes each time."""

        def form() -> aiohttp.FormData:
            form = aiohttp.FormData(self._signed(asked))
            if body is not None:
                form.add_field("file", io.BytesIO(body), filename="object")
            return form

        for left in reversed(range(ATTEMPTS)):
            try:
                async with self._session.post(
                    self._api(action), data=form(), headers=headers
                ) as answer:
                    if answer.status < 500 or not left:
                        return await self._read(answer)
            except (aiohttp.ClientError, TimeoutError, OSError) as fault:
                if not left:
                    raise _unavailable(fault) from None
            await asyncio.sleep(0.2 * (ATTEMPTS - left))
        raise AssertionError("the last attempt answers or raises")

    async def _admin(self, path: str, asked: Mapping[str, str]) -> Mapping[str, Any]:
        key, secret = self._options.api_key, self._options.api_secret.get_secret_value()
        headers = {"Authorization": aiohttp.encode_basic_auth(key, secret)}
        try:
            async with self._session.get(self._api(path), params=asked, headers=headers) as answer:
                return await self._read(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise _unavailable(fault) from None

    async def _read(self, answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
        if answer.status != 200:
            raise _refused(answer)
        try:
            told: Mapping[str, Any] = await answer.json()
        except ValueError as fault:
            raise _unavailable(fault) from None
        return told

    @asynccontextmanager
    async def _fetch(
        self, method: str, key: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An object by its signed link, which is good for as long as the object is there."""
        public_id = quote(self._public_id(key))
        secret = self._options.api_secret.get_secret_value()
        digest = hashlib.sha1(f"{public_id}{secret}".encode(), usedforsecurity=False).digest()
        signature = urlsafe_b64encode(digest).decode()[:8]
        base = f"{self._options.delivery_url}/{self._options.cloud}"
        url = URL(f"{base}/raw/authenticated/s--{signature}--/v1/{public_id}", encoded=True)
        try:
            answer = await self._session.request(method, url, headers=headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise _unavailable(fault) from None
        async with answer:
            if answer.status == 404:
                raise NotFound("object", key)
            if answer.status not in (200, 206, 416):
                raise _refused(answer)
            yield answer

    def _api(self, path: str) -> str:
        return f"{self._options.api_url}/v1_1/{self._options.cloud}/{path}"

    def _signed(self, asked: Mapping[str, str]) -> dict[str, str]:
        signed = {**asked, "timestamp": str(int(time.time()))}
        secret = self._options.api_secret.get_secret_value()
        return signed | {
            "signature": signature_of(signed, secret),
            "api_key": self._options.api_key,
        }

    def _public_id(self, key: str) -> str:
        return self._folder + checked(key)


def signature_of(asked: Mapping[str, str], secret: str) -> str:
    """SHA-1 of the parameters in order, with the secret behind them (version 2)."""
    pairs = (f"{name}={value}".replace("&", "%26") for name, value in asked.items() if value)
    text = "&".join(sorted(pairs)) + secret
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _refused(answer: aiohttp.ClientResponse) -> Unavailable:
    """Without the answer's own text, which may repeat what was signed."""
    log.warning("cloudinary.refused status=%s path=%s", answer.status, answer.url.name)
    if answer.status in (420, 429):
        return RateLimited(
            "Cloudinary takes no more calls for a while.", retry_after=_reset_in(answer)
        )
    if answer.status in (401, 403):
        return Unavailable(
            "Cloudinary refuses our key: look at DARKROOM_CLOUDINARY_API_KEY and "
            "DARKROOM_CLOUDINARY_API_SECRET."
        )
    return Unavailable(
        f"The object store does not work now ({answer.status}). Try again in a few seconds.",
        retry_after=RETRY_AFTER,
    )


def _reset_in(answer: aiohttp.ClientResponse) -> float:
    try:
        resets_at = parsedate_to_datetime(answer.headers["X-FeatureRateLimit-Reset"])
        return max(1.0, (resets_at - datetime.now(UTC)).total_seconds())
    except (KeyError, ValueError, TypeError):
        return RETRY_AFTER


def _unavailable(fault: BaseException) -> Unavailable:
    log.warning("cloudinary.unavailable reason=%s", type(fault).__name__)
    return Unavailable(
        "The object store does not answer. Try again in a few seconds.", retry_after=RETRY_AFTER
    )


def _measured(file: Path) -> tuple[int, str]:
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, lambda: hashlib.md5(usedforsecurity=False))
        return source.tell(), digest.hexdigest()


def _read(data: bytes | Path, offset: int, size: int) -> bytes:
    if isinstance(data, bytes):
        return data[offset : offset + size]
    with data.open("rb") as source:
        source.seek(offset)
        return source.read(size)


@asynccontextmanager
async def open_cloudinary(options: CloudinaryOptions) -> AsyncIterator[CloudinaryObjectStore]:
    """Raises Unavailable when the cloud does not answer, or refuses the key."""
    limits = aiohttp.ClientTimeout(
        total=None, sock_connect=options.connect_seconds, sock_read=options.read_seconds
    )
    async with aiohttp.ClientSession(timeout=limits, auto_decompress=False) as session:
        store = CloudinaryObjectStore(session, options)
        await store.check()
        yield store
