"""The OpenAI provider against a stand-in: what it sends, tells, charges, and makes of failures."""

import asyncio
import logging
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from PIL import Image
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
    Background,
    Charged,
    Event,
    GeneratedImage,
    GenerationRequest,
    ImageFailed,
    ImageProvider,
    InputImage,
    Preview,
    Progressed,
    Quality,
)
from generation.providers.openai import OpenAIProvider, open_openai
from generation.providers.options import OpenAIOptions
from generation.tasks import GenerationTask, Repeats
from storage.database import Database
from storage.errors import LibraryError, RateLimited, Rejected, Unavailable
from storage.generations import Generations, NewGeneration
from storage.keeper import Keeper
from storage.ledger import Budgets, Ledger
from storage.library import Library
from storage.models import EntryState, GenerationStatus
from storage.objects.local import LocalObjectStore
from storage.search import PageRequest
from storage.viewers import Viewer
from tests.openai_server import (
    API_KEY,
    INPUT_TRIGGER,
    OUTPUT_TRIGGER,
    QUOTAS,
    CompatibleServer,
    OpenAIServer,
    compatible_server,
    openai_server,
    tokens,
)
from tests.pictures import encoded, jpeg, opened, png

MODEL = "gpt-image-2.5-flare"
PROMPT = "a poster"
TEXT_TOKENS = 2  # what the stand-in counts for it
SIZE = (1088, 1360)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        yield running


@pytest.fixture
async def provider(server: OpenAIServer) -> AsyncIterator[OpenAIProvider]:
    async with opening(server.url) as opened:
        yield opened


def opening(url: str, **options: Any) -> AbstractAsyncContextManager[OpenAIProvider]:
    defaults: dict[str, Any] = {"model": MODEL, "api_key": SecretStr(API_KEY), "seconds": 20}
    return open_openai(OpenAIOptions(**defaults | {"base_url": url} | options), fetch)


