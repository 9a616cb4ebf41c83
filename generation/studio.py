"""Takes wishes for pictures: picks who makes them, in which size, from which words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from generation.provider import ImageProvider, ModelInfo
from storage.contents import Contents
from storage.errors import NotFound, Rejected, TooLong
from storage.generations import Generations, NewGeneration
from storage.inputs import checked_tags, checked_text
from storage.models import Generation
from storage.viewers import Viewer

MAX_PROMPT = 32_000
MAX_SEED = 2**31 - 1


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
    seed: int | None = None
    tags: Sequence[str] = ()
    alt_text: str | None = None
    attach: bool = False
    idempotency_key: str | None = None


class Studio:
    """`providers` by name; `default` names the one that is asked when nobody says."""

    def __init__(
        self,
        generations: Generations,
        contents: Contents,
        providers: Mapping[str, ImageProvider],
        *,
        default: str,
    ) -> None:
        self._generations = generations
        self._contents = contents
        self.providers = providers
        self.default = default

    async def generate(self, viewer: Viewer, wish: Wish) -> Generation:
        """Queue the wish. Raises Rejected for what the provider cannot do, NotFound, Conflict."""
        provider = self._provider(wish)
        model = self._model(provider, wish)
        width, height = _size(wish, model)
        if not 1 <= wish.count <= model.max_count:
            raise Rejected(
                f"{model.name} makes 1 to {model.max_count} pictures at a time, not {wish.count}.",
                field="count",
                limit=model.max_count,
                actual=wish.count,
            )
        if wish.seed is not None and not 0 <= wish.seed <= MAX_SEED:
            raise Rejected("seed must be 0 or more.", field="seed", limit=0, actual=wish.seed)
        if wish.attach and wish.content_id is None:
            raise Rejected("attach needs contentId: attach to what?", field="contentId")
        return await self._generations.request(
            viewer,
            NewGeneration(
                provider=provider.name,
                model=model.name,
                prompt=await self._prompt(viewer, wish),
                count=wish.count,
                width=width,
                height=height,
                seed=wish.seed,
                tags=tuple(checked_tags(wish.tags)),
                alt_text=checked_text("alt_text", wish.alt_text),
                content_id=wish.content_id,
                attach=wish.attach,
            ),
            idempotency_key=wish.idempotency_key,
        )

    def _provider(self, wish: Wish) -> ImageProvider:
        name = wish.provider or self.default
        if name not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise Rejected(
                f"There is no provider {name!r}. Choose from: {known}.", field="provider"
            )
        return self.providers[name]

    def _model(self, provider: ImageProvider, wish: Wish) -> ModelInfo:
        for model in provider.models:
            if wish.model in (None, model.name):
                return model
        known = ", ".join(model.name for model in provider.models)
        raise Rejected(
            f"{provider.name} has no model {wish.model!r}. Choose from: {known}.", field="model"
        )

    async def _prompt(self, viewer: Viewer, wish: Wish) -> str:
        prompt = wish.prompt
        if prompt is None:
            if wish.content_id is None:
                raise Rejected("Give a prompt, or the contentId of a post.", field="prompt")
            content = (await self._contents.by_id(viewer, [wish.content_id]))[0]
            if content is None:
                raise NotFound("content", wish.content_id)
            prompt = content.text
        prompt = prompt.replace("\0", "").strip()
        if not prompt:
            raise Rejected("There are no words to make a picture of.", field="prompt")
        if len(prompt) > MAX_PROMPT:
            raise TooLong(
                f"prompt takes at most {MAX_PROMPT:,} characters, not {len(prompt):,}.",
                field="prompt",
                limit=MAX_PROMPT,
                actual=len(prompt),
            )
        return prompt


def _size(wish: Wish, model: ModelInfo) -> tuple[int, int]:
    """Pixels: as asked for, else as the target wants them."""
    width, height = SIZES[wish.target or Target.INSTAGRAM_FEED]
    if (wish.width is None) != (wish.height is None):
        raise Rejected("Give width and height, or neither.", field="width")
    if wish.width is not None and wish.height is not None:
        if wish.target is not None:
            raise Rejected("Give a target, or width and height, not both.", field="target")
        width, height = wish.width, wish.height
    for name, side in (("width", width), ("height", height)):
        if not model.min_side <= side <= model.max_side:
            raise Rejected(
                f"{model.name} makes pictures of {model.min_side} to {model.max_side} pixels "
                f"a side; {name} is {side}.",
                field=name,
                limit=model.max_side if side > model.max_side else model.min_side,
                actual=side,
            )
    return width, height
