"""How to reach the providers that are elsewhere. Apart from them: their libraries import slowly."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pydantic import SecretStr

from generation.plugins import Absent


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """OpenAI itself, or where `is_compatible` a server that speaks its protocol at `base_url`.

    A `model` of None is the first that the server lists. `seconds` is how long an answer may take
    in all; a picture takes one or two minutes at most.
    """

    model: str | None
    api_key: SecretStr | None = None
    base_url: str | None = None
    organization: str | None = None
    project: str | None = None
    is_compatible: bool = False
    previews: int = 2
    seconds: float = 300
    connect_seconds: float = 5


@dataclass(frozen=True, slots=True)
class StabilityOptions:
    """`model` is `core`, `ultra`, one of Stable Diffusion's: `sd3.5-large`, …, or an upscaler.

    Each call may take `seconds`. An upscale is asked for every `poll_seconds`, and given up after
    `task_seconds`.
    """

    api_key: SecretStr
    model: str = "core"
    base_url: str = "https://api.stability.ai"
    seconds: float = 120
    connect_seconds: float = 5
    poll_seconds: float = 10
    task_seconds: float = 900


@dataclass(frozen=True, slots=True)
class GeminiOptions:
    """`seconds` is how long one picture may take in all."""

    api_key: SecretStr
    model: str = "gemini-3.1-flash-image"
    base_url: str = "https://generativelanguage.googleapis.com"
    seconds: float = 120
    connect_seconds: float = 5


@dataclass(frozen=True, slots=True)
class MidjourneyOptions:
    """An operator's own proxy at `base_url`, which holds the account; we know just its secret.

    A task is polled every `poll_seconds` and given up after `seconds`. `price` is what four
    pictures cost in US dollars, as the operator reckons: the proxy does not say. `hosts` are those
    that the proxy serves pictures from, beside itself and Discord.
    """

    base_url: str
    secret: SecretStr | None = None
    parameters: str = "--v 7"
    hosts: tuple[str, ...] = ()
    price: Decimal = Decimal(0)
    poll_seconds: float = 3
    seconds: float = 600
    connect_seconds: float = 5


@dataclass(frozen=True, slots=True)
class CatalogueOptions:
    """Which providers are set up. `absent` says of each other one what is missing.

    `default` names who is asked when nobody says; without it, the first of OpenAI, Stability and
    the card that is there.
    """

    default: str | None = None
    card_stage_seconds: float = 0.0
    openai: OpenAIOptions | None = None
    compatible: OpenAIOptions | None = None
    stability: StabilityOptions | None = None
    gemini: GeminiOptions | None = None
    midjourney: MidjourneyOptions | None = None
    absent: Sequence[Absent] = ()