async def fetch(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        if answer.status != 200:
            raise ProviderUnavailable("There is no picture.")
        return await answer.read()


def wish(prompt: str = PROMPT, **more: Any) -> GenerationRequest:
    defaults: dict[str, Any] = {"model": MODEL, "width": SIZE[0], "height": SIZE[1]}
    return GenerationRequest(UUID(int=1), prompt=prompt, **defaults | more)


async def events(
    provider: ImageProvider, request: GenerationRequest, told: list[Event] | None = None
) -> list[Event]:
    """All that is told; `told` has it also if something is raised."""
    told = [] if told is None else told
    async for event in provider.generate(request):
        told.append(event)
    return told


async def failure(provider: ImageProvider, request: GenerationRequest) -> LibraryError:
    """What is raised, after nothing that would have to be paid for."""
    told: list[Event] = []
    with pytest.raises(LibraryError) as caught:
        await events(provider, request, told)
    assert not [event for event in told if isinstance(event, Charged | GeneratedImage)]
    return caught.value


def pictures(told: Sequence[Event]) -> list[GeneratedImage]:
    return [event for event in told if isinstance(event, GeneratedImage)]


def previews(told: Sequence[Event]) -> list[Preview]:
    return [event for event in told if isinstance(event, Preview)]


def charged(told: Sequence[Event]) -> Decimal:
    return sum((event.cost for event in told if isinstance(event, Charged)), Decimal(0))


def dollars(*, text: int = TEXT_TOKENS, images: int = 0, drawn: int) -> Decimal:
    return (text * Decimal(5) + images * Decimal(8) + drawn * Decimal(30)) / 1_000_000


def reference(width: int = 320, height: int = 400) -> InputImage:
    return InputImage(jpeg(width, height), "image/jpeg", width, height)


def mask(width: int = 320, height: int = 400) -> InputImage:
    return InputImage(
        encoded(Image.new("RGBA", (width, height)), "PNG"), "image/png", width, height
    )


# ---- One picture, streamed -----------------------------------------------------------------------


async def test_a_picture_comes_after_its_previews_and_after_what_it_costs(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    told = await events(provider, wish(quality=Quality.MEDIUM))

    assert [type(event) for event in told] == [
        *(Progressed, Preview, Preview, Charged, GeneratedImage)
    ]
    assert opened(pictures(told)[0].data).size == SIZE
    assert pictures(told)[0].progress == 1.0
    assert pictures(told)[0].revised_prompt is None
    assert charged(told) == dollars(drawn=397 + 2 * 100)
    assert server.calls == {"generations": 1}


async def test_previews_show_how_far_the_picture_is_and_never_too_far(
    provider: OpenAIProvider,
) -> None:
    told = previews(await events(provider, wish()))

    assert [(each.index, each.stage) for each in told] == [(0, "sketching"), (0, "drawing")]
    assert [each.progress for each in told] == pytest.approx([0.3, 0.6])
    assert {each.media_type for each in told} == {"image/png"}
    assert opened(told[0].data).size == (136, 170)


async def test_what_is_asked_for_is_sent_once_and_nothing_else(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    await events(provider, wish(quality=Quality.LOW, asked_by="8f3a", seed=7, style="noir"))

    [asked] = server.requests
    assert asked.fields == {
        "model": MODEL,
        "prompt": PROMPT,
        "n": 1,
        "size": "1088x1360",
        "quality": "low",
        "output_format": "png",
        "safety_identifier": "8f3a",
        "stream": True,
        "partial_images": 2,
    }
    assert asked.headers["x-stainless-retry-count"] == "0"
    assert "OpenAI-Organization" not in asked.headers


async def test_the_account_comes_from_the_options_and_not_from_the_environment(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "http://of-somebody-else")

    async with opening(server.url, organization="org-1", project="proj-1") as provider:
        await events(provider, wish())
    async with opening(server.url) as provider:
        await events(provider, wish())

    told = [
        (asked.headers.get("OpenAI-Organization"), asked.headers.get("OpenAI-Project"))
        for asked in server.requests
    ]
    assert told == [("org-1", "proj-1"), (None, None)]


async def test_a_transparent_background_is_asked_for_where_it_is_wished(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    await events(provider, wish(background=Background.TRANSPARENT))

    assert server.requests[0].fields["background"] == "transparent"
    assert server.requests[0].fields["output_format"] == "png"


async def test_the_picture_may_come_before_its_previews(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.fail_with("no_partials")

    told = await events(provider, wish())

    assert previews(told) == []
    assert len(pictures(told)) == 1


@pytest.mark.parametrize("count", [1, 2])
async def test_without_a_count_of_tokens_our_estimate_is_charged(
    server: OpenAIServer, provider: OpenAIProvider, count: int
) -> None:
    server.fail_with("no_usage")
    request = wish(count=count)

    told = await events(provider, request)

    assert charged(told) == provider.estimate(request)


async def test_without_previews_nothing_is_streamed(server: OpenAIServer) -> None:
    async with opening(server.url, previews=0) as provider:
        told = await events(provider, wish(quality=Quality.MEDIUM))

    assert "stream" not in server.requests[0].fields
    assert [type(event) for event in told] == [Charged, GeneratedImage]
    assert charged(told) == dollars(drawn=397)


async def test_an_unknown_model_is_asked_with_care(server: OpenAIServer) -> None:
    server.models["somebody-elses"] = server.models[MODEL]

    async with opening(server.url, model="somebody-elses") as provider:
        told = await events(provider, wish(model="somebody-elses", width=1024, height=1024))

    assert "stream" not in server.requests[0].fields
    assert len(pictures(told)) == 1


@pytest.mark.parametrize("model", ["gpt-image-2.7-flare", "gpt-image-2.6-flare-2026-11-04"])
@pytest.mark.parametrize("quality", [None, *Quality])
async def test_a_later_model_does_what_the_newest_can_and_what_is_set_aside_suffices(
    server: OpenAIServer, model: str, quality: Quality | None
) -> None:
    server.models[model] = server.models["gpt-image-2.6-flare"]

    async with opening(server.url, model=model) as provider:
        width, height = provider.size_for(provider.models[0], 1080, 1350)
        request = wish(model=model, width=width, height=height, quality=quality)
        told = await events(provider, request)

    assert (width, height) == SIZE
    assert server.requests[0].fields["stream"] is True
    assert len(previews(told)) == 2
    assert 0 < charged(told) <= provider.estimate(request)


async def test_who_stops_reading_stops_the_stream(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.seconds = 0.2

    async with aclosing(provider.generate(wish())) as told:  # type: ignore[type-var]  # generators can be closed
        async for event in told:
            if isinstance(event, Preview):
                break

    async with asyncio.timeout(5):
        await server.is_left.wait()
    assert server.calls == {"generations": 1}


async def test_who_is_cancelled_stops_the_stream(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.fail_with("silent_stream")
    reading = asyncio.create_task(events(provider, wish()))
    await server.is_asked.wait()
    await asyncio.sleep(0.1)  # until the stream is open

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(5):
        await server.is_left.wait()
    assert server.calls == {"generations": 1}


# ---- Several pictures ----------------------------------------------------------------------------


async def test_several_pictures_come_together_since_the_api_streams_only_one(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    told = await events(provider, wish(count=3, quality=Quality.MEDIUM))

    assert [type(event) for event in told] == [Charged, *[GeneratedImage] * 3]
    assert [image.index for image in pictures(told)] == [0, 1, 2]
    assert [image.progress for image in pictures(told)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert len({image.data for image in pictures(told)}) == 3
    assert charged(told) == dollars(drawn=3 * 397)
    assert server.calls == {"generations": 1}


@pytest.mark.parametrize(("how", "lost"), [("one_missing", 2), ("broken_picture", 0)])
async def test_a_picture_that_does_not_come_fails_alone(
    server: OpenAIServer, provider: OpenAIProvider, how: str, lost: int
) -> None:
    server.fail_with(how)

    told = await events(provider, wish(count=3))

    [failed] = [event for event in told if isinstance(event, ImageFailed)]
    assert failed.index == lost
    assert isinstance(failed.reason, ProviderUnavailable)
    assert {image.index for image in pictures(told)} == {0, 1, 2} - {lost}


@pytest.mark.parametrize("count", [1, 2])
async def test_a_broken_picture_is_an_error_and_paid_for(
    server: OpenAIServer, provider: OpenAIProvider, count: int
) -> None:
    server.fail_with("broken_picture")
    told: list[Event] = []

    if count == 1:
        with pytest.raises(ProviderUnavailable):
            await events(provider, wish(), told)
    else:
        told = await events(provider, wish(count=2))

    assert charged(told) > 0


# ---- Edits ---------------------------------------------------------------------------------------


async def test_an_edit_sends_the_references_and_the_mask_under_their_names(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    request = wish(references=[reference(), reference()], mask=mask(), quality=Quality.HIGH)

    told = await events(provider, request)

    [asked] = server.requests
    assert asked.endpoint == "edits"
    assert [(file.part, file.filename, file.media_type) for file in asked.files] == [
        ("image[]", "image-1.jpeg", "image/jpeg"),
        ("image[]", "image-2.jpeg", "image/jpeg"),
        ("mask", "mask.png", "image/png"),
    ]
    assert asked.files[0].data == request.references[0].data
    assert "input_fidelity" not in asked.fields
    assert [type(event) for event in told] == [
        *(Progressed, Preview, Preview, Charged, GeneratedImage)
    ]
    assert charged(told) == dollars(images=3000, drawn=1587 + 200)
    assert server.calls == {"edits": 1}


async def test_a_single_reference_is_sent_as_one(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    told = await events(provider, wish(references=[reference()], count=2))

    assert [file.part for file in server.requests[0].files] == ["image"]
    assert len(pictures(told)) == 2


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"references": [InputImage(b"GIF89a", "image/gif", 1, 1)]}, "references"),
        ({"references": [reference()], "mask": reference()}, "mask"),
    ],
)
async def test_a_file_that_the_api_does_not_take_is_not_sent(
    server: OpenAIServer, provider: OpenAIProvider, more: dict[str, Any], field: str
) -> None:
    error = await failure(provider, wish(**more))

    assert isinstance(error, ProviderRejected)
    assert error.field == field
    assert server.calls == {}


async def test_a_mask_of_another_size_is_rejected_in_the_providers_own_words(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    error = await failure(provider, wish(references=[reference()], mask=mask(64, 64)))

    assert isinstance(error, ProviderRejected)
    assert error.message == (
        "OpenAI cannot do this: The mask must have the size of the first image."
    )


# ---- Failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("unverified", ProviderAuth, "OpenAI does not accept our key, or does not let it do this"),
        ("conflict", ProviderRejected, "OpenAI cannot do this: Another request is under way."),
        ("unprocessable", ProviderRejected, "OpenAI cannot do this: The request cannot be"),
        ("policy", Refused, "OpenAI will not draw this: Your request was rejected as a result"),
        ("hard_limit", ProviderQuota, "Our account with OpenAI is used up (billing_hard_limit_"),
        ("server_error", ProviderUnavailable, "OpenAI does not work now (server_error)."),
        ("overloaded", ProviderUnavailable, "OpenAI does not work now (server_error)."),
        *(
            (
                f"page_{status}",
                OutcomeUnknown,
                f"OpenAI was asked, and its answer was lost ({status}",
            )
            for status in (408, 500, 502, 503, 504, 520, 524)
        ),
        ("problem", OutcomeUnknown, "OpenAI was asked, and its answer was lost (520)."),
        ("redirect", ProviderUnavailable, "OpenAI does not work now (307)."),
        ("gateway_timeout", OutcomeUnknown, "OpenAI was asked, and its answer was lost (504)."),
        ("drop", OutcomeUnknown, "OpenAI was asked, and its answer was lost (RemoteProtocolError"),
        ("cut_refusal", OutcomeUnknown, "OpenAI was asked, and its answer was lost (RemoteProto"),
        ("welcome", OutcomeUnknown, "OpenAI was asked, and its answer was lost (it "),
        *((code, ProviderQuota, f"Our account with OpenAI is used up ({code})") for code in QUOTAS),
    ],
)
async def test_each_failure_is_told_apart_after_a_single_call(
    server: OpenAIServer,
    provider: OpenAIProvider,
    count: int,
    how: str,
    kind: type[LibraryError],
    message: str,
) -> None:
    server.fail_with(how)

    error = await failure(provider, wish(count=count))

    assert type(error) is kind
    assert error.message.startswith(message)
    assert error.remedy
    assert server.calls == {"generations": 1}


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("cut_stream", OutcomeUnknown),
        ("one_missing", OutcomeUnknown),
        ("nonsense_in_stream", OutcomeUnknown),
        ("error_in_stream", ProviderUnavailable),
        ("error_after_previews", OutcomeUnknown),
        ("rate_in_stream", RateLimited),
        ("rate_after_previews", OutcomeUnknown),
        ("rate_after_broken_preview", OutcomeUnknown),
        ("quota_after_previews", ProviderQuota),
    ],
)
async def test_a_stream_that_goes_wrong_is_not_begun_again(
    server: OpenAIServer, provider: OpenAIProvider, how: str, kind: type[LibraryError]
) -> None:
    server.fail_with(how)

    error = await failure(provider, wish())

    assert type(error) is kind
    assert server.calls == {"generations": 1}


@pytest.mark.parametrize("more", [{}, {"references": [reference()]}])
async def test_who_was_sent_previews_is_told_that_they_may_have_to_be_paid_for(
    server: OpenAIServer, provider: OpenAIProvider, more: dict[str, Any]
) -> None:
    server.fail_with("rate_after_previews")
    told: list[Event] = []

    with pytest.raises(OutcomeUnknown) as unknown:
        await events(provider, wish(**more), told)

    assert len(previews(told)) == 2
    assert unknown.value.message == (
        "OpenAI stopped in the midst of the picture (rate_limit_exceeded). What it had drawn may "
        "have been paid for."
    )
    assert unknown.value.remedy == OutcomeUnknown.remedy


@pytest.mark.parametrize(
    ("how", "status", "state", "calls"),
    [
        ("rate_in_stream", GenerationStatus.SUCCEEDED, EntryState.SETTLED, 2),
        ("rate_after_previews", GenerationStatus.FAILED, EntryState.ASSUMED, 1),
        ("page_502", GenerationStatus.FAILED, EntryState.ASSUMED, 1),
    ],
)
async def test_a_job_asks_again_only_if_nothing_was_drawn(
    server: OpenAIServer,
    provider: OpenAIProvider,
    how: str,
    status: GenerationStatus,
    state: EntryState,
    calls: int,
    generations: Generations,
    library: Library,
    keeper: Keeper,
    database: Database,
    alice: Viewer,
    store: LocalObjectStore,
) -> None:
    server.fail_with(how)
    providers, repeats = {provider.name: provider}, Repeats(first=0.01)
    task = GenerationTask(
        *(generations, library, keeper, store, providers), lease=timedelta(0), repeats=repeats
    )
    reserved = Decimal("0.50")
    asked = NewGeneration("openai", MODEL, PROMPT, 1, 1024, 640, estimated_cost=reserved)
    generation = await generations.request(alice, asked)

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    (entry,) = (await Ledger(database, Budgets()).entries(alice, None, PageRequest(9))).rows
    assert (ended.status, ended.calls) == (status, calls)
    assert (entry.state, entry.actual == reserved) == (state, state is EntryState.ASSUMED)
    assert server.calls == {"generations": calls}


async def test_an_answer_that_is_cut_off_may_have_been_paid(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.fail_with("cut_body")

    error = await failure(provider, wish(count=2))

    assert type(error) is OutcomeUnknown
    assert server.calls == {"generations": 1}


@pytest.mark.parametrize(
    ("how", "wait", "message"),
    [
        ("rate", 1.5, "OpenAI is asked for too much at once. Try again in 2 seconds."),
        ("rate_in_seconds", 20, "OpenAI is asked for too much at once. Try again in 20 seconds."),
    ],
)
async def test_too_many_requests_tell_how_long_to_wait(
    server: OpenAIServer, provider: OpenAIProvider, how: str, wait: float, message: str
) -> None:
    server.fail_with(how)

    error = await failure(provider, wish())

    assert isinstance(error, RateLimited)
    assert error.retry_after == wait
    assert error.message == message
    assert server.calls == {"generations": 1}


async def test_a_date_tells_how_long_to_wait_too(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.fail_with("rate_until")

    error = await failure(provider, wish())

    assert isinstance(error, RateLimited)
    assert error.retry_after == pytest.approx(90, abs=5)


async def test_an_overloaded_server_tells_how_long_to_wait(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.fail_with("overloaded")

    error = await failure(provider, wish())

    assert isinstance(error, Unavailable)
    assert error.retry_after == 7


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("word", "stage"), [(INPUT_TRIGGER, "input"), (OUTPUT_TRIGGER, "output")])
async def test_a_refusal_names_its_stage_and_what_is_minded(
    server: OpenAIServer, provider: OpenAIProvider, count: int, word: str, stage: str
) -> None:
    error = await failure(provider, wish(f"much {word}", count=count))

    assert isinstance(error, Refused)
    assert error.stage == stage
    assert error.categories == ("violence",)
    assert error.field == "prompt"
    assert error.remedy == "Say it in other words, and leave out what the provider may mind."
    assert error.message == (
        "OpenAI will not draw this: Your request was rejected by the safety system."
    )
    assert server.calls == {"generations": 1}


async def test_a_wrong_key_is_told_without_the_key(server: OpenAIServer) -> None:
    async with opening(server.url, api_key=SecretStr("sk-wrong-0123456789")) as provider:
        error = await failure(provider, wish())

    assert isinstance(error, ProviderAuth)
    assert error.message == (
        "OpenAI does not accept our key, or does not let it do this (invalid_api_key)."
    )


async def test_no_key_at_all_is_a_wrong_key(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", API_KEY)

    async with opening(server.url, api_key=None) as provider:
        error = await failure(provider, wish())

    assert isinstance(error, ProviderAuth)


@pytest.mark.parametrize("how", ["unprocessable", "unverified"])
async def test_neither_message_nor_log_tells_the_key(
    server: OpenAIServer, provider: OpenAIProvider, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "generation")
    server.fail_with(how)

    error = await failure(provider, wish())

    assert "openai.failed" in caplog.text
    assert API_KEY not in caplog.text + error.message


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("dall-e-3", "OpenAI has no model dall-e-3 any more: use gpt-image-2.6-flare instead."),
        ("gpt-image-9", "OpenAI has no model gpt-image-9."),
    ],
)
async def test_a_model_that_is_gone_is_named_with_what_follows(
    server: OpenAIServer, model: str, message: str
) -> None:
    async with opening(server.url, model=model) as provider:
        error = await failure(provider, wish(model=model, width=1024, height=1024))

    assert isinstance(error, ProviderRejected)
    assert error.message == message
    assert error.field == "model"
    assert server.calls == {"generations": 1}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"width": 1080, "height": 1350}, None),
        ({"width": 3200, "height": 1024}, None),
        ({"count": 11}, "count"),
        ({"prompt": "x" * 32_001}, "prompt"),
    ],
)
async def test_what_the_api_does_not_take_is_told_in_its_own_words(
    server: OpenAIServer, provider: OpenAIProvider, more: dict[str, Any], field: str | None
) -> None:
    error = await failure(provider, wish(**more))

    assert isinstance(error, ProviderRejected)
    assert error.field == field
    assert error.message.startswith("OpenAI cannot do this: ")
    assert server.calls == {"generations": 1}


async def test_a_server_that_is_not_there_was_sent_nothing(unused_tcp_port: int) -> None:
    async with opening(f"http://127.0.0.1:{unused_tcp_port}/v1") as provider:
        error = await failure(provider, wish())

    assert type(error) is NotSent
    assert error.message == "OpenAI cannot be reached (ConnectError)."


async def test_a_host_that_has_no_address_was_sent_nothing() -> None:
    async with opening("http://no-such-host.invalid/v1") as provider:
        error = await failure(provider, wish())

    assert type(error) is NotSent


async def test_a_host_that_is_silent_before_it_is_told_anything_was_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with opening(f"https://127.0.0.1:{port}/v1", connect_seconds=0.3) as provider:
            error = await failure(provider, wish())

    assert type(error) is NotSent
    assert error.message == "OpenAI cannot be reached (ConnectTimeout)."


@pytest.mark.parametrize(("how", "count"), [("hang", 1), ("hang", 2), ("silent_stream", 1)])
async def test_patience_ends_and_nobody_knows_what_became_of_the_request(
    server: OpenAIServer, how: str, count: int
) -> None:
    server.fail_with(how)

    async with opening(server.url, seconds=0.5) as provider:
        error = await failure(provider, wish(count=count))

    assert type(error) is OutcomeUnknown
    assert server.calls == {"generations": 1}


async def test_an_endless_trickle_of_previews_does_not_outlast_our_patience(
    server: OpenAIServer,
) -> None:
    server.seconds = 0.4

    async with opening(server.url, seconds=0.6) as provider:
        error = await failure(provider, wish())

    assert type(error) is OutcomeUnknown


async def test_after_a_failure_the_next_wish_is_granted(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    server.fail_with("server_error")
    await failure(provider, wish())

    told = await events(provider, wish())

    assert len(pictures(told)) == 1
    assert [asked.headers["x-stainless-retry-count"] for asked in server.requests] == ["0"]


# ---- What it offers ------------------------------------------------------------------------------


async def test_names_of_old_clients_are_answered_by_the_configured_model(
    provider: OpenAIProvider,
) -> None:
    old = ("dall-e", "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5")

    assert {provider.former_models[name] for name in (*old, "chatgpt-image-latest")} == {MODEL}
    assert MODEL not in provider.former_models
    assert provider.name == "openai"
    assert provider.makes_ai_images


async def test_a_refresh_learns_what_is_offered_and_when_it_ends(
    server: OpenAIServer, provider: OpenAIProvider
) -> None:
    del server.models[MODEL], server.models["gpt-image-2.6-sunburst"]
    server.shutdown_dates["gpt-image-2"] = "2999-12-31"

    await provider.refresh()

    ends = {model.name: model.shutdown_date for model in provider.models}
    assert list(ends) == [
        MODEL,
        "gpt-image-2.6-flare",
        "gpt-image-2.5-sunburst",
        "gpt-image-2",
        "gpt-image-2-2026-04-21",
    ]
    assert ends["gpt-image-2"] == date(2999, 12, 31)
    assert server.calls == {"models": 1}


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("rate", RateLimited),
        ("server_error", ProviderUnavailable),
        ("drop", ProviderUnavailable),
        ("welcome", ProviderUnavailable),
    ],
)
async def test_a_refresh_that_fails_changes_nothing(
    server: OpenAIServer, provider: OpenAIProvider, how: str, kind: type[LibraryError]
) -> None:
    server.fail_with(how)
    before = provider.models

    with pytest.raises(kind):
        await provider.refresh()

    assert provider.models == before


