"""A job's surroundings: real rows, real bytes, and a provider that does as it is told."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from generation.provider import GeneratedImage, GenerationRequest, ModelInfo, Preview
from generation.tasks import GenerationTask
from storage.database import Database
from storage.generations import Generations
from storage.jobs import Jobs
from storage.keeper import Keeper
from storage.library import Library
from storage.objects.local import LocalObjectStore

Step = Preview | GeneratedImage | BaseException


class ScriptedProvider:
    """An ImageProvider that gives `script`, step by step, and counts who asks."""

    name = "scripted"
    models: tuple[ModelInfo, ...] = (ModelInfo("m", max_count=4, min_side=64, max_side=2048),)
    makes_ai_images = True

    def __init__(self) -> None:
        self.script: Sequence[Step] = ()
        self.requests: list[GenerationRequest] = []
        self.was_closed = False

    async def generate(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Preview | GeneratedImage, None]:
        self.requests.append(request)
        try:
            for step in self.script:
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
    )
