"""Midjourney by way of a proxy: what is asked, and just once; and what becomes of that."""

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from ipaddress import ip_network
from math import gcd
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from generation.errors import (
    NotSent,
    OutcomeUnknown,
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from generation.provider import (
    Charged,
    Event,
    GeneratedImage,
    GenerationRequest,
    ImageProvider,
    InputImage,
    Preview,
    Progressed,
    Quarter,
    TaskStarted,
)
from generation.providers.midjourney import (
    MidjourneyProvider,
    open_midjourney,
    result_hosts,
)
from generation.providers.midjourney_proxy import Proxy
from generation.providers.options import MidjourneyOptions
from generation.results import Quarters, Results
from storage.containers import Bounds
from storage.decoders import Decoders
from storage.errors import LibraryError, RateLimited, Rejected
from storage.fetching import Fetcher
from storage.quarters import quarter
from tests.midjourney_server import (
    SECRET,
    MidjourneyServer,
    Step,
    blurred,
    drawn,
    failed,
    grid,
    midjourney_server,
    quadrants,
)
from tests.pictures import opened, png

WISH = GenerationRequest(
    id=UUID(int=1), model="midjourney", prompt="a red boat", width=916, height=1145
)

Open = Callable[..., AbstractAsyncContextManager[MidjourneyProvider]]


@pytest.fixture
async def server() -> AsyncIterator[MidjourneyServer]:
    async with midjourney_server("java") as server:
        yield server


@pytest.fixture
async def csharp() -> AsyncIterator[MidjourneyServer]:
    async with midjourney_server("csharp") as server:
        yield server


async def quartered(data: bytes) -> Sequence[bytes]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "source").write_bytes(data)
        paths = quarter(Path(name) / "source", Path(name), Bounds())
        return [path.read_bytes() for path in paths]


@asynccontextmanager
async def provider_for(
    server: MidjourneyServer, cut: Quarter = quartered, **options: Any
) -> AsyncIterator[MidjourneyProvider]:
    settings = MidjourneyOptions(
        **{
            "base_url": server.url,
            "secret": SecretStr(SECRET),
            "poll_seconds": 0.01,
            "seconds": 5,
            "connect_seconds": 1,
            **options,
        }
    )
    fetcher = Fetcher(
        hosts=result_hosts(settings),
        ports=(server.port,),
        allowed_networks=(ip_network("127.0.0.0/8"),),
        max_bytes=10**6,
    )
    async with fetcher:
        fetch = Results(fetcher, max_bytes=10**6)
        async with open_midjourney(settings, fetch, cut) as provider:
            yield provider


async def made(
    server: MidjourneyServer, wish: GenerationRequest = WISH, **options: Any
) -> list[Event]:
    async with provider_for(server, **options) as provider:
        return [event async for event in provider.generate(wish)]


async def failure(
    server: MidjourneyServer, wish: GenerationRequest = WISH, **options: Any
) -> tuple[LibraryError, list[Event]]:
    """What is raised, and what had come before."""
    events: list[Event] = []
    async with provider_for(server, **options) as provider:
        try:
            async for event in provider.generate(wish):
                events.append(event)
        except LibraryError as fault:
            return fault, events
    pytest.fail("nothing was raised")


def pixels(events: Sequence[Event]) -> list[bytes]:
    return [opened(event.data).tobytes() for event in events if isinstance(event, GeneratedImage)]


# ---- a picture is made ------------------------------------------------------------------------


async def test_a_wish_becomes_one_imagine_and_its_task_is_told_before_anything_else(
    server: MidjourneyServer,
) -> None:
    async with provider_for(server) as provider:
        events = cast("AsyncGenerator[Event]", provider.generate(WISH))

        first = await anext(events)

        assert first == TaskStarted(next(iter(server.tasks)))
        assert (len(server.submits), server.polls) == (1, 0)
        rest = [event async for event in events]
    assert isinstance(rest[-1], GeneratedImage)
    assert len(server.submits) == 1