@pytest.mark.parametrize("old", ["dall-e-3", "DALL_E_3", "gpt-image-1"])
async def test_where_a_retired_model_is_configured_its_replacement_draws(
    server: OpenAIServer, old: str
) -> None:
    async with opening(server.url, model=old) as provider:
        (model, *_) = provider.models
        told = await events(provider, wish(model=model.name))
        await provider.refresh()

    assert len(pictures(told)) == 1
    assert server.requests[0].fields["model"] == model.name
    assert old in (provider.models[0].warning or "")
    assert provider.former_models["dall-e-3"] == provider.former_models["gpt-image-1"] == model.name


async def test_a_refresh_finds_models_of_later_and_the_configured_one_missing(
    server: OpenAIServer,
) -> None:
    server.models["gpt-image-2.7-flare"] = server.models[MODEL]

    async with opening(server.url, model="gpt-image-9") as provider:
        await provider.refresh()

    first, second, *_ = provider.models
    assert first.warning == "OpenAI does not list gpt-image-9 among its models, and may refuse it."
    assert (second.name, second.max_count, second.warning) == ("gpt-image-2.7-flare", 10, None)


async def test_a_wish_for_instagram_becomes_a_native_size(provider: OpenAIProvider) -> None:
    model = provider.models[0]

    assert provider.size_for(model, 1080, 1350) == (1088, 1360)
    assert provider.size_for(model, 1080, 1920) == (1152, 2048)
    with pytest.raises(Rejected):
        provider.size_for(model, 4000, 4000)


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({"quality": Quality.MEDIUM}, dollars(text=3, drawn=397 + 200)),
        ({}, dollars(text=3, drawn=1587 + 200)),  # the model may choose high
        ({"quality": Quality.LOW, "count": 4}, 4 * dollars(text=3, drawn=181)),
        (
            {"quality": Quality.LOW, "references": [reference(), reference()]},
            dollars(text=3, images=13_000, drawn=181 + 200),
        ),
        (
            {"model": "gpt-image-2.6-flare", "quality": Quality.MEDIUM},
            dollars(text=3, drawn=4 * 397 + 200),
        ),
        ({"prompt": "x" * 3000, "quality": Quality.LOW}, dollars(text=1000, drawn=181 + 200)),
    ],
)
async def test_the_estimate_counts_words_references_previews_and_pictures(
    provider: OpenAIProvider, more: dict[str, Any], cost: Decimal
) -> None:
    assert provider.estimate(wish(**more)) == cost


