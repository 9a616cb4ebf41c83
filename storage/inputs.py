"""What a client may say of an image: checked, and made fit for both databases."""

from collections.abc import Sequence

from storage.errors import Conflict, Rejected, TooLong

MAX_TAGS = 50
MAX_LENGTH = {"filename": 255, "title": 255, "alt_text": 1000, "tag": 64}


def checked_text(name: str, text: str | None) -> str | None:
    """The text without what no database keeps. Raises TooLong."""
    if text is None:
        return None
    limit = MAX_LENGTH[name]
    if len(text) > limit:
        raise TooLong(
            f"{name} takes at most {limit} characters, not {len(text)}.",
            field=name,
            limit=limit,
            actual=len(text),
        )
    return text.replace("\0", "")


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Trimmed, each once, in alphabetical order. Raises Rejected."""
    names = sorted({(checked_text("tag", tag) or "").strip() for tag in tags})
    if "" in names:
        raise Rejected("A tag is empty. Leave it out.", field="tags")
    if len(names) > MAX_TAGS:
        raise Rejected(
            f"An image takes at most {MAX_TAGS} tags, not {len(names)}.",
            field="tags",
            limit=MAX_TAGS,
            actual=len(names),
        )
    return names


def checked_point(point: tuple[float, float] | None) -> tuple[float | None, float | None]:
    if point is None:
        return None, None
    for value in point:
        if not 0 <= value <= 1:
            raise Rejected(
                f"A focal point is 0 to 1 from the top left, not {value:g}.",
                field="focalPoint",
                limit=0 if value < 0 else 1,
                actual=value,
            )
    return point


def check_version(what: str, actual: int, expected: int | None) -> None:
    if expected is not None and expected != actual:
        raise Conflict(
            f"The {what} has version {actual} by now, not {expected}. "
            "Read it again and decide anew."
        )
