"""What Gemini is sent, and what its answers mean.

A refusal comes with status 200. 429 may mean that it was asked too often, or that the money or a
day's share is gone: see `_is_used_up`.
"""

from base64 import b64encode

import orjson
from pydantic import Base64Bytes, BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from generation.errors import (
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from generation.provider import GenerationRequest
from generation.providers.answers import DAY, Answer, lost, unheard, words_of
from generation.providers.ratios import nearest
from storage.errors import LibraryError, RateLimited

NAME = "Gemini"
RATIOS = ("1:1", "4:5", "5:4", "2:3", "3:2", "3:4", "4:3", "9:16", "16:9", "21:9")
RATE_LIMIT = 60  # seconds, where they do not say

REFUSALS = (
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "IMAGE_OTHER",
    "NO_IMAGE",
)
"""Why they end without a picture, for reasons of theirs. `STOP` is the end of any answer."""


def body_of(request: GenerationRequest) -> bytes:
    """The words, then the pictures to go by. The oldest model has one size and is not told it."""
    shape = {"aspectRatio": nearest(RATIOS, request.width, request.height)}
    if not request.model.startswith("gemini-2.5"):
        shape["imageSize"] = "1K"
    pictures = [
        {"inlineData": {"mimeType": image.media_type, "data": b64encode(image.data).decode()}}
        for image in request.references
    ]
    return orjson.dumps(
        {
            "contents": [{"role": "user", "parts": [{"text": request.prompt}, *pictures]}],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": shape},
        }
    )


class _Told(BaseModel, alias_generator=to_camel):
    """Part of an answer: as much of it as we read."""


class _Blob(_Told):
    data: Base64Bytes


class _Part(_Told):
    """A `thought` may hold a sketch, which is not the picture."""

    inline_data: _Blob | None = None
    thought: bool = False


class _Content(_Told):
    parts: list[_Part] = []


class _Candidate(_Told):
    content: _Content | None = None
    finish_reason: str = ""


class _Feedback(_Told):
    block_reason: str | None = None


class _Drawn(_Told):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None


class _Violation(_Told):
    quota_id: str = ""


class _Detail(_Told):
    """One of several kinds: `retry_delay` is `34s` or `34.07s`."""

    reason: str = ""
    retry_delay: str = ""
    violations: list[_Violation] = []


class _Error(_Told):
    message: str = ""
    status: str = ""
    details: list[_Detail] = []

    @property
    def wait(self) -> float | None:
        """Seconds."""
        for detail in self.details:
            try:
                return min(max(0.0, float(detail.retry_delay.removesuffix("s"))), DAY)
            except ValueError:
                continue
        return None


class _Fault(_Told):
    error: _Error

    @property
    def tells_the_outcome(self) -> bool:
        """Others who answer in such JSON name no status. After a deadline all may have gone well,
        they say: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
        """
        return self.error.status not in ("", "DEADLINE_EXCEEDED")


def picture_of(answer: Answer) -> bytes:
    """Raises Refused, ProviderUnavailable."""
    try:
        drawn = _Drawn.model_validate_json(answer.body)
    except ValidationError:
        raise lost(NAME) from None
    if not drawn.candidates:
        if drawn.prompt_feedback and (reason := drawn.prompt_feedback.block_reason):
            raise Refused(f"{NAME} will not draw this.", stage="input", categories=[reason])
        raise ProviderUnavailable(f"{NAME} gave no answer.")
    candidate = drawn.candidates[0]
    for part in candidate.content.parts if candidate.content else ():
        if part.inline_data and not part.thought:
            return part.inline_data.data
    reason = candidate.finish_reason
    if reason in REFUSALS:
        raise Refused(
            f"{NAME} drew no picture that it would show.", stage="output", categories=[reason]
        )
    raise ProviderUnavailable(f"{NAME} answered without a picture ({words_of(reason)}).")


def failure_of(answer: Answer) -> LibraryError:
    """By their word for it, or by the status where a machine in between has answered.

    What fails costs nothing, they say (https://ai.google.dev/gemini-api/docs/billing): a machine in
    between cannot know whether it failed.
    """
    try:
        fault = _Fault.model_validate_json(answer.body)
    except ValidationError:
        fault = _Fault(error=_Error())
    if answer.may_hide_a_picture and not fault.tells_the_outcome:
        return unheard(NAME, answer.method, f"status {answer.status}")
    error = fault.error
    said = words_of(error.message) or f"status {answer.status}"
    if any(detail.reason.startswith("API_KEY_") for detail in error.details):
        return ProviderAuth(f"{NAME} does not accept our key.")  # told as INVALID_ARGUMENT
    match answer.status:
        case 401:
            return ProviderAuth(f"{NAME} does not accept our key.")
        case 403:
            return ProviderAuth(f"{NAME} does not let our key do this: {said}")
        case 400 if error.status == "FAILED_PRECONDITION":  # not from this country, or not for free
            return ProviderAuth(f"{NAME} does not let our account do this: {said}")
        case 402:
            return ProviderQuota(f"Our account at {NAME} is used up: {said}")
        case 429 if _is_used_up(error):
            return ProviderQuota(f"Our account at {NAME} is used up: {said}")
        case 429:
            wait = answer.retry_after(RATE_LIMIT) if error.wait is None else error.wait
            return RateLimited(f"{NAME} was asked too often.", retry_after=wait)
        case status if 400 <= status < 500:
            return ProviderRejected(f"{NAME} cannot do this: {said}")
        case _:
            return ProviderUnavailable(f"{NAME} does not work now ({answer.status}).")


def _is_used_up(error: _Error) -> bool:
    """Whether waiting does not help, at least not today.

    The limits that they name decide: one of a day is used up, one of a minute is not. They ask to
    look at the billing in both cases, so where no limit is named these words count only if they do
    not say when to come back.
    """
    limits = [violation.quota_id for detail in error.details for violation in detail.violations]
    if limits:
        return any("PerDay" in limit for limit in limits)
    words = error.message.lower()
    return error.wait is None and any(
        word in words for word in ("billing", "credit", "per day", "daily")
    )
