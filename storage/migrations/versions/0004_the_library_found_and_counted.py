# ruff: noqa: S608  # the statements are put together from the constants of this file
"""the library found and counted

Columns that filters look at, the text indexes, the counters, and the triggers that keep them in
step with the images: whatever changes an image, these change in the same transaction.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.models import place_of
from storage.words import fold, words_of

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LIVE = "deleted_at IS NULL"
PAGE = 1000  # images that are filled in at a time

ORIENTATION = (
    "CASE WHEN width > height THEN 'landscape' WHEN width < height THEN 'portrait' "
    "ELSE 'square' END"
)
BEFORE = {
    "images_by_created_at": ["workspace_id", "created_at", "id"],
    "images_by_updated_at": ["workspace_id", "updated_at", "id"],
    "images_by_filename": ["workspace_id", "filename", "id"],
    "images_by_byte_size": ["workspace_id", "byte_size", "id"],
    "images_by_deleted_at": ["deleted_at"],
}
AFTER = {
    "images_by_place": (["workspace_id", "place", "id"], LIVE),
    "trash_by_place": (["workspace_id", "place", "id"], "deleted_at IS NOT NULL"),
    "images_by_updated_at": (["workspace_id", "updated_at", "id"], LIVE),
    "images_by_filename": (["workspace_id", "filename", "id"], LIVE),
    "images_by_byte_size": (["workspace_id", "byte_size", "id"], LIVE),
    "images_by_width": (["workspace_id", "width"], LIVE),
    "images_by_height": (["workspace_id", "height"], LIVE),
    "images_by_origin": (["workspace_id", "origin", "place", "id"], LIVE),
    "images_by_orientation": (["workspace_id", "orientation", "place", "id"], LIVE),
    "images_by_media_type": (["workspace_id", "media_type", "place", "id"], LIVE),
    "images_by_provider": (
        ["workspace_id", "provider", "place", "id"],
        f"provider IS NOT NULL AND {LIVE}",
    ),
    "images_by_model": (["workspace_id", "model", "place", "id"], f"model IS NOT NULL AND {LIVE}"),
    "images_by_ai": (["workspace_id", "place", "id"], f"is_ai_generated = true AND {LIVE}"),
    "favorite_images": (["workspace_id", "place", "id"], f"is_favorite = true AND {LIVE}"),
    "images_with_alt_text": (
        ["workspace_id", "place", "id"],
        f"alt_text IS NOT NULL AND {LIVE}",
    ),
    "images_without_alt_text": (["workspace_id", "place", "id"], f"alt_text IS NULL AND {LIVE}"),
    "images_by_deleted_at": (["deleted_at"], "deleted_at IS NOT NULL"),
}

# ---- SQLite --------------------------------------------------------------------------------------

# Words of 2 to 8 signs are the beginnings that are kept, behind the 33 signs of their scope.
SQLITE_INDEXES = (
    "CREATE VIRTUAL TABLE image_words USING fts5("
    "words, content='', tokenize='ascii', detail='none', prefix='35 36 37 38 39 40 41')",
    "CREATE VIRTUAL TABLE image_filenames USING fts5("
    "filename, content='', tokenize='trigram', detail='none', columnsize=0)",
)


# What SQLite is told of the tables' sizes, as ANALYZE would find them in a million images of five
# workspaces: rows in the index, then how many have the same first column, the same first two, and
# so on (https://sqlite.org/fileformat2.html#stat1tab). Knowing nothing it takes a workspace for a
# few rows, and walks through all of it to find one filename. A small library is fast either way.
SQLITE_SIZES = {
    "images": {
        "images_by_place": "1000000 200000 1 1",
        "trash_by_place": "10000 2000 1 1",
        "images_by_updated_at": "1000000 200000 1 1",
        "images_by_filename": "1000000 200000 2 1",
        "images_by_byte_size": "1000000 200000 2 1",
        "images_by_width": "1000000 200000 2000",
        "images_by_height": "1000000 200000 2000",
        "images_by_origin": "1000000 200000 70000 1 1",
        "images_by_orientation": "1000000 200000 70000 1 1",
        "images_by_media_type": "1000000 200000 50000 1 1",
        "images_by_provider": "300000 60000 20000 1 1",
        "images_by_model": "300000 60000 10000 1 1",
        "images_by_ai": "300000 60000 1 1",
        "favorite_images": "20000 4000 1 1",
        "images_with_alt_text": "500000 100000 1 1",
        "images_without_alt_text": "500000 100000 1 1",
        "images_by_source": "1000000 200000 1",
        "one_image_per_bytes": "1000000 200000 1",
        "images_by_deleted_at": "10000 1",
        "sqlite_autoindex_images_1": "1000000 1",
    },
    "image_tags": {
        "tags_by_place": "2000000 400000 390000 1000 1 1",
        "sqlite_autoindex_image_tags_1": "2000000 2 1",
    },
    "attachments": {"ix_attachments_image_id": "100000 2"},
    "contents": {"contents_by_state": "50000 10000 3000"},
}


def _sqlite_words(image: str) -> str:
    """Every word behind its scope, as in `storage.inverted`."""
    scope = f"CASE WHEN {image}.deleted_at IS NULL THEN 'o' ELSE 't' END || {image}.workspace_id"
    words = f"trim({image}.name_text || ' ' || {image}.search_text)"
    return f"{scope} || replace({words}, ' ', ' ' || {scope})"


def _sqlite_filename(image: str) -> str:
    return f"char(2, 2) || {image}.folded_filename"


COUNTED = (
    "workspace_id",
    "is_deleted",
    "day",
    "origin",
    "orientation",
    "provider",
    "is_ai_generated",
)


def _kind(image: str, day: str) -> str:
    """The values of COUNTED."""
    return (
        f"{image}.workspace_id, {image}.deleted_at IS NOT NULL, {day}, {image}.origin, "
        f"{image}.orientation, coalesce({image}.provider, ''), {image}.is_ai_generated"
    )


def _sqlite_kind(image: str) -> str:
    return _kind(image, f"substr({image}.created_at, 1, 10)")


def _sqlite_count(table: str, names: Sequence[str], values: str, n: int) -> str:
    """Statements that add `n` to the counter of a kind, for a trigger."""
    named = ", ".join(names)
    return (
        f"INSERT INTO {table} ({named}, n) SELECT {values}, 0 "
        # A tag that does not know its image yet has not been counted.
        f"WHERE {values.partition(',')[0]} IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {table} WHERE ({named}) = ({values})); "
        f"UPDATE {table} SET n = n + ({n}) WHERE ({named}) = ({values}); "
    )


def _sqlite_tag_count(row: str, n: int) -> str:
    names = ("workspace_id", "is_deleted", "tag")
    values = f"{row}.workspace_id, {row}.is_deleted, {row}.tag"
    return _sqlite_count("tag_counts", names, values, n)


def _sqlite_triggers() -> Iterator[str]:
    def count(image: str, n: int) -> str:
        return _sqlite_count("image_counts", COUNTED, _sqlite_kind(image), n)

    def forget_words(image: str) -> str:
        return (
            "INSERT INTO image_words (image_words, rowid, words) "
            f"VALUES ('delete', {image}.place, {_sqlite_words(image)}); "
        )

    def forget_filename(image: str) -> str:
        return (
            "INSERT INTO image_filenames (image_filenames, rowid, filename) "
            f"VALUES ('delete', {image}.place, {_sqlite_filename(image)}); "
        )

    yield (
        "CREATE TRIGGER image_comes AFTER INSERT ON images BEGIN "
        # A place that is taken would be two images' number in the text indexes.
        "UPDATE images SET place = (SELECT min(taken.id) + 1 FROM image_words_docsize AS taken "
        "WHERE taken.id >= NEW.place AND NOT EXISTS "
        "(SELECT 1 FROM image_words_docsize AS next WHERE next.id = taken.id + 1)) "
        "WHERE id = NEW.id "
        "AND EXISTS (SELECT 1 FROM image_words_docsize WHERE id = NEW.place); "
        "INSERT INTO image_words (rowid, words) "
        f"SELECT place, {_sqlite_words('images')} FROM images WHERE id = NEW.id; "
        "INSERT INTO image_filenames (rowid, filename) "
        f"SELECT place, {_sqlite_filename('images')} FROM images WHERE id = NEW.id; "
        f"{count('NEW', 1)}END"
    )
    yield (
        "CREATE TRIGGER image_goes AFTER DELETE ON images BEGIN "
        f"{forget_words('OLD')}{forget_filename('OLD')}{count('OLD', -1)}END"
    )
    yield (
        "CREATE TRIGGER image_words_change "
        "AFTER UPDATE OF name_text, search_text, deleted_at, workspace_id ON images "
        f"WHEN {_sqlite_words('OLD')} <> {_sqlite_words('NEW')} BEGIN {forget_words('OLD')}"
        f"INSERT INTO image_words (rowid, words) VALUES (NEW.place, {_sqlite_words('NEW')}); END"
    )
    yield (
        "CREATE TRIGGER image_filename_changes AFTER UPDATE OF folded_filename ON images "
        f"WHEN OLD.folded_filename <> NEW.folded_filename BEGIN {forget_filename('OLD')}"
        "INSERT INTO image_filenames (rowid, filename) "
        f"VALUES (NEW.place, {_sqlite_filename('NEW')}); END"
    )
    yield (
        "CREATE TRIGGER image_kind_changes AFTER UPDATE OF workspace_id, deleted_at, created_at, "
        "origin, width, height, provider, is_ai_generated ON images "
        f"WHEN ({_sqlite_kind('OLD')}) <> ({_sqlite_kind('NEW')}) "
        f"BEGIN {count('OLD', -1)}{count('NEW', 1)}END"
    )
    yield (
        "CREATE TRIGGER tags_follow_their_image "
        "AFTER UPDATE OF deleted_at, place, workspace_id ON images BEGIN "
        "UPDATE image_tags SET workspace_id = NEW.workspace_id, place = NEW.place, "
        "is_deleted = NEW.deleted_at IS NOT NULL WHERE image_id = NEW.id; END"
    )
    yield (
        "CREATE TRIGGER tag_comes AFTER INSERT ON image_tags BEGIN "
        "UPDATE image_tags SET (workspace_id, is_deleted, place) = "
        "(SELECT workspace_id, deleted_at IS NOT NULL, place FROM images WHERE id = NEW.image_id) "
        "WHERE image_id = NEW.image_id AND tag = NEW.tag; END"
    )
    yield (
        "CREATE TRIGGER tag_changes AFTER UPDATE OF workspace_id, is_deleted, tag ON image_tags "
        "WHEN (OLD.workspace_id, OLD.is_deleted, OLD.tag) "
        "IS NOT (NEW.workspace_id, NEW.is_deleted, NEW.tag) "
        f"BEGIN {_sqlite_tag_count('OLD', -1)}{_sqlite_tag_count('NEW', 1)}END"
    )
    yield (
        "CREATE TRIGGER tag_goes AFTER DELETE ON image_tags "
        f"BEGIN {_sqlite_tag_count('OLD', -1)}END"
    )


SQLITE_TRIGGERS = (
    "image_comes",
    "image_goes",
    "image_words_change",
    "image_filename_changes",
    "image_kind_changes",
    "tags_follow_their_image",
    "tag_comes",
    "tag_changes",
    "tag_goes",
)

# ---- PostgreSQL ----------------------------------------------------------------------------------

MANY = 8
"""Rows of one counter that are folded into one: so few are read, and few written twice."""

POSTGRESQL_WORDS = """
CREATE FUNCTION image_words(workspace_id uuid, in_trash boolean, name_text text, search_text text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(array_remove(string_to_array(
        replace(' ' || name_text || ' ' || search_text, ' ',
                ' ' || CASE WHEN in_trash THEN 't' ELSE 'o' END
                    || replace(workspace_id::text, '-', '')),
        ' '), ''))
$$
"""


def _postgresql_kind(image: str) -> str:
    return _kind(image, f"to_char({image}.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')")


def _postgresql_fold(table: str, names: Sequence[str], key: str) -> str:
    """A function that makes one row of the many that a counter has.

    Rows that somebody else folds are left alone, so that nobody waits.
    """
    named = ", ".join(names)
    return f"""
CREATE FUNCTION fold_{table}(a_workspace uuid, in_trash boolean, a_{key} text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM {table}
        WHERE workspace_id = a_workspace AND is_deleted = in_trash AND {key} = a_{key}
        GROUP BY {named} HAVING count(*) > {MANY}
    ) THEN
        WITH free AS (
            SELECT id FROM {table}
            WHERE workspace_id = a_workspace AND is_deleted = in_trash AND {key} = a_{key}
            FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM {table} USING free WHERE {table}.id = free.id RETURNING {table}.*
        )
        INSERT INTO {table} ({named}, n)
        SELECT {named}, sum(n) FROM gone GROUP BY {named} HAVING sum(n) <> 0;
    END IF;
END $$
"""


TAG_COUNTED = ("workspace_id", "is_deleted", "tag")


def _postgresql_triggers() -> Iterator[str]:
    yield _postgresql_fold("image_counts", COUNTED, "day")
    yield _postgresql_fold("tag_counts", TAG_COUNTED, "tag")
    kinds = ", ".join(COUNTED)
    for event, rows, sign in (("INSERT", "NEW", ""), ("DELETE", "OLD", "-")):
        verb = "comes" if event == "INSERT" else "goes"
        for what, table, counter, names, key in (
            ("image", "images", "image_counts", COUNTED, "day"),
            ("tag", "image_tags", "tag_counts", TAG_COUNTED, "tag"),
        ):
            values = (
                _postgresql_kind("changed")
                if what == "image"
                else ("changed.workspace_id, changed.is_deleted, changed.tag")
            )
            named = ", ".join(names)
            yield f"""
CREATE FUNCTION {what}_{verb}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE touched record;
BEGIN
    FOR touched IN
        WITH kinds ({named}) AS (SELECT {values} FROM changed),
        counted AS (
            INSERT INTO {counter} ({named}, n)
            SELECT {named}, {sign}count(*) FROM kinds GROUP BY {named}
            RETURNING workspace_id, is_deleted, {key} AS key
        )
        SELECT DISTINCT workspace_id, is_deleted, key FROM counted
    LOOP
        PERFORM fold_{counter}(touched.workspace_id, touched.is_deleted, touched.key);
    END LOOP;
    RETURN NULL;
END $$
"""
            yield (
                f"CREATE TRIGGER {what}_{verb} AFTER {event} ON {table} "
                f"REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {what}_{verb}()"
            )
    yield f"""
CREATE FUNCTION image_kind_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO image_counts ({kinds}, n)
    VALUES ({_postgresql_kind("OLD")}, -1), ({_postgresql_kind("NEW")}, 1);
    PERFORM fold_image_counts(
        each.workspace_id, each.deleted_at IS NOT NULL,
        to_char(each.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
    FROM (SELECT OLD.workspace_id, OLD.deleted_at, OLD.created_at
          UNION ALL SELECT NEW.workspace_id, NEW.deleted_at, NEW.created_at) AS each;
    RETURN NULL;
END $$
"""
    yield (
        "CREATE TRIGGER image_kind_changes AFTER UPDATE OF workspace_id, deleted_at, created_at, "
        "origin, width, height, provider, is_ai_generated ON images FOR EACH ROW "
        f"WHEN (({_postgresql_kind('OLD')}) IS DISTINCT FROM ({_postgresql_kind('NEW')})) "
        "EXECUTE FUNCTION image_kind_changes()"
    )
    yield """
CREATE FUNCTION tags_follow_their_image() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE image_tags SET workspace_id = NEW.workspace_id, place = NEW.place,
        is_deleted = NEW.deleted_at IS NOT NULL
    WHERE image_id = NEW.id;
    RETURN NULL;
END $$
"""
    yield (
        "CREATE TRIGGER tags_follow_their_image "
        "AFTER UPDATE OF deleted_at, place, workspace_id ON images FOR EACH ROW "
        "WHEN ((OLD.deleted_at IS NULL, OLD.place, OLD.workspace_id) "
        "IS DISTINCT FROM (NEW.deleted_at IS NULL, NEW.place, NEW.workspace_id)) "
        "EXECUTE FUNCTION tags_follow_their_image()"
    )
    yield """
CREATE FUNCTION tag_knows_its_image() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT workspace_id, deleted_at IS NOT NULL, place
    INTO NEW.workspace_id, NEW.is_deleted, NEW.place FROM images WHERE id = NEW.image_id;
    RETURN NEW;
END $$
"""
    yield (
        "CREATE TRIGGER tag_knows_its_image BEFORE INSERT ON image_tags FOR EACH ROW "
        "EXECUTE FUNCTION tag_knows_its_image()"
    )
    yield """
CREATE FUNCTION tag_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tag_counts (workspace_id, is_deleted, tag, n)
    VALUES (OLD.workspace_id, OLD.is_deleted, OLD.tag, -1),
           (NEW.workspace_id, NEW.is_deleted, NEW.tag, 1);
    PERFORM fold_tag_counts(OLD.workspace_id, OLD.is_deleted, OLD.tag);
    PERFORM fold_tag_counts(NEW.workspace_id, NEW.is_deleted, NEW.tag);
    RETURN NULL;
END $$
"""
    yield (
        "CREATE TRIGGER tag_changes AFTER UPDATE OF workspace_id, is_deleted, tag ON image_tags "
        "FOR EACH ROW WHEN ((OLD.workspace_id, OLD.is_deleted, OLD.tag) "
        "IS DISTINCT FROM (NEW.workspace_id, NEW.is_deleted, NEW.tag)) "
        "EXECUTE FUNCTION tag_changes()"
    )


POSTGRESQL_FUNCTIONS = (
    "image_comes",
    "image_goes",
    "image_kind_changes",
    "tags_follow_their_image",
    "tag_comes",
    "tag_goes",
    "tag_changes",
    "tag_knows_its_image",
    "fold_image_counts",
    "fold_tag_counts",
)


# ---- up and down ---------------------------------------------------------------------------------


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name in BEFORE:
        op.drop_index(name, "images")
    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("place", sa.BigInteger(), nullable=False, server_default="0"))
        images.add_column(sa.Column("provider", sa.String(length=64), nullable=True))
        images.add_column(sa.Column("model", sa.String(length=100), nullable=True))
        for name in ("folded_filename", "name_text"):
            images.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
        images.add_column(
            sa.Column(
                "orientation",
                sa.Enum(
                    "landscape",
                    "portrait",
                    "square",
                    name="orientation",
                    native_enum=False,
                    length=32,
                ),
                sa.Computed(ORIENTATION, persisted=True),
                nullable=False,
            )
        )
    op.drop_index(op.f("ix_image_tags_tag"), "image_tags")
    with op.batch_alter_table("image_tags") as tags:
        tags.add_column(sa.Column("workspace_id", sa.Uuid(), nullable=True))
        tags.add_column(sa.Column("is_deleted", sa.Boolean(), nullable=True))
        tags.add_column(sa.Column("place", sa.BigInteger(), nullable=True))
    _create_counters()
    _fill_images()
    op.execute(
        "UPDATE image_tags SET (workspace_id, is_deleted, place) = "
        "(SELECT workspace_id, deleted_at IS NOT NULL, place FROM images "
        "WHERE images.id = image_tags.image_id)"
    )
    for name, (columns, condition) in AFTER.items():
        op.create_index(
            name,
            "images",
            columns,
            # SQLite keeps truth as a number, and takes nothing else for the same.
            sqlite_where=sa.text(condition.replace("= true", "= 1")),
            postgresql_where=sa.text(condition),
        )
    op.create_index(
        "tags_by_place", "image_tags", ["workspace_id", "is_deleted", "tag", "place", "image_id"]
    )
    op.create_index("contents_by_state", "contents", ["workspace_id", "state"])
    if is_sqlite:
        _begin_on_sqlite()
    else:
        _begin_on_postgresql()
    _count(_sqlite_kind("images") if is_sqlite else _postgresql_kind("images"))


def _create_counters() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "image_counts",
        sa.Column("id", number, nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("origin", sa.String(length=32), nullable=False),
        sa.Column("orientation", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("is_ai_generated", sa.Boolean(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("image_counts_by_day", "image_counts", [*COUNTED, "n"])
    op.create_table(
        "tag_counts",
        sa.Column("id", number, nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tag_counts_by_tag", "tag_counts", [*TAG_COUNTED, "n"])


def _fill_images() -> None:
    """Places, names of providers, and the words of what is there."""
    connection = op.get_bind()
    metadata = sa.MetaData()
    images = sa.Table("images", metadata, autoload_with=connection, resolve_fks=False)
    tags = sa.Table("image_tags", metadata, autoload_with=connection, resolve_fks=False)
    generations = sa.Table("generations", metadata, autoload_with=connection, resolve_fks=False)
    created_at = sa.type_coerce(images.c.created_at, sa.DateTime(timezone=True))
    id = sa.type_coerce(images.c.id, sa.Uuid())
    wanted = (
        sa.select(
            id.label("id"),
            created_at.label("created_at"),
            images.c.filename,
            images.c.title,
            images.c.alt_text,
            generations.c.provider,
            generations.c.model,
            generations.c.prompt,
        )
        .outerjoin(generations, generations.c.id == images.c.generation_id)
        .order_by(images.c.created_at, images.c.id)
        .limit(PAGE)
    )
    fill = (
        sa.update(images)
        .where(id == sa.bindparam("an_id", type_=sa.Uuid()))
        .values(
            place=sa.bindparam("a_place"),
            provider=sa.bindparam("a_provider"),
            model=sa.bindparam("a_model"),
            folded_filename=sa.bindparam("a_filename"),
            name_text=sa.bindparam("a_name"),
            search_text=sa.bindparam("a_text"),
        )
    )
    last: Any = None
    place: int | None = None
    while True:
        page = wanted if last is None else wanted.where(_after(images, last))
        rows = connection.execute(page).all()
        if not rows:
            return
        tag_of = sa.type_coerce(tags.c.image_id, sa.Uuid())
        said: dict[Any, list[str]] = {}
        for image_id, tag in connection.execute(
            sa.select(tag_of, tags.c.tag)
            .where(tag_of.in_([row.id for row in rows]))
            .order_by(tags.c.tag)
        ):
            said.setdefault(image_id, []).append(tag)
        filled = []
        for row in rows:
            wished = place_of(_aware(row.created_at), row.id)
            place = wished if place is None else max(wished, place + 1)
            filled.append(
                {
                    "an_id": row.id,
                    "a_place": place,
                    "a_provider": row.provider,
                    "a_model": row.model,
                    "a_filename": fold(row.filename),
                    "a_name": " ".join(words_of(row.filename, row.title, *said.get(row.id, []))),
                    "a_text": " ".join(words_of(row.alt_text, row.prompt)),
                }
            )
        connection.execute(fill, filled)
        last = rows[-1]


def _after(images: sa.Table, last: Any) -> sa.ColumnElement[bool]:
    place = sa.tuple_(images.c.created_at, images.c.id)
    edge = sa.tuple_(
        sa.literal(last.created_at, sa.DateTime(timezone=True)), sa.literal(last.id, sa.Uuid())
    )
    return place > edge


def _aware(time: datetime) -> datetime:
    """SQLite keeps UTC without saying so."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _begin_on_sqlite() -> None:
    for statement in SQLITE_INDEXES:
        op.execute(statement)
    op.execute(
        "INSERT INTO image_words (rowid, words) "
        f"SELECT place, {_sqlite_words('images')} FROM images ORDER BY place"
    )
    op.execute(
        "INSERT INTO image_filenames (rowid, filename) "
        f"SELECT place, {_sqlite_filename('images')} FROM images ORDER BY place"
    )
    for statement in _sqlite_triggers():
        op.execute(statement)
    op.execute("ANALYZE sqlite_schema")  # makes the table, and looks at nothing
    for table, sizes in SQLITE_SIZES.items():
        for index, size in sizes.items():
            op.execute(f"INSERT INTO sqlite_stat1 VALUES ('{table}', '{index}', '{size}')")
    op.execute("ANALYZE sqlite_schema")  # reads it


def _begin_on_postgresql() -> None:
    op.execute(POSTGRESQL_WORDS)
    # Without the list of what is pending, which every search would have to read from end to end.
    op.execute(
        "CREATE INDEX images_by_words ON images USING gin "
        "(image_words(workspace_id, deleted_at IS NOT NULL, name_text, search_text)) "
        "WITH (fastupdate = off)"
    )
    if _has_trigrams():
        op.execute(
            "CREATE INDEX images_by_folded_filename ON images "
            "USING gin (folded_filename gin_trgm_ops) WITH (fastupdate = off)"
        )
    for statement in _postgresql_triggers():
        op.execute(statement)


def _has_trigrams() -> bool:
    """Whether pg_trgm is there, or can be had by who migrates."""
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        return False
    return True


def _count(kind: str) -> None:
    op.execute(
        f"INSERT INTO image_counts ({', '.join(COUNTED)}, n) "
        f"SELECT {kind}, count(*) FROM images GROUP BY 1, 2, 3, 4, 5, 6, 7"
    )
    op.execute(
        "INSERT INTO tag_counts (workspace_id, is_deleted, tag, n) "
        "SELECT workspace_id, is_deleted, tag, count(*) FROM image_tags GROUP BY 1, 2, 3"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in SQLITE_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DELETE FROM sqlite_stat1")
        op.execute("DROP TABLE image_words")
        op.execute("DROP TABLE image_filenames")
    else:
        op.execute("DROP INDEX images_by_words")
        op.execute("DROP INDEX IF EXISTS images_by_folded_filename")
        op.execute("DROP FUNCTION image_words")
        for name in POSTGRESQL_FUNCTIONS:
            op.execute(f"DROP FUNCTION {name} CASCADE")
    op.drop_index("contents_by_state", "contents")
    op.drop_index("tags_by_place", "image_tags")
    with op.batch_alter_table("image_tags") as tags:
        for name in ("workspace_id", "is_deleted", "place"):
            tags.drop_column(name)
    op.create_index(op.f("ix_image_tags_tag"), "image_tags", ["tag"])
    for name in AFTER:
        op.drop_index(name, "images")
    with op.batch_alter_table("images") as images:
        for name in (
            "orientation", "place", "provider", "model", "folded_filename", "name_text",
        ):  # fmt: skip
            images.drop_column(name)
    for name, columns in BEFORE.items():
        op.create_index(name, "images", columns)
    op.drop_table("tag_counts")
    op.drop_table("image_counts")
