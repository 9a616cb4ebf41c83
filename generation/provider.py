"""What Darkroom asks of whoever makes pictures."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One wish for `count` pictures of `width` x `height` pixels.

    `seed` makes a repeat give the same pictures, where the provider can do that.
    """

    prompt: str
    width: int
    height: int
    count: int = 1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """An unfinished picture. `index` counts the wished pictures from 0, `progress` all to 1."""

    index: int
    data: bytes
    media_type: str
    progress: float
    stage: str


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A finished picture, untrusted bytes like any upload's."""

    index: int
    data: bytes
    progress: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What one model can do. Sizes are pixels."""

    name: str
    max_count: int
    min_side: int
    max_side: int


class ImageProvider(Protocol):
    """Makes pictures. One instance serves the whole process, many jobs at once."""

    name: str
    models: tuple[ModelInfo, ...]
    makes_ai_images: bool
    """Whether its pictures must be marked as made by an AI model."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[Preview | GeneratedImage]:
        """Yield Previews, and each of the `request.count` GeneratedImages as it is done.

        Closing the iterator, or cancelling the task that reads it, stops the work.
        Raises Refused (do not retry), RateLimited (retry after `retry_after` seconds)
        or ProviderUnavailable (retry with backoff).
        """
        ...
