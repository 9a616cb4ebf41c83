"""What becomes of each thing that a provider tells while it makes pictures."""

import asyncio
import logging
import time
from datetime import timedelta
from uuid import UUID, uuid4, uuid5

from generation.errors import ProviderUnavailable
from generation.provider import (
    Charged,
    Event,
    GeneratedImage,
    ImageFailed,
    ImageProvider,
    Preview,
    Progressed,
    TaskStarted,
)
from storage.errors import LibraryError, RateLimited, Rejected, Unavailable
from storage.failpoints import reach
from storage.generations import Failure, Generations
from storage.keeper import Keeper, Purpose
from storage.library import Added, Library, NewImage
from storage.marks import Mark
from storage.models import Generation, ImageOrigin
from storage.viewers import Viewer

log = logging.getLogger(__name__)

PREVIEW_LIFETIME = timedelta(hours=1)
SECONDS_BETWEEN_REPORTS = 0.25
SECONDS_BETWEEN_TRIES = 1.0
PATIENCE = 300.0  # seconds


class Final(Exception):
    """The generation was ended by somebody else, such as its viewer. There is nothing to tell."""


class Reception:
    """Of one generation. Previews and progress are told four times a second at most.

    Every method raises Final once the generation is.
    """

    def __init__(
        self,
        generations: Generations,
        library: Library,
        keeper: Keeper,
        generation: Generation,
        provider: ImageProvider,
    ) -> None:
        self._generations = generations
        self._library = library
        self._keeper = keeper
        self._generation = generation
        self._provider = provider
        self._failed: dict[int, LibraryError] = {}
        self._reported_at = -SECONDS_BETWEEN_REPORTS

    async def take(self, event: Event) -> None:
        """Keep it first, and tell of it then."""
        match event:
            case TaskStarted(task=task):
                await self._keep_task(task)
            case Progressed(stage=stage, progress=progress):
                known = {} if progress is None else {"progress": progress}
                if self._may_report():
                    await self._report(stage=stage, **known)
            case Preview():
                if self._may_report():
                    await self._show(event)
            case Charged(cost=cost):
                # A run that goes on with a task hears of its price once more.
                if self._generation.task is None or not self._generation.actual_cost:
                    await self._generations.charge(self._generation.id, cost)
                    reach("cost.kept")
            case GeneratedImage():
                await self._receive(event)
            case ImageFailed(index=index, reason=reason):
                self._failed[index] = reason

    async def keep(self, index: int, data: bytes, progress: float) -> None:
        """Through the same intake as any upload, under an id that a later run finds again."""
        generation = self._generation
        new = NewImage(
            alt_text=generation.alt_text,
            tags=generation.tags,
            origin=ImageOrigin.GENERATED,
            is_ai_generated=self._provider.makes_ai_images,
            mark=self._mark(),
            generation_id=generation.id,
            parent_id=next((UUID(id) for id in generation.reference_image_ids), None),
            prompt=generation.prompt,
        )
        viewer = Viewer(generation.workspace_id, generation.requested_by)
        added = await self._take_in(viewer, data, new, image_id(generation, index))
        reach("image.catalogued")
        if not await self._generations.add_image(generation.id, index, added.image.id, progress):
            raise Final
        reach("image.announced")

    async def _take_in(self, viewer: Viewer, data: bytes, new: NewImage, id: UUID) -> Added:
        """It is paid for, so it waits while too many others are taken in.

        Raises what the library raises, but never RateLimited: after that a provider is asked again.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await self._library.add_image(viewer, data, new, id=id)
            except RateLimited:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "The picture came, but too many others are being taken in."
                    ) from None
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)

    async def missing(self) -> Failure | None:
        """Why some pictures have not come, at the end. Raises that where none has."""
        wished = self._generation.requested_count
        arrived = await self._generations.positions(self._generation.id)
        if len(arrived) == wished:
            return None
        silent = ProviderUnavailable(f"{self._provider.name} gave {len(arrived)} of {wished}.")
        reason = next((self._failed[index] for index in sorted(self._failed)), silent)
        if not arrived:
            raise reason
        return Failure.of(
            reason, told=f"{len(arrived)} of {wished} pictures came. {reason.message}"
        )

    async def _receive(self, image: GeneratedImage) -> None:
        if image.index in await self._generations.positions(self._generation.id):
            return  # an interrupted run had taken it in
        reach("image.arrived")
        try:
            await self.keep(image.index, image.data, image.progress)
        except Rejected as fault:
            self._failed[image.index] = ProviderUnavailable(
                f"{self._provider.name} gave a file that cannot be kept: {fault.message}"
            )
            return
        if image.revised_prompt and image.revised_prompt != self._generation.revised_prompt:
            self._generation.revised_prompt = image.revised_prompt
            await self._report(revised_prompt=image.revised_prompt)

    async def _keep_task(self, task: str) -> None:
        if not await self._generations.keep_task(self._generation.id, task):
            raise Final
        reach("task.kept")

    async def _show(self, preview: Preview) -> None:
        """Made clean before anybody sees it. One that cannot be is left out."""
        try:
            data, media_type = await self._library.clean(preview.data, mark=self._mark())
        except (Rejected, RateLimited) as fault:
            log.info("preview.left_out generation_id=%s code=%s", self._generation.id, fault.code)
            return
        extension = media_type.removeprefix("image/")
        key = f"generations/{self._generation.id}/{uuid4()}.{extension}"
        of = Purpose(
            self._generation.workspace_id,
            generation_id=self._generation.id,
            lives_for=PREVIEW_LIFETIME,
        )
        await self._keeper.put_live(key, data, media_type=media_type, of=of)
        reach("preview.kept")
        await self._report(preview_key=key, progress=preview.progress, stage=preview.stage)

    async def _report(self, **changes: object) -> None:
        if not await self._generations.report(self._generation.id, **changes):
            raise Final

    def _may_report(self) -> bool:
        now = time.monotonic()
        if now - self._reported_at < SECONDS_BETWEEN_REPORTS:
            return False
        self._reported_at = now
        return True

    def _mark(self) -> Mark | None:
        """A picture that was made from another is told from one that is all the model's own."""
        if not self._provider.makes_ai_images:
            return None
        return Mark.COMPOSITE if self._generation.reference_image_ids else Mark.TRAINED


def image_id(generation: Generation, index: int) -> UUID:
    """The same in every run of the job."""
    return uuid5(generation.id, str(index))
