"""Wishes: what a client asks to have made, and what that would cost."""

from decimal import Decimal
from typing import Annotated

import strawberry

from generation.provider import Background, Quality
from generation.studio import Target, Wish
from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info
from graph.ids import uuid_of


@strawberry.input(
    description="A wish for pictures. Give a prompt, a contentId, or both. "
    "Give a target, or width and height, or leave the size to us."
)
class GenerateImageInput:
    prompt: str | None = strawberry.field(
        default=None,
        description="What to make. Without it, a prompt is made of the content's text: "
        "`estimateGeneration` shows it before a picture is paid for.",
    )
    content_id: strawberry.ID | None = strawberry.field(
        default=None, description="The post it is for."
    )
    provider: str | None = strawberry.field(
        default=None, description="Who shall make it, see `providers`."
    )
    model: str | None = strawberry.field(default=None, description="With which of its models.")
    count: int = strawberry.field(default=1, description="How many different pictures.")
    target: Target | None = strawberry.field(
        default=None, description="Where it will be shown. Default: INSTAGRAM_FEED."
    )
    width: int | None = strawberry.field(
        default=None, description="Pixels; the provider's closest size is made."
    )
    height: int | None = strawberry.field(
        default=None, description="Pixels; the provider's closest size is made."
    )
    quality: Quality | None = strawberry.field(
        default=None, description="How much care and money goes into it, where one can choose."
    )
    background: Background | None = strawberry.field(
        default=None, description="What is behind the subject, where one can choose."
    )
    negative_prompt: str | None = strawberry.field(
        default=None, description="What it shall not show, where the model knows that."
    )
    style: str | None = strawberry.field(
        default=None, description="One of the model's styles, see `ProviderModel.styles`."
    )
    seed: int | None = strawberry.field(
        default=None, description="The same seed and words give the same pictures, where possible."
    )
    reference_image_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="Images to make it from: the first is changed, the others are models for it.",
    )
    mask_image_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="An image of the first reference's size, transparent where that may change.",
    )
    tags: list[str] | None = strawberry.field(
        default=None, description="What the pictures will be tagged with."
    )
    alt_text: str | None = strawberry.field(
        default=None, description="What the pictures will show, for those who cannot see them."
    )
    attach: bool = strawberry.field(
        default=False, description="Whether to attach each picture to the content as it comes."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="A repeat with the same key gives back the first generation."
    )


def wish_of(input: GenerateImageInput) -> Wish:
    """Raises Rejected for the ids of other things."""
    return Wish(
        prompt=input.prompt,
        content_id=uuid_of(input.content_id, "Content") if input.content_id else None,
        provider=input.provider,
        model=input.model,
        count=input.count,
        target=input.target,
        width=input.width,
        height=input.height,
        quality=input.quality,
        background=input.background,
        negative_prompt=input.negative_prompt,
        style=input.style,
        seed=input.seed,
        reference_image_ids=[uuid_of(id, "Image") for id in input.reference_image_ids or ()],
        mask_image_id=uuid_of(input.mask_image_id, "Image") if input.mask_image_id else None,
        tags=input.tags or (),
        alt_text=input.alt_text,
        attach=input.attach,
        idempotency_key=input.idempotency_key,
    )


@strawberry.type(
    description="What a wish would become and cost. No picture is paid for. Where the operator has "
    "set a text model, that is asked for a prompt once for a post's text and shape."
)
class CostEstimate:
    provider: str = strawberry.field(description="Who would be asked.")
    model: str = strawberry.field(description="For which model.")
    prompt: str = strawberry.field(
        description="The words it would get. A wish for the same post gets the same, as long as "
        "the process remembers them; to be sure, or to change them, give them as `prompt`."
    )
    count: int = strawberry.field(description="How many pictures.")
    width: int = strawberry.field(description="Pixels, as would be asked of the provider.")
    height: int = strawberry.field(description="Pixels, as would be asked of the provider.")
    estimated: Decimal = strawberry.field(description="US dollars for all of them, at most.")
    remaining_budget: Decimal | None = strawberry.field(
        description="US dollars that the viewer may still spend this month; null for no bound."
    )
    expected_seconds: float = strawberry.field(
        description="How long all of them take together, as far as is known of the model."
    )
    notices: list[str] = strawberry.field(
        description="What to know all the same, as of a model that ends soon, for people."
    )


@strawberry.type
class WishQueries:
    @strawberry.field(
        description="What a wish would become and cost, before a picture is paid for."
    )
    async def estimate_generation(
        self,
        info: Info,
        input: Annotated[GenerateImageInput, strawberry.argument(description="The wish.")],
    ) -> CostEstimate:
        viewer = info.context.viewer
        estimate = await info.context.studio.estimate(viewer, wish_of(input))
        balances = await info.context.ledger.balances(viewer)
        return CostEstimate(
            provider=estimate.provider,
            model=estimate.model,
            prompt=estimate.prompt,
            count=estimate.count,
            width=estimate.width,
            height=estimate.height,
            estimated=estimate.cost,
            remaining_budget=balances.remaining,
            expected_seconds=estimate.expected_seconds,
            notices=list(estimate.notices),
        )
