"""What a generation job does, step by step, and again after a crash.

take the pay-once latch -> call the provider -> store, catalogue and announce each image as it comes
-> end. Whatever a crash interrupts, the provider is called at most once: what had been stored is
adopted, and what nobody can know is said.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid5

from generation.errors import ProviderUnavailable
from generation.provider import GeneratedImage, GenerationRequest, ImageProvider, Preview
from storage.errors import LibraryError, NotFound, Unavailable
from storage.generations import OUTCOME_UNKNOWN, Generations
from storage.keeper import Keeper, Purpose
from storage.library import Library, NewImage
from storage.models import Generation, GenerationStatus, ImageOrigin, now
from storage.objects import ObjectStore
from storage.viewers import Viewer

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
PREVIEW_LIFETIME = timedelta(hours=1)


class Final(Exception):
    """The generation was ended by somebody else, such as its viewer. There is nothing to tell."""


class GenerationTask:
    """The handler of generation jobs: `run` is called with a generation's id, as often as it takes.

    `lease` is how long the job of another process may be silent before it counts as dead; zero
    where there is no other process.
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
    ) -> None:
        self._generations = generations
        self._library = library
        self._keeper = keeper
        self._store = store
        self._providers = providers
        self._lease = lease

    async def run(self, id: UUID) -> None:
        try:
            await self._work(id)
        except Final:
            log.info("generation.stopped generation_id=%s", id)
        except LibraryError as failure:
            log.warning("generation.failed generation_id=%s code=%s", id, failure.code)
            retryable = isinstance(failure, Unavailable)
            await self._generations.fail(id, failure.code, failure.message, is_retryable=retryable)
        except Exception:
            log.exception("generation.broken generation_id=%s", id)
            await self._generations.fail(
                id, "INTERNAL", "Something unexpected went wrong. It is logged.", is_retryable=True
            )

    async def _work(self, id: UUID) -> None:
        generation = await self._generations.begin(id)
        if generation is None:
            raise Final
        provider = self._providers.get(generation.provider)
        if provider is None:
            raise Unavailable(f"The provider {generation.provider} is not set up any more.")
        if generation.attempts > MAX_ATTEMPTS:
            raise Unavailable("The job was interrupted too often.")
        if await self._generations.take_latch(id):
            async with self._beating(id):
                await self._make(generation, provider)
        else:
            await self._wait_for_the_other_run(id)
            await self._adopt(generation, provider)
        await self._finish(generation)

    async def _make(self, generation: Generation, provider: ImageProvider) -> None:
        request = GenerationRequest(
            prompt=generation.prompt,
            width=generation.width,
            height=generation.height,
            count=generation.requested_count,
            seed=generation.seed,
        )
        log.info("provider.called generation_id=%s provider=%s", generation.id, provider.name)
        async with aclosing(provider.generate(request)) as events:  # type: ignore[type-var]  # generators can be closed
            number = 0
            async for event in events:
                match event:
                    case Preview():
                        number += 1
                        await self._show(generation, event, number)
                    case GeneratedImage(index=index, data=data, progress=progress):
                        await self._keep(generation, provider, index, data, progress)
        arrived = len(await self._generations.positions(generation.id))
        if arrived < generation.requested_count:
            raise ProviderUnavailable(
                f"{provider.name} gave {arrived} of {generation.requested_count} images."
            )

    async def _show(self, generation: Generation, preview: Preview, number: int) -> None:
        extension = preview.media_type.removeprefix("image/")
        key = f"generations/{generation.id}/{number}.{extension}"
        of = Purpose(
            generation.workspace_id, generation_id=generation.id, lives_for=PREVIEW_LIFETIME
        )
        await self._keeper.put_live(key, preview.data, media_type=preview.media_type, of=of)
        if not await self._generations.report(
            generation.id, preview_key=key, progress=preview.progress, stage=preview.stage
        ):
            raise Final

    async def _keep(
        self,
        generation: Generation,
        provider: ImageProvider,
        index: int,
        data: bytes,
        progress: float,
    ) -> None:
        """Through the same intake as any upload, under an id that a later run finds again."""
        new = NewImage(
            alt_text=generation.alt_text,
            tags=generation.tags,
            origin=ImageOrigin.GENERATED,
            is_ai_generated=provider.makes_ai_images,
            generation_id=generation.id,
            prompt=generation.prompt,
        )
        viewer = Viewer(generation.workspace_id, generation.requested_by)
        added = await self._library.add_image(viewer, data, new, id=_image_id(generation, index))
        if not await self._generations.add_image(generation.id, index, added.image.id, progress):
            raise Final

    async def _wait_for_the_other_run(self, id: UUID) -> None:
        """An earlier run holds the latch: let it finish if it is alive."""
        while True:
            generation = await self._generations.current(id)
            if generation.status.is_final:
                raise Final
            if now() - generation.beat_at >= self._lease:
                return
            await asyncio.sleep(0.5)

    async def _adopt(self, generation: Generation, provider: ImageProvider) -> None:
        """Keep what an interrupted run had stored, but not yet catalogued."""
        arrived = await self._generations.positions(generation.id)
        stored = {row.image_id: row for row in await self._generations.objects(generation.id)}
        for index in sorted(set(range(generation.requested_count)) - arrived):
            row = stored.get(_image_id(generation, index))
            if row is None:
                continue
            try:
                data = await self._store.get(row.key)
            except NotFound:
                continue
            if len(data) == row.byte_size:
                await self._keep(generation, provider, index, data, generation.progress)

    async def _finish(self, generation: Generation) -> None:
        arrived = len(await self._generations.positions(generation.id))
        if arrived == generation.requested_count:
            await self._generations.end(generation.id, GenerationStatus.SUCCEEDED, stage="finished")
        else:
            await self._generations.fail(
                generation.id,
                OUTCOME_UNKNOWN,
                f"The job was interrupted after {arrived} of {generation.requested_count} images. "
                f"{generation.provider} is not asked twice for what may be paid for. "
                "Ask for a new generation for the rest.",
                is_retryable=True,
            )

    @asynccontextmanager
    async def _beating(self, id: UUID) -> AsyncIterator[None]:
        """Show every third of the lease that this run lives."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(max(self._lease.total_seconds() / 3, 1.0))
                await self._generations.beat(id)

        task = asyncio.create_task(beat(), name=f"beat-{id}")
        try:
            yield
        finally:
            task.cancel()


def _image_id(generation: Generation, index: int) -> UUID:
    return uuid5(generation.id, str(index))
