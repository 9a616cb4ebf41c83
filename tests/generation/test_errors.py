"""What a failure says of itself: above all, whether it is worth asking again."""

import pytest

from generation.errors import (
    NotSent,
    OutcomeUnknown,
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from storage.errors import Conflict, LibraryError, NotFound, RateLimited, Rejected
from storage.generations import Failure


@pytest.mark.parametrize(
    ("error", "is_retryable"),
    [
        (RateLimited("Slow down.", retry_after=1), True),
        (ProviderUnavailable("It is down."), True),
        (NotSent("It is away."), True),
        (OutcomeUnknown("The line was cut."), True),
        (ProviderAuth("Not this key."), False),
        (ProviderQuota("The money is gone."), False),
        (ProviderRejected("It cannot."), False),
        (Rejected("Nobody can."), False),
        (Conflict("It has changed."), False),
        (NotFound("image"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_retryable_where_asking_again_may_help_and_nobody_has_to_do_anything_first(
    error: LibraryError, is_retryable: bool
) -> None:
    assert Failure.of(error).is_retryable is is_retryable


@pytest.mark.parametrize(
    ("stage", "is_retryable"), [("input", False), ("output", True), (None, True)]
)
def test_a_refusal_is_retryable_unless_the_words_themselves_were_minded(
    stage: str | None, is_retryable: bool
) -> None:
    """The same harmless words may be blocked once and pass the next time."""
    assert Failure.of(Refused("Not this.", stage=stage)).is_retryable is is_retryable
