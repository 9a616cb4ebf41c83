"""the same words and the same order everywhere

Words are made in another way (see `storage.words`): images that have others now get them. Filenames
are put in order by an index of their own, which does not ask for which language the database was
made.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.models import FoldedName
from storage.words import fold, words_of

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PAGE = 500  # images that are looked at at a time

IMAGES = sa.table(
    "images",
    sa.column("id", sa.Uuid()),
    sa.column("generation_id", sa.Uuid()),
    sa.column("filename", sa.String()),
    sa.column("title", sa.String()),
    sa.column("alt_text", sa.String()),
    sa.column("folded_filename", FoldedName()),
    sa.column("name_text", sa.Text()),
    sa.column("search_text", sa.Text()),
)
TAGS = sa.table("image_tags", sa.column("image_id", sa.Uuid()), sa.column("tag", sa.String()))
GENERATIONS = sa.table("generations", sa.column("id", sa.Uuid()), sa.column("prompt", sa.Text()))

SQLITE_SIZE = "INSERT INTO sqlite_stat1 VALUES ('images', 'images_by_name', '1000000 200000 2 1')"
"""SQLite is told what to expect of the new index, see migration 0004."""


def upgrade() -> None:
    _fill_images()
    op.create_index(
        "images_by_name",
        "images",
        ["workspace_id", "folded_filename", "id"],
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
        postgresql_ops={"folded_filename": 'COLLATE "C"'},
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(SQLITE_SIZE)
        op.execute("ANALYZE sqlite_schema")  # reads it


def _fill_images() -> None:
    """Nothing is written of the many images whose words are as they were."""
    connection = op.get_bind()
    fill = (
        sa.update(IMAGES)
        .where(IMAGES.c.id == sa.bindparam("an_id"))
        .values(
            folded_filename=sa.bindparam("a_filename"),
            name_text=sa.bindparam("a_name"),
            search_text=sa.bindparam("a_text"),
        )
    )
    for rows in _pages(connection):
        said: dict[Any, list[str]] = {}
        of_these = TAGS.c.image_id.in_([row.id for row in rows])
        for image_id, tag in connection.execute(sa.select(TAGS).where(of_these)):
            said.setdefault(image_id, []).append(tag)
        changed = []
        for row in rows:
            tags = sorted(said.get(row.id, ()))
            texts = (row.filename, row.title, *tags, row.alt_text, row.prompt)
            if all(text is None or text.isascii() for text in texts):
                continue  # nothing is new about these signs
            filename = fold(row.filename)
            name = words_of(row.filename, row.title, *tags)
            text = words_of(row.alt_text, row.prompt)
            if (
                filename != row.folded_filename
                or _differ(name, row.name_text)
                or _differ(text, row.search_text)
            ):
                changed.append(
                    {
                        "an_id": row.id,
                        "a_filename": filename,
                        "a_name": " ".join(name),
                        "a_text": " ".join(text),
                    }
                )
        if changed:
            connection.execute(fill, changed)


def _pages(connection: sa.Connection) -> Iterator[Sequence[Any]]:
    """All images, a few at a time, each with its prompt."""
    wanted = (
        sa.select(IMAGES, GENERATIONS.c.prompt)
        .outerjoin(GENERATIONS, GENERATIONS.c.id == IMAGES.c.generation_id)
        .order_by(IMAGES.c.id)
        .limit(PAGE)
    )
    page = wanted
    while rows := connection.execute(page).all():
        yield rows
        page = wanted.where(IMAGES.c.id > rows[-1].id)


def _differ(words: Iterable[str], before: str) -> bool:
    """Whether they are other words, in whatever order."""
    return {*words} != {*before.split()}


def downgrade() -> None:
    """The words stay: the release before finds by most of them, too."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DELETE FROM sqlite_stat1 WHERE idx = 'images_by_name'")
    op.drop_index("images_by_name", "images")
