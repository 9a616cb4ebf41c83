"""A folder of pictures brought in: all that can be, with the rest told at the end."""

import shutil
from pathlib import Path

import pytest

from storage.database import Database
from storage.folders import FolderImport, Imported
from storage.library import Library
from storage.search import ImageFilter, PageRequest, Sort
from storage.trash import Trash
from storage.viewers import Viewer
from tests.pictures import jpeg, png

ANY = ImageFilter()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, in folders."""
    folder = tmp_path / "pictures"
    (folder / "2026" / "summer").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(120, 90, seed=1))
    (folder / "2026" / "b.png").write_bytes(png(120, 90))
    (folder / "2026" / "summer" / "c.jpg").write_bytes(jpeg(120, 90, seed=2))
    return folder


@pytest.fixture
def importing(database: Database, library: Library) -> FolderImport:
    return FolderImport(database, library, at_once=3)


async def test_every_picture_below_the_folder_comes_in_under_its_name(
    importing: FolderImport, library: Library, folder: Path, alice: Viewer
) -> None:
    shown: list[tuple[int, int]] = []

    imported = await importing.run(
        alice, folder, tags=["trip"], progress=lambda done, of: shown.append((done, of))
    )

    assert imported == Imported(added=3)
    page = await library.images(alice, ANY, Sort(), PageRequest(10))
    assert {image.filename for image in page.rows} == {"a.jpg", "b.png", "c.jpg"}
    assert all(image.tags == ["trip"] for image in page.rows)
    assert shown == [(1, 3), (2, 3), (3, 3)]


async def test_started_again_it_brings_in_only_what_is_new(
    importing: FolderImport, folder: Path, alice: Viewer
) -> None:
    await importing.run(alice, folder)
    (folder / "d.jpg").write_bytes(jpeg(120, 90, seed=3))
    shutil.copy(folder / "a.jpg", folder / "copy of a.jpg")

    assert await importing.run(alice, folder) == Imported(added=1, there_already=4)


async def test_what_is_no_picture_is_told_and_hinders_nothing(
    importing: FolderImport, folder: Path, alice: Viewer
) -> None:
    (folder / "notes.txt").write_text("not a picture")
    (folder / "broken.jpg").write_bytes(jpeg()[:300])
    (folder / "empty.jpg").touch()
    (folder / ".DS_Store").write_bytes(b"?")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")

    imported = await importing.run(alice, folder)

    assert imported.added == 3
    assert {path.name for path in imported.failed} == {"notes.txt", "broken.jpg", "empty.jpg"}
    assert all(reason.endswith(".") for reason in imported.failed.values())


async def test_what_was_deleted_does_not_come_back_by_itself(
    importing: FolderImport, library: Library, trash: Trash, folder: Path, alice: Viewer
) -> None:
    await importing.run(alice, folder)
    page = await library.images(alice, ANY, Sort(), PageRequest(10))
    await trash.delete(alice, [page.rows[0].id])

    assert await importing.run(alice, folder) == Imported(there_already=3)

    assert await library.count_images(alice, ANY) == 2


async def test_an_empty_folder_brings_nothing(
    importing: FolderImport, tmp_path: Path, alice: Viewer
) -> None:
    (tmp_path / "empty").mkdir()

    assert await importing.run(alice, tmp_path / "empty") == Imported()
