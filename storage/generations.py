"""Wishes for pictures: asked for, watched, cancelled; and how their job reports.

The row is final once its status is: nothing reports over that. `sequence` grows with every change.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import idempotency
from storage.attachments import hold, put_into
from storage.database import Database
from storage.errors import NotFound
from storage.jobs import Jobs
from storage.models import (
    FINAL,
    Content,
    Generation,
    GenerationImage,
    GenerationStatus,
    StoredObject,
    now,
)
from storage.progress import Bus, Hub
from storage.search import Page, PageRequest, cut, page_of
from storage.viewers import Viewer

OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What is wished for, already checked against the provider's abilities."""

    provider: str
    model: str
    prompt: str
    count: int
    width: int
    height: int
    seed: int | None = None
    tags: Sequence[str] = ()
    alt_text: str | None = None
    content_id: UUID | None = None
    attach: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """An image of a generation, and the sequence number at which it came."""

    sequence: int
    image_id: UUID


@dataclass(frozen=True, slots=True)
class State:
    """A generation as it stands, and the images it has brought, the oldest first."""

    generation: Generation
    images: Sequence[Arrived]


@dataclass(frozen=True, slots=True)
class Event:
    """What a subscriber is told. With an image: that one came. A final status ends the stream."""

    sequence: int
    at: datetime
    generation: Generation
    image_id: UUID | None = None


