"""Which models OpenAI, or a server that speaks its protocol, may be asked for."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from generation.provider import ModelInfo, Size
from generation.providers.openai_models import (
    CURRENT,
    FORMER,
    MAX_SIDE,
    described,
    described_elsewhere,
    is_current,
    native_size,
    newest_first,
    serving,
    size_elsewhere,
    standard_size,
)
from storage.errors import Rejected

log = logging.getLogger(__name__)

UNNAMED = "default"
"""What a server of one's own is asked for while no name is known: many read none."""

_DRAWS = re.compile(r"image|diffusion|flux|\bsd|dall|pixart|kandinsky|kolors|hidream", re.I)
"""Words in the names of models that draw: such a server may have language models, too."""


class Offer:
    """The models that may be asked for, the default first.

    That is the `configured` one, whatever is known of it, or its replacement once it has ended.
    Where a server's model is not configured, it is the first image model that the server lists.
    """

    def __init__(self, configured: str | None, *, is_compatible: bool) -> None:
        self._configured = configured
        self._is_compatible = is_compatible
        self.models: Sequence[ModelInfo] = ()
        self._show({} if is_compatible else dict.fromkeys(CURRENT), is_told=False)
        if configured is not None and configured != self.default:
            log.warning("model.replaced configured=%s model=%s", configured, self.default)

    @property
    def default(self) -> str:
        return self.models[0].name

    @property
    def former(self) -> Mapping[str, str]:
        """Names that old clients say, or that old rows hold: the default answers to each."""
        unnamed = [UNNAMED] if self._is_compatible else []
        return {name: self.default for name in (*FORMER, *unnamed) if name != self.default}

    def named(self, model: str) -> str:
        """What to ask for: a wish may be older than what we know of the server."""
        return self.default if model == UNNAMED and self._configured is None else model

    def learn(self, listed: Mapping[str, str | None]) -> None:
        """`listed` is what the server offers, by name, with the date when it ends if it tells."""
        self._show(listed, is_told=True)

    def _show(self, listed: Mapping[str, str | None], *, is_told: bool) -> None:
        today = datetime.now(UTC).date()
        default = self._default(listed, today)
        models = []
        for name in dict.fromkeys((default, *self._names(listed))):
            info, ends = self.described(name), _date(listed.get(name))
            if name == default:
                info = replace(info, warning=self._warning(name, listed if is_told else {}))
            if name == default or ends is None or ends > today:
                models.append(replace(info, shutdown_date=ends) if ends else info)
        self.models = tuple(models)

    def _names(self, listed: Mapping[str, str | None]) -> Sequence[str]:
        return list(listed) if self._is_compatible else newest_first(listed)

    def _default(self, listed: Mapping[str, str | None], today: date) -> str:
        if self._configured is None:
            return [*filter(_DRAWS.search, listed), *listed, UNNAMED][0]
        return self._configured if self._is_compatible else serving(self._configured, today)

    def _warning(self, default: str, listed: Mapping[str, str | None]) -> str | None:
        """What to know of the default; a server that lists nothing does not tell."""
        told = []
        if self._configured is not None and self._configured != default:
            told.append(
                f"DARKROOM_OPENAI_MODEL is {self._configured}, which is no more: {default} answers "
                "in its place."
            )
        if listed and default not in listed:
            who = "The image server" if self._is_compatible else "OpenAI"
            told.append(f"{who} does not list {default} among its models, and may refuse it.")
        return " ".join(told) or None

    def described(self, name: str) -> ModelInfo:
        return described_elsewhere(name) if self._is_compatible else described(name)

    def size_for(self, model: ModelInfo, width: int, height: int) -> Size:
        """Raises Rejected for sides that nothing comes close to."""
        for name, side in (("width", width), ("height", height)):
            if not 1 <= side <= MAX_SIDE:
                raise Rejected(
                    f"A side of a picture has 1 to {MAX_SIDE} pixels; {name} is {side}.",
                    field=name,
                    limit=MAX_SIDE if side > MAX_SIDE else 1,
                    actual=side,
                )
        if self._is_compatible:
            return size_elsewhere(width, height)
        return (native_size if is_current(model.name) else standard_size)(width, height)


def _date(text: object) -> date | None:
    try:
        return date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
