"""Generations: wishes for pictures, made outside the request and watched while they come."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Optional
from uuid import UUID

import strawberry
from strawberry import relay

from generation.provider import Background, Quality
from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info
from graph.errors import (
    BudgetExceededError,
    ConflictError,
    ErrorCode,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    mutation,
)
from graph.ids import uuid_of
from graph.pages import After, First, page_info, page_request
from graph.pricing import MAX_PICTURES
from graph.wishes import GenerateImageInput, wish_of
from storage import models
from storage.generations import Event
from storage.models import GenerationStatus

if TYPE_CHECKING:
    from graph.contents import Content
    from graph.images import Image

PREVIEW_SECONDS = 600


@strawberry.type(description="Why something ended early.")
class Failure:
    code: ErrorCode = strawberry.field(description="What went wrong, for programs.")
    message: str = strawberry.field(description="What went wrong and what to do, for people.")
    remedy: str | None = strawberry.field(
        description="What to do, where the message does not say that itself."
    )
    retryable: bool = strawberry.field(description="Whether asking again may help.")
    retry_after_seconds: float | None = strawberry.field(
        description="When to ask again, where that is known."
    )


@strawberry.type(description="One wish for pictures, and how far it has come.")
class Generation(relay.Node):
    row: strawberry.Private[models.Generation]
    id: relay.NodeID[UUID]
    status: GenerationStatus = strawberry.field(description="How far it has come.")
    provider: str = strawberry.field(description="Who makes the pictures.")
    model: str = strawberry.field(description="With which model.")
    prompt: str = strawberry.field(description="From which words.")
    revised_prompt: str | None = strawberry.field(
        description="The words that the provider drew instead, where it tells."
    )
    negative_prompt: str | None = strawberry.field(description="What it shall not show.")
    requested_count: int = strawberry.field(description="How many pictures were wished for.")
    width: int = strawberry.field(description="Pixels, as asked of the provider.")
    height: int = strawberry.field(description="Pixels, as asked of the provider.")
    quality: Quality | None = strawberry.field(description="The quality that was asked for.")
    background: Background | None = strawberry.field(
        description="The background that was asked for."
    )
    style: str | None = strawberry.field(description="The provider's style that was asked for.")
    seed: int | None = strawberry.field(description="The seed that was given.")
    progress: float = strawberry.field(description="0 to 1, of all its pictures.")
    stage: str = strawberry.field(description="What is being done now, in a word or two.")
    sequence: int = strawberry.field(
        description="Grows with every change; give it as `afterSequence` to go on watching."
    )
    failure: Failure | None = strawberry.field(
        description="Why it failed; on a success, why some of its pictures have not come."
    )
    notice: str | None = strawberry.field(
        description="What to know of it all the same, as of a model that ends soon."
    )
    estimated_cost: Decimal = strawberry.field(
        description="US dollars that it was thought to cost, which were set aside for it."
    )
    actual_cost: Decimal = strawberry.field(
        description="US dollars that the provider has taken so far. See `ledger` for what counts."
    )
    expected_seconds: float | None = strawberry.field(
        description="How long the provider usually takes for such a wish."
    )
    calls: int = strawberry.field(
        description="How often the provider was asked: again only after an answer that is free."
    )
    attempts: int = strawberry.field(
        description="How often its job was started. What may be paid for is asked for once."
    )
    created_at: datetime = strawberry.field(description="When it was wished for.")
    started_at: datetime | None = strawberry.field(description="When the provider was called.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")

    @classmethod
    def from_row(cls, row: models.Generation) -> "Generation":
        return cls(
            row=row,
            id=row.id,
            status=row.status,
            provider=row.provider,
            model=row.model,
            prompt=row.prompt,
            revised_prompt=row.revised_prompt,
            negative_prompt=row.negative_prompt,
            requested_count=row.requested_count,
            width=row.width,
            height=row.height,
            quality=Quality(row.quality) if row.quality else None,
            background=Background(row.background) if row.background else None,
            style=row.style,
            seed=row.seed,
            progress=row.progress,
            stage=row.stage,
            sequence=row.sequence,
            failure=_failure(row),
            notice=row.notice,
            estimated_cost=row.estimated_cost,
            actual_cost=row.actual_cost,
            expected_seconds=row.expected_seconds,
            calls=row.calls,
            attempts=row.attempts,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )

    @strawberry.field(
        description="The newest unfinished picture, by a short-lived signed URL. "
        "Previews are deleted an hour after they were made."
    )
    def preview_url(self, info: Info) -> str | None:
        return info.context.urls.preview(self.row, PREVIEW_SECONDS)

    @strawberry.field(description="Seconds since the provider was first asked, until it ended.")
    def elapsed_seconds(self) -> float | None:
        if self.row.started_at is None:
            return None
        return ((self.row.finished_at or models.now()) - self.row.started_at).total_seconds()

    @strawberry.field(description="The generation whose recipe this one repeats.")
    async def retry_of(self, info: Info) -> Optional["Generation"]:
        if self.row.retry_of is None:
            return None
        row = await info.context.generation.load(self.row.retry_of)
        return Generation.from_row(row) if row else None

    @strawberry.field(
        description="The images that it was made from, in their order, without those that are gone."
        f" At most {MAX_PICTURES}."
    )
    async def references(
        self, info: Info
    ) -> list[Annotated["Image", strawberry.lazy("graph.images")]]:
        from graph.images import Image

        ids = [UUID(id) for id in self.row.reference_image_ids[:MAX_PICTURES]]
        rows = await info.context.image.load_many(ids)
        return [Image.from_row(row) for row in rows if row]

    @strawberry.field(
        description="The pictures that have come, in the order of the wish. "
        f"At most {MAX_PICTURES}."
    )
    async def images(self, info: Info) -> list[Annotated["Image", strawberry.lazy("graph.images")]]:
        from graph.images import Image

        rows = await info.context.images_of_generation.load(self.id)
        return [Image.from_row(row) for row in rows[:MAX_PICTURES]]

    @strawberry.field(description="The post it was wished for, where there is one.")
    async def content(
        self, info: Info
    ) -> Annotated["Content", strawberry.lazy("graph.contents")] | None:
        from graph.contents import Content

        if self.row.content_id is None:
            return None
        row = await info.context.content.load(self.row.content_id)
        return Content.from_row(row) if row else None


def _failure(row: models.Generation) -> Failure | None:
    if row.failure_code is None:
        return None
    return Failure(
        code=ErrorCode[row.failure_code],
        message=row.failure_message or "",
        remedy=row.failure_remedy,
        retryable=row.failure_is_retryable,
        retry_after_seconds=row.failure_retry_after,
    )


# ---- reading -------------------------------------------------------------------------------------


@strawberry.input(description="Which generations: every field that is given must hold.")
class GenerationFilter:
    status: list[GenerationStatus] | None = strawberry.field(
        default=None, description="One of these."
    )


@strawberry.type(description="A generation, and its place in the list.")
class GenerationEdge:
    cursor: str = strawberry.field(description="Its place: give it as `after`.")
    node: Generation = strawberry.field(description="The generation.")


@strawberry.type(description="A page of generations.")
class GenerationConnection:
    edges: list[GenerationEdge] = strawberry.field(description="Each with its cursor.")
    nodes: list[Generation] = strawberry.field(description="The generations.")
    page_info: relay.PageInfo = strawberry.field(description="Whether and where it goes on.")


@strawberry.type
class GenerationQueries:
    @strawberry.field(description="A generation by its id; null when there is none.")
    async def generation(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The generation's id.")],
    ) -> Generation | None:
        row = await info.context.generation.load(uuid_of(id, "Generation"))
        return Generation.from_row(row) if row else None

    @strawberry.field(description="The workspace's generations, the newest first.")
    async def generations(
        self,
        info: Info,
        filter: Annotated[
            GenerationFilter | None, strawberry.argument(description="Only those that match.")
        ] = None,
        first: First = None,
        after: After = None,
    ) -> GenerationConnection:
        page = await info.context.generations.page(
            info.context.viewer, filter.status if filter else None, page_request(first, after)
        )
        nodes = [Generation.from_row(row) for row in page.rows]
        return GenerationConnection(
            edges=[
                GenerationEdge(cursor=cursor, node=node)
                for cursor, node in zip(page.cursors, nodes, strict=True)
            ],
            nodes=nodes,
            page_info=page_info(page),
        )


# ---- asking --------------------------------------------------------------------------------------

GenerateImageError = Annotated[
    InvalidInputError | NotFoundError | ConflictError | BudgetExceededError | UnavailableError,
    strawberry.union("GenerateImageError", description="Why a generation was not taken on."),
]
CancelGenerationError = Annotated[
    NotFoundError | UnavailableError,
    strawberry.union("CancelGenerationError", description="Why a generation was not cancelled."),
]


@strawberry.type(description="The generation that was taken on; it is made outside the request.")
class GenerateImagePayload:
    generation: Generation | None = strawberry.field(
        default=None, description="Watch it with `generationProgress`."
    )
    notices: list[str] = strawberry.field(
        default_factory=list,
        description="What to know all the same, as of a model that ends soon, for people.",
    )
    errors: list[GenerateImageError] = strawberry.field(
        default_factory=list, description="Why there is none; empty when there is."
    )

    @classmethod
    def of(cls, row: models.Generation) -> "GenerateImagePayload":
        return cls(generation=Generation.from_row(row), notices=[row.notice] if row.notice else [])


@strawberry.type(description="The generation as it is now.")
class CancelGenerationPayload:
    generation: Generation | None = strawberry.field(
        default=None, description="Cancelled, unless it had ended before."
    )
    errors: list[CancelGenerationError] = strawberry.field(
        default_factory=list, description="Why it was not cancelled; empty when it was."
    )


@strawberry.type
class GenerationMutations:
    @mutation("Wish for pictures. Answers at once; watch them come with `generationProgress`.")
    async def generate_image(
        self,
        info: Info,
        input: Annotated[GenerateImageInput, strawberry.argument(description="The wish.")],
    ) -> GenerateImagePayload:
        row = await info.context.studio.generate(info.context.viewer, wish_of(input))
        return GenerateImagePayload.of(row)

    @mutation("Wish once more for what a generation was asked for. The old one stays as it is.")
    async def retry_generation(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The old generation's id.")],
        idempotency_key: Annotated[
            str | None,
            strawberry.argument(description="A repeat with the same key gives back the same one."),
        ] = None,
    ) -> GenerateImagePayload:
        row = await info.context.studio.retry(
            info.context.viewer, uuid_of(id, "Generation"), idempotency_key=idempotency_key
        )
        return GenerateImagePayload.of(row)

    @mutation("Stop a generation, queued or running. Pictures that have come stay.")
    async def cancel_generation(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The generation's id.")],
    ) -> CancelGenerationPayload:
        row = await info.context.generations.cancel(info.context.viewer, uuid_of(id, "Generation"))
        return CancelGenerationPayload(generation=Generation.from_row(row))


# ---- watching ------------------------------------------------------------------------------------


@strawberry.interface(description="Something that happened to a generation.")
class GenerationEvent:
    sequence: int = strawberry.field(
        description="Rises from event to event; give it as `afterSequence` after a break."
    )
    at: datetime = strawberry.field(description="When it was told.")
    generation: Generation = strawberry.field(description="The generation as it is now.")


@strawberry.type(description="It goes on; the first event of a stream, too.")
class GenerationProgressed(GenerationEvent):
    progress: float = strawberry.field(description="0 to 1, of all its pictures.")
    stage: str = strawberry.field(description="What is being done now, in a word or two.")

    @strawberry.field(description="The newest unfinished picture, by a short-lived signed URL.")
    def preview_url(self, info: Info) -> str | None:
        return info.context.urls.preview(self.generation.row, PREVIEW_SECONDS)


@strawberry.type(description="A picture is finished, and in the library.")
class GenerationImageReady(GenerationEvent):
    image_id: strawberry.Private[UUID]

    @strawberry.field(description="The picture; null if it was deleted meanwhile.")
    async def image(self, info: Info) -> Annotated["Image", strawberry.lazy("graph.images")] | None:
        from graph.images import Image

        row = await info.context.image.load(self.image_id)
        return Image.from_row(row) if row else None


@strawberry.type(description="It has ended. The last event of a stream, always.")
class GenerationFinished(GenerationEvent):
    status: GenerationStatus = strawberry.field(description="How it ended.")
    failure: Failure | None = strawberry.field(description="Why it failed, if it did.")


def _event(event: Event) -> GenerationEvent:
    row = event.generation
    generation = Generation.from_row(row)
    if event.image_id is not None:
        return GenerationImageReady(
            sequence=event.sequence, at=event.at, generation=generation, image_id=event.image_id
        )
    if row.status.is_final:
        return GenerationFinished(
            sequence=event.sequence,
            at=event.at,
            generation=generation,
            status=row.status,
            failure=_failure(row),
        )
    return GenerationProgressed(
        sequence=event.sequence,
        at=event.at,
        generation=generation,
        progress=row.progress,
        stage=row.stage,
    )


@strawberry.type
class GenerationSubscriptions:
    @strawberry.subscription(
        description="The state now, then every change, a GenerationFinished last. "
        "Over WebSocket (graphql-transport-ws) or server-sent events."
    )
    async def generation_progress(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The generation's id.")],
        after_sequence: Annotated[
            int | None,
            strawberry.argument(
                description="After a break: the last sequence seen. Only what is newer is told."
            ),
        ] = None,
    ) -> AsyncIterator[GenerationEvent]:
        viewer, uuid = info.context.viewer, uuid_of(id, "Generation")
        async with aclosing(info.context.generations.watch(viewer, uuid, after_sequence)) as events:
            async for event in events:
                # The loaders remember what they saw, and the next event must see anew.
                info.context.forget()
                yield _event(event)
