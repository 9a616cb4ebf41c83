"""The tables. A row is the truth; everything else is told from it.

Times are aware and UTC. Ids are random UUIDs. Every row a client can name carries its workspace.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum, StrEnum
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    Computed,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy import Enum as EnumColumn
from sqlmodel import Column, Field, Relationship, SQLModel

from storage.words import MAX_NAME, fold


class ObjectState(StrEnum):
    """`pending` before its bytes are written, `live` with its picture, `doomed` before it goes."""

    PENDING = "pending"
    LIVE = "live"
    DOOMED = "doomed"


class ImageOrigin(StrEnum):
    UPLOADED = "uploaded"
    IMPORTED = "imported"
    GENERATED = "generated"


class Orientation(StrEnum):
    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    SQUARE = "square"


class ContentState(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    PUBLISHED = "published"


class Platform(StrEnum):
    INSTAGRAM = "instagram"


class GenerationStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = (GenerationStatus.SUCCEEDED, GenerationStatus.FAILED, GenerationStatus.CANCELLED)


class EntryState(StrEnum):
    """What is known of a cost: `reserved` before, then `settled`, or `assumed` for good."""

    RESERVED = "reserved"
    SETTLED = "settled"
    ASSUMED = "assumed"


class Dollars(TypeDecorator[Decimal]):
    """US dollars, kept as millionths: whole numbers, which every database adds up exactly."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value) / 1_000_000


def micros(amount: Decimal) -> int:
    """Millionths of a dollar."""
    return int((amount * 1_000_000).to_integral_value(ROUND_HALF_UP))


class FoldedName(TypeDecorator[str]):
    """A folded filename, of which only as much is kept as fits in an index (`MAX_NAME`)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or len(value) * 4 <= MAX_NAME:
            return value
        return value.encode()[:MAX_NAME].decode(errors="ignore")


def now() -> datetime:
    return datetime.now(UTC)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
IN_A_MICROSECOND = 11  # bits: places for 2,048 images


def first_place(time: datetime) -> int:
    """The first place of a moment, see `Image.place`."""
    return (time - EPOCH) // timedelta(microseconds=1) << IN_A_MICROSECOND


def place_of(created_at: datetime, id: UUID) -> int:
    """The place of an image, unless that is taken."""
    return first_place(created_at) + (id.int >> 128 - IN_A_MICROSECOND)


def _words_of(enum: type[Enum]) -> EnumColumn:
    """A text column that holds the enum's values: a new value then needs no migration."""
    return EnumColumn(
        enum, native_enum=False, length=32, values_callable=lambda kinds: [k.value for k in kinds]
    )


def _owner() -> Any:
    return Field(foreign_key="workspaces.id")


def _gone_with_the_workspace() -> Any:
    return Field(sa_column=Column(ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False))


def _numbered() -> Any:
    return Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


class Workspace(SQLModel, table=True):
    """A team's library. What belongs to one workspace does not exist for another."""

    __tablename__ = "workspaces"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str = Field(unique=True, max_length=100)
    created_at: datetime = Field(default_factory=now)


class ApiKey(SQLModel, table=True):
    """A secret that speaks for its workspace. Only its SHA-256 is kept."""

    __tablename__ = "api_keys"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    workspace_id: UUID = _owner()
    name: str = Field(max_length=100)
    token_sha256: str = Field(unique=True, max_length=64)
    created_at: datetime = Field(default_factory=now)
    revoked_at: datetime | None = None


class StoredObject(SQLModel, table=True):
    """Bytes in the store, by their key. The row is there before the bytes and goes after them.

    `image_id` is the picture that the bytes are for, which need not exist yet. Objects of a
    generation that still runs are not swept, so that its recovery can adopt them. What has an
    `expires_at` is swept then, and not before.
    """

    __tablename__ = "objects"
    __table_args__ = (Index("objects_by_state", "state", "changed_at"),)

    key: str = Field(primary_key=True, max_length=255)
    workspace_id: UUID = _owner()
    state: ObjectState = Field(sa_type=_words_of(ObjectState))
    media_type: str = Field(max_length=64)
    byte_size: int
    sha256: str = Field(max_length=64)
    image_id: UUID | None = Field(default=None, index=True)
    generation_id: UUID | None = Field(default=None, foreign_key="generations.id", index=True)
    expires_at: datetime | None = None
    changed_at: datetime = Field(default_factory=now)


