"""What a generation job does, step by step, and again after a crash.

take the pay-once latch -> call the provider -> store, mark, catalogue and announce each image as it
comes -> settle and end. Whatever a crash interrupts, the provider is called at most once: work that
it has a name for is asked after, what had been stored is adopted, and what nobody can know is said.

A process that stops interrupts its jobs by cancelling them, which says nothing of how they will
end: nothing is written then, and the next run finds the same as after a crash.
"""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from generation.errors import NotSent, OutcomeUnknown, ProviderUnavailable
from generation.patience import Patience
from generation.provider import (
    REFERENCE_SIDE,
    Background,
    CancelsTasks,
    GenerationRequest,
    ImageProvider,
    Quality,
)
from generation.reception import Final, Reception, image_id, mark_of
from generation.references import References
from storage.errors import LibraryError, NotFound, RateLimited, Unavailable
from storage.failpoints import reach
from storage.generations import Failure, Generations
from storage.keeper import Keeper
from storage.library import Library
from storage.models import Generation, GenerationStatus
from storage.objects import ObjectStore
from storage.viewers import Viewer

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
CANCEL_SECONDS = 5  # to tell a provider that a task is not wanted any more
BEAT_SECONDS = 2.0
LOOK_SECONDS = 0.5  # between two looks at the beats of another run
INTERNAL = Failure(
    "INTERNAL",
    "Something unexpected went wrong. It is logged.",
    "Try again; if it happens once more, tell whoever operates this service.",
    is_retryable=True,
)


@dataclass(frozen=True, slots=True)
class Repeats:
    """How often a call that did not count is made: `calls` in all, and `seconds` in all.

    The pause doubles from `first` seconds, unless the provider says how long to wait.
    """

    calls: int = 4
    seconds: float = 300
    first: float = 1.0

    def pause(self, calls: int, fault: Unavailable) -> float:
        if fault.retry_after is not None:
            return fault.retry_after
        doubled: float = self.first * 2 ** (calls - 1)
        return doubled * random.uniform(0.75, 1.25)


