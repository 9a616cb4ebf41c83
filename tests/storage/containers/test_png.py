"""PNG and APNG: which chunks come out, and which files do not."""

import struct
import zlib
from collections.abc import Callable

import pytest

from storage.containers import rewrite
from storage.errors import CorruptFile
from tests.storage.containers.seeds import (
    MARK,
    chunks,
    encoded,
    info,
    noise,
    png_of,
    profile,
    raw_png,
    shown,
    stuffed_png,
    types,
)

PLAIN = encoded(noise("RGB", 20, 10), "PNG")
HEADER, DATA, END = chunks(PLAIN)
PALETTE = (b"PLTE", bytes(range(48)))
CHROMATICITIES = (
    b"cHRM",
    struct.pack(">8I", *[31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]),
)
ICC = (b"iCCP", b"MARK of a name\0\0" + zlib.compress(profile()))

Part = tuple[bytes, bytes]

FRAMES = [noise("RGB", 20, 10, seed) for seed in (1, 2, 3)]
ANIMATED = encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:], duration=70)


def test_nothing_but_what_makes_the_picture_comes_out() -> None:
    rewritten = rewrite(stuffed_png(PLAIN, orientation=6))

    assert types(rewritten.data) == [b"IHDR", b"eXIf", b"IDAT", b"IEND"]
    assert (rewritten.width, rewritten.height, rewritten.orientation) == (20, 10, 6)


def test_a_plain_picture_comes_out_as_it_was() -> None:
    assert rewrite(PLAIN).data == PLAIN


def test_hints_on_colours_come_out_in_their_order() -> None:
    hints = [
        (b"sBIT", b"\x08\x08\x08"),
        CHROMATICITIES,
        (b"gAMA", struct.pack(">I", 45455)),
        (b"sRGB", b"\0"),
        (b"cICP", b"\x01\x0d\x00\x01"),
    ]

    rewritten = rewrite(png_of([HEADER, *hints, DATA, END]))

    assert chunks(rewritten.data) == [HEADER, *reversed(hints), DATA, END]


@pytest.mark.parametrize(
    "hint",
    [(b"sBIT", b"\x08"), (b"gAMA", MARK), (b"sRGB", b""), (b"cICP", MARK), (b"cHRM", MARK)],
)
def test_a_hint_of_the_wrong_size_is_dropped(hint: Part) -> None:
    assert rewrite(png_of([HEADER, hint, DATA, END])).data == PLAIN


@pytest.mark.parametrize("hint", [CHROMATICITIES, ICC])
def test_a_hint_behind_the_palette_or_the_data_is_dropped(hint: Part) -> None:
    assert rewrite(png_of([HEADER, PALETTE, hint, DATA, hint, END])).data == PLAIN


def test_the_first_of_two_equal_hints_comes_out() -> None:
    first, second = (b"gAMA", b"\0\0\xb1\x8f"), (b"gAMA", b"MARK")

    rewritten = rewrite(png_of([HEADER, first, second, DATA, END]))

    assert chunks(rewritten.data) == [HEADER, first, DATA, END]


def test_a_palette_that_only_suggests_is_dropped() -> None:
    assert rewrite(png_of([HEADER, PALETTE, DATA, END])).data == PLAIN


def test_a_profile_comes_out_under_another_name() -> None:
    rewritten = rewrite(png_of([HEADER, ICC, DATA, END]))

    assert info(rewritten.data, "icc_profile") == profile()
    assert b"MARK" not in rewritten.data
    assert rewritten.has_icc


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"name",
        b"name\0\1" + zlib.compress(profile()),
        b"\0\0" + zlib.compress(profile()),
        b"n" * 80 + b"\0\0" + zlib.compress(profile()),
        b"name\0\0" + MARK,
        b"name\0\0" + zlib.compress(profile())[:1000],
        b"name\0\0" + zlib.compress(MARK * 100),
    ],
)
def test_a_broken_profile_is_dropped(payload: bytes) -> None:
    rewritten = rewrite(png_of([HEADER, (b"iCCP", payload), DATA, END]))

    assert rewritten.data == PLAIN
    assert not rewritten.has_icc


def test_a_wrong_checksum_of_what_is_dropped_is_no_matter() -> None:
    data = png_of([HEADER, (b"tEXt", MARK), DATA, END])
    at = data.index(MARK) + len(MARK)

    assert rewrite(data[:at] + b"\0\0\0\0" + data[at + 4 :]).data == PLAIN


def test_a_wrong_checksum_of_the_picture_is_refused() -> None:
    at = PLAIN.index(b"IEND") - 8

    with pytest.raises(CorruptFile, match="a checksum is wrong"):
        rewrite(PLAIN[:at] + b"\0\0\0\0" + PLAIN[at + 4 :])


