"""Settings, read once from the environment and a `.env` file. Nothing else reads those."""

import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from generation.plugins import Absent
from generation.providers.options import (
    CatalogueOptions,
    GeminiOptions,
    MidjourneyOptions,
    OpenAIOptions,
    StabilityOptions,
)
from storage.containers import Bounds
from storage.database import sqlite_url
from storage.errors import Unavailable
from storage.jobs import Limits
from storage.ledger import Budgets
from storage.objects.options import CloudinaryOptions, S3Options


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
        default=None,
        description="Where the bytes are: `file:///…`, `s3://bucket/prefix` or "
        "`cloudinary://cloud/folder`. Default: a folder in DATA_DIR.",
    )
    objects_fallback_url: str | None = Field(
        default=None,
        description="Where the bytes were, while they move: read where the store lacks them.",
    )
    s3_endpoint_url: str | None = Field(
        default=None, description="The S3 server, if it is not AWS: `https://…`."
    )
    s3_public_endpoint_url: str | None = Field(
        default=None, description="How browsers reach the S3 server, where that differs."
    )
    s3_region: str = Field(default="us-east-1", description="The bucket's region.")
    s3_access_key_id: str | None = Field(
        default=None, description="Default: where AWS's tools look for their key."
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, description="The key's secret.")
    s3_addressing: Literal["path", "virtual", "auto"] | None = Field(
        default=None,
        description="Where the bucket stands in URLs. Default: `auto` on AWS, `path` elsewhere.",
    )
    s3_checksums: Literal["when_required", "when_supported"] | None = Field(
        default=None,
        description="Whether uploads carry checksums. Default: `when_supported` on AWS, "
        "`when_required` elsewhere.",
    )
    s3_connect_seconds: float = Field(
        default=3, gt=0, description="How long a connection to S3 may take."
    )
    s3_read_seconds: float = Field(default=30, gt=0, description="How long S3 may be silent.")
    cloudinary_api_key: str | None = Field(default=None, description="Cloudinary's API key.")
    cloudinary_api_secret: SecretStr | None = Field(default=None, description="And its secret.")
    cloudinary_api_url: str = Field(
        default="https://api.cloudinary.com", description="Cloudinary's API, in your region."
    )
    cloudinary_delivery_url: str = Field(
        default="https://res.cloudinary.com", description="Where Cloudinary delivers from."
    )
    signing_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Secrets that sign picture URLs, apart by commas: the first signs, all verify. "
        "Default: made once and kept in DATA_DIR.",
    )
    provider: str | None = Field(
        default=None,
        description="Who makes a picture when nobody says. Default: `openai` or `stability`, where "
        "its key is set, else `card`.",
    )
    openai_api_key: SecretStr | None = Field(default=None, description="OpenAI's key.")
    openai_model: str = Field(
        default="gpt-image-2.6-flare",
        description="OpenAI's model when nobody says; after its end, the one that followed it.",
    )
    openai_organization: str | None = Field(default=None, description="Whose account pays.")
    openai_project: str | None = Field(default=None, description="In which of its projects.")
    openai_base_url: str | None = Field(
        default=None, description="A gateway to OpenAI, where there is one: `https://…/v1`."
    )
    compatible_base_url: str | None = Field(
        default=None,
        description="A server of your own that speaks OpenAI's protocol: `http://…/v1`.",
    )
    compatible_model: str | None = Field(
        default=None, description="That server's model. Default: the first that it lists."
    )
    compatible_api_key: SecretStr | None = Field(
        default=None, description="That server's key, where it wants one."
    )
    compatible_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts that it serves pictures from, beside itself, apart by commas: at public "
        "addresses, or in IMPORT_NETWORKS.",
    )
    stability_api_key: SecretStr | None = Field(default=None, description="Stability's key.")
    stability_model: str = Field(default="core", description="Its model when nobody says.")
    stability_base_url: str = Field(
        default="https://api.stability.ai", description="Where Stability is."
    )
    gemini_api_key: SecretStr | None = Field(default=None, description="Google Gemini's key.")
    gemini_model: str = Field(
        default="gemini-3.1-flash-image", description="Its model when nobody says."
    )
    gemini_base_url: str = Field(
        default="https://generativelanguage.googleapis.com", description="Where Gemini is."
    )
    midjourney_base_url: str | None = Field(
        default=None, description="A midjourney-proxy of your own: `http://…`."
    )
    midjourney_secret: SecretStr | None = Field(default=None, description="That proxy's secret.")
    midjourney_terms_acknowledged: bool = Field(
        default=False,
        description="Say yes to use it: Midjourney's terms forbid automation, and you answer for "
        "your account.",
    )
    midjourney_parameters: str = Field(
        default="--v 7", description="What follows every prompt there."
    )
    midjourney_price: Decimal = Field(
        default=Decimal(0), ge=0, description="What four pictures cost you there, in US dollars."
    )
    midjourney_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts that the proxy serves pictures from, beside itself and Discord, apart "
        "by commas.",
    )
    midjourney_poll_seconds: float = Field(
        default=3, gt=0, description="How often that proxy is asked how far it is."
    )
    provider_seconds: float = Field(
        default=300, gt=0, description="How long a provider's answer may take."
    )
    provider_previews: int = Field(
        default=2, ge=0, le=3, description="Unfinished pictures that OpenAI sends; each costs."
    )
    prompt_model: str | None = Field(
        default=None,
        description="A text model of OpenAI's that turns posts into prompts, once for each text "
        "and shape; no budget counts it. Default: rules do.",
    )
    workspace_monthly_budget: Decimal | None = Field(
        default=None, ge=0, description="US dollars a workspace may spend in a month."
    )
    viewer_monthly_budget: Decimal | None = Field(
        default=None, ge=0, description="US dollars a viewer may spend in a month."
    )
    c2pa_certificates: Path | None = Field(
        default=None,
        description="A PEM file with the certificate chain that signs AI pictures (C2PA).",
    )
    c2pa_private_key: Path | None = Field(
        default=None, description="A PEM file with its private key, as PKCS#8."
    )
    c2pa_algorithm: str = Field(default="es256", description="How that key signs.")
    c2pa_timestamp_url: str | None = Field(
        default=None, description="An authority that dates the signatures (RFC 3161)."
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="`redis://…`: carries progress between processes in PostgreSQL's place.",
    )
    redis_prefix: str = Field(
        default="", description="Tells installations apart that share one Redis."
    )

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
    trash_days: float = Field(
        default=30, ge=0, description="How long a deleted image can be restored."
    )
    versions_per_image: int = Field(
        default=10,
        ge=0,
        description="Earlier files kept of an image, beside those that a post has published.",
    )
    upload_minutes: float = Field(
        default=60, gt=0, le=10_080, description="How long the link of a direct upload works."
    )
    uploads_waiting: int = Field(
        default=1000, ge=1, description="Direct uploads a workspace may have open."
    )
    import_ports: Annotated[tuple[int, ...], NoDecode] = Field(
        default=(80, 443), description="Ports an import may connect to, apart by commas."
    )
    import_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Networks of your own that imports may reach, apart by commas. Public "
        "addresses always are, others never.",
    )
    import_seconds: float = Field(default=30, gt=0, description="How long an import may fetch.")
    imports_at_once: int = Field(default=4, ge=1, description="Fetches at a time, per process.")
    generations_at_once: str = Field(
        default="4",
        description="Running jobs of a provider, per process: `4`, or `4, openai=8` for others.",
    )
    generations_everywhere: str = Field(
        default="",
        description="Running jobs of a provider in all processes, in the same form. Default: any.",
    )
    generations_per_viewer: int = Field(
        default=2, ge=1, description="Running jobs of a provider for one viewer."
    )
    generations_per_minute: str = Field(
        default="",
        description="Jobs of a provider that start in a minute, in the same form. Default: any.",
    )
    generations_waiting: int = Field(
        default=100, ge=1, description="Generations that a viewer may have in the queue."
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
    max_values: int = Field(
        default=2000, ge=1, description="The most values in an operation's variables."
    )
    max_cost: int = Field(default=5000, ge=1, description="The most objects a query may ask for.")
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
    failpoint: str | None = Field(
        default=None, description="For tests: where to die, see `storage/failpoints.py`."
    )

    @field_validator(
        "allowed_origins",
        "signing_keys",
        "import_ports",
        "import_networks",
        "compatible_hosts",
        "midjourney_hosts",
        mode="before",
    )
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

    @field_validator("objects_url", "objects_fallback_url")
    @classmethod
    def _known_store(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        named = parts.path.strip("/") if parts.scheme == "file" else parts.netloc
        if parts.scheme not in ("file", "s3", "cloudinary") or not named:
            raise ValueError("must be file:///folder, s3://bucket/prefix or cloudinary://cloud")
        if "@" in parts.netloc:
            raise ValueError("holds no secrets: those have settings of their own")
        return url

    @field_validator("generations_at_once", "generations_everywhere", "generations_per_minute")
    @classmethod
    def _by_provider(cls, text: str) -> str:
        by_provider(text)
        return text

    @field_validator("public_url")
    @classmethod
    def _whole_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://-")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("must be a whole URL, as in https://pictures.example.org")
        return url.rstrip("/") if url else None

    @model_validator(mode="after")
    def _nobody_dies_in_production(self) -> Self:
        if self.failpoint and self.environment is Environment.PRODUCTION:
            raise ValueError("DARKROOM_FAILPOINT is for tests: unset it in production")
        return self

    @model_validator(mode="after")
    def _certificates_have_their_key(self) -> Self:
        if (self.c2pa_certificates is None) != (self.c2pa_private_key is None):
            raise ValueError(
                "set DARKROOM_C2PA_CERTIFICATES and DARKROOM_C2PA_PRIVATE_KEY, or neither"
            )
        return self

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

    def objects_dir(self, url: str | None) -> Path:
        """The folder of a store at `file:///…`; of None, the one in DATA_DIR."""
        return Path(urlsplit(url).path) if url else self.data_dir.resolve() / "objects"

    def s3(self, url: str) -> S3Options:
        """How to reach a store at `s3://bucket/prefix`."""
        parts = urlsplit(url)
        is_aws = self.s3_endpoint_url is None
        return S3Options(
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint_url=self.s3_endpoint_url,
            public_endpoint_url=self.s3_public_endpoint_url,
            region=self.s3_region,
            access_key_id=self.s3_access_key_id,
            secret_access_key=self.s3_secret_access_key,
            addressing=self.s3_addressing or ("auto" if is_aws else "path"),
            checksums=self.s3_checksums or ("when_supported" if is_aws else "when_required"),
            connect_seconds=self.s3_connect_seconds,
            read_seconds=self.s3_read_seconds,
        )

    def cloudinary(self, url: str) -> CloudinaryOptions:
        """How to reach a store at `cloudinary://cloud/folder`."""
        if not self.cloudinary_api_key or not self.cloudinary_api_secret:
            raise Unavailable(
                "Cloudinary needs DARKROOM_CLOUDINARY_API_KEY and DARKROOM_CLOUDINARY_API_SECRET."
            )
        parts = urlsplit(url)
        return CloudinaryOptions(
            cloud=parts.netloc,
            folder=parts.path.strip("/"),
            api_key=self.cloudinary_api_key,
            api_secret=self.cloudinary_api_secret,
            api_url=self.cloudinary_api_url,
            delivery_url=self.cloudinary_delivery_url,
        )

    @property
    def catalogue(self) -> CatalogueOptions:
        """Which providers are set up, and what the others lack."""
        lacking = {
            "openai": None if self.openai_api_key else "DARKROOM_OPENAI_API_KEY",
            "openai-compatible": (
                None if self.compatible_base_url else "DARKROOM_COMPATIBLE_BASE_URL"
            ),
            "stability": None if self.stability_api_key else "DARKROOM_STABILITY_API_KEY",
            "gemini": None if self.gemini_api_key else "DARKROOM_GEMINI_API_KEY",
            "midjourney": (
                "DARKROOM_MIDJOURNEY_BASE_URL, the address of a proxy of your own"
                if not self.midjourney_base_url
                else None
                if self.midjourney_terms_acknowledged
                else "DARKROOM_MIDJOURNEY_TERMS_ACKNOWLEDGED=true, once you have read its terms"
            ),
        }
        return CatalogueOptions(
            default=self.provider,
            card_stage_seconds=self.card_stage_seconds,
            openai=self._openai(),
            compatible=self._compatible(),
            stability=self._stability(),
            gemini=self._gemini(),
            midjourney=self._midjourney() if lacking["midjourney"] is None else None,
            absent=[Absent(name, f"Set {what}.") for name, what in lacking.items() if what],
        )

    def _openai(self) -> OpenAIOptions | None:
        if self.openai_api_key is None:
            return None
        return OpenAIOptions(
            model=self.openai_model,
            api_key=self.openai_api_key,
            base_url=self.openai_base_url,
            organization=self.openai_organization,
            project=self.openai_project,
            previews=self.provider_previews,
            seconds=self.provider_seconds,
        )

    def _compatible(self) -> OpenAIOptions | None:
        if self.compatible_base_url is None:
            return None
        return OpenAIOptions(
            model=self.compatible_model,
            api_key=self.compatible_api_key,
            base_url=self.compatible_base_url,
            is_compatible=True,
            previews=0,
            seconds=self.provider_seconds,
        )

    def _stability(self) -> StabilityOptions | None:
        if self.stability_api_key is None:
            return None
        return StabilityOptions(
            api_key=self.stability_api_key,
            model=self.stability_model,
            base_url=self.stability_base_url,
            seconds=self.provider_seconds,
        )

    def _gemini(self) -> GeminiOptions | None:
        if self.gemini_api_key is None:
            return None
        return GeminiOptions(
            api_key=self.gemini_api_key,
            model=self.gemini_model,
            base_url=self.gemini_base_url,
            seconds=self.provider_seconds,
        )

    def _midjourney(self) -> MidjourneyOptions:
        return MidjourneyOptions(
            base_url=self.midjourney_base_url or "",
            secret=self.midjourney_secret,
            parameters=self.midjourney_parameters,
            hosts=self.midjourney_hosts,
            price=self.midjourney_price,
            poll_seconds=self.midjourney_poll_seconds,
        )

    @property
    def budgets(self) -> Budgets:
        return Budgets(self.workspace_monthly_budget, self.viewer_monthly_budget)

    def limits_of(self, provider: str) -> Limits:
        """How many jobs of a provider run and start."""

        def bound(text: str) -> int | None:
            bounds = by_provider(text)
            return bounds.get(provider, bounds.get(""))

        return Limits(
            at_once=bound(self.generations_at_once) or 4,
            at_once_for_one=self.generations_per_viewer,
            at_once_everywhere=bound(self.generations_everywhere),
            starts_per_minute=bound(self.generations_per_minute),
        )

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


def by_provider(text: str) -> Mapping[str, int]:
    """`4, openai=8` as numbers by provider; under "", the one for all others. Raises ValueError."""
    numbers: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.fullmatch(r"(?:([a-z0-9-]+)\s*=\s*)?([1-9]\d{0,5})", part)
        if found is None:
            raise ValueError(f"must be as in `4` or `4, openai=8`, not {part!r}")
        numbers[found[1] or ""] = int(found[2])
    return numbers