class Generations:
    """`bus` is told of every change after it is committed."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self._database = database
        self._jobs = jobs
        self.hub: Hub[State] = Hub(self._state)
        self.bus: Bus | None = None

    # ---- for viewers --------------------------------------------------------------------------

    async def request(
        self, viewer: Viewer, new: NewGeneration, *, idempotency_key: str | None = None
    ) -> Generation:
        """Queue it. The row and its job come into being together, or not at all.

        A repeat under the same key gives the first generation back. Raises IdempotencyMismatch,
        NotFound (for the content), Rejected.
        """
        use = idempotency.Use.of(idempotency_key, "generateImage", new)
        generation = Generation(
            workspace_id=viewer.workspace_id,
            requested_by=viewer.name,
            provider=new.provider,
            model=new.model,
            prompt=new.prompt,
            requested_count=new.count,
            width=new.width,
            height=new.height,
            seed=new.seed,
            tags=list(new.tags),
            alt_text=new.alt_text,
            content_id=new.content_id,
            attach=new.attach,
        )
        try:
            async with self._database.writing() as session:
                if use and (earlier := await idempotency.recall(session, viewer, use)):
                    return await _found(session, viewer, earlier)
                if new.content_id is not None:
                    content = await session.get(Content, new.content_id)
                    if content is None or content.workspace_id != viewer.workspace_id:
                        raise NotFound("content", new.content_id)
                session.add(generation)
                await session.flush()
                if use:
                    await idempotency.remember(session, viewer, use, generation.id)
                await self._jobs.enqueue(
                    session,
                    generation.id,
                    queue=queue_of(new.provider),
                    fair_by=viewer.workspace_id,
                )
            return generation
        except IntegrityError:
            if use is None:
                raise
            # A twin of this request came first; its generation is the answer to both.
            async with self._database.reading() as session:
                first = await idempotency.recall(session, viewer, use)
                if first is None:
                    raise
                return await _found(session, viewer, first)

    async def generation(self, viewer: Viewer, id: UUID) -> Generation:
        """Raises NotFound."""
        async with self._database.reading() as session:
            return await _found(session, viewer, id)

    async def by_id(self, viewer: Viewer, ids: Sequence[UUID]) -> list[Generation | None]:
        """In the order of `ids`, None for what is not there or not the viewer's."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(Generation).where(
                    col(Generation.id).in_(ids), Generation.workspace_id == viewer.workspace_id
                )
            )
            found = {generation.id: generation for generation in rows}
        return [found.get(id) for id in ids]

    async def page(
        self, viewer: Viewer, statuses: Sequence[GenerationStatus] | None, request: PageRequest
    ) -> Page[Generation]:
        """The newest first."""
        of = (viewer.workspace_id, tuple(statuses) if statuses else None)
        wanted = select(Generation).where(Generation.workspace_id == viewer.workspace_id)
        if statuses:
            wanted = wanted.where(col(Generation.status).in_(statuses))
        column = col(Generation.created_at)
        statement = page_of(wanted, request, column, col(Generation.id), descending=True, of=of)
        async with self._database.reading() as session:
            rows = (await session.exec(statement)).all()
        return cut(rows, request, column, of=of)

    async def cancel(self, viewer: Viewer, id: UUID) -> Generation:
        """Stop it, queued or running; images that came already stay. Final ones are left as is.

        Raises NotFound.
        """
        await self.generation(viewer, id)
        # Our own truth first, then the engine: whatever happens between, nothing is made.
        if await self.end(id, GenerationStatus.CANCELLED, stage="cancelled"):
            await self._jobs.cancel(id)
        return await self.generation(viewer, id)

    async def watch(
        self, viewer: Viewer, id: UUID, after_sequence: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """The state now, then every change with a rising sequence number, the final one last.

        After a break, `after_sequence` leaves out what was seen before; the images that came
        meanwhile are told one by one. Raises NotFound.
        """
        async with self.hub.listen(id) as mailbox:
            await self.generation(viewer, id)  # it is there, and the viewer's
            state = await self._state(id)
            # A newcomer finds earlier images in the first event's generation.
            seen = after_sequence
            while state is not None:
                generation = state.generation
                for image in state.images:
                    if seen is not None and image.sequence > seen:
                        yield Event(image.sequence, now(), generation, image.image_id)
                        seen = image.sequence
                if generation.status.is_final:
                    yield Event(generation.sequence, now(), generation)
                    return
                if seen is None or generation.sequence > seen:
                    yield Event(generation.sequence, now(), generation)
                    seen = generation.sequence
                state = await mailbox.take()

    # ---- for the job --------------------------------------------------------------------------

    async def begin(self, id: UUID) -> Generation | None:
        """Count an attempt. None when there is nothing left to do."""
        return await self._report(id, attempts=Generation.attempts + 1, tell=False)

    async def take_latch(self, id: UUID) -> bool:
        """Whether the caller may call the provider, which is allowed once in a generation's life.

        Committed before the call: after a crash nobody knows whether it went out, so it counts.
        """
        taken = await self._report(
            id,
            Generation.called_at == None,  # noqa: E711  # it is SQL
            called_at=now(),
            started_at=now(),
            status=GenerationStatus.RUNNING,
            stage="started",
        )
        return taken is not None

    async def beat(self, id: UUID) -> None:
        """Show that the job still runs."""
        await self._report(id, tell=False)

    async def report(self, id: UUID, **changes: Any) -> bool:
        """Tell subscribers of progress. False when the generation is final: stop then."""
        return await self._report(id, **changes) is not None

    async def add_image(self, id: UUID, position: int, image_id: UUID, progress: float) -> bool:
        """Tell of a finished image, and attach it where that was wished for. False as in report."""
        async with self._database.writing() as session:
            generation = await self._change(session, id, (), progress=progress, stage="image ready")
            if generation is None:
                return False
            session.add(
                GenerationImage(
                    generation_id=id,
                    position=position,
                    image_id=image_id,
                    sequence=generation.sequence,
                )
            )
            if generation.attach and generation.content_id:
                await hold(session, [image_id])
                content = await session.get(
                    Content, generation.content_id, with_for_update={"key_share": True}
                )
                assert content is not None  # a foreign key says so
                await put_into(session, content, [image_id], position=None, alt_text=None)
        await self._tell(id)
        return True

    async def end(self, id: UUID, status: GenerationStatus, *, stage: str) -> bool:
        """Whether this call ended it."""
        done = {"progress": 1.0} if status is GenerationStatus.SUCCEEDED else {}
        return await self.report(id, status=status, stage=stage, finished_at=now(), **done)

    async def fail(self, id: UUID, code: str, message: str, *, is_retryable: bool) -> bool:
        return await self.report(
            id,
            status=GenerationStatus.FAILED,
            stage="failed",
            failure_code=code,
            failure_message=message,
            failure_is_retryable=is_retryable,
            finished_at=now(),
        )

    async def current(self, id: UUID) -> Generation:
        """Raises NotFound."""
        state = await self._state(id)
        if state is None:
            raise NotFound("generation", id)
        return state.generation

    async def positions(self, id: UUID) -> set[int]:
        """Which of the wished images have come."""
        async with self._database.reading() as session:
            rows = await session.exec(
                select(GenerationImage.position).where(GenerationImage.generation_id == id)
            )
            return set(rows)

    async def objects(self, id: UUID) -> Sequence[StoredObject]:
        """What was stored for its images, finished or not."""
        async with self._database.reading() as session:
            return (
                await session.exec(
                    select(StoredObject).where(
                        StoredObject.generation_id == id, col(StoredObject.image_id).is_not(None)
                    )
                )
            ).all()

    async def fail_lost(self, older_than: timedelta) -> int:
        """End generations that no job will ever finish. Says how many."""
        async with self._database.reading() as session:
            silent = (
                await session.exec(
                    select(Generation.id).where(
                        col(Generation.status).not_in(FINAL),
                        col(Generation.beat_at) < now() - older_than,
                    )
                )
            ).all()
        if not silent:
            return 0
        lost = set(silent) - await self._jobs.unfinished(silent)
        for id in lost:
            await self.fail(
                id,
                OUTCOME_UNKNOWN,
                "The job was lost before it could say how it ended. Ask for a new generation.",
                is_retryable=True,
            )
        return len(lost)

    # ---- within -------------------------------------------------------------------------------

    async def _report(
        self, id: UUID, *conditions: Any, tell: bool = True, **changes: Any
    ) -> Generation | None:
        async with self._database.writing() as session:
            changed = await self._change(session, id, conditions, tell=tell, **changes)
        if changed is not None and tell:
            await self._tell(id)
        return changed

    async def _change(
        self,
        session: AsyncSession,
        id: UUID,
        conditions: Sequence[Any],
        *,
        tell: bool = True,
        **changes: Any,
    ) -> Generation | None:
        """The row after the change; None when it is final, or a condition does not hold."""
        if tell:
            changes["sequence"] = col(Generation.sequence) + 1
        changed = await session.exec(
            update(Generation)
            .where(col(Generation.id) == id, col(Generation.status).not_in(FINAL), *conditions)
            .values(beat_at=now(), **changes)
            .returning(Generation)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        return changed.scalars().one_or_none()

    async def _tell(self, id: UUID) -> None:
        if self.bus is not None:
            await self.bus.tell(id)

    async def _state(self, id: UUID) -> State | None:
        async with self._database.reading() as session:
            generation = await session.get(Generation, id)
            if generation is None:
                return None
            images = await session.exec(
                select(GenerationImage)
                .where(GenerationImage.generation_id == id)
                .order_by(col(GenerationImage.sequence))
            )
            return State(generation, [Arrived(row.sequence, row.image_id) for row in images])


def queue_of(provider: str) -> str:
    return f"provider:{provider}"


async def _found(session: AsyncSession, viewer: Viewer, id: UUID) -> Generation:
    generation = (
        await session.exec(
            select(Generation).where(
                Generation.id == id, Generation.workspace_id == viewer.workspace_id
            )
        )
    ).one_or_none()
    if generation is None:
        raise NotFound("generation", id)
    return generation
