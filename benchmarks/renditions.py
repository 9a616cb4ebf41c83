"""How fast renditions are made, how true they are, and how much memory that takes.

    python -m benchmarks.renditions

Compares a plain use of Pillow, `storage.rendering` and, where `pyvips` can be imported (from
`pip install pyvips pyvips-binary`), libvips, in turns within one run: only ratios mean anything.
Those by CPU seconds hold on a busy machine, too. Each has a process of its own. Prints Markdown.
Takes some four minutes on two cores.
"""

import gc
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFilter, ImageFont, ImageOps
from PIL.Image import Resampling

from storage.rendering import Format, Spec, render

WIDTHS = (1440, 1080, 640, 320)
QUALITY = {Format.JPEG: 80, Format.WEBP: 80, Format.AVIF: 60, Format.PNG: 80}


def specs(*formats: Format) -> list[Spec]:
    return [
        Spec(width=width, format=format, quality=QUALITY[format])
        for width in WIDTHS
        for format in formats
    ]


FOUR = specs(Format.JPEG)
TWELVE = specs(Format.JPEG, Format.WEBP, Format.AVIF)
LOSSLESS = specs(Format.PNG)
CLOCK, CORE = 0, 1  # in what a job answers in seconds

# ---- The pictures: made anew, the same each time -------------------------------------------------


