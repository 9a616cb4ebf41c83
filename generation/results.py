"""What becomes of a provider's results before we touch them: fetched with care, cut elsewhere.

A provider's answer may name a URL, or be one picture that holds four; neither is trusted more than
what a stranger sends.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread
from yarl import URL

from generation.errors import ProviderUnavailable
from storage.containers import Bounds
from storage.decoders import Decoders
from storage.errors import RateLimited, TooLarge, UnreachableUrl
from storage.fetching import Fetcher

CHUNK = 256 * 1024


class Results:
    """A Fetch of at most `max_bytes`. `fetcher` is open, and knows which hosts are allowed."""

    def __init__(self, fetcher: Fetcher, *, max_bytes: int) -> None:
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    async def __call__(self, url: str) -> bytes:
        """Raises ProviderUnavailable, which names the host: the rest of the URL may be a secret."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with self._fetcher.fetch(url) as source:
                while chunk := await source.read(CHUNK):
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > self._max_bytes:
                        raise _too_large(url)
        except UnreachableUrl:
            raise ProviderUnavailable(
                f"The provider's picture cannot be fetched from {_host(url)}."
            ) from None
        except TooLarge:
            raise _too_large(url) from None
        except RateLimited as refusal:  # by ourselves: the provider has been paid all the same
            raise ProviderUnavailable(
                "Too many pictures are being fetched from providers just now.",
                retry_after=refusal.retry_after,
            ) from None
        return b"".join(chunks)


class Quarters:
    """A Quarter: pictures go to the decoders by way of `folder`, or of the system's own."""

    def __init__(self, folder: Path | None, decoders: Decoders, *, bounds: Bounds) -> None:
        self._folder = folder
        self._decoders = decoders
        self._bounds = bounds

    async def __call__(self, data: bytes) -> Sequence[bytes]:
        """Leaves no file behind. Raises Rejected in its many forms, and ProviderUnavailable."""
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="grid-") as name:
            folder = Path(name)
            source = folder / "source"
            await to_thread.run_sync(source.write_bytes, data)
            try:
                paths = await self._decoders.quarter(source, folder, self._bounds)
            except RateLimited as refusal:  # by ourselves, as above
                raise ProviderUnavailable(
                    "Too many pictures are being taken in just now.",
                    retry_after=refusal.retry_after,
                ) from None
            return [await to_thread.run_sync(path.read_bytes) for path in paths]


def _too_large(url: str) -> ProviderUnavailable:
    return ProviderUnavailable(f"The provider's picture at {_host(url)} is larger than we accept.")


def _host(url: str) -> str:
    try:
        return URL(url).host or "an address without a host"
    except ValueError:
        return "an address that cannot be read"
