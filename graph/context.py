"""What a resolver may use: made anew for every operation, and never holding a session."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias, TypeVar
from uuid import UUID

import strawberry
from strawberry.dataloader import DataLoader

from generation.studio import Studio
from graph.delivery import SignedUrls
from storage.changes import Changes
from storage.contents import Contents
from storage.cursors import Page, PageRequest
from storage.direct_uploads import DirectUploads
from storage.errors import Rejected
from storage.generations import Generations
from storage.imports import Imports
from storage.ledger import Ledger
from storage.library import Library
from storage.models import Attachment, Content, Generation, Image, ImageVersion
from storage.trash import Trash
from storage.versions import Versions
from storage.viewers import Viewer

Found = TypeVar("Found")


class Context:
    """The viewer, the use cases, and loaders that turn a list's many look-ups into one query."""

    def __init__(
        self,
        viewer: Viewer,
        *,
        library: Library,
        versions: Versions,
        trash: Trash,
        direct_uploads: DirectUploads,
        imports: Imports,
        contents: Contents,
        generations: Generations,
        changes: Changes,
        ledger: Ledger,
        studio: Studio,
        urls: SignedUrls,
    ) -> None:
        self.viewer = viewer
        self.library = library
        self.versions = versions
        self.trash = trash
        self.direct_uploads = direct_uploads
        self.imports = imports
        self.contents = contents
        self.generations = generations
        self.changes = changes
        self.ledger = ledger
        self.studio = studio
        self.urls = urls

    @cached_property
    def image(self) -> DataLoader[UUID, Image | None]:
        return self._loader(self.library.images_by_id)

    @cached_property
    def versions_of_image(self) -> DataLoader[UUID, list[ImageVersion]]:
        return self._loader(self.versions.of_images)

    @cached_property
    def content(self) -> DataLoader[UUID, Content | None]:
        return self._loader(self.contents.by_id)

    @cached_property
    def generation(self) -> DataLoader[UUID, Generation | None]:
        return self._loader(self.generations.by_id)

    @cached_property
    def attachment(self) -> DataLoader[UUID, Attachment | None]:
        return self._loader(self.contents.attachments_by_id)

    @cached_property
    def attachments_of_content(self) -> DataLoader[UUID, list[Attachment]]:
        return self._loader(self.contents.attachments_of_contents)

    @cached_property
    def usages_of_image(self) -> DataLoader[tuple[UUID, PageRequest], Page[Attachment]]:
        return DataLoader(load_fn=self._usages)

    @cached_property
    def images_of_generation(self) -> DataLoader[UUID, list[Image]]:
        return self._loader(self.library.images_of_generations)

    def forget(self) -> None:
        """Let the loaders see anew, for the next event of a subscription."""
        for name in [name for name, value in vars(self).items() if isinstance(value, DataLoader)]:
            delattr(self, name)

    async def _usages(
        self, keys: Sequence[tuple[UUID, PageRequest]]
    ) -> Sequence[Page[Attachment] | BaseException]:
        """One query for all images of which the same page is asked."""
        found: dict[tuple[UUID, PageRequest], Page[Attachment] | BaseException] = {}
        for request in dict.fromkeys(request for _, request in keys):
            ids = [id for id, asked in keys if asked == request]
            try:
                pages = await self.contents.usages_of_images(self.viewer, ids, request)
            except Rejected as refused:  # its cursor, and not that of another page
                found |= {(id, request): refused for id in ids}
            else:
                found |= {(id, request): page for id, page in zip(ids, pages, strict=True)}
        return [found[key] for key in keys]

    def _loader(
        self, find: Callable[[Viewer, Sequence[UUID]], Awaitable[list[Found]]]
    ) -> DataLoader[UUID, Found]:
        async def load(ids: Sequence[UUID]) -> list[Found]:
            return await find(self.viewer, ids)

        return DataLoader(load_fn=load)


Info: TypeAlias = strawberry.Info[Context, None]
ConnectionParams: TypeAlias = Mapping[str, object]
