"""Fetches what a stranger's URL names, from the public internet and from nowhere else.

A URL is parsed once. Its host is resolved once, every address is looked at, and the connection goes
to just those. A redirect begins all over. Whatever goes wrong is told in one sentence, so that
nobody can find out by it what there is in our own network; the reason is in the log.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from storage.errors import RateLimited, TooLarge, UnreachableUrl

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

MAX_URL = 2048
MAX_REDIRECTS = 3
MAX_NAME = 255
CONNECT_SECONDS = 5
REDIRECTS = (301, 302, 303, 307, 308)
UNKNOWN = ("application/octet-stream", "binary/octet-stream")
NAT64 = ip_network("64:ff9b::/96")
"""Where an IPv6 network without IPv4 finds the IPv4 internet; the last 32 bits are the address."""

TUNNELS: tuple[Network, ...] = (
    ip_network("::/96"),  # IPv4-compatible
    ip_network("64:ff9b:1::/48"),  # NAT64 of one's own
    ip_network("2001::/32"),  # Teredo
    ip_network("2002::/16"),  # 6to4
    ip_network("192.88.99.0/24"),  # relays of 6to4
)
"""Addresses that lead to other addresses. No picture is served from there."""


class Refused(Exception):
    """Why a URL is not fetched: for the log, and for nobody else."""


class Fetcher:
    """Opened with `async with`. `at_once` fetches at a time; `waiting` more wait for their turn.

    Addresses in `allowed_networks` may be fetched from although they are not public. If there are
    `hosts`, only those may: names, or `.example.com` for whatever is below that. Each fetch has
    `seconds` in all, and gives at most `max_bytes`.
    """

    def __init__(
        self,
        *,
        ports: Collection[int] = (80, 443),
        hosts: Collection[str] | None = None,
        allowed_networks: Sequence[Network] = (),
        seconds: float = 30,
        max_bytes: int,
        at_once: int = 4,
        waiting: int = 32,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._ports = ports
        self._hosts = hosts
        self._allowed_networks = allowed_networks
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._room = asyncio.Semaphore(at_once)
        self._places = at_once + waiting
        self._taken = 0
        self._resolver = resolver
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        resolver = _Resolver(self._resolver or ThreadedResolver(), self._allowed_networks)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=resolver, use_dns_cache=False, force_close=True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "image/*", "Accept-Encoding": "identity"},
                skip_auto_headers=("User-Agent",),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                trust_env=False,
                auto_decompress=False,
            )
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def fetch(self, url: str) -> AsyncIterator["Fetched"]:
        """What the URL names, to be read within the block.

        Raises UnreachableUrl (the reading, too), TooLarge, RateLimited.
        """
        if self._taken >= self._places:
            raise RateLimited(
                f"{self._taken} pictures are being fetched already. Try again in a few seconds.",
                retry_after=self._seconds,
            )
        self._taken += 1
        try:
            async with self._room, AsyncExitStack() as stack:
                deadline = asyncio.get_running_loop().time() + self._seconds
                host = ""
                try:
                    async with asyncio.timeout_at(deadline):
                        parsed = _parsed(url)
                        host = parsed.host or ""
                        answer = await self._answer(stack, parsed)
                        self._check(answer)
                except (Refused, aiohttp.ClientError, TimeoutError, OSError, ValueError) as fault:
                    raise _unreachable(host, fault) from None
                yield Fetched(answer, deadline, max_bytes=self._max_bytes)
        finally:
            self._taken -= 1

    async def _answer(self, stack: AsyncExitStack, url: URL) -> aiohttp.ClientResponse:
        """The last of a chain of redirects, each looked at like the first URL."""
        for _ in range(MAX_REDIRECTS + 1):
            self._check_url(url)
            answer = await self._session.get(url, allow_redirects=False)
            stack.push_async_exit(answer)
            if answer.status not in REDIRECTS:
                return answer
            if not answer.headers.get("Location"):
                raise Refused("a redirect to nowhere")
            target = url.join(_parsed(answer.headers["Location"]))
            if url.scheme == "https" and target.scheme != "https":
                raise Refused("a redirect to a line that anyone can read")
            url = target
        raise Refused(f"more than {MAX_REDIRECTS} redirects")

    def _check_url(self, url: URL) -> None:
        if url.scheme not in ("http", "https"):
            raise Refused("another scheme")
        if url.raw_user is not None or url.raw_password is not None:
            raise Refused("a user in the URL")
        if not url.host:
            raise Refused("no host")
        if url.port not in self._ports:
            raise Refused(f"port {url.port}")
        if self._hosts is not None and not is_among(url.raw_host or "", self._hosts):
            raise Refused("a host that is not on the list")
        try:
            address = ip_address(url.host.partition("%")[0])
        except ValueError:
            return  # a name, which the resolver looks at
        if not is_reachable(address, self._allowed_networks):
            raise Refused("an address that is not public")

    def _check(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status != 200:
            raise Refused(f"status {answer.status}")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused("an encoded body")
        if not answer.content_type.startswith("image/") and answer.content_type not in UNKNOWN:
            raise Refused(f"media type {answer.content_type[:100]}")
        if (answer.content_length or 0) > self._max_bytes:
            raise _too_large(self._max_bytes, answer.content_length)


class Fetched:
    """A Source: the body as it comes, within the bounds of its fetch. `filename` may be empty."""

    def __init__(self, answer: aiohttp.ClientResponse, deadline: float, *, max_bytes: int) -> None:
        self._answer = answer
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._size = 0
        name = answer.url.name
        self.filename = "".join(sign for sign in name if sign.isprintable())[-MAX_NAME:]

    async def read(self, size: int = -1, /) -> bytes:
        try:
            async with asyncio.timeout_at(self._deadline):
                chunk = await self._answer.content.read(size)
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise _unreachable(self._answer.url.host or "", fault) from None
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise _too_large(self._max_bytes, self._size)
        return chunk


class _Resolver(AbstractResolver):
    """Gives the addresses of a host if each of them may be connected to, and else none."""

    def __init__(self, resolver: AbstractResolver, allowed_networks: Sequence[Network]) -> None:
        self._resolver = resolver
        self._allowed_networks = allowed_networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            address = ip_address(result["host"].partition("%")[0])
            if not is_reachable(address, self._allowed_networks):
                raise Refused("a host with an address that is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_among(host: str, hosts: Collection[str]) -> bool:
    """Whether a host is one of these, or below one that begins with a dot. Case is no matter."""
    host = host.lower()
    return any(
        host.endswith(each) if each.startswith(".") else host == each
        for each in (name.lower() for name in hosts)
    )


def is_reachable(
    address: IPv4Address | IPv6Address, allowed_networks: Sequence[Network] = ()
) -> bool:
    """Whether an address is on the public internet, or in a network that is allowed."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif address in NAT64:
            address = IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in network for network in allowed_networks):
        return True
    if any(address in network for network in TUNNELS):
        return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_private
    )


def _parsed(url: str) -> URL:
    if len(url) > MAX_URL:
        raise Refused(f"a URL of {len(url)} characters")
    return URL(url)


def _unreachable(host: str, fault: BaseException) -> UnreachableUrl:
    reason = str(fault) if isinstance(fault, Refused) else type(fault).__name__
    log.warning("fetch.refused host=%r reason=%s", host[:MAX_NAME], reason)
    return UnreachableUrl()


def _too_large(limit: int, actual: int | None) -> TooLarge:
    return TooLarge(
        f"The picture is larger than {limit:,} bytes, the most we accept.",
        field="url",
        limit=limit,
        actual=actual,
    )
