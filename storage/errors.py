"""Everything a caller may expect to go wrong, as one tree.

LibraryError
├─ NotFound       no such thing, or not the viewer's: we do not tell which
├─ Conflict       the thing has changed meanwhile, or was asked for differently before
│  ├─ ImageInUse     … the picture still stands in a content
│  └─ DuplicateImage … another picture in the library has these bytes
├─ Rejected       the input is at fault; the same call will fail again
│  ├─ BudgetExceeded … it would cost more than is left
│  └─ Refused        … by a provider (generation/errors.py)
└─ Unavailable    something we depend on failed; the same call may work later
   └─ RateLimited    … after `retry_after` seconds

Anything else is a bug: logged with its traceback, shown as "Internal server error."
"""

from decimal import Decimal
from typing import ClassVar
from uuid import UUID


class LibraryError(Exception):
    """An expected failure. Its message is written for the client to read.

    `remedy` is what to do about it, where that is not said in the message. `is_retryable` tells
    whether the same call may work later.
    """

    code: ClassVar[str] = "LIBRARY_ERROR"
    remedy: ClassVar[str | None] = None
    is_retryable: bool = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFound(LibraryError):
    """`what` is the kind of thing, e.g. `image`; `id` is what was asked for."""

    code = "NOT_FOUND"

    def __init__(self, what: str, id: UUID | str | None = None) -> None:
        super().__init__(f"There is no such {what}, or it is not yours.")
        self.what = what
        self.id = id


class Conflict(LibraryError):
    """Read the thing again and decide anew."""

    code = "CONFLICT"


class IdempotencyMismatch(Conflict):
    """The key was used before, for a different request."""

    code = "IDEMPOTENCY_MISMATCH"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was already used with other arguments. "
            "Send the first arguments again, or a new key."
        )


class ImageInUse(Conflict):
    """`attachment_ids` name the places that still show the picture."""

    code = "IN_USE"

    def __init__(self, attachment_ids: list[UUID]) -> None:
        count = len(attachment_ids)
        places = "1 post" if count == 1 else f"{count} posts"
        super().__init__(
            f"The image is attached to {places}. Detach it first, or delete it with force: true."
        )
        self.attachment_ids = attachment_ids


class DuplicateImage(Conflict):
    """`image_id` is the picture that has the same bytes."""

    def __init__(self, image_id: UUID) -> None:
        super().__init__(
            "The library has a picture with these very bytes. Use that one, or delete it first."
        )
        self.image_id = image_id


class Rejected(LibraryError):
    """`limit` and `actual` are in the unit that the message names; `field` is the input's name."""

    code = "INVALID"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
    ) -> None:
        super().__init__(message)
        self.field = field
        self.limit = limit
        self.actual = actual


class TooLong(Rejected):
    code = "TOO_LONG"


class TooLarge(Rejected):
    code = "TOO_LARGE"


class TooManyPixels(Rejected):
    code = "TOO_MANY_PIXELS"


class UnsupportedMediaType(Rejected):
    code = "UNSUPPORTED_MEDIA_TYPE"


class CorruptFile(Rejected):
    code = "CORRUPT_FILE"


class BudgetExceeded(Rejected):
    """US dollars: `remaining` is left of this month's budget, `estimated` would be needed."""

    code = "BUDGET_EXCEEDED"

    def __init__(self, message: str, *, remaining: Decimal, estimated: Decimal) -> None:
        super().__init__(message, limit=float(remaining), actual=float(estimated))
        self.remaining = remaining
        self.estimated = estimated


class UnreachableUrl(Rejected):
    """One sentence whatever is behind it: it must not tell what our network looks like."""

    code = "UNREACHABLE_URL"

    def __init__(self) -> None:
        super().__init__(
            "No picture can be had from this URL. Give the public http or https address of a "
            "picture file.",
            field="url",
        )


class Unavailable(LibraryError):
    """`retry_after` is in seconds, where it is known."""

    code = "UNAVAILABLE"
    is_retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Unavailable):
    """Too much at once. The same call will work after `retry_after` seconds."""

    code = "RATE_LIMITED"
