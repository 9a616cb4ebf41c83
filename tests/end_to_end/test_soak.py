"""A minute of everything at once on the same few images: the books balance at the end."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.end_to_end import operations as op
from tests.end_to_end.installation import Installation
from tests.end_to_end.service import JSON
from tests.pictures import jpeg

CLIENTS = 8
FILES = [jpeg(120, 90, seed=seed) for seed in range(12)]
DIGESTS = {hashlib.sha256(file).hexdigest() for file in FILES}
POSTS = 4
EXPECTED = {"OK", "NOT_FOUND", "IN_USE", "CONFLICT", "DUPLICATE", "RATE_LIMITED"}


class Client:
    """Does one thing after the other, chosen at random, to images that others change as well."""

    def __init__(self, installation: Installation, seed: int, posts: list[str]) -> None:
        self._service = installation.service
        self._dice = random.Random(seed)
        self._posts = posts
        self.told: Counter[str] = Counter()

    async def work(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        deeds: list[Callable[[], Awaitable[None]]] = [
            self._upload,
            self._upload,
            self._delete,
            self._delete,
            self._restore,
            self._purge,
            self._attach,
            self._attach,
            self._detach,
            self._replace,
            self._look,
        ]
        while time.monotonic() < ends:
            await self._dice.choice(deeds)()

    async def _ask(self, name: str, query: str, **variables: Any) -> JSON:
        answer = await self._service.post(query, **variables)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert "errors" not in body, body
        payload: JSON = next(iter(body["data"].values()))
        self._note(name, payload)
        return payload

    def _note(self, name: str, payload: JSON) -> None:
        results = payload.get("results") or [payload]
        for result in results:
            errors = [result["error"]] if result.get("error") else result.get("errors", [])
            code = errors[0]["code"] if errors else "OK"
            self.told[f"{name} {code}"] += 1
            assert code in EXPECTED, errors

    async def _some(self, **filter: object) -> list[str]:
        answer = await self._service.ask(op.IMAGES, filter=filter, first=50)
        ids = [str(node["id"]) for node in answer["images"]["nodes"]]
        return self._dice.sample(ids, min(len(ids), 2))

    async def _upload(self) -> None:
        answer = await self._service.upload(op.UPLOAD, self._dice.choice(FILES))
        self._note("upload", answer["uploadImage"])

    async def _delete(self) -> None:
        if ids := await self._some():
            force = self._dice.random() < 0.5
            await self._ask("delete", op.DELETE_MANY, ids=ids, force=force)

    async def _restore(self) -> None:
        if ids := await self._some(isDeleted=True):
            await self._ask("restore", op.RESTORE, ids=ids)

    async def _purge(self) -> None:
        if ids := await self._some(isDeleted=True):
            await self._ask("purge", op.PURGE, ids=ids)

    async def _attach(self) -> None:
        if ids := await self._some():
            input = {"contentId": self._dice.choice(self._posts), "imageIds": ids, "position": 0}
            await self._ask("attach", op.ATTACH, input=input)

    async def _detach(self) -> None:
        read = await self._service.ask(op.READ_CONTENT, id=self._dice.choice(self._posts))
        if attachments := read["content"]["attachments"]:
            await self._ask("detach", op.DETACH, ids=[self._dice.choice(attachments)["id"]])

    async def _replace(self) -> None:
        if ids := await self._some():
            file = self._dice.choice(FILES)
            self._note("replace", await self._service.replace(op.REPLACE, ids[0], file))

    async def _look(self) -> None:
        answer = await self._service.ask(op.IMAGES_WITH_URLS)
        nodes = answer["images"]["nodes"]
        if not nodes:
            return
        node = self._dice.choice(nodes)
        seen = await self._service.fetch(node["url"])
        self.told[f"look {seen.status_code}"] += 1
        # Somebody may have deleted it since, and then it is not there; never is it another one.
        assert seen.status_code in (200, 404)
        if seen.status_code == 200:
            assert hashlib.sha256(seen.content).hexdigest() == node["sha256"]


@pytest.mark.timeout(240)
async def test_after_a_minute_of_everything_at_once_the_books_balance(
    installation: Installation,
) -> None:
    seconds = 60 if installation.is_served else 20
    installation.service.settings["VERSIONS_PER_IMAGE"] = "2"
    installation.start()
    posts = []
    for number in range(POSTS):
        saved = await installation.service.ask(op.SAVE_CONTENT, input={"externalId": f"{number}"})
        posts.append(saved["saveContent"]["content"]["id"])
    clients = [Client(installation, seed, posts) for seed in range(CLIENTS)]

    async with asyncio.TaskGroup() as working:
        for client in clients:
            working.create_task(client.work(seconds))

    told: Counter[str] = Counter()
    for client in clients:
        told += client.told
    for deed in ("upload", "delete", "restore", "purge", "attach", "detach", "replace"):
        assert told[f"{deed} OK"] > 0, told
    # No bytes twice, each picture what its row says, each place with its image, in order.
    images = await installation.images()
    assert len(set(images.values())) == len(images)
    assert set(images.values()) <= DIGESTS
    for post in posts:
        read = await installation.service.ask(op.READ_CONTENT, id=post)
        attachments = read["content"]["attachments"]
        assert [each["position"] for each in attachments] == list(range(len(attachments)))
        assert {each["image"]["id"] for each in attachments} <= images.keys()
    await installation.balance()
    # And what is emptied is empty.
    ids = list(images)
    await installation.service.ask(op.DELETE_MANY, ids=ids, force=True)
    while trashed := await installation.images(isDeleted=True):
        await installation.service.ask(op.PURGE, ids=list(trashed))
    await installation.balance(0)
