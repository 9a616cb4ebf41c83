"""Providers of others come in by their entry points, and none of them keeps us from starting."""

import re
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web
from mypy import api as mypy

from generation.errors import NotSent, OutcomeUnknown, ProviderUnavailable
from generation.plugins import Absent, load, open_plugins
from generation.provider import Charged, GeneratedImage, GenerationRequest

ROOT = Path(__file__).parents[2]
TAKEN = ("card", "openai")
WISH = GenerationRequest(UUID(int=1), "acme-1", "a loaf", 640, 800)

# A module whose provider is the card, under the name that the module's own has.
PLAIN = """
from contextlib import asynccontextmanager
from generation.providers.card import CardProvider

events = []

class Provider(CardProvider):
    name = {name!r}

@asynccontextmanager
async def open_it():
    events.append("opened")
    yield Provider()
    events.append("closed")
"""

Install = Callable[[str, dict[str, str], dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution, as an installer does: its modules, and what its metadata say."""
    installed: list[str] = []

    def install(name: str, modules: dict[str, str], entries: dict[str, str]) -> None:
        site = tmp_path / name
        metadata = site / f"{name.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{entry} = {value}\n" for entry, value in entries.items()]
        (metadata / "entry_points.txt").write_text("[darkroom.providers]\n" + "".join(lines))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
            installed.append(module)
        monkeypatch.syspath_prepend(site)

    yield install
    for module in installed:
        sys.modules.pop(module, None)


async def test_what_is_installed_is_open_until_the_end(install: Install) -> None:
    install(
        "plain",
        {"plain_one": PLAIN.format(name="one"), "plain_two": PLAIN.format(name="two")},
        {"one": "plain_one:open_it", "two": "plain_two:open_it"},
    )

    async with open_plugins(TAKEN) as (providers, absent):
        names = {name: provider.name for name, provider in providers.items()}
        meanwhile = list(sys.modules["plain_one"].events)

    assert names == {"one": "one", "two": "two"}
    assert absent == []
    assert meanwhile == ["opened"]
    assert sys.modules["plain_one"].events == ["opened", "closed"]


async def test_nothing_installed_is_nothing_found() -> None:
    async with open_plugins(TAKEN) as (providers, absent):
        pass

    assert (providers, absent) == ({}, [])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import no_such_module",
            "It cannot be imported: ModuleNotFoundError. The log tells more.",
        ),
        ("1 / 0", "It cannot be imported: ZeroDivisionError. The log tells more."),
        ("def open_it(:", "It cannot be imported: SyntaxError. The log tells more."),
        ("raise SystemExit(3)", "It cannot be imported: SystemExit. The log tells more."),
        ("x = 1", "It cannot be imported: AttributeError. The log tells more."),
        ("open_it = 1", "broken:open_it cannot be called."),
        ("open_it = list", "It cannot be opened: AttributeError. The log tells more."),
        (
            "def open_it(): raise RuntimeError('key is 123')",
            "It cannot be opened: RuntimeError. The log tells more.",
        ),
        (
            "from generation.plugins import NotConfigured\nraise NotConfigured('Buy a key.')",
            "Buy a key.",
        ),
        (
            "from contextlib import asynccontextmanager\n"
            "from generation.plugins import NotConfigured\n"
            "@asynccontextmanager\n"
            "async def open_it():\n    raise NotConfigured('Set BROKEN_KEY.')\n    yield",
            "Set BROKEN_KEY.",
        ),
        (
            "import asyncio\nfrom contextlib import asynccontextmanager\n"
            "@asynccontextmanager\nasync def open_it():\n    await asyncio.sleep(60)\n    yield",
            "It cannot be opened: TimeoutError. The log tells more.",
        ),
        (
            "from contextlib import asynccontextmanager\n"
            "class Old:\n    name = 'broken'\n    models = ()\n    former_models = {}\n"
            "    makes_ai_images = True\n    def generate(self, request): ...\n"
            "@asynccontextmanager\nasync def open_it():\n    yield Old()",
            "It is no ImageProvider: it lacks estimate, refresh, size_for.",
        ),
        (
            "from contextlib import asynccontextmanager\n"
            "from generation.provider import ImageProvider, ModelInfo\n"
            "class Idle(ImageProvider):\n    name = 'broken'\n    models = ()\n"
            "@asynccontextmanager\nasync def open_it():\n    yield Idle()",
            "It cannot be opened: TypeError. The log tells more.",
        ),
        (PLAIN.format(name="another"), "It calls itself 'another'."),
    ],
    ids=[
        "lacks a library",
        "fails at import",
        "is no Python",
        "exits at import",
        "lacks what opens it",
        "cannot be called",
        "gives no context manager",
        "fails when called",
        "lacks a setting at import",
        "lacks a setting when opened",
        "hangs",
        "keeps an old contract",
        "makes no pictures",
        "has another name",
    ],
)
async def test_a_plugin_that_is_broken_is_absent_with_a_reason_and_the_others_work(
    install: Install, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    install("healthy", {"healthy": PLAIN.format(name="healthy")}, {"healthy": "healthy:open_it"})
    install("broken", {"broken": source}, {"broken": "broken:open_it"})

    async with open_plugins(TAKEN, seconds=0.5) as (providers, absent):
        names = list(providers)

    assert names == ["healthy"]
    assert absent == [Absent("broken", reason)]
    assert [message.split()[1] for message in caplog.messages] == ["name=broken"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("card", "mimic calls it by a name that is taken."),
        ("openai", "mimic calls it by a name that is taken."),
        ("Mimic", "A name is at most 40 small letters, digits and hyphens."),
        ("m" * 41, "A name is at most 40 small letters, digits and hyphens."),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused_and_the_plugin_is_not_imported(
    install: Install, name: str, reason: str
) -> None:
    install("mimic", {"mimic": PLAIN.format(name=name)}, {name: "mimic:open_it"})

    openers, absent = load(TAKEN)

    assert openers == {}
    assert absent == [Absent(name, reason)]
    assert "mimic" not in sys.modules


def test_of_two_plugins_with_one_name_the_second_is_refused(install: Install) -> None:
    for name in ("b-second", "a-first"):
        module = name[2:]
        install(name, {module: PLAIN.format(name="same")}, {"same": f"{module}:open_it"})

    openers, absent = load(TAKEN)

    assert openers == {"same": sys.modules["first"].open_it}
    assert absent == [Absent("same", "b-second calls it by a name that is taken.")]


@pytest.mark.parametrize(
    "end",
    ["raise OSError('no')", "import asyncio; await asyncio.sleep(60)"],
    ids=["fails", "hangs"],
)
async def test_a_plugin_that_does_not_close_keeps_no_other_from_closing(
    install: Install, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    stuck = PLAIN.format(name="stuck").replace('events.append("closed")', end)
    install(
        "both",
        {"healthy": PLAIN.format(name="healthy"), "stuck": stuck},
        {"healthy": "healthy:open_it", "stuck": "stuck:open_it"},
    )

    async with open_plugins(TAKEN, seconds=0.5):
        pass

    assert sys.modules["healthy"].events == ["opened", "closed"]
    assert caplog.messages == ["plugin.close_failed name=stuck"]


# ---- the example in the README ----------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    """The blocks of the example, by their language."""
    readme = (ROOT / "README.md").read_text()
    _, _, rest = readme.partition("<!-- provider example -->")
    text, end, _ = rest.partition("<!-- end of example -->")
    assert end
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


@pytest.fixture
def install_example(install: Install, example: dict[str, str]) -> None:
    project = tomllib.loads(example["toml"])["project"]
    entries = project["entry-points"]["darkroom.providers"]
    install(project["name"], {"darkroom_acme": example["python"]}, entries)


@asynccontextmanager
async def acme(status: int, body: bytes | None) -> AsyncIterator[tuple[str, list[object]]]:
    """A server that answers every wish alike, or hangs up on it; its URL and what it was asked."""
    wishes: list[object] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        wishes.append(await request.json())
        if body is None:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post("/pictures", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", wishes
    finally:
        await runner.cleanup()


@pytest.mark.usefixtures("install_example")
async def test_the_example_of_the_readme_works_in_thirty_lines(
    monkeypatch: pytest.MonkeyPatch, example: dict[str, str]
) -> None:
    async with acme(200, b"a picture") as (url, wishes):
        monkeypatch.setenv("ACME_URL", url)
        async with open_plugins(TAKEN) as (providers, absent):
            provider = providers["acme"]
            sizes = [
                provider.size_for(provider.models[0], *wanted)
                for wanted in ((1080, 1350), (4096, 2048), (4096, 80))
            ]
            events = [event async for event in provider.generate(WISH)]
            await provider.refresh()

    assert absent == []
    assert len([line for line in example["python"].splitlines() if line]) <= 30
    assert (provider.makes_ai_images, provider.former_models) == (True, {})
    assert provider.estimate(WISH) == Decimal("0.02")
    assert sizes == [(1080, 1350), (2048, 1024), (2048, 64)]
    assert events == [Charged(Decimal("0.02")), GeneratedImage(0, b"a picture", 1.0)]
    assert wishes == [{"prompt": "a loaf", "width": 640, "height": 800}]


@pytest.mark.usefixtures("install_example")
async def test_the_example_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_URL", raising=False)

    async with open_plugins(TAKEN) as (providers, absent):
        pass

    assert providers == {}
    assert absent == [Absent("acme", "Set ACME_URL.")]


@pytest.mark.usefixtures("install_example")
@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [(503, b"busy", ProviderUnavailable), (200, None, OutcomeUnknown)],
)
async def test_the_example_tells_what_went_wrong(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes | None, fault: type[Exception]
) -> None:
    async with acme(status, body) as (url, wishes):
        monkeypatch.setenv("ACME_URL", url)
        async with open_plugins(TAKEN) as (providers, _):
            with pytest.raises(fault):
                [event async for event in providers["acme"].generate(WISH)]

    assert len(wishes) == 1


@pytest.mark.usefixtures("install_example")
async def test_the_example_knows_when_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_URL", "http://127.0.0.1:1")

    async with open_plugins(TAKEN) as (providers, _):
        with pytest.raises(NotSent):
            [event async for event in providers["acme"].generate(WISH)]


def test_the_example_satisfies_the_type_checker(
    example: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "darkroom_acme.py"
    source.write_text(example["python"])
    monkeypatch.chdir(ROOT)

    report, faults, code = mypy.run(["--strict", str(source)])

    assert (code, faults) == (0, ""), report
