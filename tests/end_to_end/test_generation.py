"""Each provider through the whole service, and its stand-in: pictures, money, refusals, files."""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from PIL import Image

from generation.errors import (
    OutcomeUnknown,
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from generation.providers.openai_models import price
from storage.errors import LibraryError, RateLimited
from storage.marks import Mark
from tests import gemini_server, midjourney_server, openai_server, stability_server
from tests.end_to_end import operations as op
from tests.end_to_end.installation import Cluster, new_key
from tests.end_to_end.service import JSON, Service
from tests.generation.test_provenance import Authority, read
from tests.midjourney_server import drawn
from tests.openai_server import tokens
from tests.pictures import encoded, opened, photo
from tests.redis import redis_url as redis_url
from tests.storage.test_marks import mark_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "gpt-image-2.6-flare"
SIDE = 816  # pixels: about the least that OpenAI draws
SMALL = {"width": SIDE, "height": SIDE, "quality": "LOW"}
PRICES = {
    "stability": Decimal("0.03"),
    "gemini": Decimal("0.067"),
    "midjourney": Decimal("0.08"),
}


def openai_price(prompt: str, *, previews: int, references: int = 0) -> Decimal:
    """By the tokens that the stand-in counts, in low quality."""
    drawn = tokens(16, SIDE, SIDE) + 100 * previews
    text = -(-len(prompt) // 4)
    return price(MODEL, text_in=text, image_in=1000 * references, image_out=drawn)


# ---- the service and those whom it asks --------------------------------------------------------


class StandIns:
    """All four."""

    def __init__(
        self,
        openai: openai_server.OpenAIServer,
        stability: stability_server.StabilityServer,
        gemini: gemini_server.GeminiServer,
        midjourney: midjourney_server.MidjourneyServer,
    ) -> None:
        self.openai, self.stability = openai, stability
        self.gemini, self.midjourney = gemini, midjourney
        self.settings = {
            "OPENAI_API_KEY": openai_server.API_KEY,
            "OPENAI_BASE_URL": openai.url,
            "STABILITY_API_KEY": stability_server.API_KEY,
            "STABILITY_BASE_URL": stability.url,
            "GEMINI_API_KEY": gemini_server.API_KEY,
            "GEMINI_BASE_URL": gemini.url,
            "MIDJOURNEY_BASE_URL": midjourney.url,
            "MIDJOURNEY_SECRET": midjourney_server.SECRET,
            "MIDJOURNEY_TERMS_ACKNOWLEDGED": "true",
            "MIDJOURNEY_PRICE": "0.08",
            "MIDJOURNEY_POLL_SECONDS": "0.05",
        }

    @property
    def secrets(self) -> list[str]:
        keys = ("OPENAI_API_KEY", "STABILITY_API_KEY", "GEMINI_API_KEY", "MIDJOURNEY_SECRET")
        return [self.settings[key] for key in keys]

    @property
    def asked(self) -> Counter[str]:
        """How often each was asked for pictures."""
        drawing = {"core", "ultra", "sd3", "creative"}
        return Counter(
            openai=self.openai.calls["generations"] + self.openai.calls["edits"],
            stability=sum(n for what, n in self.stability.calls.items() if what in drawing),
            gemini=self.gemini.calls["generate"],
            midjourney=len(self.midjourney.submits),
        )

    def calm_down(self) -> None:
        """Forget what a test has told them."""
        self.openai.seconds = 0
        self.openai.requests.clear()
        self.openai.is_asked.clear()
        self.openai.is_left.clear()
        self.stability.fail_with()
        self.stability.credits = Decimal(1000)
        self.gemini.fail_with()
        self.midjourney.script = drawn()
        self.midjourney.secret = midjourney_server.SECRET


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_stand_ins() -> AsyncIterator[StandIns]:
    async with AsyncExitStack() as stack:
        yield StandIns(
            await stack.enter_async_context(openai_server.openai_server()),
            await stack.enter_async_context(stability_server.stability_server()),
            await stack.enter_async_context(gemini_server.gemini_server()),
            await stack.enter_async_context(midjourney_server.midjourney_server("csharp")),
        )


@pytest.fixture
def stand_ins(open_stand_ins: StandIns) -> StandIns:
    open_stand_ins.calm_down()
    return open_stand_ins


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("An authority")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    open_stand_ins: StandIns, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """With all providers but one, and a certificate; a viewer has one job of each at a time."""
    folder = tmp_path_factory.mktemp("generation")
    options = authority.issue()
    (folder / "chain.pem").write_text(str(options.certificates))
    secret = options.private_key.get_secret_value()  # type: ignore[union-attr]  # it is no file
    (folder / "key.pem").write_text(secret)
    service = Service(
        folder,
        **open_stand_ins.settings,
        C2PA_CERTIFICATES=str(folder / "chain.pem"),
        C2PA_PRIVATE_KEY=str(folder / "key.pem"),
        GENERATIONS_PER_VIEWER="1",
    )
    try:
        await asyncio.to_thread(service.start)
        # At its start it asks one after the other what they offer, Gemini nearly last.
        key = await new_key(service, "first", "who comes first")
        await ended(service, key, await wished(service, key, provider="gemini"))
        yield service
        log = service.log.read_text()
        told = [name for name in (*open_stand_ins.secrets, secret.split("\n")[1]) if name in log]
        assert told == []
    finally:
        service.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def key(service: Service) -> str:
    """Of a viewer whose workspace is new."""
    return await new_key(service, uuid4().hex, "the editor")


async def wished(service: Service, key: str, prompt: str = "A harbour", **input: object) -> str:
    size = SMALL if input.get("provider", "openai") == "openai" else {"width": 1024, "height": 1024}
    answer = await service.ask(op.WISH, key=key, input={"prompt": prompt} | size | input)
    assert answer["generateImage"]["errors"] == []
    return str(answer["generateImage"]["generation"]["id"])


async def ended(service: Service, key: str, id: str) -> JSON:
    """The generation, when it has ended."""
    async with asyncio.timeout(40):
        await service.watched(op.PROGRESS, key=key, id=id)
    return dict((await service.ask(op.RECIPE_OF, key=key, id=id))["generation"])


async def booked(service: Service, key: str) -> list[tuple[str, Decimal]]:
    """The ledger's entries, the newest first; the accounts must say the same."""
    told = await service.ask(op.LEDGER, key=key)
    entries = [(entry["state"], Decimal(entry["actual"])) for entry in told["ledger"]["nodes"]]
    for account in told["budgets"].values():
        assert Decimal(account["reserved"]) == 0
        assert Decimal(account["spent"]) == sum(actual for _, actual in entries)
    return entries


async def uploaded(service: Service, key: str, data: bytes) -> str:
    answer = await service.upload(op.UPLOAD, data, "picture.png", key=key)
    assert answer["uploadImage"]["errors"] == []
    return str(answer["uploadImage"]["image"]["id"])


# ---- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "stability", "gemini", "midjourney"])
async def test_each_provider_is_asked_once_paid_once_and_its_files_say_that_ai_made_them(
    provider: str, service: Service, key: str, stand_ins: StandIns, authority: Authority
) -> None:
    count, before = 4 if provider == "midjourney" else 1, stand_ins.asked

    id = await wished(service, key, provider=provider, count=count)
    row = await ended(service, key, id)

    cost = PRICES.get(provider) or openai_price("A harbour", previews=2)
    assert (row["status"], row["failure"], row["calls"]) == ("SUCCEEDED", None, 1)
    assert stand_ins.asked - before == {provider: 1}
    assert Decimal(row["actualCost"]) == cost
    assert await booked(service, key) == [("SETTLED", cost)]
    assert len({image["id"] for image in row["images"]}) == count
    for image in row["images"]:
        assert (image["origin"], image["isAiGenerated"]) == ("GENERATED", True)
        assert (image["generation"], image["parent"]) == ({"id": id}, None)
    await _check_files(service, key, row["images"][0]["id"], Mark.TRAINED, authority)


async def _check_files(
    service: Service, key: str, image: str, mark: Mark, authority: Authority
) -> None:
    """As anybody gets them: the file itself, and a rendition in each format."""
    links = (await service.ask(op.FILES, key=key, id=image))["image"]
    names = ("jpeg", "png", "webp", "avif")
    original = await service.fetch(links["url"])
    others = [await service.fetch(links[name]["url"]) for name in names]
    assert [opened(each.content).format for each in others] == ["JPEG", "PNG", "WEBP", "AVIF"]
    assert [mark_in(each.content) for each in (original, *others)] == [mark.uri] * 5
    found = read(original.content, links["mimeType"], authority)
    assert found.state == "Trusted"
    assert found.actions[0]["digitalSourceType"] == mark.uri


async def test_a_card_says_nothing_of_ai(service: Service, key: str) -> None:
    row = await ended(service, key, await wished(service, key, provider="card"))

    (image,) = row["images"]
    links = (await service.ask(op.FILES, key=key, id=image["id"]))["image"]
    files = [links["url"], *(links[name]["url"] for name in ("jpeg", "png", "webp", "avif"))]
    assert image["isAiGenerated"] is False
    assert [mark_in((await service.fetch(url)).content) for url in files] == [None] * 5
    assert await booked(service, key) == [("SETTLED", Decimal(0))]


async def test_previews_of_openai_come_by_short_lived_urls_before_the_picture(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    stand_ins.openai.seconds = 0.6
    id = await wished(service, key)
    shown: dict[str, bytes] = {}
    story: list[str] = []

    async with service.watching(op.PROGRESS, key=key, id=id) as events:
        async for event in events:
            told = event["generationProgress"]
            if url := told.get("previewUrl"):
                shown[urlsplit(url).path] = (await service.fetch(url)).content
            story.append("preview" if url else told["__typename"])

    assert len(shown) == 2
    assert [opened(each).size for each in shown.values()] == [(SIDE // 8, SIDE // 8)] * 2
    assert {mark_in(each) for each in shown.values()} == {Mark.TRAINED.uri}
    assert story.index("preview") < story.index("GenerationImageReady")
    assert story[-1] == "GenerationFinished"
    row = (await service.ask(op.PREVIEW_OF, key=key, id=id))["generation"]
    (expires,) = parse_qs(urlsplit(row["previewUrl"]).query)["expires"]
    assert 600 <= int(expires) - time.time() <= 800


async def test_a_reference_and_a_mask_make_an_edit_and_the_lineage_is_told(
    service: Service, key: str, stand_ins: StandIns, authority: Authority
) -> None:
    first = await uploaded(service, key, encoded(photo(400, 400, seed=5), "PNG"))
    second = await uploaded(service, key, encoded(photo(300, 200, seed=6), "PNG"))
    hole = Image.new("RGBA", (400, 400), "#336699")
    hole.paste((0, 0, 0, 0), (100, 100, 300, 300))
    mask = await uploaded(service, key, encoded(hole, "PNG"))

    id = await wished(service, key, referenceImageIds=[first, second], maskImageId=mask)
    row = await ended(service, key, id)

    (asked,) = stand_ins.openai.requests
    assert asked.endpoint == "edits"
    assert [(file.part, opened(file.data).size) for file in asked.files] == [
        ("image[]", (400, 400)),
        ("image[]", (300, 200)),
        ("mask", (400, 400)),
    ]
    with Image.open(BytesIO(asked.files[2].data)) as sent:
        assert sent.convert("RGBA").getpixel((200, 200))[3] == 0  # type: ignore[index]  # RGBA
        assert sent.convert("RGBA").getpixel((10, 10))[3] == 255  # type: ignore[index]
    assert row["references"] == [{"id": first}, {"id": second}]
    (image,) = row["images"]
    assert (image["generation"], image["parent"]) == ({"id": id}, {"id": first})
    cost = openai_price("A harbour", previews=2, references=3)
    assert await booked(service, key) == [("SETTLED", cost)]
    await _check_files(service, key, image["id"], Mark.COMPOSITE, authority)


async def test_what_cannot_be_an_edit_is_told_at_once_and_asked_of_nobody(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    own = await uploaded(service, key, encoded(photo(400, 400, seed=5), "PNG"))
    small = await uploaded(service, key, encoded(photo(200, 200, seed=6), "PNG"))
    stranger = await new_key(service, uuid4().hex, "a stranger")
    before = stand_ins.asked

    async def refused(whose: str, **input: object) -> tuple[str, str, list[str] | None]:
        wish = {"prompt": "A harbour", **SMALL} | input
        answer = (await service.ask(op.WISH, key=whose, input=wish))["generateImage"]
        (error,) = answer["errors"]
        return error["__typename"], error["code"], error["path"]

    assert await refused(key, referenceImageIds=[own], maskImageId=small) == (
        "InvalidInputError",
        "INVALID",
        ["maskImageId"],
    )
    assert await refused(stranger, referenceImageIds=[own]) == ("NotFoundError", "NOT_FOUND", None)
    assert await refused(key, referenceImageIds=[own], provider="stability") == (
        "InvalidInputError",
        "INVALID",
        ["referenceImageIds"],
    )
    assert stand_ins.asked == before
    assert await booked(service, key) == []


# ---- who, with what, for how much --------------------------------------------------------------


async def test_an_estimate_shows_the_prompt_and_the_cost_and_pays_nothing(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    post = {"externalId": "post", "text": "New: cinnamon rolls, from Friday at eight!"}
    saved = await service.ask(op.SAVE_CONTENT, key=key, input=post)
    wish = {"contentId": saved["saveContent"]["content"]["id"]} | SMALL
    before = stand_ins.asked

    estimate = (await service.ask(op.ESTIMATE, key=key, input=wish))["estimateGeneration"]
    after, paid = stand_ins.asked, await booked(service, key)
    answer = (await service.ask(op.WISH, key=key, input=wish))["generateImage"]
    row = await ended(service, key, answer["generation"]["id"])

    assert (after, paid) == (before, [])
    assert (estimate["provider"], estimate["model"], estimate["count"]) == ("openai", MODEL, 1)
    assert (estimate["width"], estimate["height"]) == (SIDE, SIDE)
    assert "cinnamon rolls" in estimate["prompt"]
    text = -(-len(estimate["prompt"]) // 3)
    drawn = 4 * tokens(16, SIDE, SIDE) + 2 * 100  # others have counted so many of this model
    assert Decimal(estimate["estimated"]) == price(MODEL, text_in=text, image_in=0, image_out=drawn)
    assert stand_ins.openai.requests[0].fields["prompt"] == estimate["prompt"]
    assert Decimal(row["estimatedCost"]) == Decimal(estimate["estimated"])
    assert await booked(service, key) == [("SETTLED", Decimal(row["actualCost"]))]
    assert 0 < Decimal(row["actualCost"]) < Decimal(row["estimatedCost"])


async def test_the_providers_are_told_with_their_models_and_what_the_others_lack(
    service: Service, key: str
) -> None:
    told = (await service.ask(op.PROVIDERS, key=key))["providers"]

    assert [
        (each["name"], each["available"], each["isDefault"], each["makesAiImages"]) for each in told
    ] == [
        ("openai", True, True, True),
        ("card", True, False, False),
        ("gemini", True, False, True),
        ("midjourney", True, False, True),
        ("stability", True, False, True),
        ("openai-compatible", False, False, True),
    ]
    assert [each["unavailableReason"] for each in told] == [None] * 5 + [
        "Set DARKROOM_COMPATIBLE_BASE_URL."
    ]
    assert told[5]["models"] == []
    first = {each["name"]: each["models"][0] for each in told[:5]}
    assert {name: model["name"] for name, model in first.items() if name != "card"} == {
        "openai": MODEL,
        "gemini": "gemini-3.1-flash-image",
        "midjourney": "midjourney",
        "stability": "core",
    }
    assert all(model["isDefault"] for model in first.values())
    assert [
        (name, first[name]["maxCount"], first[name]["streamsPreviews"], first[name]["supportsMask"])
        for name in ("openai", "midjourney", "stability")
    ] == [
        ("openai", 10, True, True),
        ("midjourney", 4, True, False),
        ("stability", 4, False, False),
    ]
    assert Decimal(first["stability"]["pricePerImage"]) == PRICES["stability"]


async def test_who_is_not_set_up_cannot_be_asked_and_it_is_told_why(
    service: Service, key: str
) -> None:
    wish = {"prompt": "A harbour", "provider": "openai-compatible"}

    answer = (await service.ask(op.WISH, key=key, input=wish))["generateImage"]

    assert answer["generation"] is None
    assert answer["errors"] == [
        {
            "__typename": "InvalidInputError",
            "code": "INVALID",
            "message": "openai-compatible cannot be had here: Set DARKROOM_COMPATIBLE_BASE_URL.",
            "path": ["provider"],
        }
    ]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"provider": "DALL_E_3"}, "DALL_E_3"),
        ({"provider": "openai", "model": "dall-e-2"}, "dall-e-2"),
    ],
)
async def test_an_old_name_is_answered_with_a_notice(
    named: JSON, said: str, service: Service, key: str, stand_ins: StandIns
) -> None:
    wish = {"prompt": "A harbour"} | SMALL | named
    answer = (await service.ask(op.WISH, key=key, input=wish))["generateImage"]
    row = await ended(service, key, answer["generation"]["id"])

    assert answer["notices"] == [f"There is no model {said} now. {MODEL} answers in its place."]
    assert (row["provider"], row["model"], row["notice"]) == ("openai", MODEL, *answer["notices"])
    assert [request.fields["model"] for request in stand_ins.openai.requests] == [MODEL]
    assert row["status"] == "SUCCEEDED"


async def test_a_retry_repeats_the_whole_recipe_and_names_what_it_repeats(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    reference = await uploaded(service, key, encoded(photo(400, 400, seed=5), "PNG"))
    stand_ins.openai.seconds = 30
    recipe = {"referenceImageIds": [reference], "background": "OPAQUE", "altText": "A harbour"}
    old = await wished(service, key, "A harbour at night", **recipe)
    await asyncio.wait_for(stand_ins.openai.is_asked.wait(), 10)
    early = (await service.ask(op.RETRY, key=key, id=old))["retryGeneration"]
    stand_ins.openai.seconds = 0
    await service.ask(op.CANCEL, key=key, id=old)

    answers = [
        (await service.ask(op.RETRY, key=key, id=old, again="the same"))["retryGeneration"]
        for _ in range(2)
    ]
    row = await ended(service, key, answers[0]["generation"]["id"])

    assert [error["__typename"] for error in early["errors"]] == ["ConflictError"]
    assert answers[0]["generation"]["id"] == answers[1]["generation"]["id"] != old
    assert row["retryOf"] == {"id": old}
    repeated = (await service.ask(op.RECIPE_OF, key=key, id=old))["generation"]
    kept = ("provider", "model", "prompt", "width", "height", "quality", "background", "references")
    assert {name: row[name] for name in kept} == {name: repeated[name] for name in kept}
    first, second = stand_ins.openai.requests
    assert first.fields == second.fields
    assert [file.data for file in first.files] == [file.data for file in second.files]


# ---- what can go wrong -------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What a provider is told to do, and what a client is told of it."""

    provider: str
    how: str
    error: type[LibraryError]
    prompt: str = "A harbour"
    retry_after: float | None = None
    calls: int = 1
    retryable: bool = False


FAULTS = [
    Fault("openai", "", Refused, prompt="A harbour of gore"),
    Fault("openai", "", Refused, prompt="A celebrity", retryable=True),
    Fault("openai", "policy", Refused, retryable=True),
    Fault("openai", "insufficient_quota", ProviderQuota),
    Fault("openai", "unverified", ProviderAuth),
    Fault("openai", "unprocessable", ProviderRejected),
    Fault("openai", "overloaded", ProviderUnavailable, retry_after=7, retryable=True),
    Fault("openai", "error_in_stream", ProviderUnavailable, retryable=True),
    Fault("openai", "cut_stream", OutcomeUnknown, retryable=True),
    Fault("openai", "drop", OutcomeUnknown, retryable=True),
    Fault("openai", "rate_after_previews", OutcomeUnknown, retryable=True),
    Fault("openai", "page_502", OutcomeUnknown, retryable=True),
    Fault("stability", "", Refused, prompt="A harbour of gore"),
    Fault("stability", "", Refused, prompt="A nude", retryable=True),
    Fault("stability", "rate:1", RateLimited, retry_after=1, calls=4, retryable=True),
    Fault("stability", "forbidden", ProviderAuth),
    Fault("stability", "no credits", ProviderQuota),
    Fault("stability", "torn", OutcomeUnknown, retryable=True),
    Fault("stability", "page:504", OutcomeUnknown, retryable=True),
    Fault("gemini", "", Refused, prompt="A nude", retryable=True),
    Fault("gemini", "credits", ProviderQuota),
    Fault("gemini", "unauthenticated", ProviderAuth),
    Fault("gemini", "overloaded", ProviderUnavailable, retryable=True),
    Fault("gemini", "page:502", OutcomeUnknown, retryable=True),
    Fault("midjourney", "", Refused, prompt="A blood bath"),
    Fault("midjourney", "failed", ProviderUnavailable, retryable=True),
    Fault("midjourney", "another secret", ProviderAuth),
]


def tell(stand_ins: StandIns, fault: Fault) -> None:
    match fault.provider, fault.how:
        case _, "":
            pass
        case "openai", how:
            stand_ins.openai.fail_with(how)
        case "stability", "no credits":
            stand_ins.stability.credits = Decimal(1)
        case "stability", how:
            stand_ins.stability.fail_with(*[how] * fault.calls)
        case "gemini", how:
            stand_ins.gemini.fail_with(how)
        case "midjourney", "failed":
            stand_ins.midjourney.script = midjourney_server.failed("The bot is gone.")
        case _:
            stand_ins.midjourney.secret = "another"


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.provider}, {fault.how or fault.prompt}"
)
async def test_a_fault_is_told_with_its_remedy_and_costs_nothing_that_nobody_took(
    fault: Fault, service: Service, key: str, stand_ins: StandIns
) -> None:
    tell(stand_ins, fault)

    row = await ended(
        service, key, await wished(service, key, fault.prompt, provider=fault.provider)
    )

    failure = row["failure"]
    assert (row["status"], row["images"]) == ("FAILED", [])
    assert (failure["code"], failure["remedy"]) == (fault.error.code, fault.error.remedy)
    assert failure["retryAfterSeconds"] == fault.retry_after
    assert failure["retryable"] is fault.retryable
    assert row["calls"] == fault.calls
    assert Decimal(row["actualCost"]) == 0
    is_lost = fault.error is OutcomeUnknown
    assumed = ("ASSUMED", Decimal(row["estimatedCost"])) if is_lost else ("SETTLED", Decimal(0))
    assert await booked(service, key) == [assumed]


async def test_after_a_rate_limit_it_is_asked_again_and_paid_once(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    stand_ins.openai.fail_with("rate")
    before = stand_ins.asked

    row = await ended(service, key, await wished(service, key))

    assert (row["status"], row["calls"], row["attempts"]) == ("SUCCEEDED", 2, 1)
    assert stand_ins.asked - before == {"openai": 2}
    assert len(stand_ins.openai.requests) == 1
    assert await booked(service, key) == [("SETTLED", openai_price("A harbour", previews=2))]


async def test_who_is_cancelled_hangs_up_and_who_waits_is_never_asked(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    stand_ins.openai.seconds = 30
    running = await wished(service, key)
    await asyncio.wait_for(stand_ins.openai.is_asked.wait(), 10)
    queued = await wished(service, key, "Another harbour")

    for id in (queued, running):
        answer = (await service.ask(op.CANCEL, key=key, id=id))["cancelGeneration"]
        assert (answer["generation"]["status"], answer["errors"]) == ("CANCELLED", [])
    await asyncio.wait_for(stand_ins.openai.is_left.wait(), 5)

    rows = [await ended(service, key, id) for id in (queued, running)]
    assert [(row["status"], row["calls"]) for row in rows] == [("CANCELLED", 0), ("CANCELLED", 1)]
    assert len(stand_ins.openai.requests) == 1
    assert await booked(service, key) == [
        ("SETTLED", Decimal(0)),
        ("ASSUMED", Decimal(rows[1]["estimatedCost"])),
    ]


async def test_a_secret_is_in_no_answer_though_a_provider_repeats_it(
    service: Service, key: str, stand_ins: StandIns
) -> None:
    told: list[object] = [await service.ask(op.PROVIDERS, key=key)]

    for fault in FAULTS:
        if fault.how in ("unverified", "unprocessable", "forbidden", "another secret"):
            tell(stand_ins, fault)
            id = await wished(service, key, provider=fault.provider)
            told += await service.watched(op.PROGRESS, key=key, id=id)
            told += [await ended(service, key, id), await service.ask(op.LEDGER, key=key)]
            stand_ins.calm_down()

    answers, log = json.dumps(told), service.log.read_text()
    assert "openai.failed" in log
    assert [secret for secret in stand_ins.secrets if secret in answers] == []
    assert [secret for secret in (*stand_ins.secrets, key) if secret in log] == []


# ---- one process and several -------------------------------------------------------------------


@pytest.fixture(params=["one process", "several on PostgreSQL", "several on Redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> JSON:
    """Settings: what the processes have in common, and what carries progress between them."""
    if request.param == "one process":
        return {}
    common = {
        "DATABASE_URL": request.getfixturevalue("postgres_url"),
        "OBJECTS_URL": f"file://{tmp_path}/objects",
        "SIGNING_KEYS": secrets.token_hex(32),
    }
    if request.param == "several on Redis":
        prefix = f"{uuid4().hex}."
        common |= {"REDIS_URL": request.getfixturevalue("redis_url"), "REDIS_PREFIX": prefix}
    return common


@pytest_asyncio.fixture(loop_scope="module")
async def pair(
    place: JSON, stand_ins: StandIns, tmp_path: Path
) -> AsyncIterator[tuple[Service, Service]]:
    """Who takes wishes, and who tells of them: another process, where there is one."""
    settings = stand_ins.settings | place
    with ExitStack() as stack:
        if not place:
            service = Service(tmp_path, **settings)
            stack.callback(service.stop)
            await asyncio.to_thread(service.start)
            yield service, service
        else:
            cluster = Cluster(tmp_path, **settings)
            stack.callback(cluster.stop)
            worker = cluster.add_worker()
            await asyncio.to_thread(cluster.start)
            await asyncio.to_thread(worker.wait_until_logged, "worker.ready")
            yield cluster.one, cluster.two


async def test_one_process_and_several_tell_the_same_story(
    pair: tuple[Service, Service], stand_ins: StandIns
) -> None:
    asked, watched = pair
    key = await new_key(asked, "the team", "the editor")
    stand_ins.openai.seconds = 0.5

    async def story(id: str) -> list[str]:
        """What happens, without repeats; a message that is lost would be told after 10 seconds."""
        async with asyncio.timeout(8):
            events = await watched.watched(op.PROGRESS, key=key, id=id)
        assert [event["sequence"] for event in events] == sorted(
            {event["sequence"] for event in events}
        )
        kinds = [_kind(event) for event in events]
        return [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]

    made = await story(await wished(asked, key))
    refused = await story(await wished(asked, key, "A celebrity"))
    stand_ins.openai.seconds = 30
    stand_ins.openai.is_asked.clear()
    stand_ins.openai.is_left.clear()
    id = await wished(asked, key, "Never")
    watching = asyncio.create_task(story(id))
    await asyncio.wait_for(stand_ins.openai.is_asked.wait(), 10)
    await watched.ask(op.CANCEL, key=key, id=id)
    cancelled = await watching
    await asyncio.wait_for(stand_ins.openai.is_left.wait(), 5)

    assert made == ["PROGRESS", "PREVIEW", "IMAGE", "SUCCEEDED"]
    assert refused == ["PROGRESS", "PREVIEW", "CONTENT_POLICY"]
    assert cancelled == ["PROGRESS", "CANCELLED"]
    actual = openai_price("A harbour", previews=2)
    entries = await booked(watched, key)
    assert [state for state, _ in entries] == ["ASSUMED", "SETTLED", "SETTLED"]
    assert [amount for _, amount in entries[1:]] == [0, actual]


def _kind(event: JSON) -> str:
    match event["__typename"]:
        case "GenerationImageReady":
            return "IMAGE"
        case "GenerationFinished":
            return str((event["failure"] or {}).get("code") or event["status"])
        case _:
            return "PREVIEW" if event["previewUrl"] else "PROGRESS"
