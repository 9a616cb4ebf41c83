"""Providers as clients see them: whether they can be asked, and what to know of their models."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from generation.catalogue import Catalogue
from generation.providers.openai import open_openai
from generation.providers.options import OpenAIOptions
from graph.providers import Provider
from tests.openai_server import API_KEY, OpenAIServer, openai_server


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        yield running


@asynccontextmanager
async def shown(
    server: OpenAIServer, *, key: str = API_KEY, model: str = "gpt-image-2.6-flare"
) -> AsyncIterator[Catalogue]:
    """A catalogue of OpenAI alone."""

    async def nothing(_: str) -> bytes:
        raise AssertionError("nobody fetches here")

    options = OpenAIOptions(model, api_key=SecretStr(key), base_url=server.url)
    async with open_openai(options, nothing) as provider:
        yield Catalogue({"openai": provider}, "openai")


def openai_in(catalogue: Catalogue) -> Provider:
    return Provider.of(catalogue.providers["openai"], catalogue)


async def test_before_anybody_was_asked_what_is_set_up_counts_as_available(
    server: OpenAIServer,
) -> None:
    async with shown(server, key="sk-wrong") as catalogue:
        provider = openai_in(catalogue)

    assert (provider.available, provider.unavailable_reason) == (True, None)


async def test_a_key_that_was_refused_makes_a_provider_unavailable_and_says_what_to_do(
    server: OpenAIServer,
) -> None:
    async with shown(server, key="sk-wrong") as catalogue:
        await catalogue.refresh()
        provider = openai_in(catalogue)

    assert provider.available is False
    assert provider.unavailable_reason == (
        "OpenAI does not accept our key, or does not let it do this (invalid_api_key). "
        "Whoever operates this service has to set a key that the provider accepts."
    )
    assert provider.is_default


async def test_an_account_that_was_used_up_is_available_again_once_a_refresh_succeeds(
    server: OpenAIServer,
) -> None:
    server.fail_with("insufficient_quota")

    async with shown(server) as catalogue:
        await catalogue.refresh()
        before = openai_in(catalogue).available
        await catalogue.refresh()
        after = openai_in(catalogue)

    assert (before, after.available, after.unavailable_reason) == (False, True, None)


async def test_a_configured_model_that_is_not_listed_carries_a_warning(
    server: OpenAIServer,
) -> None:
    async with shown(server, model="gpt-image-9") as catalogue:
        await catalogue.refresh()
        first, second, *_ = openai_in(catalogue).models

    assert (first.name, first.is_default) == ("gpt-image-9", True)
    assert first.warning == "OpenAI does not list gpt-image-9 among its models, and may refuse it."
    assert second.warning is None
