"""Wishes for pictures: asked for, watched, cancelled; and how their job reports.

The row is final once its status is: nothing reports over that. `sequence` grows with every change.
"""

import json
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Select, Text, cast, func, update
from sqlalchemy import select as rows_of
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage import idempotency, ledger
from storage.attachments import hold, put_into
from storage.changes import Notice, Told, tell_nobody
from storage.cursors import Page, PageRequest, cut, page_of
from storage.database import Database
from storage.errors import Conflict, LibraryError, NotFound, RateLimited, Unavailable
from storage.failpoints import reach
from storage.jobs import Jobs
from storage.ledger import Budgets
from storage.models import (
    FINAL,
    Content,
    Generation,
    GenerationImage,
    GenerationStatus,
    StoredObject,
    now,
    table_of,
)
from storage.progress import Bus, Hub
from storage.statements import Given, Term
from storage.viewers import Viewer

OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
NOBODY_KNOWS = (OUTCOME_UNKNOWN, "INTERNAL", Unavailable.code)
"""Ends after which a call to the provider may have been paid for, or not: the last is of our own
database or store, which may have failed us just when the price was told."""

OPERATION = "generateImage"
QUEUE_RETRY_AFTER = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What is wished for, already checked against the provider's abilities.

    `estimated_cost` is in US dollars, and will be reserved; `expected_seconds` is how long it will
    take if nobody knows better, and `draws_one_by_one` says that each picture adds to that.
    """

    provider: str
    model: str
    prompt: str
    count: int
    width: int
    height: int
    quality: str | None = None
    background: str | None = None
    negative_prompt: str | None = None
    style: str | None = None
    seed: int | None = None
    reference_image_ids: Sequence[UUID] = ()
    mask_image_id: UUID | None = None
    tags: Sequence[str] = ()
    alt_text: str | None = None
    content_id: UUID | None = None
    attach: bool = False
    retry_of: UUID | None = None
    notice: str | None = None
    estimated_cost: Decimal = Decimal(0)
    expected_seconds: float | None = None
    draws_one_by_one: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation ended without all its pictures. `retry_after` is in seconds."""

    code: str
    message: str
    remedy: str | None = None
    retry_after: float | None = None
    is_retryable: bool = False

    @classmethod
    def of(cls, error: LibraryError, *, told: str | None = None) -> "Failure":
        """`told` stands for the error's own message."""
        return cls(
            error.code,
            told or error.message,
            error.remedy,
            getattr(error, "retry_after", None),
            is_retryable=error.is_retryable,
        )


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
    """`bus` is told of every change after it is committed.

    `changed` is told of an image that is attached where that was wished for.
    A viewer may have `waiting` generations in the queue, and spend what `budgets` allow.
    """

    def __init__(
        self,
        database: Database,
        jobs: Jobs,
        *,
        budgets: Budgets = Budgets(),  # noqa: B008  # it is frozen
        waiting: int = 100,
        changed: Told = tell_nobody,
    ) -> None:
        self._database = database
        self._changed = changed
        self._jobs = jobs
        self._budgets = budgets
        self._waiting = waiting
        self.hub: Hub[State] = Hub(self._state)
        self.bus: Bus | None = None

    # ---- for viewers --------------------------------------------------------------------------

    async def recall(
        self, viewer: Viewer, idempotency_key: str | None, stands_for: object
    ) -> Generation | None:
        """What an earlier request with this key made. Raises IdempotencyMismatch."""
        use = idempotency.Use.of(idempotency_key, OPERATION, stands_for)
        if use is None:
            return None
        async with self._database.reading() as session:
            earlier = await idempotency.recall(session, viewer, use)
            return await _found(session, viewer, earlier) if earlier else None

    async def request(
        self,
        viewer: Viewer,
        new: NewGeneration,
        *,
        idempotency_key: str | None = None,
        stands_for: object = None,
    ) -> Generation:
        """Queue it. The row, its job and its money come into being together, or not at all.

        A repeat under the same key gives the first generation back; `stands_for` is what the key
        was given for, where that is not `new`. Raises IdempotencyMismatch, NotFound (for the
        content), BudgetExceeded, RateLimited.
        """
        use = idempotency.Use.of(idempotency_key, OPERATION, stands_for or new)
        try:
            return await self._queue(viewer, new, use)
        except IntegrityError:
            if use is None:
                raise
            # Another request took the key while we were writing, in another month or for
            # something else: then `recall` raises.
            async with self._database.reading() as session:
                if earlier := await idempotency.recall(session, viewer, use):
                    return await _found(session, viewer, earlier)
            raise

    async def _queue(
        self, viewer: Viewer, new: NewGeneration, use: idempotency.Use | None
    ) -> Generation:
        async with self._database.writing() as session:
            month = await ledger.lock(session, viewer)
            if use and (earlier := await idempotency.recall(session, viewer, use)):
                return await _found(session, viewer, earlier)
            if new.content_id is not None:
                content = await session.get(Content, new.content_id)
                if content is None or content.workspace_id != viewer.workspace_id:
                    raise NotFound("content", new.content_id)
            await self._check_queue(session, viewer)
            generation = _row(viewer, new, await _usual_seconds(session, viewer, new))
            session.add(generation)
            await session.flush()
            await ledger.reserve(session, generation, month, self._budgets)
            if use:
                await idempotency.remember(session, viewer, use, generation.id)
            await self._jobs.enqueue(
                session,
                generation.id,
                queue=queue_of(new.provider),
                fair_by=f"{viewer.workspace_id}:{viewer.name}",
            )
            reach("generation.queueing")
        reach("generation.queued")
        self._jobs.hurry(queue_of(new.provider))
        return generation

    async def _check_queue(self, session: AsyncSession, viewer: Viewer) -> None:
        """Raises RateLimited."""
        queued = (
            await session.exec(
                select(func.count())
                .select_from(Generation)
                .where(
                    Generation.status == GenerationStatus.QUEUED,
                    Generation.workspace_id == viewer.workspace_id,
                    Generation.requested_by == viewer.name,
                )
            )
        ).one()
        if queued >= self._waiting:
            raise RateLimited(
                f"{queued} generations of yours are waiting already, and {self._waiting} may. "
                "Let some of them come, or cancel them.",
                retry_after=QUEUE_RETRY_AFTER,
            )

    async def generation(self, viewer: Viewer, id: UUID) -> Generation:
        """Raises NotFound."""
        async with self._database.reading() as session:
            return await _found(session, viewer, id)

    async def ended(self, viewer: Viewer, id: UUID) -> Generation:
        """Raises NotFound; Conflict while it still goes on."""
        generation = await self.generation(viewer, id)
        if not generation.status.is_final:
            raise Conflict("The generation has not ended. Wait for it, or cancel it first.")
        return generation

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
        # Our own truth first, which a running job hears of, or finds with its next beat; then the
        # engine: whatever happens between, nothing is made.
        if await self._end(id, GenerationStatus.CANCELLED, stage="cancelled"):
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
            state = await self._state(id)
            if state is None or state.generation.workspace_id != viewer.workspace_id:
                raise NotFound("generation", id)
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
            started_at=func.coalesce(Generation.started_at, now()),
            calls=col(Generation.calls) + 1,
            status=GenerationStatus.RUNNING,
            stage="asking",
        )
        return taken is not None

    async def give_latch_back(self, id: UUID) -> bool:
        """The provider said that its call does not count: it may be called again. As in report."""
        return await self.report(id, called_at=None, stage="waiting for the provider")

    async def keep_task(self, id: UUID, task: str) -> bool:
        """The provider's name of the work, by which a later run finds it. False as in report."""
        return await self._report(id, tell=False, task=task) is not None

    async def charge(self, id: UUID, cost: Decimal) -> None:
        """The provider has taken so much in all, which counts whatever becomes of the generation.

        To say it twice is to say it once.
        """
        await self._report(id, tell=False, actual_cost=cost)

    async def beat(self, id: UUID) -> bool:
        """Show that the job still runs. False as in report."""
        return await self._report(id, tell=False) is not None

    async def report(self, id: UUID, **changes: Any) -> bool:
        """Tell subscribers of progress. False when the generation is final: stop then."""
        return await self._report(id, **changes) is not None

    async def add_image(
        self,
        id: UUID,
        position: int,
        image_id: UUID,
        progress: float,
        revised_prompt: str | None = None,
    ) -> bool:
        """Tell of a finished image, and attach it where that was wished for. False as in report.

        One that was told before is not told again, for a caller that has lost the word of that.
        `revised_prompt` is what was drawn instead of the prompt, if the provider tells.
        """
        changes: dict[str, Any] = {"progress": progress, "stage": "image ready"}
        if revised_prompt:
            changes["revised_prompt"] = revised_prompt
        async with self._database.writing() as session:
            generation = await self._change(session, id, (), **changes)
            if generation is None:
                return False
            if await session.get(GenerationImage, (id, position)):
                return True
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
                moved = await put_into(session, content, [image_id], position=None, alt_text=None)
                notices = [Notice(content.workspace_id, id) for id in moved]
                await self._changed(session, notices)
        await self._tell(id)
        return True

    async def succeed(self, id: UUID, missing: Failure | None = None) -> bool:
        """`missing` says why some of the pictures have not come. False as in report."""
        return await self._end(
            id, GenerationStatus.SUCCEEDED, stage="done", failure=missing, progress=1.0
        )

    async def fail(self, id: UUID, failure: Failure) -> bool:
        return await self._end(id, GenerationStatus.FAILED, stage="failed", failure=failure)

    async def _end(
        self,
        id: UUID,
        status: GenerationStatus,
        *,
        stage: str,
        failure: Failure | None = None,
        **changes: Any,
    ) -> bool:
        """Make it final, and settle what it cost, in one transaction."""
        if failure is not None:
            changes |= {
                "failure_code": failure.code,
                "failure_message": failure.message,
                "failure_remedy": failure.remedy,
                "failure_retry_after": failure.retry_after,
                "failure_is_retryable": failure.is_retryable,
            }
        async with self._database.writing() as session:
            ended = await self._change(
                session, id, (), status=status, stage=stage, finished_at=now(), **changes
            )
            if ended is None:
                return False
            is_lost = status is GenerationStatus.CANCELLED or ended.failure_code in NOBODY_KNOWS
            is_known = ended.called_at is None or not is_lost
            await ledger.settle(session, ended, is_known=is_known)
        reach("generation.ended")
        await self._tell(id)
        return True

    async def current(self, id: UUID) -> Generation:
        """Raises NotFound."""
        state = await self._state(id)
        if state is None:
            raise NotFound("generation", id)
        return state.generation

    async def positions(self, id: UUID) -> set[int]:
        """Which of the wished images have come."""
        return {position for (position,) in await self._database.fetch(Term(_positions, Given(id)))}

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
                Failure(
                    OUTCOME_UNKNOWN,
                    "The job was lost before it could say how it ended.",
                    "Ask for a new generation.",
                    is_retryable=True,
                ),
            )
        return len(lost)

    async def fail_unserved(self, providers: Collection[str], older_than: timedelta) -> int:
        """End what waits for a provider that is not set up any more. Says how many."""
        async with self._database.reading() as session:
            waiting = (
                await session.exec(
                    select(Generation.id, Generation.provider).where(
                        Generation.status == GenerationStatus.QUEUED,
                        col(Generation.provider).not_in(providers),
                        col(Generation.beat_at) < now() - older_than,
                    )
                )
            ).all()
        for id, provider in waiting:
            failure = Failure(
                "PROVIDER_UNAVAILABLE",
                f"{provider} is not set up here any more.",
                "Ask for a new generation, of another provider.",
                is_retryable=True,
            )
            if await self.fail(id, failure):
                await self._jobs.cancel(id)
        return len(waiting)

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
        """Read at every change, for all who watch."""
        rows = await self._database.fetch(Term(_state, Given(id)))
        if not rows:
            return None
        known = dict(zip(GENERATIONS.c.keys(), rows[0], strict=False))
        for name in LISTS:
            known[name] = json.loads(known[name])
        arrived = (row[-2:] for row in rows)
        return State(
            Generation(**known),
            [Arrived(sequence, image_id) for sequence, image_id in arrived if image_id],
        )


