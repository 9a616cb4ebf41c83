"""The `card` provider: what a caller gets, and how long it is kept waiting."""

import asyncio
import time
from io import BytesIO
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from generation.cards.canvas import Canvas
from generation.cards.layouts import LAYOUTS, Layout, circles
from generation.cards.lettering import glyph_finder
from generation.cards.palette import READABLE, Color, contrast, pick_palette
from generation.cards.wording import Wording, read_post
from generation.provider import GeneratedImage, GenerationRequest, ImageProvider, Preview
from generation.providers.card import CardProvider, paint

POST = (
    "Big news: after eleven months of work, our new studio opens on the 4th of May. We wanted a "
    "place where people who like good coffee can meet. Entry is free.\n\n#opening #studio"
)
QUOTE = "“Good design is as little design as possible.”\n– Dieter Rams"
ARABIC = "مرحبا بكم في معرضنا الجديد، نفتح أبوابنا كل يوم #فن"
HEBREW = "ברוכים הבאים לסטודיו החדש שלנו בתל אביב"


def request(
    prompt: str = POST,
    width: int = 240,
    height: int = 300,
    count: int = 1,
    seed: int | None = 7,
) -> GenerationRequest:
    return GenerationRequest(UUID(int=1), "card", prompt, width, height, count, seed=seed)


async def everything(wish: GenerationRequest) -> list[Preview | GeneratedImage]:
    told = [event async for event in CardProvider().generate(wish)]
    pictures = [event for event in told if isinstance(event, Preview | GeneratedImage)]
    assert pictures == told
    return pictures


async def pictures(wish: GenerationRequest) -> list[bytes]:
    return [event.data for event in await everything(wish) if isinstance(event, GeneratedImage)]


async def previews(wish: GenerationRequest) -> list[Preview]:
    return [event for event in await everything(wish) if isinstance(event, Preview)]


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image) -> list[Color]:
    data = image.tobytes()
    return [(data[i], data[i + 1], data[i + 2]) for i in range(0, len(data), 3)]


def painted(
    wording: Wording, layout: Layout, size: tuple[int, int], seed: int
) -> tuple[Image.Image, Image.Image]:
    """The canvas before the words, and with them."""
    canvas = Canvas(*size, Random(seed), mirrored=wording.right_to_left)
    stages = paint(canvas, pick_palette(Random(seed), seed), wording, layout)
    _, before, after = [canvas.image.copy() for _ in stages]
    return before, after


