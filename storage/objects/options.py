"""How to reach the stores that are elsewhere. Apart from them: their libraries import slowly."""

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is. Without a key of our own, the usual AWS sources of keys are asked.

    `endpoint_url` is None for AWS itself. `public_endpoint_url` is how browsers reach the bucket,
    where that differs: links are signed for it.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    addressing: Literal["path", "virtual", "auto"] = "path"
    checksums: Literal["when_required", "when_supported"] = "when_required"
    connect_seconds: float = 3
    read_seconds: float = 30


@dataclass(frozen=True, slots=True)
class CloudinaryOptions:
    """Which cloud, and a folder in it; the URLs are Cloudinary's own, or those of a region."""

    cloud: str
    api_key: str
    api_secret: SecretStr
    folder: str = ""
    api_url: str = "https://api.cloudinary.com"
    delivery_url: str = "https://res.cloudinary.com"
    connect_seconds: float = 5
    read_seconds: float = 30
