"""Killed at any moment, nothing that was acknowledged is lost, and nothing is paid for twice."""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.service import JSON, Service
from tests.pictures import jpeg


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """One job at a time, slow enough to be killed in its middle."""
    service = Service(tmp_path, CARD_STAGE_SECONDS="0.4", GENERATIONS_PER_VIEWER="1")
    yield service.start()
    service.stop()


async def test_a_generation_that_was_killed_ends_honestly_and_calls_the_provider_once(
    service: Service,
) -> None:
    upload = await service.upload(op.UPLOAD, jpeg())
    wish = {"prompt": "Half done", "count": 2, "width": 200, "height": 200}
    generation = (await service.ask(op.GENERATE, input=wish))["generateImage"]["generation"]
    arrived = await _first_image(service, generation["id"])

    service.running.kill()
    service.start()

    events = await _watched(service, generation["id"])
    assert events[-1]["status"] == "FAILED"
    assert events[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"
    assert [image["id"] for image in events[-1]["generation"]["images"]] == [arrived]
    assert _calls(service, generation["id"]) == 1
    images = (await service.ask(op.IMAGES))["images"]
    assert {node["id"] for node in images["nodes"]} == {
        upload["uploadImage"]["image"]["id"],
        arrived,
    }
    for id in (upload["uploadImage"]["image"]["id"], arrived):
        links = (await service.ask(op.RENDITION, id=id, width=50))["image"]
        assert httpx.get(links["url"]).status_code == 200


async def test_a_generation_that_was_still_queued_is_made_after_the_restart(
    service: Service,
) -> None:
    small = {"width": 200, "height": 200}
    wishes = [
        (await service.ask(op.GENERATE, input={"prompt": words, **small}))["generateImage"]
        for words in ("The one", "The other")
    ]
    ids = [str(wish["generation"]["id"]) for wish in wishes]
    service.running.wait_until_logged("provider.called")

    service.running.kill()
    (queued,) = [id for id in ids if _calls(service, id) == 0]  # whichever had not begun
    service.start()

    ended = await _watched(service, queued)
    assert ended[-1]["status"] == "SUCCEEDED", ended[-1]
    assert [_calls(service, id) for id in ids] == [1, 1]


async def test_sigterm_lets_a_running_generation_finish_and_ends_open_streams(
    service: Service,
) -> None:
    wish = {"prompt": "Nearly there", "width": 200, "height": 200}
    generation = (await service.ask(op.GENERATE, input=wish))["generateImage"]["generation"]
    stream = service.stream(op.PROGRESS, id=generation["id"])
    await anext(stream)
    service.running.wait_until_logged("provider.called")

    code = service.running.terminate(seconds=15)

    assert code == 0
    assert [name async for name, _ in stream][-1] == "complete"
    service.start()
    ended = (await service.ask(op.GENERATION, id=generation["id"]))["generation"]
    assert ended["status"] == "SUCCEEDED"
    assert ended["attempts"] == 1


async def test_sigterm_does_not_wait_for_work_beyond_its_time(tmp_path: Path) -> None:
    service = Service(tmp_path, CARD_STAGE_SECONDS="30", DRAIN_SECONDS="1")
    try:
        service.start()
        answer = await service.ask(op.GENERATE, input={"prompt": "Too long"})
        id = answer["generateImage"]["generation"]["id"]
        service.running.wait_until_logged("provider.called")

        code = service.running.terminate(seconds=10)

        assert code == 0
        service.start()
        ended = await _watched(service, id)
        assert ended[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"
        assert _calls(service, id) == 1
    finally:
        service.stop()


async def test_a_second_service_on_the_same_data_refuses_to_start(service: Service) -> None:
    second = Service(service.folder, DATA_DIR=service.settings["DATA_DIR"])

    refused = second.run("serve")

    assert refused.returncode == 2
    assert "Another Darkroom already serves" in refused.stderr


async def _first_image(service: Service, id: str) -> str:
    async with service.watching(op.PROGRESS, id=id) as events:
        async for event in events:
            if image := event["generationProgress"].get("image"):
                return str(image["id"])
    raise AssertionError("no image came")


async def _watched(service: Service, id: str) -> list[JSON]:
    async with service.watching(op.PROGRESS, id=id) as events:
        return [event["generationProgress"] async for event in events]


def _calls(service: Service, id: str) -> int:
    """How often the provider was called, over all lives of the service."""
    lines = service.log.read_text().splitlines()
    raw = _uuid(id)
    return sum(f"provider.called generation_id={raw}" in line for line in lines)


def _uuid(id: str) -> str:
    return b64decode(id).decode().partition(":")[2]
