"""The storage's enums, as the schema tells them: every value with its description."""

from enum import Enum, StrEnum

import strawberry

from generation.provider import Background, Quality
from generation.studio import Target
from storage.filters import Usage
from storage.models import (
    ContentState,
    EntryState,
    GenerationStatus,
    ImageOrigin,
    Orientation,
    Platform,
)
from storage.rendering import Fit
from storage.renditions import ImageFormat
from storage.search import SortField


class SortDirection(StrEnum):
    ASC = "asc"
    DESC = "desc"


class Presence(StrEnum):
    PRESENT = "present"
    MISSING = "missing"


def _describe(kind: type[Enum], name: str, description: str, **values: str) -> None:
    """Make an enum of ours known to Strawberry. Every value must be described, and no other."""
    definition = strawberry.enum(kind, name=name, description=description).__strawberry_definition__  # type: ignore[attr-defined]  # set by the line itself
    if {value.name for value in definition.values} != values.keys():
        raise TypeError(f"{name} has other values than are described")
    for value in definition.values:
        value.description = values[value.name]


_describe(
    ImageOrigin,
    "ImageOrigin",
    "How a picture came into the library.",
    UPLOADED="Somebody sent the file.",
    GENERATED="A provider made it, see `Image.generation`.",
    IMPORTED="It was fetched from the web.",
)
_describe(
    Orientation,
    "Orientation",
    "The shape of a picture, as displayed.",
    LANDSCAPE="Wider than high.",
    PORTRAIT="Higher than wide.",
    SQUARE="As wide as high.",
)
_describe(
    Usage,
    "UsageFilter",
    "Whether, and by what kind of content, a picture is used.",
    UNUSED="Attached to no content.",
    USED="Attached to any content.",
    DRAFT="Attached to a content that is a draft.",
    SCHEDULED="Attached to a content that is scheduled.",
    PUBLISHED="Attached to a content that was published.",
)
_describe(
    SortField,
    "ImageSortField",
    "What images can be sorted by.",
    CREATED_AT="When the image came into the library.",
    UPDATED_AT="When its title, alt text, tags or mark last changed.",
    FILENAME="The name of the uploaded file, in any case, with or without accents; images without "
    "one come first.",
    BYTE_SIZE="The size of the file.",
    RELEVANCE="How well it answers to the search: words of its filename, title and tags count more "
    "than those of its alt text and prompt, whole words more than their beginnings.",
)
_describe(
    Fit,
    "Fit",
    "How a rendition fills its width and height. Only PAD enlarges.",
    INSIDE="The whole picture, as large as fits.",
    COVER="The whole frame, cropped around the focal point.",
    CONTAIN="The whole picture, with bars that give it the frame's shape.",
    PAD="The whole picture, with bars that fill the frame exactly.",
)
_describe(
    ImageFormat,
    "ImageFormat",
    "What a rendition is encoded as.",
    AUTO="AVIF, WebP or JPEG: the best that the browser's `Accept` names.",
    JPEG="JPEG, without transparency.",
    WEBP="WebP.",
    AVIF="AVIF: the smallest files, the slowest to make.",
    PNG="PNG: without loss.",
)
_describe(
    ContentState,
    "ContentState",
    "How far a post in the making has come, as its own system says.",
    DRAFT="Being written.",
    SCHEDULED="Will be published at `scheduledAt`.",
    PUBLISHED="Is out.",
)
_describe(
    Platform, "Platform", "Where a post is to appear.", INSTAGRAM="Instagram, feed or stories."
)
_describe(
    GenerationStatus,
    "GenerationStatus",
    "How far a generation has come. The last three are final.",
    QUEUED="Waiting for its turn.",
    RUNNING="The provider is at work.",
    SUCCEEDED="Its pictures are in the library; `failure` tells of those that have not come.",
    FAILED="It ended early, see `failure`; pictures that came before are in the library.",
    CANCELLED="A viewer stopped it; pictures that came before are in the library.",
)
_describe(
    Target,
    "PublishTarget",
    "Where a picture is to be shown, which decides its shape.",
    INSTAGRAM_FEED="A post in the feed: 4:5, 1080 x 1350 pixels.",
    INSTAGRAM_STORY="A story: 9:16, 1080 x 1920 pixels.",
)

_describe(
    Quality,
    "GenerationQuality",
    "How much care, and money, goes into a picture.",
    LOW="Good enough to try words out.",
    MEDIUM="Good enough to publish.",
    HIGH="As good as the model can.",
)
_describe(
    Background,
    "Background",
    "What is behind the subject of a picture.",
    OPAQUE="Something.",
    TRANSPARENT="Nothing: one can see through.",
)
_describe(
    EntryState,
    "LedgerState",
    "How surely a cost is known.",
    RESERVED="Set aside: the generation has not ended.",
    SETTLED="What the provider took.",
    ASSUMED="Nobody knows whether the last call was paid for, so it counts as if it were.",
)
_describe(
    Presence,
    "Presence",
    "Whether something is there.",
    PRESENT="It is there.",
    MISSING="It is not.",
)
_describe(
    SortDirection,
    "SortDirection",
    "Which end of an order comes first.",
    ASC="The smallest, or oldest, first.",
    DESC="The largest, or newest, first.",
)
