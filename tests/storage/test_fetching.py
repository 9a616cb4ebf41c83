"""Fetching what strangers' URLs name: never from our own network, and always within bounds."""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import LibraryError, RateLimited, TooLarge, UnreachableUrl
from storage.fetching import MAX_REDIRECTS, Fetcher, is_reachable

HERE = (ip_network("127.0.0.0/8"),)
PICTURE = b"\xff\xd8 as good as a picture"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Names(AbstractResolver):
    """A resolver that knows these names, each with the addresses it gives in turn."""

    def __init__(self, **known: list[list[str]]) -> None:
        self._known = known
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        turns = self._known.get(host.replace(".", "_").replace("-", "_"))
        if turns is None:
            raise OSError(f"no such host: {host}")
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class Server:
    """A web server that keeps its requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.hits: list[web.Request] = []

    def url(self, path: str = "/picture.jpg", *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@asynccontextmanager
async def serving(
    handler: Handler, *, on: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(0)

    async def count(request: web.Request) -> web.StreamResponse:
        server.hits.append(request)
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", count)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, on, 0, ssl_context=tls).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


async def picture(_: web.Request) -> web.Response:
    return web.Response(body=PICTURE, content_type="image/jpeg")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(picture) as server:
        yield server


def fetcher_for(server: Server, **options: object) -> Fetcher:
    """One that may fetch from this server."""
    known: dict[str, object] = {
        "ports": (server.port,),
        "allowed_networks": HERE,
        "seconds": 5,
        "max_bytes": 1000,
    }
    return Fetcher(**(known | options))  # type: ignore[arg-type]  # as the test says


async def fetched(fetcher: Fetcher, url: str) -> bytes:
    async with fetcher, fetcher.fetch(url) as source:
        data = b""
        while chunk := await source.read(64):
            data += chunk
        return data


# ---- what may be fetched ----------------------------------------------------------------------


async def test_a_picture_is_fetched_and_named_after_its_url(server: Server) -> None:
    async with (
        fetcher_for(server) as fetcher,
        fetcher.fetch(server.url("/a/b/sea%20side.jpg?x=1")) as source,
    ):
        assert source.filename == "sea side.jpg"
        assert await source.read() == PICTURE


async def test_we_say_nothing_of_ourselves_and_ask_for_what_we_can_use(server: Server) -> None:
    await fetched(fetcher_for(server), server.url())

    (request,) = server.hits
    assert request.headers["Accept"] == "image/*"
    assert request.headers["Accept-Encoding"] == "identity"
    assert not {"User-Agent", "Cookie", "Authorization", "Referer"} & set(request.headers)


async def test_a_name_is_resolved_once_and_its_address_connected_to(server: Server) -> None:
    names = Names(pictures_example=[["127.0.0.1"], ["203.0.113.1"]])

    url = server.url(host="pictures.example")
    assert await fetched(fetcher_for(server, resolver=names), url) == PICTURE

    assert names.asked == ["pictures.example"]
    assert server.hits[0].headers["Host"] == f"pictures.example:{server.port}"


async def test_https_is_verified() -> None:
    authority = trustme.CA()
    known = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pictures.example").configure_cert(known)
    names = Names(pictures_example=[["127.0.0.1"]])

    async with serving(picture, tls=known) as server:
        url = server.url(host="pictures.example").replace("http:", "https:")
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher_for(server, resolver=names), url)

    assert server.hits == []


@pytest.mark.parametrize("hops", range(MAX_REDIRECTS + 1))
async def test_a_few_redirects_are_followed(hops: int) -> None:
    async def hop(request: web.Request) -> web.StreamResponse:
        left = int(request.match_info["path"])
        if left:
            return web.Response(status=302, headers={"Location": f"/{left - 1}"})
        return await picture(request)

    async with serving(hop) as server:
        assert await fetched(fetcher_for(server), server.url(f"/{hops}")) == PICTURE


@pytest.mark.parametrize("content_type", ["application/octet-stream", "binary/octet-stream"])
async def test_what_a_server_does_not_know_the_type_of_is_fetched(content_type: str) -> None:
    async def unknown(_: web.Request) -> web.Response:
        return web.Response(body=PICTURE, content_type=content_type)

    async with serving(unknown) as server:
        assert await fetched(fetcher_for(server), server.url()) == PICTURE


# ---- where nobody may go ----------------------------------------------------------------------

HOSTILE_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[ff02::1]",
    "[fec0::1]",
    "[2001:db8::1]",
    "[100::1]",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "[fd00:ec2::254]",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "localhost.localdomain",
    "ip6-localhost",
    "private.example",
    "mapped.example",
    "mixed.example",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127%2e0%2e0%2e1",
    "%31%32%37.0.0.1",
    "nobody-knows.example",
]
HOSTILE_URLS = [
    "",
    " ",
    "picture.jpg",
    "//127.0.0.1:{port}/",
    "http:",
    "http://",
    "http:///picture.jpg",
    "http:127.0.0.1:{port}",
    "file:///etc/passwd",
    "file://127.0.0.1:{port}/etc/passwd",
    "ftp://127.0.0.1:{port}/picture.jpg",
    "gopher://127.0.0.1:{port}/_GET",
    "dict://127.0.0.1:{port}/info",
    "data:image/png;base64,iVBORw0KGgo=",
    "jar:http://127.0.0.1:{port}!/",
    "unix:///var/run/docker.sock",
    "javascript:alert(1)",
    "ws://127.0.0.1:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://user:secret@public.example:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://public.example@127.0.0.1:{port}/",
    "http://public.example:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@public.example/",
    "http://127.0.0.1:{port}?@public.example/",
    "http://127.0.0.1:{port}\\@public.example/",
    "http://public.example\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}%00.public.example/",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1:{port}\r\nHost: public.example/",
    "\nhttp://127.0.0.1:{port}/",
    "http://[::1:{port}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:{port}x/",
    "http://public.example:22/",
    "http://public.example:6379/",
    "https://public.example:5432/",
    "http://public.example:0/",
    "http://127.0.0.1:{port}/" + "a" * 3000,
]


@pytest.mark.parametrize(
    "url", [f"http://{host}:{{port}}/picture.jpg" for host in HOSTILE_HOSTS] + HOSTILE_URLS
)
async def test_no_url_reaches_our_own_network_and_all_refusals_look_alike(
    url: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names(
        localhost=[["127.0.0.1"]],
        LOCALHOST=[["127.0.0.1"]],
        localhost_=[["127.0.0.1"]],
        localhost_localdomain=[["127.0.0.1"]],
        ip6_localhost=[["::1"]],
        private_example=[["10.0.0.7"]],
        mapped_example=[["::ffff:127.0.0.1"]],
        mixed_example=[["8.8.8.8", "127.0.0.1"]],
    )
    caplog.set_level(logging.INFO)

    with pytest.raises(UnreachableUrl) as refused:
        await fetched(
            Fetcher(ports=(server.port,), seconds=2, max_bytes=1000, resolver=names),
            url.replace("{port}", str(server.port)),
        )

    assert server.hits == []
    assert str(refused.value) == str(UnreachableUrl())
    assert refused.value.__cause__ is None
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{canary}/",
        "//127.0.0.1:{canary}/",
        "http://[::ffff:127.0.0.1]:{canary}/",
        "http://2130706433:{canary}/",
        "http://private.example:{canary}/",
        "file:///etc/passwd",
        "http://user@127.0.0.1:{canary}/",
        "",
    ],
)
async def test_a_redirect_is_looked_at_like_the_first_url(target: str, server: Server) -> None:
    """The first server is as public as one on this machine can be; the canary is not."""

    async def elsewhere(_: web.Request) -> web.Response:
        headers = {"Location": target.replace("{canary}", str(server.port))}
        return web.Response(status=302, headers=headers)

    public = "127.0.0.2"
    names = Names(public_example=[[public]], private_example=[["127.0.0.1"]])
    async with serving(elsewhere, on=public) as first:
        fetcher = Fetcher(
            ports=(first.port, server.port),
            allowed_networks=[ip_network(f"{public}/32")],
            seconds=2,
            max_bytes=1000,
            resolver=names,
        )
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher, first.url(host="public.example"))

    assert len(first.hits) == 1
    assert server.hits == []


async def test_a_name_that_changes_its_address_is_looked_at_each_time(server: Server) -> None:
    """DNS rebinding: a public address for the check, ours for the connection."""
    names = Names(rebinding_example=[["127.0.0.2"], ["127.0.0.1"]])

    async def again(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/again"})

    async with serving(again, on="127.0.0.2") as first:
        fetcher = Fetcher(
            ports=(first.port, server.port),
            allowed_networks=[ip_network("127.0.0.2/32")],
            seconds=2,
            max_bytes=1000,
            resolver=names,
        )
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher, first.url(host="rebinding.example"))

    assert names.asked == ["rebinding.example"] * 2
    assert server.hits == []


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("pictures.example", {"pictures.example"}),
        ("PICTURES.example", {"other.example", "Pictures.Example"}),
        ("a.pictures.example", {".pictures.example"}),
        ("a.b.pictures.example", {".Pictures.example"}),
        ("127.0.0.1", {"127.0.0.1"}),
    ],
)
async def test_a_host_on_the_list_is_fetched_from(
    host: str, hosts: Collection[str], server: Server
) -> None:
    names = Names(
        pictures_example=[["127.0.0.1"]],
        a_pictures_example=[["127.0.0.1"]],
        a_b_pictures_example=[["127.0.0.1"]],
    )
    fetcher = fetcher_for(server, hosts=hosts, resolver=names)

    assert await fetched(fetcher, server.url(host=host)) == PICTURE


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("pictures.example", set()),
        ("pictures.example", {"other.example"}),
        ("pictures.example", {".pictures.example"}),
        ("evilpictures.example", {"pictures.example", ".pictures.example"}),
        ("pictures.example.evil.example", {"pictures.example", ".pictures.example"}),
        ("a.pictures.example", {"pictures.example"}),
        ("127.0.0.1", {"pictures.example", "127.0.0.2"}),
    ],
)
async def test_a_host_that_is_not_on_the_list_is_not_even_asked_for_its_address(
    host: str, hosts: Collection[str], server: Server
) -> None:
    names = Names(**{host.replace(".", "_"): [["127.0.0.1"]]})
    fetcher = fetcher_for(server, hosts=hosts, resolver=names)

    with pytest.raises(UnreachableUrl):
        await fetched(fetcher, server.url(host=host))

    assert (names.asked, server.hits) == ([], [])


async def test_a_host_on_the_list_must_be_public_all_the_same(server: Server) -> None:
    names = Names(pictures_example=[["127.0.0.1"]])
    fetcher = fetcher_for(server, hosts={"pictures.example"}, allowed_networks=(), resolver=names)

    with pytest.raises(UnreachableUrl):
        await fetched(fetcher, server.url(host="pictures.example"))

    assert server.hits == []


async def test_a_redirect_leads_no_further_than_the_list(server: Server) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": server.url(host="other.example")})

    names = Names(pictures_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    async with serving(elsewhere) as first:
        fetcher = fetcher_for(
            server, ports=(first.port, server.port), hosts={"pictures.example"}, resolver=names
        )
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher, first.url(host="pictures.example"))

    assert (len(first.hits), names.asked) == (1, ["pictures.example"])
    assert server.hits == []


@given(st.ip_addresses())
def test_a_mapped_address_is_as_reachable_as_what_it_stands_for(address: object) -> None:
    plain = ip_address(str(address))
    if plain.version == 4:
        assert is_reachable(ip_address(f"::ffff:{plain}")) == is_reachable(plain)
        assert is_reachable(ip_address(f"64:ff9b::{plain}")) == is_reachable(plain)
    assert not (is_reachable(plain) and plain.is_private)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_reachable(ip_address(address))


# ---- bounds -----------------------------------------------------------------------------------


async def test_more_redirects_than_a_few_are_refused() -> None:
    async def round_and_round(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/on"})

    async with serving(round_and_round) as server:
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher_for(server), server.url())

    assert len(server.hits) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (404, {"Content-Type": "image/jpeg"}),
        (204, {}),
        (206, {"Content-Type": "image/jpeg"}),
        (500, {"Content-Type": "image/jpeg"}),
        (200, {"Content-Type": "text/html"}),
        (200, {"Content-Type": "application/json"}),
        (200, {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}),
        (200, {"Content-Type": "image/jpeg", "Content-Encoding": "br"}),
        (302, {}),
    ],
)
async def test_only_a_plain_answer_with_a_picture_is_taken(
    status: int, headers: Mapping[str, str]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=PICTURE if status != 204 else None)

    async with serving(answer) as server:
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher_for(server), server.url())


async def test_a_picture_that_says_it_is_too_large_is_not_read(server: Server) -> None:
    with pytest.raises(TooLarge) as refused:
        await fetched(fetcher_for(server, max_bytes=10), server.url())

    assert (refused.value.limit, refused.value.actual) == (10, len(PICTURE))


async def test_a_picture_that_does_not_end_is_given_up_at_its_bound() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await answer.prepare(request)
        while True:
            await answer.write(bytes(1000))
            sent += 1000

    async with serving(endless) as server:
        with pytest.raises(TooLarge):
            await fetched(fetcher_for(server, max_bytes=100_000), server.url())

    assert sent < 10**8


async def test_a_server_that_dawdles_is_given_up_in_time() -> None:
    async def drops(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await answer.prepare(request)
        while True:
            await answer.write(b"x")
            await asyncio.sleep(0.05)

    async with serving(drops) as server:
        with pytest.raises(UnreachableUrl):
            async with asyncio.timeout(5):
                await fetched(fetcher_for(server, seconds=0.5), server.url())


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    async def silence(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(silence) as server:
        with pytest.raises(UnreachableUrl):
            async with asyncio.timeout(5):
                await fetched(fetcher_for(server, seconds=0.3), server.url())


async def test_a_body_that_breaks_off_is_unreachable() -> None:
    async def breaks_off(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        answer.content_length = 500
        await answer.prepare(request)
        await answer.write(b"x")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with serving(breaks_off) as server:
        with pytest.raises(UnreachableUrl):
            await fetched(fetcher_for(server), server.url())


async def test_fetches_wait_for_their_turn_and_beyond_that_are_told_to_come_again() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()
    at_once, most = 0, 0

    async def slowly(request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        arrived.set()
        await go_on.wait()
        at_once -= 1
        return await picture(request)

    async def one(fetcher: Fetcher, url: str) -> bytes | LibraryError:
        try:
            async with fetcher.fetch(url) as source:
                return await source.read()
        except LibraryError as failure:
            return failure

    async with serving(slowly) as server, fetcher_for(server, at_once=2, waiting=3) as fetcher:
        tasks = [asyncio.create_task(one(fetcher, server.url())) for _ in range(8)]
        await arrived.wait()
        go_on.set()
        answers = await asyncio.gather(*tasks)
        again = await one(fetcher, server.url())

    refused = [answer for answer in answers if isinstance(answer, RateLimited)]
    assert len(refused) == 3
    assert all(answer.retry_after for answer in refused)
    assert [answer for answer in answers if answer == PICTURE] == [PICTURE] * 5
    assert again == PICTURE
    assert most == 2


async def test_why_is_in_the_log_and_nowhere_else(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnreachableUrl):
        await fetched(Fetcher(ports=(server.port,), max_bytes=10), server.url())

    assert re.search(r"fetch.refused host='127.0.0.1' reason=an address", caplog.text)
