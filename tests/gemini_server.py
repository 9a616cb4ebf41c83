"""A stand-in for Gemini's image models: reads each request as strictly as the real one.

Written from the documentation and from answers that people have shown. Words in a prompt are
minded: FORBIDDEN ones before anything is drawn, INDECENT ones in the picture.
"""

import asyncio
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from secrets import token_hex
from typing import Any

from aiohttp import web
from PIL import Image

from tests.pictures import jpeg, png

API_KEY = "AIza-a-key-of-the-tests"
FORBIDDEN, INDECENT = "gore", "nude"

MODELS = frozenset(
    {
        "gemini-3.1-flash-image",
        "gemini-3.1-flash-lite-image",
        "gemini-3-pro-image",
        "gemini-2.5-flash-image",
    }
)
RATIOS = frozenset(
    {"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"},
)
SIZES = frozenset({"1K", "2K", "4K"})
TYPE = "type.googleapis.com/google.rpc."
QUOTA_WORDS = "You exceeded your current quota, please check your plan and billing details."

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One call: its model, its body, and its headers in lower case."""

    model: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> list[dict[str, Any]]:
        return self.body["contents"][0]["parts"]  # type: ignore[no-any-return]  # it is JSON


class Complaint(Exception):
    """`details` are given as kind and content."""

    def __init__(
        self, code: int, status: str, message: str, *details: tuple[str, dict[str, Any]]
    ) -> None:
        error: dict[str, Any] = {"code": code, "message": message, "status": status}
        if details:
            error["details"] = [{"@type": TYPE + kind, **told} for kind, told in details]
        self.answer = web.json_response({"error": error}, status=code)


class GeminiServer:
    """`calls` counts what was asked for, `asked` holds it, `drawn` are the pictures it gave,
    and `models` is what it has.

    Its pictures have the wished shape with about `pixels` pixels: fewer than real ones, which take
    their time.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self.drawn: list[bytes] = []
        self.models = set(MODELS)
        self.pixels = 128 * 128
        self.is_dropped = asyncio.Event()
        self.is_held = asyncio.Event()
        self._failures: deque[str | None] = deque()

    def fail_with(self, *how: str | None) -> None:
        """What becomes of the next calls, one after the other; None is as it should be.

        minute, day, billing, credits, exhausted (429 each); unauthenticated, denied, country,
        internal, overloaded; told:CODE:STATUS (in their own words); finish:REASON and block:REASON
        (without a picture), silence (no candidates), bad-base64, broken-json; hang, cut (before an
        answer), torn (half an answer), moved; page:STATUS, json:STATUS and torn-page:STATUS (from a
        machine in between).
        """
        self._failures = deque(how)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/models/{model:[^:/]+}:generateContent", self._guarded(self._generate)),
            web.get("/v1/models/{model}", self._guarded(self._model)),
        ]

    def _guarded(self, handle: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.calls[handle.__name__.strip("_")] += 1
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.asked.append(Asked(request.match_info["model"], headers))
            how = self._failures.popleft() if self._failures else None
            try:
                self._admit(request)
                if how not in (None, "torn"):
                    return await self._fail(request, how)
                said = await handle(request)
            except Complaint as complaint:
                return complaint.answer
            return await _tear(request, said) if how == "torn" else said

        return answer

    def _admit(self, request: web.Request) -> None:
        match request.headers.get("x-goog-api-key"):
            case None:
                raise Complaint(
                    403,
                    "PERMISSION_DENIED",
                    "Method doesn't allow unregistered callers. Please use API Key.",
                )
            case key if key != API_KEY:
                raise Complaint(
                    400,
                    "INVALID_ARGUMENT",
                    "API key not valid. Please pass a valid API key.",
                    ("ErrorInfo", {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}),
                )
        model = request.match_info["model"]
        if model not in self.models:
            raise Complaint(404, "NOT_FOUND", f"models/{model} is not found for API version v1")

    async def _fail(self, request: web.Request, how: str) -> web.StreamResponse:
        match how.split(":"):
            case ["minute" | "day"]:
                raise _quota("PerMinute" if how == "minute" else "PerDay", delay="34.074824224s")
            case ["billing"]:
                raise Complaint(429, "RESOURCE_EXHAUSTED", QUOTA_WORDS)
            case ["credits"]:
                words = "Your prepayment credits are depleted."
                raise Complaint(429, "RESOURCE_EXHAUSTED", words)
            case ["exhausted"]:
                words = "Resource has been exhausted (e.g. check quota)."
                raise Complaint(429, "RESOURCE_EXHAUSTED", words)
            case ["unauthenticated"]:
                raise Complaint(401, "UNAUTHENTICATED", "Request had invalid credentials.")
            case ["denied"]:
                raise Complaint(403, "PERMISSION_DENIED", "The caller lacks permission.")
            case ["country"]:
                words = "User location is not supported for the API use."
                raise Complaint(400, "FAILED_PRECONDITION", words)
            case ["internal"]:
                raise Complaint(500, "INTERNAL", "An internal error has occurred.")
            case ["overloaded"]:
                raise Complaint(503, "UNAVAILABLE", "The model is overloaded.")
            case ["told", code, status]:
                raise Complaint(int(code), status, f"It is {status}.")
            case ["page", status]:
                return web.Response(status=int(status), text="<html>", content_type="text/html")
            case ["json", status]:
                told = {"error": {"message": "Gateway Timeout", "type": "timeout"}}
                return web.json_response(told, status=int(status))
            case ["torn-page", status]:
                page = web.Response(status=int(status), text="<html>" * 9)
                return await _tear(request, page)
            case ["finish", reason]:
                return _told([{"text": "I would rather not."}], reason)
            case ["block", reason]:
                return web.json_response({"promptFeedback": {"blockReason": reason}})
            case ["silence"]:
                return web.json_response({"usageMetadata": {"promptTokenCount": 7}})
            case ["bad-base64"]:
                return _told([{"inlineData": {"mimeType": "image/png", "data": "abc"}}], "STOP")
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
            case ["cut"]:
                await request.read()
                assert request.transport is not None  # it is connected
                request.transport.abort()
            case _:
                raise AssertionError(f"unknown failure {how}")
        return web.Response()

    async def _model(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"name": f"models/{request.match_info['model']}"})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            raise _invalid("Invalid content type")
        asked = self.asked[-1]
        asked.body = await request.json()
        words, shape = _checked(asked)
        if FORBIDDEN in words:
            return web.json_response({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
        if INDECENT in words:
            return _told([], "IMAGE_SAFETY")
        width, height = map(int, shape.get("aspectRatio", "1:1").split(":"))
        scale = (self.pixels / (width * height)) ** 0.5
        seed = len(self.drawn) + 1
        picture = png(round(width * scale), round(height * scale), seed=seed)
        self.drawn.append(picture)
        parts: list[dict[str, Any]] = [{"text": "Here it is:"}, _blob("image/png", picture)]
        if asked.model == "gemini-3-pro-image":  # which thinks before it draws
            sketch = jpeg(64, 64, seed=seed + 1000)
            parts = [{"text": "Hm.", "thought": True}, _blob("image/jpeg", sketch), *parts]
            parts[1]["thought"] = True
        return _told(parts, "STOP")


def _checked(asked: Asked) -> tuple[str, dict[str, str]]:
    """The words, and the wished shape."""
    if set(asked.body) - {"contents", "generationConfig"}:
        raise _invalid("Invalid JSON payload received. Unknown name.")
    (content,) = asked.body["contents"]
    if content["role"] != "user":
        raise _invalid("Please use a valid role: user, model.")
    config = asked.body["generationConfig"]
    if "IMAGE" not in config["responseModalities"]:
        raise _invalid("Model does not support the requested response modalities: text")
    shape = config.get("imageConfig", {})
    if shape.get("aspectRatio", "1:1") not in RATIOS:
        raise _invalid("aspect_ratio must be one of " + ", ".join(sorted(RATIOS)))
    if "imageSize" in shape:
        if asked.model == "gemini-2.5-flash-image":
            raise _invalid("image_size is not supported by this model")
        if shape["imageSize"] not in SIZES:
            raise _invalid("image_size must be one of 1K, 2K, 4K")
    words = []
    for part in content["parts"]:
        match part:
            case {"text": text}:
                words.append(text)
            case {"inlineData": {"mimeType": kind, "data": data}}:
                image = Image.open(BytesIO(b64decode(data, validate=True)))
                if image.get_format_mimetype() != kind:
                    raise _invalid("Unable to process input image.")
            case _:
                raise _invalid("Unable to submit request: a part must have one data field.")
    return " ".join(words), shape


def _invalid(message: str) -> Complaint:
    return Complaint(400, "INVALID_ARGUMENT", message)


def _quota(per: str, *, delay: str) -> Complaint:
    """The same words for a limit of a minute and of a day; the details tell."""
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_requests",
        "quotaId": f"GenerateRequests{per}PerProjectPerModel",
        "quotaValue": "20",
    }
    return Complaint(
        429,
        "RESOURCE_EXHAUSTED",
        f"{QUOTA_WORDS} Please retry in {delay}.",
        ("Help", {"links": [{"description": "Learn more", "url": "https://ai.google.dev"}]}),
        ("QuotaFailure", {"violations": [violation]}),
        ("RetryInfo", {"retryDelay": delay}),
    )


def _blob(kind: str, data: bytes) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": b64encode(data).decode()}}


def _told(parts: list[dict[str, Any]], reason: str) -> web.Response:
    content = {"content": {"role": "model", "parts": parts}} if parts else {}
    return web.json_response(
        {
            "candidates": [{**content, "finishReason": reason, "index": 0}],
            "usageMetadata": {
                "promptTokenCount": 7,
                "candidatesTokenCount": 1290,
                "totalTokenCount": 1297,
            },
            "modelVersion": "gemini",
            "responseId": token_hex(8),
        }
    )


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


@asynccontextmanager
async def gemini_server() -> AsyncIterator[GeminiServer]:
    server = GeminiServer()
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
