"""Processes for what nobody has checked: few, under limits, without secrets, and ended in time."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from storage.containers import Bounds
from storage.decoders import Decoders
from storage.errors import (
    CorruptFile,
    RateLimited,
    Rejected,
    TooManyPixels,
    UnsupportedMediaType,
)
from storage.examination import Examination, Paths
from tests.hostile import scan_bomb_jpeg
from tests.pictures import encoded, jpeg, opened, photo, png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

GIGABYTES = 2 * 2**30
SLOW = scan_bomb_jpeg(side=7000, scans=85)  # 3 seconds of decoding, or many more

Make = Callable[..., Decoders]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Decoders that are closed at the end of the test."""
    made = []

    def make(
        *,
        workers: int = 1,
        waiting: int = 100,
        seconds: float = 30,
        memory_bytes: int = GIGABYTES,
    ) -> Decoders:
        made.append(
            Decoders(workers=workers, waiting=waiting, seconds=seconds, memory_bytes=memory_bytes)
        )
        return made[-1]

    yield make
    for decoders in made:
        await decoders.close()


@pytest.fixture
def paths(tmp_path: Path) -> Callable[[bytes], Paths]:
    """A file to examine, in a folder of its own."""

    def paths(data: bytes) -> Paths:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "source").write_bytes(data)
        return Paths(folder / "source", folder / "clean", folder / "grid")

    return paths


Put = Callable[[bytes], Paths]


async def examined(decoders: Decoders, paths: Paths) -> Examination:
    return await decoders.examine(paths, Bounds())


def running() -> set[int]:
    """The decoders that this process started and that still run; not those that are zombies."""
    tasks = Path("/proc/self/task").glob("*/children")
    pids = {int(pid) for task in tasks for pid in task.read_text().split()}
    return {pid for pid in pids if b"storage.decoder" in _read(pid, "cmdline")}


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def limits(pid: int) -> dict[str, list[str]]:
    """What a process may use, by the kernel's names: soft and hard."""
    lines = _read(pid, "limits").decode().splitlines()
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


async def at_work() -> int:
    """The one decoder there is, once it has used more time than its imports take."""
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        for pid in running():
            fields = _read(pid, "stat").rpartition(b")")[2].split()
            if fields and int(fields[11]) > 1.2 * ticks:
                return pid
        await asyncio.sleep(0.05)


async def soon(is_so: Callable[[], bool]) -> bool:
    """The system may take a moment to tell that a process is gone."""
    for _ in range(100):
        if is_so():
            return True
        await asyncio.sleep(0.02)
    return False


# ---- asked ------------------------------------------------------------------------------------


async def test_a_file_is_described_and_made_clean_by_another_process(
    make: Make, paths: Put
) -> None:
    file = paths(jpeg(320, 200))

    shown = await examined(make(), file)

    assert (shown.width, shown.height, shown.media_type) == (320, 200, "image/jpeg")
    assert file.clean.stat().st_size == shown.byte_size
    assert file.grid.is_file()
    assert len(running()) == 1


async def test_one_process_serves_one_file_after_the_other_refused_ones_too(
    make: Make, paths: Put
) -> None:
    decoders = make()
    await examined(decoders, paths(jpeg()))
    first = running()

    with pytest.raises(UnsupportedMediaType):
        await examined(decoders, paths(b"a text"))
    with pytest.raises(CorruptFile):
        await examined(decoders, paths(jpeg()[:3000]))
    await examined(decoders, paths(png()))

    assert running() == first


@pytest.mark.parametrize("bounds", [Bounds(max_pixels=100), Bounds(max_png_chunks=1)])
async def test_a_refusal_comes_through_with_its_numbers(
    bounds: Bounds, make: Make, paths: Put
) -> None:
    with pytest.raises(Rejected) as refused:
        await make().examine(paths(png(16, 16)), bounds)

    limit = min(bounds.max_pixels, bounds.max_png_chunks)
    assert (refused.value.field, refused.value.limit) == ("file", limit)
    assert (refused.value.actual or 0) > limit
    assert "at most" in refused.value.message


async def test_no_more_processes_run_than_there_are_workers(make: Make, paths: Put) -> None:
    decoders = make(workers=2)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(running()))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    files = [paths(png(64, 48, seed=seed)) for seed in range(8)]
    shown = await asyncio.gather(*(examined(decoders, file) for file in files))
    watching.cancel()

    assert len({each.sha256 for each in shown}) == 8
    assert most == len(running()) == 2


# ---- cut into quarters ------------------------------------------------------------------------


