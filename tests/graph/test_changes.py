"""What a page on the screen is told, through the schema and from one process to another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from generation.studio import Wish
from graph.config import Settings
from graph.ids import id_of
from graph.operations import Schema
from graph.parts import Parts, open_parts
from storage.changes import Notice
from storage.contents import ContentPatch
from storage.library import ImagePatch, NewImage
from storage.models import ContentState, GenerationStatus
from storage.viewers import Viewer
from tests.graph.contexts import context_of
from tests.pictures import jpeg
from tests.storage.rows import ON_POSTGRES, insert_generation

LIBRARY_CHANGED = """
subscription {
  libraryChanged {
    kind: __typename
    ... on ImageAdded { image { ...Shown } }
    ... on ImageChanged { image { ...Shown } }
    ... on ImageDeleted { imageId isPurged }
  }
}
fragment Shown on Image { id title usages { nodes { content { state } } } }
"""
SOON = 5.0
"""Seconds: less than those after which progress is read again, told or not."""

Event = dict[str, Any]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]  # pydantic-settings' own
        data_dir=tmp_path,
        objects_url=f"file://{tmp_path}/objects",
        database_url=database_url,  # type: ignore[arg-type]  # pydantic makes it a secret
        signing_keys="k" * 32,  # type: ignore[arg-type]  # and splits these
    )


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    async with open_parts(settings, works=False) as parts:
        yield parts


def viewer_of(parts: Parts) -> Viewer:
    assert parts.local_viewer is not None
    return parts.local_viewer


class Page:
    """A page on the screen: it asks anew at each reset, and hears of what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.came = asyncio.Event()

    async def until(self, is_enough: Callable[[list[Event]], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not is_enough(self.events):
                self.came.clear()
                await self.came.wait()

    async def listen(self, schema: Schema, parts: Parts) -> None:
        context = context_of(parts, viewer_of(parts))
        async for result in await schema.subscribe(LIBRARY_CHANGED, context_value=context):
            assert not result.errors
            assert result.data is not None
            self.events.append(result.data["libraryChanged"])
            self.came.set()


@asynccontextmanager
async def on_the_screen(schema: Schema, parts: Parts) -> AsyncIterator[Page]:
    """The page is connected, and so is what it is told by: all events from now on are news."""
    page = Page()
    listening = asyncio.create_task(page.listen(schema, parts))
    is_heard = False
    while not is_heard:
        nobodys = uuid4()
        deletion = {"kind": "ImageDeleted", "imageId": id_of("Image", nobodys), "isPurged": True}
        async with parts.database.writing() as session:
            await parts.changes.tell(session, [Notice(viewer_of(parts).workspace_id, nobodys)])
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await page.until(partial(contains, deletion))
                is_heard = True
    page.events.clear()
    yield page
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def contains(event: Event, events: list[Event]) -> bool:
    return event in events


async def test_each_act_is_told_as_what_it_is(schema_of_the_library: Schema, parts: Parts) -> None:
    viewer = viewer_of(parts)
    library, contents, trash = parts.library, parts.contents, parts.trash
    post = await contents.save(viewer, ContentPatch(external_id="post"))

    async with on_the_screen(schema_of_the_library, parts) as page:

        async def told(act: Awaitable[Any]) -> Any:
            """Waits for one event."""
            known = len(page.events)
            done = await act
            await page.until(lambda events: len(events) > known)
            return done

        image = (await told(library.add_image(viewer, jpeg(), NewImage()))).image
        await told(contents.attach(viewer, post.id, [image.id]))
        await told(contents.save(viewer, ContentPatch(state=ContentState.PUBLISHED), id=post.id))
        patch = ImagePatch(title="New")
        await told(library.update_image(viewer, image.id, patch, expected_version=None))
        await told(trash.delete(viewer, [image.id], force=True))
        await told(trash.restore(viewer, [image.id]))
        await told(trash.delete(viewer, [image.id], force=True))
        await told(trash.purge(viewer, [image.id]))

    id = id_of("Image", image.id)
    assert page.events == [
        {"kind": "ImageAdded", "image": shown(id, "")},
        {"kind": "ImageChanged", "image": shown(id, "", "DRAFT")},
        {"kind": "ImageChanged", "image": shown(id, "", "PUBLISHED")},
        {"kind": "ImageChanged", "image": shown(id, "New", "PUBLISHED")},
        {"kind": "ImageDeleted", "imageId": id, "isPurged": False},
        {"kind": "ImageChanged", "image": shown(id, "New", "PUBLISHED")},
        {"kind": "ImageDeleted", "imageId": id, "isPurged": False},
        {"kind": "ImageDeleted", "imageId": id, "isPurged": True},
    ]


def shown(id: str, title: str, *states: str) -> dict[str, Any]:
    """An image as the page shows it, and the states of the posts that it is in."""
    nodes = [{"content": {"state": state}} for state in states]
    return {"id": id, "title": title, "usages": {"nodes": nodes}}


async def test_a_generated_picture_is_told_with_the_post_that_it_was_made_for(
    schema_of_the_library: Schema, settings: Settings
) -> None:
    async with open_parts(settings, works=True) as parts:
        viewer = viewer_of(parts)
        post = await parts.contents.save(viewer, ContentPatch(external_id="post", text="A lake"))

        async with on_the_screen(schema_of_the_library, parts) as page:
            wish = Wish(content_id=post.id, attach=True, width=100, height=100)
            await parts.studio.generate(viewer, wish)
            await page.until(lambda events: bool(events) and bool(_nodes(events[-1])))

    assert _nodes(page.events[-1]) == [{"content": {"state": "DRAFT"}}]


def _nodes(event: Event) -> list[Event]:
    nodes: list[Event] = event["image"]["usages"]["nodes"]
    return nodes


async def test_what_another_process_adds_right_before_it_ends_is_told(
    schema_of_the_library: Schema, parts: Parts, settings: Settings
) -> None:
    """As `import` does beside the service."""
    async with on_the_screen(schema_of_the_library, parts) as page:
        async with open_parts(settings, works=False, alone=False) as others:
            for seed in range(3):
                await others.library.add_image(viewer_of(others), jpeg(seed=seed), NewImage())
        if parts.database.is_sqlite:
            await page.until(bool)
            assert page.events[0] == {"kind": "LibraryReset"}
        else:
            await page.until(lambda events: len(events) == 3)
            assert [event["kind"] for event in page.events] == ["ImageAdded"] * 3


@ON_POSTGRES
async def test_the_end_of_a_generation_is_told_though_its_process_ends_with_it(
    parts: Parts, settings: Settings
) -> None:
    viewer = viewer_of(parts)
    id = await insert_generation(parts.database, viewer, GenerationStatus.RUNNING, "A lake")
    events = parts.generations.watch(viewer, id)
    first = await anext(events)
    await asyncio.sleep(1)  # until the bus is connected: it lets everything be read anew

    async with open_parts(settings, works=False) as others:
        await others.generations.succeed(id)
    async with asyncio.timeout(SOON):
        last = [event async for event in events][-1]

    assert first.generation.status is GenerationStatus.RUNNING
    assert last.generation.status is GenerationStatus.SUCCEEDED
