"""The operator's commands on a library in use: import, doctor, move-objects."""

import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.service import ROOT, Service, running
from tests.pictures import jpeg
from tests.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(Service(tmp_path)) as service:
        yield service


def objects(service: Service) -> Path:
    return Path(service.settings["DATA_DIR"]) / "objects"


def pictures_in(folder: Path, count: int, *, size: int = 120) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:03}.jpg").write_bytes(jpeg(size, 90, seed=number))
    return folder


async def urls(service: Service) -> list[str]:
    told = (await service.ask(op.IMAGES_WITH_URLS))["images"]
    return [node["url"] for node in told["nodes"]]


# ---- import -----------------------------------------------------------------------------------


async def test_a_folder_comes_in_beside_a_running_service_and_what_cannot_is_told(
    service: Service, tmp_path: Path
) -> None:
    folder = pictures_in(tmp_path / "pictures", 5)
    (folder / "notes.txt").write_text("not a picture")

    first = service.run("import", str(folder), "--tag", "archive")
    again = service.run("import", str(folder))

    assert first.stdout.splitlines()[-1] == "5 added, 0 there already, 1 not taken in."
    assert re.search(r"notes\.txt: .*\.", first.stderr)
    assert first.returncode == 1
    assert again.stdout.splitlines()[-1] == "0 added, 5 there already, 1 not taken in."
    for url in await urls(service):
        assert (await service.fetch(url)).status_code == 200


async def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = pictures_in(tmp_path / "pictures", 8)
    service = Service(tmp_path, GRACE_MINUTES="0.01", SWEEP_SECONDS="0.2", DECODE_WORKERS="1")
    service.settings["FAILPOINT"] = "object.written@7"

    killed = service.run("import", str(folder))
    service.settings["FAILPOINT"] = ""
    again = service.run("import", str(folder))

    assert killed.returncode == -9
    added, there = map(int, re.findall(r"\d+", again.stdout.splitlines()[-1])[:2])
    assert added + there == 8
    assert there >= 1
    with running(service):
        for url in await urls(service):
            assert (await service.fetch(url)).status_code == 200
        assert len(await urls(service)) == 8


def test_a_long_import_shows_how_far_it_is(tmp_path: Path) -> None:
    folder = pictures_in(tmp_path / "pictures", 6)
    service = Service(tmp_path)

    shown = _on_a_terminal(service, "import", str(folder))

    assert "Importing" in shown
    assert "6/6" in shown


def _on_a_terminal(service: Service, *arguments: str) -> str:
    """What a person would see: all output of a command, on a terminal of its own."""
    ours, theirs = pty.openpty()
    named = {f"DARKROOM_{name}": value for name, value in service.settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "graph", *arguments],
        env=os.environ | named | {"TERM": "xterm", "COLUMNS": "100"},
        cwd=ROOT,
        stdout=theirs,
        stderr=theirs,
    )
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                return
            if not chunk:
                return
            shown.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    process.wait(60)
    os.close(theirs)
    reader.join(10)
    os.close(ours)
    return shown.decode(errors="replace")


# ---- doctor -----------------------------------------------------------------------------------


async def test_the_doctor_tells_what_is_wrong_beside_a_running_service_and_changes_nothing(
    service: Service,
) -> None:
    image = (await service.upload(op.UPLOAD, jpeg()))["uploadImage"]["image"]
    sound = service.run("doctor", "--read")
    (objects(service) / "stray.jpg").write_bytes(b"?")
    (original,) = objects(service).rglob(f"{image['sha256']}.jpg")
    original.write_bytes(b"damaged")

    sick = service.run("doctor")

    assert sound.stdout.splitlines()[-1] == "2 objects compared: all is well."
    assert sound.returncode == 0
    assert "bytes without a row: stray.jpg" in sick.stderr
    assert f"wrong size: {original.relative_to(objects(service))}" in sick.stderr
    assert sick.returncode == 1
    assert (objects(service) / "stray.jpg").exists()


async def test_the_doctor_mends_when_the_service_has_stopped_and_asks_before_it_mends_much(
    service: Service,
) -> None:
    await service.upload(op.UPLOAD, jpeg())
    (objects(service) / "stray.jpg").write_bytes(b"?")

    beside = service.run("doctor", "--repair")
    service.running.terminate()
    much = service.run("doctor", "--repair")
    forced = service.run("doctor", "--repair", "--force")
    after = service.run("doctor")

    assert beside.returncode == 2
    assert "Another Darkroom already serves" in beside.stderr
    assert much.returncode == 2
    assert "1 of 3 objects are broken" in much.stderr
    assert "1 quarantined" in forced.stdout
    assert list((objects(service) / "quarantine").rglob("stray.jpg"))
    assert after.stdout.splitlines()[-1] == "2 objects compared: all is well."


async def test_a_disk_that_is_not_mounted_is_an_error_and_not_an_empty_library(
    service: Service, tmp_path: Path
) -> None:
    await service.upload(op.UPLOAD, jpeg())
    objects(service).rename(tmp_path / "elsewhere")
    objects(service).mkdir()
    (objects(service) / "lost+found").mkdir()

    doctor = service.run("doctor")
    service.running.terminate()
    refused = service.run("serve")

    assert doctor.returncode == 2
    for command in (doctor, refused):
        assert "is the right disk mounted?" in command.stderr


# ---- move-objects -----------------------------------------------------------------------------


async def test_a_library_moves_to_s3_while_it_is_in_use(
    service: Service, seaweed: Seaweed, tmp_path: Path
) -> None:
    service.settings |= {
        "S3_ENDPOINT_URL": seaweed.url,
        "S3_ACCESS_KEY_ID": ACCESS_KEY,
        "S3_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    there = f"s3://media/{tmp_path.name}"
    for seed in range(3):
        await service.upload(op.UPLOAD, jpeg(120, 90, seed=seed))

    first = service.run("move-objects", "--to", there)
    await service.upload(op.UPLOAD, jpeg(120, 90, seed=3))  # by the old store, meanwhile
    said = re.findall(r"(DARKROOM_OBJECTS\w+)=(\S+?),? ", first.stdout)
    service.settings |= {name.removeprefix("DARKROOM_"): value for name, value in said}
    service.running.terminate()
    service.start()
    early = await urls(service)
    answers = [(await service.fetch(url)).status_code for url in early]
    second = service.run("move-objects", "--to", there)
    service.settings.pop("OBJECTS_FALLBACK_URL")
    service.running.terminate()
    objects(service).rename(tmp_path / "gone")
    service.start()

    assert "6 copied, 0 there already, 0 failed." in first.stdout
    assert answers == [200] * 4
    assert "2 copied, 6 there already, 0 failed." in second.stdout
    assert "unset DARKROOM_OBJECTS_FALLBACK_URL" in second.stdout
    assert [(await service.fetch(url)).status_code for url in await urls(service)] == [200] * 4
    assert "all is well" in service.run("doctor", "--read").stdout


async def test_a_move_to_the_store_that_is_used_is_refused(service: Service) -> None:
    service.settings["OBJECTS_URL"] = objects(service).as_uri()

    refused = service.run("move-objects", "--to", service.settings["OBJECTS_URL"])

    assert refused.returncode == 2
    assert "uses this store already" in refused.stderr
