"""Files that mean harm: each gets its verdict, in time, and the API answers meanwhile."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import hostile
from tests.end_to_end import operations as op
from tests.end_to_end.service import JSON, Service, running
from tests.pictures import opened

SECONDS = 3  # to decode one file


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("hostile")
    with running(Service(folder, DECODE_SECONDS=str(SECONDS))) as service:
        yield service


def stored_files(service: Service) -> list[Path]:
    objects = Path(service.settings["DATA_DIR"]) / "objects"
    return sorted(p for p in objects.rglob("*") if p.is_file() and not p.name.startswith("."))


async def verdict(service: Service, data: bytes, seconds: float = SECONDS) -> tuple[str, JSON]:
    """The code of the error, or OK; and the payload. No file may take longer than that."""
    began = time.monotonic()
    payload = (await service.upload(op.UPLOAD, data, "harmless.jpg"))["uploadImage"]
    assert time.monotonic() - began < seconds
    return (payload["errors"][0]["code"] if payload["errors"] else "OK"), payload


@pytest.mark.parametrize("name", hostile.LIES)
async def test_what_is_no_picture_is_refused_whatever_its_name(service: Service, name: str) -> None:
    before = stored_files(service)

    code, _ = await verdict(service, hostile.LIES[name])

    assert code == "UNSUPPORTED_MEDIA_TYPE"
    assert stored_files(service) == before


@pytest.mark.parametrize("name", hostile.BOMBS)
async def test_a_bomb_is_refused_before_it_is_decoded(service: Service, name: str) -> None:
    make, expected = hostile.BOMBS[name]
    before = stored_files(service)

    code, payload = await verdict(service, make())

    assert code == expected
    assert payload["errors"][0]["actual"] > payload["errors"][0]["limit"]
    assert stored_files(service) == before


async def test_a_file_that_holds_a_core_is_refused_and_the_api_stays_quick(tmp_path: Path) -> None:
    """As many scans as are allowed, on as many pixels: many seconds of decoding."""
    holder = hostile.scan_bomb_jpeg(side=7000, scans=85)
    with running(Service(tmp_path, DECODE_SECONDS="1")) as service:
        stop = asyncio.Event()
        probing = asyncio.create_task(_probe(service, stop))

        verdicts = await asyncio.gather(*(verdict(service, holder, 12) for _ in range(3)))
        stop.set()

        waits = sorted(await probing)
        assert {code for code, _ in verdicts} == {"INVALID"}
        assert {payload["errors"][0]["limit"] for _, payload in verdicts} == {1}
        assert waits[int(len(waits) * 0.99)] < 0.25
        assert stored_files(service) == []


@pytest.mark.parametrize("name", hostile.POLYGLOTS)
async def test_nothing_but_the_picture_comes_out(
    service: Service, name: str, tmp_path: Path
) -> None:
    code, payload = await verdict(service, hostile.POLYGLOTS[name]())

    assert code == "OK"
    links = (await service.ask(op.RENDITION, id=payload["image"]["id"], width=100))["image"]
    original = await service.fetch(links["url"])
    small = await service.fetch(links["rendition"]["url"])
    for served in (original.content, small.content):
        assert b"marker-4711" not in served
        opened(served)
    for path in stored_files(service):
        assert b"marker-4711" not in path.read_bytes()


async def test_a_file_that_was_cut_never_counts_as_a_picture(service: Service) -> None:
    before = stored_files(service)

    codes = {
        name: (await verdict(service, data))[0]
        for name, data in {"head": hostile.SIGNATURE_ALONE, **hostile.truncations()}.items()
    }

    assert set(codes.values()) == {"CORRUPT_FILE"}, codes
    assert stored_files(service) == before


async def test_no_file_of_an_upload_stays_behind(service: Service) -> None:
    arrivals = Path(service.settings["DATA_DIR"]) / "arrivals"

    assert list(arrivals.iterdir()) == []


async def _probe(service: Service, stop: asyncio.Event) -> list[float]:
    """How long `/healthz` takes, in seconds, again and again."""
    waits = []
    async with httpx.AsyncClient() as client:
        while not stop.is_set():
            began = time.perf_counter()
            response = await client.get(f"{service.url}/healthz")
            waits.append(time.perf_counter() - began)
            assert response.status_code == 200
            await asyncio.sleep(0.01)
    return waits