async def test_progress_previews_and_picture_come_in_the_order_of_the_task(
    server: MidjourneyServer,
) -> None:
    events = await made(server)

    told = [replace(e, data=b"") if isinstance(e, Preview) else e for e in events[1:-1]]
    assert told == [
        Progressed("queued at the provider", 0.0),
        Preview(0, b"", "image/png", 0.2945, "drawing"),
        Preview(0, b"", "image/png", 0.589, "drawing"),
    ]
    last = events[-1]
    assert isinstance(last, GeneratedImage)
    assert (last.index, last.progress) == (0, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_the_wished_quarters_of_the_grid_are_given_pixel_by_pixel(
    count: int, server: MidjourneyServer
) -> None:
    events = await made(server, replace(WISH, count=count))

    assert pixels(events) == [each.tobytes() for each in quadrants()[:count]]
    assert len(server.submits) == 1
    images = [event for event in events if isinstance(event, GeneratedImage)]
    assert [image.index for image in images] == list(range(count))
    assert images[-1].progress == 1.0
    assert all(image.progress >= 0.95 for image in images)


async def test_each_wished_picture_has_the_previews_of_its_own_quarter(
    server: MidjourneyServer,
) -> None:
    events = await made(server, replace(WISH, count=2))

    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.index for preview in previews] == [0, 1, 0, 1]
    whole = opened(blurred(11))
    assert opened(previews[1].data).tobytes() == whole.crop((12, 0, 24, 15)).tobytes()


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
async def test_a_grid_is_cut_by_another_process(
    format: str, server: MidjourneyServer, decoders: Decoders, tmp_path: Path
) -> None:
    server.script = [Step("SUCCESS", "100%", grid(format=format))]
    cut = Quarters(tmp_path, decoders, bounds=Bounds())

    events = await made(server, replace(WISH, count=4), cut=cut)

    assert pixels(events) == [each.tobytes() for each in quadrants()]
    assert list(tmp_path.iterdir()) == []


async def test_the_price_is_told_before_the_pictures_and_once_for_all_four(
    server: MidjourneyServer,
) -> None:
    server.script = [Step("SUCCESS", "100%", grid())]

    events = await made(server, replace(WISH, count=4), price=0.12)

    assert events[1] == Charged(Decimal("0.12"))
    assert [type(event) for event in events[2:]] == [GeneratedImage] * 4


async def test_a_price_of_nothing_is_not_told(server: MidjourneyServer) -> None:
    events = await made(server)

    assert not [event for event in events if isinstance(event, Charged)]


@pytest.mark.parametrize("kind", ["java", "csharp"])
async def test_an_open_proxy_needs_no_secret(kind: Any) -> None:
    async with midjourney_server(kind) as server:
        server.secret = None

        events = await made(server, secret=None)

    assert len(pixels(events)) == 1


# ---- what is asked ----------------------------------------------------------------------------


async def test_all_that_is_wished_is_in_the_prompt(server: MidjourneyServer) -> None:
    await made(server, replace(WISH, negative_prompt="text, people", seed=7))

    assert server.prompts == ["a red boat --v 7 --ar 4:5 --no text, people --seed 7"]


async def test_a_seed_that_is_too_large_for_them_is_made_to_fit(server: MidjourneyServer) -> None:
    await made(server, replace(WISH, seed=2**32 + 5), parameters="")

    assert server.prompts == ["a red boat --ar 4:5 --seed 5"]


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a boat --turbo", "a boat"),
        ("a boat --v 5 --niji 6 --repeat 40", "a boat"),
        ("--fast", None),
        ("a boat --no cats, dogs\nat sea", "a boat at sea"),
        ("a boat --FAST", "a boat"),
        ("a boat ---turbo", "a boat"),
        ("a boat—turbo", "a boat - turbo"),
        ("a boat —turbo", "a boat - turbo"),
        ("a boat--turbo", "a boat - turbo"),
        ("a boat -—-turbo", "a boat - - -turbo"),
        ("big news -- we open", "big news - we open"),
        ("a well-made boat, 2019-2026", "a well-made boat, 2019-2026"),
        ("a {red, green} boat", "a (red, green) boat"),
        ("  a boat\n\n at  sea ", "a boat at sea"),
    ],
)
async def test_a_prompt_is_words_and_its_parameters_are_the_operators(
    prompt: str, asked: str | None, server: MidjourneyServer
) -> None:
    if asked is None:
        raised, _ = await failure(server, replace(WISH, prompt=prompt))
        assert type(raised) is ProviderRejected
        assert server.submits == []
    else:
        await made(server, replace(WISH, prompt=prompt))
        assert server.prompts == [f"{asked} --v 7 --ar 4:5"]


