"""What a provider may answer instead of a picture, as branches of the tree in `storage.errors`."""

from storage.errors import Rejected, Unavailable


class Refused(Rejected):
    """The provider will not draw this. Do not retry: say why, and what to change."""

    code = "CONTENT_POLICY"


class ProviderUnavailable(Unavailable):
    """The provider did not answer, or with a fault of its own. Retry with backoff."""

    code = "PROVIDER_UNAVAILABLE"
