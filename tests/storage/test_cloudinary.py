"""What the Cloudinary store signs, and what it makes of the service's failures."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from storage.errors import NotFound, RateLimited, Unavailable
from storage.objects.cloudinary import CloudinaryObjectStore, open_cloudinary, signature_of
from storage.objects.options import CloudinaryOptions
from tests.cloudinary_server import API_KEY, API_SECRET, CLOUD, CloudinaryServer, cloudinary_server

KEY = "images/4f/photo.jpg"
JPEG = "image/jpeg"


@pytest.fixture
async def server() -> AsyncIterator[CloudinaryServer]:
    async with cloudinary_server() as server:
        yield server


@pytest.fixture
def options(server: CloudinaryServer) -> CloudinaryOptions:
    return CloudinaryOptions(
        cloud=CLOUD,
        folder="library",
        api_key=API_KEY,
        api_secret=SecretStr(API_SECRET),
        api_url=server.url,
        delivery_url=server.url,
        connect_seconds=1,
        read_seconds=1,
    )


@pytest.fixture
async def store(options: CloudinaryOptions) -> AsyncIterator[CloudinaryObjectStore]:
    async with open_cloudinary(options) as store:
        yield store


def test_a_signature_is_what_the_documentation_shows() -> None:
    # https://cloudinary.com/documentation/authentication_signatures, "Manual signature generation"
    asked = {
        "eager": "w_400,h_300,c_pad|w_260,h_200,c_crop",
        "public_id": "sample_image",
        "timestamp": "1315060510",
    }

    assert signature_of(asked, "abcd") == "bfd09f95f331f558cbd1320e67aa8d488770583e"


def test_an_ampersand_in_a_value_cannot_pass_for_another_parameter() -> None:
    assert signature_of({"a": "1&b=2"}, "s") != signature_of({"a": "1", "b": "2"}, "s")


async def test_objects_lie_in_the_folder_under_their_keys(
    store: CloudinaryObjectStore, server: CloudinaryServer
) -> None:
    await store.put(KEY, b"here", media_type=JPEG)

    assert list(server.stored) == [f"library/{KEY}"]


async def test_large_files_go_in_parts(
    options: CloudinaryOptions, server: CloudinaryServer, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 10)

    async with aiohttp.ClientSession() as session:
        store = CloudinaryObjectStore(session, options, part=1000)
        await store.put(KEY, file, media_type=JPEG)
        came_back = await store.get(KEY)

    assert server.calls["upload"] == 3
    assert came_back == file.read_bytes()


async def test_a_long_listing_comes_page_by_page(
    store: CloudinaryObjectStore, server: CloudinaryServer
) -> None:
    server.page = 2
    for number in range(5):
        await store.put(f"images/{number}.jpg", b"x", media_type=JPEG)

    keys = [each.key async for each in store.walk("images/")]

    assert keys == [f"images/{number}.jpg" for number in range(5)]
    assert server.calls["list"] == 3


@pytest.mark.parametrize(
    "change", [{"api_secret": SecretStr("wrong")}, {"api_key": "wrong"}], ids=["secret", "key"]
)
async def test_a_wrong_key_fails_at_the_start_and_names_the_settings(
    change: dict[str, SecretStr], options: CloudinaryOptions
) -> None:
    with pytest.raises(Unavailable) as refused:
        async with open_cloudinary(replace(options, **change)):  # type: ignore[arg-type]
            pass

    assert "DARKROOM_CLOUDINARY_API_SECRET" in refused.value.message


@pytest.mark.parametrize("how", ["html", "error", "cut"])
async def test_a_failure_that_passes_is_not_noticed(
    how: str, store: CloudinaryObjectStore, server: CloudinaryServer
) -> None:
    server.fail_with(how, times=2)

    await store.put(KEY, b"here", media_type=JPEG)

    assert server.calls["upload"] == 3
    assert await store.get(KEY) == b"here"


@pytest.mark.parametrize("how", ["html", "error", "cut", "hang"])
async def test_a_failure_that_stays_is_unavailable_within_the_time_outs(
    how: str,
    store: CloudinaryObjectStore,
    server: CloudinaryServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await store.put(KEY, b"here", media_type=JPEG)
    began = time.monotonic()

    for call in (
        lambda: store.put(KEY, b"here", media_type=JPEG),
        lambda: store.get(KEY),
        lambda: store.delete(KEY),
        lambda: anext(store.walk()),
    ):
        server.fail_with(how, times=3)
        with pytest.raises(Unavailable) as failure:
            await call()
        assert API_SECRET not in failure.value.message

    assert time.monotonic() - began < 20
    assert API_SECRET not in caplog.text


async def test_a_rate_limit_tells_when_to_come_back(
    store: CloudinaryObjectStore, server: CloudinaryServer
) -> None:
    server.fail_with("rate")

    with pytest.raises(RateLimited) as limited:
        await store.put(KEY, b"here", media_type=JPEG)

    assert limited.value.retry_after == pytest.approx(90, abs=5)
    assert server.calls["upload"] == 1


async def test_readiness_does_not_use_the_calls_up(
    store: CloudinaryObjectStore, server: CloudinaryServer
) -> None:
    for _ in range(100):
        await store.check()

    assert server.calls["ping"] == 1


async def test_a_signed_link_of_another_object_opens_nothing(
    store: CloudinaryObjectStore, options: CloudinaryOptions
) -> None:
    await store.put(KEY, b"here", media_type=JPEG)
    stranger = replace(options, api_secret=SecretStr("wrong"))

    async with aiohttp.ClientSession() as session:
        with pytest.raises(Unavailable):
            await CloudinaryObjectStore(session, stranger).get(KEY)
        with pytest.raises(NotFound):
            await CloudinaryObjectStore(session, options).get("images/4f/other.jpg")
