"""Gemini, by Google: models that speak, and draw one picture at a call.

Google's own client brings a dozen packages for what is one POST here, so we speak its protocol
ourselves. A refusal comes with status 200, as an answer without a picture.

https://ai.google.dev/gemini-api/docs/image-generation
"""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from io import BytesIO

import aiohttp
from anyio import to_thread
from yarl import URL

from generation.provider import Event, GenerationRequest, ModelInfo, Size, plain
from generation.providers.answers import Answer, ask, one_by_one, open_session
from generation.providers.gemini_wire import NAME, RATIOS, body_of, failure_of, picture_of
from generation.providers.options import GeminiOptions
from generation.providers.ratios import nearest, size_of, value_of
from storage.errors import Rejected

log = logging.getLogger(__name__)

MEGAPIXEL = 2**20


def _model(
    name: str,
    price: str,
    *,
    seconds: float,
    references: int,
    shutdown_date: date | None = None,
    replaced_by: str | None = None,
) -> ModelInfo:
    """Any size may be wished, and is answered in the nearest shape, in the size that they call 1K.

    The sizes are what we expect: as many pixels as a square of 1024, in multiples of 8. `price` is
    US dollars a picture, by their list, and the highest where the list has several. How many
    `references` the newer models take is told in several ways, so this is the least of them.
    """
    return ModelInfo(
        name=name,
        max_count=4,
        min_side=64,
        max_side=4096,
        sizes=tuple(size_of(value_of(ratio), MEGAPIXEL) for ratio in RATIOS),
        max_references=references,
        price=Decimal(price),
        seconds=seconds,
        draws_one_by_one=True,
        shutdown_date=shutdown_date,
        replaced_by=replaced_by,
    )


MODELS = (
    _model("gemini-3.1-flash-image", "0.067", seconds=15, references=10),
    _model("gemini-3.1-flash-lite-image", "0.0336", seconds=8, references=10),
    _model("gemini-3-pro-image", "0.134", seconds=25, references=10),
    _model(
        "gemini-2.5-flash-image",
        "0.039",
        seconds=10,
        references=3,
        shutdown_date=date(2027, 3, 15),
        replaced_by="gemini-3.1-flash-image",
    ),
)

FORMER = {
    "gemini-3.1-flash-image-preview": "gemini-3.1-flash-image",
    "gemini-3.1-flash-lite-image-preview": "gemini-3.1-flash-lite-image",
    "gemini-3-pro-image-preview": "gemini-3-pro-image",
    "gemini-2.5-flash-image-preview": "gemini-2.5-flash-image",
    "imagen-4.0-generate-001": "gemini-3.1-flash-image",
    "imagen-4.0-fast-generate-001": "gemini-3.1-flash-lite-image",
    "imagen-4.0-ultra-generate-001": "gemini-3-pro-image",
}


class GeminiProvider:
    """`session` is open; whoever opened it closes it. Raises Rejected for an unknown model."""

    name = "gemini"
    makes_ai_images = True
    former_models: Mapping[str, str] = FORMER

    def __init__(self, session: aiohttp.ClientSession, options: GeminiOptions) -> None:
        self._session = session
        self._options = options
        self._url = URL(options.base_url.rstrip("/")) / "v1/models"
        self._prices = {model.name: model.price or Decimal(0) for model in MODELS}
        default = FORMER.get(plain(options.model), plain(options.model))
        if default not in self._prices:
            raise Rejected(
                f"{NAME} has no model {options.model!r}. Choose from: {', '.join(self._prices)}.",
                field="model",
            )
        if default != options.model:
            log.warning("model.replaced configured=%s model=%s", options.model, default)
        self.models: Sequence[ModelInfo] = sorted(MODELS, key=lambda it: it.name != default)

    async def refresh(self) -> None:
        """Whether they accept our key, and still have the model that is asked by default."""
        default, *others = self.models
        answer = await self._ask("GET", default.name)
        if answer.status in (200, 404):
            is_gone = answer.status == 404
            warning = (
                f"{NAME} does not know {default.name}, and may refuse it." if is_gone else None
            )
            self.models = [replace(default, warning=warning), *others]
        if answer.status != 200:
            raise failure_of(answer)

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        return model.sizes[RATIOS.index(nearest(RATIOS, width, height))]

    def estimate(self, request: GenerationRequest) -> Decimal:
        return self._prices[request.model] * request.count

    def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        async def draw(index: int) -> bytes:
            body = await to_thread.run_sync(body_of, request)  # ten large pictures take a while
            answer = await self._ask("POST", f"{request.model}:generateContent", body)
            if answer.status != 200:
                raise failure_of(answer)
            return picture_of(answer)

        return one_by_one(draw, count=request.count, price=self._prices[request.model])

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        headers = {"x-goog-api-key": self._options.api_key.get_secret_value()}
        data = None
        if body is not None:
            headers["content-type"] = "application/json"
            data = BytesIO(body)  # goes in small parts, where bytes would go in one
        return await ask(self._session, NAME, method, self._url / path, headers=headers, data=data)


@asynccontextmanager
async def open_gemini(options: GeminiOptions) -> AsyncIterator[GeminiProvider]:
    """Asks nothing yet. Raises Rejected for a model that they do not have."""
    async with open_session(
        seconds=options.seconds, connect_seconds=options.connect_seconds
    ) as session:
        yield GeminiProvider(session, options)