async def test_what_is_not_wanted_is_just_words_as_well(server: MidjourneyServer) -> None:
    await made(server, replace(WISH, negative_prompt="text --turbo"))

    assert server.prompts == ["a red boat --v 7 --ar 4:5 --no text"]


async def test_references_are_sent_as_data_urls(server: MidjourneyServer) -> None:
    reference = InputImage(b"as good as a picture", "image/webp", 10, 10)

    await made(server, replace(WISH, references=(reference, reference)))

    assert (
        server.submits[0]["base64Array"]
        == ["data:image/webp;base64,YXMgZ29vZCBhcyBhIHBpY3R1cmU="] * 2
    )


@pytest.mark.parametrize(
    ("wished", "size"),
    [
        ((1080, 1080), (1024, 1024)),
        ((1080, 1350), (916, 1145)),
        ((1080, 1920), (765, 1360)),
        ((1920, 1080), (1360, 765)),
        ((1080, 566), (1407, 737)),
        ((4096, 256), (4096, 256)),
    ],
)
async def test_a_size_is_one_of_the_closest_ratio(
    wished: tuple[int, int], size: tuple[int, int], server: MidjourneyServer
) -> None:
    async with provider_for(server) as provider:
        assert provider.size_for(provider.models[0], *wished) == size


@pytest.mark.parametrize("wished", [(255, 1000), (1000, 4097), (0, 0), (-5, 300)])
async def test_a_side_beyond_all_reason_is_rejected(
    wished: tuple[int, int], server: MidjourneyServer
) -> None:
    async with provider_for(server) as provider:
        with pytest.raises(Rejected) as refused:
            provider.size_for(provider.models[0], *wished)

    assert refused.value.field in ("width", "height")


@given(st.integers(256, 4096), st.integers(256, 4096))
def test_any_size_has_a_ratio_of_small_integers_that_is_near(width: int, height: int) -> None:
    options = MidjourneyOptions(base_url="http://proxy.example")
    provider = MidjourneyProvider(cast("Proxy", None), options, cast("Any", None), quartered)

    size = provider.size_for(provider.models[0], width, height)

    terms = [side // gcd(*size) for side in size]
    assert max(terms) <= 32
    assert abs(size[0] / size[1] / (width / height) - 1) < 1 / 16
    assert abs(size[0] * size[1] / 1024**2 - 1) < 0.1
    assert provider.size_for(provider.models[0], *size) == size


async def test_it_is_an_image_provider_that_tells_what_it_can(server: MidjourneyServer) -> None:
    async with provider_for(server, price=0.2) as opened_provider:
        provider: ImageProvider = opened_provider
        await provider.refresh()

        (model,) = provider.models
        assert (provider.name, provider.makes_ai_images, model.max_count) == ("midjourney", True, 4)
        assert provider.estimate(replace(WISH, count=3)) == model.price == Decimal("0.2")
    assert server.submits == []


# ---- what the proxy says to a wish ------------------------------------------------------------


async def test_a_wish_that_is_queued_says_so_and_is_drawn(server: MidjourneyServer) -> None:
    server.answer_with(22, numberOfQueues=3)

    events = await made(server)

    assert [type(event) for event in events[:2]] == [TaskStarted, Progressed]
    assert events[1] == Progressed("queued at the provider", None)
    assert len(pixels(events)) == 1


async def test_a_wish_that_was_done_before_gives_its_task(server: MidjourneyServer) -> None:
    server.answer_with(21, status="SUCCESS")
    server.script = [Step("SUCCESS", "100%", grid())]

    events = await made(server)

    assert events[0] == TaskStarted(next(iter(server.tasks)))
    assert len(pixels(events)) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (23, RateLimited),
        (4, ProviderRejected),
        (3, ProviderUnavailable),
        (9, ProviderUnavailable),
        (77, ProviderUnavailable),
    ],
)
async def test_a_code_is_told_as_what_can_be_done_about_it(
    code: int, kind: type[LibraryError], server: MidjourneyServer
) -> None:
    server.answer_with(code)

    raised, events = await failure(server)

    assert type(raised) is kind
    assert (len(server.submits), server.polls, events) == (1, 0, [])


