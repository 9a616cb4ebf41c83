"""Pictures from the web: fetched with care, then taken in like any other."""

from dataclasses import replace

from storage.fetching import Fetcher
from storage.library import Added, Library, NewImage
from storage.models import ImageOrigin
from storage.viewers import Viewer


class Imports:
    def __init__(self, library: Library, fetcher: Fetcher) -> None:
        self._library = library
        self._fetcher = fetcher

    async def import_image(
        self, viewer: Viewer, url: str, new: NewImage, *, idempotency_key: str | None = None
    ) -> Added:
        """Take in the picture at a public URL.

        A repeat with the key fetches nothing. Raises UnreachableUrl, and what Library.add_image
        raises.
        """
        wanted = replace(new.checked(), origin=ImageOrigin.IMPORTED)
        asked = (url, wanted)
        earlier = await self._library.recall(
            viewer, idempotency_key=idempotency_key, stands_for=asked
        )
        if earlier:
            return earlier
        async with self._fetcher.fetch(url) as source:
            named = replace(wanted, filename=wanted.filename or source.filename)
            return await self._library.add_image(
                viewer, source, named, idempotency_key=idempotency_key, stands_for=asked
            )