def place_of_words(post: str, layout: Layout, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of all that the words have changed."""
    before, after = painted(read_post(post, glyph_finder()), layout, size, seed=3)
    place = ImageChops.difference(before, after).getbbox()
    assert place is not None, "there are no words"
    return place


def test_it_is_an_image_provider_that_is_no_ai_model() -> None:
    provider: ImageProvider = CardProvider()

    (model,) = provider.models

    assert (provider.name, provider.makes_ai_images) == ("card", False)
    assert (model.min_side, model.max_side, model.max_count) == (64, 4096, 10)


@pytest.mark.parametrize(
    "size", [(1080, 1350), (1080, 1920), (1200, 630), (64, 64), (2000, 300), (64, 1000), (333, 97)]
)
async def test_a_picture_has_exactly_the_wished_size(size: tuple[int, int]) -> None:
    wish = request(width=size[0], height=size[1])

    (data,) = await pictures(wish)

    picture = opened(data)
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", size)


async def test_the_largest_picture_can_be_drawn() -> None:
    wish = request("Slow mornings.", 4096, 4096)

    (data,) = await pictures(wish)

    assert opened(data).size == (4096, 4096)


async def test_the_same_wish_gives_the_same_bytes() -> None:
    wish = request(count=2)

    first, second = await pictures(wish), await pictures(wish)

    assert first == second


async def test_without_a_seed_the_words_decide() -> None:
    wish, other_wish = request("Hello", seed=None), request("Goodbye", seed=None)

    first, second, other = [(await pictures(each))[0] for each in (wish, wish, other_wish)]

    assert first == second
    assert first != other


async def test_each_seed_gives_another_design() -> None:
    wishes = [request("🎉", 64, 64, seed=seed) for seed in range(12)]

    designs = {(await pictures(wish))[0] for wish in wishes}

    assert len(designs) == len(wishes)


async def test_pictures_of_one_wish_all_look_different() -> None:
    wish = request(count=10)

    colors = [opened(data).resize((1, 1)).tobytes() for data in await pictures(wish)]

    assert len(set(colors)) == 10


async def test_a_picture_does_not_depend_on_how_many_are_wished() -> None:
    few, many = request(count=1), request(count=3)

    first_of_few, first_of_many = (await pictures(few))[0], (await pictures(many))[0]

    assert first_of_few == first_of_many


async def test_three_stages_are_shown_before_each_picture() -> None:
    wish = request(count=2)

    events = await everything(wish)

    stages = [event.stage if isinstance(event, Preview) else "picture" for event in events]
    assert stages == ["background", "ornament", "words", "picture"] * 2
    assert [event.index for event in events] == [0] * 4 + [1] * 4


async def test_progress_rises_to_one() -> None:
    wish = request(count=3)

    progress = [event.progress for event in await everything(wish)]

    assert all(earlier < later for earlier, later in pairwise(progress))
    assert (progress[0], progress[-1]) == (1 / 12, 1.0)


@pytest.mark.parametrize("size", [(1080, 1350), (2000, 300), (512, 513), (64, 64)])
async def test_previews_are_small_jpegs_of_the_same_shape(size: tuple[int, int]) -> None:
    wish = request(width=size[0], height=size[1])

    shown = await previews(wish)

    for preview in shown:
        image = opened(preview.data)
        assert (preview.media_type, image.format) == ("image/jpeg", "JPEG")
        assert max(image.size) <= 512
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)
        assert len(preview.data) < 60_000


async def test_every_stage_changes_the_picture() -> None:
    wish = request()

    shown = await previews(wish)

    assert len({preview.data for preview in shown}) == 3


async def test_each_stage_can_be_slowed_down_for_the_eye() -> None:
    provider = CardProvider(stage_seconds=0.05)

    started = time.monotonic()
    events = [event async for event in provider.generate(request("Hi", 64, 64))]

    assert len(events) == 4
    assert time.monotonic() - started >= 0.15


async def test_the_event_loop_is_not_kept_waiting() -> None:
    longest_gap = 0.0

    async def watch() -> None:
        nonlocal longest_gap
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest_gap = max(longest_gap, time.monotonic() - before)

    watching = asyncio.create_task(watch())
    started = time.monotonic()
    await pictures(request(width=2160, height=2700))
    duration = time.monotonic() - started
    watching.cancel()

    assert longest_gap < max(0.15, duration / 2)


async def test_closing_the_iterator_stops_the_drawing() -> None:
    drawing = CardProvider().generate(request(count=10))

    first = await anext(aiter(drawing))
    await drawing.aclose()  # type: ignore[attr-defined]  # it is a generator, not only an iterator

    assert isinstance(first, Preview)
    assert [event async for event in drawing] == []


async def test_many_can_be_drawn_at_once() -> None:
    wishes = [request(seed=seed) for seed in range(6)]

    alone = [await pictures(wish) for wish in wishes]
    together = await asyncio.gather(*(pictures(wish) for wish in wishes))

    assert together == alone


@given(prompt=st.text(max_size=60), index=st.integers(0, 9), size=st.sampled_from([64, 90, 150]))
@settings(max_examples=25, deadline=None)
def test_no_text_makes_it_fail(prompt: str, index: int, size: int) -> None:
    wording = read_post(prompt, glyph_finder())

    _, card = painted(wording, LAYOUTS[index % len(LAYOUTS)], (size, 64), index)

    assert card.size == (size, 64)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "🎉🎉🎉",
        "新しいスタジオ",
        "\ud800",
        "\x00\x1b",
        "\u202e\u200b\u0301",
        "#",
        "@",
        "https://a.b",
    ],
)
async def test_a_post_without_drawable_words_becomes_a_graphic_card(prompt: str) -> None:
    wish = request(prompt)

    shown = await previews(wish)

    assert shown[1].data == shown[2].data, "words were drawn"
    assert len(set(pixels(opened(shown[1].data)))) > 20


@pytest.mark.parametrize(
    "prompt",
    [
        "a" * 32_000,
        "word " * 6_400,
        "🎉" * 32_000,
        "a\u0301" * 16_000,
        "a. \n" * 8_000,
        "#a1 " * 8_000,
    ],
    ids=["one word", "words", "emoji", "marks", "paragraphs", "tags"],
)
async def test_the_longest_prompt_takes_no_time_to_speak_of(prompt: str) -> None:
    wish = request(prompt, 1080, 1350)

    started = time.process_time()
    (data,) = await pictures(wish)

    assert opened(data).size == (1080, 1350)
    assert time.process_time() - started < 1.5


@given(
    seed=st.integers(0, 2**32),
    layout=st.sampled_from(LAYOUTS),
    post=st.sampled_from([POST, HEBREW, QUOTE, ARABIC]),
    size=st.sampled_from([(200, 250), (160, 285), (300, 158), (400, 60)]),
)
@settings(max_examples=30, deadline=None)
def test_words_can_be_read_on_every_pixel_under_them(
    seed: int, layout: Layout, post: str, size: tuple[int, int]
) -> None:
    wording = read_post(post, glyph_finder())
    palette = pick_palette(Random(seed), seed)

    before, after = painted(wording, layout, size, seed)

    inks = {palette.ink, palette.quiet}
    pairs = zip(pixels(after), pixels(before), strict=True)
    under_words = {(ink, ground) for ink, ground in pairs if ink in inks and ink != ground}
    assert len(under_words) > 0
    assert min(contrast(ink, ground) for ink, ground in under_words) >= READABLE


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("post", [POST, HEBREW, "Hi"])
@pytest.mark.parametrize("size", [(320, 400), (400, 210), (200, 356), (400, 60)])
def test_words_keep_off_the_edges(layout: Layout, post: str, size: tuple[int, int]) -> None:
    width, height = size

    left, top, right, bottom = place_of_words(post, layout, size)

    assert min(left, top, width - right, height - bottom) >= 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_right_to_left_words_mirror_left_to_right_ones(layout: Layout) -> None:
    size = (400, 210)

    from_left, _, _, _ = place_of_words("Shalom", layout, size)
    _, _, from_right, _ = place_of_words("שלום", layout, size)

    if layout is circles:
        assert from_left > 100  # it centres both
    else:
        assert from_left < 60
        assert from_right == pytest.approx(size[0] - from_left, abs=3)
