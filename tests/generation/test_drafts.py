"""The prompt that is shown is the one that is drawn, and is written once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import pytest

from generation.drafts import Drafts
from generation.prompts import PromptWriter, brief
from storage.errors import Rejected
from storage.viewers import Viewer
from tests.generation.test_prompts import PORTRAIT, POST, Responses, message, model_at, text_part
from tests.generation.test_prompts import responses as responses

STORY = (1080, 1920)
ALICE = Viewer(uuid4(), "alice")
BOB = Viewer(uuid4(), "bob")


class Muse:
    """A PromptWriter that never says the same twice. It waits for `may_answer`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def write(self, text: str, width: int, height: int) -> str:
        self.asked.append(text)
        number = len(self.asked)
        await self.may_answer.wait()
        if text == "nothing":
            raise Rejected("There is nothing to draw.", field="prompt")
        return f"Idea {number}"


@pytest.fixture
def muse() -> Muse:
    return Muse()


@pytest.fixture
async def drafts(muse: Muse) -> AsyncIterator[Drafts]:
    drafts = Drafts(muse)
    yield drafts
    await drafts.close()


async def test_a_post_has_one_prompt_for_each_shape_in_whichever_size(
    muse: Muse, drafts: Drafts
) -> None:
    feed = [await drafts.of(ALICE, POST, *size) for size in ((1088, 1360), (896, 1120), PORTRAIT)]
    story = await drafts.of(ALICE, POST, *STORY)

    assert (feed, story) == (["Idea 1"] * 3, "Idea 2")
    assert muse.asked == [POST, POST]


async def test_another_text_and_another_workspace_have_prompts_of_their_own(
    muse: Muse, drafts: Drafts
) -> None:
    colleague = Viewer(ALICE.workspace_id, "a colleague")

    prompts = [
        await drafts.of(viewer, text, *PORTRAIT)
        for viewer, text in ((ALICE, "a"), (ALICE, "b"), (BOB, "a"), (colleague, "a"))
    ]

    assert prompts == ["Idea 1", "Idea 2", "Idea 3", "Idea 1"]


async def test_those_who_ask_at_the_same_time_wait_for_one_prompt(
    muse: Muse, drafts: Drafts
) -> None:
    muse.may_answer.clear()
    asking = [asyncio.create_task(drafts.of(ALICE, POST, *PORTRAIT)) for _ in range(5)]
    await asyncio.sleep(0)

    muse.may_answer.set()

    assert await asyncio.gather(*asking) == ["Idea 1"] * 5
    assert len(muse.asked) == 1


async def test_who_goes_away_takes_the_prompt_from_nobody(muse: Muse, drafts: Drafts) -> None:
    muse.may_answer.clear()
    impatient = asyncio.create_task(drafts.of(ALICE, POST, *PORTRAIT))
    await asyncio.sleep(0)
    impatient.cancel()
    with suppress(asyncio.CancelledError):
        await impatient

    muse.may_answer.set()

    assert await drafts.of(ALICE, POST, *PORTRAIT) == "Idea 1"
    assert len(muse.asked) == 1


async def test_the_one_that_was_not_asked_for_longest_is_forgotten_first(muse: Muse) -> None:
    drafts = Drafts(muse, room=2)
    for text in ("a", "b", "a", "c"):
        await drafts.of(ALICE, text, *PORTRAIT)

    again = [await drafts.of(ALICE, text, *PORTRAIT) for text in ("c", "a", "b")]

    assert again == ["Idea 3", "Idea 1", "Idea 4"]


async def test_a_text_without_a_prompt_is_looked_at_again(muse: Muse, drafts: Drafts) -> None:
    for _ in range(2):
        with pytest.raises(Rejected):
            await drafts.of(ALICE, "nothing", *PORTRAIT)

    assert len(muse.asked) == 2


async def test_what_is_being_written_at_the_end_is_given_up(muse: Muse) -> None:
    drafts = Drafts(muse)
    muse.may_answer.clear()
    asking = asyncio.create_task(drafts.of(ALICE, POST, *PORTRAIT))
    await asyncio.sleep(0)

    await drafts.close()

    with pytest.raises(asyncio.CancelledError):
        await asking


# ---- with the text model -------------------------------------------------------------------------

Open = Callable[..., Drafts]


@asynccontextmanager
async def drafts_of(url: str, *, makeshift_seconds: float = 60) -> AsyncIterator[Drafts]:
    async with model_at(url) as model:
        writer: PromptWriter = model
        drafts = Drafts(writer, makeshift_seconds=makeshift_seconds)
        yield drafts
        await drafts.close()


async def test_the_text_model_is_paid_once_for_a_prompt_that_is_shown_twice_and_drawn(
    responses: Responses,
) -> None:
    async with drafts_of(responses.url) as drafts:
        shown = await drafts.of(ALICE, POST, *PORTRAIT)
        responses.output = [message(text_part("Something else."))]
        later = [await drafts.of(ALICE, POST, *PORTRAIT) for _ in range(2)]

    assert [shown, *later] == ["A warm loaf."] * 3
    assert len(responses.asked) == 1


async def test_while_the_model_is_away_the_rules_prompt_stays_and_later_the_model_is_asked_again(
    responses: Responses,
) -> None:
    responses.http_status = 500
    by_rules = brief(POST, *PORTRAIT)

    async with drafts_of(responses.url, makeshift_seconds=0.2) as drafts:
        shown = await drafts.of(ALICE, POST, *PORTRAIT)
        responses.http_status = 200
        drawn = await drafts.of(ALICE, POST, *PORTRAIT)
        await asyncio.sleep(0.3)
        later = await drafts.of(ALICE, POST, *PORTRAIT)

    assert (shown, drawn, later) == (by_rules, by_rules, "A warm loaf.")
    assert len(responses.asked) == 2
