"""An ObjectStore in a bucket of S3, or of anything that speaks its protocol.

https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html
"""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from anyio import to_thread
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from storage.errors import NotFound, Unavailable
from storage.failpoints import reach
from storage.objects import Listed, Target
from storage.objects.keys import checked
from storage.objects.options import S3Options

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

log = logging.getLogger(__name__)

CHUNK = 256 * 1024
PART = 8 * 2**20
"""Bytes that are sent at a time; what has more is sent in parts. S3 takes parts from 5 MiB on."""

PARTS_AT_ONCE = 2
ABANDONED = timedelta(days=1)
"""How old an unfinished put is that nobody works on any more."""

ATTEMPTS = 3
RETRY_AFTER = 5  # seconds
MISSING = {"404", "NoSuchKey", "NotFound"}
BEATEN = {"412", "PreconditionFailed"}
RACING = {"409", "ConditionalRequestConflict"}

Answer = TypeVar("Answer")


class S3ObjectStore:
    """`client` and `signer` are open; whoever opened them closes them.

    No call takes longer than `seconds`. `page` is how many keys a listing asks for at a time,
    `part` how many bytes are sent at a time.
    """

    def __init__(
        self,
        client: "S3Client",
        signer: "S3Client",
        *,
        bucket: str,
        prefix: str = "",
        seconds: float = 100,
        page: int = 1000,
        part: int = PART,
    ) -> None:
        self._client = client
        self._signer = signer
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._seconds = seconds
        self._page = page
        self._part = part

    async def put(self, key: str, data: bytes | Path, *, media_type: str) -> None:
        await self._put(key, data, media_type, {})

    async def put_new(self, key: str, data: bytes | Path, *, media_type: str) -> bool:
        while True:
            try:
                await self._put(key, data, media_type, {"IfNoneMatch": "*"})
                return True
            except _Beaten:
                return False
            except _Racing:
                await asyncio.sleep(0.1)  # another put is about to win, or to fail

    async def _put(
        self, key: str, data: bytes | Path, media_type: str, condition: dict[str, Any]
    ) -> None:
        place = self._place(key)
        if isinstance(data, Path):
            size = (await to_thread.run_sync(data.stat)).st_size
            if size > self._part:
                with _faults(key):
                    await self._put_in_parts(place, data, size, media_type, condition)
                return
            data = await to_thread.run_sync(data.read_bytes)
        with _faults(key):
            await self._call(
                self._client.put_object(**place, Body=data, ContentType=media_type, **condition)
            )

    async def _put_in_parts(
        self,
        place: dict[str, Any],
        file: Path,
        size: int,
        media_type: str,
        condition: dict[str, Any],
    ) -> None:
        creating = self._client.create_multipart_upload(**place, ContentType=media_type)
        upload = await self._call(creating)
        of = place | {"UploadId": upload["UploadId"]}
        room = asyncio.Semaphore(PARTS_AT_ONCE)

        async def send(number: int) -> Any:
            async with room:
                body = await to_thread.run_sync(_read, file, (number - 1) * self._part, self._part)
                sending = self._client.upload_part(**of, PartNumber=number, Body=body)
                sent = await self._call(sending)
                reach("object.half_written")
                checksums = {name: sent[name] for name in sent if name.startswith("Checksum")}  # type: ignore[literal-required]
                return {"PartNumber": number, "ETag": sent["ETag"]} | checksums

        try:
            count = -(-size // self._part)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(number)) for number in range(1, count + 1)]
            parts: Any = [task.result() for task in tasks]
            await self._call(
                self._client.complete_multipart_upload(
                    **of, MultipartUpload={"Parts": parts}, **condition
                )
            )
        except BaseException as fault:
            await asyncio.shield(self._abort(of))
            if isinstance(fault, BaseExceptionGroup):
                raise fault.exceptions[0] from None
            raise

    async def clear_unfinished(self, older_than: timedelta = ABANDONED) -> None:
        """Drop the parts that interrupted puts left long ago: nobody can see or use them."""
        asked: Any = {"Bucket": self._bucket, "Prefix": self._prefix}
        with _faults("the bucket"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(**asked)
            async for page in pages:
                for each in page.get("Uploads", ()):
                    if each["Initiated"] < datetime.now(UTC) - older_than:
                        place = {"Bucket": self._bucket, "Key": each["Key"]}
                        await self._abort(place | {"UploadId": each["UploadId"]})

    async def _abort(self, of: dict[str, Any]) -> None:
        """Leave no parts behind. What this misses, `clear_unfinished` finds."""
        try:
            await self._call(self._client.abort_multipart_upload(**of))
        except (BotoCoreError, ClientError, TimeoutError) as fault:
            log.warning("s3.abort_failed reason=%s", type(fault).__name__)

    async def get(self, key: str) -> bytes:
        return b"".join([chunk async for chunk in self.stream(key)])

    async def size(self, key: str) -> int:
        with _faults(key):
            head = await self._call(self._client.head_object(**self._place(key)))
            return head["ContentLength"]

    async def stream(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        place = self._place(key)
        if length == 0:
            await self.size(key)  # S3 has no empty range
            return
        if offset or length is not None:
            last = "" if length is None else offset + length - 1
            place["Range"] = f"bytes={offset}-{last}"
        with _faults(key):
            try:
                answer = await self._call(self._client.get_object(**place))
            except ClientError as fault:
                if _code(fault) in ("416", "InvalidRange"):
                    return  # it begins after the end
                raise
            async with answer["Body"] as body:
                while chunk := await body.read(CHUNK):
                    yield chunk

    async def delete(self, key: str) -> None:
        with _faults(key):
            await self._call(self._client.delete_object(**self._place(key)))

    async def walk(self, prefix: str = "") -> AsyncIterator[Listed]:
        begin = self._prefix + prefix
        with _faults(begin):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=begin, PaginationConfig={"PageSize": self._page}
            )
            async for page in pages:
                for each in page.get("Contents", ()):
                    key = each["Key"].removeprefix(self._prefix)
                    yield Listed(key, each["Size"], each["LastModified"].astimezone(UTC))

    async def url(self, key: str, *, expires_in: int) -> str | None:
        return await self._signed("get_object", self._place(key), expires_in)

    async def target(
        self, key: str, *, media_type: str, size: int, sha256: str | None, expires_in: int
    ) -> Target | None:
        asked = self._place(key) | {
            "ContentType": media_type,
            "ContentLength": size,
            "IfNoneMatch": "*",
        }
        headers = {
            "Content-Type": media_type,
            "Content-Length": str(size),
            "If-None-Match": "*",
        }
        if sha256:
            digest = b64encode(bytes.fromhex(sha256)).decode()
            asked["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = digest
        return Target("PUT", await self._signed("put_object", asked, expires_in), headers)

    async def check(self) -> None:
        with _faults("the bucket"):
            await self._call(self._client.head_bucket(Bucket=self._bucket))

    async def _signed(self, method: str, asked: dict[str, Any], expires_in: int) -> str:
        with _faults(asked["Key"]):
            return await self._signer.generate_presigned_url(
                method, Params=asked, ExpiresIn=expires_in
            )

    async def _call(self, work: Awaitable[Answer]) -> Answer:
        """The client's own limits do not hold while it waits to be told to send a body."""
        async with asyncio.timeout(self._seconds):
            return await work

    def _place(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked(key)}


@asynccontextmanager
async def open_s3(options: S3Options) -> AsyncIterator[S3ObjectStore]:
    """A store that has shown that it works. Raises Unavailable, with the setting to look at."""
    async with AsyncExitStack() as stack:
        client = await _client(stack, options, options.endpoint_url)
        signer = client
        if options.public_endpoint_url:
            signer = await _client(stack, options, options.public_endpoint_url)
        store = S3ObjectStore(
            client,
            signer,
            bucket=options.bucket,
            prefix=options.prefix,
            seconds=ATTEMPTS * (options.connect_seconds + options.read_seconds),
        )
        await _test(store, client, options)
        try:
            await store.clear_unfinished()
        except Unavailable as fault:  # a key may do all that we need, and not this
            log.warning("s3.unfinished_puts_stay reason=%s", fault)
        yield store


async def _client(stack: AsyncExitStack, options: S3Options, endpoint: str | None) -> "S3Client":
    secret = options.secret_access_key
    config = AioConfig(
        signature_version="s3v4",  # what else signs neither a length nor a condition
        s3={"addressing_style": options.addressing},
        request_checksum_calculation=options.checksums,
        response_checksum_validation=options.checksums,
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=50,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    opening: Any = get_session().create_client(
        "s3",
        region_name=options.region,
        endpoint_url=endpoint,
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=config,
    )
    client: S3Client = await stack.enter_async_context(opening)
    return client


# ---- the test at the start -----------------------------------------------------------------------

SETTINGS = {
    "NoSuchBucket": "there is no bucket {bucket}: make it, or change DARKROOM_OBJECTS_URL",
    "InvalidAccessKeyId": "the key is unknown: look at DARKROOM_S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the signature is refused: look at DARKROOM_S3_SECRET_ACCESS_KEY",
    "AuthorizationHeaderMalformed": "the region is wrong: look at DARKROOM_S3_REGION",
    "PermanentRedirect": "the bucket is elsewhere: look at DARKROOM_S3_REGION and _ENDPOINT_URL",
    "AccessDenied": "the key may not do that: let it put, get, list and delete in {bucket}",
    "InvalidRequest": "the request is refused: try DARKROOM_S3_CHECKSUMS=when_required",
    "NotImplemented": "the server cannot do that: try DARKROOM_S3_CHECKSUMS=when_required",
}


async def _test(store: S3ObjectStore, client: "S3Client", options: S3Options) -> None:
    """Put, look, fetch and put by signed links, delete: all that will be needed later."""
    key, data = f"self-test/{uuid4()}", b"Darkroom was here."
    place = store._place(key)
    await _step("put_object", options, client.put_object(**place, Body=data))
    try:
        await _step("head_object", options, client.head_object(**place))
        await _test_links(store, key, data, options)
    finally:
        await _step("delete_object", options, client.delete_object(**place))
        await _step("delete_object", options, client.delete_object(**store._place(f"{key}-2")))


async def _step(name: str, options: S3Options, work: Awaitable[Answer]) -> Answer:
    try:
        return await work
    except ClientError as fault:
        advice = SETTINGS.get(_code(fault), "the answer was {code}")
        reason = advice.format(bucket=options.bucket, code=_code(fault))
    except NoCredentialsError:
        reason = "there is no key: set DARKROOM_S3_ACCESS_KEY_ID and DARKROOM_S3_SECRET_ACCESS_KEY"
    except BotoCoreError as fault:
        reason = f"no answer ({type(fault).__name__}): look at DARKROOM_S3_ENDPOINT_URL"
    raise Unavailable(f"The object store failed its test at {name}: {reason}.")


async def _test_links(store: S3ObjectStore, key: str, data: bytes, options: S3Options) -> None:
    link = await store.url(key, expires_in=60)
    target = await store.target(
        f"{key}-2", media_type="text/plain", size=len(data), sha256=None, expires_in=60
    )
    assert link is not None  # every S3 has links
    assert target is not None
    limits = aiohttp.ClientTimeout(total=options.read_seconds, sock_connect=options.connect_seconds)
    advice = "look at DARKROOM_S3_PUBLIC_ENDPOINT_URL and DARKROOM_S3_ADDRESSING"
    try:
        async with aiohttp.ClientSession(timeout=limits) as web:
            async with web.get(link) as answer:
                got = await answer.read()
                if answer.status != 200 or got != data:
                    raise Unavailable(
                        f"The object store refuses a signed link ({answer.status}): {advice}."
                    )
            async with web.put(target.url, data=data, headers=target.headers) as answer:
                if answer.status != 200:
                    raise Unavailable(
                        f"The object store refuses a signed upload ({answer.status}): {advice}."
                    )
    except (aiohttp.ClientError, TimeoutError) as fault:
        if not options.public_endpoint_url:
            reason = type(fault).__name__
            raise Unavailable(
                f"The object store does not answer a signed link ({reason}): {advice}."
            ) from None
        # Browsers may well reach what this process does not.
        log.warning("s3.public_endpoint_not_reached reason=%s", type(fault).__name__)


# ---- faults --------------------------------------------------------------------------------------


class _Beaten(Exception):
    """Another put was first."""


class _Racing(Exception):
    """Another put is under way."""


def _code(fault: ClientError) -> str:
    return str(fault.response.get("Error", {}).get("Code", ""))


@contextmanager
def _faults(key: str) -> Iterator[None]:
    """What goes wrong as errors of ours, without an address or a signature in their messages."""
    try:
        yield
    except ClientError as fault:
        code = _code(fault)
        if code in MISSING:
            raise NotFound("object", key) from None
        if code in BEATEN:
            raise _Beaten from None
        if code in RACING:
            raise _Racing from None
        log.warning("s3.refused key=%s code=%s", key, code)
        raise Unavailable(
            f"The object store does not work now ({code}). Try again in a few seconds.",
            retry_after=RETRY_AFTER,
        ) from None
    except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as fault:
        log.warning("s3.unavailable key=%s reason=%s", key, type(fault).__name__)
        raise Unavailable(
            "The object store does not answer. Try again in a few seconds.",
            retry_after=RETRY_AFTER,
        ) from None


def _read(file: Path, offset: int, size: int) -> bytes:
    with file.open("rb") as source:
        source.seek(offset)
        return source.read(size)