async def test_a_banned_word_is_refused_and_named(server: MidjourneyServer) -> None:
    raised, events = await failure(server, replace(WISH, prompt="a blood bath at sea"))

    assert isinstance(raised, Refused)
    assert (raised.stage, raised.categories) == ("input", ("blood bath",))
    assert "blood bath" in raised.message
    assert (len(server.submits), events) == (1, [])


@pytest.mark.parametrize("kind", ["java", "csharp"])
async def test_a_secret_that_is_not_theirs_is_a_matter_for_the_operator(kind: Any) -> None:
    async with midjourney_server(kind) as server:
        raised, _ = await failure(server, secret=SecretStr("seeded-secret-4711"))

        assert type(raised) is ProviderAuth
        assert "seeded-secret-4711" not in raised.message
        assert server.submits == []


async def test_a_proxy_that_is_not_there_was_sent_nothing(server: MidjourneyServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        raised, _ = await failure(server, base_url=f"http://127.0.0.1:{port}")

    assert type(raised) is NotSent


async def test_an_address_that_is_none_was_sent_nothing(server: MidjourneyServer) -> None:
    raised, _ = await failure(server, base_url="proxy:8080")

    assert type(raised) is NotSent


@pytest.mark.parametrize("how", ["cut", "garbage", "408", "502", "504", "520", "524"])
async def test_a_wish_whose_answer_is_lost_is_not_sent_again(
    how: str, server: MidjourneyServer
) -> None:
    server.fail_with(how, on="imagine", times=5)

    raised, events = await failure(server)

    assert type(raised) is OutcomeUnknown
    assert (len(server.submits), events) == (1 if how == "cut" else 0, [])
    assert server.left_to_fail(on="imagine") == 4


async def test_an_accepted_wish_without_a_task_is_unknown(server: MidjourneyServer) -> None:
    server.answer_with(1)
    server.names_tasks = False

    raised, _ = await failure(server)

    assert type(raised) is OutcomeUnknown


@pytest.mark.parametrize(
    ("status", "kind"),
    [("500", ProviderUnavailable), ("404", ProviderUnavailable), ("429", RateLimited)],
)
async def test_a_status_that_says_no_is_no(
    status: str, kind: type[LibraryError], server: MidjourneyServer
) -> None:
    server.fail_with(status, on="imagine")

    raised, _ = await failure(server)

    assert type(raised) is kind


# ---- what becomes of a task -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "kind", "stage"),
    [
        ("[Banned prompt detected] 'x' may violate our rules", Refused, "input"),
        ("[Invalid prompt] try other words", Refused, "input"),
        ("[Request cancelled due to output filters] sorry", Refused, "output"),
        ("Blocked: this was found by a moderator", Refused, "input"),
        ("[Invalid parameter] `--ar 32:1`", ProviderRejected, None),
        ("[Invalid link] could not load", ProviderRejected, None),
        ("[Queue full] wait for your jobs", ProviderUnavailable, None),
        ("[Internal Server Error] once more", ProviderUnavailable, None),
        ("任务超时", ProviderUnavailable, None),
        ("", ProviderUnavailable, None),
        ("Credits exhausted", ProviderQuota, None),
        ("Subscription required", ProviderQuota, None),
        ("Subscription paused", ProviderQuota, None),
        ("Plan Cancelled", ProviderQuota, None),
        ("Pending mod message", ProviderQuota, None),
    ],
)
async def test_a_task_that_fails_says_why(
    reason: str, kind: type[LibraryError], stage: str | None, server: MidjourneyServer
) -> None:
    server.script = failed(reason)

    raised, events = await failure(server, price=1)

    assert type(raised) is kind
    assert getattr(raised, "stage", None) == stage
    assert reason in raised.message
    assert [type(event) for event in events] == [TaskStarted, Progressed]
    assert len(server.submits) == 1


