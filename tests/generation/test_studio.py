"""From a wish to what the provider is asked."""

import pytest

from generation.studio import Studio, Target, Wish
from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.errors import NotFound, Rejected, TooLong
from storage.generations import Generations
from storage.models import Generation
from storage.search import PageRequest
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider


@pytest.fixture
def contents(database: Database) -> Contents:
    return Contents(database)


@pytest.fixture
def studio(generations: Generations, contents: Contents, provider: ScriptedProvider) -> Studio:
    return Studio(generations, contents, {provider.name: provider}, default=provider.name)


async def _generations(generations: Generations, viewer: Viewer) -> int:
    return len((await generations.page(viewer, None, PageRequest(100))).rows)


@pytest.mark.parametrize(
    ("wish", "size"),
    [
        (Wish(prompt="x"), (1080, 1350)),
        (Wish(prompt="x", target=Target.INSTAGRAM_STORY), (1080, 1920)),
        (Wish(prompt="x", width=640, height=480), (640, 480)),
    ],
)
async def test_the_size_is_the_one_asked_for_or_the_targets(
    studio: Studio, alice: Viewer, wish: Wish, size: tuple[int, int]
) -> None:
    made = await studio.generate(alice, wish)

    assert (made.width, made.height) == size


async def test_a_contents_words_are_the_prompt_where_there_is_no_other(
    studio: Studio, contents: Contents, alice: Viewer
) -> None:
    content = await contents.save(alice, ContentPatch(text="  Fresh bread  "))

    derived = await studio.generate(alice, Wish(content_id=content.id))
    given = await studio.generate(alice, Wish(content_id=content.id, prompt="A loaf"))

    assert (derived.prompt, given.prompt) == ("Fresh bread", "A loaf")
    assert derived.content_id == given.content_id == content.id


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish(), "prompt"),
        (Wish(prompt=" \n"), "prompt"),
        (Wish(prompt="x", provider="nobody"), "provider"),
        (Wish(prompt="x", model="none"), "model"),
        (Wish(prompt="x", count=0), "count"),
        (Wish(prompt="x", count=5), "count"),
        (Wish(prompt="x", seed=-1), "seed"),
        (Wish(prompt="x", width=100), "width"),
        (Wish(prompt="x", width=2049, height=100), "width"),
        (Wish(prompt="x", width=100, height=63), "height"),
        (Wish(prompt="x", width=100, height=100, target=Target.INSTAGRAM_FEED), "target"),
        (Wish(prompt="x", attach=True), "contentId"),
        (Wish(prompt="x", tags=["t" * 65]), "tag"),
    ],
)
async def test_what_cannot_be_made_is_refused_and_not_queued(
    studio: Studio, generations: Generations, alice: Viewer, wish: Wish, field: str
) -> None:
    with pytest.raises(Rejected) as refused:
        await studio.generate(alice, wish)

    assert refused.value.field == field
    assert await _generations(generations, alice) == 0


async def test_a_prompt_has_an_end(studio: Studio, alice: Viewer) -> None:
    with pytest.raises(TooLong) as refused:
        await studio.generate(alice, Wish(prompt="x" * 32_001))

    assert (refused.value.limit, refused.value.actual) == (32_000, 32_001)


async def test_another_workspaces_content_does_not_exist(
    studio: Studio, contents: Contents, generations: Generations, alice: Viewer, bob: Viewer
) -> None:
    hers = await contents.save(alice, ContentPatch(text="Hers"))

    for wish in (Wish(content_id=hers.id), Wish(content_id=hers.id, prompt="His own words")):
        with pytest.raises(NotFound):
            await studio.generate(bob, wish)

    assert await _generations(generations, bob) == 0


async def test_generations_are_listed_the_newest_first_by_pages(
    studio: Studio, generations: Generations, alice: Viewer
) -> None:
    made: list[Generation] = [
        await studio.generate(alice, Wish(prompt=f"Number {n}")) for n in range(3)
    ]

    first = await generations.page(alice, None, PageRequest(2))
    rest = await generations.page(alice, None, PageRequest(2, cursor=first.cursors[-1]))

    assert [g.id for g in [*first.rows, *rest.rows]] == [g.id for g in reversed(made)]
    assert (first.has_next, rest.has_next) == (True, False)