class ImageTag(SQLModel, table=True):
    """A tag of an image.

    What follows the tag is the image's; the database fills it in and keeps it in step. `is_deleted`
    says that the image is in the trash.
    """

    __tablename__ = "image_tags"
    __table_args__ = (
        Index("tags_by_place", "workspace_id", "is_deleted", "tag", "place", "image_id"),
    )

    image_id: UUID = Field(
        sa_column=Column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    )
    tag: str = Field(primary_key=True, max_length=64)
    workspace_id: UUID | None = None
    is_deleted: bool | None = None
    place: int | None = Field(default=None, sa_type=BigInteger)


class Picture(SQLModel):
    """What is known of a picture's bytes. Width and height are pixels, as displayed.

    `sha256` is of the clean file that is kept, `source_sha256` of what was sent. `declares_ai` and
    `has_c2pa` tell of marks that the file came with.
    """

    media_type: str = Field(max_length=64)
    byte_size: int
    sha256: str = Field(max_length=64)
    source_media_type: str = Field(max_length=64)
    source_sha256: str = Field(max_length=64)
    width: int
    height: int
    frames: int
    has_alpha: bool
    declares_ai: bool
    has_c2pa: bool
    dominant_color: str = Field(max_length=7)
    thumbhash: str = Field(max_length=64)
    perceptual_hash: str = Field(max_length=16)
    object_key: str = Field(foreign_key="objects.key", index=True, max_length=255)


def _place(context: Any) -> int:
    said = context.get_current_parameters()
    return place_of(said["created_at"], said["id"])


def _folded_filename(context: Any) -> str:
    return fold(context.get_current_parameters()["filename"])


BY_SIGNS: dict[str, Any] = {"postgresql_ops": {"folded_filename": 'COLLATE "C"'}}
"""By the signs' numbers, as SQLite does it; PostgreSQL by the language it was made for, else."""

LIVE = text("deleted_at IS NULL")
TRASHED = text("deleted_at IS NOT NULL")


def _index(name: str, *columns: str, where: Any = LIVE, **options: Any) -> Index:
    """An index over a part of the images: the library, if nothing else is said."""
    return Index(name, *columns, sqlite_where=where, postgresql_where=where, **options)


def _some(name: str, condition: str, *columns: str) -> Index:
    """An index over the images of the library for which something holds."""
    where = text(f"{condition} AND deleted_at IS NULL")
    return _index(name, "workspace_id", *columns, "place", "id", where=where)


def _true(name: str, column: str) -> Index:
    """An index over those of which a column is true: SQLite has numbers for that."""
    return Index(
        name,
        "workspace_id",
        "place",
        "id",
        sqlite_where=text(f"{column} = 1 AND deleted_at IS NULL"),
        postgresql_where=text(f"{column} AND deleted_at IS NULL"),
    )


