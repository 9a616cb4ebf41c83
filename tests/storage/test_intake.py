"""The way in: spooled, hashed and examined within bounds, and nothing is left behind."""

import asyncio
import hashlib
from io import BytesIO
from pathlib import Path

import pytest

from storage.containers import Bounds
from storage.decoders import Decoders
from storage.errors import CorruptFile, Rejected, TooLarge, TooManyPixels, UnsupportedMediaType
from storage.intake import CHUNK, Arrival, Intake, Source
from tests.hostile import POLYGLOTS
from tests.pictures import jpeg, opened, png, scan_bomb

MAX_BYTES = 2 * 10**6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "arrivals"
    folder.mkdir()
    return folder


@pytest.fixture
def intake(folder: Path, decoders: Decoders) -> Intake:
    return Intake(folder, decoders, max_bytes=MAX_BYTES, bounds=Bounds(max_pixels=10**6))


class Upload:
    """A Source that counts what was read of it, and may break off."""

    def __init__(self, data: bytes, *, at_a_time: int = CHUNK, breaks_at: int = 10**9) -> None:
        self._file = BytesIO(data)
        self._at_a_time = at_a_time
        self._breaks_at = breaks_at
        self.was_read = 0

    async def read(self, size: int = -1, /) -> bytes:
        if self.was_read >= self._breaks_at:
            raise ConnectionResetError
        chunk = self._file.read(min(size, self._at_a_time))
        self.was_read += len(chunk)
        return chunk


class Stalled:
    """Gives a beginning, and then nothing more."""

    def __init__(self) -> None:
        self.has_stalled = asyncio.Event()

    async def read(self, size: int = -1, /) -> bytes:
        if not self.has_stalled.is_set():
            self.has_stalled.set()
            return jpeg()[:1000]
        await asyncio.Event().wait()
        return b""


async def taken(intake: Intake, source: Source | bytes) -> Arrival:
    async with intake.take(source) as arrival:
        return arrival


# ---- taken ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_a_time", [100, CHUNK])
async def test_a_file_arrives_clean_with_its_hash_and_what_it_shows(
    at_a_time: int, intake: Intake
) -> None:
    data = POLYGLOTS["JPEG with EXIF"]()

    async with intake.take(Upload(data, at_a_time=at_a_time)) as arrival:
        clean, grid = arrival.clean.read_bytes(), arrival.grid.read_bytes()

    shown = arrival.shown
    assert arrival.source_sha256 == hashlib.sha256(data).hexdigest()
    assert (shown.sha256, shown.byte_size) == (hashlib.sha256(clean).hexdigest(), len(clean))
    assert (shown.width, shown.height) == (240, 320)
    assert opened(clean).tobytes() == opened(data).tobytes()
    assert opened(grid).size == (240, 320)
    assert b"marker-4711" not in clean + grid


async def test_bytes_are_taken_like_a_file(intake: Intake) -> None:
    sent = await taken(intake, jpeg())

    read = await taken(intake, Upload(jpeg()))

    assert (sent.source_sha256, sent.shown) == (read.source_sha256, read.shown)


async def test_the_files_are_there_for_the_block_and_gone_after_it(
    intake: Intake, folder: Path
) -> None:
    async with intake.take(jpeg()) as arrival:
        within = [arrival.clean.is_file(), arrival.grid.is_file()]
        assert arrival.clean.parent.parent == folder

    assert within == [True, True]
    assert list(folder.iterdir()) == []


async def test_the_files_are_gone_when_the_block_fails(intake: Intake, folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with intake.take(jpeg()):
            raise ZeroDivisionError

    assert list(folder.iterdir()) == []


async def test_many_files_come_in_at_once(intake: Intake, folder: Path) -> None:
    files = [png(64, 48, seed=seed) for seed in range(8)]

    arrivals = await asyncio.gather(*(taken(intake, Upload(file)) for file in files))

    assert [arrival.source_sha256 for arrival in arrivals] == [
        hashlib.sha256(file).hexdigest() for file in files
    ]
    assert list(folder.iterdir()) == []


async def test_without_a_folder_of_its_own_the_systems_is_used(decoders: Decoders) -> None:
    intake = Intake(None, decoders, max_bytes=MAX_BYTES, bounds=Bounds())

    arrival = await taken(intake, jpeg())

    assert arrival.shown.width == 320
    assert not arrival.clean.parent.exists()


# ---- refused ----------------------------------------------------------------------------------


async def test_a_file_that_is_too_large_is_read_no_further_than_that(
    intake: Intake, folder: Path
) -> None:
    upload = Upload(bytes(10 * MAX_BYTES))

    with pytest.raises(TooLarge) as refused:
        await taken(intake, upload)

    assert MAX_BYTES < upload.was_read <= MAX_BYTES + CHUNK
    assert (refused.value.field, refused.value.limit) == ("file", MAX_BYTES)
    assert refused.value.actual == upload.was_read
    assert list(folder.iterdir()) == []


async def test_a_file_of_exactly_the_largest_size_is_accepted(intake: Intake) -> None:
    data = jpeg()

    arrival = await taken(intake, data + bytes(MAX_BYTES - len(data)))

    assert arrival.shown.byte_size <= len(data)


async def test_one_byte_more_is_not(intake: Intake) -> None:
    with pytest.raises(TooLarge) as refused:
        await taken(intake, jpeg().ljust(MAX_BYTES + 1))

    assert refused.value.actual == MAX_BYTES + 1


async def test_an_upload_that_breaks_off_leaves_nothing(intake: Intake, folder: Path) -> None:
    upload = Upload(jpeg(), at_a_time=100, breaks_at=1000)

    with pytest.raises(ConnectionResetError):
        await taken(intake, upload)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", CorruptFile),
        (b"a text", UnsupportedMediaType),
        (jpeg()[:3000], CorruptFile),
        (png(1001, 1000), TooManyPixels),
        (scan_bomb(200), Rejected),
    ],
    ids=["empty", "a text", "cut off", "too many pixels", "too many scans"],
)
async def test_a_file_that_is_refused_leaves_nothing(
    data: bytes, refusal: type[Rejected], intake: Intake, folder: Path
) -> None:
    with pytest.raises(refusal) as refused:
        await taken(intake, Upload(data))

    assert (refused.type, refused.value.field) == (refusal, "file")
    assert list(folder.iterdir()) == []


async def test_an_upload_that_nobody_waits_for_any_more_leaves_nothing(
    intake: Intake, folder: Path
) -> None:
    source = Stalled()
    abandoned = asyncio.create_task(taken(intake, source))
    await source.has_stalled.wait()
    assert len(list(folder.glob("*/source"))) == 1

    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)

    assert abandoned.cancelled()
    assert list(folder.iterdir()) == []
