"""The tables. A row is the truth; everything else is told from it.

Times are aware and UTC. Ids are random UUIDs. Every row a client can name carries its workspace.
"""

from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy import Enum as EnumColumn
from sqlmodel import Column, Field, Relationship, SQLModel


class ObjectState(StrEnum):
    """`pending` before its bytes are written, `live` with its picture, `doomed` before it goes."""

    PENDING = "pending"
    LIVE = "live"
    DOOMED = "doomed"


class ImageOrigin(StrEnum):
    UPLOADED = "uploaded"
    IMPORTED = "imported"
    GENERATED = "generated"


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


def now() -> datetime:
    return datetime.now(UTC)


def _words_of(enum: type[Enum]) -> EnumColumn:
    """A text column that holds the enum's values: a new value then needs no migration."""
    return EnumColumn(
        enum, native_enum=False, length=32, values_callable=lambda kinds: [k.value for k in kinds]
    )


def _owner() -> Any:
    return Field(foreign_key="workspaces.id")


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
    __tablename__ = "image_tags"

    image_id: UUID = Field(
        sa_column=Column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    )
    tag: str = Field(primary_key=True, max_length=64, index=True)


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


class Image(Picture, table=True):
    """A picture in a library.

    `version` counts the changes of the row, new bytes included. The focal point is 0..1 from the
    top left, as displayed. `search_text` is what the text search looks in, folded (see
    `search.fold`). `deleted_at` is set while it is in the trash.
    """

    __tablename__ = "images"
    __table_args__ = (
        # The trash does not hinder the same bytes from coming again.
        Index(
            "one_image_per_bytes",
            "workspace_id",
            "sha256",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index("images_by_source", "workspace_id", "source_sha256"),
        Index("images_by_created_at", "workspace_id", "created_at", "id"),
        Index("images_by_updated_at", "workspace_id", "updated_at", "id"),
        Index("images_by_filename", "workspace_id", "filename", "id"),
        Index("images_by_byte_size", "workspace_id", "byte_size", "id"),
        Index("images_by_deleted_at", "deleted_at"),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    workspace_id: UUID = _owner()
    version: int = 1
    origin: ImageOrigin = Field(sa_type=_words_of(ImageOrigin))
    is_ai_generated: bool = False
    filename: str = Field(default="", max_length=255)
    title: str = Field(default="", max_length=255)
    alt_text: str | None = Field(default=None, max_length=1000)
    is_favorite: bool = False
    focal_x: float | None = None
    focal_y: float | None = None
    generation_id: UUID | None = Field(default=None, foreign_key="generations.id", index=True)
    search_text: str = Field(default="", sa_type=Text)
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)
    deleted_at: datetime | None = None

    tag_rows: list[ImageTag] = Relationship(
        sa_relationship_kwargs={
            "lazy": "selectin",
            "cascade": "all, delete-orphan",
            "passive_deletes": True,
            "order_by": "ImageTag.tag",
        }
    )

    @property
    def tags(self) -> list[str]:
        return [row.tag for row in self.tag_rows]


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
    latch: set before the provider is called, never cleared, so no crash can call it twice.
    `beat_at` is touched while the job runs. `progress` is 0..1.
    """

    __tablename__ = "generations"
    __table_args__ = (Index("generations_by_created_at", "workspace_id", "created_at", "id"),)

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
    requested_count: int
    width: int
    height: int
    seed: int | None = None
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    alt_text: str | None = Field(default=None, max_length=1000)
    content_id: UUID | None = Field(default=None, foreign_key="contents.id")
    attach: bool = False
    sequence: int = 1
    progress: float = 0.0
    stage: str = Field(default="queued", max_length=64)
    preview_key: str | None = Field(default=None, max_length=255)
    called_at: datetime | None = None
    attempts: int = 0
    failure_code: str | None = Field(default=None, max_length=64)
    failure_message: str | None = Field(default=None, sa_type=Text)
    failure_is_retryable: bool = False
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


class IdempotencyKey(SQLModel, table=True):
    """What a key was first used for. `fingerprint` is a SHA-256 of operation and arguments."""

    __tablename__ = "idempotency_keys"

    workspace_id: UUID = Field(foreign_key="workspaces.id", primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    fingerprint: str = Field(max_length=64)
    subject_id: UUID
    created_at: datetime = Field(default_factory=now)
