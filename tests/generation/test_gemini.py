"""What the `gemini` provider sends, what it makes of every answer, and what it says was paid."""

import asyncio
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
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
    ImageFailed,
    ImageProvider,
    InputImage,
)
from generation.providers.gemini import GeminiProvider, open_gemini
from generation.providers.options import GeminiOptions
from storage.errors import LibraryError, RateLimited, Rejected
from tests.gemini_server import API_KEY, FORBIDDEN, INDECENT, GeminiServer, gemini_server
from tests.pictures import encoded, jpeg, opened, photo, png

MODEL = "gemini-3.1-flash-image"


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    async with gemini_server() as server:
        yield server


@pytest.fixture
def options(server: GeminiServer) -> GeminiOptions:
    return GeminiOptions(SecretStr(API_KEY), base_url=server.url, seconds=5, connect_seconds=1)


@pytest.fixture
async def provider(options: GeminiOptions) -> AsyncIterator[GeminiProvider]:
    async with open_gemini(options) as provider:
        yield provider


def wish(prompt: str = "a lighthouse at dusk", **more: object) -> GenerationRequest:
    request = GenerationRequest(UUID(int=1), MODEL, prompt, 912, 1144)
    return replace(request, **more)  # type: ignore[arg-type]  # fields of the request


def reference(data: bytes, media_type: str) -> InputImage:
    return InputImage(data, media_type, *opened(data).size)


async def events(provider: GeminiProvider, request: GenerationRequest) -> list[Event]:
    return [event async for event in provider.generate(request)]


async def failure(provider: GeminiProvider, request: GenerationRequest) -> LibraryError:
    """What is raised, after nothing else was told: neither a picture nor a charge."""
    asking = aiter(provider.generate(request))
    with pytest.raises(LibraryError) as caught:
        await anext(asking)
    return caught.value


def cost(events: list[Event]) -> Decimal:
    return sum((event.cost for event in events if isinstance(event, Charged)), Decimal(0))


def pictures(events: list[Event]) -> list[GeneratedImage]:
    return [event for event in events if isinstance(event, GeneratedImage)]


# ---- Pictures ------------------------------------------------------------------------------------


def test_it_is_an_image_provider_of_an_ai(provider: GeminiProvider) -> None:
    known: ImageProvider = provider

    assert (known.name, known.makes_ai_images) == ("gemini", True)
    assert {model.name: model.price for model in known.models} == {
        "gemini-3.1-flash-image": Decimal("0.067"),
        "gemini-3.1-flash-lite-image": Decimal("0.0336"),
        "gemini-3-pro-image": Decimal("0.134"),
        "gemini-2.5-flash-image": Decimal("0.039"),
    }
    assert set(known.former_models.values()) <= {model.name for model in known.models}


def test_the_oldest_model_tells_when_it_ends_and_who_takes_its_place(
    provider: GeminiProvider,
) -> None:
    oldest = provider.models[-1]

    assert oldest.name == "gemini-2.5-flash-image"
    assert oldest.shutdown_date == date(2027, 3, 15)
    assert oldest.replaced_by == MODEL


async def test_the_model_of_the_settings_comes_first(options: GeminiOptions) -> None:
    async with open_gemini(replace(options, model="gemini-3-pro-image")) as provider:
        names = [model.name for model in provider.models]

    assert names[:2] == ["gemini-3-pro-image", MODEL]


async def test_an_old_name_in_the_settings_is_answered_by_what_followed_it(
    options: GeminiOptions,
) -> None:
    async with open_gemini(replace(options, model="gemini-3-pro-image-preview")) as provider:
        assert provider.models[0].name == "gemini-3-pro-image"


async def test_an_unknown_model_in_the_settings_is_rejected(options: GeminiOptions) -> None:
    with pytest.raises(Rejected, match=r"'imagen-4'. Choose from: gemini-3.1-flash-image"):
        async with open_gemini(replace(options, model="imagen-4")):
            pass


