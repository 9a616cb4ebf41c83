"""From a wish to what the provider is asked."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from generation.catalogue import Catalogue
from generation.drafts import Drafts
from generation.prompts import PromptWriter, Rules, brief
from generation.provider import Background, Quality
from generation.references import References
from generation.studio import Studio, Target, Wish
from storage.contents import ContentPatch, Contents
from storage.database import Database
from storage.errors import Conflict, IdempotencyMismatch, NotFound, Rejected, TooLong
from storage.generations import Generations
from storage.library import Library, NewImage
from storage.models import Generation
from storage.objects.local import LocalObjectStore
from storage.search import PageRequest
from storage.trash import Trash
from storage.viewers import Viewer
from tests.generation.conftest import ScriptedProvider
from tests.generation.test_drafts import Muse
from tests.pictures import encoded, jpeg, photo


@pytest.fixture
def contents(database: Database) -> Contents:
    return Contents(database)


StudioOf = Callable[[PromptWriter], Studio]


@pytest.fixture
def studio_of(
    generations: Generations,
    contents: Contents,
    library: Library,
    store: LocalObjectStore,
    provider: ScriptedProvider,
) -> StudioOf:
    """Whose prompts are written by whom."""
    catalogue = Catalogue({provider.name: provider}, provider.name)
    references = References(library, store)
    return lambda writer: Studio(
        generations, contents, references, catalogue, drafts=Drafts(writer)
    )


@pytest.fixture
def studio(studio_of: StudioOf) -> Studio:
    return studio_of(Rules())


def cut_out() -> bytes:
    """A mask for a picture of the usual size, with a hole."""
    picture = photo(seed=2).convert("RGBA")
    picture.paste((0, 0, 0, 0), (100, 100, 200, 200))
    return encoded(picture, "PNG")


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

    assert (derived.prompt, given.prompt) == (brief("Fresh bread", 1080, 1350), "A loaf")
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
        (Wish(prompt="x", seed=2**31), "seed"),
        (Wish(prompt="x", quality=Quality.MEDIUM), "quality"),
        (Wish(prompt="x", style="anime"), "style"),
        (Wish(prompt="x", background=Background.TRANSPARENT), "background"),
        (Wish(prompt="x", model="plain", negative_prompt="people"), "negativePrompt"),
        (Wish(prompt="x", model="plain", seed=1), "seed"),
        (Wish(prompt="x", reference_image_ids=[uuid4()] * 3), "referenceImageIds"),
        (Wish(prompt="x", mask_image_id=uuid4()), "maskImageId"),
        (Wish(prompt="x", width=0, height=0), "width"),
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


async def test_a_wish_keeps_its_whole_recipe(
    studio: Studio, library: Library, alice: Viewer
) -> None:
    first = (await library.add_image(alice, jpeg(seed=1), NewImage())).image
    mask = (await library.add_image(alice, cut_out(), NewImage())).image
    wish = Wish(
        prompt="A sea",
        count=2,
        quality=Quality.HIGH,
        background=Background.OPAQUE,
        negative_prompt="people",
        style="cinematic",
        seed=7,
        reference_image_ids=[first.id],
        mask_image_id=mask.id,
        tags=["sea"],
        alt_text="Waves",
    )

    made = await studio.generate(alice, wish)

    assert (made.quality, made.background, made.style) == ("high", "opaque", "cinematic")
    assert (made.negative_prompt, made.seed, made.requested_count) == ("people", 7, 2)
    assert (made.reference_image_ids, made.mask_image_id) == ([str(first.id)], mask.id)


async def test_what_a_wish_would_cost_is_told_before_and_reserved_with_it(
    studio: Studio, contents: Contents, provider: ScriptedProvider, alice: Viewer
) -> None:
    provider.price = Decimal("0.05")
    content = await contents.save(alice, ContentPatch(text="Fresh bread"))
    wish = Wish(content_id=content.id, count=3)

    estimate = await studio.estimate(alice, wish)
    made = await studio.generate(alice, wish)

    assert (estimate.cost, estimate.expected_seconds) == (Decimal("0.15"), 12)
    assert (estimate.provider, estimate.model, estimate.count) == ("scripted", "m", 3)
    assert estimate.prompt == made.prompt == brief("Fresh bread", 1080, 1350)
    assert made.estimated_cost == Decimal("0.15")


async def test_a_text_models_prompt_is_the_same_in_each_estimate_and_in_what_is_paid_for(
    studio_of: StudioOf, contents: Contents, alice: Viewer
) -> None:
    muse = Muse()
    studio = studio_of(muse)
    content = await contents.save(alice, ContentPatch(text="Fresh bread"))
    wish = Wish(content_id=content.id)

    shown = [(await studio.estimate(alice, wish)).prompt for _ in range(2)]
    drawn = (await studio.generate(alice, replace(wish, count=2))).prompt

    assert [*shown, drawn] == ["Idea 1"] * 3
    assert muse.asked == ["Fresh bread"]


async def test_no_text_model_is_asked_for_a_wish_that_is_refused(
    studio_of: StudioOf, contents: Contents, alice: Viewer
) -> None:
    muse = Muse()
    studio = studio_of(muse)
    content = await contents.save(alice, ContentPatch(text="Fresh bread"))

    for unfit in ({"count": 9}, {"tags": [""]}, {"alt_text": "x" * 1001}, {"width": 1}):
        with pytest.raises(Rejected):
            await studio.estimate(alice, Wish(content_id=content.id, **unfit))

    assert muse.asked == []


async def test_several_pictures_that_are_drawn_in_turn_are_expected_to_take_as_many_times_as_long(
    studio: Studio, provider: ScriptedProvider, alice: Viewer
) -> None:
    provider.models = [replace(provider.models[0], draws_one_by_one=True)]
    wish = Wish(prompt="A sea", count=3)

    estimate = await studio.estimate(alice, wish)
    made = await studio.generate(alice, wish)

    assert estimate.expected_seconds == made.expected_seconds == 36


async def test_an_estimate_queues_nothing(
    studio: Studio, generations: Generations, alice: Viewer
) -> None:
    await studio.estimate(alice, Wish(prompt="A sea"))

    assert await _generations(generations, alice) == 0


async def test_an_old_clients_name_of_a_model_is_answered_by_its_successor(
    studio: Studio, alice: Viewer
) -> None:
    made = await studio.generate(alice, Wish(prompt="A sea", model="DALL_E_3"))

    assert (made.model, made.notice) == (
        "m",
        "There is no model DALL_E_3 now. m answers in its place.",
    )


@pytest.mark.parametrize("kind", ["ghost", "stranger's", "in the trash"])
async def test_a_reference_that_is_not_there_is_not_found(
    kind: str, studio: Studio, library: Library, trash: Trash, alice: Viewer, bob: Viewer
) -> None:
    id = uuid4()
    if kind != "ghost":
        owner = bob if kind == "stranger's" else alice
        id = (await library.add_image(owner, jpeg(), NewImage())).image.id
    if kind == "in the trash":
        await trash.delete(alice, [id])

    with pytest.raises(NotFound):
        await studio.generate(alice, Wish(prompt="x", reference_image_ids=[id]))


async def test_a_mask_has_the_size_of_what_it_masks(
    studio: Studio, library: Library, alice: Viewer
) -> None:
    first = (await library.add_image(alice, jpeg(64, 48), NewImage())).image
    mask = (await library.add_image(alice, jpeg(48, 64, seed=2), NewImage())).image
    wish = Wish(prompt="x", reference_image_ids=[first.id], mask_image_id=mask.id)

    with pytest.raises(Rejected) as refused:
        await studio.generate(alice, wish)

    assert refused.value.field == "maskImageId"


async def test_a_mask_without_transparency_is_refused_and_not_queued(
    studio: Studio, generations: Generations, library: Library, alice: Viewer
) -> None:
    first = (await library.add_image(alice, jpeg(), NewImage())).image
    wish = Wish(prompt="x", reference_image_ids=[first.id], mask_image_id=first.id)

    with pytest.raises(Rejected, match="has no transparency") as refused:
        await studio.generate(alice, wish)

    assert refused.value.field == "maskImageId"
    assert await _generations(generations, alice) == 0


async def test_a_retry_has_the_old_recipe_and_names_the_old_one(
    studio: Studio, generations: Generations, alice: Viewer
) -> None:
    wish = Wish(prompt="A sea", count=2, quality=Quality.LOW, seed=7, tags=["sea"])
    old = await studio.generate(alice, wish)
    await generations.cancel(alice, old.id)

    new = await studio.retry(alice, old.id)

    assert (new.id != old.id, new.retry_of) == (True, old.id)
    for name in ("prompt", "requested_count", "quality", "seed", "tags", "width", "height"):
        assert getattr(new, name) == getattr(old, name)


async def test_what_still_goes_on_is_not_tried_again(studio: Studio, alice: Viewer) -> None:
    old = await studio.generate(alice, Wish(prompt="A sea"))

    with pytest.raises(Conflict):
        await studio.retry(alice, old.id)


async def test_a_retry_that_is_sent_twice_makes_one_generation(
    studio: Studio, generations: Generations, alice: Viewer, bob: Viewer
) -> None:
    old = await studio.generate(alice, Wish(prompt="A sea"))
    await generations.cancel(alice, old.id)

    first = await studio.retry(alice, old.id, idempotency_key="k")
    second = await studio.retry(alice, old.id, idempotency_key="k")

    assert first.id == second.id
    with pytest.raises(IdempotencyMismatch):
        await studio.generate(alice, Wish(prompt="A sea", idempotency_key="k"))
    with pytest.raises(NotFound):
        await studio.retry(bob, old.id)


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