@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("count", [1, 2])
async def test_the_estimate_is_never_less_than_what_is_charged(
    provider: OpenAIProvider, quality: Quality, count: int
) -> None:
    request = wish("A poster for our café, with warm light." * 9, quality=quality, count=count)

    told = await events(provider, request)

    assert charged(told) <= provider.estimate(request)


# ---- The stand-in itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"response_format": "b64_json"}, "response_format"),
        ({"style": "vivid"}, "style"),
        ({"size": "1080x1350"}, "size"),
        ({"size": "3200x1024"}, "size"),
        ({"background": "transparent", "output_format": "jpeg"}, "background"),
        ({"n": 11}, "n"),
        ({"stream": True, "partial_images": 4}, "partial_images"),
        ({"stream": True, "n": 2}, "input"),
        ({"quality": "hd"}, "quality"),
        ({"quality": "max", "model": "gpt-image-2"}, "quality"),
        ({"model": "dall-e-3"}, "model"),
    ],
)
async def test_the_stand_in_refuses_what_the_api_refuses(
    server: OpenAIServer, more: dict[str, Any], param: str
) -> None:
    body = {"model": MODEL, "prompt": PROMPT} | more
    headers = {"Authorization": f"Bearer {API_KEY}"}

    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{server.url}/images/generations", json=body) as answer,
    ):
        error = (await answer.json())["error"]

    assert answer.status == (404 if param == "model" else 400)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert answer.headers["x-request-id"].startswith("req_")


