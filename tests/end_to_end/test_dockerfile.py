"""The image's recipe: linted, and its install and start commands run in a clean environment.

No Docker engine is needed: the RUN lines of the build stage are carried out in a folder, with the
paths moved there, and then what the image would start is started.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.service import ROOT, free_port

DOCKERFILE = ROOT / "Dockerfile"


def test_hadolint_finds_nothing_to_say() -> None:
    linted = subprocess.run(
        [Path(sys.executable).parent / "hadolint", DOCKERFILE],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (linted.returncode, linted.stdout) == (0, "")


def test_everything_the_recipe_copies_is_in_the_build_context() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)

    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed


@pytest.mark.timeout(600)
def test_the_image_would_start_healthy_and_stop_clean(tmp_path: Path) -> None:
    stage, data = tmp_path / "stage", tmp_path / "data"
    stage.mkdir()
    data.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DARKROOM_", "PYTHON", "VIRTUAL_ENV"))
    }
    steps = re.findall(r"^(RUN|COPY) (.+)$", _stage(0), re.MULTILINE)
    for kind, line in steps:
        if kind == "COPY":
            *names, _ = line.split()
            for name in names:
                _copy(ROOT / name, stage / name)
        else:
            command = shlex.split(line.replace("/venv", str(tmp_path / "venv")))
            command[0] = command[0].replace("python", sys.executable)
            subprocess.run(command, cwd=stage, env=environment, check=True)

    port = free_port()
    runs = environment | _settings() | {"DARKROOM_DATA_DIR": str(data)}
    # Beside the image's own settings: a port that is free here, and no address but this machine's.
    runs |= {"DARKROOM_PORT": str(port), "DARKROOM_HOST": "127.0.0.1"}
    runs |= {"PATH": f"{tmp_path / 'venv' / 'bin'}:{environment['PATH']}"}
    (entry,) = json.loads(_instruction("ENTRYPOINT"))
    start = [str(tmp_path / "venv" / "bin" / entry), *json.loads(_instruction("CMD"))]
    refused = subprocess.run(start, cwd=data, env=runs, capture_output=True, check=False)
    assert refused.returncode == 2  # nobody has a key yet
    made = [start[0], "keys", "create", "--workspace", "w"]
    subprocess.run(made, cwd=data, env=runs, check=True, capture_output=True)
    process = subprocess.Popen(start, cwd=data, env=runs)
    try:
        _wait_until_ready(port)
        check = json.loads(_instruction("HEALTHCHECK").partition("CMD ")[2])
        assert subprocess.run(check, env=runs, check=False).returncode == 0
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


def _stage(number: int) -> str:
    return re.split(r"^FROM .*$", _joined(), flags=re.MULTILINE)[number + 1]


def _joined() -> str:
    return DOCKERFILE.read_text().replace("\\\n", " ")


def _instruction(name: str) -> str:
    found = re.findall(rf"^{name} +(.+)$", _stage(1), re.MULTILINE)
    return str(found[-1]).strip()


def _settings() -> dict[str, str]:
    pairs = re.findall(r"(DARKROOM_\w+)=(\S+)", _instruction("ENV"))
    return dict(pairs)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "never ready"
        time.sleep(0.1)
