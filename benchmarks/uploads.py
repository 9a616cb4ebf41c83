"""What it costs to take in a 12 megapixel JPEG, and how much memory one of 50 megapixels needs.

    python -m benchmarks.uploads

The first part compares the examination of a file, all that happens to it before it is stored
(made bare, hashed, decoded to its end, described, and its grid rendition made),
with what a plain Pillow version does for the same thumbnail. The second starts the real service,
uploads the largest pictures it accepts, and watches the memory of all its processes.
"""

import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random

from PIL import Image, ImageOps

from benchmarks.delivery import children, post_form
from benchmarks.processes import background, free_port, wait_for
from storage.containers import Bounds
from storage.examination import GRID, Paths, examine

ROUNDS = 7


def main() -> None:
    data = _encoded(_photo(4032, 3024), "JPEG", quality=88)
    with tempfile.TemporaryDirectory() as name:
        paths = Paths(*(Path(name) / part for part in ("source", "clean", "grid")))
        paths.source.write_bytes(data)
        ways: dict[str, Callable[[], object]] = {
            "plain Pillow: decode, strip by re-encoding, resize": lambda: _plain(data),
            "plain Pillow: decode and resize alone": lambda: _thumbnail(data),
            "Darkroom: examine": lambda: examine(paths, Bounds()),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, run in ways.items():
                began = time.process_time()
                run()
                times[way].append(time.process_time() - began)
    ours = statistics.median(times["Darkroom: examine"])
    print(f"\nJPEG of 4032 x 3024, {len(data) / 1e6:.1f} MB, until its {GRID} pixel rendition\n")
    print("| way | CPU ms | ours is faster by |\n| --- | --- | --- |")
    for way, measured in times.items():
        median = statistics.median(measured)
        print(f"| {way} | {median * 1000:.0f} | {median / ours:.2f} |")
    _memory()


def _plain(data: bytes) -> None:
    hashlib.sha256(data).hexdigest()
    picture = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    _encoded(picture, "JPEG", quality=95)
    _thumbnail(data)


def _thumbnail(data: bytes) -> None:
    picture = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    size = (GRID, round(picture.height * GRID / picture.width))
    _encoded(picture.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=80)


def _memory() -> None:
    pictures = {
        "JPEG": _encoded(_photo(8160, 6120), "JPEG", quality=88),
        "PNG": _encoded(_flat(8160, 6120), "PNG"),
    }
    print("\n| 8160 x 6120, 50 megapixels | MB | above idle, MiB |\n| --- | --- | --- |")
    for kind, data in pictures.items():
        print(f"| {kind} | {len(data) / 1e6:.1f} | {_above_idle(data):.0f} |")


def _above_idle(data: bytes) -> float:
    """The most resident memory of the service and its decoders during the upload, in MiB."""
    with tempfile.TemporaryDirectory() as name:
        port = free_port()
        settings = {"DARKROOM_DATA_DIR": name, "DARKROOM_PORT": str(port)}
        with background([sys.executable, "-m", "graph", "serve"], settings) as process:
            wait_for(port)
            _upload(port, _encoded(_photo(64, 48), "JPEG"))  # starts a decoder
            idle, peak, done = _resident(process.pid), 0, threading.Event()

            def watch() -> None:
                nonlocal peak
                while not done.is_set():
                    peak = max(peak, _resident(process.pid))
                    time.sleep(0.005)

            watcher = threading.Thread(target=watch)
            watcher.start()
            _upload(port, data)
            done.set()
            watcher.join()
            return (peak - idle) / 2**20


def _upload(port: int, data: bytes) -> None:
    query = (
        "mutation($input: UploadImageInput!) { uploadImage(input: $input) "
        "{ image { id } errors { ... on UserError { message } } } }"
    )
    operations = json.dumps({"query": query, "variables": {"input": {"file": None}}})
    fields = {"operations": operations, "map": '{"0": ["variables.input.file"]}'}
    answer = post_form(f"http://127.0.0.1:{port}/graphql", fields, data)
    assert '"errors": []' in json.dumps(answer), answer


def _resident(pid: int) -> int:
    """Bytes of a process and all below it."""
    pages = 0
    for one in [pid, *children(pid)]:
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def _photo(width: int, height: int) -> Image.Image:
    """Soft shapes and the grain of a sensor."""
    coarse = Image.frombytes("RGB", (48, 36), Random(1).randbytes(48 * 36 * 3))
    soft = coarse.resize((width, height), Image.Resampling.BICUBIC)
    grain = Image.effect_noise((width, height), 12).convert("RGB")
    return Image.blend(soft, grain, 0.15)


def _flat(width: int, height: int) -> Image.Image:
    """What a screenshot is made of: even areas."""
    return (
        Image.effect_mandelbrot((400, 300), (-2, -1.5, 1, 1.5), 40)
        .convert("RGB")
        .resize((width, height), Image.Resampling.NEAREST)
    )


def _encoded(picture: Image.Image, format: str, **options: int) -> bytes:
    file = BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


if __name__ == "__main__":
    main()
