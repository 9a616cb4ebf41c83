"""Who can be asked for pictures: by which names, with which warnings, and why some cannot."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import SecretStr

from generation.catalogue import Catalogue, ending, open_catalogue
from generation.errors import ProviderAuth, ProviderQuota, ProviderUnavailable
from generation.plugins import Absent
from generation.provider import ModelInfo
from generation.providers.options import (
    CatalogueOptions,
    GeminiOptions,
    MidjourneyOptions,
    OpenAIOptions,
    StabilityOptions,
)
from storage.errors import LibraryError, Rejected
from tests.generation.conftest import ScriptedProvider

KEY = SecretStr("k")
OPENAI = OpenAIOptions(model="gpt-image-2.6-flare", api_key=KEY)


async def nothing(_: str) -> bytes:
    raise AssertionError("nobody fetches here")


async def uncut(_: bytes) -> Sequence[bytes]:
    raise AssertionError("nobody cuts here")


async def catalogue_of(options: CatalogueOptions) -> tuple[Collection[str], str]:
    """The names of its providers, and the default among them."""
    opening = open_catalogue(options, fetch=nothing, fetch_midjourney=nothing, quarter=uncut)
    async with opening as catalogue:
        return set(catalogue.providers), catalogue.default


@pytest.mark.parametrize(
    ("options", "default"),
    [
        (CatalogueOptions(), "card"),
        (CatalogueOptions(gemini=GeminiOptions(KEY)), "card"),
        (CatalogueOptions(stability=StabilityOptions(KEY)), "stability"),
        (CatalogueOptions(openai=OPENAI, stability=StabilityOptions(KEY)), "openai"),
        (CatalogueOptions(openai=OPENAI, default="card"), "card"),
    ],
)
async def test_who_is_asked_when_nobody_says(options: CatalogueOptions, default: str) -> None:
    _, chosen = await catalogue_of(options)

    assert chosen == default


async def test_every_provider_that_is_set_up_can_be_asked() -> None:
    compatible = OpenAIOptions(model="sd", base_url="http://127.0.0.1:1/v1", is_compatible=True)
    options = CatalogueOptions(
        openai=OPENAI,
        compatible=compatible,
        stability=StabilityOptions(KEY),
        gemini=GeminiOptions(KEY),
        midjourney=MidjourneyOptions("http://127.0.0.1:1"),
    )

    names, _ = await catalogue_of(options)

    assert names == {"card", "openai", "openai-compatible", "stability", "gemini", "midjourney"}


async def test_a_default_that_lacks_something_refuses_to_start_and_says_what() -> None:
    absent = [Absent("openai", "Set DARKROOM_OPENAI_API_KEY.")]

    with pytest.raises(Rejected, match="Set DARKROOM_OPENAI_API_KEY"):
        await catalogue_of(CatalogueOptions(default="openai", absent=absent))
    with pytest.raises(Rejected, match="Choose from: card"):
        await catalogue_of(CatalogueOptions(default="nobody"))


# ---- names ------------------------------------------------------------------------------------


class OldAndNew(ScriptedProvider):
    name = "openai"
    models = (ModelInfo("gpt-image-9", max_count=1, min_side=64, max_side=2048),)
    former_models = {"dall-e": "gpt-image-9", "dall-e-3": "gpt-image-9"}  # noqa: RUF012  # nobody changes it


class Unrelated(ScriptedProvider):
    """Whose models have always been called so."""

    former_models = {}  # noqa: RUF012  # nobody changes it


@pytest.fixture
def catalogue() -> Catalogue:
    providers = {"openai": OldAndNew(), "scripted": ScriptedProvider()}
    absent = [
        Absent(name, f"Set DARKROOM_{name.upper()}_API_KEY.") for name in ("gemini", "stability")
    ]
    return Catalogue(providers, "scripted", absent)


@pytest.mark.parametrize(
    ("provider", "model", "found"),
    [
        (None, None, ("scripted", "m")),
        (None, "plain", ("scripted", "plain")),
        ("openai", None, ("openai", "gpt-image-9")),
        ("OpenAI", "gpt-image-9", ("openai", "gpt-image-9")),
        ("DALL_E", None, ("openai", "gpt-image-9")),
        ("openai", "DALL_E_3", ("openai", "gpt-image-9")),
        ("dall-e-3", None, ("openai", "gpt-image-9")),
        (None, "gpt-image-9", ("openai", "gpt-image-9")),
        (None, "dall-e", ("openai", "gpt-image-9")),
        (None, "DALL_E_3", ("scripted", "m")),  # the default goes first
    ],
)
def test_a_provider_is_found_by_its_names_of_now_and_then(
    provider: str | None, model: str | None, found: tuple[str, str], catalogue: Catalogue
) -> None:
    choice = catalogue.choose(provider, model)

    assert (choice.provider.name, choice.model.name) == found
    is_old = any("dall" in (name or "").lower() for name in (provider, model))
    assert bool(choice.notices) is is_old


@pytest.mark.parametrize(
    ("provider", "model", "field", "told"),
    [
        ("nobody", None, "provider", "Choose from: openai, scripted"),
        ("gemini", None, "provider", "Set DARKROOM_GEMINI_API_KEY"),
        ("scripted", "none", "model", "Choose from: m, plain"),
        (None, "none", "model", "Choose from: m, plain"),
        (None, "gemini-3-pro-image", "model", "Set DARKROOM_GEMINI_API_KEY"),
        ("imagen-4.0-generate-001", None, "provider", "Set DARKROOM_GEMINI_API_KEY"),
        ("stability", None, "provider", "Set DARKROOM_STABILITY_API_KEY"),
        ("sd3.5", None, "provider", "Set DARKROOM_STABILITY_API_KEY"),
        (None, "core", "model", "core is of stability, which cannot be had here"),
    ],
)
def test_who_cannot_be_asked_is_told_with_what_can_be_done(
    provider: str | None, model: str | None, field: str, told: str, catalogue: Catalogue
) -> None:
    with pytest.raises(Rejected, match=told) as refused:
        catalogue.choose(provider, model)

    assert refused.value.field == field


@pytest.mark.parametrize(
    ("provider", "model", "field"),
    [
        ("DALL_E_3", None, "provider"),
        ("openai", None, "provider"),
        (None, "dall-e-3", "model"),
        (None, "gpt-image-2.6-flare", "model"),
        ("gpt-image-1.5", None, "provider"),
    ],
)
def test_without_a_key_openais_names_lead_to_the_setting(
    provider: str | None, model: str | None, field: str
) -> None:
    absent = [Absent("openai", "Set DARKROOM_OPENAI_API_KEY.")]
    catalogue = Catalogue({"scripted": Unrelated()}, "scripted", absent)

    with pytest.raises(
        Rejected, match="cannot be had here: Set DARKROOM_OPENAI_API_KEY"
    ) as refused:
        catalogue.choose(provider, model)

    assert refused.value.field == field


# ---- models that end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (31, None),
        (30, "m ends on 2026-12-31. Use n instead."),
        (1, "m ends on 2026-12-02. Use n instead."),
        (0, "m ended on 2026-12-01. Use n instead."),
        (-90, "m ended on 2026-09-02. Use n instead."),
    ],
)
def test_a_model_that_ends_within_thirty_days_is_warned_of(days: int, told: str | None) -> None:
    today = date(2026, 12, 1)
    model = ModelInfo(
        "m",
        max_count=1,
        min_side=1,
        max_side=9,
        shutdown_date=today + timedelta(days=days),
        replaced_by="n",
    )

    assert ending(model, today) == told
    assert ending(replace(model, shutdown_date=None), today) is None


async def test_a_default_that_ends_soon_is_in_the_log_and_in_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = ScriptedProvider()
    soon = datetime.now(UTC).date() + timedelta(days=3)
    provider.models = [replace(provider.models[0], shutdown_date=soon)]
    catalogue = Catalogue({"scripted": provider}, "scripted")

    await catalogue.refresh()

    assert f"model.warning provider=scripted model=m notice='m ends on {soon}" in caplog.text
    assert catalogue.choose().notices == (f"m ends on {soon}.",)


class Offended(ScriptedProvider):
    def __init__(self, fault: Exception | None) -> None:
        super().__init__()
        self.fault = fault

    async def refresh(self) -> None:
        if self.fault is not None:
            raise self.fault


async def test_what_a_provider_says_of_a_model_is_told_to_whoever_asks_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = ScriptedProvider()
    provider.models = [replace(provider.models[0], warning="It is not listed.")]
    catalogue = Catalogue({"scripted": provider}, "scripted")

    await catalogue.refresh()

    assert catalogue.choose().notices == ("It is not listed.",)
    assert "model.warning provider=scripted model=m notice='It is not listed.'" in caplog.text


@pytest.mark.parametrize("refusal", [ProviderAuth("Not this key."), ProviderQuota("Used up.")])
async def test_who_refuses_our_key_or_account_is_not_available_until_a_refresh_succeeds(
    refusal: LibraryError,
) -> None:
    provider = Offended(refusal)
    catalogue = Catalogue({"scripted": provider}, "scripted")
    reasons = []

    for fault in (refusal, ProviderUnavailable("A line was cut."), RuntimeError("a bug"), None):
        provider.fault = fault
        await catalogue.refresh()
        reasons.append(catalogue.unavailable_reason("scripted"))

    assert reasons == [f"{refusal.message} {refusal.remedy}"] * 3 + [None]


async def test_who_does_not_answer_stays_available_and_is_soon_asked_again() -> None:
    away = Offended(ProviderUnavailable("It is down."))
    catalogue = Catalogue({"scripted": away}, "scripted")

    await catalogue.refresh()
    reason, soon = catalogue.unavailable_reason("scripted"), catalogue.pause
    away.fault = None
    await catalogue.refresh()

    assert reason is None
    assert soon == 300 < catalogue.pause


@pytest.mark.parametrize("fault", [ProviderAuth("Not this key."), RuntimeError("a bug")])
async def test_a_provider_that_cannot_be_refreshed_stays_and_hinders_no_other(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    catalogue = Catalogue({"a": Offended(fault), "scripted": ScriptedProvider()}, "scripted")

    await catalogue.refresh()

    assert "provider.not_refreshed" in caplog.text
    assert set(catalogue.providers) == {"a", "scripted"}
