"""Settings, read once from the environment and a `.env` file. Nothing else reads those."""

import secrets
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.containers import Bounds
from storage.database import sqlite_url


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Every field is the variable `DARKROOM_` + its name in capitals. Sizes are bytes."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_file=".env", extra="ignore", frozen=True
    )

    environment: Environment = Field(
        default=Environment.DEVELOPMENT,
        description="`development` serves an IDE and, on a loopback address, one local viewer.",
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="The port to listen on.")
    public_url: str | None = Field(
        default=None, description="How browsers reach this service. Default: http://HOST:PORT."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Other web origins that may use the API, apart by commas."
    )
    data_dir: Path = Field(default=Path("data"), description="The folder of everything embedded.")
    database_url: SecretStr | None = Field(
        default=None, description="`postgresql://…` or `sqlite:///…`. Default: SQLite in DATA_DIR."
    )
    objects_url: str | None = Field(
        default=None, description="Where the bytes are: `file:///…`. Default: a folder in DATA_DIR."
    )
    signing_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Secrets that sign picture URLs, apart by commas: the first signs, all verify. "
        "Default: made once and kept in DATA_DIR.",
    )
    provider: str = Field(default="card", description="Who makes a picture when nobody says.")

    max_upload_bytes: int = Field(default=50 * 2**20, ge=1, description="The largest file.")
    max_pixels: int = Field(default=50_000_000, ge=1, description="The most pixels of a picture.")
    decode_seconds: float = Field(default=10, gt=0, description="How long a file may decode.")
    decode_memory_bytes: int = Field(
        default=2 * 2**30, ge=2**28, description="Address space of a process that decodes."
    )
    decode_waiting: int = Field(
        default=32, ge=0, description="Uploads that wait for a decoder before others are sent away."
    )
    max_frames: int = Field(default=500, ge=1, description="The most frames of an animation.")
    max_jpeg_scans: int = Field(default=100, ge=1, description="The most scans of a JPEG.")
    max_png_chunks: int = Field(default=20_000, ge=1, description="The most chunks of a PNG.")
    decode_workers: int = Field(default=2, ge=1, description="Processes that decode uploads.")
    render_threads: int = Field(default=2, ge=1, description="Threads that make renditions.")
    renditions_per_image: int = Field(
        default=100, ge=1, description="Stored for one image; further ones are made each time."
    )
    rendition_memory_bytes: int = Field(
        default=64 * 2**20, ge=0, description="Renditions at hand in memory."
    )
    generations_at_once: int = Field(
        default=4, ge=1, description="Running jobs of a provider, per process."
    )
    generations_per_workspace: int = Field(
        default=2, ge=1, description="Running jobs of a provider for one workspace."
    )
    card_stage_seconds: float = Field(
        default=0,
        ge=0,
        le=60,
        description="A pause after each stage of a card, to watch it.",
    )
    max_subscriptions: int = Field(default=20, ge=1, description="Operations of one WebSocket.")
    max_tokens: int = Field(default=1500, ge=1, description="The longest document, in tokens.")
    max_depth: int = Field(default=15, ge=1, description="The deepest selection.")
    max_cost: int = Field(default=10_000, ge=1, description="The most objects a query may ask for.")
    drain_seconds: int = Field(
        default=30, ge=0, description="How long running work may take to end after SIGTERM."
    )
    lease_seconds: float = Field(
        default=15,
        gt=0,
        description="How long a job may be silent until its worker counts as dead.",
    )
    sweep_seconds: float = Field(default=60, gt=0, description="How often leftovers are swept.")
    grace_minutes: float = Field(
        default=60, gt=0, description="How long an interrupted upload is kept before it is swept."
    )

    @field_validator("allowed_origins", "signing_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("signing_keys")
    @classmethod
    def _strong(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < 32 for key in keys):
            raise ValueError("each key needs at least 32 characters: try `openssl rand -hex 32`")
        return keys

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("postgresql", "postgres:", "sqlite:///")):
            raise ValueError("must begin with postgresql:// or sqlite:///")
        return url

    @field_validator("objects_url")
    @classmethod
    def _known_store(cls, url: str | None) -> str | None:
        if url and not (url.startswith("file:///") and len(url) > len("file:///")):
            raise ValueError("must begin with file:/// and name a folder")
        return url

    @field_validator("public_url")
    @classmethod
    def _whole_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://-")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("must be a whole URL, as in https://pictures.example.org")
        return url.rstrip("/") if url else None

    @model_validator(mode="after")
    def _keys_are_shared(self) -> Self:
        if not self.is_embedded and not self.signing_keys:
            raise ValueError(
                "DARKROOM_SIGNING_KEYS must be set with PostgreSQL, since all processes must sign "
                "alike: try `openssl rand -hex 32`"
            )
        return self

    @property
    def is_embedded(self) -> bool:
        """One process on SQLite, which needs nothing beside it."""
        return self.database.startswith("sqlite")

    @property
    def database(self) -> str:
        if self.database_url:
            url = self.database_url.get_secret_value()
            return url.replace("postgres://", "postgresql://", 1)
        return sqlite_url(self.data_dir.resolve() / "darkroom.db")

    @property
    def objects_dir(self) -> Path:
        if self.objects_url:
            return Path(urlsplit(self.objects_url).path)
        return self.data_dir.resolve() / "objects"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def has_local_viewer(self) -> bool:
        """In production a proxy may stand before a loopback address, so there it counts nothing."""
        return self.is_loopback and self.environment is Environment.DEVELOPMENT

    @property
    def base_url(self) -> str:
        if self.public_url:
            return self.public_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def bounds(self) -> Bounds:
        return Bounds(
            max_frames=self.max_frames,
            max_jpeg_scans=self.max_jpeg_scans,
            max_png_chunks=self.max_png_chunks,
            max_pixels=self.max_pixels,
            max_frame_pixels=5 * self.max_pixels,
        )

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def grace(self) -> timedelta:
        return timedelta(minutes=self.grace_minutes)

    def url_keys(self) -> list[bytes]:
        """The signing keys; embedded ones are made at the first start and read ever after."""
        if self.signing_keys:
            return [key.get_secret_value().encode() for key in self.signing_keys]
        path = self.data_dir / "signing-key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return [path.read_text().strip().encode()]
