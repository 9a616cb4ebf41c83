"""OpenAI's Images API, and servers with open models that speak its protocol.

https://developers.openai.com/api/docs/guides/image-generation. A picture that is wished alone is
streamed, with previews; several come in one answer, since the API streams no more than one. The
SDK is told to repeat nothing: what is sent twice is paid twice.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from typing import cast
from urllib.parse import urljoin

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, omit

from generation.errors import OutcomeUnknown, ProviderUnavailable
from generation.provider import (
    Charged,
    Event,
    Fetch,
    GeneratedImage,
    GenerationRequest,
    ImageFailed,
    ModelInfo,
    Progressed,
    Size,
)
from generation.providers import openai_models as table
from generation.providers.openai_answers import (
    read_models,
    read_picture,
    read_preview,
    read_revised_prompt,
    read_tokens,
    read_url,
)
from generation.providers.openai_errors import Faults
from generation.providers.openai_offer import Offer
from generation.providers.openai_questions import Questions
from generation.providers.options import OpenAIOptions
from storage.errors import LibraryError

URL = "https://api.openai.com/v1"
REFRESH_SECONDS = 20


class OpenAIProvider:
    """An ImageProvider. `client` is open; whoever opened it closes it."""

    makes_ai_images = True

    def __init__(self, client: AsyncOpenAI, options: OpenAIOptions, fetch: Fetch) -> None:
        self._client = client
        self._options = options
        self._fetch = fetch
        self.name = "openai-compatible" if options.is_compatible else "openai"
        self._faults = Faults(
            "The image server" if options.is_compatible else "OpenAI",
            secret=options.api_key.get_secret_value() if options.api_key else "",
            replacements={} if options.is_compatible else table.REPLACEMENTS,
        )
        self._offer = Offer(options.model, is_compatible=options.is_compatible)
        self._questions = Questions(client, self._offer, options)

    @property
    def models(self) -> Sequence[ModelInfo]:
        return self._offer.models

    @property
    def former_models(self) -> Mapping[str, str]:
        return self._offer.former

    async def refresh(self) -> None:
        """Learn which models there are, and when they end. The default always stays."""
        try:
            with self._faults.told(self._offer.default):
                async with asyncio.timeout(REFRESH_SECONDS):
                    listed = read_models(await self._questions.models())
        except OutcomeUnknown as fault:  # a list is not paid for
            raise ProviderUnavailable(fault.message) from None
        self._offer.learn(listed)

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        return self._offer.size_for(model, width, height)

    def estimate(self, request: GenerationRequest) -> Decimal:
        """Nothing for a server of one's own."""
        if self._options.is_compatible:
            return Decimal(0)
        size = (request.width, request.height)
        drawn = table.output_tokens(request.model, *size, request.quality)
        shown = table.PREVIEW_TOKENS * self._previews(request)
        one = table.price(
            request.model,
            text_in=-(-len(request.prompt) // table.CHARACTERS_PER_TOKEN),
            image_in=table.REFERENCE_TOKENS * len(request.references),
            image_out=drawn + shown,
        )
        return one * request.count

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        work = self._streamed(request) if self._previews(request) else self._answered(request)
        async with aclosing(work) as events:
            async for event in events:
                yield event

    def _previews(self, request: GenerationRequest) -> int:
        if request.count > 1 or not self._offer.described(request.model).streams_previews:
            return 0
        return min(self._options.previews, table.MAX_PREVIEWS)

    async def _streamed(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """One picture, with previews on the way."""
        previews = self._previews(request)
        deadline = asyncio.get_running_loop().time() + self._options.seconds
        with self._faults.told(request.model):
            async with asyncio.timeout_at(deadline):
                stream = await self._questions.pictures(request, previews=previews)
        async with stream:
            yield Progressed("waiting")
            has_drawn = False
            while True:
                with self._faults.told(request.model, has_drawn=has_drawn):
                    async with asyncio.timeout_at(deadline):
                        event = await anext(stream, None)
                if event is None:
                    raise self._faults.lost("it ended without a picture")
                kind = str(getattr(event, "type", None))
                if kind.endswith(".partial_image"):
                    has_drawn = True
                    if preview := read_preview(event, previews):
                        yield preview
                elif kind.endswith(".completed"):
                    yield Charged(self._cost(request, event))
                    yield GeneratedImage(
                        0, await self._picture(event), 1.0, read_revised_prompt(event)
                    )
                    return

    async def _answered(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """All pictures at once."""
        with self._faults.told(request.model):
            async with asyncio.timeout(self._options.seconds):
                answer = await self._questions.pictures(request)
        pictures = getattr(answer, "data", None)
        if not isinstance(pictures, list):
            raise self._faults.lost("it is not what the protocol says")
        if not self._options.is_compatible:
            yield Charged(self._cost(request, answer))
        for index in range(request.count):
            try:
                if index >= len(pictures):
                    raise ProviderUnavailable(
                        f"{self._faults.who} gave {len(pictures)} of {request.count} pictures."
                    )
                data = await self._picture(pictures[index])
            except LibraryError as reason:
                if request.count == 1:
                    raise
                yield ImageFailed(index, reason)
            else:
                progress = (index + 1) / request.count
                yield GeneratedImage(index, data, progress, read_revised_prompt(pictures[index]))

    async def _picture(self, answer: object) -> bytes:
        """Raises ProviderUnavailable."""
        try:
            if data := read_picture(answer):
                return data
            if url := read_url(answer):
                return await self._fetch(urljoin(str(self._client.base_url), url))
        except ValueError:
            pass
        raise ProviderUnavailable(f"{self._faults.who} gave something else than a picture.")

    def _cost(self, request: GenerationRequest, answer: object) -> Decimal:
        """By the tokens that OpenAI has counted, or else by our estimate."""
        if (tokens := read_tokens(answer)) is None:
            return self.estimate(request)
        text_in, image_in, image_out = tokens
        return table.price(request.model, text_in=text_in, image_in=image_in, image_out=image_out)


@asynccontextmanager
async def open_openai(options: OpenAIOptions, fetch: Fetch) -> AsyncIterator[OpenAIProvider]:
    """A provider with a client of its own. Nothing is asked yet."""
    headers = {
        "OpenAI-Organization": options.organization or omit,
        "OpenAI-Project": options.project or omit,
    }
    async with AsyncOpenAI(  # what is not told here, it would read from the environment
        api_key=options.api_key.get_secret_value() if options.api_key else "none",
        base_url=options.base_url or URL,
        max_retries=0,
        default_headers=cast("dict[str, str]", headers),
        http_client=DefaultAsyncHttpxClient(
            timeout=httpx2.Timeout(options.seconds, connect=options.connect_seconds),
            # A kept connection may be closed just when it is used again, and nobody would know
            # whether the request has arrived.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            follow_redirects=False,
        ),
    ) as client:
        yield OpenAIProvider(client, options, fetch)
