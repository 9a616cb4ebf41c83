"""Midjourney by way of a proxy that the operator runs, since it offers no API itself.

Its terms forbid to automate it: this is for operators who know what they risk. The account is the
proxy's, and we have just its secret. One wish gives four pictures in a grid, which is cut here.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from fractions import Fraction

from yarl import URL

from generation.errors import ProviderRejected, ProviderUnavailable
from generation.provider import (
    Charged,
    Event,
    Fetch,
    GeneratedImage,
    GenerationRequest,
    ModelInfo,
    Preview,
    Progressed,
    Quarter,
    Size,
    TaskStarted,
)
from generation.providers.answers import open_session
from generation.providers.midjourney_proxy import Proxy, Task
from generation.providers.options import MidjourneyOptions
from storage.errors import LibraryError, Rejected

RESULT_HOSTS = ("cdn.discordapp.com", "media.discordapp.net")
QUEUED, DRAWING = "queued at the provider", "drawing"
DRAWN = 0.95  # of all progress; the rest is to fetch the grid, and to cut it
MAX_TERM = 32  # of a ratio
SIDE = 1024  # pixels, of a square picture
SEEDS = 2**32
CALL_SECONDS = 60
GRID_ATTEMPTS = 3


def result_hosts(options: MidjourneyOptions) -> tuple[str, ...]:
    """Where its pictures may come from: nobody else's URL is worth fetching."""
    return (*RESULT_HOSTS, *options.hosts, URL(options.base_url).raw_host or "")


class MidjourneyProvider:
    """Its pictures are the quarters of a grid, and so are their previews."""

    name = "midjourney"
    makes_ai_images = True
    former_models: Mapping[str, str] = {}  # nobody changes it

    def __init__(
        self, proxy: Proxy, options: MidjourneyOptions, fetch: Fetch, quarter: Quarter
    ) -> None:
        self._proxy = proxy
        self._options = options
        self._fetch = fetch
        self._quarter = quarter
        self._price = Decimal(str(options.price))
        self.models: Sequence[ModelInfo] = (
            ModelInfo(
                name="midjourney",
                max_count=4,
                min_side=256,
                max_side=4096,
                sizes=((SIDE, SIDE), (916, 1145), (765, 1360), (1360, 765)),
                max_references=5,
                supports_seed=True,
                supports_negative_prompt=True,
                streams_previews=True,
                price=self._price,
                seconds=60,
            ),
        )

    async def refresh(self) -> None:
        """There is nobody to ask."""

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        """In the closest ratio of small integers, and about 1024 x 1024 pixels in all.

        Midjourney is told just the ratio, so the picture may differ by some pixels.
        """
        for name, side in (("width", width), ("height", height)):
            if not model.min_side <= side <= model.max_side:
                raise Rejected(
                    f"{model.name} takes sides of {model.min_side} to {model.max_side} pixels; "
                    f"{name} is {side}.",
                    field=name,
                    limit=model.max_side if side > model.max_side else model.min_side,
                    actual=side,
                )
        across, down = _ratio(width, height)
        scale = round(SIDE / math.sqrt(across * down))
        return across * scale, down * scale

    def estimate(self, request: GenerationRequest) -> Decimal:
        """The price of a grid, however few of its pictures are wanted."""
        return self._price

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """Whoever leaves leaves the task to be asked after again: it is paid. See `cancel`."""
        deadline = asyncio.get_running_loop().time() + self._options.seconds
        id, is_queued = request.task, False
        if id is None:
            prompt = _prompt(request, self._options.parameters)
            id, is_queued = await self._proxy.submit(prompt, request.references)
        if request.task is None:
            yield TaskStarted(id)
        if is_queued:
            yield Progressed(QUEUED)
        before = Task("")
        while not (task := await self._proxy.poll(id, until=deadline)).is_ended:
            for event in await self._news(task, before, request.count):
                yield event
            before = task
            await asyncio.sleep(self._options.poll_seconds)
        if task.status != "SUCCESS":
            raise task.failure()
        if self._price:
            yield Charged(self._price)
        pictures = (await self._grid(task.picture))[: request.count]
        for index, data in enumerate(pictures):
            missing = 1 - (index + 1) / len(pictures)
            yield GeneratedImage(index, data, progress=1 - (1 - DRAWN) * missing)

    async def cancel(self, task: str) -> None:
        """At the proxy, for a viewer who does not want it any more. One of the two kinds cannot."""
        await self._proxy.cancel(task)

    async def _news(self, task: Task, before: Task, count: int) -> Sequence[Event]:
        """What is new since the task was seen before: previews, which tell of progress as well.

        They come as a grid, too, and may fail.
        """
        stage = DRAWING if task.status == "IN_PROGRESS" else QUEUED
        progress = round(DRAWN * (task.percent or 0) / 100, 4)
        if task.picture not in ("", before.picture):
            with suppress(LibraryError):
                pictures = await self._quarter(await self._fetch(task.picture))
                return [
                    Preview(index, data, "image/png", progress, stage)
                    for index, data in enumerate(pictures[:count])
                ]
        return [] if task.percent in (None, before.percent) else [Progressed(stage, progress)]

    async def _grid(self, url: str) -> Sequence[bytes]:
        """At once, since the link expires; and again where that fails, since it costs nothing."""
        for left in reversed(range(GRID_ATTEMPTS)):
            try:
                return await self._quarter(await self._fetch(url))
            except LibraryError as fault:
                if not left:
                    raise ProviderUnavailable(
                        f"Midjourney drew, but its picture is lost. {fault.message}"
                    ) from None
            await asyncio.sleep(self._options.poll_seconds)
        raise AssertionError("the last attempt returns or raises")


def _ratio(width: int, height: int) -> Size:
    """The closest ratio whose terms are at most MAX_TERM."""
    short, long = sorted((width, height))
    ratio = Fraction(short, long).limit_denominator(MAX_TERM)
    terms = (ratio.numerator, ratio.denominator)
    return terms if width <= height else terms[::-1]


def _prompt(request: GenerationRequest, parameters: str) -> str:
    words = _words(request.prompt)
    if not words:
        raise ProviderRejected("Without its parameters, nothing is left of the prompt.")
    across, down = _ratio(request.width, request.height)
    parts = [words, parameters, f"--ar {across}:{down}"]
    if request.negative_prompt:
        parts.append(f"--no {_words(request.negative_prompt)}")
    if request.seed is not None:
        parts.append(f"--seed {request.seed % SEEDS}")
    return " ".join(part for part in parts if part)


def _words(text: str) -> str:
    """Only words: parameters are the operator's, since they choose the model, the bot, the speed.

    A parameter goes with all that is behind it in its line. Other dashes become plain ones, as a
    long one counts as two. Braces would ask for one grid for each of the words between them.
    """
    text = re.sub(r"(?m)(?<!\S)--+[a-z].*$", "", text, flags=re.IGNORECASE)
    text = re.sub(r"--+|[—―]+", " - ", text)
    return " ".join(text.translate({ord("{"): "(", ord("}"): ")"}).split())


@asynccontextmanager
async def open_midjourney(
    options: MidjourneyOptions, fetch: Fetch, quarter: Quarter
) -> AsyncIterator[MidjourneyProvider]:
    """`fetch` has to allow `result_hosts(options)`. The proxy is not called before its time."""
    async with open_session(
        seconds=CALL_SECONDS, connect_seconds=options.connect_seconds
    ) as session:
        yield MidjourneyProvider(Proxy(session, options), options, fetch, quarter)
