"""Rows written directly, for tests that are not about how they come to be."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import select

from storage.database import Database
from storage.models import (
    Generation,
    GenerationStatus,
    Image,
    ImageOrigin,
    ImageTag,
    ObjectState,
    StoredObject,
)
from storage.objects.local import MARKER, LocalObjectStore
from storage.viewers import Viewer

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def image_rows(
    viewer: Viewer, *, tags: tuple[str, ...] = (), **fields: Any
) -> tuple[StoredObject, Image]:
    """A picture and its object, without bytes."""
    id = fields.pop("id", None) or uuid4()
    sha256 = uuid4().hex * 2
    key = f"images/{id}/{sha256}.jpg"
    known: dict[str, Any] = {
        "origin": ImageOrigin.UPLOADED,
        "media_type": "image/jpeg",
        "byte_size": 1000,
        "source_media_type": "image/jpeg",
        "source_sha256": uuid4().hex * 2,
        "width": 640,
        "height": 480,
        "frames": 1,
        "has_alpha": False,
        "declares_ai": False,
        "has_c2pa": False,
        "dominant_color": "#808080",
        "thumbhash": "",
        "perceptual_hash": "0" * 16,
    }
    image = Image(
        id=id,
        workspace_id=viewer.workspace_id,
        sha256=sha256,
        object_key=key,
        tag_rows=[ImageTag(image_id=id, tag=tag) for tag in tags],
        **(known | fields),
    )
    stored = StoredObject(
        key=key,
        workspace_id=viewer.workspace_id,
        state=ObjectState.LIVE,
        media_type=image.media_type,
        byte_size=image.byte_size,
        sha256=sha256,
        image_id=id,
    )
    return stored, image


async def insert(database: Database, *rows: tuple[StoredObject, Image]) -> list[UUID]:
    """The ids of the images."""
    async with database.writing() as session:
        session.add_all([stored for stored, _ in rows])
        await session.flush()
        session.add_all([image for _, image in rows])
    return [image.id for _, image in rows]


async def insert_images(database: Database, viewer: Viewer, count: int) -> list[UUID]:
    return await insert(database, *(image_rows(viewer) for _ in range(count)))


async def insert_generation(
    database: Database, viewer: Viewer, status: GenerationStatus, prompt: str = "a lake"
) -> UUID:
    generation = Generation(
        workspace_id=viewer.workspace_id,
        requested_by=viewer.name,
        status=status,
        provider="card",
        model="card-1",
        prompt=prompt,
        requested_count=1,
        width=640,
        height=480,
    )
    async with database.writing() as session:
        session.add(generation)
    return generation.id


async def object_states(database: Database) -> dict[str, ObjectState]:
    """What the rows say of the store: the state of each key."""
    async with database.reading() as session:
        return {row.key: row.state for row in await session.exec(select(StoredObject))}


def stored_files(store: LocalObjectStore) -> list[str]:
    """What the store's folder holds, unfinished files too: keys, in alphabetical order."""
    files = (path.relative_to(store.root) for path in store.root.rglob("*") if path.is_file())
    return sorted(str(file) for file in files if str(file) != MARKER)
