"""A stand-in for midjourney-proxy, of both kinds, and for the place where its pictures are.

Written from the two servers' sources. A task goes one step of its script further at each poll.
"""

import asyncio
import time
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from aiohttp import web
from PIL import Image

from tests.pictures import encoded, photo

SECRET = "a-secret-of-the-tests"
BANNED = ("gore", "blood bath")
SIGNATURE = {"ex": "6925c1d0", "is": "69247050", "hm": "5ff1a70e"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Step:
    """What a task shows when it is asked after; `picture` is behind the link that it gives."""

    status: str
    progress: str | None = None
    picture: bytes | None = None
    reason: str | None = None


@dataclass(slots=True)
class Task:
    id: str
    prompt: str
    steps: list[Step]
    submitted: int = field(default_factory=lambda: int(time.time() * 1000))


def quadrants(width: int = 48, height: int = 60) -> list[Image.Image]:
    """Four pictures that differ, from the top left by rows."""
    return [photo(width, height, seed=seed) for seed in (1, 2, 3, 4)]


def grid(width: int = 48, height: int = 60, *, format: str = "PNG") -> bytes:
    """The quadrants as one file, as Midjourney gives them."""
    whole = Image.new("RGB", (2 * width, 2 * height))
    for number, picture in enumerate(quadrants(width, height)):
        whole.paste(picture, (number % 2 * width, number // 2 * height))
    return encoded(whole, format, **({"lossless": True} if format == "WEBP" else {}))


def blurred(seed: int) -> bytes:
    """A grid that is not done yet."""
    return encoded(photo(24, 30, seed=seed), "WEBP", lossless=True)


def drawn(final: bytes | None = None) -> list[Step]:
    """A task that goes well, from one end to the other."""
    return [
        Step("NOT_START"),
        Step("SUBMITTED", "0%"),
        Step("IN_PROGRESS", "31%", blurred(11)),
        Step("IN_PROGRESS", "62%", blurred(12)),
        Step("SUCCESS", "100%", final or grid()),
    ]


def failed(reason: str) -> list[Step]:
    return [Step("SUBMITTED", "0%"), Step("FAILURE", "", reason=reason)]


class MidjourneyServer:
    """`script` is for tasks to come. `submits` are the bodies that were sent, `prompts` of them.

    `pictures_at` is another place than this one, for the links to name.
    """

    def __init__(self, kind: Literal["java", "csharp"]) -> None:
        self.kind = kind
        self.url = ""
        self.port = 0
        self.secret: str | None = SECRET
        self.script: Sequence[Step] = drawn()
        self.submits: list[dict[str, Any]] = []
        self.tasks: dict[str, Task] = {}
        self.polls = 0
        self.is_polled = asyncio.Event()
        self.cancels: list[str] = []
        self.downloads: Counter[str] = Counter()
        self.pictures_at: str | None = None
        self.names_tasks = True
        self._answer: tuple[int, dict[str, Any]] | None = None
        self._failures: dict[str, list[str]] = {}
        self._pictures: dict[str, bytes] = {}
        self._numbers = count(1)

    @property
    def prompts(self) -> list[str]:
        return [body["prompt"] for body in self.submits]

    def answer_with(self, code: int, **properties: Any) -> None:
        """The code of the next answers to a wish."""
        self._answer = code, properties

    def fail_with(self, how: str, *, on: str, times: int = 1) -> None:
        """`on`: imagine, fetch, cancel, picture. `how`: a status, or hang, cut, garbage."""
        self._failures[on] = [how] * times

    def left_to_fail(self, *, on: str) -> int:
        return len(self._failures[on])

    def start(self, steps: Sequence[Step] | None = None, prompt: str = "a boat") -> str:
        """A task that is there already."""
        id = f"{int(time.time() * 1000)}{next(self._numbers):03}"
        self.tasks[id] = Task(id, prompt, list(self.script if steps is None else steps))
        return id

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/mj/submit/imagine", self._guarded(self._imagine)),
            web.get("/mj/task/{id}/fetch", self._guarded(self._fetch)),
            *(
                [web.post("/mj/task/{id}/cancel", self._guarded(self._cancel))]
                if self.kind == "csharp"
                else []
            ),
            web.get("/attachments/{name}", self._failing(self._picture)),
        ]

    def _guarded(self, handle: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if self.secret and request.headers.get("mj-api-secret") != self.secret:
                if self.kind == "java":
                    return web.Response(status=401)  # with nothing to read
                return web.Response(status=403, text="未登录")
            return await handle(request)

        return self._failing(answer, handle.__name__.strip("_"))

    def _failing(self, handle: Handler, name: str | None = None) -> Handler:
        name = name or handle.__name__.strip("_")

        async def answer(request: web.Request) -> web.StreamResponse:
            failures = self._failures.get(name)
            if not failures:
                return await handle(request)
            how = failures.pop()
            if how == "hang":
                await asyncio.sleep(60)
            if how == "garbage":
                return web.Response(text="<html>", content_type="text/html")
            if how == "cut":
                await handle(request)  # it has arrived
                assert request.transport is not None  # it is connected
                request.transport.abort()
                return web.Response()
            return web.Response(status=int(how), text="<html>", content_type="text/html")

        return answer

    async def _imagine(self, request: web.Request) -> web.Response:
        wish = await request.json()
        self.submits.append(wish)
        if self._answer is not None:
            code, properties = self._answer
            if code not in (1, 21, 22):
                return _told(code, properties=properties)
            id = self.start(prompt=wish["prompt"]) if self.names_tasks else None
            return _told(code, id, properties)
        prompt = wish.get("prompt")
        if not prompt or not prompt.strip():
            return _told(4, words="prompt不能为空")
        for word in BANNED:
            if word in prompt.lower():
                return _told(24, properties={"promptEn": prompt, "bannedWord": word})
        for each in wish.get("base64Array", []):
            head, _, data = each.partition(";base64,")
            if not head.startswith("data:image/") or not b64decode(data, validate=True):
                return _told(4, words="base64格式错误")
        return _told(1, self.start(prompt=prompt.strip()))

    async def _fetch(self, request: web.Request) -> web.Response:
        self.polls += 1
        self.is_polled.set()
        task = self.tasks.get(request.match_info["id"])
        if task is None:
            return web.Response(status=200 if self.kind == "java" else 204)
        step = task.steps.pop(0) if len(task.steps) > 1 else task.steps[0]
        running = step.status not in ("NOT_START", "SUBMITTED")
        told: dict[str, Any] = {
            "id": task.id,
            "action": "IMAGINE",
            "status": step.status,
            "prompt": task.prompt,
            "promptEn": task.prompt,
            "description": f"/imagine {task.prompt}",
            "state": None,
            "submitTime": task.submitted,
            "startTime": task.submitted + 500 if running else None,
            "finishTime": task.submitted + 9000 if step.status == "SUCCESS" else None,
            "progress": step.progress,
            "imageUrl": self._link(step.picture) if step.picture else None,
            "failReason": step.reason,
            "properties": {"finalPrompt": task.prompt, "discordInstanceId": "1118138338562560102"},
        }
        if self.kind == "csharp":
            told |= {"botType": "MID_JOURNEY", "mode": "FAST", "parentId": None, "buttons": []}
        return web.json_response(told)

    async def _cancel(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        self.cancels.append(id)
        if id in self.tasks:
            self.tasks[id].steps = [Step("FAILURE", "", reason="取消任务")]
        return web.Response()

    def _link(self, picture: bytes) -> str:
        """One link for one picture, signed as Discord does."""
        name = next((name for name, data in self._pictures.items() if data == picture), "")
        if not name:
            name = f"grid_{len(self._pictures)}.png"
            self._pictures[name] = picture
        signature = "&".join(f"{key}={value}" for key, value in SIGNATURE.items())
        return f"{self.pictures_at or self.url}/attachments/{name}?{signature}"

    async def _picture(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.downloads[name] += 1
        if dict(request.query) != SIGNATURE:
            return web.Response(status=404, text="This content is no longer available.")
        return web.Response(body=self._pictures[name], content_type="image/png")


def _told(
    code: int,
    result: str | None = None,
    properties: dict[str, Any] | None = None,
    words: str = "",
) -> web.Response:
    texts = {1: "提交成功", 21: "任务已存在", 22: "排队中", 23: "队列已满", 24: "可能包含敏感词"}
    return web.json_response(
        {
            "code": code,
            "description": words or texts.get(code, "失败"),
            "result": result,
            "properties": properties or {},
        }
    )


@asynccontextmanager
async def midjourney_server(
    kind: Literal["java", "csharp"] = "java",
) -> AsyncIterator[MidjourneyServer]:
    server = MidjourneyServer(kind)
    app = web.Application(client_max_size=2**28)
    app.add_routes(server.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{server.port}"
    try:
        yield server
    finally:
        await runner.cleanup()