async def test_a_picture_is_cut_into_quarters_by_the_process_that_examines(
    make: Make, paths: Put
) -> None:
    decoders = make()
    await examined(decoders, paths(jpeg()))
    first = running()
    whole = photo(64, 40)
    file = paths(encoded(whole, "PNG"))

    quarters = await decoders.quarter(file.source, file.source.parent, Bounds())

    assert [opened(path.read_bytes()).size for path in quarters] == [(32, 20)] * 4
    last = whole.crop((32, 20, 64, 40))
    assert opened(quarters[3].read_bytes()).tobytes() == last.tobytes()
    assert running() == first


@pytest.mark.parametrize(
    ("data", "bounds", "kind"),
    [
        (b"a text", Bounds(), UnsupportedMediaType),
        (jpeg()[:3000], Bounds(), CorruptFile),
        (png(), Bounds(max_pixels=100), TooManyPixels),
        (png(1, 1), Bounds(), Rejected),
    ],
)
async def test_what_cannot_be_cut_is_refused_as_what_cannot_be_examined(
    data: bytes, bounds: Bounds, kind: type[Rejected], make: Make, paths: Put
) -> None:
    decoders = make()
    file = paths(data)

    with pytest.raises(Rejected) as refused:
        await decoders.quarter(file.source, file.source.parent, bounds)

    assert (refused.type, refused.value.field) == (kind, "file")
    assert list(file.source.parent.iterdir()) == [file.source]


async def test_a_picture_that_takes_too_long_to_cut_is_given_up_with_its_process(
    make: Make, paths: Put
) -> None:
    decoders = make(seconds=1)
    file = paths(SLOW)

    with pytest.raises(Rejected) as refused:
        await decoders.quarter(file.source, file.source.parent, Bounds())

    assert (refused.type, refused.value.limit) == (Rejected, 1)
    assert await soon(lambda: running() == set())


async def test_what_is_cut_takes_a_place_like_what_is_examined(make: Make, paths: Put) -> None:
    decoders = make(workers=1, waiting=0)
    busy = asyncio.create_task(examined(decoders, paths(jpeg())))
    await asyncio.sleep(0)
    file = paths(png())

    with pytest.raises(RateLimited):
        await decoders.quarter(file.source, file.source.parent, Bounds())

    await busy
    assert len(await decoders.quarter(file.source, file.source.parent, Bounds())) == 4


# ---- too slow, too much -----------------------------------------------------------------------


async def test_a_file_over_time_is_refused_and_its_process_is_gone(make: Make, paths: Put) -> None:
    decoders = make(seconds=1)

    with pytest.raises(Rejected) as refused:
        await examined(decoders, paths(SLOW))

    assert (refused.type, refused.value.field, refused.value.limit) == (Rejected, "file", 1)
    assert "longer than 1 seconds" in refused.value.message
    assert await soon(lambda: running() == set())


async def test_a_decoder_has_a_limit_of_cpu_time_of_its_own(make: Make, paths: Put) -> None:
    """The second line, should we be unable to kill it."""
    asking = asyncio.create_task(examined(make(seconds=30), paths(SLOW)))
    pid = await at_work()

    seconds = limits(pid)["Max cpu time"][0]

    assert 30 < int(seconds) <= 35
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_whoever_waits_behind_a_slow_file_is_not_refused_for_it(
    make: Make, paths: Put
) -> None:
    decoders = make(workers=1, seconds=2)

    slow = asyncio.create_task(examined(decoders, paths(SLOW)))
    await asyncio.sleep(0.1)
    shown = await examined(decoders, paths(jpeg()))

    assert shown.media_type == "image/jpeg"
    with pytest.raises(Rejected) as refused:
        await slow
    assert refused.value.limit == 2


async def test_more_files_than_may_wait_are_sent_away_for_a_while(make: Make, paths: Put) -> None:
    decoders = make(workers=1, waiting=2)
    files = [paths(png(64, 48, seed=seed)) for seed in range(5)]

    answers = await asyncio.gather(
        *(examined(decoders, file) for file in files), return_exceptions=True
    )

    kinds = [type(answer) for answer in answers]
    assert kinds == [Examination] * 3 + [RateLimited] * 2
    assert [answer.retry_after for answer in answers if isinstance(answer, RateLimited)] == [30, 30]
    assert isinstance(await examined(decoders, files[4]), Examination)


async def test_a_file_that_was_refused_or_given_up_gives_its_place_back(
    make: Make, paths: Put
) -> None:
    decoders = make(workers=1, waiting=0, seconds=1)

    for file in (b"a text", jpeg()[:3000], SLOW):
        with pytest.raises(Rejected):
            await examined(decoders, paths(file))

    assert (await examined(decoders, paths(jpeg()))).width == 320


