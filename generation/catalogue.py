"""Who can make pictures here, with which models; and who could, and what is missing for that."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from generation.plugins import Absent, open_plugins
from generation.provider import Fetch, ImageProvider, ModelInfo, Quarter
from generation.providers.card import CardProvider
from generation.providers.options import CatalogueOptions
from storage.errors import LibraryError, Rejected

log = logging.getLogger(__name__)

BUILT_IN = ("card", "openai", "openai-compatible", "stability", "gemini", "midjourney")
ENDS_SOON = timedelta(days=30)
REFRESH_SECONDS = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A model of a provider. `notices` are what whoever asked for it should know."""

    provider: ImageProvider
    model: ModelInfo
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`providers` by name; `absent` are known, and cannot be had."""

    providers: Mapping[str, ImageProvider]
    default: str
    absent: Sequence[Absent] = field(default=())

    def choose(self, provider: str | None = None, model: str | None = None) -> Choice:
        """By name; None leaves it to us. Old clients' names are understood. Raises Rejected."""
        known = self._provider(provider, model)
        notices: list[str] = []
        wished = model
        if known.name == "openai" and provider and _plain(provider) != known.name:
            wished = model or provider  # a provider of the name DALL_E_3 was a model, too
        found = next((each for each in known.models if wished in (None, each.name)), None)
        if found is None and wished is not None:
            found = self._successor(known, wished, notices)
        if found is None:
            names = ", ".join(each.name for each in known.models)
            raise Rejected(
                f"{known.name} has no model {wished!r}. Choose from: {names}.", field="model"
            )
        if warning := ending(found):
            notices.append(warning)
        return Choice(known, found, tuple(notices))

    def _provider(self, name: str | None, model: str | None) -> ImageProvider:
        if name is None:
            return self.providers[self.default]
        plain = _plain(name)
        if plain in self.providers:
            return self.providers[plain]
        for provider in self.providers.values():
            if plain in provider.former_models:
                return provider
        for each in self.absent:
            if each.name == plain:
                raise Rejected(f"{plain} cannot be had here: {each.reason}", field="provider")
        known = ", ".join(sorted(self.providers))
        raise Rejected(f"There is no provider {name!r}. Choose from: {known}.", field="provider")

    def _successor(
        self, provider: ImageProvider, name: str, notices: list[str]
    ) -> ModelInfo | None:
        successor = provider.former_models.get(_plain(name))
        for model in provider.models:
            if model.name == successor:
                notices.append(f"{name} is no more. {model.name} answers in its place.")
                return model
        return None

    async def refresh(self) -> None:
        """Ask each provider what it offers today, and warn of defaults that end soon."""
        for provider in self.providers.values():
            try:
                await provider.refresh()
            except LibraryError as fault:
                log.warning("provider.not_refreshed provider=%s code=%s", provider.name, fault.code)
            except Exception:  # a plugin's, say
                log.exception("provider.not_refreshed provider=%s", provider.name)
            default = next(iter(provider.models), None)
            if default and (warning := ending(default)):
                log.warning(
                    "model.ending provider=%s model=%s notice=%r",
                    provider.name,
                    default.name,
                    warning,
                )

    async def keep_fresh(self) -> None:
        """Until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)


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


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", "-")
