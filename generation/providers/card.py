"""The built-in provider that never fails: a designed picture of a post's own words, no AI model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from decimal import Decimal
from io import BytesIO
from random import Random

import anyio
import anyio.to_thread
from PIL import Image

from generation.cards.canvas import Canvas
from generation.cards.layouts import LAYOUTS, Layout
from generation.cards.lettering import glyph_finder, letter
from generation.cards.palette import Palette, pick_palette
from generation.cards.wording import Wording, read_post
from generation.provider import Event, GeneratedImage, GenerationRequest, ModelInfo, Preview, Size
from storage.errors import Rejected

_STAGES = 4  # background, ornament, words, and the finished file
_PREVIEW_SIDE = 512


class CardProvider:
    """Its previews are the stages of drawing; `stage_seconds` slows them down for the eye."""

    name = "card"
    models: Sequence[ModelInfo] = (
        ModelInfo(
            name="card",
            max_count=10,
            min_side=64,
            max_side=4096,
            sizes=((1080, 1350), (1080, 1080), (1080, 1920)),
            supports_seed=True,
            streams_previews=True,
            price=Decimal(0),
            seconds=1,
            draws_one_by_one=True,
        ),
    )
    makes_ai_images = False
    former_models: Mapping[str, str] = {}  # nobody changes it

    def __init__(self, *, stage_seconds: float = 0.0) -> None:
        self._stage_seconds = stage_seconds

    async def refresh(self) -> None:
        """There is nobody to ask."""

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        for name, side in (("width", width), ("height", height)):
            if not model.min_side <= side <= model.max_side:
                raise Rejected(
                    f"{model.name} makes pictures of {model.min_side} to {model.max_side} pixels "
                    f"a side; {name} is {side}.",
                    field=name,
                    limit=model.max_side if side > model.max_side else model.min_side,
                    actual=side,
                )
        return width, height

    def estimate(self, request: GenerationRequest) -> Decimal:
        return Decimal(0)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        done = 0
        for index in range(request.count):
            drawing = _draw(request, index)
            for _ in range(_STAGES):
                stage, data = await anyio.to_thread.run_sync(next, drawing)
                done += 1
                progress = done / (request.count * _STAGES)
                if stage == "finished":
                    yield GeneratedImage(index, data, progress)
                else:
                    yield Preview(index, data, "image/jpeg", progress, stage)
                    await anyio.sleep(self._stage_seconds)


def _draw(request: GenerationRequest, index: int) -> Iterator[tuple[str, bytes]]:
    """Each stage's name and a JPEG, small but for the last, which is the picture."""
    wording = read_post(request.prompt, glyph_finder())
    # The request's pictures take turns at one shuffled order of layouts and palettes.
    order = _random(request, "order")
    layouts = order.sample(LAYOUTS, len(LAYOUTS))
    palette = pick_palette(order, variation=index)
    canvas = Canvas(
        request.width,
        request.height,
        _random(request, f"picture {index}"),
        mirrored=wording.right_to_left,
    )
    for stage in paint(canvas, palette, wording, layouts[index % len(layouts)]):
        yield stage, _preview(canvas.image)
    yield "finished", _jpeg(canvas.image, quality=92)


def paint(canvas: Canvas, palette: Palette, wording: Wording, layout: Layout) -> Iterator[str]:
    """Paint all, pausing after each stage to tell its name."""
    frame = yield from layout(canvas, palette, bool(wording.statement))
    if wording.statement:
        letter(canvas, palette, wording, frame)
    yield "words"


def _random(request: GenerationRequest, purpose: str) -> Random:
    """The same for the same words and seed, in any format, on any machine."""
    seed = f"{purpose}\n{request.seed}\n{request.prompt}"
    return Random(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest())


def _preview(image: Image.Image) -> bytes:
    return _jpeg(image.reduce(math.ceil(max(image.size) / _PREVIEW_SIDE)), quality=70)


def _jpeg(image: Image.Image, *, quality: int) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:4:4")
    return file.getvalue()
