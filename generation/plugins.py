"""Providers that others have written: found by their entry points, never a reason not to start.

In the group `darkroom.providers` a distribution names a callable without arguments, which returns
an async context manager, which gives an ImageProvider. The README shows a whole one.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from generation.provider import ImageProvider

log = logging.getLogger(__name__)

GROUP = "darkroom.providers"
Opener = Callable[[], AbstractAsyncContextManager[ImageProvider]]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_MEMBERS = {
    *ImageProvider.__annotations__,
    *(member for member in vars(ImageProvider) if not member.startswith("_")),
}


class NotConfigured(Exception):
    """A plugin raises this to say what it lacks, such as `Set ACME_API_KEY.`"""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Unfit(NotConfigured):
    """What was found is no provider."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A provider that is installed and cannot be had. `reason` is for operators to read."""

    name: str
    reason: str


@asynccontextmanager
async def open_plugins(
    names_taken: Collection[str], *, seconds: float = 30.0
) -> AsyncIterator[tuple[dict[str, ImageProvider], list[Absent]]]:
    """The providers by name, open until the end, and those that cannot be had.

    Each has `seconds` to open, and as many to close. All that this raises is the caller's own.
    """
    openers, absent = load(names_taken)
    providers: dict[str, ImageProvider] = {}
    async with AsyncExitStack() as stack:
        for name, opener in openers.items():
            try:
                providers[name] = await _open(name, opener, stack, seconds)
            except Exception as fault:
                absent.append(_absent(name, fault, "be opened"))
        yield providers, absent


def load(names_taken: Collection[str]) -> tuple[dict[str, Opener], list[Absent]]:
    """Import what is installed: what opens each provider, by name, and those that cannot be had."""
    openers: dict[str, Opener] = {}
    absent: list[Absent] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, _whose(entry))):
        try:
            openers[entry.name] = _load(entry, {*names_taken, *openers})
        except (Exception, SystemExit) as fault:
            absent.append(_absent(entry.name, fault, "be imported"))
    return openers, absent


def _load(entry: EntryPoint, names_taken: Collection[str]) -> Opener:
    if entry.name in names_taken:
        raise _Unfit(f"{_whose(entry)} calls it by a name that is taken.")
    if not _NAME.fullmatch(entry.name):
        raise _Unfit("A name is at most 40 small letters, digits and hyphens.")
    opener: Any = entry.load()
    if not callable(opener):
        raise _Unfit(f"{entry.value} cannot be called.")
    return opener  # type: ignore[no-any-return]  # what it returns is seen when it is opened


async def _open(name: str, opener: Opener, stack: AsyncExitStack, seconds: float) -> ImageProvider:
    manager = opener()
    async with asyncio.timeout(seconds):
        provider = await manager.__aenter__()
    stack.push_async_callback(_close, name, manager, seconds)
    if lacking := sorted(member for member in _MEMBERS if not hasattr(provider, member)):
        raise _Unfit(f"It is no ImageProvider: it lacks {', '.join(lacking)}.")
    if provider.name != name:
        raise _Unfit(f"It calls itself {provider.name!r}.")
    return provider


async def _close(
    name: str, manager: AbstractAsyncContextManager[ImageProvider], seconds: float
) -> None:
    try:
        async with asyncio.timeout(seconds):
            await manager.__aexit__(None, None, None)
    except Exception:  # the others are to be closed, too
        log.exception("plugin.close_failed name=%s", name)


def _absent(name: str, fault: BaseException, what: str) -> Absent:
    """Tell the log all, and others no more of a fault than its kind: it may hold a secret."""
    if isinstance(fault, NotConfigured):
        log.warning("plugin.absent name=%s reason=%s", name, fault.reason)
        return Absent(name, fault.reason)
    log.error("plugin.failed name=%s", name, exc_info=fault)
    return Absent(name, f"It cannot {what}: {type(fault).__name__}. The log tells more.")


def _whose(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "somebody"
