"""Stability AI: Stable Image, Stable Diffusion 3.5, and an upscaler that invents detail.

There is no client of their own for this API, so we speak it ourselves. A picture is the answer to
one call; an upscaled one is a task, which is asked for until it is done.

https://platform.stability.ai/docs/api-reference
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import aiohttp
from aiohttp.payload import Payload
from yarl import URL

from generation.errors import OutcomeUnknown, ProviderUnavailable, Refused
from generation.provider import (
    Charged,
    Event,
    GeneratedImage,
    GenerationRequest,
    ModelInfo,
    Progressed,
    Size,
    TaskStarted,
    plain,
)
from generation.providers.answers import Answer, ask, one_by_one, open_session
from generation.providers.options import StabilityOptions
from generation.providers.ratios import nearest, size_of
from generation.providers.stability_models import (
    FORMER,
    MODELS,
    NAME,
    RATIOS,
    UPSCALED,
    UPSCALER,
)
from generation.providers.stability_wire import failure_of, form_of, picture_of, task_of
from storage.errors import RateLimited, Rejected

log = logging.getLogger(__name__)

MAX_USER = 256


class StabilityProvider:
    """`session` is open; whoever opened it closes it. Raises Rejected for an unknown model."""

    name = "stability"
    makes_ai_images = True
    former_models: Mapping[str, str] = FORMER

    def __init__(self, session: aiohttp.ClientSession, options: StabilityOptions) -> None:
        self._session = session
        self._options = options
        self._url = URL(options.base_url.rstrip("/"))
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
        """They do not tell what they offer, so this just tries the key."""
        answer = await self._ask("GET", "v1/user/balance", {"accept": "application/json"})
        if answer.status != 200:
            raise failure_of(answer)

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        """Of the upscaler: for a picture that has the wished shape, since it keeps that."""
        if model.name == UPSCALER:
            return size_of(width / height, UPSCALED)
        return model.sizes[RATIOS.index(nearest(RATIOS, width, height))]

    def estimate(self, request: GenerationRequest) -> Decimal:
        return self._prices[request.model] * request.count

    def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        if request.model == UPSCALER:
            return self._upscale(request)

        async def draw(index: int) -> bytes:
            path = "sd3" if request.model.startswith("sd3") else request.model
            return picture_of(await self._order(request, f"generate/{path}", index))

        return one_by_one(draw, count=request.count, price=self._prices[request.model])

    async def _upscale(self, request: GenerationRequest) -> AsyncIterator[Event]:
        task = request.task
        if task is None:
            task = task_of(await self._order(request, "upscale/creative"))
            yield TaskStarted(task)
        give_up_at = time.monotonic() + self._options.task_seconds
        while time.monotonic() < give_up_at:
            answer, wait = None, self._options.poll_seconds
            try:
                answer = await self._result(task)
            except (RateLimited, ProviderUnavailable) as failure:  # asking again costs nothing
                log.warning("stability.not_told task=%s code=%s", task, failure.code)
                wait = max(wait, failure.retry_after or 0)
            if answer is not None:
                picture = picture_of(answer)
                yield Charged(self._prices[request.model])
                yield GeneratedImage(0, picture, progress=1.0)
                return
            yield Progressed("upscaling")
            await asyncio.sleep(wait)
        raise OutcomeUnknown(
            f"{NAME} did not finish the task {task} in {self._options.task_seconds:.0f} seconds. "
            "It may have been paid for, so it is not submitted again."
        )

    async def _result(self, task: str) -> Answer | None:
        """None while they work on it. Whatever is wrong now, the task itself may be paid for."""
        answer = await self._ask("GET", f"v2beta/results/{task}", {"accept": "image/*"})
        if answer.status == 202:
            return None
        if answer.status == 200:
            return answer
        failure = failure_of(answer)
        if isinstance(failure, RateLimited | ProviderUnavailable | Refused):
            raise failure
        raise OutcomeUnknown(f"The task {task} was accepted, and is lost. {failure.message}")

    async def _order(self, request: GenerationRequest, path: str, index: int = 0) -> Answer:
        """The picture, or the task that will be one. Raises what they have against it."""
        headers = {"accept": "image/*", "stability-client-user-id": request.asked_by[:MAX_USER]}
        form = form_of(request, index)
        answer = await self._ask("POST", f"v2beta/stable-image/{path}", headers, form)
        if answer.status not in (200, 202):
            raise failure_of(answer)
        return answer

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], form: Payload | None = None
    ) -> Answer:
        ours = {
            "authorization": f"Bearer {self._options.api_key.get_secret_value()}",
            "stability-client-id": "darkroom",
        }
        told = {name: value for name, value in headers.items() if value}
        url = self._url / path
        return await ask(self._session, NAME, method, url, headers=ours | told, data=form)


@asynccontextmanager
async def open_stability(options: StabilityOptions) -> AsyncIterator[StabilityProvider]:
    """Asks nothing yet. Raises Rejected for a model that they do not have."""
    async with open_session(
        seconds=options.seconds, connect_seconds=options.connect_seconds
    ) as session:
        yield StabilityProvider(session, options)