GENERATIONS, ARRIVED = table_of(Generation), table_of(GenerationImage)
LISTS = [column.name for column in GENERATIONS.c if isinstance(column.type, JSON)]


def _positions(id: Any) -> Select[int]:
    return rows_of(ARRIVED.c.position).where(ARRIVED.c.generation_id == id)


def _state(id: Any) -> Select[Any]:
    """The generation's columns, and an image's two: a row for each image, or one without.

    Lists come as text, which is what only one of the drivers makes of them by itself.
    """
    columns = (cast(each, Text) if each.name in LISTS else each for each in GENERATIONS.c)
    return (
        rows_of(*columns, ARRIVED.c.sequence, ARRIVED.c.image_id)
        .select_from(GENERATIONS.outerjoin(ARRIVED, ARRIVED.c.generation_id == GENERATIONS.c.id))
        .where(GENERATIONS.c.id == id)
        .order_by(ARRIVED.c.sequence)
    )


def _row(viewer: Viewer, new: NewGeneration, expected_seconds: float | None) -> Generation:
    recipe = {field.name: getattr(new, field.name) for field in fields(new)}
    count = recipe.pop("count")
    del recipe["draws_one_by_one"]
    return Generation(
        **recipe
        | {
            "workspace_id": viewer.workspace_id,
            "requested_by": viewer.name,
            "requested_count": count,
            "reference_image_ids": [str(id) for id in new.reference_image_ids],
            "tags": list(new.tags),
            "expected_seconds": expected_seconds,
        }
    )