async def test_the_stand_in_takes_an_edit_as_json_too(server: OpenAIServer) -> None:
    image = f"data:image/png;base64,{b64encode(png()).decode()}"
    body = {"model": MODEL, "prompt": PROMPT, "images": [{"image_url": image}], "quality": "low"}
    headers = {"Authorization": f"Bearer {API_KEY}"}

    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{server.url}/images/edits", json=body) as answer,
    ):
        told = await answer.json()

    assert answer.status == 200
    assert told["size"] == "1024x1024"
    assert told["usage"]["output_tokens"] == tokens(16, 1024, 1024)


# ---- Servers with open models --------------------------------------------------------------------


@pytest.fixture(params=["sd.cpp", "localai", "vllm", "sglang", "litellm"])
async def compatible(request: pytest.FixtureRequest) -> AsyncIterator[CompatibleServer]:
    async with compatible_server(request.param) as running:
        yield running


def opening_compatible(url: str, **options: Any) -> AbstractAsyncContextManager[OpenAIProvider]:
    return opening(url, **{"model": "flux-dev", "api_key": None, "is_compatible": True} | options)


async def test_a_compatible_server_draws_for_nothing_and_without_a_stream(
    compatible: CompatibleServer,
) -> None:
    async with opening_compatible(compatible.url) as provider:
        request = wish(model="flux-dev", count=2, negative_prompt="text", seed=7, asked_by="8f3a")
        told = await events(provider, request)

    assert [type(event) for event in told] == [GeneratedImage, GeneratedImage]
    assert [opened(image.data).size for image in pictures(told)] == [SIZE, SIZE]
    assert provider.estimate(request) == 0
    [asked] = compatible.requests
    assert asked.fields == {
        "model": "flux-dev",
        "prompt": PROMPT,
        "n": 2,
        "size": "1088x1360",
        "response_format": "b64_json",
        "negative_prompt": "text",
        "seed": 7,
    }
    assert "Authorization" not in asked.headers