def photo(seed: int, *, sharp: bool, grain: float, size: tuple[int, int]) -> Image.Image:
    """Noise of all scales, weaker the finer (1/f), edges and text; then a lens, and a sensor."""
    random = Random(seed)
    width, height = size
    picture = Image.new("RGB", (8, 6), "#808080")
    side, strength = 6, 0.8
    while side < height:
        octave = (round(side * width / height), side)
        shade = Image.merge("RGB", [_noise(random, octave)] * 3)
        tint = Image.merge("RGB", [_noise(random, octave) for _ in range(3)])
        picture = ImageChops.add(
            picture.resize(octave, Resampling.BICUBIC),
            _weakened(Image.blend(shade, tint, 0.35), strength),
            offset=-128,
        )
        side, strength = side * 2, strength * 0.66
    picture = picture.resize(size, Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(8):
        for shape in (_ellipse, _triangle, _line):
            shape(draw, random, random.randrange(width), random.randrange(height))
        draw.text(
            (random.randrange(width // 2), random.randrange(height)),
            "Darkroom keeps what a picture says",
            font=ImageFont.load_default(random.choice((36, 60, 110, 200))),
            fill=_colour(random),
        )
    if not sharp:
        picture = picture.filter(ImageFilter.GaussianBlur(0.7))
    grains = [ImageChops.add(_noise(random, size), _noise(random, size), scale=2) for _ in "RGB"]
    return ImageChops.add(picture, _weakened(Image.merge("RGB", grains), grain), offset=-128)


def _noise(random: Random, size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("L", size, random.randbytes(size[0] * size[1]))


def _weakened(noise: Image.Image, strength: float) -> Image.Image:
    return noise.point([round(128 + (level - 128) * strength) for level in range(256)] * 3)


def _colour(random: Random) -> tuple[int, int, int]:
    return random.randrange(40, 216), random.randrange(40, 216), random.randrange(40, 216)


def _ellipse(draw: ImageDraw.ImageDraw, random: Random, x: int, y: int) -> None:
    radius = random.randrange(60, 500)
    draw.ellipse((x - radius, y - radius // 2, x + radius, y + radius // 2), _colour(random))


def _triangle(draw: ImageDraw.ImageDraw, random: Random, x: int, y: int) -> None:
    corners = [(x + random.randrange(-400, 400), y + random.randrange(-400, 400)) for _ in "12"]
    draw.polygon([(x, y), *corners], _colour(random))


def _line(draw: ImageDraw.ImageDraw, random: Random, x: int, y: int) -> None:
    end = (x + random.randrange(-900, 900), y + random.randrange(-900, 900))
    draw.line([(x, y), end], _colour(random), width=random.randrange(2, 30))


def screenshot(seed: int) -> Image.Image:
    """Flat panels, rows of small text, and one photo."""
    random = Random(seed)
    picture = Image.new("RGB", (2560, 1600), "#f4f5f7")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(22)
    for row in range(50):
        draw.rectangle((0, 32 * row, 400 + random.randrange(90), 32 * row + 30), _colour(random))
        draw.text((520, 32 * row), "A line of text, as in any window. " * 4, "#222222", font)
    picture.paste(photo(seed, sharp=True, grain=0.04, size=(960, 720)), (1500, 700))
    return picture


def wide_gamut() -> bytes:
    """Display P3: the profile of sRGB with other primaries, for a D50 observer."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for entry in range(132, 132 + 12 * int.from_bytes(data[128:132]), 12):
        start = int.from_bytes(data[entry + 4 : entry + 8]) + 8
        for number in primaries.get(bytes(data[entry : entry + 4]), ()):
            data[start : start + 4] = round(number * 65536).to_bytes(4, signed=True)
            start += 4
    return bytes(data)


def make_pictures(folder: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    large, web = (4032, 3024), (2048, 1536)
    photos = [
        photo(seed, sharp=seed % 2 == 1, grain=0.04 + 0.03 * seed, size=large) for seed in range(4)
    ]
    for number, picture in enumerate(photos):
        picture.save(folder / f"JPEG 12 MP {number}", "JPEG", quality=90)
    photos[0].save(folder / "wide gamut 0", "JPEG", quality=90, icc_profile=wide_gamut())
    photos[1].save(folder / "wide gamut 1", "JPEG", quality=90, icc_profile=wide_gamut())
    photos[2].save(folder / "turned 0", "JPEG", quality=90, exif=turned)
    photos[0].save(folder / "progressive 0", "JPEG", quality=90, progressive=True)
    photos[3].save(folder / "progressive 1", "JPEG", quality=90, progressive=True)
    for number in range(2):
        screenshot(number).save(folder / f"PNG screenshot {number}", "PNG")
        picture = photo(10 + number, sharp=True, grain=0.06, size=web)
        picture.save(folder / f"WebP 3 MP {number}", "WEBP", quality=85, method=2)


KINDS = ("JPEG 12 MP", "wide gamut", "turned", "progressive", "PNG screenshot", "WebP 3 MP")


# ---- Those who render them -----------------------------------------------------------------------

Renderer = Callable[[bytes, Sequence[Spec]], list[bytes]]


def plain(data: bytes, asked: Sequence[Spec]) -> list[bytes]:
    """What most would write: decode all, convert all, and every size from all."""
    files = []
    with Image.open(BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    if profile := picture.info.pop("icc_profile", None):
        ImageCms.profileToProfile(
            picture,
            BytesIO(profile),
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            inPlace=True,
        )
        picture.info = {}
    for spec in asked:
        size = (spec.width or 0, round(picture.height * (spec.width or 0) / picture.width))
        encoded = BytesIO()
        options = {"quality": spec.quality} | ({"max_threads": 1} if spec.format == "avif" else {})
        picture.resize(size, Resampling.LANCZOS).save(encoded, spec.format.name, **options)
        files.append(encoded.getvalue())
    return files


def libvips() -> Renderer:
    """One decode; each size from the next larger; one thread, as the others have."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips  # type: ignore[import-untyped]  # has none

    pyvips.cache_set_max(0)
    options: dict[Format, dict[str, Any]] = {
        Format.JPEG: {},
        Format.WEBP: {"effort": 4},
        Format.AVIF: {"effort": 3},
        Format.PNG: {"compression": 1},
    }

    def render_with_libvips(data: bytes, asked: Sequence[Spec]) -> list[bytes]:
        files = []
        picture: Any = None
        for spec in asked:
            if picture is None:
                header = pyvips.Image.new_from_buffer(data, "")
                has_profile = header.get_typeof("icc-profile-data") != 0
                picture = pyvips.Image.thumbnail_buffer(
                    data,
                    spec.width,
                    height=10_000_000,  # so that the width alone decides
                    size="down",
                    # Asked for without need, this converts all the same, and takes thrice as long.
                    **({"output_profile": "srgb", "intent": "relative"} if has_profile else {}),
                ).copy_memory()
            elif picture.width != spec.width:
                picture = picture.resize((spec.width or 0) / picture.width).copy_memory()
            choices = options[spec.format]
            if spec.format is not Format.PNG:
                choices = choices | {"Q": spec.quality}
            files.append(picture.write_to_buffer(f".{spec.format}", keep="none", **choices))
        return files

    return render_with_libvips


def renderer(name: str) -> Renderer:
    if name == "libvips":
        return libvips()
    return render if name == "ours" else plain


def contestants() -> list[str]:
    try:
        import pyvips  # noqa: F401
    except ImportError:
        return ["plain Pillow", "ours"]
    return ["plain Pillow", "ours", "libvips"]


# ---- Processes, each with one who renders --------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Renders every file so often. Answers how long a file takes, in seconds by the clock and of
    a core's time, or with what was made, or how much memory that took.
    """

    files: list[Path]
    asked: list[Spec]
    times: int = 1
    threads: int = 1
    answer: str = "seconds"


def serve(name: str, connection: Connection) -> None:
    render_with = renderer(name)
    while job := connection.recv():
        sources = [file.read_bytes() for file in job.files] * job.times
        gc.collect()
        start, cpu = time.perf_counter(), time.process_time()
        if job.threads == 1:
            made = [render_with(source, job.asked) for source in sources]
        else:
            with ThreadPoolExecutor(job.threads) as threads:
                made = list(threads.map(lambda source: render_with(source, job.asked), sources))
        ends = time.perf_counter() - start, time.process_time() - cpu
        answers = {
            "seconds": [each / len(sources) for each in ends],
            "bytes": made,
            "size": sum(map(len, made[-1])),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        connection.send(answers[job.answer])


@contextmanager
def process(name: str) -> Iterator[Callable[[Job], Any]]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(name, theirs), daemon=True)
    child.start()

    def ask(job: Job) -> Any:
        ours.send(job)
        return ours.recv()

    yield ask
    ours.send(None)
    child.join()


def in_turns(
    asks: dict[str, Callable[[], list[float]]], rounds: int
) -> dict[str, tuple[float, ...]]:
    """The medians of each, of rounds in which everybody had a turn; the first warms up."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in asks}
    for turn in range(rounds + 1):
        for name, ask in asks.items():
            answer = ask()
            if turn:
                seconds[name].append(answer)
    return {
        name: tuple(median(column) for column in zip(*answers, strict=True))
        for name, answers in seconds.items()
    }


# ---- What is measured ----------------------------------------------------------------------------


def psnr(one: Image.Image, other: Image.Image) -> float:
    histogram = ImageChops.difference(one, other).histogram()
    error = sum(count * (level % 256) ** 2 for level, count in enumerate(histogram))
    return 10 * math.log10(255**2 * sum(histogram) / max(error, 1))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [head, ["---"] * len(head), *rows]
    sys.stdout.write("\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    sys.stdout.flush()


def main() -> None:
    names = contestants()
    peer = names[-1] if "libvips" in names else "plain Pillow"
    if peer != "libvips":
        sys.stdout.write("pyvips cannot be imported: compared with plain Pillow alone.\n")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        maker = get_context("spawn").Process(target=make_pictures, args=(folder,))
        maker.start()  # in a process of its own, whose memory is not counted with anybody's
        maker.join()
        files = {kind: sorted(folder.glob(f"{kind} *")) for kind in KINDS}
        memory(names, peer, files)
        with process("ours") as ask:
            threads(ask, files)
        fidelity(names, files)
        speed(names, peer, files)


def speed(names: list[str], peer: str, files: dict[str, list[Path]]) -> None:
    sets = [(f"4 JPEG of: {kind}", files[kind], FOUR, 9) for kind in KINDS]
    sets.append(("12 files of: JPEG 12 MP", files["JPEG 12 MP"][:2], TWELVE, 2))
    rows = []
    with (
        process("plain Pillow") as ask_plain,
        process("ours") as ask_ours,
        process(peer) as ask_peer,
    ):
        asks = {"plain Pillow": ask_plain, "ours": ask_ours, peer: ask_peer}
        for what, paths, asked, rounds in sets:
            job = Job(paths, asked)
            seconds = in_turns({name: partial(asks[name], job) for name in names}, rounds)
            sizes = {name: asks[name](replace(job, answer="size")) for name in names}
            rows.append(
                [
                    what,
                    *(
                        f"{seconds[peer][kind] / seconds[name][kind]:.2f}"
                        for name in names[:2]
                        for kind in (CLOCK, CORE)
                    ),
                    *(f"{sizes[name] / sizes[peer]:.2f}" for name in names),
                ]
            )
    table(
        [
            f"one thread, {peer} = 1",
            *(f"{name}: {per}" for name in names[:2] for per in ("images/s", "images/CPU s")),
            *(f"bytes: {name}" for name in names),
        ],
        rows,
    )


def fidelity(names: list[str], files: dict[str, list[Path]]) -> None:
    rows = []
    for kind in KINDS:
        truth = []
        with process("plain Pillow") as ask:
            truth = ask(Job(files[kind][:2], LOSSLESS, answer="bytes"))
        for name in names[1:]:
            with process(name) as ask:
                made = ask(Job(files[kind][:2], LOSSLESS, answer="bytes"))
            worst = [
                min(
                    psnr(_shown(picture[index]), _shown(expected[index]))
                    for picture, expected in zip(made, truth, strict=True)
                )
                for index in range(len(WIDTHS))
            ]
            rows.append([f"{kind}: {name}", *(f"{value:.1f}" for value in worst)])
    table(["PSNR in dB, the worst picture's", *map(str, WIDTHS)], rows)


def _shown(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


def memory(names: list[str], peer: str, files: dict[str, list[Path]]) -> None:
    """The peak of a fresh process that renders a few pictures one after the other."""
    rows = []
    for what, paths, asked in (
        ("4 JPEG of: JPEG 12 MP", files["JPEG 12 MP"], FOUR),
        ("12 files of: JPEG 12 MP", files["JPEG 12 MP"][:1], TWELVE),
    ):
        peaks = {}
        for name in names:
            with process(name) as ask:
                peaks[name] = max(ask(Job([path], asked, answer="memory")) for path in paths)
        rows.append([what, *(f"{peaks[n] / peaks[peer]:.2f} ({peaks[n]:.0f} MB)" for n in names)])
    table([f"peak memory, {peer} = 1", *names], rows)


def threads(ask: Callable[[Job], Any], files: dict[str, list[Path]]) -> None:
    rows = []
    for what, paths, asked, rounds in (
        ("4 JPEG", files["JPEG 12 MP"] * 2, FOUR, 4),
        ("12 files", files["JPEG 12 MP"][:2], TWELVE, 2),
    ):
        one, two = Job(paths, asked), Job(paths, asked, threads=2)
        seconds = in_turns({"one": partial(ask, one), "two": partial(ask, two)}, rounds)
        rows.append([what, f"{seconds['one'][CLOCK] / seconds['two'][CLOCK]:.2f}"])
    table(["two threads, one = 1", "ours"], rows)


if __name__ == "__main__":
    main()