class GenerationTask:
    """The handler of generation jobs: `run` is called with a generation's id, as often as it takes.

    `lease` is how long the job of another process may be silent before it counts as dead; zero
    where there is no other process. With `patience` it outlasts a database or a store of ours that
    is away, once there is something to lose by that.
    """

    def __init__(
        self,
        generations: Generations,
        library: Library,
        keeper: Keeper,
        store: ObjectStore,
        providers: Mapping[str, ImageProvider],
        *,
        lease: timedelta,
        repeats: Repeats = Repeats(),  # it is frozen
        patience: Patience = Patience(),  # noqa: B008  # likewise
    ) -> None:
        self._generations = generations
        self._library = library
        self._keeper = keeper
        self._store = store
        self._references = References(library, store)
        self._providers = providers
        self._lease = lease
        self._repeats = repeats
        self._patience = patience
        self._beat_seconds = min(BEAT_SECONDS, lease.total_seconds() / 3 or BEAT_SECONDS)

    async def run(self, id: UUID) -> None:
        """To its end; or until it is cancelled, after which another run goes on."""
        try:
            await self._work(id)
        except Final as end:
            log.info("generation.stopped generation_id=%s", id)
            await self._cancel_unwanted(id, end.task)
        except asyncio.CancelledError:
            await self._cancel_unwanted(id)
            raise
        except Exception as fault:
            if _is_being_cancelled():  # so it may well be the consequence of that
                log.info("generation.interrupted generation_id=%s reason=%r", id, fault)
                raise
            failure = _told(id, fault)
            await self._patience.outlast(lambda: self._generations.fail(id, failure))

    async def _work(self, id: UUID) -> None:
        generation = await self._patience.outlast(lambda: self._generations.begin(id))
        if generation is None:
            raise Final
        reach("job.begun")
        provider = self._providers.get(generation.provider)
        if provider is None:
            raise ProviderUnavailable(f"{generation.provider} is not set up here any more.")
        if generation.attempts > MAX_ATTEMPTS and generation.task is None:
            await self._wait_for_the_other_run(id)
            raise OutcomeUnknown("The job was interrupted too often.")
        if await self._take_latch(id):
            missing = await self._make(generation, provider)
        else:
            missing = await self._recover(id, provider)
        await self._patience.outlast(lambda: self._generations.succeed(id, missing))

    # ---- the first run ------------------------------------------------------------------------

    async def _make(self, generation: Generation, provider: ImageProvider) -> Failure | None:
        """Ask until the answer counts. What is given back tells of pictures that did not come."""
        began = time.monotonic()
        async with self._beating(generation.id):
            while True:
                reach("latch.taken")
                try:
                    return await self._ask(generation, provider)
                except (RateLimited, NotSent) as fault:
                    generation = await self._current(generation.id)
                    pause = self._repeats.pause(generation.calls, fault)
                    is_late = time.monotonic() - began + pause > self._repeats.seconds
                    has_some = bool(await self._positions(generation.id))
                    if has_some or is_late or generation.calls >= self._repeats.calls:
                        raise
                    log.info("provider.busy generation_id=%s pause=%.1f", generation.id, pause)
                    if not await self._give_latch_back(generation.id):
                        raise Final from fault
                reach("latch.given_back")
                await asyncio.sleep(pause)
                if not await self._take_latch(generation.id):
                    raise Final

    async def _ask(self, generation: Generation, provider: ImageProvider) -> Failure | None:
        try:
            reception = await self._reception(generation, provider)
            request = await self._request(generation, provider)
        except LibraryError:
            if generation.task is None:  # nobody was asked yet, so nobody is owed anything
                await self._give_latch_back(generation.id)
            raise
        if request.task is None:
            log.info("provider.called generation_id=%s provider=%s", generation.id, provider.name)
        async with reception, aclosing(provider.generate(request)) as events:  # type: ignore[type-var]  # generators can be closed
            async for event in events:
                await reception.take(event)
        return await reception.missing()

    async def _request(self, generation: Generation, provider: ImageProvider) -> GenerationRequest:
        side = next(
            (each.reference_side for each in provider.models if each.name == generation.model),
            REFERENCE_SIDE,
        )
        viewer = Viewer(generation.workspace_id, generation.requested_by)
        ids = [UUID(id) for id in generation.reference_image_ids]
        references, mask = await self._references.load(
            viewer, ids, generation.mask_image_id, side=side
        )
        return GenerationRequest(
            id=generation.id,
            model=generation.model,
            prompt=generation.prompt,
            width=generation.width,
            height=generation.height,
            count=generation.requested_count,
            quality=Quality(generation.quality) if generation.quality else None,
            background=Background(generation.background) if generation.background else None,
            negative_prompt=generation.negative_prompt,
            style=generation.style,
            seed=generation.seed,
            references=references,
            mask=mask,
            asked_by=pseudonym(viewer),
            task=generation.task,
        )

    # ---- a later run, after a crash -----------------------------------------------------------

    async def _recover(self, id: UUID, provider: ImageProvider) -> Failure | None:
        """An earlier run has called: keep what it had stored, and ask after its task."""
        await self._wait_for_the_other_run(id)
        async with self._beating(id):
            generation = await self._current(id)
            await self._patience.outlast(lambda: self._adopt(generation, provider))
            if generation.task is not None:
                return await self._ask(generation, provider)
        arrived = len(await self._positions(id))
        if arrived < generation.requested_count:
            raise OutcomeUnknown(
                f"The job was interrupted after {arrived} of {generation.requested_count} images. "
                f"{provider.name} is not asked twice for what may be paid for."
            )
        return None

    async def _wait_for_the_other_run(self, id: UUID) -> None:
        """It holds the latch: let it finish if it is alive, which its beats show.

        Looks are counted, not seconds: while the database was away nobody could show anything.
        """
        beat_at, silent_looks = None, 0
        while silent_looks * LOOK_SECONDS < self._lease.total_seconds():
            generation = await self._current(id)
            silent_looks = silent_looks + 1 if generation.beat_at == beat_at else 0
            beat_at = generation.beat_at
            await asyncio.sleep(LOOK_SECONDS)

    async def _adopt(self, generation: Generation, provider: ImageProvider) -> None:
        """Keep what an interrupted run had stored, but not yet catalogued."""
        reception = await self._reception(generation, provider)
        arrived = await self._generations.positions(generation.id)
        stored = {row.image_id: row for row in await self._generations.objects(generation.id)}
        for index in sorted(set(range(generation.requested_count)) - arrived):
            row = stored.get(image_id(generation, index))
            if row is None:
                continue
            try:
                data = await self._store.get(row.key)
            except NotFound:
                continue
            if len(data) == row.byte_size:
                await reception.keep(index, data, generation.progress)

    # ---- within -------------------------------------------------------------------------------

    async def _cancel_unwanted(self, id: UUID, task: str | None = None) -> None:
        """End a task that would go on by itself, where it was a viewer who stopped us.

        `task` is one that came too late to be kept. A process that stops leaves its tasks alone.
        """
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                generation = await self._generations.current(id)
                provider = self._providers.get(generation.provider)
                unwanted = task or generation.task
                if generation.status is not GenerationStatus.CANCELLED or unwanted is None:
                    return
                if isinstance(provider, CancelsTasks):
                    await provider.cancel(unwanted)
        except Exception as fault:  # the generation has ended, whatever becomes of the task
            log.warning("task.not_cancelled generation_id=%s reason=%r", id, fault)

    async def _current(self, id: UUID) -> Generation:
        generation = await self._patience.outlast(lambda: self._generations.current(id))
        if generation.status.is_final:
            raise Final
        return generation

    async def _positions(self, id: UUID) -> set[int]:
        return await self._patience.outlast(lambda: self._generations.positions(id))

    async def _take_latch(self, id: UUID) -> bool:
        """If the word that we have it is lost, nobody calls: as after a crash."""
        return await self._patience.outlast(lambda: self._generations.take_latch(id))

    async def _give_latch_back(self, id: UUID) -> bool:
        return await self._patience.outlast(lambda: self._generations.give_latch_back(id))

    async def _reception(self, generation: Generation, provider: ImageProvider) -> Reception:
        viewer = Viewer(generation.workspace_id, generation.requested_by)
        ids = [UUID(id) for id in generation.reference_image_ids]
        references = await self._library.images_by_id(viewer, ids) if ids else []
        mark = mark_of(provider, references)
        return Reception(
            self._generations,
            self._library,
            self._keeper,
            generation,
            provider,
            mark,
            patience=self._patience,
        )

    @asynccontextmanager
    async def _beating(self, id: UUID) -> AsyncIterator[None]:
        """Show that this run lives, and leave the work as soon as somebody else has ended it.

        Raises Final then.
        """
        work = asyncio.timeout(None)

        async def watch() -> None:
            await self._until_ended(id)
            work.reschedule(asyncio.get_running_loop().time())

        watching: asyncio.Task[None] | None = None
        try:
            async with work:
                watching = asyncio.create_task(watch(), name=f"beat-{id}")
                yield
        except Exception as fault:
            if work.expired() and not isinstance(fault, Final):  # the consequence of that
                raise Final from fault
            raise
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _until_ended(self, id: UUID) -> None:
        """The hub tells of the end at once; each beat finds it out, if nobody has told the hub."""
        async with self._generations.hub.listen(id) as mailbox:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._beat_seconds):
                        while (state := await mailbox.take()) is not None:
                            if state.generation.status.is_final:
                                return
                        await asyncio.sleep(self._beat_seconds)  # the hub has closed
                try:
                    if not await self._generations.beat(id):
                        return
                except Exception as fault:  # a database that is away comes back
                    log.warning("beat.lost generation_id=%s reason=%r", id, fault)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _told(id: UUID, fault: Exception) -> Failure:
    if isinstance(fault, LibraryError):
        log.warning("generation.failed generation_id=%s code=%s", id, fault.code)
        return Failure.of(fault)
    log.error("generation.broken generation_id=%s", id, exc_info=fault)
    return INTERNAL


def pseudonym(viewer: Viewer) -> str:
    """Tells viewers apart for a provider, and nothing of who they are."""
    return hashlib.sha256(f"{viewer.workspace_id}:{viewer.name}".encode()).hexdigest()[:32]
