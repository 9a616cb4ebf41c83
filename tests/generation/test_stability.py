"""What the `stability` provider sends, what it makes of every answer, and what it says was paid."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from uuid import UUID

import aiohttp
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
    Progressed,
    TaskStarted,
)
from generation.providers.options import StabilityOptions
from generation.providers.stability import StabilityProvider, open_stability
from generation.tasks import GenerationTask
from storage.database import Database
from storage.errors import (
    LibraryError,
    RateLimited,
    Rejected,
    TooLarge,
    TooLong,
    TooManyPixels,
    UnsupportedMediaType,
)
from storage.generations import Generations, NewGeneration
from storage.keeper import Keeper
from storage.ledger import Budgets, Ledger
from storage.library import Library
from storage.models import EntryState
from storage.objects.local import LocalObjectStore
from storage.search import PageRequest
from storage.viewers import Viewer
from tests.pictures import encoded, jpeg, opened, photo, png
from tests.stability_server import (
    API_KEY,
    FORBIDDEN,
    INDECENT,
    StabilityServer,
    stability_server,
)

TASK = "f" * 64


@pytest.fixture
async def server() -> AsyncIterator[StabilityServer]:
    async with stability_server() as server:
        yield server


@pytest.fixture
def options(server: StabilityServer) -> StabilityOptions:
    return StabilityOptions(
        SecretStr(API_KEY),
        base_url=server.url,
        seconds=5,
        connect_seconds=1,
        poll_seconds=0.01,
        task_seconds=5,
    )


@pytest.fixture
async def provider(options: StabilityOptions) -> AsyncIterator[StabilityProvider]:
    async with open_stability(options) as provider:
        yield provider


def wish(prompt: str = "a lighthouse at dusk", **more: object) -> GenerationRequest:
    request = GenerationRequest(UUID(int=1), "core", prompt, 1120, 1400)
    return replace(request, **more)  # type: ignore[arg-type]  # fields of the request


def upscale(prompt: str = "a lighthouse at dusk", **more: object) -> GenerationRequest:
    return wish(prompt, **{"model": "upscale-creative", "references": [reference()], **more})


def reference(
    width: int = 160, height: int = 120, data: bytes = b"", media_type: str = "image/jpeg"
) -> InputImage:
    return InputImage(data or jpeg(width, height), media_type, width, height)


async def events(provider: StabilityProvider, request: GenerationRequest) -> list[Event]:
    return [event async for event in provider.generate(request)]


async def failure(provider: StabilityProvider, request: GenerationRequest) -> LibraryError:
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


def test_it_is_an_image_provider_of_an_ai(provider: StabilityProvider) -> None:
    known: ImageProvider = provider

    assert (known.name, known.makes_ai_images) == ("stability", True)
    assert {model.name: model.price for model in known.models} == {
        "core": Decimal("0.03"),
        "ultra": Decimal("0.08"),
        "sd3.5-large": Decimal("0.065"),
        "sd3.5-large-turbo": Decimal("0.04"),
        "sd3.5-medium": Decimal("0.035"),
        "upscale-creative": Decimal("0.60"),
    }
    assert set(known.former_models.values()) <= {model.name for model in known.models}
    assert not any(model.supports_mask for model in known.models)


async def test_the_model_of_the_settings_comes_first(options: StabilityOptions) -> None:
    async with open_stability(replace(options, model="sd3.5-medium")) as provider:
        names = [model.name for model in provider.models]

    assert names[:2] == ["sd3.5-medium", "core"]


@pytest.mark.parametrize(
    ("written", "model"),
    [("sd3.5", "sd3.5-large"), ("SD3_TURBO", "sd3.5-large-turbo"), ("Ultra", "ultra")],
)
async def test_what_people_write_for_a_model_is_understood_in_the_settings(
    options: StabilityOptions, written: str, model: str
) -> None:
    async with open_stability(replace(options, model=written)) as provider:
        assert provider.models[0].name == model


async def test_an_unknown_model_in_the_settings_is_rejected(options: StabilityOptions) -> None:
    with pytest.raises(Rejected, match=r"'sd2'. Choose from: core, ultra"):
        async with open_stability(replace(options, model="sd2")):
            pass


async def test_a_picture_is_charged_and_then_given(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    charged, image = await events(provider, wish())

    assert charged == Charged(Decimal("0.03"))
    assert isinstance(image, GeneratedImage)
    assert (image.index, image.progress) == (0, 1.0)
    assert (opened(image.data).format, opened(image.data).size) == ("PNG", (114, 143))
    assert server.calls == {"core": 1}
    assert server.credits == 997


async def test_core_is_sent_a_form_with_all_that_is_wished(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    request = wish(negative_prompt="people", style="analog-film", seed=7, asked_by="user-4f")

    await events(provider, request)

    (asked,) = server.asked
    assert asked.path == "/v2beta/stable-image/generate/core"
    assert asked.fields == {
        "prompt": "a lighthouse at dusk",
        "negative_prompt": "people",
        "style_preset": "analog-film",
        "seed": "7",
        "aspect_ratio": "4:5",
        "output_format": "png",
    }
    assert asked.headers["accept"] == "image/*"
    assert asked.headers["stability-client-id"] == "darkroom"
    assert asked.headers["stability-client-user-id"] == "user-4f"


async def test_who_asks_is_not_told_where_nobody_knows(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    await events(provider, wish())

    assert "stability-client-user-id" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("model", "price"), [("sd3.5-large", "0.065"), ("sd3.5-large-turbo", "0.04")]
)
async def test_stable_diffusion_is_told_its_model_and_that_there_is_only_text(
    model: str, price: str, provider: StabilityProvider, server: StabilityServer
) -> None:
    told = await events(provider, wish(model=model, style="anime"))

    (asked,) = server.asked
    assert asked.path == "/v2beta/stable-image/generate/sd3"
    assert asked.fields == {
        "prompt": "a lighthouse at dusk",
        "style_preset": "anime",
        "model": model,
        "mode": "text-to-image",
        "aspect_ratio": "4:5",
        "output_format": "png",
    }
    assert cost(told) == Decimal(price)


async def test_stable_diffusion_keeps_the_shape_of_the_picture_it_changes(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    given = reference(160, 120)

    told = await events(provider, wish(model="sd3.5-medium", references=[given]))

    (asked,) = server.asked
    assert asked.fields == {
        "prompt": "a lighthouse at dusk",
        "model": "sd3.5-medium",
        "mode": "image-to-image",
        "strength": "0.6",
        "output_format": "png",
    }
    assert asked.files == {"image": given.data}
    assert opened(pictures(told)[0].data).size == (160, 120)


async def test_ultra_changes_a_picture_into_the_wished_shape(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    given = reference()

    told = await events(provider, wish(model="ultra", references=[given]))

    assert server.asked[0].fields == {
        "prompt": "a lighthouse at dusk",
        "strength": "0.6",
        "aspect_ratio": "4:5",
        "output_format": "png",
    }
    assert server.asked[0].files == {"image": given.data}
    assert cost(told) == Decimal("0.08")


async def test_a_large_picture_arrives_whole(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    data = encoded(photo(700, 600), "PNG", compress_level=0)
    given = reference(700, 600, data, "image/png")
    assert len(data) > 2**20

    await events(provider, wish(model="ultra", references=[given]))

    assert server.asked[0].files == {"image": given.data}


async def test_several_pictures_are_several_calls_with_one_seed_after_the_other(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    request = wish(count=3, seed=41)

    told = await events(provider, request)

    assert [type(event) for event in told] == [Charged, GeneratedImage] * 3
    assert [asked.fields["seed"] for asked in server.asked] == ["41", "42", "43"]
    assert [image.index for image in pictures(told)] == [0, 1, 2]
    assert [image.progress for image in pictures(told)] == [1 / 3, 2 / 3, 1.0]
    assert len({image.data for image in pictures(told)}) == 3
    assert cost(told) == provider.estimate(request) == Decimal("0.09")


async def test_a_seed_of_zero_gives_the_same_picture_again(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    first = pictures(await events(provider, wish(seed=0)))[0]
    again = pictures(await events(provider, wish(seed=0)))[0]

    assert first.data == again.data
    assert server.asked[0].fields["seed"] == "4294967294"


async def test_a_picture_in_json_is_understood(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with("as-json", None)

    in_json = await events(provider, wish(seed=7))
    as_file = await events(provider, wish(seed=7))

    assert in_json == as_file


# ---- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "wished", "size"),
    [
        ("core", (1080, 1350), (1120, 1400)),
        ("core", (1080, 1080), (1256, 1256)),
        ("ultra", (1080, 1920), (768, 1368)),
        ("ultra", (1080, 566), (1368, 768)),
        ("sd3.5-large", (3000, 1000), (1568, 672)),
        ("sd3.5-large", (1000, 3111), (672, 1568)),
        ("upscale-creative", (1000, 500), (4072, 2040)),
    ],
)
def test_a_size_is_that_of_the_nearest_shape(
    model: str, wished: tuple[int, int], size: tuple[int, int], provider: StabilityProvider
) -> None:
    info = next(each for each in provider.models if each.name == model)

    assert provider.size_for(info, *wished) == size


@pytest.mark.parametrize(("wished", "field"), [((3200, 1000), "width"), ((1000, 3200), "height")])
def test_a_strip_is_rejected(
    wished: tuple[int, int], field: str, provider: StabilityProvider
) -> None:
    with pytest.raises(Rejected) as rejected:
        provider.size_for(provider.models[0], *wished)

    assert rejected.value.field == field
    assert rejected.value.limit == pytest.approx(28 / 9)
    assert rejected.value.actual == pytest.approx(3.2)


# ---- What is rejected before it is sent ----------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "kind", "limit", "actual"),
    [
        (wish("x" * 10_001), TooLong, 10_000, 10_001),
        (wish(negative_prompt="x" * 10_001), TooLong, 10_000, 10_001),
        (wish(model="ultra", references=[reference(63, 64)]), Rejected, 64, 63),
        (
            wish(model="ultra", references=[reference(media_type="image/gif")]),
            UnsupportedMediaType,
            None,
            None,
        ),
        (upscale(references=[]), Rejected, None, None),
        (upscale(references=[reference(1025, 1024)]), TooManyPixels, 2**20, 1025 * 1024),
    ],
)
async def test_what_they_would_refuse_is_not_sent(
    request_: GenerationRequest,
    kind: type[Rejected],
    limit: int | None,
    actual: int | None,
    provider: StabilityProvider,
    server: StabilityServer,
) -> None:
    with pytest.raises(Rejected) as rejected:
        await events(provider, request_)

    assert type(rejected.value) is kind
    assert (rejected.value.limit, rejected.value.actual) == (limit, actual)
    assert server.asked == []


async def test_more_than_ten_mebibytes_are_not_sent(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    data = png() + bytes(10 * 2**20)
    request = wish(model="ultra", references=[reference(data=data, media_type="image/png")])

    with pytest.raises(TooLarge) as rejected:
        await events(provider, request)

    assert rejected.value.limit == 10 * 2**20
    assert rejected.value.actual is not None
    assert rejected.value.actual > len(data)
    assert server.asked == []


# ---- Answers that are no picture -----------------------------------------------------------------


async def test_forbidden_words_are_refused_at_the_input(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    with pytest.raises(Refused, match="flagged by our content moderation") as refused:
        await events(provider, wish(f"{FORBIDDEN} everywhere", count=3))

    assert refused.value.stage == "input"
    assert server.calls == {"core": 1}
    assert server.credits == 1000


@pytest.mark.parametrize("how", [None, "as-json"])
async def test_a_filtered_picture_is_refused_at_the_output_and_not_charged(
    how: str | None, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(how)

    with pytest.raises(Refused) as refused:
        await events(provider, wish(f"a {INDECENT} figure"))

    assert refused.value.stage == "output"
    assert server.credits == 1000


async def test_a_filter_may_let_the_next_picture_pass_so_each_is_tried(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    with pytest.raises(Refused):
        await events(provider, wish(f"a {INDECENT} figure", count=3))

    assert server.calls == {"core": 3}


async def test_another_language_is_rejected_in_their_words(provider: StabilityProvider) -> None:
    with pytest.raises(ProviderRejected, match="prompt: only English is supported"):
        await events(provider, wish("ein Café"))


async def test_all_their_messages_about_a_bad_request_are_told(
    provider: StabilityProvider,
) -> None:
    request = wish(prompt="", style="brutalist")

    with pytest.raises(ProviderRejected) as rejected:
        await events(provider, request)

    assert "prompt: must be between 1 and 10000 characters" in rejected.value.message
    assert "style_preset: must be one of" in rejected.value.message


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("forbidden", ProviderAuth),
        ("gone", ProviderRejected),
        ("rate", RateLimited),
        ("error", ProviderUnavailable),
        ("moved", ProviderUnavailable),
        ("cut", OutcomeUnknown),
        ("torn", OutcomeUnknown),
        ("endless", OutcomeUnknown),
        ("broken-json", OutcomeUnknown),
    ],
)
async def test_each_failure_is_told_by_what_can_be_done_about_it(
    how: str, kind: type[LibraryError], provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(how)

    with pytest.raises(LibraryError) as failure:
        await events(provider, wish())

    assert type(failure.value) is kind
    assert API_KEY not in failure.value.message
    assert server.calls == {"core": 1}


@pytest.mark.parametrize(
    ("status", "name", "kind", "calls"),
    [
        (400, "bad_request", ProviderRejected, 1),
        (401, "unauthorized", ProviderAuth, 1),
        (402, "payment_required", ProviderQuota, 1),
        (403, "content_moderation", Refused, 1),
        (403, "forbidden", ProviderAuth, 1),
        (404, "not_found", ProviderRejected, 1),
        (413, "payload_too_large", ProviderRejected, 1),
        (422, "unprocessable_entity", ProviderRejected, 1),
        (422, "invalid_language", ProviderRejected, 1),
        (429, "rate_limit_exceeded", RateLimited, 1),
        (500, "internal_error", ProviderUnavailable, 3),
        (502, "internal_error", ProviderUnavailable, 3),
        (503, "internal_error", ProviderUnavailable, 3),
        (504, "internal_error", ProviderUnavailable, 3),
    ],
)
async def test_a_failure_in_their_own_words_costs_nothing(
    status: int,
    name: str,
    kind: type[LibraryError],
    calls: int,
    provider: StabilityProvider,
    server: StabilityServer,
) -> None:
    server.fail_with(*[f"told:{status}:{name}"] * 3)

    error = await failure(provider, wish(count=3))

    assert type(error) is kind
    assert (error.code, error.remedy) == (kind.code, kind.remedy)
    assert server.calls == {"core": calls}


@pytest.mark.parametrize(
    "how",
    [
        *(f"page:{status}" for status in (203, 408, 500, 502, 503, 504, 520, 524)),
        *("json:500", "json:503", "json:504", "torn-page:503"),
    ],
)
async def test_a_machine_in_between_cannot_know_so_nothing_more_is_asked_for(
    how: str, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(*[how] * 3)

    error = await failure(provider, wish(count=3))

    assert type(error) is OutcomeUnknown
    assert (error.code, error.remedy) == (OutcomeUnknown.code, OutcomeUnknown.remedy)
    assert server.calls == {"core": 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, ProviderAuth), (413, ProviderRejected), (429, RateLimited)],
)
async def test_what_a_machine_in_between_does_not_let_pass_costs_nothing(
    status: int, kind: type[LibraryError], provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(f"page:{status}")

    error = await failure(provider, wish(count=3))

    assert type(error) is kind
    assert server.calls == {"core": 1}


@pytest.mark.parametrize(("how", "seconds"), [("rate", 60), ("rate:30", 30)])
async def test_a_rate_limit_tells_when_to_come_back(
    how: str, seconds: float, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(how)

    with pytest.raises(RateLimited) as limited:
        await events(provider, wish(count=3))

    assert limited.value.retry_after == seconds
    assert server.calls == {"core": 1}


async def test_a_wrong_key_is_asked_with_once(
    options: StabilityOptions, server: StabilityServer
) -> None:
    async with open_stability(replace(options, api_key=SecretStr("sk-wrong"))) as provider:
        with pytest.raises(ProviderAuth):
            await events(provider, wish(count=3))

    assert server.calls == {"core": 1}


async def test_without_credits_the_quota_is_used_up(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    server.credits = Decimal(2)

    with pytest.raises(ProviderQuota):
        await events(provider, wish(count=3))

    assert server.calls == {"core": 1}


async def test_whoever_cannot_be_reached_was_not_sent_anything(
    options: StabilityOptions, unused_tcp_port: int
) -> None:
    nowhere = replace(options, base_url=f"http://127.0.0.1:{unused_tcp_port}")

    async with open_stability(nowhere) as provider:
        with pytest.raises(NotSent):
            await events(provider, wish())


async def test_a_host_without_a_name_was_not_sent_anything(options: StabilityOptions) -> None:
    async with open_stability(replace(options, base_url="http://stability.invalid")) as provider:
        with pytest.raises(NotSent):
            await events(provider, wish())


async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(
    options: StabilityOptions, server: StabilityServer
) -> None:
    server.fail_with("hang")
    began = time.monotonic()

    async with open_stability(replace(options, seconds=0.3)) as provider:
        with pytest.raises(OutcomeUnknown):
            await events(provider, wish(count=3))

    assert time.monotonic() - began < 3
    assert server.calls == {"core": 1}


# ---- Some of several pictures --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["error", "told:504:internal_error"])
async def test_a_fault_in_one_picture_leaves_the_others(
    how: str, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(how, None, None)

    told = await events(provider, wish(count=3))

    assert [image.index for image in pictures(told)] == [1, 2]
    failed = told[-1]
    assert isinstance(failed, ImageFailed)
    assert (failed.index, type(failed.reason)) == (0, ProviderUnavailable)
    assert cost(told) == Decimal("0.06")


async def test_when_the_credits_end_the_pictures_before_are_kept_and_no_more_asked_for(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    server.credits = Decimal(7)

    told = await events(provider, wish(count=4))

    assert [image.index for image in pictures(told)] == [0, 1]
    assert [(each.index, type(each.reason)) for each in told if isinstance(each, ImageFailed)] == [
        (2, ProviderQuota),
        (3, ProviderQuota),
    ]
    assert cost(told) == Decimal("0.06")
    assert server.calls == {"core": 3}


@pytest.mark.parametrize("how", ["cut", "page:504"])
async def test_after_a_lost_answer_nothing_is_asked_for_and_only_that_one_may_be_paid(
    how: str, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(None, how)

    told = await events(provider, wish(count=3))

    assert [(each.index, type(each.reason)) for each in told if isinstance(each, ImageFailed)] == [
        (1, OutcomeUnknown),
        (2, NotSent),
    ]
    assert cost(told) == Decimal("0.03")
    assert server.calls == {"core": 2}


async def test_if_no_picture_came_it_is_said_that_one_may_be_paid(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with("error", "cut")

    with pytest.raises(OutcomeUnknown):
        await events(provider, wish(count=2))


async def test_a_job_whose_second_answer_is_lost_ends_there_and_counts_as_paid(
    provider: StabilityProvider,
    server: StabilityServer,
    generations: Generations,
    library: Library,
    keeper: Keeper,
    database: Database,
    alice: Viewer,
    store: LocalObjectStore,
) -> None:
    server.fail_with(None, "page:504")
    providers = {provider.name: provider}
    task = GenerationTask(generations, library, keeper, store, providers, lease=timedelta(0))
    asked = NewGeneration(
        *("stability", "core", "a lighthouse", 3), 1120, 1400, estimated_cost=Decimal("0.09")
    )
    generation = await generations.request(alice, asked)

    await task.run(generation.id)

    ended = await generations.generation(alice, generation.id)
    (entry,) = (await Ledger(database, Budgets()).entries(alice, None, PageRequest(9))).rows
    assert await generations.positions(generation.id) == {0}
    assert (ended.failure_code, ended.calls) == ("OUTCOME_UNKNOWN", 1)
    assert (entry.state, entry.actual) == (EntryState.ASSUMED, Decimal("0.09"))
    assert server.calls == {"core": 2}


# ---- Stopping ------------------------------------------------------------------------------------


async def test_to_cancel_the_reader_closes_the_connection(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with("hang")
    reader = asyncio.create_task(events(provider, wish(count=3)))
    await server.is_held.wait()

    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    async with asyncio.timeout(2):
        await server.is_dropped.wait()
    assert server.calls == {"core": 1}


async def test_to_close_the_iterator_ends_the_asking(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    asking = provider.generate(wish(count=3))
    await anext(asking)

    await asking.aclose()  # type: ignore[attr-defined]  # it is a generator

    assert server.calls == {"core": 1}


# ---- The upscaler --------------------------------------------------------------------------------


async def test_an_upscale_is_a_task_that_is_asked_for_until_it_is_done(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    request = upscale(seed=7, style="photographic", negative_prompt="noise")

    told = await events(provider, request)

    (task,) = server.tasks
    assert told[:-1] == [
        TaskStarted(task),
        Progressed("upscaling"),
        Progressed("upscaling"),
        Charged(Decimal("0.60")),
    ]
    assert opened(pictures(told)[0].data).size == (320, 240)
    assert server.calls == {"creative": 1, "results": 3}
    assert server.asked[0].path == "/v2beta/stable-image/upscale/creative"
    assert server.asked[0].files == {"image": request.references[0].data}
    assert server.asked[0].fields == {
        "prompt": "a lighthouse at dusk",
        "negative_prompt": "noise",
        "style_preset": "photographic",
        "seed": "7",
        "output_format": "png",
    }
    assert server.asked[1].path == f"/v2beta/results/{task}"
    assert server.asked[1].headers["accept"] == "image/*"


async def test_the_task_is_told_before_it_is_asked_for(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    asking = provider.generate(upscale())

    first = await anext(asking)

    assert isinstance(first, TaskStarted)
    assert server.calls == {"creative": 1}
    await asking.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_a_known_task_is_gone_on_with_and_not_submitted_again(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    asking = provider.generate(upscale())
    started = await anext(asking)
    await asking.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert isinstance(started, TaskStarted)

    told = await events(provider, upscale(task=started.task))

    assert not any(isinstance(event, TaskStarted) for event in told)
    assert cost(told) == Decimal("0.60")
    assert len(pictures(told)) == 1
    assert server.calls == {"creative": 1, "results": 3}
    assert server.credits == 940


async def test_to_close_the_iterator_ends_the_polling(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    asking = provider.generate(upscale())
    await anext(asking)
    await anext(asking)

    await asking.aclose()  # type: ignore[attr-defined]  # it is a generator
    await asyncio.sleep(0.05)

    assert server.calls == {"creative": 1, "results": 1}


@pytest.mark.parametrize(
    "how", ["error", "cut", "torn", "json:503", *(f"page:{status}" for status in (408, 502, 504))]
)
async def test_a_fault_while_polling_does_not_lose_the_task(
    how: str, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.polls = 0
    server.fail_with(None, how, how)

    told = await events(provider, upscale())

    assert cost(told) == Decimal("0.60")
    assert server.calls == {"creative": 1, "results": 3}


async def test_polling_too_often_is_answered_by_waiting_as_long_as_they_say(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    server.polls = 0
    server.fail_with(None, "rate:1")
    began = time.monotonic()

    told = await events(provider, upscale())

    assert 1 <= time.monotonic() - began < 3
    assert len(pictures(told)) == 1
    assert server.calls == {"creative": 1, "results": 2}


async def test_an_unknown_task_leaves_the_outcome_unknown(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    with pytest.raises(OutcomeUnknown, match="not found"):
        await events(provider, upscale(task=TASK))

    assert server.calls == {"results": 1}


async def test_a_task_that_is_never_done_is_given_up(
    options: StabilityOptions, server: StabilityServer
) -> None:
    server.polls = 10_000

    async with open_stability(replace(options, task_seconds=0.2)) as provider:
        with pytest.raises(OutcomeUnknown) as unknown:
            await events(provider, upscale())

    assert next(iter(server.tasks)) in unknown.value.message


async def test_a_filtered_upscale_is_refused_and_not_charged(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    with pytest.raises(Refused) as refused:
        await events(provider, upscale(prompt=f"a {INDECENT} figure"))

    assert refused.value.stage == "output"
    assert server.credits == 1000


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("rate", RateLimited),
        ("forbidden", ProviderAuth),
        ("broken-json", OutcomeUnknown),
        ("page:504", OutcomeUnknown),
    ],
)
async def test_a_task_that_was_not_accepted_is_not_polled(
    how: str, kind: type[LibraryError], provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(how)

    with pytest.raises(LibraryError) as failure:
        await events(provider, upscale())

    assert type(failure.value) is kind
    assert server.calls == {"creative": 1}


# ---- The key -------------------------------------------------------------------------------------


async def test_refreshing_tries_the_key(
    provider: StabilityProvider, server: StabilityServer
) -> None:
    await provider.refresh()

    assert server.calls == {"balance": 1}


async def test_refreshing_tells_that_the_key_is_wrong(options: StabilityOptions) -> None:
    async with open_stability(replace(options, api_key=SecretStr("sk-wrong"))) as provider:
        with pytest.raises(ProviderAuth):
            await provider.refresh()


@pytest.mark.parametrize("how", ["cut", "page:504"])
async def test_a_refresh_that_is_lost_says_nothing_of_money(
    how: str, provider: StabilityProvider, server: StabilityServer
) -> None:
    server.fail_with(how, how)  # a GET that is cut is tried twice

    with pytest.raises(ProviderUnavailable):
        await provider.refresh()


async def test_the_key_is_in_no_log(
    provider: StabilityProvider, server: StabilityServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.fail_with("cut", "error", "rate")

    for _ in range(3):
        with pytest.raises(LibraryError):
            await events(provider, wish())

    assert API_KEY not in caplog.text


# ---- The stand-in is as strict as the contract ---------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields", "status", "said"),
    [
        ("generate/core", None, 400, "content-type: must be multipart/form-data"),
        ("generate/core", {"seed": "1"}, 400, "prompt: must be between 1 and 10000 characters"),
        ("generate/core", {"prompt": "x", "aspect_ratio": "3:4"}, 400, "aspect_ratio: must be"),
        ("generate/ultra", {"prompt": "x", "style_preset": "anime"}, 400, "style_preset: is not"),
        ("generate/ultra", {"prompt": "x", "image": jpeg()}, 400, "strength: must come with"),
        ("generate/sd3", {"prompt": "x", "mode": "image-to-image"}, 400, "mode: must be"),
        ("upscale/creative", {"prompt": "x"}, 400, "image: is required"),
        ("generate/ultra", {"prompt": "x", "image": bytes(10 * 2**20)}, 413, "exceeds 10MiB"),
    ],
)
async def test_the_stand_in_refuses_what_is_not_allowed(
    path: str,
    fields: dict[str, str | bytes] | None,
    status: int,
    said: str,
    server: StabilityServer,
) -> None:
    form = aiohttp.FormData(default_to_multipart=fields is not None)
    for name, value in (fields or {"prompt": "x"}).items():
        if isinstance(value, bytes):
            form.add_field(name, BytesIO(value), filename=name)
        else:
            form.add_field(name, value)

    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as session,
        session.post(f"/v2beta/stable-image/{path}", data=form) as answer,
    ):
        told = await answer.json()

    assert answer.status == status
    assert said in told["errors"][0]
    assert set(told) == {"id", "name", "errors"}


async def test_the_stand_in_gives_the_same_picture_as_a_file_and_in_json(
    server: StabilityServer,
) -> None:
    fields = {"prompt": "a lighthouse", "seed": "7"}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    path = "/v2beta/stable-image/generate/core"

    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        form = aiohttp.FormData(fields, default_to_multipart=True)
        async with session.post(path, data=form) as answer:
            file = await answer.read()
        form = aiohttp.FormData(fields, default_to_multipart=True)
        accept = {"Accept": "application/json"}
        async with session.post(path, data=form, headers=accept) as in_json:
            told = await in_json.json()

    assert answer.headers["finish-reason"] == "SUCCESS"
    assert answer.headers["seed"] == "7"
    assert told == {"image": b64encode(file).decode(), "finish_reason": "SUCCESS", "seed": 7}
