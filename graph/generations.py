"""Generations: wishes for pictures, made outside the request and watched while they come."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import relay

from generation.provider import ImageProvider, ModelInfo
from generation.studio import Target, Wish
from graph import enums  # noqa: F401  # makes the enums known before they are used
from graph.context import Info
from graph.errors import (
    ConflictError,
    ErrorCode,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    mutation,
)
from graph.ids import uuid_of
from graph.pages import After, First, page_info, page_request
from storage import models
from storage.generations import Event
from storage.models import GenerationStatus

if TYPE_CHECKING:
    from graph.contents import Content
    from graph.images import Image

PREVIEW_SECONDS = 600


@strawberry.type(description="One model of a provider, and what it can do.")
class ProviderModel:
    name: str = strawberry.field(description="Give it as `model`.")
    is_default: bool = strawberry.field(description="Whether it is asked when nobody says.")
    max_count: int = strawberry.field(description="The most pictures of one generation.")
    min_side: int = strawberry.field(description="The shortest side, in pixels.")
    max_side: int = strawberry.field(description="The longest side, in pixels.")

    @classmethod
    def of(cls, model: ModelInfo, *, is_default: bool) -> "ProviderModel":
        return cls(
            name=model.name,
            is_default=is_default,
            max_count=model.max_count,
            min_side=model.min_side,
            max_side=model.max_side,
        )


@strawberry.type(description="Somebody who makes pictures.")
class Provider:
    name: str = strawberry.field(description="Give it as `provider`.")
    is_default: bool = strawberry.field(description="Whether it is asked when nobody says.")
    makes_ai_images: bool = strawberry.field(
        description="Whether its pictures come from an AI model, and are marked so. "
        "`card` is none: it sets words as a designed picture."
    )
    models: list[ProviderModel] = strawberry.field(description="Its models, the default first.")

    @classmethod
    def of(cls, provider: ImageProvider, *, is_default: bool) -> "Provider":
        return cls(
            name=provider.name,
            is_default=is_default,
            makes_ai_images=provider.makes_ai_images,
            models=[
                ProviderModel.of(model, is_default=index == 0)
                for index, model in enumerate(provider.models)
            ],
        )


@strawberry.type(description="Why something ended early.")
class Failure:
    code: ErrorCode = strawberry.field(description="What went wrong, for programs.")
    message: str = strawberry.field(description="What went wrong and what to do, for people.")
    retryable: bool = strawberry.field(description="Whether asking again may help.")


@strawberry.type(description="One wish for pictures, and how far it has come.")
class Generation(relay.Node):
    row: strawberry.Private[models.Generation]
    id: relay.NodeID[UUID]
    status: GenerationStatus = strawberry.field(description="How far it has come.")
    provider: str = strawberry.field(description="Who makes the pictures.")
    model: str = strawberry.field(description="With which model.")
    prompt: str = strawberry.field(description="From which words.")
    requested_count: int = strawberry.field(description="How many pictures were wished for.")
    width: int = strawberry.field(description="Pixels, as asked of the provider.")
    height: int = strawberry.field(description="Pixels, as asked of the provider.")
    seed: int | None = strawberry.field(description="The seed that was given.")
    progress: float = strawberry.field(description="0 to 1, of all its pictures.")
    stage: str = strawberry.field(description="What is being done now, in a word or two.")
    sequence: int = strawberry.field(
        description="Grows with every change; give it as `afterSequence` to go on watching."
    )
    failure: Failure | None = strawberry.field(description="Why it failed, once it has.")
    attempts: int = strawberry.field(
        description="How often its job was started. The provider is called once at most."
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
            requested_count=row.requested_count,
            width=row.width,
            height=row.height,
            seed=row.seed,
            progress=row.progress,
            stage=row.stage,
            sequence=row.sequence,
            failure=_failure(row),
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

    @strawberry.field(description="The pictures that have come, in the order of the wish.")
    async def images(self, info: Info) -> list[Annotated["Image", strawberry.lazy("graph.images")]]:
        from graph.images import Image

        rows = await info.context.images_of_generation.load(self.id)
        return [Image.from_row(row) for row in rows]

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
        retryable=row.failure_is_retryable,
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

    @strawberry.field(description="Who can make pictures here, the default first.")
    def providers(self, info: Info) -> list[Provider]:
        studio = info.context.studio
        by_rank = sorted(
            studio.providers.values(), key=lambda p: (p.name != studio.default, p.name)
        )
        return [Provider.of(each, is_default=each.name == studio.default) for each in by_rank]


# ---- asking --------------------------------------------------------------------------------------

GenerateImageError = Annotated[
    InvalidInputError | NotFoundError | ConflictError | UnavailableError,
    strawberry.union("GenerateImageError", description="Why a generation was not taken on."),
]
CancelGenerationError = Annotated[
    NotFoundError | UnavailableError,
    strawberry.union("CancelGenerationError", description="Why a generation was not cancelled."),
]


@strawberry.input(
    description="A wish for pictures. Give a prompt, a contentId, or both. "
    "Give a target, or width and height, or leave the size to us."
)
class GenerateImageInput:
    prompt: str | None = strawberry.field(
        default=None, description="What to make. Without it, the content's text."
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
    width: int | None = strawberry.field(default=None, description="Pixels.")
    height: int | None = strawberry.field(default=None, description="Pixels.")
    seed: int | None = strawberry.field(
        default=None, description="The same seed and words give the same pictures, where possible."
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


@strawberry.type(description="The generation that was taken on; it is made outside the request.")
class GenerateImagePayload:
    generation: Generation | None = strawberry.field(
        default=None, description="Watch it with `generationProgress`."
    )
    errors: list[GenerateImageError] = strawberry.field(
        default_factory=list, description="Why there is none; empty when there is."
    )


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
        row = await info.context.studio.generate(
            info.context.viewer,
            Wish(
                prompt=input.prompt,
                content_id=uuid_of(input.content_id, "Content") if input.content_id else None,
                provider=input.provider,
                model=input.model,
                count=input.count,
                target=input.target,
                width=input.width,
                height=input.height,
                seed=input.seed,
                tags=input.tags or (),
                alt_text=input.alt_text,
                attach=input.attach,
                idempotency_key=input.idempotency_key,
            ),
        )
        return GenerateImagePayload(generation=Generation.from_row(row))

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
