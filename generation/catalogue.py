"""Who can make pictures here, with which models; and who could, and what is missing for that."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from generation.errors import ProviderAuth, ProviderQuota
from generation.plugins import Absent, open_plugins
from generation.provider import Fetch, ImageProvider, ModelInfo, Quarter, plain
from generation.providers.card import CardProvider
from generation.providers.options import CatalogueOptions
from storage.errors import LibraryError, Rejected

log = logging.getLogger(__name__)

BUILT_IN = ("card", "openai", "openai-compatible", "stability", "gemini", "midjourney")
ENDS_SOON = timedelta(days=30)
REFRESH_SECONDS = 6 * 3600.0
RETRY_SECONDS = 300.0
REFUSALS = (ProviderAuth, ProviderQuota)


@dataclass(frozen=True, slots=True)
class Choice:
    """A model of a provider. `notices` are what whoever asked for it should know."""

    provider: ImageProvider
    model: ModelInfo
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`providers` by name; `absent` are known, and cannot be had.

    `faults` are what refreshing has raised, by the provider's name, until it succeeds.
    """

    providers: Mapping[str, ImageProvider]
    default: str
    absent: Sequence[Absent] = field(default=())
    faults: dict[str, LibraryError] = field(default_factory=dict)

    def choose(self, provider: str | None = None, model: str | None = None) -> Choice:
        """By name; None leaves it to us. Old clients' names are understood. Raises Rejected."""
        known = self._of_model(model) if provider is None else self._of_name(provider)
        if model is None and provider is not None and plain(provider) != known.name:
            model = provider  # a provider of the name DALL_E_3 was a model, too
        notices: list[str] = []
        found = next((each for each in known.models if model in (None, each.name)), None)
        if found is None and model is not None:
            found = _successor(known, model)
            notices += [f"There is no model {model} now. {found.name} answers in its place."]
        assert found is not None  # every provider has a model
        if warning := warning_of(found):
            notices.append(warning)
        return Choice(known, found, tuple(notices))

    def _of_name(self, name: str) -> ImageProvider:
        """By the provider's own name, or by one of those that a model had."""
        known = self.providers.get(plain(name))
        if known is None:
            known = next((it for it in self.providers.values() if _answers(it, name)), None)
        if known is None:
            self._check_absent(name, field="provider")
            names = ", ".join(sorted(self.providers))
            raise Rejected(
                f"There is no provider {name!r}. Choose from: {names}.", field="provider"
            )
        return known

    def _of_model(self, name: str | None) -> ImageProvider:
        """The default, unless just another knows the model."""
        default = self.providers[self.default]
        if name is None or _has(default, name) or _answers(default, name):
            return default
        for knows in (_has, _answers):
            for each in self.providers.values():
                if knows(each, name):
                    return each
        self._check_absent(name, field="model")
        return default

    def _check_absent(self, name: str, *, field: str) -> None:
        """Raises Rejected for one that cannot be had, and for models of such a one."""
        for each in self.absent:
            if each.name == plain(name):
                raise Rejected(f"{each.name} cannot be had here: {each.reason}", field=field)
            if plain(name) in _models_of(each.name):
                raise Rejected(
                    f"{name} is of {each.name}, which cannot be had here: {each.reason}",
                    field=field,
                )

    def unavailable_reason(self, provider: str) -> str | None:
        """Why it would refuse whatever is asked, by its last refresh, and what to do about it."""
        fault = self.faults.get(provider)
        if not isinstance(fault, REFUSALS):
            return None
        return f"{fault.message} {fault.remedy}"

    async def refresh(self) -> None:
        """Ask each provider what it offers today, and warn of defaults that end soon."""
        for provider in self.providers.values():
            try:
                await provider.refresh()
            except LibraryError as fault:
                log.warning("provider.not_refreshed provider=%s code=%s", provider.name, fault.code)
                # A line that is cut says nothing of a key that was refused before.
                if isinstance(fault, REFUSALS) or not self.unavailable_reason(provider.name):
                    self.faults[provider.name] = fault
            except Exception:  # a plugin's, say
                log.exception("provider.not_refreshed provider=%s", provider.name)
            else:
                self.faults.pop(provider.name, None)
            default = next(iter(provider.models), None)
            if default and (warning := warning_of(default)):
                log.warning(
                    "model.warning provider=%s model=%s notice=%r",
                    provider.name,
                    default.name,
                    warning,
                )

    @property
    def pause(self) -> float:
        """Seconds until the next refresh: fewer after a fault, which may be mended soon."""
        return RETRY_SECONDS if self.faults else REFRESH_SECONDS

    async def keep_fresh(self) -> None:
        """Until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self.pause)


@asynccontextmanager
async def open_catalogue(
    options: CatalogueOptions, *, fetch: Fetch, fetch_midjourney: Fetch, quarter: Quarter
) -> AsyncIterator[Catalogue]:
    """Every provider that is set up, open until the end. Raises Rejected for an unknown default.

    `fetch` downloads what a compatible server's answer links to, `fetch_midjourney` what a proxy's
    does.
    """
    async with AsyncExitStack() as stack:
        found: list[ImageProvider] = [CardProvider(stage_seconds=options.card_stage_seconds)]
        # Their libraries import slowly, so just those are imported that are set up.
        for openai in filter(None, (options.openai, options.compatible)):
            from generation.providers.openai import open_openai

            found.append(await stack.enter_async_context(open_openai(openai, fetch)))
        if options.stability:
            from generation.providers.stability import open_stability

            found.append(await stack.enter_async_context(open_stability(options.stability)))
        if options.gemini:
            from generation.providers.gemini import open_gemini

            found.append(await stack.enter_async_context(open_gemini(options.gemini)))
        if options.midjourney:
            from generation.providers.midjourney import open_midjourney

            opening = open_midjourney(options.midjourney, fetch_midjourney, quarter)
            found.append(await stack.enter_async_context(opening))
        plugins, broken = await stack.enter_async_context(open_plugins(BUILT_IN))
        providers = {provider.name: provider for provider in found} | plugins
        absent = [*options.absent, *broken]
        yield Catalogue(providers, _default(options.default, providers, absent), absent)


def ending(model: ModelInfo, today: date | None = None) -> str | None:
    """What to say of a model that its maker ends within 30 days, or has ended."""
    today = today or datetime.now(UTC).date()
    if model.shutdown_date is None or model.shutdown_date - today > ENDS_SOON:
        return None
    verb = "ends" if model.shutdown_date > today else "ended"
    instead = f" Use {model.replaced_by} instead." if model.replaced_by else ""
    return f"{model.name} {verb} on {model.shutdown_date:%Y-%m-%d}.{instead}"


def warning_of(model: ModelInfo) -> str | None:
    """What whoever asks for the model should know."""
    return " ".join(filter(None, (ending(model), model.warning))) or None


def _default(
    wished: str | None, providers: Mapping[str, ImageProvider], absent: Sequence[Absent]
) -> str:
    if wished is None:
        return next(name for name in ("openai", "stability", "card") if name in providers)
    if wished not in providers:
        why = next((f" {each.reason}" for each in absent if each.name == wished), "")
        known = ", ".join(sorted(providers))
        raise Rejected(f"DARKROOM_PROVIDER is {wished!r}.{why} Choose from: {known}.")
    return wished


def _has(provider: ImageProvider, model: str) -> bool:
    return any(each.name == model for each in provider.models)


def _answers(provider: ImageProvider, name: str) -> bool:
    """Whether one of its models answers to a name that another had."""
    return plain(name) in provider.former_models


def _successor(provider: ImageProvider, name: str) -> ModelInfo:
    """Raises Rejected."""
    successor = provider.former_models.get(plain(name))
    for model in provider.models:
        if model.name == successor:
            return model
    names = ", ".join(each.name for each in provider.models)
    raise Rejected(f"{provider.name} has no model {name!r}. Choose from: {names}.", field="model")


def _models_of(provider: str) -> Collection[str]:
    """Names of models, of now and then, of a provider that is not set up."""
    match provider:
        case "openai":
            from generation.providers import openai_models

            return {*openai_models.CURRENT, *openai_models.FORMER}
        case "stability":
            from generation.providers import stability_models

            return {*(model.name for model in stability_models.MODELS), *stability_models.FORMER}
        case "gemini":
            from generation.providers import gemini

            return {*(model.name for model in gemini.MODELS), *gemini.FORMER}
        case _:
            return ()