async def test_a_compatible_server_edits_and_may_give_a_relative_url(
    compatible: CompatibleServer,
) -> None:
    async with opening_compatible(compatible.url, api_key=SecretStr("secret")) as provider:
        request = wish(model="flux-dev", references=[reference()], mask=mask(), seed=0)
        told = await events(provider, request)

    [image] = pictures(told)
    assert opened(image.data).size == ((64, 64) if compatible.dialect == "sglang" else SIZE)
    assert compatible.requests[0].fields["seed"] == "0"
    assert [file.part for file in compatible.requests[0].files] == ["image", "mask"]
    assert compatible.requests[0].headers["Authorization"] == "Bearer secret"


async def test_a_url_that_gives_no_picture_fails_alone() -> None:
    async def refuse(url: str) -> bytes:
        raise ProviderUnavailable(f"There is nothing at {url}.")

    async with compatible_server("sglang") as running:
        options = OpenAIOptions("flux-dev", base_url=running.url, is_compatible=True)
        async with open_openai(options, refuse) as provider:
            told = await events(provider, wish(model="flux-dev", references=[reference()], count=2))

    host = running.url.removesuffix("/v1")
    assert [
        (event.index, event.reason.message) for event in told if isinstance(event, ImageFailed)
    ] == [
        (0, f"There is nothing at {host}/v1/images/0/content."),
        (1, f"There is nothing at {host}/v1/images/1/content."),
    ]


