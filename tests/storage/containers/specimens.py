"""Random pictures, stuffed: what the properties are shown on."""

from typing import NamedTuple

from hypothesis import strategies as st
from PIL import Image

from tests.storage.containers.seeds import (
    encoded,
    exif,
    noise,
    profile,
    profile_segments,
    raw_png,
    stuffed_gif,
    stuffed_jpeg,
    stuffed_png,
    stuffed_webp,
    with_segments,
    xmp,
)


class Specimen(NamedTuple):
    """A stuffed file, and what must come through. Nothing follows its end."""

    data: bytes
    media_type: str
    orientation: int
    icc: bytes | None


sizes = st.integers(1, 40)
orientations = st.integers(1, 8)
orders = st.sampled_from("<>")
# One of each: none, one segment of a JPEG, three segments.
profiles = st.sampled_from([None, 3000, 150_000]).map(lambda size: profile(size) if size else None)
durations = st.integers(2, 50).map(lambda hundredths: 10 * hundredths)
numbers = st.integers(0, 1000)


@st.composite
def jpegs(draw: st.DrawFn) -> Specimen:
    icc, orientation = draw(profiles), draw(orientations)
    mode = draw(st.sampled_from(["L", "RGB", "CMYK"]))
    keep_rgb = mode == "RGB" and draw(st.booleans())
    plain = encoded(
        noise(mode, draw(sizes), draw(sizes), draw(numbers)),
        "JPEG",
        quality=draw(st.integers(1, 100)),
        progressive=draw(st.booleans()),
        optimize=draw(st.booleans()),
        subsampling=-1 if keep_rgb else draw(st.integers(0, 2)),
        keep_rgb=keep_rgb,
        restart_marker_blocks=draw(st.integers(0, 3)),
    )
    if plain[2:4] == b"\xff\xe0" and draw(st.booleans()):
        plain = plain[:2] + plain[20:]  # without JFIF, as cameras write it
    data = with_segments(
        stuffed_jpeg(plain, orientation, draw(orders)),
        *draw(st.permutations(profile_segments(icc) if icc else [])),
    )
    return Specimen(data, "image/jpeg", orientation, icc)


KINDS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@st.composite
def pngs(draw: st.DrawFn) -> Specimen:
    """Every colour type and depth, interlaced or not."""
    colour_type, depth = draw(
        st.sampled_from([(type, depth) for type, depths in KINDS.items() for depth in depths])
    )
    plain = raw_png(
        draw(sizes),
        draw(sizes),
        depth,
        colour_type,
        interlaced=draw(st.booleans()),
        seed=draw(numbers),
    )
    orientation = draw(orientations)
    data = stuffed_png(plain, orientation, draw(orders))
    return Specimen(data, "image/png", orientation, None)


@st.composite
def pillow_pngs(draw: st.DrawFn) -> Specimen:
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]))
    icc, orientation = draw(profiles), draw(orientations)
    options: dict[str, object] = {"transparency": 3} if mode == "P" and draw(st.booleans()) else {}
    picture = noise(mode, draw(sizes), draw(sizes), draw(numbers))
    data = stuffed_png(encoded(picture, "PNG", icc_profile=icc, **options), orientation)
    return Specimen(data, "image/png", orientation, icc)


def _frames(draw: st.DrawFn, modes: list[str]) -> tuple[list[Image.Image], list[int]]:
    mode, width, height = draw(st.sampled_from(modes)), draw(sizes), draw(sizes)
    seeds = draw(st.lists(numbers, min_size=2, max_size=5, unique=True))
    frames = [noise(mode, width, height, seed) for seed in seeds]
    return frames, [draw(durations) for _ in frames]


@st.composite
def apngs(draw: st.DrawFn) -> Specimen:
    frames, lasting = _frames(draw, ["L", "RGB", "RGBA"])
    default_image = draw(st.booleans())
    plain = encoded(
        frames[0],
        "PNG",
        save_all=True,
        append_images=frames[1:],
        duration=lasting[1:] if default_image else lasting,
        default_image=default_image,
        loop=draw(st.integers(0, 3)),
        # Pillow 13 disposes of nothing but RGBA, without failing.
        disposal=draw(st.integers(0, 2)) if frames[0].mode == "RGBA" else 0,
        blend=draw(st.integers(0, 1)),
    )
    orientation = draw(orientations)
    return Specimen(stuffed_png(plain, orientation), "image/png", orientation, None)


@st.composite
def webps(draw: st.DrawFn) -> Specimen:
    """Simple files too: without a header, EXIF and profile have no place."""
    icc, orientation = draw(profiles), draw(orientations)
    extras: dict[str, object] = {}
    if draw(st.booleans()):
        extras = {"exif": exif(orientation, draw(orders)), "xmp": xmp(), "icc_profile": icc}
    data = encoded(
        noise(draw(st.sampled_from(["RGB", "RGBA"])), draw(sizes), draw(sizes), draw(numbers)),
        "WEBP",
        lossless=draw(st.booleans()),
        quality=draw(st.integers(0, 100)),
        method=0,
        **extras,
    )
    return Specimen(
        stuffed_webp(data), "image/webp", orientation if extras else 1, icc if extras else None
    )


@st.composite
def animated_webps(draw: st.DrawFn) -> Specimen:
    frames, lasting = _frames(draw, ["RGB", "RGBA"])
    icc, orientation = draw(profiles), draw(orientations)
    data = encoded(
        frames[0],
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=lasting,
        loop=draw(st.integers(0, 3)),
        lossless=draw(st.booleans()),
        method=0,
        exif=exif(orientation, draw(orders)),
        xmp=xmp(),
        icc_profile=icc,
    )
    return Specimen(stuffed_webp(data), "image/webp", orientation, icc)


@st.composite
def gifs(draw: st.DrawFn) -> Specimen:
    frames, lasting = _frames(draw, ["L", "P", "RGBA"])
    if draw(st.booleans()):
        frames, lasting = frames[:1], lasting[:1]
    options: dict[str, object] = {"transparency": 7} if draw(st.booleans()) else {}
    data = encoded(
        frames[0],
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=lasting,
        loop=draw(st.integers(0, 3)),
        disposal=draw(st.integers(0, 3)),
        interlace=draw(st.booleans()),
        comment=b"seeded too",
        **options,
    )
    return Specimen(stuffed_gif(data), "image/gif", 1, None)


specimens = st.one_of(jpegs(), pngs(), pillow_pngs(), apngs(), webps(), animated_webps(), gifs())
