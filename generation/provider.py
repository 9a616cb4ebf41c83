"""What Darkroom asks of whoever makes pictures."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable
from uuid import UUID

from storage.errors import LibraryError

Size = tuple[int, int]
"""Width and height in pixels."""

Fetch = Callable[[str], Awaitable[bytes]]
"""Downloads what a provider's URL names, from hosts that are allowed and within bounds.

Raises ProviderUnavailable.
"""

Quarter = Callable[[bytes], Awaitable[Sequence[bytes]]]
"""Cuts a picture into its four quarters, from the top left by rows, each a PNG.

The bytes are untrusted, so this happens in a process that can be killed. Raises Rejected.
"""


class Quality(StrEnum):
    """How much care, and money, goes into a picture."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Background(StrEnum):
    OPAQUE = "opaque"
    TRANSPARENT = "transparent"


@dataclass(frozen=True, slots=True)
class InputImage:
    """A picture that a provider is shown: the clean file of an image in the library."""

    data: bytes
    media_type: str
    width: int
    height: int

    @property
    def extension(self) -> str:
        return self.media_type.removeprefix("image/")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One wish for `count` pictures, already checked against the abilities of `model`.

    `width` and `height` are what the provider's `size_for` gave. `seed` makes a repeat give the
    same pictures, where the provider can do that. With `references` it is an edit: the first is
    the picture to change, and the `mask`, of its size, is transparent where that may happen.
    `asked_by` is a pseudonym of who asks. `task` is what an earlier run, which was interrupted,
    told in TaskStarted: go on with that and submit nothing.
    """

    id: UUID
    model: str
    prompt: str
    width: int
    height: int
    count: int = 1
    quality: Quality | None = None
    background: Background | None = None
    negative_prompt: str | None = None
    style: str | None = None
    seed: int | None = None
    references: Sequence[InputImage] = ()
    mask: InputImage | None = None
    asked_by: str = ""
    task: str | None = None


# ---- What comes back, in the order in which it happens -------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """The provider works on this, by its own name. It is kept before anything else is asked."""

    task: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far all pictures are, 0 to 1; None where the provider does not say."""

    stage: str
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """An unfinished picture. `index` counts the wished pictures from 0, `progress` all to 1."""

    index: int
    data: bytes
    media_type: str
    progress: float
    stage: str


@dataclass(frozen=True, slots=True)
class Charged:
    """US dollars that the provider takes, beside those told before. Comes before what they buy."""

    cost: Decimal


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A finished picture, untrusted bytes like any upload's."""

    index: int
    data: bytes
    progress: float
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class ImageFailed:
    """One of several pictures will not come. The others still may."""

    index: int
    reason: LibraryError


Event = TaskStarted | Progressed | Preview | Charged | GeneratedImage | ImageFailed


# ---- Who makes them, and what each can do --------------------------------------------------------


REFERENCE_SIDE = 2048
"""Pixels: providers work on less, and take no file of more than some megabytes."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What one model can do. Sides are pixels; `sizes` are examples, or all there are.

    A reference is scaled to fit into a square of `reference_side`.

    Where `draws_one_by_one`, several pictures take several times as long. `warning` is what whoever
    asks for it should know all the same.

    `price` is in US dollars for one picture of the first size in medium quality, None where nobody
    knows. `seconds` is how long one picture usually takes.
    """

    name: str
    max_count: int
    min_side: int
    max_side: int
    sizes: Sequence[Size] = ()
    qualities: Sequence[Quality] = ()
    styles: Sequence[str] = ()
    min_references: int = 0
    max_references: int = 0
    reference_side: int = REFERENCE_SIDE
    supports_mask: bool = False
    supports_seed: bool = False
    supports_negative_prompt: bool = False
    supports_transparency: bool = False
    streams_previews: bool = False
    price: Decimal | None = None
    seconds: float = 30.0
    draws_one_by_one: bool = False
    shutdown_date: date | None = None
    replaced_by: str | None = None
    warning: str | None = None


def plain(name: str) -> str:
    """In lower case with hyphens: people write `DALL_E_3` and mean `dall-e-3`."""
    return name.strip().casefold().replace("_", "-")


class ImageProvider(Protocol):
    """Makes pictures. One instance serves the whole process, many jobs at once.

    A class may inherit from it, and then says only what it does otherwise than most.
    """

    name: str
    makes_ai_images: bool = True
    """Whether its pictures must be marked as made by an AI model."""

    @property
    def former_models(self) -> Mapping[str, str]:
        """Names that clients may still say, `plain`, and the model that answers."""
        return {}

    @property
    @abstractmethod
    def models(self) -> Sequence[ModelInfo]:
        """The default first. May change when `refresh` has learnt something."""

    async def refresh(self) -> None:
        """Ask the provider what it offers today, where it tells. Raises LibraryError."""
        return  # most do not tell

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        """The size that comes closest to what is wanted, of those it makes. Raises Rejected."""
        shrunk = min(1, model.max_side / max(width, height))
        return (
            max(model.min_side, round(width * shrunk)),
            max(model.min_side, round(height * shrunk)),
        )

    def estimate(self, request: GenerationRequest) -> Decimal:
        """US dollars that the request will cost at most, as well as that can be known."""
        model = next(each for each in self.models if each.name == request.model)
        return (model.price or Decimal(0)) * request.count

    @abstractmethod
    def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """Make the pictures, telling each event as it happens; Previews only while it is worth it.

        Calls the provider once and repeats nothing, since that may be paid for. Whoever closes the
        iterator, or cancels the task that reads it, is told nothing more, and what the call holds
        is let go. Work that was told in TaskStarted goes on all the same, and the next run asks
        after it: only `cancel` ends that, see CancelsTasks. Raises Refused, ProviderRejected,
        RateLimited, ProviderUnavailable, ProviderAuth, ProviderQuota, or OutcomeUnknown (all in
        generation.errors).
        """


@runtime_checkable
class CancelsTasks(Protocol):
    """A provider whose task, once it has told TaskStarted, goes on whoever listens.

    To leave `generate` must not end the task then: a process that stops leaves it, too, and the
    next run asks after what is paid for.
    """

    async def cancel(self, task: str) -> None:
        """Nobody wants it any more: end it, if that can be done. Raises LibraryError."""
        ...
