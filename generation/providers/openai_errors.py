"""What OpenAI, or a server that speaks its protocol, answers instead of a picture.

Codes and statuses: https://developers.openai.com/api/docs/guides/error-codes. The same harmless
words may be refused once and drawn the next time.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import ceil, isfinite

import httpx2
from openai import APIConnectionError, APIError, APIStatusError

from generation.errors import (
    NotSent,
    OutcomeUnknown,
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from storage.errors import LibraryError, RateLimited

log = logging.getLogger(__name__)

NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""Faults that come before the first byte of a request has left."""

REFUSALS = ("moderation_blocked", "content_policy_violation")
QUOTAS = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
)
LOST = (408, 502, 504, 524)
"""Of somebody in between who got no answer, or would not wait for it: the picture may be drawn."""

STATUSES = {
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "invalid_request_error": 400,
    "image_generation_user_error": 400,
}
"""What a code or a type means where there is no status: in the midst of a stream."""

FIELDS = {"prompt": "prompt", "model": "model", "n": "count", "quality": "quality"}
MAX_WORDS = 300


@dataclass(frozen=True, slots=True)
class Faults:
    """Turns the faults of the SDK into ours.

    `who` is asked, `secret` must not be told, and `replacements` name other models for old ones.
    """

    who: str
    secret: str
    replacements: Mapping[str, str]

    @contextmanager
    def told(self, model: str, *, has_drawn: bool = False) -> Iterator[None]:
        """Within this block a request is sent and its answer read, and nothing is yielded.

        `has_drawn`: part of the answer was a preview, which counts as tokens, so that what fails
        from there on may have been paid for.
        """
        try:
            yield
        except APIConnectionError as fault:
            reason = type(fault.__cause__ or fault).__name__
            log.warning("openai.lost reason=%s", reason)
            if isinstance(fault.__cause__, NOT_SENT):
                raise NotSent(f"{self.who} cannot be reached ({reason}).") from None
            raise self.lost(reason) from None
        except APIError as fault:
            raise self._translated(fault, model, has_drawn=has_drawn) from None
        except (OSError, ValueError, httpx2.HTTPError) as fault:
            # Our own patience, what is no JSON, and a line that was cut within a refusal.
            log.warning("openai.lost reason=%s", type(fault).__name__)
            raise self.lost(type(fault).__name__) from None

    def lost(self, reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"{self.who} was asked, and its answer was lost ({reason}).")

    def _translated(self, fault: APIError, model: str, *, has_drawn: bool) -> LibraryError:
        status = _status(fault)
        code = fault.code or fault.type or str(status)
        words = self._words(fault.body)
        log.warning(
            "openai.failed status=%s code=%s request_id=%s said=%r",
            status,
            code,
            getattr(fault, "request_id", None),
            words,
        )
        if fault.code in REFUSALS:
            return self._refused(fault.body, words)
        if status == 402 or fault.code in QUOTAS or str(fault.type) in QUOTAS:
            return ProviderQuota(f"Our account with {self.who} is used up ({code}).")
        if status in (401, 403):
            return ProviderAuth(
                f"{self.who} does not accept our key, or does not let it do this ({code})."
            )
        if has_drawn and (status == 429 or status >= 500):
            return OutcomeUnknown(
                f"{self.who} stopped in the midst of the picture ({code}). What it had drawn may "
                "have been paid for."
            )
        if status == 429:
            wait = _wait(fault)
            when = "in a while" if wait is None else f"in {ceil(wait)} seconds"
            return RateLimited(
                f"{self.who} is asked for too much at once. Try again {when}.", retry_after=wait
            )
        if status in LOST or (status >= 500 and not _is_of_the_protocol(fault)):
            return self.lost(str(status))
        if fault.code == "model_not_found":
            return ProviderRejected(self._without(model), field="model")
        if 400 <= status < 500:
            return ProviderRejected(
                f"{self.who} cannot do this: {words or code}", field=FIELDS.get(str(fault.param))
            )
        return ProviderUnavailable(
            f"{self.who} does not work now ({code}).", retry_after=_wait(fault)
        )

    def _refused(self, body: object, words: str) -> Refused:
        stage: str | None = None
        categories: list[object] = []
        match body:
            case {"moderation_details": {"moderation_stage": "input" | "output" as stage}}:
                pass
        match body:
            case {"moderation_details": {"categories": [*categories]}}:
                pass
        return Refused(
            f"{self.who} will not draw this: {words or 'it does not say why.'}",
            stage=stage,
            categories=[str(category) for category in categories],
        )

    def _without(self, model: str) -> str:
        if model not in self.replacements:
            return f"{self.who} has no model {model}."
        return f"{self.who} has no model {model} any more: use {self.replacements[model]} instead."

    def _words(self, body: object) -> str:
        """The server's own, in one line without the key; "" where there are none for people."""
        match body:
            case {"message": str(text)} | {"detail": str(text)}:
                pass
            case {"detail": [*problems]}:
                said = (problem.get("msg") for problem in problems if isinstance(problem, dict))
                text = "; ".join(str(each) for each in said if each)
            case str(text) if not text.startswith("<"):
                pass
            case _:
                return ""
        if self.secret:
            text = text.replace(self.secret, "…")
        text = " ".join(re.sub(r"\bsk-[\w*-]{8,}", "…", text).split())
        return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"


def _status(fault: APIError) -> int:
    if isinstance(fault, APIStatusError):
        return fault.status_code
    return STATUSES.get(str(fault.code)) or STATUSES.get(str(fault.type), 500)


def _is_of_the_protocol(fault: APIError) -> bool:
    """Whether who was asked has failed, and not somebody in between who cannot know whether it did.

    OpenAI tells an `error`, and some of those who speak its protocol nothing but a `detail`.
    """
    if not isinstance(fault, APIStatusError):
        return True  # in the midst of a stream
    try:
        told = fault.response.json()
    except ValueError:
        return False
    return isinstance(told, dict) and ("error" in told or told.keys() == {"detail"})


def _wait(fault: APIError) -> float | None:
    """Seconds until it is worth trying again, where the server says so."""
    headers = fault.response.headers if isinstance(fault, APIStatusError) else {}
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = _seconds(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if isfinite(seconds) and seconds >= 0 else None


def _seconds(text: str) -> float:
    """Raises ValueError for what is neither a number nor a date."""
    if text.strip()[:1].isdigit():
        return float(text)
    return parsedate_to_datetime(text).timestamp() - time.time()
