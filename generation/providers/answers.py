"""How providers are asked over HTTP, and what it means where they do not answer as they should.

A call may be paid for as soon as it has arrived, so nothing is sent twice: whoever was not reached
is told apart from whoever was, and did not say what became of it.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import BinaryIO

import aiohttp
from aiohttp.payload import Payload
from yarl import URL

from generation.errors import NotSent, OutcomeUnknown, ProviderUnavailable, Refused
from generation.provider import Charged, Event, GeneratedImage, ImageFailed
from storage.errors import LibraryError

log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 2**20
"""Bytes. The largest pictures, 4K as a PNG and in base64, have half of that."""

CHUNK = 256 * 1024
MAX_WORDS = 500
DAY = 86_400  # seconds

NOT_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
BROKEN = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to a GET or a POST, whatever its status. Names of headers are in any case."""

    method: str
    status: int
    headers: Mapping[str, str]
    media_type: str
    body: bytes

    @property
    def may_hide_a_picture(self) -> bool:
        """Whether one may have been made all the same, unless the provider itself says no.

        A machine in between answers so where it would not wait any longer, or did not understand
        what it was to pass on. What it does not let pass has reached nobody.
        """
        return self.status < 300 or self.status == 408 or self.status >= 500

    def retry_after(self, otherwise: float) -> float:
        """Seconds, where they are told as such."""
        told = self.headers.get("Retry-After", "")
        return min(float(told), DAY) if told.isdecimal() else otherwise


@asynccontextmanager
async def open_session(
    *, seconds: float, connect_seconds: float
) -> AsyncIterator[aiohttp.ClientSession]:
    """Each request has a connection of its own, and `seconds` in all.

    A kept one may be closed just as a request is sent, and nobody knows whether that was read.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=seconds, connect=connect_seconds),
        trust_env=False,
    ) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession,
    provider: str,
    method: str,
    url: URL,
    *,
    headers: Mapping[str, str],
    data: Payload | BinaryIO | None = None,
) -> Answer:
    """Follows no redirect, which would be shown our key. A POST is sent once, whatever happens.

    Raises NotSent; and where the answer is lost OutcomeUnknown, or ProviderUnavailable after a GET,
    which costs nothing.
    """
    try:
        async with session.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as answer:
            try:
                body = await _body(answer)
            except BROKEN:
                if answer.status < 400:
                    raise
                body = b""  # of a failure the status is enough
            return Answer(method, answer.status, answer.headers, answer.content_type, body)
    except NOT_CONNECTED as fault:
        log.warning("provider.unreachable provider=%s reason=%s", provider, type(fault).__name__)
        raise NotSent(f"{provider} cannot be reached.") from None
    except BROKEN as fault:
        raise unheard(provider, method, type(fault).__name__) from None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise aiohttp.ClientPayloadError("more than any picture")
    return bytes(body)


def unheard(provider: str, method: str, reason: str) -> LibraryError:
    """Whoever was asked has not told us what became of it: `reason` is for the log."""
    log.warning("provider.lost provider=%s reason=%s", provider, reason)
    if method == "GET":
        return ProviderUnavailable(f"{provider} does not answer.")
    return lost(provider)


def lost(provider: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{provider} was asked, but its answer was lost. The picture may have been paid for, so it "
        "is not asked again."
    )


def words_of(*messages: str) -> str:
    """A provider's own words, fit to be shown: in one line, and not too many."""
    said = " ".join(" ".join(messages).split())
    said = "".join(sign for sign in said if sign.isprintable())
    return said if len(said) <= MAX_WORDS else f"{said[: MAX_WORDS - 1]}…"


async def one_by_one(
    make: Callable[[int], Awaitable[bytes]], *, count: int, price: Decimal
) -> AsyncIterator[Event]:
    """Pictures of a provider that makes one at a call: `make` is given the index of each in turn.

    What is wrong with one picture leaves the others their chance; what would be wrong with all ends
    the asking. Who did not come is told last. If nobody came, the reason is raised.
    """
    failed: list[ImageFailed] = []
    end: LibraryError | None = None
    for index in range(count):
        if end is not None:
            failed.append(ImageFailed(index, end))
            continue
        try:
            data = await make(index)
        except LibraryError as failure:
            failed.append(ImageFailed(index, failure))
            if not _is_of_one_picture(failure):
                end = _for_the_rest(failure)
        else:
            yield Charged(price)
            yield GeneratedImage(index, data, progress=(index + 1) / count)
    if len(failed) == count:
        reasons = [each.reason for each in failed]
        # Who reads the reason must learn above all that there may be something to pay.
        raise next((each for each in reasons if isinstance(each, OutcomeUnknown)), reasons[0])
    for each in failed:
        yield each


def _is_of_one_picture(failure: LibraryError) -> bool:
    if isinstance(failure, Refused):
        return failure.stage == "output"  # the words were accepted
    return isinstance(failure, ProviderUnavailable) and not isinstance(failure, NotSent)


def _for_the_rest(failure: LibraryError) -> LibraryError:
    """Why the others were not asked for: for them, there is certainly nothing to pay."""
    if isinstance(failure, OutcomeUnknown):
        return NotSent("It was not asked for, since the answer about another picture was lost.")
    return failure
