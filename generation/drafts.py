"""Prompts that were written for posts, kept so that the one that is shown is the one that is drawn.

A text model says it differently each time, and each time costs. What is kept is in the memory of
this process: another one, or this one after its next start, has them written anew.
"""

import asyncio
import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from generation.prompts import PromptWriter, Shape, brief, shape_of
from storage.errors import Rejected
from storage.viewers import Viewer

ROOM = 2_000
MAKESHIFT_SECONDS = 600.0

Key = tuple[UUID, bytes, Shape]


@dataclass(slots=True)
class _Draft:
    """A prompt, or what will become of it. `forget_at` is by the loop's clock."""

    writing: asyncio.Task[str]
    forget_at: float = math.inf


class Drafts:
    """What `writer` makes of posts: at most `room` prompts, the least recently used go first.

    A text of a workspace has one for each shape, in whichever size. What the rules wrote is
    forgotten after `makeshift_seconds`: they write the same once more, and where they stood in for
    a text model, that is asked again.
    """

    def __init__(
        self,
        writer: PromptWriter,
        *,
        room: int = ROOM,
        makeshift_seconds: float = MAKESHIFT_SECONDS,
    ) -> None:
        self._writer = writer
        self._room = room
        self._makeshift_seconds = makeshift_seconds
        self._kept: OrderedDict[Key, _Draft] = OrderedDict()
        self._running: set[asyncio.Task[str]] = set()

    async def of(self, viewer: Viewer, text: str, width: int, height: int) -> str:
        """The prompt for the text. Whoever asks while it is being written waits for that one.

        Raises Rejected for a text that says nothing that could be drawn.
        """
        key = (
            viewer.workspace_id,
            hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(),
            shape_of(width, height),
        )
        draft = self._kept.get(key)
        if draft is None or asyncio.get_running_loop().time() >= draft.forget_at:
            draft = self._begin(key, text, width, height)
        self._kept.move_to_end(key)
        # Who goes away ends the wait, and not the writing: it is paid for.
        return await asyncio.shield(draft.writing)

    async def close(self) -> None:
        """Give up what is being written."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, key: Key, text: str, width: int, height: int) -> _Draft:
        task = asyncio.create_task(self._writer.write(text, width, height), name="draft")
        draft = self._kept[key] = _Draft(task)
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)

        def ended(task: asyncio.Task[str]) -> None:
            self._running.discard(task)
            if task.cancelled() or task.exception() is not None:
                if self._kept.get(key) is draft:
                    del self._kept[key]
            elif _is_by_rules(task.result(), text, width, height):
                draft.forget_at = task.get_loop().time() + self._makeshift_seconds

        self._running.add(task)
        task.add_done_callback(ended)
        return draft


def _is_by_rules(prompt: str, text: str, width: int, height: int) -> bool:
    try:
        return prompt == brief(text, width, height)
    except Rejected:
        return False