class Image(Picture, table=True):
    """A picture in a library.

    `version` counts the changes of the row, new bytes included. The focal point is 0..1 from the
    top left, as displayed. `parent_id` is the image that it was made from, while that exists.
    `provider` and `model` are its generation's. `deleted_at` is set while it is in the trash.

    `place` is its place in the order of creation: microseconds since 1970, shifted by
    `IN_A_MICROSECOND`, then the first bits of its id. On SQLite, where the text indexes count by
    it, an image whose place is taken gets the next one that is free.

    What it is found by is folded (see `storage.words`): `name_text` has the words of filename,
    title and tags, `search_text` those of alt text and prompt.

    The database itself keeps the text indexes, the counters and the tags' copies in step, by
    triggers (see migration 0004). A migration that makes the table anew makes them anew.
    """

    __tablename__ = "images"
    __table_args__ = (
        # The trash does not hinder the same bytes from coming again.
        _index("one_image_per_bytes", "workspace_id", "sha256", unique=True),
        Index("images_by_source", "workspace_id", "source_sha256"),
        _index("images_by_place", "workspace_id", "place", "id"),
        _index("trash_by_place", "workspace_id", "place", "id", where=TRASHED),
        _index("images_by_updated_at", "workspace_id", "updated_at", "id"),
        _index("images_by_filename", "workspace_id", "filename", "id"),
        _index("images_by_name", "workspace_id", "folded_filename", "id", **BY_SIGNS),
        _index("images_by_byte_size", "workspace_id", "byte_size", "id"),
        _index("images_by_width", "workspace_id", "width"),
        _index("images_by_height", "workspace_id", "height"),
        _index("images_by_origin", "workspace_id", "origin", "place", "id"),
        _index("images_by_orientation", "workspace_id", "orientation", "place", "id"),
        _index("images_by_media_type", "workspace_id", "media_type", "place", "id"),
        _some("images_by_provider", "provider IS NOT NULL", "provider"),
        _some("images_by_model", "model IS NOT NULL", "model"),
        _true("images_by_ai", "is_ai_generated"),
        _true("favorite_images", "is_favorite"),
        _some("images_with_alt_text", "alt_text IS NOT NULL"),
        _some("images_without_alt_text", "alt_text IS NULL"),
        _index("images_by_deleted_at", "deleted_at", where=TRASHED),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    workspace_id: UUID = _owner()
    place: int = Field(default=None, sa_column=Column(BigInteger, nullable=False, default=_place))
    version: int = 1
    origin: ImageOrigin = Field(sa_type=_words_of(ImageOrigin))
    provider: str | None = Field(default=None, max_length=64)
    model: str | None = Field(default=None, max_length=100)
    is_ai_generated: bool = False
    filename: str = Field(default="", max_length=255)
    folded_filename: str = Field(
        default=None, sa_column=Column(FoldedName, nullable=False, default=_folded_filename)
    )
    title: str = Field(default="", max_length=255)
    alt_text: str | None = Field(default=None, max_length=1000)
    is_favorite: bool = False
    focal_x: float | None = None
    focal_y: float | None = None
    orientation: Orientation = Field(
        default=None,
        sa_column=Column(
            _words_of(Orientation),
            Computed(
                "CASE WHEN width > height THEN 'landscape' "
                "WHEN width < height THEN 'portrait' ELSE 'square' END",
                persisted=True,
            ),
            nullable=False,
        ),
    )
    generation_id: UUID | None = Field(default=None, foreign_key="generations.id", index=True)
    parent_id: UUID | None = Field(
        default=None,
        sa_column=Column(ForeignKey("images.id", ondelete="SET NULL"), nullable=True, index=True),
    )
    name_text: str = Field(default="", sa_type=Text)
    search_text: str = Field(default="", sa_type=Text)
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    deleted_at: datetime | None = None

    tag_rows: list[ImageTag] = Relationship(
        sa_relationship_kwargs={
            "lazy": "selectin",
            "cascade": "all, delete-orphan",
            "passive_deletes": True,
        }
    )

    @property
    def tags(self) -> list[str]:
        """In alphabetical order, which is the same on every database."""
        return sorted(row.tag for row in self.tag_rows)


class ImageCount(SQLModel, table=True):
    """How many images there are of a kind: the sum of `n` over the rows of that kind.

    `day` is as in `2026-11-25`, UTC; `provider` is empty for what no provider made. The database
    writes it, by triggers, in the transaction that changes the images. On PostgreSQL it only adds
    rows, which nobody has to wait for, and folds them where they have become many; a worker folds
    the rest now and then (see `storage.counters`).
    """

    __tablename__ = "image_counts"
    __table_args__ = (
        Index(
            "image_counts_by_day",
            "workspace_id",
            "is_deleted",
            "day",
            "origin",
            "orientation",
            "provider",
            "is_ai_generated",
            "n",
        ),
    )

    id: int | None = Field(default=None, sa_column=_numbered())
    workspace_id: UUID = _gone_with_the_workspace()
    is_deleted: bool
    day: str = Field(max_length=10)
    origin: ImageOrigin = Field(sa_type=_words_of(ImageOrigin))
    orientation: Orientation = Field(sa_type=_words_of(Orientation))
    provider: str = Field(max_length=64)
    is_ai_generated: bool
    n: int


class TagCount(SQLModel, table=True):
    """How many images have a tag, in the library or in the trash. Kept as `ImageCount` is."""

    __tablename__ = "tag_counts"
    __table_args__ = (Index("tag_counts_by_tag", "workspace_id", "is_deleted", "tag", "n"),)

    id: int | None = Field(default=None, sa_column=_numbered())
    workspace_id: UUID = _gone_with_the_workspace()
    is_deleted: bool
    tag: str = Field(max_length=64)
    n: int


class ImageVersion(Picture, table=True):
    """Bytes that an image had until `replaced_at`."""

    __tablename__ = "image_versions"

    image_id: UUID = Field(
        sa_column=Column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    )
    sha256: str = Field(primary_key=True, max_length=64)
    replaced_at: datetime = Field(default_factory=now)


class DirectUpload(SQLModel, table=True):
    """A file that a client sends straight to the store, under `key`, until `expires_at`.

    It is described as the client announced it; `sha256` may be unknown. `image_id` is set when its
    bytes have been taken in.
    """

    __tablename__ = "direct_uploads"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    workspace_id: UUID = _owner()
    key: str = Field(max_length=255)
    filename: str = Field(default="", max_length=255)
    title: str = Field(default="", max_length=255)
    alt_text: str | None = Field(default=None, max_length=1000)
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    media_type: str = Field(max_length=64)
    byte_size: int
    sha256: str | None = Field(default=None, max_length=64)
    image_id: UUID | None = None
    created_at: datetime = Field(default_factory=now)
    expires_at: datetime = Field(index=True)


class Content(SQLModel, table=True):
    """A post in the making. `external_id` is its name in the caller's own system."""

    __tablename__ = "contents"
    __table_args__ = (
        UniqueConstraint("workspace_id", "external_id", name="one_content_per_external_id"),
        Index("contents_by_state", "workspace_id", "state"),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    workspace_id: UUID = _owner()
    version: int = 1
    external_id: str = Field(max_length=255)
    text: str = Field(default="", sa_type=Text)
    platforms: list[str] = Field(default_factory=list, sa_type=JSON)
    state: ContentState = Field(default=ContentState.DRAFT, sa_type=_words_of(ContentState))
    scheduled_at: datetime | None = None
    auto_image: bool = False
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class Attachment(SQLModel, table=True):
    """An image's place in a content. Positions count from 0 without gaps.

    `published_sha256` names the bytes that were published, where the image has others by now.
    """

    __tablename__ = "attachments"
    __table_args__ = (UniqueConstraint("content_id", "image_id", name="an_image_once_per_content"),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    content_id: UUID = Field(foreign_key="contents.id")
    image_id: UUID = Field(foreign_key="images.id", index=True)
    position: int
    alt_text_override: str | None = Field(default=None, max_length=1000)
    published_sha256: str | None = Field(default=None, max_length=64)
    created_at: datetime = Field(default_factory=now)


class FormerPlace(SQLModel, table=True):
    """Where an image in the trash was attached, to be put back there when it is restored."""

    __tablename__ = "former_places"

    image_id: UUID = Field(
        sa_column=Column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    )
    content_id: UUID = Field(
        sa_column=Column(ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True)
    )
    position: int
    alt_text_override: str | None = Field(default=None, max_length=1000)


class Generation(SQLModel, table=True):
    """One wish for a picture, and how far it has come.

    `sequence` grows by one with every change a subscriber may see. `called_at` is the pay-once
    latch: set before the provider is called, and cleared only when the provider has said that the
    call does not count, so that no crash can call it twice. `task` is the provider's own name of
    the work. `calls` counts how often it was asked, `attempts` how often the job began. `beat_at`
    is touched while the job runs. `progress` is 0..1; `expected_seconds` from the call to the end.
    `estimated_cost` was reserved; `actual_cost` is what the provider has taken so far.
    """

    __tablename__ = "generations"
    __table_args__ = (
        Index("generations_by_created_at", "workspace_id", "created_at", "id"),
        Index("generations_by_status", "status", "workspace_id", "requested_by"),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    workspace_id: UUID = _owner()
    requested_by: str = Field(max_length=100)
    status: GenerationStatus = Field(
        default=GenerationStatus.QUEUED,
        sa_type=_words_of(GenerationStatus),
    )
    provider: str = Field(max_length=64)
    model: str = Field(max_length=100)
    prompt: str = Field(sa_type=Text)
    revised_prompt: str | None = Field(default=None, sa_type=Text)
    negative_prompt: str | None = Field(default=None, sa_type=Text)
    requested_count: int
    width: int
    height: int
    quality: str | None = Field(default=None, max_length=32)
    background: str | None = Field(default=None, max_length=32)
    style: str | None = Field(default=None, max_length=64)
    seed: int | None = None
    reference_image_ids: list[str] = Field(default_factory=list, sa_type=JSON)
    mask_image_id: UUID | None = None
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    alt_text: str | None = Field(default=None, max_length=1000)
    content_id: UUID | None = Field(default=None, foreign_key="contents.id")
    attach: bool = False
    retry_of: UUID | None = Field(default=None, foreign_key="generations.id")
    notice: str | None = Field(default=None, sa_type=Text)
    sequence: int = 1
    progress: float = 0.0
    stage: str = Field(default="queued", max_length=64)
    preview_key: str | None = Field(default=None, max_length=255)
    called_at: datetime | None = None
    task: str | None = Field(default=None, max_length=255)
    calls: int = 0
    attempts: int = 0
    estimated_cost: Decimal = Field(default=Decimal(0), sa_type=Dollars)
    actual_cost: Decimal = Field(default=Decimal(0), sa_type=Dollars)
    failure_code: str | None = Field(default=None, max_length=64)
    failure_message: str | None = Field(default=None, sa_type=Text)
    failure_remedy: str | None = Field(default=None, sa_type=Text)
    failure_retry_after: float | None = None
    failure_is_retryable: bool = False
    expected_seconds: float | None = None
    created_at: datetime = Field(default_factory=now)
    started_at: datetime | None = None
    beat_at: datetime = Field(default_factory=now)
    finished_at: datetime | None = None


class GenerationImage(SQLModel, table=True):
    """A picture that a generation brought; `sequence` is the generation's when it came.

    Equal bytes are one image, so several generations can bring the same one.
    """

    __tablename__ = "generation_images"

    generation_id: UUID = Field(
        sa_column=Column(ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True)
    )
    position: int = Field(primary_key=True)
    image_id: UUID = Field(
        sa_column=Column(ForeignKey("images.id", ondelete="CASCADE"), nullable=False, index=True)
    )
    sequence: int


class Spending(SQLModel, table=True):
    """What a month has cost: of a workspace, under the viewer's name `""`, and of each viewer.

    `month` is as in `2026-11`, UTC. `reserved` is for generations that have not ended.
    """

    __tablename__ = "spendings"

    workspace_id: UUID = Field(foreign_key="workspaces.id", primary_key=True)
    month: str = Field(primary_key=True, max_length=7)
    viewer: str = Field(primary_key=True, max_length=100)
    reserved: Decimal = Field(default=Decimal(0), sa_type=Dollars)
    spent: Decimal = Field(default=Decimal(0), sa_type=Dollars)


class LedgerEntry(SQLModel, table=True):
    """What one generation costs, and how surely that is known. `actual` is 0 while reserved."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ledger_by_created_at", "workspace_id", "created_at", "id"),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    generation_id: UUID = Field(foreign_key="generations.id", unique=True)
    workspace_id: UUID = _owner()
    viewer: str = Field(max_length=100)
    month: str = Field(max_length=7)
    state: EntryState = Field(default=EntryState.RESERVED, sa_type=_words_of(EntryState))
    estimated: Decimal = Field(sa_type=Dollars)
    actual: Decimal = Field(default=Decimal(0), sa_type=Dollars)
    created_at: datetime = Field(default_factory=now)
    settled_at: datetime | None = None


class IdempotencyKey(SQLModel, table=True):
    """What a key was first used for. `fingerprint` is a SHA-256 of operation and arguments."""

    __tablename__ = "idempotency_keys"

    workspace_id: UUID = Field(foreign_key="workspaces.id", primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    fingerprint: str = Field(max_length=64)
    subject_id: UUID
    created_at: datetime = Field(default_factory=now)


def table_of(model: type[SQLModel]) -> Table:
    """For statements that give plain rows."""
    return cast(Table, inspect(model).local_table)
