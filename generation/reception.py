"""What becomes of each thing that a provider tells while it makes pictures."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from uuid import UUID, uuid4, uuid5

from generation.errors import ProviderUnavailable
from generation.patience import Patience
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
from storage.errors import LibraryError, Rejected, Unavailable
from storage.failpoints import reach
from storage.generations import NOBODY_KNOWS, Failure, Generations
from storage.keeper import Keeper, Purpose
from storage.library import Library, NewImage
from storage.marks import Mark
from storage.models import Generation, Image, ImageOrigin
from storage.viewers import Viewer

log = logging.getLogger(__name__)

PREVIEW_LIFETIME = timedelta(hours=1)
SECONDS_BETWEEN_REPORTS = 0.25


class Final(Exception):
    """The generation was ended by somebody else, such as its viewer. There is nothing to tell.

    `task` is what the provider has begun just then, too late to be kept in the row.
    """

    def __init__(self, task: str | None = None) -> None:
        super().__init__()
        self.task = task


class Reception:
    """Of one generation: a context, at whose end nothing is told any more.

    Between two tellings of previews and progress are `pause` seconds, so that there are four in a
    second at most; the first is told at once. What comes too quickly is withheld: the newest of it
    is told when its time has come, even if the provider says nothing more. A finished picture is
    always told at once, however many come in a second, and is news of progress itself: after it,
    others pause, too. What was withheld before it is old then, but for the preview of another
    picture. Progress never goes back.

    What tells of a task, of money, or of a picture is paid for, so with it goes the `patience` to
    outlast a database or a store that is away. Of progress there will be more.

    `mark` is what the pictures say of themselves, see `mark_of`. Every method raises Final once the
    generation is.
    """

    def __init__(
        self,
        generations: Generations,
        library: Library,
        keeper: Keeper,
        generation: Generation,
        provider: ImageProvider,
        mark: Mark | None,
        *,
        pause: float = SECONDS_BETWEEN_REPORTS,
        patience: Patience = Patience(),  # noqa: B008  # it is frozen
    ) -> None:
        self._generations = generations
        self._library = library
        self._keeper = keeper
        self._generation = generation
        self._provider = provider
        self._mark = mark
        self._patience = patience
        self._charged = generation.actual_cost  # dollars, in all
        self._failed: dict[int, LibraryError] = {}
        self._arrived: set[int] = set()
        self._progress = generation.progress
        self._pause = pause
        self._told_at = -pause
        self._withheld: Progressed | Preview | None = None
        self._preview: Preview | None = None  # the newest that is withheld
        self._later: asyncio.Task[None] | None = None  # tells what is withheld
        self._telling = asyncio.Lock()

    async def __aenter__(self) -> "Reception":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._later is not None:
            async with self._telling:  # so not in the midst of a report
                self._later.cancel()
            await asyncio.gather(self._later, return_exceptions=True)

    async def take(self, event: Event) -> None:
        """Keep it first, and tell of it then."""
        match event:
            case TaskStarted(task=task):
                await self._keep_task(task)
            case Progressed() | Preview():
                await self._tell_in_time(event)
            case Charged(cost=cost):
                # A run that goes on with a task hears of its price once more.
                if self._generation.task is None or not self._generation.actual_cost:
                    await self._charge(cost)
            case GeneratedImage():
                await self._receive(event)
            case ImageFailed(index=index, reason=reason):
                self._failed[index] = reason

    async def keep(
        self, index: int, data: bytes, progress: float, revised_prompt: str | None = None
    ) -> None:
        """Through the same intake as any upload, under an id that a later run finds again."""
        generation = self._generation
        new = NewImage(
            alt_text=generation.alt_text,
            tags=generation.tags,
            origin=ImageOrigin.GENERATED,
            is_ai_generated=self._mark is not None,
            mark=self._mark,
            generation_id=generation.id,
            parent_id=next((UUID(id) for id in generation.reference_image_ids), None),
            prompt=generation.prompt,
        )
        viewer = Viewer(generation.workspace_id, generation.requested_by)
        id = image_id(generation, index)
        added = await self._patience.outlast(
            lambda: self._library.add_image(viewer, data, new, id=id)
        )
        reach("image.catalogued")
        async with self._telling:
            self._arrived.add(index)
            if self._preview is not None and self._preview.index == index:
                self._preview = None
            self._withheld = self._preview
            self._progress = max(self._progress, progress)
            is_told = await self._patience.outlast(
                lambda: self._generations.add_image(
                    generation.id, index, added.image.id, self._progress, revised_prompt
                )
            )
            if not is_told:
                raise Final
            self._told_at = time.monotonic()
        reach("image.announced")

    async def missing(self) -> Failure | None:
        """Why some pictures have not come, at the end. Raises that where none has.

        Of several reasons the first; but rather one after which something may be owed, since it
        decides what is booked.
        """
        wished = self._generation.requested_count
        arrived = await self._positions()
        if len(arrived) == wished:
            return None
        silent = ProviderUnavailable(f"{self._provider.name} gave {len(arrived)} of {wished}.")
        reasons = [self._failed[index] for index in sorted(self._failed)] or [silent]
        reason = next((each for each in reasons if each.code in NOBODY_KNOWS), reasons[0])
        if not arrived:
            raise reason
        return Failure.of(
            reason, told=f"{len(arrived)} of {wished} pictures came. {reason.message}"
        )

    async def _receive(self, image: GeneratedImage) -> None:
        if image.index in await self._positions():
            return  # an interrupted run had taken it in
        reach("image.arrived")
        try:
            await self.keep(image.index, image.data, image.progress, image.revised_prompt)
        except Rejected as fault:
            self._failed[image.index] = ProviderUnavailable(
                f"{self._provider.name} gave a file that cannot be kept: {fault.message}"
            )

    async def _keep_task(self, task: str) -> None:
        id = self._generation.id
        if not await self._patience.outlast(lambda: self._generations.keep_task(id, task)):
            raise Final(task)
        reach("task.kept")

    async def _charge(self, cost: Decimal) -> None:
        self._charged += cost
        id, charged = self._generation.id, self._charged
        await self._patience.outlast(lambda: self._generations.charge(id, charged))
        reach("cost.kept")

    async def _positions(self) -> set[int]:
        return await self._patience.outlast(
            lambda: self._generations.positions(self._generation.id)
        )

    # ---- previews and progress ----------------------------------------------------------------

    async def _tell_in_time(self, news: Progressed | Preview) -> None:
        self._withheld = news
        if isinstance(news, Preview):
            self._preview = news
        if self._later is not None and not self._later.done():
            return  # it tells the newest
        if self._seconds_to_wait() <= 0:
            try:
                await self._tell()
            except Unavailable as fault:
                self._lose(fault)
        else:
            self._later = asyncio.create_task(self._tell_later(), name="what is withheld")

    async def _tell_later(self) -> None:
        try:
            while self._withheld is not None:
                if (seconds := self._seconds_to_wait()) > 0:
                    await asyncio.sleep(seconds)  # and a picture may have come meanwhile
                else:
                    await self._tell()
        except Final:
            pass  # whoever takes the next event finds the same
        except Exception as fault:
            self._lose(fault)

    def _lose(self, fault: Exception) -> None:
        log.warning("progress.lost generation_id=%s reason=%r", self._generation.id, fault)

    def _seconds_to_wait(self) -> float:
        return self._told_at + self._pause - time.monotonic()

    async def _tell(self) -> None:
        """What is withheld, all in one."""
        news, preview = self._withheld, self._preview
        self._withheld = self._preview = None
        assert news is not None  # whoever calls has looked
        changes: dict[str, object] = {"stage": news.stage}
        if preview is not None and (key := await self._stored(preview)):
            changes["preview_key"] = key
        async with self._telling:
            if preview is not None and preview.index in self._arrived:
                return  # the picture itself was told meanwhile
            if news.progress is not None:
                changes["progress"] = self._progress = max(self._progress, news.progress)
            if not await self._generations.report(self._generation.id, **changes):
                raise Final
            self._told_at = time.monotonic()

    async def _stored(self, preview: Preview) -> str | None:
        """Its key: made clean before anybody sees it. One that cannot be is left out."""
        generation = self._generation
        of = Purpose(
            generation.workspace_id, generation_id=generation.id, lives_for=PREVIEW_LIFETIME
        )
        try:
            data, media_type = await self._library.clean(preview.data, mark=self._mark)
            key = f"generations/{generation.id}/{uuid4()}.{media_type.removeprefix('image/')}"
            await self._keeper.put_live(key, data, media_type=media_type, of=of)
        except LibraryError as fault:  # the picture itself may still come
            log.info("preview.left_out generation_id=%s code=%s", generation.id, fault.code)
            return None
        reach("preview.kept")
        return key


def mark_of(provider: ImageProvider, references: Sequence[Image | None]) -> Mark | None:
    """What its pictures say of themselves, when it is shown these.

    A picture that was made from another is told from one that is all the model's own. What was
    made from an AI picture stays one, whoever has changed it.
    """
    if provider.makes_ai_images:
        return Mark.COMPOSITE if references else Mark.TRAINED
    shows_ai = any(image.is_ai_generated for image in references if image is not None)
    return Mark.COMPOSITE if shows_ai else None


def image_id(generation: Generation, index: int) -> UUID:
    """The same in every run of the job."""
    return uuid5(generation.id, str(index))