async def test_a_picture_is_charged_by_the_list_and_then_given(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    charged, image = await events(provider, wish())

    assert charged == Charged(Decimal("0.067"))
    assert image == GeneratedImage(0, server.drawn[0], progress=1.0)
    assert opened(server.drawn[0]).size == (114, 143)
    assert server.calls == {"generate": 1}


async def test_the_words_and_the_shape_are_sent(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    await events(provider, wish())

    (asked,) = server.asked
    assert asked.model == MODEL
    assert asked.body == {
        "contents": [{"role": "user", "parts": [{"text": "a lighthouse at dusk"}]}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspectRatio": "4:5", "imageSize": "1K"},
        },
    }
    assert asked.headers["x-goog-api-key"] == API_KEY
    assert "cookie" not in asked.headers


async def test_the_oldest_model_is_not_told_a_size(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    await events(provider, wish(model="gemini-2.5-flash-image"))

    config = server.asked[0].body["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "4:5"}


async def test_pictures_to_go_by_follow_the_words(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    first = reference(jpeg(), "image/jpeg")
    large = reference(encoded(photo(700, 600), "PNG", compress_level=0), "image/png")
    assert len(large.data) > 2**20

    await events(provider, wish(references=[first, large]))

    words, *given = server.asked[0].parts
    assert words == {"text": "a lighthouse at dusk"}
    assert [part["inlineData"]["mimeType"] for part in given] == ["image/jpeg", "image/png"]
    assert [b64decode(part["inlineData"]["data"]) for part in given] == [first.data, large.data]


async def test_a_sketch_among_its_thoughts_is_not_the_picture(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    told = await events(provider, wish(model="gemini-3-pro-image"))

    assert [image.data for image in pictures(told)] == server.drawn
    assert cost(told) == Decimal("0.134")


async def test_several_pictures_are_several_calls(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    request = wish(count=3)

    told = await events(provider, request)

    assert [type(event) for event in told] == [Charged, GeneratedImage] * 3
    assert [image.data for image in pictures(told)] == server.drawn
    assert [image.index for image in pictures(told)] == [0, 1, 2]
    assert [image.progress for image in pictures(told)] == [1 / 3, 2 / 3, 1.0]
    assert cost(told) == provider.estimate(request) == Decimal("0.201")
    assert server.calls == {"generate": 3}


@pytest.mark.parametrize(
    ("wished", "size"),
    [
        ((1080, 1080), (1024, 1024)),
        ((1080, 1350), (912, 1144)),
        ((1080, 1920), (768, 1368)),
        ((1080, 566), (1368, 768)),
        ((900, 1200), (888, 1184)),
        ((3111, 1000), (1568, 672)),
    ],
)
def test_a_size_is_that_of_the_nearest_shape(
    wished: tuple[int, int], size: tuple[int, int], provider: GeminiProvider
) -> None:
    assert provider.size_for(provider.models[0], *wished) == size


@pytest.mark.parametrize(
    ("wished", "field", "limit"),
    [((3200, 1000), "width", 28 / 9), ((1000, 2400), "height", 64 / 27)],
)
def test_a_strip_is_rejected(
    wished: tuple[int, int], field: str, limit: float, provider: GeminiProvider
) -> None:
    with pytest.raises(Rejected) as rejected:
        provider.size_for(provider.models[0], *wished)

    assert rejected.value.field == field
    assert rejected.value.limit == pytest.approx(limit)


# ---- Answers that are no picture -----------------------------------------------------------------


async def test_forbidden_words_are_refused_at_the_input(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    with pytest.raises(Refused) as refused:
        await events(provider, wish(f"{FORBIDDEN} everywhere", count=3))

    assert (refused.value.stage, refused.value.categories) == ("input", ("PROHIBITED_CONTENT",))
    assert server.calls == {"generate": 1}


async def test_a_picture_that_is_held_back_is_refused_at_the_output(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    with pytest.raises(Refused) as refused:
        await events(provider, wish(f"a {INDECENT} figure"))

    assert (refused.value.stage, refused.value.categories) == ("output", ("IMAGE_SAFETY",))


@pytest.mark.parametrize(
    "reason",
    [
        "SAFETY",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_OTHER",
        "NO_IMAGE",
    ],
)
async def test_an_end_for_a_reason_is_a_refusal_of_that_picture_only(
    reason: str, provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(f"finish:{reason}", None)

    charged, image, failed = await events(provider, wish(count=2))

    assert charged == Charged(Decimal("0.067"))
    assert isinstance(image, GeneratedImage)
    assert image.index == 1
    assert isinstance(failed, ImageFailed)
    assert failed.index == 0
    assert isinstance(failed.reason, Refused)
    assert (failed.reason.stage, failed.reason.categories) == ("output", (reason,))


@pytest.mark.parametrize("reason", ["SAFETY", "BLOCKLIST", "IMAGE_SAFETY", "JAILBREAK", "OTHER"])
async def test_a_blocked_prompt_is_refused_for_whatever_reason(
    reason: str, provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(f"block:{reason}")

    with pytest.raises(Refused) as refused:
        await events(provider, wish())

    assert (refused.value.stage, refused.value.categories) == ("input", (reason,))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("finish:STOP", ProviderUnavailable),
        ("finish:MAX_TOKENS", ProviderUnavailable),
        ("silence", ProviderUnavailable),
        ("internal", ProviderUnavailable),
        ("overloaded", ProviderUnavailable),
        ("moved", ProviderUnavailable),
        ("unauthenticated", ProviderAuth),
        ("denied", ProviderAuth),
        ("country", ProviderAuth),
        ("minute", RateLimited),
        ("exhausted", RateLimited),
        ("day", ProviderQuota),
        ("billing", ProviderQuota),
        ("credits", ProviderQuota),
        ("bad-base64", OutcomeUnknown),
        ("broken-json", OutcomeUnknown),
        ("cut", OutcomeUnknown),
        ("torn", OutcomeUnknown),
    ],
)
async def test_each_failure_is_told_by_what_can_be_done_about_it(
    how: str, kind: type[LibraryError], provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(how)

    with pytest.raises(LibraryError) as failure:
        await events(provider, wish())

    assert type(failure.value) is kind
    assert API_KEY not in failure.value.message
    assert server.calls == {"generate": 1}


@pytest.mark.parametrize(
    ("code", "status", "kind", "calls"),
    [
        (400, "INVALID_ARGUMENT", ProviderRejected, 1),
        (400, "FAILED_PRECONDITION", ProviderAuth, 1),
        (401, "UNAUTHENTICATED", ProviderAuth, 1),
        (403, "PERMISSION_DENIED", ProviderAuth, 1),
        (404, "NOT_FOUND", ProviderRejected, 1),
        (429, "RESOURCE_EXHAUSTED", RateLimited, 1),
        (500, "INTERNAL", ProviderUnavailable, 3),
        (503, "UNAVAILABLE", ProviderUnavailable, 3),
    ],
)
async def test_a_failure_in_their_own_words_costs_nothing(
    code: int,
    status: str,
    kind: type[LibraryError],
    calls: int,
    provider: GeminiProvider,
    server: GeminiServer,
) -> None:
    server.fail_with(*[f"told:{code}:{status}"] * 3)

    error = await failure(provider, wish(count=3))

    assert type(error) is kind
    assert (error.code, error.remedy) == (kind.code, kind.remedy)
    assert server.calls == {"generate": calls}


@pytest.mark.parametrize(
    "how",
    [
        *(f"page:{status}" for status in (203, 408, 500, 502, 503, 504, 520, 524)),
        *("json:500", "json:503", "json:504", "torn-page:503"),
    ],
)
async def test_a_machine_in_between_cannot_know_so_nothing_more_is_asked_for(
    how: str, provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(*[how] * 3)

    error = await failure(provider, wish(count=3))

    assert type(error) is OutcomeUnknown
    assert (error.code, error.remedy) == (OutcomeUnknown.code, OutcomeUnknown.remedy)
    assert server.calls == {"generate": 1}


async def test_a_deadline_of_their_own_may_have_passed_just_before_the_picture_was_done(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(*["told:504:DEADLINE_EXCEEDED"] * 3)

    error = await failure(provider, wish(count=3))

    assert type(error) is OutcomeUnknown
    assert server.calls == {"generate": 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, ProviderAuth), (413, ProviderRejected), (429, RateLimited)],
)
async def test_what_a_machine_in_between_does_not_let_pass_costs_nothing(
    status: int, kind: type[LibraryError], provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(f"page:{status}")

    error = await failure(provider, wish(count=3))

    assert type(error) is kind
    assert server.calls == {"generate": 1}


async def test_after_a_lost_answer_nothing_is_asked_for_and_only_that_one_may_be_paid(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(None, "page:504")

    told = await events(provider, wish(count=3))

    assert [image.index for image in pictures(told)] == [0]
    assert [(each.index, type(each.reason)) for each in told if isinstance(each, ImageFailed)] == [
        (1, OutcomeUnknown),
        (2, NotSent),
    ]
    assert cost(told) == Decimal("0.067")
    assert server.calls == {"generate": 2}


@pytest.mark.parametrize(("how", "seconds"), [("minute", 34.074824224), ("exhausted", 60)])
async def test_a_rate_limit_tells_when_to_come_back(
    how: str, seconds: float, provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(how)

    with pytest.raises(RateLimited) as limited:
        await events(provider, wish(count=3))

    assert limited.value.retry_after == seconds
    assert server.calls == {"generate": 1}


async def test_a_bad_request_is_rejected_in_their_words(provider: GeminiProvider) -> None:
    mislabelled = reference(png(), "image/jpeg")

    with pytest.raises(ProviderRejected, match="Unable to process input image"):
        await events(provider, wish(references=[mislabelled]))


async def test_a_model_that_is_gone_is_rejected_and_a_refresh_tells_so(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    server.models.discard(MODEL)

    with pytest.raises(ProviderRejected, match=f"{MODEL} is not found"):
        await events(provider, wish())
    with pytest.raises(ProviderRejected, match=f"{MODEL} is not found"):
        await provider.refresh()
    missing = provider.models[0].warning
    server.models.add(MODEL)
    await provider.refresh()

    assert missing == f"Gemini does not know {MODEL}, and may refuse it."
    assert provider.models[0].warning is None


async def test_a_wrong_key_is_asked_with_once(options: GeminiOptions, server: GeminiServer) -> None:
    async with open_gemini(replace(options, api_key=SecretStr("AIza-wrong"))) as provider:
        with pytest.raises(ProviderAuth):
            await events(provider, wish(count=3))

    assert server.calls == {"generate": 1}


async def test_whoever_cannot_be_reached_was_not_sent_anything(
    options: GeminiOptions, unused_tcp_port: int
) -> None:
    nowhere = replace(options, base_url=f"http://127.0.0.1:{unused_tcp_port}")

    async with open_gemini(nowhere) as provider:
        with pytest.raises(NotSent):
            await events(provider, wish())


async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(
    options: GeminiOptions, server: GeminiServer
) -> None:
    server.fail_with("hang")
    began = time.monotonic()

    async with open_gemini(replace(options, seconds=0.3)) as provider:
        with pytest.raises(OutcomeUnknown):
            await events(provider, wish(count=3))

    assert time.monotonic() - began < 3
    assert server.calls == {"generate": 1}


async def test_when_the_days_share_ends_the_pictures_before_are_kept_and_no_more_asked_for(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(None, "day")

    told = await events(provider, wish(count=4))

    assert [image.index for image in pictures(told)] == [0]
    assert [(each.index, type(each.reason)) for each in told if isinstance(each, ImageFailed)] == [
        (1, ProviderQuota),
        (2, ProviderQuota),
        (3, ProviderQuota),
    ]
    assert cost(told) == Decimal("0.067")
    assert server.calls == {"generate": 2}


# ---- Stopping, and the key -----------------------------------------------------------------------


async def test_to_cancel_the_reader_closes_the_connection(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with("hang")
    reader = asyncio.create_task(events(provider, wish(count=3)))
    await server.is_held.wait()

    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    async with asyncio.timeout(2):
        await server.is_dropped.wait()
    assert server.calls == {"generate": 1}


async def test_to_close_the_iterator_ends_the_asking(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    asking = provider.generate(wish(count=3))
    await anext(asking)

    await asking.aclose()  # type: ignore[attr-defined]  # it is a generator

    assert server.calls == {"generate": 1}


async def test_refreshing_tries_the_key_and_the_default_model(
    provider: GeminiProvider, server: GeminiServer
) -> None:
    await provider.refresh()

    assert server.calls == {"model": 1}
    assert server.asked[0].model == MODEL


async def test_refreshing_tells_that_the_key_is_wrong(options: GeminiOptions) -> None:
    async with open_gemini(replace(options, api_key=SecretStr("AIza-wrong"))) as provider:
        with pytest.raises(ProviderAuth):
            await provider.refresh()


@pytest.mark.parametrize("how", ["page:504", "told:504:DEADLINE_EXCEEDED", "cut"])
async def test_a_refresh_that_is_lost_says_nothing_of_money(
    how: str, provider: GeminiProvider, server: GeminiServer
) -> None:
    server.fail_with(how, how)  # a GET that is cut is tried twice

    with pytest.raises(ProviderUnavailable):
        await provider.refresh()


async def test_the_key_is_in_no_log(
    provider: GeminiProvider, server: GeminiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.fail_with("cut", "internal", "minute")

    for _ in range(3):
        with pytest.raises(LibraryError):
            await events(provider, wish())

    assert API_KEY not in caplog.text