@pytest.mark.parametrize("status", ["MODAL", "CANCEL"])
async def test_a_task_that_was_stopped_at_the_proxy_is_unavailable(
    status: str, csharp: MidjourneyServer
) -> None:
    csharp.script = [Step("SUBMITTED", "0%"), Step(status)]

    raised, _ = await failure(csharp)

    assert type(raised) is ProviderUnavailable
    assert status in raised.message
    assert csharp.cancels == []


async def test_a_task_that_is_stuck_is_given_up_in_time(server: MidjourneyServer) -> None:
    server.script = [Step("IN_PROGRESS", "62%")]

    started = time.monotonic()
    raised, events = await failure(server, seconds=0.3)

    assert type(raised) is OutcomeUnknown
    assert events[1:] == [Progressed("drawing", 0.589)]
    assert 0.3 <= time.monotonic() - started < 2
    assert len(server.submits) == 1


@pytest.mark.parametrize("how", ["cut", "garbage", "502", "500", "404"])
async def test_a_poll_that_fails_is_tried_again(how: str, server: MidjourneyServer) -> None:
    server.fail_with(how, on="fetch", times=3)

    events = await made(server)

    assert len(pixels(events)) == 1
    assert len(server.submits) == 1


@pytest.mark.parametrize("kind", ["java", "csharp"])
async def test_a_secret_that_is_refused_while_a_task_is_drawn_loses_no_picture(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with midjourney_server(kind) as server, provider_for(server) as provider:
        events = provider.generate(WISH)
        assert isinstance(await anext(events), TaskStarted)
        server.secret = "another"
        asyncio.get_running_loop().call_later(0.3, setattr, server, "secret", SECRET)

        came = [event async for event in events]

        assert len(pixels(came)) == 1
        assert len(server.submits) == 1
        assert caplog.text.count("provider.refused_key") == 1


@pytest.mark.parametrize("kind", ["java", "csharp"])
async def test_a_task_that_is_refused_to_be_told_of_to_the_end_is_unknown(kind: Any) -> None:
    async with midjourney_server(kind) as server:
        server.secret = "another"

        raised, events = await failure(server, replace(WISH, task=server.start()), seconds=0.3)

        assert type(raised) is OutcomeUnknown
        assert "secret" in raised.message
        assert (server.submits, events) == ([], [])


@pytest.mark.parametrize("kind", ["java", "csharp"])
async def test_a_task_that_the_proxy_has_forgotten_is_unknown(kind: Any) -> None:
    async with midjourney_server(kind) as server:
        raised, events = await failure(server, replace(WISH, task="1732000000000123"))

        assert type(raised) is OutcomeUnknown
        assert (len(server.submits), server.polls, events) == (0, 1, [])


async def test_a_task_that_is_known_is_gone_on_with_and_nothing_is_submitted(
    server: MidjourneyServer,
) -> None:
    task = server.start(drawn()[3:])

    events = await made(server, replace(WISH, task=task, count=2))

    assert server.submits == []
    assert [type(event) for event in events] == [Preview] * 2 + [GeneratedImage] * 2


async def test_a_task_may_have_any_name(server: MidjourneyServer) -> None:
    raised, _ = await failure(server, replace(WISH, task="../../admin?x=1#"))

    assert type(raised) is OutcomeUnknown
    assert server.polls == 1


# ---- pictures that do not come ----------------------------------------------------------------


async def test_a_preview_that_cannot_be_had_is_left_out(server: MidjourneyServer) -> None:
    server.fail_with("404", on="picture")
    server.script = [
        Step("IN_PROGRESS", "31%", blurred(11)),
        Step("IN_PROGRESS", "31%", blurred(11)),
        Step("IN_PROGRESS", "62%", b"no picture at all"),
        Step("SUCCESS", "100%", grid()),
    ]

    events = await made(server)

    assert [type(event) for event in events[1:]] == [Progressed, Progressed, GeneratedImage]


async def test_a_grid_that_cannot_be_had_at_once_is_fetched_again(
    server: MidjourneyServer,
) -> None:
    server.script = [Step("SUCCESS", "100%", grid())]
    server.fail_with("404", on="picture", times=2)

    events = await made(server)

    assert len(pixels(events)) == 1


async def test_a_grid_whose_link_has_expired_is_lost_and_was_paid(
    server: MidjourneyServer,
) -> None:
    server.script = [Step("SUCCESS", "100%", grid())]
    server.fail_with("404", on="picture", times=100)

    raised, events = await failure(server, price=0.5)

    assert type(raised) is ProviderUnavailable
    assert "127.0.0.1" in raised.message
    assert "hm=" not in raised.message
    assert events[1:] == [Charged(Decimal("0.5"))]
    assert server.left_to_fail(on="picture") == 97


@pytest.mark.parametrize("data", [b"no picture at all", grid()[:2000], png(1, 1)])
async def test_a_grid_that_is_none_is_the_providers_fault(
    data: bytes, server: MidjourneyServer
) -> None:
    server.script = [Step("SUCCESS", "100%", data)]

    raised, _ = await failure(server)

    assert type(raised) is ProviderUnavailable
    assert len(server.submits) == 1


async def test_a_grid_from_a_host_that_is_not_listed_is_not_fetched(
    server: MidjourneyServer,
) -> None:
    """The proxy was taken over, and wants us to look at something in our own network."""
    server.script = [Step("SUCCESS", "100%", grid())]
    server.pictures_at = server.url.replace("127.0.0.1", "127.0.0.2")

    raised, _ = await failure(server)

    assert type(raised) is ProviderUnavailable
    assert "127.0.0.2" in raised.message
    assert not server.downloads


def test_pictures_come_from_discord_the_proxy_and_where_the_operator_says() -> None:
    options = MidjourneyOptions(base_url="https://Proxy.example:8443/x", hosts=(".cdn.example",))

    assert result_hosts(options) == (
        "cdn.discordapp.com",
        "media.discordapp.net",
        ".cdn.example",
        "proxy.example",
    )


# ---- left, and not wanted any more -------------------------------------------------------------


@pytest.mark.parametrize("heard", [1, 2])
async def test_closing_leaves_the_task_to_be_asked_after_again(
    heard: int, csharp: MidjourneyServer
) -> None:
    async with provider_for(csharp) as provider:
        events = cast("AsyncGenerator[Event]", provider.generate(WISH))
        for _ in range(heard):
            await anext(events)

        await events.aclose()

        (task,) = csharp.tasks
        again = [event async for event in provider.generate(replace(WISH, task=task))]
    assert csharp.cancels == []
    assert len(pixels(again)) == len(csharp.submits) == 1


async def test_who_is_cancelled_while_reading_leaves_the_task_too(
    csharp: MidjourneyServer,
) -> None:
    csharp.script = [Step("IN_PROGRESS", "31%")]
    reading = asyncio.create_task(made(csharp))
    await csharp.is_polled.wait()

    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    assert reading.cancelled()
    assert csharp.cancels == []


async def test_a_task_that_nobody_wants_any_more_is_cancelled_at_the_proxy(
    csharp: MidjourneyServer,
) -> None:
    task = csharp.start([Step("IN_PROGRESS", "31%")])

    async with provider_for(csharp) as provider:
        await provider.cancel(task)

    assert csharp.cancels == [task]
    assert csharp.submits == []


@pytest.mark.parametrize("how", ["", "500", "cut"])
async def test_a_proxy_that_cannot_cancel_holds_nobody_up(
    how: str, server: MidjourneyServer, csharp: MidjourneyServer
) -> None:
    proxy = csharp if how else server  # Java does not know how to
    if how:
        csharp.fail_with(how, on="cancel")
    task = proxy.start([Step("IN_PROGRESS", "31%")])

    async with provider_for(proxy) as provider:
        await provider.cancel(task)

    assert server.cancels == []


async def test_a_proxy_that_does_not_answer_to_it_holds_nobody_up_for_long(
    csharp: MidjourneyServer,
) -> None:
    csharp.fail_with("hang", on="cancel")

    async with provider_for(csharp) as provider:
        started = time.monotonic()
        await provider.cancel(csharp.start())

    assert 1.5 < time.monotonic() - started < 4
