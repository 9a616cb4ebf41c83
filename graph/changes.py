"""What changes in the library, for whoever keeps a page of it on the screen."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime

import strawberry

from graph.context import Info
from graph.ids import id_of
from graph.images import Image
from storage.changes import Change
from storage.models import now


@strawberry.interface(description="Something that happened in the viewer's workspace.")
class LibraryEvent:
    at: datetime = strawberry.field(description="When it was told.")


@strawberry.type(
    description="Anything may have changed: query what you show once more. The first event of a "
    "stream, and one after a break that may have hidden others."
)
class LibraryReset(LibraryEvent):
    pass


@strawberry.type(description="An image came into the library.")
class ImageAdded(LibraryEvent):
    image: Image = strawberry.field(description="The image.")


@strawberry.type(
    description="An image changed, is used otherwise, or came back from the trash: put it where "
    "your sort wants it, and take it out where your filter does not want it any more."
)
class ImageChanged(LibraryEvent):
    image: Image = strawberry.field(description="The image as it is now.")


@strawberry.type(description="An image went into the trash, or out of it for good.")
class ImageDeleted(LibraryEvent):
    image_id: strawberry.ID = strawberry.field(description="Which one.")
    is_purged: bool = strawberry.field(
        description="Whether it is gone for good; else it is in the trash."
    )


def _event(change: Change) -> LibraryEvent:
    if change.image is None:
        id = id_of("Image", change.image_id)
        return ImageDeleted(at=now(), image_id=id, is_purged=change.is_purged)
    image = Image.from_row(change.image)
    return (
        ImageAdded(at=now(), image=image) if change.is_new else ImageChanged(at=now(), image=image)
    )


@strawberry.type
class ChangeSubscriptions:
    @strawberry.subscription(
        description="The images of the viewer's workspace that come, change, are used otherwise "
        "or go, from now on. Begins with a LibraryReset: query then, and apply what follows."
    )
    async def library_changed(self, info: Info) -> AsyncIterator[LibraryEvent]:
        async with aclosing(info.context.changes.watch(info.context.viewer)) as told:
            async for changes in told:
                # The loaders remember what they saw, and the next event must see anew.
                info.context.forget()
                if not changes:
                    yield LibraryReset(at=now())
                for change in changes:
                    yield _event(change)


TYPES = [LibraryReset, ImageAdded, ImageChanged, ImageDeleted]
