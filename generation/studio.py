"""Takes wishes for pictures: who makes them, in which size, from which words, at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from generation.catalogue import Catalogue, Choice
from generation.drafts import Drafts
from generation.provider import Background, GenerationRequest, ModelInfo, Quality
from generation.references import References
from generation.tasks import pseudonym
from storage.contents import Contents
from storage.errors import NotFound, Rejected, TooLong
from storage.generations import Generations, NewGeneration
from storage.inputs import checked_tags, checked_text
from storage.models import Generation
from storage.viewers import Viewer

MAX_PROMPT = 32_000
MAX_SEED = 2**31 - 1  # of GraphQL's Int, which every provider takes


class Target(StrEnum):
    """Where a picture will be shown, which decides its shape."""

    INSTAGRAM_FEED = "instagram_feed"
    INSTAGRAM_STORY = "instagram_story"


SIZES = {Target.INSTAGRAM_FEED: (1080, 1350), Target.INSTAGRAM_STORY: (1080, 1920)}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for. `prompt` or `content_id` must be given; None leaves it to us."""

    prompt: str | None = None
    content_id: UUID | None = None
    provider: str | None = None
    model: str | None = None
    count: int = 1
    target: Target | None = None
    width: int | None = None
    height: int | None = None
    quality: Quality | None = None
    background: Background | None = None
    negative_prompt: str | None = None
    style: str | None = None
    seed: int | None = None
    reference_image_ids: Sequence[UUID] = ()
    mask_image_id: UUID | None = None
    tags: Sequence[str] = ()
    alt_text: str | None = None
    attach: bool = False
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a wish would become, before anything is paid. `cost` is in US dollars."""

    provider: str
    model: str
    prompt: str
    count: int
    width: int
    height: int
    cost: Decimal
    expected_seconds: float
    notices: Sequence[str]


class Studio:
    """`drafts` turn posts into prompts for models; who draws no pictures gets the post itself."""

    def __init__(
        self,
        generations: Generations,
        contents: Contents,
        references: References,
        catalogue: Catalogue,
        *,
        drafts: Drafts,
    ) -> None:
        self._generations = generations
        self._contents = contents
        self._references = references
        self.catalogue = catalogue
        self._drafts = drafts

    async def estimate(self, viewer: Viewer, wish: Wish) -> Estimate:
        """Queues nothing and pays for no picture. Its prompt is what `generate` will ask for.

        Raises what `generate` raises for a wish.
        """
        choice = self.catalogue.choose(wish.provider, wish.model)
        new = await self._new(viewer, wish, choice)
        return Estimate(
            provider=new.provider,
            model=new.model,
            prompt=new.prompt,
            count=new.count,
            width=new.width,
            height=new.height,
            cost=new.estimated_cost,
            expected_seconds=_seconds(wish, choice.model),
            notices=choice.notices,
        )

    async def generate(self, viewer: Viewer, wish: Wish) -> Generation:
        """Queue the wish. A repeat under its key gives the first generation back.

        Raises Rejected for what the provider cannot do, NotFound, IdempotencyMismatch,
        BudgetExceeded, RateLimited.
        """
        key, asked = wish.idempotency_key, replace(wish, idempotency_key=None)
        if earlier := await self._generations.recall(viewer, key, asked):
            return earlier
        choice = self.catalogue.choose(wish.provider, wish.model)
        new = await self._new(viewer, wish, choice)
        return await self._generations.request(viewer, new, idempotency_key=key, stands_for=asked)

    async def retry(
        self, viewer: Viewer, id: UUID, *, idempotency_key: str | None = None
    ) -> Generation:
        """A new generation with the recipe of an old one, which has ended.

        What its provider or model cannot do any more is told as for a new wish. Raises NotFound,
        Conflict, Rejected.
        """
        if earlier := await self._generations.recall(viewer, idempotency_key, ("retry", id)):
            return earlier
        old = await self._generations.ended(viewer, id)
        wish = Wish(
            prompt=old.prompt,
            content_id=old.content_id,
            provider=old.provider,
            model=old.model,
            count=old.requested_count,
            width=old.width,
            height=old.height,
            quality=Quality(old.quality) if old.quality else None,
            background=Background(old.background) if old.background else None,
            negative_prompt=old.negative_prompt,
            style=old.style,
            seed=old.seed,
            reference_image_ids=[UUID(each) for each in old.reference_image_ids],
            mask_image_id=old.mask_image_id,
            tags=old.tags,
            alt_text=old.alt_text,
            attach=old.attach,
        )
        new = await self._new(viewer, wish, self.catalogue.choose(wish.provider, wish.model))
        return await self._generations.request(
            viewer,
            replace(new, retry_of=id),
            idempotency_key=idempotency_key,
            stands_for=("retry", id),
        )

    async def _new(self, viewer: Viewer, wish: Wish, choice: Choice) -> NewGeneration:
        """Everything that can be checked and reckoned before the wish is queued."""
        model = choice.model
        _check(wish, model)
        width, height = choice.provider.size_for(model, *_wanted_size(wish))
        references, mask = await self._references.look_up(
            viewer, wish.reference_image_ids, wish.mask_image_id
        )
        tags, alt_text = checked_tags(wish.tags), checked_text("alt_text", wish.alt_text)
        # At last, since a text model may be paid for it.
        prompt = await self._prompt(viewer, wish, choice, width, height)
        request = GenerationRequest(
            id=UUID(int=0),
            model=model.name,
            prompt=prompt,
            width=width,
            height=height,
            count=wish.count,
            quality=wish.quality,
            background=wish.background,
            negative_prompt=wish.negative_prompt,
            style=wish.style,
            seed=wish.seed,
            references=references,
            mask=mask,
            asked_by=pseudonym(viewer),
        )
        return NewGeneration(
            provider=choice.provider.name,
            model=model.name,
            prompt=prompt,
            count=wish.count,
            width=width,
            height=height,
            quality=wish.quality,
            background=wish.background,
            negative_prompt=wish.negative_prompt,
            style=wish.style,
            seed=wish.seed,
            reference_image_ids=tuple(wish.reference_image_ids),
            mask_image_id=wish.mask_image_id,
            tags=tuple(tags),
            alt_text=alt_text,
            content_id=wish.content_id,
            attach=wish.attach,
            notice=" ".join(choice.notices) or None,
            estimated_cost=choice.provider.estimate(request),
            expected_seconds=_seconds(wish, model),
            draws_one_by_one=model.draws_one_by_one,
        )

    async def _prompt(
        self, viewer: Viewer, wish: Wish, choice: Choice, width: int, height: int
    ) -> str:
        if wish.prompt is not None:
            return _checked_prompt("prompt", wish.prompt)
        if wish.content_id is None:
            raise Rejected("Give a prompt, or the contentId of a post.", field="prompt")
        content = (await self._contents.by_id(viewer, [wish.content_id]))[0]
        if content is None:
            raise NotFound("content", wish.content_id)
        text = _checked_prompt("prompt", content.text)
        if not choice.provider.makes_ai_images:
            return text
        return _checked_prompt("prompt", await self._drafts.of(viewer, text, width, height))


def _seconds(wish: Wish, model: ModelInfo) -> float:
    """How long all pictures take together, as far as is known of the model."""
    return model.seconds * (wish.count if model.draws_one_by_one else 1)


def _checked_prompt(name: str, text: str) -> str:
    prompt = text.replace("\0", "").strip()
    if not prompt:
        raise Rejected("There are no words to make a picture of.", field=name)
    if len(prompt) > MAX_PROMPT:
        raise TooLong(
            f"{name} takes at most {MAX_PROMPT:,} characters, not {len(prompt):,}.",
            field=name,
            limit=MAX_PROMPT,
            actual=len(prompt),
        )
    return prompt


def _wanted_size(wish: Wish) -> tuple[int, int]:
    """Pixels: as asked for, else as the target wants them."""
    if (wish.width is None) != (wish.height is None):
        raise Rejected("Give width and height, or neither.", field="width")
    if wish.width is None or wish.height is None:
        return SIZES[wish.target or Target.INSTAGRAM_FEED]
    if wish.target is not None:
        raise Rejected("Give a target, or width and height, not both.", field="target")
    for name, side in (("width", wish.width), ("height", wish.height)):
        if side < 1:
            raise Rejected(f"{name} must be 1 or more.", field=name, limit=1, actual=side)
    return wish.width, wish.height


def _check(wish: Wish, model: ModelInfo) -> None:
    """Raises Rejected for what the model cannot do."""
    if not 1 <= wish.count <= model.max_count:
        raise Rejected(
            f"{model.name} makes 1 to {model.max_count} pictures at a time, not {wish.count}.",
            field="count",
            limit=model.max_count,
            actual=wish.count,
        )
    if wish.seed is not None and not 0 <= wish.seed <= MAX_SEED:
        raise Rejected(
            f"seed is from 0 to {MAX_SEED}, not {wish.seed}.",
            field="seed",
            limit=0 if wish.seed < 0 else MAX_SEED,
            actual=wish.seed,
        )
    if wish.attach and wish.content_id is None:
        raise Rejected("attach needs contentId: attach to what?", field="contentId")
    if len(wish.reference_image_ids) > model.max_references:
        takes = f"at most {model.max_references}" if model.max_references else "no"
        raise Rejected(
            f"{model.name} takes {takes} reference images, not {len(wish.reference_image_ids)}.",
            field="referenceImageIds",
            limit=model.max_references,
            actual=len(wish.reference_image_ids),
        )
    if len(wish.reference_image_ids) < model.min_references:
        raise Rejected(
            f"{model.name} changes pictures: give {model.min_references} as referenceImageIds.",
            field="referenceImageIds",
            limit=model.min_references,
            actual=len(wish.reference_image_ids),
        )
    if wish.mask_image_id and not wish.reference_image_ids:
        raise Rejected("A mask needs the reference image that it masks.", field="maskImageId")
    unable = {
        "seed": wish.seed is not None and not model.supports_seed,
        "negativePrompt": bool(wish.negative_prompt) and not model.supports_negative_prompt,
        "maskImageId": wish.mask_image_id is not None and not model.supports_mask,
        "background": wish.background is Background.TRANSPARENT and not model.supports_transparency,
    }
    for name, is_asked in unable.items():
        if is_asked:
            raise Rejected(
                f"{model.name} does not know {name}. Leave it out, or choose another model.",
                field=name,
            )
    if wish.negative_prompt is not None:
        _checked_prompt("negativePrompt", wish.negative_prompt)
    if wish.quality is not None and wish.quality not in model.qualities:
        known = ", ".join(each.name for each in model.qualities) or "none to choose from"
        raise Rejected(f"{model.name} has these qualities: {known}.", field="quality")
    if wish.style is not None and wish.style not in model.styles:
        known = ", ".join(model.styles) or "none to choose from"
        raise Rejected(f"{model.name} has these styles: {known}.", field="style")
