"""What a page of images costs the processor, completed by graphql-core and by compiled plans.

    python -m benchmarks.executor

From the operation's text, parsed and validated before, to the answer's bytes, without database and
HTTP. The images are there already as what resolvers return; in the last page they are only there
as rows, and the library's own resolver makes them. The figure to read is the ratio.
"""

import asyncio
import statistics
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import UUID

import orjson
import strawberry
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext as StockExecutor

from graph.context import Context
from graph.delivery import SignedUrls
from graph.executor import CompiledExecutor
from graph.images import Image
from graph.operations import Limits, Operations
from graph.scalars import SCALARS
from graph.schema import create_schema
from storage import models
from storage.search import Page

IMAGES = 50
ROUNDS = 7
TIMES = 40

FIELDS = (
    "id version origin isAiGenerated filename title altText tags isFavorite mimeType byteSize "
    "width height createdAt updatedAt"
)
SIX_MORE = "sha256 orientation dominantColor thumbhash perceptualHash frames"
URLS = "url rendition(width: 320) { url }"

PAGES: Final = {
    "15 fields": f"{{ ready {{ {FIELDS} }} }}",
    "21 fields": f"{{ ready {{ {FIELDS} {SIX_MORE} }} }}",
    "15 fields, 2 signed URLs": f"{{ ready {{ {FIELDS} {URLS} }} }}",
    "15 fields, 1 asynchronous": f"{{ ready {{ {FIELDS} parent {{ id }} }} }}",
    "15 fields, made from rows": f"{{ images {{ nodes {{ {FIELDS} }} }} }}",
}


@strawberry.type
class Query:
    @strawberry.field
    def ready(self, info: strawberry.Info[Any, None]) -> list[Image]:
        return info.context.ready  # type: ignore[no-any-return]  # made below


LIBRARY: Final = create_schema(Limits())
READY: Final = strawberry.Schema(
    Query,
    extensions=[Operations.with_limits(Limits())],
    config=StrawberryConfig(scalar_map=SCALARS),
)


def main() -> None:
    context = _context([_row(number) for number in range(IMAGES)])
    print(f"| {IMAGES} images with | graphql-core | compiled | JSON alone | faster by |")
    print("| --- | --- | --- | --- | --- |")
    for name, query in PAGES.items():
        schema = READY if "ready" in query else LIBRARY
        answer = asyncio.run(_run(schema, StockExecutor, query, context))
        assert asyncio.run(_run(schema, CompiledExecutor, query, context)) == answer
        stock, compiled, written = [], [], []
        for _ in range(ROUNDS):
            stock.append(_many(schema, StockExecutor, query, context))
            compiled.append(_many(schema, CompiledExecutor, query, context))
            began = time.process_time()
            for _ in range(TIMES):
                orjson.dumps(answer)
            written.append((time.process_time() - began) / TIMES * 1000)
        times = [statistics.median(each) for each in (stock, compiled, written)]
        print(f"| {name} | {' | '.join(f'{t:.2f}' for t in times)} | {times[0] / times[1]:.1f} |")


def _many(
    schema: strawberry.Schema, executor: type[StockExecutor], query: str, context: Context
) -> float:
    """CPU milliseconds an operation."""

    async def run() -> None:
        for _ in range(TIMES):
            orjson.dumps(await _run(schema, executor, query, context))

    began = time.process_time()
    asyncio.run(run())
    return (time.process_time() - began) / TIMES * 1000


async def _run(
    schema: strawberry.Schema, executor: type[StockExecutor], query: str, context: Context
) -> Any:
    schema.execution_context_class = executor
    result = await schema.execute(query, context_value=context)
    assert not result.errors, result.errors
    return result.data


def _context(rows: list[models.Image]) -> Context:
    """What these resolvers ask of one."""
    page = Page(rows, [str(n) for n in range(IMAGES)], has_next=True, has_previous=False)

    async def images(*_: object) -> Page[models.Image]:
        return page

    return cast(
        Context,
        SimpleNamespace(
            viewer=None,
            ready=[Image.from_row(row) for row in rows],
            library=SimpleNamespace(images=images),
            urls=SignedUrls("https://darkroom.example", [b"k" * 32]),
        ),
    )


def _row(number: int) -> models.Image:
    at = datetime(2026, 11, 25, 12, 0, number, tzinfo=UTC)
    image = models.Image(
        id=UUID(int=number),
        workspace_id=UUID(int=1),
        version=1,
        origin=models.ImageOrigin.UPLOADED,
        is_ai_generated=False,
        filename=f"IMG_{number}.jpg",
        title="The harbour in the morning",
        alt_text="Fishing boats at a quay, the sun behind them.",
        is_favorite=False,
        media_type="image/jpeg",
        byte_size=2_400_000 + number,
        sha256=f"{number:064x}",
        source_sha256=f"{number:064x}",
        object_key=f"images/{number}",
        has_alpha=False,
        width=4032,
        height=3024,
        dominant_color="#c08040",
        thumbhash="1QcSHQRnh493V4dIh4eXh1h4kJUI",
        perceptual_hash="c3c3e1f0f0783c1e",
        frames=1,
        source_media_type="image/jpeg",
        declares_ai=False,
        has_c2pa=False,
        created_at=at,
        updated_at=at,
    )
    image.tag_rows = [models.ImageTag(image_id=image.id, tag=tag) for tag in ("boats", "harbour")]
    return image


if __name__ == "__main__":
    main()
