"""All parts together, in this process: the jobs really run. On both databases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from generation.studio import Wish
from graph.config import Settings
from graph.parts import Parts, open_parts
from storage.contents import ContentPatch
from storage.errors import Unavailable
from storage.generations import Event
from storage.models import Generation, GenerationStatus
from storage.viewers import Viewer
from tests.generation.test_prompts import Responses
from tests.generation.test_prompts import responses as responses
from tests.openai_server import CompatibleServer, compatible_server
from tests.postgres import DEFAULT


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=tmp_path,
        objects_url=f"file://{tmp_path}/objects",
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes it a secret
        signing_keys="k" * 32,  # type: ignore[arg-type]  # and splits these
    )


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    async with open_parts(settings, works=True) as parts:
        yield parts


async def test_a_wish_is_worked_and_its_job_forgotten_in_time(parts: Parts) -> None:
    viewer = _viewer(parts)
    wish = Wish(prompt="All together", width=100, height=100)

    generation = await parts.studio.generate(viewer, wish)
    events = [event async for event in parts.generations.watch(viewer, generation.id)]

    assert _end(events) is GenerationStatus.SUCCEEDED
    while await parts.jobs.unfinished([generation.id]):  # noqa: ASYNC110  # noted after our row
        await asyncio.sleep(0.05)
    await parts.jobs.forget(timedelta(days=1))
    assert await parts.jobs.known([generation.id]) == {generation.id}
    await parts.jobs.forget(timedelta(seconds=-60))
    assert await parts.jobs.known([generation.id]) == set()


async def test_two_workspaces_take_turns(parts: Parts) -> None:
    """One wishes for much; the other's single wish does not wait for all of it."""
    greedy = _viewer(parts)
    token = await parts.viewers.create_key("modest", "modest")
    modest = await parts.viewers.by_token(token)
    assert modest is not None
    small = Wish(prompt="Small", width=64, height=64)
    many = [await parts.studio.generate(greedy, small) for _ in range(8)]

    one = await parts.studio.generate(modest, small)
    events = [event async for event in parts.generations.watch(modest, one.id)]

    assert _end(events) is GenerationStatus.SUCCEEDED
    states = [await parts.generations.current(generation.id) for generation in many]
    assert any(not state.status.is_final for state in states)
    for generation in many:
        await parts.generations.cancel(greedy, generation.id)


async def test_a_database_that_is_not_migrated_is_refused(tmp_path: Path, postgres: object) -> None:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=tmp_path,
        database_url=DEFAULT,  # type: ignore[arg-type]  # pydantic makes it a secret
        signing_keys="k" * 32,  # type: ignore[arg-type]  # and splits these
    )

    with pytest.raises(Unavailable, match="python -m graph migrate"):
        async with open_parts(settings, works=False):
            pass


# ---- a server of one's own ----------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[CompatibleServer]:
    async with compatible_server("vllm") as running:
        yield running


async def _drawn(settings: Settings, server: CompatibleServer, **more: object) -> Generation:
    """What becomes of a wish, with a server of one's own of which only the address is known."""
    update = {"compatible_base_url": server.url, **more}
    async with open_parts(settings.model_copy(update=update), works=True) as parts:
        provider = parts.studio.catalogue.providers["openai-compatible"]
        async with asyncio.timeout(10):
            while provider.models[0].name == "default":  # noqa: ASYNC110  # until it has been asked
                await asyncio.sleep(0.02)
        viewer = _viewer(parts)
        wish = Wish(prompt="A boat", provider="openai-compatible")
        generation = await parts.studio.generate(viewer, wish)
        return [event async for event in parts.generations.watch(viewer, generation.id)][
            -1
        ].generation


async def test_a_server_of_ones_own_needs_nothing_but_its_address(
    settings: Settings, server: CompatibleServer
) -> None:
    drawn = await _drawn(settings, server)

    assert (drawn.status, drawn.model) == (GenerationStatus.SUCCEEDED, "flux-dev")
    assert [asked.fields["model"] for asked in server.requests] == ["flux-dev"]


LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("host", "more", "told"),
    [
        ("127.0.0.1", {}, None),  # its own
        ("localhost", {"compatible_hosts": ("localhost",), "import_networks": LOOPBACK}, None),
        (
            "localhost",
            {"import_networks": LOOPBACK},
            "The image server has its pictures at localhost, from where none are fetched: that "
            "takes DARKROOM_COMPATIBLE_HOSTS.",
        ),
        (
            "localhost",
            {"compatible_hosts": ("localhost",)},
            "The provider's picture cannot be fetched from localhost.",
        ),
    ],
    ids=["its own", "a named one", "one that is not named", "one that is not public"],
)
async def test_pictures_on_another_host_are_fetched_where_the_operator_names_it_and_anybody_may(
    settings: Settings,
    server: CompatibleServer,
    host: str,
    more: dict[str, object],
    told: str | None,
) -> None:
    port = urlsplit(server.url).port
    server.pictures_at = f"http://{host}:{port}"

    drawn = await _drawn(settings, server, import_ports=(port,), **more)

    assert (drawn.failure_message, drawn.status.value) == (
        told,
        "failed" if told else "succeeded",
    )


# ---- the text model -----------------------------------------------------------------------------


async def test_a_text_model_is_asked_once_on_the_account_that_pays_for_the_pictures(
    settings: Settings, responses: Responses
) -> None:
    with_a_model = settings.model_copy(
        update={
            "prompt_model": "gpt-6-luna",
            "openai_api_key": SecretStr("sk-test"),
            "openai_base_url": responses.url,
            "openai_organization": "org-1",
            "openai_project": "proj-1",
        }
    )

    async with open_parts(with_a_model, works=False) as parts:
        viewer = _viewer(parts)
        content = await parts.contents.save(viewer, ContentPatch(text="Fresh bread on Monday."))
        wish = Wish(content_id=content.id)
        shown = [(await parts.studio.estimate(viewer, wish)).prompt for _ in range(2)]
        drawn = (await parts.studio.generate(viewer, wish)).prompt

    assert [*shown, drawn] == ["A warm loaf."] * 3
    [headers] = responses.headers
    assert headers["OpenAI-Organization"] == "org-1"
    assert headers["OpenAI-Project"] == "proj-1"


async def test_a_text_model_without_a_key_is_ignored_and_the_log_says_so(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    without_a_key = settings.model_copy(update={"prompt_model": "gpt-6-luna"})

    async with open_parts(without_a_key, works=False):
        pass

    assert (
        "prompt_model.ignored model=gpt-6-luna reason='Set DARKROOM_OPENAI_API_KEY.'"
        in caplog.messages
    )


def _viewer(parts: Parts) -> Viewer:
    assert parts.local_viewer is not None
    return parts.local_viewer


def _end(events: list[Event]) -> GenerationStatus:
    return events[-1].generation.status
