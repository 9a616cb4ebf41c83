"""What providers answer with: fetched from where it may be, and cut where it can do no harm."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from generation.errors import ProviderUnavailable
from generation.provider import Fetch, Quarter
from generation.results import Quarters, Results
from storage.containers import Bounds
from storage.decoders import Decoders
from storage.errors import CorruptFile, Rejected, TooManyPixels, UnsupportedMediaType
from storage.fetching import Fetcher
from tests.midjourney_server import grid, quadrants
from tests.pictures import jpeg, opened

SECRET = "ex=6925c1d0&is=69247050&hm=5ff1a70e"


class Pictures:
    """A server of one picture."""

    def __init__(self) -> None:
        self.picture = grid()
        self.media_type = "image/png"
        self.port = 0
        self.hits = 0

    def url(self, *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/attachments/grid.png?{SECRET}"

    async def serve(self, _: web.Request) -> web.Response:
        self.hits += 1
        return web.Response(body=self.picture, content_type=self.media_type)

    @asynccontextmanager
    async def results(
        self,
        *,
        max_bytes: int = 10**6,
        fetched: int = 10**6,
        hosts: Collection[str] = ("127.0.0.1",),
        waiting: int = 4,
    ) -> AsyncIterator[Results]:
        fetcher = Fetcher(
            ports=(self.port,),
            hosts=hosts,
            allowed_networks=(ip_network("127.0.0.0/8"),),
            seconds=5,
            max_bytes=fetched,
            at_once=1,
            waiting=waiting,
        )
        async with fetcher:
            yield Results(fetcher, max_bytes=max_bytes)


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    pictures = Pictures()
    app = web.Application()
    app.router.add_get("/{path:.*}", pictures.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pictures.port = runner.addresses[0][1]
    yield pictures
    await runner.cleanup()


# ---- fetched ----------------------------------------------------------------------------------


async def test_a_picture_is_fetched_whole(pictures: Pictures) -> None:
    pictures.picture = bytes(900_000)

    async with pictures.results() as results:
        fetch: Fetch = results
        assert await fetch(pictures.url()) == pictures.picture


def gone(pictures: Pictures) -> None:
    pictures.media_type = "text/html"


def too_large(pictures: Pictures) -> None:
    pictures.picture = bytes(2000)


@pytest.mark.parametrize("fault", [gone, too_large])
async def test_what_cannot_be_fetched_names_the_host_and_no_signature(
    fault: Callable[[Pictures], None], pictures: Pictures
) -> None:
    fault(pictures)

    async with pictures.results(max_bytes=1000) as results:
        with pytest.raises(ProviderUnavailable) as raised:
            await results(pictures.url())

    assert "127.0.0.1" in raised.value.message
    assert not [part for part in ("?", "ex=", "5ff1a70e") if part in raised.value.message]


@pytest.mark.parametrize(("max_bytes", "fetched"), [(1000, 2000), (2000, 1000)])
async def test_the_smaller_of_both_bounds_holds(
    max_bytes: int, fetched: int, pictures: Pictures
) -> None:
    async with pictures.results(max_bytes=max_bytes, fetched=fetched) as results:
        pictures.picture = bytes(1000)
        assert len(await results(pictures.url())) == 1000

        pictures.picture = bytes(1001)
        with pytest.raises(ProviderUnavailable, match="larger than we accept"):
            await results(pictures.url())


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "169.254.169.254"])
async def test_a_host_that_is_not_listed_is_not_asked(host: str, pictures: Pictures) -> None:
    async with pictures.results() as results:
        with pytest.raises(ProviderUnavailable, match=host):
            await results(pictures.url(host=host))

    assert pictures.hits == 0


@pytest.mark.parametrize("url", ["", "None", "http://[", "file:///etc/passwd", "x" * 3000])
async def test_a_url_that_is_none_is_the_providers_fault(url: str, pictures: Pictures) -> None:
    async with pictures.results() as results:
        with pytest.raises(ProviderUnavailable) as raised:
            await results(url)

    assert len(raised.value.message) < 200


async def test_too_many_fetches_are_no_limit_of_the_providers(pictures: Pictures) -> None:
    """RateLimited would mean that nothing was paid, and that the wish may be sent again."""
    async with pictures.results(waiting=0) as results:
        answers = await asyncio.gather(
            results(pictures.url()), results(pictures.url()), return_exceptions=True
        )

    assert answers[0] == pictures.picture
    assert type(answers[1]) is ProviderUnavailable
    assert answers[1].retry_after == 5


# ---- cut --------------------------------------------------------------------------------------


async def test_a_grid_is_cut_and_no_file_is_left(decoders: Decoders, tmp_path: Path) -> None:
    quarters: Quarter = Quarters(tmp_path, decoders, bounds=Bounds())

    cut = await quarters(grid())

    assert [opened(data).tobytes() for data in cut] == [each.tobytes() for each in quadrants()]
    assert {opened(data).format for data in cut} == {"PNG"}
    assert list(tmp_path.iterdir()) == []


async def test_the_systems_own_folder_will_do(decoders: Decoders) -> None:
    assert len(await Quarters(None, decoders, bounds=Bounds())(grid())) == 4


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", UnsupportedMediaType),
        (b"<html>", UnsupportedMediaType),
        (jpeg()[:3000], CorruptFile),
        (jpeg(1000, 1001), TooManyPixels),
    ],
)
async def test_what_is_no_picture_is_rejected_and_no_file_is_left(
    data: bytes, kind: type[Rejected], decoders: Decoders, tmp_path: Path
) -> None:
    quarters = Quarters(tmp_path, decoders, bounds=Bounds(max_pixels=10**6))

    with pytest.raises(kind):
        await quarters(data)

    assert list(tmp_path.iterdir()) == []


async def test_decoders_that_are_busy_are_no_limit_of_the_providers(tmp_path: Path) -> None:
    decoders = Decoders(workers=1, waiting=0, seconds=10, memory_bytes=2 * 2**30)
    quarters = Quarters(tmp_path, decoders, bounds=Bounds())

    answers = await asyncio.gather(quarters(grid()), quarters(grid()), return_exceptions=True)

    await decoders.close()
    kinds = {type(answer) for answer in answers}
    assert kinds == {list, ProviderUnavailable}
    assert list(tmp_path.iterdir()) == []