def with_header(**changes: int) -> bytes:
    names = ["width", "height", "depth", "colour_type", "compression", "filter", "interlace"]
    told = dict(zip(names, struct.unpack(">IIBBBBB", HEADER[1]), strict=True)) | changes
    return png_of([(b"IHDR", struct.pack(">IIBBBBB", *told.values())), DATA, END])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN[:-12], id="no end"),
        pytest.param(png_of([HEADER, END]), id="no data"),
        pytest.param(png_of([DATA, END]), id="no header"),
        pytest.param(png_of([(b"CgBI", bytes(4)), HEADER, DATA, END]), id="header not first"),
        pytest.param(png_of([HEADER, HEADER, DATA, END]), id="two headers"),
        pytest.param(png_of([(b"IHDR", HEADER[1] + b"\0"), DATA, END]), id="long header"),
        pytest.param(png_of([HEADER, DATA, (b"tEXt", b""), DATA, END]), id="interrupted"),
        pytest.param(png_of([HEADER, (b"PLTE", b""), DATA, END]), id="empty palette"),
        pytest.param(png_of([HEADER, (b"PLTE", bytes(771)), DATA, END]), id="long palette"),
        pytest.param(png_of([HEADER, PALETTE, PALETTE, DATA, END]), id="two palettes"),
        pytest.param(png_of([HEADER, DATA, PALETTE, END]), id="late palette"),
        pytest.param(png_of([HEADER, (b"VIPx", MARK), DATA, END]), id="unknown critical chunk"),
        pytest.param(png_of([HEADER, (b"a\0bc", MARK), DATA, END]), id="unspeakable chunk"),
        pytest.param(with_header(width=0), id="no width"),
        pytest.param(with_header(depth=4), id="depth"),
        pytest.param(with_header(colour_type=5), id="colour type"),
        pytest.param(with_header(colour_type=3), id="no palette"),
        pytest.param(with_header(compression=1), id="compression"),
        pytest.param(with_header(filter=1), id="filter"),
        pytest.param(with_header(interlace=2), id="interlace"),
    ],
)
def test_a_broken_structure_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile, match="The file is damaged or incomplete: "):
        rewrite(data)


def test_transparency_before_its_palette_is_refused() -> None:
    header, palette, transparency, *rest = chunks(raw_png(8, 8, 8, 3, interlaced=False))

    with pytest.raises(CorruptFile, match="its palette is missing"):
        rewrite(png_of([header, transparency, palette, *rest]))


@pytest.mark.parametrize("transparency", [b"", b"\0", MARK])
def test_transparency_of_the_wrong_size_is_dropped(transparency: bytes) -> None:
    assert rewrite(png_of([HEADER, (b"tRNS", transparency), DATA, END])).data == PLAIN


def test_a_default_picture_that_is_no_frame_counts_as_a_picture() -> None:
    data = encoded(
        FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:], default_image=True, duration=70
    )

    rewritten = rewrite(data)

    assert rewritten.frames == 3
    assert shown(rewritten.data) == shown(data)


def test_the_description_of_the_first_frame_may_come_before_that_of_the_animation() -> None:
    header, control, frame, *rest = chunks(ANIMATED)

    assert rewrite(png_of([header, frame, control, *rest])).data == ANIMATED


def test_frames_without_an_animation_are_dropped() -> None:
    header, _, frame, *rest = chunks(ANIMATED)

    rewritten = rewrite(png_of([header, frame, *rest]))

    assert types(rewritten.data) == [b"IHDR", b"IDAT", b"IEND"]
    assert rewritten.frames == 1


def test_an_animation_announced_behind_the_default_picture_is_dropped() -> None:
    header, control, frame, default, *rest = chunks(ANIMATED)

    rewritten = rewrite(png_of([header, frame, default, control, *rest]))

    assert types(rewritten.data) == [b"IHDR", b"IDAT", b"IEND"]


def changed(type: bytes, occurrence: int, change: Callable[[bytes], list[bytes]]) -> bytes:
    """The animation with one chunk replaced, by none, another or several."""
    parts = chunks(ANIMATED)
    at = [number for number, part in enumerate(parts) if part[0] == type][occurrence]
    parts[at : at + 1] = [(type, payload) for payload in change(parts[at][1])]
    return png_of(parts)


def fields(format: str, at: int, *values: int) -> Callable[[bytes], list[bytes]]:
    def change(payload: bytes) -> list[bytes]:
        packed = struct.pack(format, *values)
        return [payload[:at] + packed + payload[at + len(packed) :]]

    return change


def test_data_of_a_frame_that_nobody_described_are_refused() -> None:
    control, data = (b"acTL", struct.pack(">II", 1, 0)), (b"fdAT", bytes(4) + DATA[1])

    with pytest.raises(CorruptFile, match="a frame of its animation is not described"):
        rewrite(png_of([HEADER, control, DATA, data, END]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(changed(b"acTL", 0, fields(">I", 0, 2)), id="fewer frames announced"),
        pytest.param(changed(b"acTL", 0, fields(">I", 0, 4)), id="more frames announced"),
        pytest.param(changed(b"acTL", 0, fields(">I", 0, 0)), id="no frames announced"),
        pytest.param(changed(b"acTL", 0, lambda payload: [payload, payload]), id="announced twice"),
        pytest.param(changed(b"acTL", 0, lambda payload: [payload[:7]]), id="short announcement"),
        pytest.param(changed(b"fcTL", 1, lambda _: []), id="frame not described"),
        pytest.param(changed(b"fcTL", 1, lambda payload: [payload[:25]]), id="short description"),
        pytest.param(changed(b"fcTL", 1, fields(">I", 0, 7)), id="number of a description"),
        pytest.param(changed(b"fdAT", 1, fields(">I", 0, 7)), id="number of data"),
        pytest.param(changed(b"fdAT", 1, lambda payload: [payload[:3]]), id="data without number"),
        pytest.param(changed(b"fdAT", -1, lambda _: []), id="frame without data"),
        pytest.param(changed(b"fcTL", 1, fields(">II", 4, 21, 10)), id="frame too wide"),
        pytest.param(changed(b"fcTL", 1, fields(">II", 4, 0, 10)), id="frame without width"),
        pytest.param(changed(b"fcTL", 1, fields(">I", 16, 2**32 - 1)), id="frame outside"),
        pytest.param(changed(b"fcTL", 0, fields(">II", 4, 19, 10)), id="first frame not whole"),
        pytest.param(changed(b"fcTL", 1, fields(">B", 24, 3)), id="unknown disposal"),
        pytest.param(changed(b"fcTL", 1, fields(">B", 25, 2)), id="unknown blending"),
    ],
)
def test_a_broken_animation_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile, match="animation"):
        rewrite(data)
