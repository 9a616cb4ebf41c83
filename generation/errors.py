"""What a provider may answer instead of a picture, as branches of the tree in `storage.errors`.

Rejected
├─ Refused              the provider will not draw this
└─ ProviderRejected     it cannot do what was asked
Unavailable
├─ RateLimited          it was asked too often; not billed (storage.errors)
├─ ProviderUnavailable  it did not answer, or with a fault of its own
│  └─ NotSent              … since the request never reached it; not billed
├─ ProviderAuth         it does not accept our key: its operator has to do something first
├─ ProviderQuota        our account with it is used up: likewise
└─ OutcomeUnknown       it was asked, and nobody knows what became of that

After all of them but OutcomeUnknown nothing is owed beyond what was told as Charged. Only after
RateLimited and NotSent may a request be repeated without anybody's word.
"""

from collections.abc import Sequence

from storage.errors import Rejected, Unavailable


class Refused(Rejected):
    """The provider will not draw this. `stage` is `input` or `output`, where it is known.

    `categories` are the provider's own words for what it minds, such as `violence`. Unless it was
    the words that were minded, the same ones may pass the next time: a person may try, and no
    program should.
    """

    code = "CONTENT_POLICY"
    remedy = "Say it in other words, and leave out what the provider may mind."

    def __init__(
        self, message: str, *, stage: str | None = None, categories: Sequence[str] = ()
    ) -> None:
        super().__init__(message, field="prompt")
        self.stage = stage
        self.is_retryable = stage != "input"
        self.categories = tuple(categories)


class ProviderRejected(Rejected):
    """The provider cannot do what was asked. Its own words are in the message."""

    remedy = "Change what the message names, and ask for a new generation."


class ProviderUnavailable(Unavailable):
    """The provider did not answer as it should, or with a fault of its own."""

    code = "PROVIDER_UNAVAILABLE"
    remedy = "Try again in a few minutes, or choose another provider."


class NotSent(ProviderUnavailable):
    """The provider could not be reached, so it has done nothing."""


class ProviderAuth(Unavailable):
    """The provider does not accept our key, or does not let it do this."""

    code = "PROVIDER_AUTH"
    is_retryable = False
    remedy = "Whoever operates this service has to set a key that the provider accepts."


class ProviderQuota(Unavailable):
    """The money is gone, at the provider: to wait does not help."""

    code = "PROVIDER_QUOTA"
    is_retryable = False
    remedy = "Whoever operates this service has to top up the account at the provider."


class OutcomeUnknown(Unavailable):
    """The provider was asked, and its answer was lost: it may have been paid, so we ask no more."""

    code = "OUTCOME_UNKNOWN"
    remedy = "Look at the provider's own list of requests, or ask for a new generation."
