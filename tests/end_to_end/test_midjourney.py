"""Midjourney through the whole service: its previews are seen, and its tasks can be cancelled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from generation.reception import SECONDS_BETWEEN_REPORTS
from storage.marks import Mark
from tests import midjourney_server
from tests.end_to_end import operations as op
from tests.end_to_end.service import Service
from tests.midjourney_server import MidjourneyServer, Step, blurred, grid
from tests.pictures import opened
from tests.storage.test_marks import mark_in

WISH = {"prompt": "A harbour", "provider": "midjourney", "width": 1024, "height": 1024}
POLL_SECONDS = 0.05


@pytest.fixture
async def proxy() -> AsyncIterator[MidjourneyServer]:
    async with midjourney_server.midjourney_server("csharp") as server:
        yield server


@pytest.fixture
async def service(proxy: MidjourneyServer, tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(
        tmp_path,
        MIDJOURNEY_BASE_URL=proxy.url,
        MIDJOURNEY_SECRET=midjourney_server.SECRET,
        MIDJOURNEY_TERMS_ACKNOWLEDGED="true",
        MIDJOURNEY_POLL_SECONDS=str(POLL_SECONDS),
    )
    try:
        await asyncio.to_thread(service.start)
        yield service
    finally:
        service.stop()


async def wished(service: Service, **more: object) -> str:
    answer = (await service.ask(op.WISH, input=WISH | more))["generateImage"]
    assert answer["errors"] == []
    return str(answer["generation"]["id"])


async def test_each_preview_of_a_task_is_seen_before_its_picture(
    service: Service, proxy: MidjourneyServer
) -> None:
    polls = int(3 * SECONDS_BETWEEN_REPORTS / POLL_SECONDS)
    proxy.script = [
        Step("SUBMITTED", "0%"),
        *[Step("IN_PROGRESS", "31%", blurred(11))] * polls,
        *[Step("IN_PROGRESS", "62%", blurred(12))] * polls,
        Step("SUCCESS", "100%", grid()),
    ]
    id = await wished(service)
    shown: dict[str, bytes] = {}
    progress: list[float] = []

    async with service.watching(op.PROGRESS, id=id) as events:
        async for event in events:
            told = event["generationProgress"]
            if url := told.get("previewUrl"):
                shown.setdefault(urlsplit(url).path, (await service.fetch(url)).content)
                progress.append(told["progress"])

    assert [opened(each).size for each in shown.values()] == [(12, 15)] * 2  # quarters of 24 x 30
    assert {mark_in(each) for each in shown.values()} == {Mark.TRAINED.uri}
    assert progress == sorted(progress)
    assert {0.2945, 0.589} <= set(progress)
    assert told["status"] == "SUCCEEDED"


async def test_of_four_pictures_a_preview_is_seen_too(
    service: Service, proxy: MidjourneyServer
) -> None:
    proxy.script = [
        Step("IN_PROGRESS", "31%", blurred(11)),
        *[Step("IN_PROGRESS", "31%", blurred(11))] * 20,
        Step("SUCCESS", "100%", grid()),
    ]
    id = await wished(service, count=4)

    events = await service.watched(op.PROGRESS, id=id)

    urls = {event["previewUrl"] for event in events if event.get("previewUrl")}
    assert urls
    assert {(await service.fetch(url)).status_code for url in urls} == {200}
    assert len([event for event in events if event["__typename"] == "GenerationImageReady"]) == 4


async def test_a_task_is_cancelled_at_the_proxy_when_its_viewer_cancels(
    service: Service, proxy: MidjourneyServer
) -> None:
    proxy.script = [Step("IN_PROGRESS", "31%")]
    id = await wished(service)
    await asyncio.wait_for(proxy.is_polled.wait(), 10)

    await service.ask(op.CANCEL, id=id)
    await asyncio.sleep(3)  # the engine looks once a second

    assert proxy.cancels == list(proxy.tasks)
    row = (await service.ask(op.RECIPE_OF, id=id))["generation"]
    assert (row["status"], row["images"]) == ("CANCELLED", [])
