"""Relay's pages: checked arguments in, `pageInfo` out."""

from typing import Annotated, TypeVar

import strawberry
from strawberry import relay

from storage.cursors import Page, PageRequest
from storage.errors import Rejected

DEFAULT = 20
MAX = 100

First = Annotated[
    int | None,
    strawberry.argument(description=f"How many from the front, 1 to {MAX}. Default: {DEFAULT}."),
]
After = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor.")]
Last = Annotated[
    int | None, strawberry.argument(description=f"How many from the back, 1 to {MAX}.")
]
Before = Annotated[
    str | None, strawberry.argument(description="Only what comes before this cursor.")
]

Row = TypeVar("Row")


def page_request(
    first: int | None, after: str | None, last: int | None = None, before: str | None = None
) -> PageRequest:
    """Raises Rejected for what makes no page, rather than to guess what was meant."""
    backwards = last is not None or before is not None
    if backwards and (first is not None or after is not None):
        raise Rejected(
            "Page forwards with first and after, or backwards with last and before, not both.",
            field="first" if first is not None else "after",
        )
    name, size = ("last", last) if backwards else ("first", first)
    if size is None:
        size = DEFAULT
    if not 1 <= size <= MAX:
        raise Rejected(
            f"{name} must be 1 to {MAX}, not {size}. Fetch more page by page.",
            field=name,
            limit=1 if size < 1 else MAX,
            actual=size,
        )
    return PageRequest(size=size, cursor=before if backwards else after, backwards=backwards)


def page_info(page: Page[Row]) -> relay.PageInfo:
    return relay.PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=page.cursors[0] if page.cursors else None,
        end_cursor=page.cursors[-1] if page.cursors else None,
    )
