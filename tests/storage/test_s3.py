"""What the S3 store does when the bucket is not as it should be."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from storage.errors import NotFound, Unavailable
from storage.objects.options import S3Options
from storage.objects.s3 import PART, S3ObjectStore, open_s3
from tests.proxy import Fault, Proxy, proxy_for
from tests.seaweed import SECRET_KEY, Seaweed, find_weed

KEY = "images/4f/photo.jpg"
JPEG = "image/jpeg"


@pytest.fixture
async def proxy(seaweed: Seaweed) -> AsyncIterator[Proxy]:
    async with proxy_for(seaweed.url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy, s3_options: S3Options) -> AsyncIterator[S3ObjectStore]:
    """A store behind the proxy."""
    options = replace(s3_options, endpoint_url=proxy.url, connect_seconds=1, read_seconds=1)
    async with open_s3(options) as store:
        yield store


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"secret_access_key": SecretStr("wrong")}, "DARKROOM_S3_SECRET_ACCESS_KEY"),
        ({"access_key_id": "nobody"}, "DARKROOM_S3_ACCESS_KEY_ID"),
        ({"bucket": "no-such-bucket"}, "DARKROOM_OBJECTS_URL"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "DARKROOM_S3_ENDPOINT_URL"),
    ],
)
async def test_a_failure_at_the_start_names_the_setting(
    change: dict[str, Any], advice: str, s3_options: S3Options
) -> None:
    with pytest.raises(Unavailable) as refused:
        async with open_s3(replace(s3_options, **change)):
            pass

    assert advice in refused.value.message
    assert SECRET_KEY not in refused.value.message


async def test_the_test_at_the_start_leaves_nothing_behind(s3_options: S3Options) -> None:
    async with open_s3(s3_options) as store:
        left = [each.key async for each in store.walk()]

    assert left == []


async def test_links_are_signed_for_the_public_address(proxy: Proxy, s3_options: S3Options) -> None:
    async with open_s3(replace(s3_options, public_endpoint_url=proxy.url)) as store:
        link = await store.url(KEY, expires_in=60)

    assert link is not None
    assert link.startswith(proxy.url)


async def test_a_public_address_that_only_browsers_reach_is_no_failure(
    s3_options: S3Options, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_s3(replace(s3_options, public_endpoint_url="http://127.0.0.1:9")) as store:
        await store.check()

    assert "s3.public_endpoint_not_reached" in caplog.text


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.SILENT, Fault.DOWN])
async def test_a_server_that_fails_is_unavailable_within_the_time_outs(
    fault: Fault, proxy: Proxy, store: S3ObjectStore, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(PART + 1))
    proxy.fail(fault)
    began = time.monotonic()

    answers = await asyncio.gather(
        store.put(KEY, b"here", media_type=JPEG),
        store.put(KEY, file, media_type=JPEG),
        store.put_new(KEY, b"here", media_type=JPEG),
        store.get(KEY),
        store.size(KEY),
        store.delete(KEY),
        store.check(),
        anext(store.walk()),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [Unavailable] * 8
    assert {answer.retry_after for answer in answers if isinstance(answer, Unavailable)} <= {5}
    assert time.monotonic() - began < 20


async def test_a_server_that_comes_back_is_used_again(proxy: Proxy, store: S3ObjectStore) -> None:
    await store.put(KEY, b"here", media_type=JPEG)
    proxy.fail(Fault.DOWN)
    with pytest.raises(Unavailable):
        await store.get(KEY)

    proxy.fail(Fault.NONE)

    assert await store.get(KEY) == b"here"


async def test_what_is_cut_in_the_middle_is_not_there_and_leaves_no_parts(
    proxy: Proxy, store: S3ObjectStore, tmp_path: Path, s3_options: S3Options
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(3 * PART))
    proxy.fail(Fault.CUT, passes=PART // 2)

    with pytest.raises(Unavailable):
        await store.put(KEY, file, media_type=JPEG)

    proxy.fail(Fault.NONE)
    with pytest.raises(NotFound):
        await store.size(KEY)


async def test_a_put_that_is_cancelled_leaves_no_parts(
    proxy: Proxy, store: S3ObjectStore, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(12 * PART))

    putting = asyncio.create_task(store.put(KEY, file, media_type=JPEG))
    await asyncio.sleep(0.1)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)

    left = await store._client.list_multipart_uploads(Bucket="media")
    assert left.get("Uploads", []) == []


async def test_the_parts_of_a_put_that_died_are_dropped_when_they_are_old(
    store: S3ObjectStore,
) -> None:
    place = store._place(KEY)
    begun = await store._client.create_multipart_upload(**place)
    of = place | {"UploadId": begun["UploadId"]}
    await store._client.upload_part(**of, PartNumber=1, Body=bytes(100))

    async def left() -> int:
        listed = await store._client.list_multipart_uploads(Bucket="media")
        return len(listed.get("Uploads", []))

    await store.clear_unfinished()
    assert await left() == 1
    await store.clear_unfinished(older_than=timedelta(seconds=-1))
    assert await left() == 0


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_a_server_that_is_killed_in_mid_put_is_unavailable_and_used_again_when_it_is_back(
    tmp_path: Path, s3_options: S3Options, seaweed: Seaweed
) -> None:
    weed = find_weed()
    assert weed is not None  # the fixture has one
    folder = tmp_path / "weed"
    folder.mkdir()
    file = tmp_path / "large"
    file.write_bytes(bytes(12 * PART))
    server = Seaweed(weed, folder)
    try:
        server.start()
        server.make_bucket("media")
        async with open_s3(replace(s3_options, endpoint_url=server.url)) as store:
            await store.put("kept", b"before", media_type=JPEG)
            before = bytes_in(folder)
            putting = asyncio.create_task(store.put(KEY, file, media_type=JPEG))
            while bytes_in(folder) < before + PART // 2:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0)
            server.kill()
            (failure,) = await asyncio.gather(putting, return_exceptions=True)

            await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.make_bucket, "media")
            kept = await store.get("kept")
            await store.put(KEY, file, media_type=JPEG)
            size = await store.size(KEY)
    finally:
        server.kill()

    assert isinstance(failure, Unavailable)
    assert kept == b"before"
    assert size == 12 * PART