async def test_a_file_that_needs_more_memory_than_there_is_breaks_nothing(
    make: Make, paths: Put
) -> None:
    picture = photo().convert("RGBA").resize((7000, 7000), Image.Resampling.NEAREST)
    large = paths(encoded(picture, "PNG", compress_level=1))
    decoders = make(memory_bytes=256 * 2**20)

    with pytest.raises(CorruptFile):
        await examined(decoders, large)

    assert (await examined(decoders, paths(jpeg()))).width == 320
    assert (await examined(make(), large)).width == 7000


# ---- a process that dies ----------------------------------------------------------------------


async def test_a_process_that_dies_takes_only_its_own_file_with_it(make: Make, paths: Put) -> None:
    decoders = make()
    breaking = asyncio.create_task(examined(decoders, paths(SLOW)))

    os.kill(await at_work(), signal.SIGKILL)

    with pytest.raises(CorruptFile) as refused:
        await breaking
    assert refused.value.field == "file"
    assert (await examined(decoders, paths(jpeg()))).width == 320


async def test_a_process_that_died_in_its_sleep_is_not_the_next_files_fault(
    make: Make, paths: Put
) -> None:
    decoders = make()
    await examined(decoders, paths(jpeg()))
    (pid,) = running()
    os.kill(pid, signal.SIGKILL)
    assert await soon(lambda: not Path(f"/proc/{pid}").exists())
    await asyncio.sleep(0.1)

    shown = await examined(decoders, paths(png()))

    assert shown.media_type == "image/png"
    assert pid not in running()


# ---- without secrets --------------------------------------------------------------------------


async def test_a_decoder_knows_none_of_our_secrets(
    make: Make, paths: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNING_KEY", "seeded-secret-4711")

    await examined(make(), paths(jpeg()))

    (pid,) = running()
    environment = _read(pid, "environ")
    assert {each.split(b"=")[0] for each in environment.split(b"\0") if each} == {b"PYTHONPATH"}
    assert b"seeded-secret-4711" not in environment + _read(pid, "cmdline")


async def test_a_decoder_has_none_of_our_open_files(make: Make, paths: Put, tmp_path: Path) -> None:
    with (tmp_path / "private").open("w"):
        await examined(make(), paths(jpeg()))

        (pid,) = running()
        files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]

    assert str(tmp_path / "private") not in files
    assert len(files) == 3


async def test_a_decoder_may_neither_grow_nor_leave_a_core_behind(make: Make, paths: Put) -> None:
    await examined(make(memory_bytes=GIGABYTES), paths(jpeg()))

    (pid,) = running()
    assert limits(pid)["Max core file size"] == ["0", "0"]
    assert limits(pid)["Max address space"] == [str(GIGABYTES)] * 2


# ---- given up, closed -------------------------------------------------------------------------


async def test_a_file_nobody_waits_for_any_more_is_not_decoded_to_its_end(
    make: Make, paths: Put
) -> None:
    decoders = make()
    abandoned = asyncio.create_task(examined(decoders, paths(SLOW)))
    pid = await at_work()

    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)

    assert abandoned.cancelled()
    assert await soon(lambda: pid not in running())
    assert (await examined(decoders, paths(jpeg()))).width == 320


async def test_whoever_gives_up_waiting_takes_no_place(make: Make, paths: Put) -> None:
    decoders = make(workers=1, waiting=1, seconds=2)
    slow = asyncio.create_task(examined(decoders, paths(SLOW)))
    waiting = asyncio.create_task(examined(decoders, paths(jpeg())))
    await asyncio.sleep(0.1)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    shown = await examined(decoders, paths(png()))

    assert shown.media_type == "image/png"
    with pytest.raises(Rejected):
        await slow


async def test_closing_ends_all_processes(make: Make, paths: Put) -> None:
    decoders = make(workers=3)
    files = [paths(png(64, 48, seed=seed)) for seed in range(3)]
    await asyncio.gather(*(examined(decoders, file) for file in files))
    assert len(running()) == 3

    await decoders.close()

    assert await soon(lambda: running() == set())


async def test_a_process_that_is_at_work_when_it_is_closed_ends_with_its_file(
    make: Make, paths: Put
) -> None:
    decoders = make()
    asking = asyncio.create_task(examined(decoders, paths(jpeg())))
    assert await soon(lambda: running() != set())

    await decoders.close()

    assert (await asking).width == 320
    assert await soon(lambda: running() == set())
