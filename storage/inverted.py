"""From a word to the images that have it: the two text indexes, as each database has them.

Words. SQLite keeps them in `image_words`, an FTS5 index without contents, PostgreSQL in a GIN index
over `image_words(…)`. Both hold every word behind its workspace (`scope`), so a search reads
nothing of other workspaces, however many there are, and nothing of the trash.

Filenames. SQLite keeps the trigrams of folded filenames in `image_filenames`, PostgreSQL in a GIN
index of pg_trgm. Without that extension filenames are compared one by one within the workspace.

An FTS5 index gives its rows by their number, which is the image's `place`: so the newest that have
a word are its first.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final
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
    literal_column,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.operators import custom_op

from storage.models import Image, table_of
from storage.statements import Given, Term

IMAGES: Final = table_of(Image)

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
    def condition(self) -> Term:
        return Term(_matches, self.index, Given(self.query, TEXT))


TEXT: Final = Text()
INTEGER: Final = Integer()
WORDS: Final = table("image_words", column("rowid", BigInteger))
FILENAMES: Final = table("image_filenames", column("rowid", BigInteger))


def _matches(index: FromClause, query: Any) -> ColumnElement[bool]:
    return literal_column(index.description).op("MATCH", is_comparison=True)(query)


def word_hits(shelf: Shelf, words: Sequence[str]) -> Hits:
    return Hits(WORDS, " AND ".join(_term(shelf, word) for word in words))


def filename_hits(part: str, *, is_beginning: bool) -> Hits:
    """More than there are: a filename can have all of its trigrams in other places."""
    signs = BEGINNING + part if is_beginning else part
    trigrams = list(dict.fromkeys(signs[n : n + 3] for n in range(len(signs) - 2)))
    return Hits(FILENAMES, " AND ".join(_quoted(trigram) for trigram in trigrams[:MAX_TRIGRAMS]))


def _term(shelf: Shelf, word: str) -> str:
    """The word, or the beginning of one. One sign alone would begin too many."""
    return _quoted(shelf.scope + word) + (" *" if len(word) > 1 else "")


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def has_words(shelf: Shelf, words: Sequence[str]) -> Term:
    """Whether an image has each of the words, or one that begins with it."""
    if shelf.is_sqlite:
        return _among(word_hits(shelf, words))
    lexemes = " & ".join(
        "'" + (shelf.scope + word).replace("\\", "\\\\").replace("'", "''") + "'"
        + (":*" if len(word) > 1 else "")
        for word in words
    )  # fmt: skip
    return Term(_has_lexemes, Given(lexemes, TEXT))


def _has_lexemes(lexemes: Any) -> ColumnElement[bool]:
    indexed: ColumnElement[Any] = literal_column(
        "image_words(images.workspace_id, images.deleted_at IS NOT NULL, "
        "images.name_text, images.search_text)"
    )
    return indexed.op("@@", is_comparison=True)(cast(lexemes, TSQUERY))


def has_filename(shelf: Shelf, part: str, *, is_beginning: bool, is_looked_up: bool = True) -> Term:
    """Whether an image's folded filename has the part. Not `is_looked_up`: without the index."""
    if not shelf.is_sqlite:
        escaped = part.replace("/", "//").replace("%", "/%").replace("_", "/_")
        return Term(_is_like, Given(f"{escaped}%" if is_beginning else f"%{escaped}%", TEXT))
    compared = Term(
        _begins_with if is_beginning else _contains, Given(part, TEXT), Given(len(part), INTEGER)
    )
    if not is_looked_up:
        return compared
    return Term(and_, _among(filename_hits(part, is_beginning=is_beginning)), compared)


def _is_like(pattern: Any) -> Any:
    return IMAGES.c.folded_filename.like(pattern, escape="/")


def _begins_with(part: Any, length: Any) -> Any:
    return func.substr(IMAGES.c.folded_filename, 1, length) == part


def _contains(part: Any, _: Any) -> ColumnElement[bool]:
    return func.instr(IMAGES.c.folded_filename, part) > 0


def _among(hits: Hits) -> Term:
    return Term(_is_placed_in, hits.index, hits.condition)


def _is_placed_in(index: FromClause, condition: Any) -> ColumnElement[bool]:
    return IMAGES.c.place.in_(select(index.c.rowid).where(condition))


def relevance(shelf: Shelf, words: Sequence[str]) -> Term:
    """How well an image answers to the words that it was found by: the sum over them.

    4 for a word of its name (filename, title and tags), 3 for the beginning of one, 2 for a word of
    its alt text or prompt, 1 for the beginning of one. It is the image's own: no other image that
    comes or goes changes it, so pages by it fit together.
    """
    looked_for: list[Hashable] = []
    for word in words:
        whole, beginning = f" {word} ", f" {word}" if len(word) > 1 else f" {word} "
        looked_for += (Given(whole, TEXT), Given(beginning, TEXT))
    return Term(_points_on_sqlite if shelf.is_sqlite else _points, *looked_for)


def _points_on_sqlite(*looked_for: Any) -> ColumnElement[int]:
    return _points(*looked_for, place=func.instr)


def _points(*looked_for: Any, place: Any = func.strpos) -> ColumnElement[int]:
    space = literal_column("' '", Text)
    name, rest = (space + text + space for text in (IMAGES.c.name_text, IMAGES.c.search_text))

    def has(text: ColumnElement[str], part: Any) -> ColumnElement[bool]:
        return place(text, part) > 0  # type: ignore[no-any-return]  # SQLAlchemy's

    total: ColumnElement[int] = literal_column("0", Integer)
    for whole, beginning in zip(looked_for[::2], looked_for[1::2], strict=True):
        total = total + case(
            (has(name, whole), 4), (has(name, beginning), 3), (has(rest, whole), 2), else_=1
        )
    return total


def unindexed(shelf: Shelf, column: Hashable) -> Hashable:
    """The column, as SQLite neither looks it up nor takes its order from an index.

    It knows no more of a range than that it is one. PostgreSQL knows its size, and decides itself.
    """
    return Term(_unindexed, column) if shelf.is_sqlite else column


def _unindexed(column: Any) -> Any:
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


class Driving(Join):
    """A join that SQLite reads from left to right, so that the left side gives the order."""

    inherit_cache = True


@compiles(Driving, "sqlite")
def _driving(join: Driving, compiler: SQLCompiler, **options: Any) -> str:
    joined = str(compiler.visit_join(join, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's
    return joined.replace(" JOIN ", " CROSS JOIN ", 1)


def driven_by_text(index: FromClause) -> Driving:
    """The images that a text index gives, in its order."""
    return Driving(index, IMAGES, IMAGES.c.place == index.c.rowid)
