"""A stand-in for Stability AI: reads each form as strictly as the real one, and keeps its accounts.

Written from the documentation. Words in a prompt are minded: FORBIDDEN ones before anything is
drawn, INDECENT ones in the picture; and what is not English is not read.
"""

import asyncio
from base64 import b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO
from random import Random
from secrets import token_hex
from time import monotonic

from aiohttp import BodyPartReader, web
from PIL import Image, UnidentifiedImageError

from tests.pictures import encoded, photo

API_KEY = "sk-a-key-of-the-tests"
FORBIDDEN, INDECENT = "gore", "nude"

RATIOS = frozenset(["16:9", "1:1", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21"])
STYLES = frozenset(
    [
        "3d-model",
        "analog-film",
        "anime",
        "cinematic",
        "comic-book",
        "digital-art",
        "enhance",
        "fantasy-art",
        "isometric",
        "line-art",
        "low-poly",
        "modeling-compound",
        "neon-punk",
        "origami",
        "photographic",
        "pixel-art",
        "tile-texture",
    ]
)
SHARED = {"prompt", "negative_prompt", "seed", "output_format"}
FIELDS = {
    "core": SHARED | {"aspect_ratio", "style_preset"},
    "ultra": SHARED | {"aspect_ratio", "image", "strength"},
    "sd3": SHARED
    | {"aspect_ratio", "style_preset", "model", "mode", "cfg_scale", "image", "strength"},
    "creative": SHARED | {"image", "creativity", "style_preset"},
}
CREDITS = {
    "core": Decimal(3),
    "ultra": Decimal(8),
    "sd3.5-large": Decimal("6.5"),
    "sd3.5-large-turbo": Decimal(4),
    "sd3.5-medium": Decimal("3.5"),
    "creative": Decimal(60),
}
MAX_BODY = 10 * 2**20
MEGAPIXEL = 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One call: the fields of its form, its files, and its headers in lower case."""

    path: str
    headers: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Task:
    asked: Asked
    polls: int


class Complaint(Exception):
    def __init__(
        self, status: int, name: str, *errors: str, headers: dict[str, str] | None = None
    ) -> None:
        self.answer = web.json_response(
            {"id": token_hex(16), "name": name, "errors": list(errors)},
            status=status,
            headers=headers,
        )


class StabilityServer:
    """`calls` counts what was asked for, `asked` holds it, `credits` is what is left to spend.

    Its pictures have the wished shape with about `pixels` pixels: fewer than real ones, which take
    their time. A task is done after `polls` answers that it is not.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self.credits = Decimal(1000)
        self.pixels = 128 * 128
        self.polls = 2
        self.tasks: dict[str, Task] = {}
        self.is_dropped = asyncio.Event()
        self.is_held = asyncio.Event()
        self._recent: deque[float] = deque()
        self._failures: deque[str | None] = deque()

    def fail_with(self, *how: str | None) -> None:
        """What becomes of the next calls, one after the other; None is as it should be.

        told:STATUS:NAME (in their own words), rate, rate:SECONDS (says for how long), error,
        forbidden, gone (of a result), as-json, broken-json, hang, cut (before an answer), torn
        (half an answer), endless, moved; page:STATUS, json:STATUS and torn-page:STATUS (from a
        machine in between).
        """
        self._failures = deque(how)

    def routes(self) -> list[web.RouteDef]:
        api = "/v2beta/stable-image"
        return [
            web.post(f"{api}/generate/{{what:core|ultra|sd3}}", self._guarded(self._generate)),
            web.post(f"{api}/upscale/{{what:creative}}", self._guarded(self._upscale)),
            web.get("/v2beta/results/{id}", self._guarded(self._results)),
            web.get("/v1/user/balance", self._guarded(self._balance)),
        ]

    def _guarded(self, handle: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.calls[request.match_info.get("what", handle.__name__.strip("_"))] += 1
            self.asked.append(
                Asked(request.path, {name.lower(): it for name, it in request.headers.items()})
            )
            how = self._failures.popleft() if self._failures else None
            try:
                self._admit(request)
                if how not in (None, "torn", "as-json"):
                    return await self._fail(request, how)
                said = await handle(request)
            except Complaint as complaint:
                return complaint.answer
            if how == "torn":
                return await _tear(request, said)
            return _as_json(said) if how == "as-json" else said

        return answer

    def _admit(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            raise Complaint(401, "unauthorized", "missing or invalid authorization header")
        self._recent.append(monotonic())
        while self._recent[0] < monotonic() - 10:
            self._recent.popleft()
        if len(self._recent) > 150:
            raise Complaint(429, "rate_limit_exceeded", "more than 150 requests in 10 seconds")

    async def _fail(self, request: web.Request, how: str) -> web.StreamResponse:
        match how.split(":"):
            case ["rate", *seconds]:
                headers = {"Retry-After": seconds[0]} if seconds else None
                raise Complaint(429, "rate_limit_exceeded", "slow down", headers=headers)
            case ["error"]:
                raise Complaint(500, "internal_error", "An unexpected server error has occurred")
            case ["told", status, name]:
                raise Complaint(int(status), name, f"it is {name}")
            case ["page", status]:
                return web.Response(status=int(status), text="<html>", content_type="text/html")
            case ["json", status]:
                words = {"message": "Endpoint request timed out"}
                return web.json_response(words, status=int(status))
            case ["torn-page", status]:
                page = web.Response(status=int(status), text="<html>" * 9)
                return await _tear(request, page)
            case ["forbidden"]:
                raise Complaint(403, "forbidden", "this key may not do that")
            case ["gone"]:
                raise Complaint(404, "not_found", "id: not found")
            case ["broken-json"]:
                return web.Response(text="{", content_type="application/json")
            case ["moved"]:
                raise web.HTTPTemporaryRedirect(f"{self.url}/elsewhere")
            case ["hang"]:
                self.is_held.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.is_dropped.set()
                    raise
            case ["endless"]:
                answer = web.StreamResponse(headers={"Content-Type": "image/png"})
                await answer.prepare(request)
                while True:
                    await answer.write(bytes(2**20))
            case ["cut"]:
                await request.read()
                assert request.transport is not None  # it is connected
                request.transport.abort()
            case _:
                raise AssertionError(f"unknown failure {how}")
        return web.Response()

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        what = request.match_info["what"]
        asked = await self._form(request, what)
        price = CREDITS[asked.fields.get("model", "sd3.5-large") if what == "sd3" else what]
        self._check_credits(price)
        width, height = map(int, asked.fields.get("aspect_ratio", "1:1").split(":"))
        scale = (self.pixels / (width * height)) ** 0.5
        size = round(width * scale), round(height * scale)
        if "image" in asked.files:
            size = Image.open(BytesIO(asked.files["image"])).size
        return self._draw(request, asked, size, price)

    async def _upscale(self, request: web.Request) -> web.StreamResponse:
        asked = await self._form(request, "creative")
        self._check_credits(CREDITS["creative"])
        id = token_hex(32)
        self.tasks[id] = Task(asked, self.polls)
        return web.json_response({"id": id}, status=202)

    async def _results(self, request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        task = self.tasks.get(id)
        if task is None:
            raise Complaint(404, "not_found", f"id: {id} not found")
        if task.polls:
            task.polls -= 1
            return web.json_response({"id": id, "status": "in-progress"}, status=202)
        given = Image.open(BytesIO(task.asked.files["image"]))
        size = given.width * 2, given.height * 2
        return self._draw(request, task.asked, size, CREDITS["creative"])

    async def _balance(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"credits": float(self.credits)})

    def _check_credits(self, price: Decimal) -> None:
        if self.credits < price:
            raise Complaint(402, "payment_required", "You lack sufficient credits")

    def _draw(
        self, request: web.Request, asked: Asked, size: tuple[int, int], price: Decimal
    ) -> web.StreamResponse:
        seed = int(asked.fields.get("seed", "0")) or Random().randrange(1, 2**32 - 1)
        picture = photo(*size, seed=seed)
        reason = "SUCCESS"
        if INDECENT in asked.fields["prompt"]:
            picture, reason = picture.resize((4, 4)).resize(size), "CONTENT_FILTERED"
        else:
            self.credits -= price
        format = asked.fields.get("output_format", "png")
        data = encoded(picture, format.upper())
        accept = request.headers.get("Accept", "image/*")
        if accept.startswith("application/json"):
            return web.json_response(
                {"image": b64encode(data).decode(), "finish_reason": reason, "seed": seed}
            )
        if accept not in ("image/*", "*/*"):
            raise Complaint(400, "bad_request", "accept: must be image/* or application/json")
        headers = {"finish-reason": reason, "seed": str(seed)}
        return web.Response(body=data, content_type=f"image/{format}", headers=headers)

    async def _form(self, request: web.Request, what: str) -> Asked:
        if (request.content_length or 0) > MAX_BODY:
            await request.read()
            raise Complaint(413, "payload_too_large", "the request exceeds 10MiB")
        if request.content_type != "multipart/form-data":
            raise Complaint(400, "bad_request", "content-type: must be multipart/form-data")
        asked = self.asked[-1]
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)  # no nested parts
            name = part.name or ""
            if part.filename:
                asked.files[name] = bytes(await part.read())
            else:
                asked.fields[name] = await part.text()
        if errors := [*_faults_of_fields(asked.fields), *_faults_of_use(asked, what)]:
            raise Complaint(400, "bad_request", *errors)
        prompt = asked.fields["prompt"]
        if any(sign.isalpha() and not sign.isascii() for sign in prompt):
            raise Complaint(422, "invalid_language", "prompt: only English is supported")
        if FORBIDDEN in prompt:
            raise Complaint(
                403,
                "content_moderation",
                "Your request was flagged by our content moderation system.",
            )
        return asked


def _faults_of_fields(fields: dict[str, str]) -> list[str]:
    errors = []
    if not 1 <= len(fields.get("prompt", "")) <= 10_000:
        errors.append("prompt: must be between 1 and 10000 characters")
    if len(fields.get("negative_prompt", "")) > 10_000:
        errors.append("negative_prompt: must be at most 10000 characters")
    if not 0 <= int(fields.get("seed", "0")) <= 2**32 - 2:
        errors.append("seed: must be between 0 and 4294967294")
    if fields.get("aspect_ratio", "1:1") not in RATIOS:
        errors.append(f"aspect_ratio: must be one of {', '.join(sorted(RATIOS))}")
    if fields.get("style_preset", "anime") not in STYLES:
        errors.append(f"style_preset: must be one of {', '.join(sorted(STYLES))}")
    if fields.get("output_format", "png") not in ("png", "jpeg", "webp"):
        errors.append("output_format: must be one of png, jpeg, webp")
    if not 0 <= float(fields.get("strength", "0")) <= 1:
        errors.append("strength: must be between 0 and 1")
    return errors


def _faults_of_use(asked: Asked, what: str) -> list[str]:
    given = set(asked.fields) | set(asked.files)
    errors = [f"{name}: is not allowed" for name in sorted(given - FIELDS[what])]
    if ("image" in given) != ("strength" in given) and what != "creative":
        errors.append("strength: must come with an image, and an image with it")
    if what == "creative" and "image" not in given:
        errors.append("image: is required")
    if what == "sd3":
        is_edit = asked.fields.get("mode", "text-to-image") == "image-to-image"
        if asked.fields.get("model", "sd3.5-large") not in CREDITS:
            errors.append("model: is unknown")
        if is_edit != ("image" in given):
            errors.append("mode: must be image-to-image with an image, and only then")
        if is_edit and "aspect_ratio" in given:
            errors.append("aspect_ratio: is not allowed in image-to-image mode")
        if asked.fields.get("output_format") == "webp":
            errors.append("output_format: must be one of png, jpeg")
    if "image" in asked.files:
        errors.extend(_faults_of_image(asked.files["image"], what))
    return errors


def _faults_of_image(data: bytes, what: str) -> list[str]:
    try:
        image = Image.open(BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except UnidentifiedImageError:
        return ["image: must be a jpeg, png or webp"]
    if not all(64 <= side <= 16_384 for side in image.size):
        return ["image: each side must be between 64 and 16384 pixels"]
    if what == "creative" and image.width * image.height > MEGAPIXEL:
        return ["image: must be at most 1 megapixel"]
    return []


async def _tear(request: web.Request, said: web.StreamResponse) -> web.StreamResponse:
    """Promise the whole body, and give half of it."""
    assert isinstance(said, web.Response)
    assert isinstance(said.body, bytes)
    headers = dict(said.headers) | {"Content-Length": str(len(said.body))}
    torn = web.StreamResponse(status=said.status, headers=headers)
    await torn.prepare(request)
    await torn.write(said.body[: len(said.body) // 2])
    assert request.transport is not None  # it is connected
    request.transport.close()
    return torn


def _as_json(said: web.StreamResponse) -> web.Response:
    """As if somebody on the way had asked for that."""
    assert isinstance(said, web.Response)
    assert isinstance(said.body, bytes)
    reason, seed = said.headers["finish-reason"], int(said.headers["seed"])
    return web.json_response(
        {"image": b64encode(said.body).decode(), "finish_reason": reason, "seed": seed}
    )


@asynccontextmanager
async def stability_server() -> AsyncIterator[StabilityServer]:
    server = StabilityServer()
    app = web.Application(client_max_size=2**30)
    app.add_routes(server.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
