"""From a word to the images that have it: the two text indexes, as each database has them.

Words. SQLite keeps them in `image_words`, an FTS5 index without contents, PostgreSQL in a GIN index
over `image_words(…)`. Both hold every word behind its workspace (`scope`), so a search reads
nothing of other workspaces, however many there are, and nothing of the trash.

Filenames. SQLite keeps the trigrams of folded filenames in `image_filenames`, PostgreSQL in a GIN
index of pg_trgm. Without that extension filenames are compared one by one within the workspace.

An FTS5 index gives its rows by their number, which is the image's `place`: so the newest that have
a word are its first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Join,
    Text,
    UnaryExpression,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.operators import custom_op
from sqlmodel import col

from storage.models import Image

BEGINNING = "\2\2"
"""Before every filename in SQLite's index: so its first sign is in a trigram, too."""

MAX_TRIGRAMS = 30
"""That a filename must have to be looked at: few make all the difference."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where is looked: in a workspace's library or its trash, and on which kind of database."""

    workspace_id: UUID
    in_trash: bool
    is_sqlite: bool

    @property
    def scope(self) -> str:
        """What every word of the shelf stands behind: 33 signs."""
        return ("t" if self.in_trash else "o") + self.workspace_id.hex


@dataclass(frozen=True, slots=True)
class Hits:
    """What an FTS5 index finds, by the images' places."""

    index: FromClause
    query: str

    @property
    def place(self) -> ColumnElement[int]:
        return self.index.c.rowid

    @property
    def condition(self) -> ColumnElement[bool]:
        matches = literal_column(self.index.description).op("MATCH", is_comparison=True)
        return matches(literal(self.query, Text))


def word_hits(shelf: Shelf, words: Sequence[str]) -> Hits:
    return Hits(_index("image_words"), " AND ".join(_term(shelf, word) for word in words))


def filename_hits(part: str, *, is_beginning: bool) -> Hits:
    """More than there are: a filename can have all of its trigrams in other places."""
    signs = BEGINNING + part if is_beginning else part
    trigrams = list(dict.fromkeys(signs[n : n + 3] for n in range(len(signs) - 2)))
    query = " AND ".join(_quoted(trigram) for trigram in trigrams[:MAX_TRIGRAMS])
    return Hits(_index("image_filenames"), query)


def _index(name: str) -> FromClause:
    return table(name, column("rowid", BigInteger))


def _term(shelf: Shelf, word: str) -> str:
    """The word, or the beginning of one. One sign alone would begin too many."""
    return _quoted(shelf.scope + word) + (" *" if len(word) > 1 else "")


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def has_words(shelf: Shelf, words: Sequence[str]) -> ColumnElement[bool]:
    """Whether an image has each of the words, or one that begins with it."""
    if shelf.is_sqlite:
        return _among(word_hits(shelf, words))
    lexemes = " & ".join(
        "'" + (shelf.scope + word).replace("\\", "\\\\").replace("'", "''") + "'"
        + (":*" if len(word) > 1 else "")
        for word in words
    )  # fmt: skip
    indexed: ColumnElement[Any] = literal_column(
        "image_words(images.workspace_id, images.deleted_at IS NOT NULL, "
        "images.name_text, images.search_text)"
    )
    return indexed.op("@@", is_comparison=True)(cast(literal(lexemes, Text), TSQUERY))


def has_filename(
    shelf: Shelf, part: str, *, is_beginning: bool, is_looked_up: bool = True
) -> ColumnElement[bool]:
    """Whether an image's folded filename has the part. Not `is_looked_up`: without the index."""
    folded = col(Image.folded_filename)
    compared: ColumnElement[bool]
    if not shelf.is_sqlite:
        if is_beginning:
            return folded.startswith(part, autoescape=True)
        return folded.contains(part, autoescape=True)
    if is_beginning:
        compared = func.substr(folded, 1, len(part)) == part
    else:
        compared = func.instr(folded, part) > 0
    if not is_looked_up:
        return compared
    return and_(_among(filename_hits(part, is_beginning=is_beginning)), compared)


def _among(hits: Hits) -> ColumnElement[bool]:
    return col(Image.place).in_(select(hits.place).where(hits.condition))


def relevance(shelf: Shelf, words: Sequence[str]) -> ColumnElement[int]:
    """How well an image answers to the words that it was found by: the sum over them.

    4 for a word of its name (filename, title and tags), 3 for the beginning of one, 2 for a word of
    its alt text or prompt, 1 for the beginning of one. It is the image's own: no other image that
    comes or goes changes it, so pages by it fit together.
    """
    space = literal_column("' '", Text)
    name, rest = (space + col(text) + space for text in (Image.name_text, Image.search_text))

    def has(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
        place = func.instr(text, part) if shelf.is_sqlite else func.strpos(text, part)
        return place > 0

    total: ColumnElement[int] = literal_column("0", Integer)
    for word in words:
        whole, beginning = f" {word} ", f" {word}" if len(word) > 1 else f" {word} "
        total = total + case(
            (has(name, whole), 4), (has(name, beginning), 3), (has(rest, whole), 2), else_=1
        )
    return total


def unindexed(shelf: Shelf, column: Any) -> Any:
    """The column, as SQLite neither looks it up nor takes its order from an index.

    It knows no more of a range than that it is one. PostgreSQL knows its size, and decides itself.
    """
    if not shelf.is_sqlite:
        return column
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


class Driving(Join):
    """A join that SQLite reads from left to right, so that the left side gives the order."""

    inherit_cache = True


@compiles(Driving, "sqlite")
def _driving(join: Driving, compiler: SQLCompiler, **options: Any) -> str:
    joined = str(compiler.visit_join(join, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's
    return joined.replace(" JOIN ", " CROSS JOIN ", 1)
