"""What both public midjourney-proxy servers speak: submit a wish, ask for its task, cancel it.

They are https://github.com/novicezk/midjourney-proxy, in Java, and
https://github.com/trueai-org/midjourney-proxy, in C#; where they differ, we understand either.
Their words are Chinese: codes and statuses count, and of Midjourney's own words how they begin.
"""

import asyncio
import json
import logging
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
from yarl import URL

from generation.errors import (
    OutcomeUnknown,
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from generation.provider import InputImage
from generation.providers.answers import Answer, ask, lost, words_of
from generation.providers.options import MidjourneyOptions
from storage.errors import LibraryError, RateLimited

log = logging.getLogger(__name__)

NAME = "Midjourney's proxy"
CANCEL_SECONDS = 2
RETRY_AFTER = 60  # seconds; about what one picture takes

UNHEARD = (408, 502, 504, 520, 524)
"""What a gateway answers that passed a request on, and did not hear what became of it: the last
two are Cloudflare's, https://developers.cloudflare.com/support/troubleshooting/http-status-codes/
"""

REFUSED_INPUT = ("banned prompt", "invalid prompt", "blocked")
REFUSED_OUTPUT = ("output filters",)
NOT_POSSIBLE = ("invalid parameter", "invalid link")
NO_ACCOUNT = (
    "credits exhausted",
    "subscription required",
    "subscription paused",
    "plan cancelled",
    "pending mod message",
)


@dataclass(frozen=True, slots=True)
class Task:
    """How far a task is. `percent` is None where that is not told; `picture` is a URL, or empty.

    `status` is NOT_START, SUBMITTED, IN_PROGRESS, SUCCESS, FAILURE; CANCEL; or MODAL, which waits
    for more words.
    """

    status: str
    percent: int | None = None
    picture: str = ""
    reason: str = ""

    @property
    def is_ended(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCEL", "MODAL")

    def failure(self) -> LibraryError:
        """Why it has ended without a picture."""
        if self.status != "FAILURE":
            return ProviderUnavailable(f"{NAME} stopped the task ({self.status}).")
        told = self.reason.lower()

        def says(phrases: Sequence[str]) -> bool:
            return any(phrase in told for phrase in phrases)

        if says(REFUSED_OUTPUT):
            return Refused(f"Midjourney does not show what it drew: {self.reason}", stage="output")
        if says(REFUSED_INPUT):
            return Refused(f"Midjourney will not draw this: {self.reason}", stage="input")
        if says(NOT_POSSIBLE):
            return ProviderRejected(f"Midjourney cannot do this: {self.reason}")
        if says(NO_ACCOUNT):
            return ProviderQuota(f"Midjourney's account cannot draw now: {self.reason}")
        return ProviderUnavailable(f"Midjourney failed: {self.reason or 'it does not say why'}")


class Proxy:
    """`session` is open; whoever opened it closes it."""

    def __init__(self, session: aiohttp.ClientSession, options: MidjourneyOptions) -> None:
        self._session = session
        self._options = options
        secret = options.secret
        self._headers = {"mj-api-secret": secret.get_secret_value()} if secret else {}

    async def submit(self, prompt: str, references: Sequence[InputImage]) -> tuple[str, bool]:
        """The id of the task, and whether it has to wait for others.

        Raises Refused, ProviderRejected, RateLimited, ProviderUnavailable, NotSent, ProviderAuth,
        OutcomeUnknown.
        """
        wish: dict[str, object] = {"prompt": prompt}
        if references:
            wish["base64Array"] = [
                f"data:{each.media_type};base64,{b64encode(each.data).decode()}"
                for each in references
            ]
        answer = await self._ask("POST", "submit/imagine", wish)
        told = _read(answer)
        if answer.status == 429:
            raise _full(answer.retry_after(RETRY_AFTER))
        if answer.status in UNHEARD:
            raise lost(NAME)
        if answer.status != 200:
            raise ProviderUnavailable(f"{NAME} does not work now ({answer.status}).")
        if told is None:
            raise lost(NAME)
        if told.get("code") not in (1, 21, 22):
            raise _not_taken(told)
        if not told.get("result"):
            raise OutcomeUnknown(f"{NAME} took the request, but named no task.")
        return str(told["result"]), told["code"] == 22

    async def poll(self, task: str, *, until: float) -> Task:
        """The task as it is now. To ask costs nothing, so it is repeated where it fails.

        Also where our secret is not accepted any more: the task is drawn and paid for, and whoever
        sets another one starts us anew, to ask after it. `until` is a time of the event loop.
        Raises OutcomeUnknown if the proxy has forgotten the task, or that time has come.
        """
        refusal: ProviderAuth | None = None
        while asyncio.get_running_loop().time() < until:
            try:
                answer = await self._ask("GET", f"task/{quote(task, safe='')}/fetch")
                if answer.status in (200, 204) and not answer.body.strip():
                    raise OutcomeUnknown(f"{NAME} does not know the task any more.")
                refusal, told = None, _read(answer)
                # What else comes is a gateway's, while the proxy starts anew.
                if answer.status == 200 and told is not None and told.get("status"):
                    percent = re.fullmatch(r"(\d{1,2}|100)%", str(told.get("progress")))
                    return Task(
                        status=words_of(str(told["status"])),
                        percent=int(percent[1]) if percent else None,
                        picture=str(told.get("imageUrl") or ""),
                        reason=words_of(str(told.get("failReason") or "")),
                    )
            except ProviderUnavailable:
                pass
            except ProviderAuth as fault:
                if refusal is None:
                    log.warning("provider.refused_key provider=midjourney task=%s", task)
                refusal = fault
            await asyncio.sleep(self._options.poll_seconds)
        if refusal is not None:
            raise OutcomeUnknown(f"The picture may be drawn, but {refusal.message}")
        raise OutcomeUnknown(f"Midjourney was not done within {self._options.seconds:g} seconds.")

    async def cancel(self, task: str) -> None:
        """As well as that can be done: one of the two cannot. Who asks does not wait for long."""
        with anyio.move_on_after(CANCEL_SECONDS, shield=True), suppress(LibraryError):
            await self._ask("POST", f"task/{quote(task, safe='')}/cancel")

    async def _ask(
        self, method: str, path: str, wish: Mapping[str, object] | None = None
    ) -> Answer:
        answer = await ask(
            self._session,
            NAME,
            method,
            URL(f"{self._options.base_url.rstrip('/')}/mj/{path}"),
            headers=self._headers,
            data=aiohttp.JsonPayload(wish) if wish is not None else None,
        )
        if answer.status in (401, 403):
            raise ProviderAuth(f"{NAME} does not accept our secret.")
        return answer


def _read(answer: Answer) -> Mapping[str, Any] | None:
    """None for all but a JSON object."""
    try:
        told = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _not_taken(told: Mapping[str, Any]) -> LibraryError:
    match told.get("code"):
        case 23:
            return _full(RETRY_AFTER)
        case 24:
            properties = told.get("properties")
            word = properties.get("bannedWord") if isinstance(properties, dict) else None
            words = [words_of(str(word))] if word else []
            return Refused(
                f"{NAME} bans a word of the prompt: {words[0] if words else 'it hides which'}.",
                stage="input",
                categories=words,
            )
        case 4:
            reason = words_of(str(told.get("description") or ""))
            return ProviderRejected(f"{NAME} cannot take the request: {reason}")
        case 3:
            return ProviderUnavailable(f"{NAME} has no account that can draw now.")
        case code:
            return ProviderUnavailable(f"{NAME} failed, with code {words_of(str(code))}.")


def _full(retry_after: float) -> RateLimited:
    return RateLimited(f"The queue of {NAME} is full. Try again later.", retry_after=retry_after)
