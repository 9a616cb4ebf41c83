"""The short way: what it remembers, for how long, and of how much."""

import asyncio
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from graph.delivery import GIVEN, KNOWN, LONGEST, Again, Given
from storage.renditions import Served

BYTES = Served("key", "image/jpeg", 5, "tag", b"bytes")


class Gallery:
    """An application that shows one picture, and counts who comes the long way."""

    def __init__(self, *, expires_in: int = 60) -> None:
        self.served: Served | None = BYTES
        self.came = 0
        self._expires = int(time.time()) + expires_in
        self._app = Starlette(
            routes=[Route("/{path:path}", self._show)],
            middleware=[Middleware(Again, lambda place: self.served)],
        )

    async def _show(self, request: Request) -> Response:
        self.came += 1
        if request.query_params.get("signature") != "fits":
            return PlainTextResponse("No.", 403)
        request.scope[GIVEN] = Given("place", "tag", self._expires)
        return Response(b"bytes", headers={"ETag": '"tag"', "Cache-Control": "max-age=9"})

    async def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gallery") as client:
            return await client.request(method, path, headers=headers)


LINK = "/images/1/2/a.jpeg?signature=fits"


async def test_the_second_of_two_that_ask_alike_comes_by_the_short_way() -> None:
    gallery = Gallery()

    answers = [await gallery.get(LINK) for _ in range(3)]

    assert gallery.came == 1
    assert [answer.content for answer in answers] == [b"bytes"] * 3


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (LINK + "2", {}),
        (LINK + "&more=1", {}),
        (LINK.replace("/1/", "/3/"), {}),
        (LINK.replace("images", "previews"), {}),
        (LINK, {"host": "elsewhere"}),
        (LINK, {"origin": "https://elsewhere"}),
        (LINK, {"range": "bytes=0-1"}),
    ],
)
async def test_whoever_asks_otherwise_goes_the_long_way(path: str, headers: dict[str, str]) -> None:
    gallery = Gallery()
    await gallery.get(LINK)

    await gallery.get(path, **headers)

    assert gallery.came == 2


async def test_only_get_goes_the_short_way() -> None:
    gallery = Gallery()
    await gallery.get(LINK)

    await gallery.get(LINK, "HEAD")

    assert gallery.came == 2


async def test_a_refusal_is_not_remembered() -> None:
    gallery = Gallery()

    answers = [await gallery.get(LINK.replace("fits", "guessed")) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert gallery.came == 2


async def test_a_link_is_known_until_it_expires_and_tells_how_long_that_is() -> None:
    gallery = Gallery(expires_in=2)

    await gallery.get(LINK)
    short = await gallery.get(LINK)
    await asyncio.sleep(2)
    await gallery.get(LINK)

    assert short.headers["Cache-Control"] in (
        "public, max-age=2, immutable",
        "public, max-age=1, immutable",
    )
    assert gallery.came == 2


@pytest.mark.parametrize(
    "served",
    [None, Served("key", "image/jpeg", 5, "other tag", b"other")],
    ids=["gone", "other bytes"],
)
async def test_what_is_there_no_more_is_looked_for_anew(served: Served | None) -> None:
    gallery = Gallery()
    await gallery.get(LINK)

    gallery.served = served
    await gallery.get(LINK)

    assert gallery.came == 2


async def test_no_more_requests_are_remembered_than_there_is_room_for() -> None:
    gallery = Gallery()
    links = [f"{LINK}&{number}" for number in range(KNOWN + 1)]
    for link in links:
        await gallery.get(link)
    gallery.came = 0

    await gallery.get(links[-1])
    await gallery.get(links[0])

    assert gallery.came == 1


async def test_a_request_that_says_too_much_is_not_remembered() -> None:
    gallery = Gallery()

    for _ in range(2):
        await gallery.get(f"{LINK}&{'x' * LONGEST}")

    assert gallery.came == 2
