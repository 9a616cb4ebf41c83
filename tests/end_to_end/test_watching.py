"""Many who watch, and those who stop what they watch."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.service import JSON, Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Slow enough to be watched and stopped; one job of the workspace at a time."""
    folder = tmp_path_factory.mktemp("watching")
    with running(Service(folder, CARD_STAGE_SECONDS="0.3", GENERATIONS_PER_VIEWER="1")) as service:
        yield service


async def wished(service: Service, prompt: str, **input: object) -> str:
    small = {"prompt": prompt, "width": 200, "height": 200}
    answer = await service.ask(op.GENERATE, input=small | input)
    return str(answer["generateImage"]["generation"]["id"])


async def watched(service: Service, id: str, after: int | None = None) -> list[JSON]:
    async with service.watching(op.PROGRESS, id=id, after=after) as events:
        return [event["generationProgress"] async for event in events]


async def test_twenty_watchers_see_the_same_end(service: Service) -> None:
    id = await wished(service, "Twenty", count=2)

    stories = await asyncio.gather(*(watched(service, id) for _ in range(20)))

    ends = {(story[-1]["__typename"], story[-1]["sequence"]) for story in stories}
    assert len(ends) == 1
    assert stories[0][-1]["status"] == "SUCCEEDED"
    for story in stories:
        sequences = [event["sequence"] for event in story]
        assert sequences == sorted(set(sequences))
        assert len([event for event in story if "image" in event]) == 2


async def test_previews_open_while_the_picture_develops(service: Service) -> None:
    id = await wished(service, "Develops")

    previews = {event["previewUrl"] for event in await watched(service, id) if "stage" in event}

    opened = await asyncio.gather(*(service.fetch(url) for url in previews if url))
    assert len(opened) >= 2
    assert {(r.status_code, r.headers["Content-Type"]) for r in opened} == {(200, "image/jpeg")}


async def test_after_a_break_only_what_is_newer_is_told(service: Service) -> None:
    id = await wished(service, "A break", count=2)
    whole = await watched(service, id)
    seen = whole[2]["sequence"]

    rest = await watched(service, id, after=seen)

    assert all(event["sequence"] > seen for event in rest)
    images = [event["image"]["id"] for event in whole if "image" in event]
    assert [event["image"]["id"] for event in rest if "image" in event] == images
    assert rest[-1]["status"] == "SUCCEEDED"


async def test_a_running_generation_is_cancelled_and_its_watcher_told(service: Service) -> None:
    id = await wished(service, "Stop me", count=5)
    watching = asyncio.create_task(watched(service, id))
    service.running.wait_until_logged("provider.called")

    answer = await service.ask(op.CANCEL, id=id)

    assert answer["cancelGeneration"]["generation"]["status"] == "CANCELLED"
    assert (await watching)[-1]["status"] == "CANCELLED"
    found = (await service.ask(op.GENERATION, id=id))["generation"]
    await asyncio.sleep(1.5)  # the job had time to make more, were it not stopped
    assert (await service.ask(op.GENERATION, id=id))["generation"] == found


async def test_a_queued_generation_is_cancelled_and_never_starts(service: Service) -> None:
    first = await wished(service, "Goes first", count=2)
    second = await wished(service, "Never starts")

    await service.ask(op.CANCEL, id=second)
    await watched(service, first)

    found = (await service.ask(op.GENERATION, id=second))["generation"]
    assert (found["status"], found["attempts"], found["images"]) == ("CANCELLED", 0, [])


async def test_what_has_ended_stays_as_it_ended(service: Service) -> None:
    id = await wished(service, "Done")
    await watched(service, id)

    answer = await service.ask(op.CANCEL, id=id)

    assert answer["cancelGeneration"]["generation"]["status"] == "SUCCEEDED"


async def test_a_generation_that_is_not_there_is_a_clear_error(service: Service) -> None:
    ghost = "R2VuZXJhdGlvbjowMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA="

    told = [data async for name, data in service.stream(op.PROGRESS, id=ghost) if name == "next"]

    assert told[-1]["errors"][0]["extensions"]["code"] == "NOT_FOUND"