@pytest.mark.parametrize(
    ("dialect", "kind", "message"),
    [
        ("sd.cpp", ProviderRejected, "The image server cannot do this: width must be positive"),
        ("vllm", ProviderRejected, "The image server cannot do this: size is wrong"),
        ("sglang", ProviderRejected, "The image server cannot do this: the prompt is empty"),
        ("localai", ProviderUnavailable, "The image server does not work now (503)."),
    ],
)
async def test_a_compatible_server_fails_in_words_of_its_own(
    dialect: str, kind: type[LibraryError], message: str
) -> None:
    async with compatible_server(dialect) as running:
        running.fails = True
        async with opening_compatible(running.url) as provider:
            error = await failure(provider, wish(model="flux-dev"))

    assert type(error) is kind
    assert error.message == message
    assert len(running.requests) == 1


async def test_the_words_that_were_drawn_are_told_where_the_server_tells_them() -> None:
    async with (
        compatible_server("litellm") as running,
        opening_compatible(running.url) as provider,
    ):
        told = await events(provider, wish(model="flux-dev"))

    assert pictures(told)[0].revised_prompt == "a better prompt"


async def test_a_compatible_server_without_a_configured_model_is_asked_for_the_first_it_lists(
    compatible: CompatibleServer,
) -> None:
    async with opening_compatible(compatible.url, model=None) as provider:
        before = [model.name for model in provider.models]
        await provider.refresh()
        told = await events(provider, wish(model=provider.models[0].name))
        late = await events(provider, wish(model="default"))  # which was wished for before

    assert before == ["default"]
    assert [model.name for model in provider.models] == ["flux-dev", "z-image"]
    assert [asked.fields["model"] for asked in compatible.requests] == ["flux-dev"] * 2
    assert len(pictures(told)) == len(pictures(late)) == 1


async def test_a_compatible_server_offers_what_it_lists(compatible: CompatibleServer) -> None:
    async with opening_compatible(compatible.url, model="z-image") as provider:
        before = [model.name for model in provider.models]
        await provider.refresh()

    assert before == ["z-image"]
    assert [model.name for model in provider.models] == ["z-image", "flux-dev"]
    assert provider.name == "openai-compatible"
    assert provider.size_for(provider.models[0], 1080, 1350) == (1088, 1360)
    assert provider.models[0].supports_seed
    assert not provider.models[0].streams_previews
