"""GIF: which blocks come out, and which files do not."""

import pytest

from storage.containers import rewrite
from storage.errors import CorruptFile
from tests.storage.containers.seeds import (
    MARK,
    encoded,
    extension,
    noise,
    screen_size,
    shown,
    stuffed_gif,
    with_extensions,
)

PLAIN = encoded(noise("P", 20, 10), "GIF")
FRAMES = [noise("P", 20, 10, seed) for seed in (1, 2, 3)]
ANIMATED = encoded(
    FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:], duration=70, transparency=0
)
IMAGE = screen_size(PLAIN)


def looping(times: int, *, name: bytes = b"NETSCAPE2.0") -> bytes:
    return extension(0xFF, name, b"\1" + times.to_bytes(2, "little"))


def test_a_plain_picture_comes_out_as_it_was() -> None:
    assert rewrite(PLAIN).data == PLAIN


def test_nothing_but_what_makes_the_picture_comes_out() -> None:
    assert rewrite(stuffed_gif(PLAIN)).data == PLAIN


def test_an_animation_keeps_its_timing() -> None:
    rewritten = rewrite(stuffed_gif(ANIMATED))

    assert rewritten.data == ANIMATED
    assert rewritten.frames == 3
    assert [frame.duration for frame in shown(rewritten.data)] == [70, 70, 70]


@pytest.mark.parametrize("name", [b"NETSCAPE2.0", b"ANIMEXTS1.0"])
def test_a_loop_comes_out_and_nothing_with_it(name: bytes) -> None:
    loop = extension(0xFF, name, b"\1\5\0")
    longer = extension(0xFF, name, b"\1\5\0", b"\2" + MARK, MARK)

    rewritten = rewrite(with_extensions(PLAIN, longer))

    assert rewritten.data == with_extensions(PLAIN, loop)


def test_the_first_of_two_loops_comes_out() -> None:
    data = with_extensions(PLAIN, looping(5), looping(7, name=b"ANIMEXTS1.0"))

    assert rewrite(data).data == with_extensions(PLAIN, looping(5))


@pytest.mark.parametrize("blocks", [[], [b"\2\0\0\0\0"], [MARK], [b"\1\0"]])
def test_what_is_named_like_a_loop_but_is_none_is_dropped(blocks: list[bytes]) -> None:
    data = with_extensions(PLAIN, extension(0xFF, b"NETSCAPE2.0", *blocks))

    assert rewrite(data).data == PLAIN


def test_timing_without_a_frame_is_dropped() -> None:
    timing = extension(0xF9, b"\0\7\0\0")

    assert rewrite(PLAIN[:-1] + timing + b";").data == PLAIN


def test_what_rides_along_with_the_timing_is_dropped() -> None:
    timing, longer = extension(0xF9, b"\0\7\0\0"), extension(0xF9, b"\0\7\0\0" + MARK, MARK)

    rewritten = rewrite(with_extensions(PLAIN, longer))

    assert rewritten.data == with_extensions(PLAIN, timing)


def test_padding_between_blocks_is_dropped() -> None:
    assert rewrite(PLAIN[:-1] + b"\0\0;").data == PLAIN


def test_a_screen_smaller_than_its_first_picture_grows() -> None:
    data = PLAIN[:6] + bytes(4) + PLAIN[10:]

    rewritten = rewrite(data)

    assert (rewritten.width, rewritten.height) == (20, 10)
    assert shown(rewritten.data) == shown(data)


def test_a_picture_may_stand_in_a_part_of_the_screen() -> None:
    data = PLAIN[:6] + b"\x1e\0\x28\0" + PLAIN[10:]

    rewritten = rewrite(data)

    assert rewritten.data == data
    assert (rewritten.width, rewritten.height) == (30, 40)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN[:-1], id="no end"),
        pytest.param(PLAIN[:12], id="only a beginning"),
        pytest.param(PLAIN[:IMAGE] + b";", id="no picture"),
        pytest.param(PLAIN[:IMAGE] + MARK + PLAIN[IMAGE:], id="unknown block"),
        pytest.param(PLAIN[: IMAGE + 5] + bytes(4) + PLAIN[IMAGE + 9 :], id="no size"),
        pytest.param(PLAIN[: IMAGE + 10] + b"\x0c" + PLAIN[IMAGE + 11 :], id="code size"),
        pytest.param(PLAIN[: IMAGE + 10] + b"\0" + PLAIN[IMAGE + 11 :], id="no code size"),
        pytest.param(with_extensions(PLAIN, extension(0xF9, b"\0")), id="short timing"),
        pytest.param(with_extensions(PLAIN, extension(0xF9)), id="empty timing"),
        pytest.param(with_extensions(PLAIN, b"!"), id="extension without label"),
    ],
)
def test_a_broken_structure_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile, match="The file is damaged or incomplete: "):
        rewrite(data)
