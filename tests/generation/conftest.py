"""A job's surroundings: real rows, real bytes, and a provider that does as it is told."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from decimal import Decimal

import pytest

from generation.provider import Event, GenerationRequest, ModelInfo, Quality, Size
from generation.tasks import GenerationTask, Repeats
from storage.database import Database
from storage.errors import Rejected
from storage.generations import Generations
from storage.jobs import Jobs
from storage.keeper import Keeper
from storage.library import Library
from storage.objects.local import LocalObjectStore

Step = Event | BaseException


class ScriptedProvider:
    """An ImageProvider that gives `script`, step by step, and counts who asks.

    With `scripts`, each request gets the next of them. A picture costs `price` dollars.
    """

    name = "scripted"
    models: Sequence[ModelInfo] = (
        ModelInfo(
            "m",
            max_count=4,
            min_side=64,
            max_side=2048,
            qualities=(Quality.LOW, Quality.HIGH),
            styles=("cinematic",),
            max_references=2,
            supports_mask=True,
            supports_seed=True,
            supports_negative_prompt=True,
            seconds=12,
        ),
        ModelInfo("plain", max_count=1, min_side=64, max_side=2048),
    )
    makes_ai_images = True
    former_models: Mapping[str, str] = {"dall-e-3": "m"}  # nobody changes it

    def __init__(self) -> None:
        self.script: Sequence[Step] = ()
        self.scripts: list[Sequence[Step]] = []
        self.price = Decimal(0)
        self.requests: list[GenerationRequest] = []
        self.was_closed = False

    async def refresh(self) -> None:
        """It knows what it offers."""

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        for name, side in (("width", width), ("height", height)):
            if not model.min_side <= side <= model.max_side:
                raise Rejected(f"{name} is {side}.", field=name)
        return width, height

    def estimate(self, request: GenerationRequest) -> Decimal:
        return self.price * request.count

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        try:
            for step in self.scripts.pop(0) if self.scripts else self.script:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            self.was_closed = True


@pytest.fixture
async def generations(database: Database) -> AsyncIterator[Generations]:
    async with AsyncExitStack() as stack:
        yield Generations(database, await Jobs.open(database.url, stack))


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def task(
    generations: Generations,
    library: Library,
    keeper: Keeper,
    store: LocalObjectStore,
    provider: ScriptedProvider,
) -> GenerationTask:
    return GenerationTask(
        generations,
        library,
        keeper,
        store,
        {provider.name: provider},
        lease=timedelta(0),
        repeats=Repeats(calls=3, seconds=5, first=0.01),
    )