async def _usual_seconds(session: AsyncSession, viewer: Viewer, new: NewGeneration) -> float | None:
    """The median of what the workspace's last ones took with that model, else what was told.

    Of those in the same quality, where there are any: of as many pictures, or else by the picture
    where one is drawn after the other.
    """
    last = (
        rows_of(GENERATIONS)
        .where(
            GENERATIONS.c.workspace_id == viewer.workspace_id,
            GENERATIONS.c.status == GenerationStatus.SUCCEEDED,
        )
        .order_by(GENERATIONS.c.created_at.desc(), GENERATIONS.c.id.desc())
        .limit(50)
        .subquery()
    ).c
    found = await session.exec(
        select(last.requested_count, last.quality, last.started_at, last.finished_at).where(
            last.provider == new.provider, last.model == new.model
        )
    )
    took: list[tuple[int, str | None, float]] = [
        (count, quality, (finished - started).total_seconds())
        for count, quality, started, finished in found
        if started and finished
    ]
    took = [each for each in took if each[1] == new.quality] or took
    equal = [seconds for count, _, seconds in took if count == new.count]
    if not took:
        return new.expected_seconds
    if equal:
        return median(equal)
    if new.draws_one_by_one:
        return new.count * median(seconds / count for count, _, seconds in took)
    return median(seconds for _, _, seconds in took)


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
