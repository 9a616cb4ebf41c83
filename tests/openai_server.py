"""Stand-ins for OpenAI's Images API and for servers that speak its protocol.

They check what they are sent as the real ones do, and can be told to fail. Written from the types
of the official SDK, from what it sends, and from what others report of the answers.
"""

import asyncio
import json
import math
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from io import BytesIO
from typing import Any
from uuid import uuid4

from aiohttp import BodyPartReader, web
from PIL import Image

from tests.pictures import encoded

API_KEY = "sk-proj-of-the-tests-0123456789"
MODELS = {
    "gpt-image-2": {"low": 16, "medium": 48, "high": 96},
    "gpt-image-2-2026-04-21": {"low": 16, "medium": 48, "high": 96},
    "gpt-image-2.5-sunburst": {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96},
    "gpt-image-2.5-flare": {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96},
    "gpt-image-2.6-sunburst": {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96},
    "gpt-image-2.6-flare": {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96},
}
"""What is served, and the factor of each quality."""

RETIRED = ("dall-e-2", "dall-e-3", "gpt-image-1")
COMMON = {
    *("prompt", "model", "n", "size", "quality", "background", "complexity", "safety_identifier"),
    *("output_format", "output_compression", "stream", "partial_images", "user"),
}
FIELDS = {"generations": COMMON | {"moderation"}, "edits": COMMON | {"input_fidelity"}}
INPUT_TRIGGER, OUTPUT_TRIGGER = "gore", "celebrity"
"""Words in a prompt that are blocked before drawing, and after."""

QUOTAS = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
)

FAILURE = web.RequestKey("failure", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """An answer that is an error, in the form of the API."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.error = {"message": message, "type": type, "param": param, "code": code} | more

    def response(self) -> web.Response:
        return web.json_response({"error": self.error}, status=self.status, headers=self.headers)


@dataclass
class Sent:
    """A picture that was sent as a part of a form."""

    part: str
    filename: str
    media_type: str
    data: bytes


@dataclass
class Asked:
    """A request for pictures: its headers, its fields, and the files of an edit."""

    endpoint: str
    headers: Mapping[str, str]
    fields: dict[str, Any]
    files: list[Sent] = field(default_factory=list)


class OpenAIServer:
    """`requests` are those for pictures; `calls` counts all, by endpoint. `url` is the API's base.

    After `fail_with`, that many answers are failures. `seconds` is how long a picture is drawn,
    `shutdown_dates` say when a model ends. `is_asked` is set with the first request for pictures,
    `is_left` when a client does not read a stream to its end.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Asked] = []
        self.calls: Counter[str] = Counter()
        self.models = dict(MODELS)
        self.shutdown_dates: dict[str, str] = {}
        self.seconds = 0.0
        self.is_asked = asyncio.Event()
        self.is_left = asyncio.Event()
        self._failures: deque[str] = deque()

    def fail_with(self, how: str, times: int = 1) -> None:
        """`how` is one of FAILURES, or a code of QUOTAS."""
        assert how in FAILURES or how in QUOTAS, how
        self._failures.extend([how] * times)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/images/generations", self._guarded("generations", self._generate)),
            web.post("/v1/images/edits", self._guarded("edits", self._edit)),
            web.get("/v1/models", self._guarded("models", self._list)),
        ]

    def _guarded(self, endpoint: str, handle: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.calls[endpoint] += 1
            how = self._failures.popleft() if self._failures else None
            request[FAILURE] = how or ""
            try:
                if how in QUOTAS:
                    raise Refusal(429, how, "You exceeded your quota.", type="insufficient_quota")
                if how in FAILURES and (fail := FAILURES[how]):
                    await request.read()
                    return await fail(request)
                self._check_key(request)
                return await handle(request)
            except Refusal as refusal:
                return refusal.response()

        return answer

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            raise Refusal(415, None, f"Unsupported content type {request.content_type}.")
        asked = Asked("generations", request.headers, await request.json())
        return await self._draw(request, asked)

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        """As a form, or as JSON with data URLs."""
        if request.content_type == "application/json":
            asked = Asked("edits", request.headers, await request.json())
            images = asked.fields.pop("images", ())
            asked.files = [_from_data_url("image[]", each["image_url"]) for each in images]
            if mask := asked.fields.pop("mask", None):
                asked.files.append(_from_data_url("mask", mask["image_url"]))
        else:
            asked = Asked("edits", request.headers, *(await _form(request)))
        _check_files(asked)
        return await self._draw(request, asked)

    async def _list(self, request: web.Request) -> web.Response:
        names = [*self.models, "gpt-6-luna"]
        entries = [
            {"id": name, "object": "model", "created": 1777777777, "owned_by": "system"}
            | {"shutdown_date": self.shutdown_dates.get(name)}
            for name in names
        ]
        return web.json_response({"object": "list", "data": entries})

    async def _draw(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        self.requests.append(asked)
        self.is_asked.set()
        fields = asked.fields
        factors = self._check(asked)
        _check_words(fields["prompt"], INPUT_TRIGGER)
        size = _size(fields.get("size", "auto"))
        quality = fields.get("quality", "auto")
        background = fields.get("background", "auto")
        told = {
            "background": "opaque" if background == "auto" else background,
            "output_format": fields.get("output_format", "png"),
            "quality": "high" if quality == "auto" else quality,
            "size": f"{size[0]}x{size[1]}",
        }
        count, partials = int(fields.get("n", 1)), int(fields.get("partial_images", 0))
        drawn = count * (tokens(factors[told["quality"]], *size) + 100 * partials)
        usage = _usage(fields["prompt"], asked.files, drawn)
        if fields.get("stream"):
            return await self._stream(request, asked, told, usage, size, partials)
        await asyncio.sleep(self.seconds)
        _check_words(fields["prompt"], OUTPUT_TRIGGER)
        if request[FAILURE] == "one_missing":
            count -= 1
        pictures = [{"b64_json": picture(*size, told["output_format"], n)} for n in range(count)]
        answer = told | {"created": 1777777777, "data": pictures, "usage": usage}
        if request[FAILURE] == "no_usage":
            del answer["usage"]
        if request[FAILURE] == "broken_picture":
            answer["data"][0]["b64_json"] = "a"
        if request[FAILURE] == "cut_body":
            return await _cut(request, json.dumps(answer).encode())
        return web.json_response(answer)

    async def _stream(
        self,
        request: web.Request,
        asked: Asked,
        told: dict[str, Any],
        usage: dict[str, Any],
        size: tuple[int, int],
        partials: int,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        kind = "image_edit" if asked.endpoint == "edits" else "image_generation"
        failure = request[FAILURE]

        async def tell(event: str, **fields: object) -> None:
            body = told | {"type": f"{kind}.{event}", "created_at": 1777777777} | fields
            await response.write(f"event: {kind}.{event}\ndata: {json.dumps(body)}\n\n".encode())

        try:
            for index in range(0 if failure in WITHOUT_PREVIEWS else partials):
                await asyncio.sleep(self.seconds)
                data = picture(size[0] // 8, size[1] // 8, told["output_format"], index)
                if failure == "rate_after_broken_preview":
                    data = "a"
                await tell("partial_image", b64_json=data, partial_image_index=index)
                if failure == "cut_stream":
                    assert request.transport is not None  # it is connected
                    request.transport.abort()
                    return response
            await asyncio.sleep(3600 if failure == "silent_stream" else self.seconds)
            try:
                if failure in ("error_in_stream", "error_after_previews"):
                    raise Refusal(500, None, "The server had an error.", type="server_error")
                if failure == "quota_after_previews":
                    words = "You exceeded your quota."
                    raise Refusal(429, "insufficient_quota", words, type="insufficient_quota")
                if failure.startswith("rate_"):
                    raise Refusal(429, "rate_limit_exceeded", "Too many images.", type="tokens")
                _check_words(asked.fields["prompt"], OUTPUT_TRIGGER)
            except Refusal as refusal:
                body = json.dumps({"type": "error", "error": refusal.error})
                await response.write(f"event: error\ndata: {body}\n\n".encode())
                return response
            if failure == "nonsense_in_stream":
                await response.write(b"event: x\ndata: {\n\n")
                return response
            if failure != "one_missing":
                data = "a" if failure == "broken_picture" else picture(*size, told["output_format"])
                counted = {} if failure == "no_usage" else {"usage": usage}
                await tell("completed", b64_json=data, **counted)
        except (asyncio.CancelledError, ConnectionResetError):
            self.is_left.set()
            raise
        return response

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "")
        if given != f"Bearer {API_KEY}":
            raise Refusal(
                401,
                "invalid_api_key",
                f"Incorrect API key provided: {given.removeprefix('Bearer ')[:12]}***6789.",
            )

    def _check(self, asked: Asked) -> dict[str, int]:
        """The factors of the model. Raises Refusal for what the API does not take."""
        fields = asked.fields
        for name in fields:
            if name not in FIELDS[asked.endpoint]:
                raise _wrong(name, f"Unknown parameter: '{name}'.", "unknown_parameter")
        prompt, model = fields.get("prompt"), fields.get("model")
        if not isinstance(prompt, str) or not 1 <= len(prompt) <= 32_000:
            raise _wrong("prompt", "'prompt' must have 1 to 32000 characters.")
        if model in RETIRED or model not in self.models:
            message = f"The model '{model}' does not exist or you do not have access to it."
            raise Refusal(404, "model_not_found", message, param="model")
        count = int(fields.get("n", 1))
        if not 1 <= count <= 10:
            raise _wrong("n", f"Invalid value: {count}. Expected 1 to 10.")
        factors = self.models[model]
        if fields.get("quality", "auto") not in ("auto", *factors):
            raise _wrong("quality", f"Invalid value: '{fields['quality']}'.")
        if fields.get("background", "auto") not in ("auto", "opaque", "transparent"):
            raise _wrong("background", f"Invalid value: '{fields['background']}'.")
        format = fields.get("output_format", "png")
        if format not in ("png", "jpeg", "webp"):
            raise _wrong("output_format", f"Invalid value: '{format}'.")
        if fields.get("background") == "transparent" and format == "jpeg":
            raise _wrong("background", "Transparent background is not supported for jpeg.")
        if "input_fidelity" in fields:
            raise _wrong("input_fidelity", f"'{model}' does not support 'input_fidelity'.")
        check_size(fields.get("size", "auto"))
        partials = int(fields.get("partial_images", 0))
        if not 0 <= partials <= 3:
            raise _wrong("partial_images", f"Invalid value: {partials}. Expected 0 to 3.")
        if fields.get("stream") in (None, False, "false"):
            fields.pop("stream", None)
            if "partial_images" in fields:
                raise _wrong("partial_images", "'partial_images' is only for streams.")
        elif count > 1:
            message = "Streaming is only supported with n=1."
            raise Refusal(
                400,
                "unsupported_parameter",
                message,
                type="image_generation_user_error",
                param="input",
            )
        return factors


# ---- Ways to fail --------------------------------------------------------------------------------


async def _rate(request: web.Request) -> web.StreamResponse:
    raise Refusal(
        429,
        "rate_limit_exceeded",
        "Rate limit reached for images per minute.",
        type="requests",
        headers={"retry-after-ms": "1500", "retry-after": "2"},
    )


async def _rate_in_seconds(request: web.Request) -> web.StreamResponse:
    message = "Rate limit reached for tokens per minute."
    headers = {"retry-after": "20"}
    raise Refusal(429, "rate_limit_exceeded", message, type="tokens", headers=headers)


async def _rate_until(request: web.Request) -> web.StreamResponse:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    message = "Rate limit reached for images per minute."
    raise Refusal(429, "rate_limit_exceeded", message, headers={"retry-after": at})


async def _hard_limit(request: web.Request) -> web.StreamResponse:
    raise Refusal(400, "billing_hard_limit_reached", "Billing hard limit has been reached.")


async def _unverified(request: web.Request) -> web.StreamResponse:
    raise Refusal(403, None, f"Your organization must be verified; key {API_KEY} is not.")


async def _policy(request: web.Request) -> web.StreamResponse:
    message = "Your request was rejected as a result of our safety system."
    raise Refusal(400, "content_policy_violation", message)


async def _conflict(request: web.Request) -> web.StreamResponse:
    raise Refusal(409, None, "Another request is under way.")


async def _unprocessable(request: web.Request) -> web.StreamResponse:
    raise Refusal(422, None, f"The request\ncannot be processed with {API_KEY}.")


async def _server_error(request: web.Request) -> web.StreamResponse:
    message = "The server had an error while processing your request."
    raise Refusal(500, None, message, type="server_error")


async def _overloaded(request: web.Request) -> web.StreamResponse:
    message = "The engine is overloaded."
    raise Refusal(503, None, message, type="server_error", headers={"retry-after": "7"})


def _page(status: int) -> Handler:
    """From somebody in between, who takes us for a browser."""

    async def answer(request: web.Request) -> web.StreamResponse:
        page = f"<html><h1>{status}</h1></html>"
        return web.Response(status=status, text=page, content_type="text/html")

    return answer


async def _gateway_timeout(request: web.Request) -> web.StreamResponse:
    return web.Response(status=504, text="upstream request timeout", content_type="text/plain")


async def _problem(request: web.Request) -> web.StreamResponse:
    """From somebody in between, who has read that we take JSON."""
    title = "Error 520: Web server is returning an unknown error"
    problem = {"type": "about:blank", "title": title, "status": 520, "detail": "Try again."}
    return web.json_response(problem, status=520, content_type="application/problem+json")


async def _welcome(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>Welcome</html>", content_type="text/html")


async def _redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect(str(request.url))


async def _hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits that long")


async def _drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None  # it is connected
    request.transport.abort()
    return web.Response()


async def _cut_refusal(request: web.Request) -> web.StreamResponse:
    return await _cut(request, b'{"error": {"message": "Bad"}}', status=400)


async def _cut(request: web.Request, body: bytes, status: int = 200) -> web.StreamResponse:
    """Half of an answer."""
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None  # it is connected
    request.transport.abort()
    return response


FAILURES: dict[str, Handler | None] = {
    "rate": _rate,
    "rate_in_seconds": _rate_in_seconds,
    "rate_until": _rate_until,
    "hard_limit": _hard_limit,
    "unverified": _unverified,
    "policy": _policy,
    "conflict": _conflict,
    "unprocessable": _unprocessable,
    "server_error": _server_error,
    "overloaded": _overloaded,
    **{f"page_{status}": _page(status) for status in (408, 500, 502, 503, 504, 520, 524)},
    "gateway_timeout": _gateway_timeout,
    "problem": _problem,
    "welcome": _welcome,
    "redirect": _redirect,
    "hang": _hang,
    "drop": _drop,
    "cut_refusal": _cut_refusal,
    "cut_body": None,
    "cut_stream": None,
    "silent_stream": None,
    "error_in_stream": None,
    "error_after_previews": None,
    "rate_in_stream": None,
    "rate_after_previews": None,
    "rate_after_broken_preview": None,
    "quota_after_previews": None,
    "nonsense_in_stream": None,
    "no_partials": None,
    "one_missing": None,
    "no_usage": None,
    "broken_picture": None,
}
"""Those without a handler show while the picture is drawn, after the request was found right."""

WITHOUT_PREVIEWS = ("no_partials", "error_in_stream", "rate_in_stream")


# ---- What is checked -----------------------------------------------------------------------------


def _wrong(param: str, message: str, code: str = "invalid_value") -> Refusal:
    return Refusal(400, code, message, param=param)


def check_size(size: str) -> None:
    """Raises Refusal."""
    if size == "auto":
        return
    try:
        width, height = map(int, size.split("x"))
    except ValueError:
        raise _wrong("size", f"Invalid size '{size}'.") from None
    if width % 16 or height % 16:
        raise _wrong("size", f"Invalid size '{size}'. Width and height must be divisible by 16.")
    if max(width, height) > 3 * min(width, height):
        raise _wrong("size", f"Invalid size '{size}'. The ratio must be between 1:3 and 3:1.")
    if max(width, height) > 3840 or not 655_360 <= width * height <= 8_294_400:
        raise _wrong("size", f"Invalid size '{size}'. It has too few or too many pixels.")


def _check_words(prompt: str, trigger: str) -> None:
    if trigger not in prompt.lower():
        return
    stage = "input" if trigger == INPUT_TRIGGER else "output"
    raise Refusal(
        400,
        "moderation_blocked",
        "Your request was rejected by the safety system.",
        type="image_generation_user_error",
        moderation_details={"moderation_stage": stage, "categories": ["violence"]},
    )


def _check_files(asked: Asked) -> None:
    images = [file for file in asked.files if file.part in ("image", "image[]")]
    if not 1 <= len(images) <= 16:
        raise _wrong("image", f"Invalid number of images: {len(images)}. Expected 1 to 16.")
    for file in asked.files:
        if file.media_type not in ("image/png", "image/jpeg", "image/webp"):
            raise _wrong(file.part, f"Unsupported mimetype ('{file.media_type}').")
        if file.filename == "upload":
            raise _wrong(file.part, "A file needs a name.")
    for mask in (file for file in asked.files if file.part == "mask"):
        with Image.open(BytesIO(mask.data)) as opened, Image.open(BytesIO(images[0].data)) as first:
            if opened.format != "PNG" or len(mask.data) > 4 * 2**20:
                raise _wrong("mask", "The mask must be a PNG file of less than 4 MB.")
            if "A" not in opened.getbands():
                raise _wrong("mask", "The mask must have an alpha channel.")
            if opened.size != first.size:
                raise _wrong("mask", "The mask must have the size of the first image.")


async def _form(request: web.Request) -> tuple[dict[str, Any], list[Sent]]:
    fields: dict[str, Any] = {}
    files: list[Sent] = []
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)  # no nested parts
        part.chunk_size = 2**26  # of smaller ones it hands rests back, which aiohttp warns of
        name = str(part.name)
        if part.filename is None:
            fields[name] = await part.text()
        else:
            media_type = part.headers.get("Content-Type", "application/octet-stream")
            files.append(Sent(name, part.filename, media_type, bytes(await part.read())))
    return fields, files


def _from_data_url(part: str, url: str) -> Sent:
    head, _, text = url.partition(";base64,")
    return Sent(part, "data", head.removeprefix("data:"), b64decode(text))


# ---- What is drawn -------------------------------------------------------------------------------


def tokens(factor: int, width: int, height: int) -> int:
    """As published: the short side's share of the factor, and the pixels over a constant."""
    short = math.floor(factor * min(width, height) / max(width, height) + 0.5)
    return math.ceil(factor * short * (2_000_000 + width * height) / 4_000_000)


def _usage(prompt: str, files: list[Sent], drawn: int) -> dict[str, Any]:
    text, images = math.ceil(len(prompt) / 4), 1000 * len(files)
    return {
        "input_tokens": text + images,
        "input_tokens_details": {"text_tokens": text, "image_tokens": images},
        "output_tokens": drawn,
        "total_tokens": text + images + drawn,
    }


def _size(size: str) -> tuple[int, int]:
    width, height = map(int, ("1024x1024" if size == "auto" else size).split("x"))
    return width, height


@lru_cache(maxsize=64)
def picture(width: int, height: int, format: str = "png", number: int = 0) -> str:
    """In base64."""
    colour = (40 + 20 * number % 200, 90, 160)
    return b64encode(encoded(Image.new("RGB", (width, height), colour), format)).decode()


# ---- Servers with open models --------------------------------------------------------------------


OPEN_MODELS = ("flux-dev", "z-image")
STRICT = ("vllm", "litellm")
"""Who does not know a model that they do not list; the others draw with what they have."""


class CompatibleServer:
    """One `dialect` of those that differ: `sd.cpp`, `localai`, `vllm`, `sglang` or `litellm`.

    With `pictures_at`, it gives no pictures but URLs of them, that begin so.
    """

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.url = ""
        self.requests: list[Asked] = []
        self.fails = False
        self.pictures_at: str | None = None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/images/generations", self._generate),
            web.post("/v1/images/edits", self._edit),
            web.get("/v1/images/{id}/content", self._content),
            web.get("/v1/models", self._list),
        ]

    async def _generate(self, request: web.Request) -> web.Response:
        asked = Asked("generations", request.headers, await request.json())
        return self._draw(asked)

    async def _edit(self, request: web.Request) -> web.Response:
        return self._draw(Asked("edits", request.headers, *(await _form(request))))

    async def _content(self, request: web.Request) -> web.Response:
        body = encoded(Image.new("RGB", (64, 64)), "PNG")
        return web.Response(body=body, content_type="image/png")

    async def _list(self, request: web.Request) -> web.Response:
        entries = [{"id": name, "object": "model"} for name in OPEN_MODELS]
        return web.json_response({"object": "list", "data": entries})

    def _draw(self, asked: Asked) -> web.Response:
        self.requests.append(asked)
        fields = asked.fields
        if self.fails:
            return self._failure()
        if self.dialect == "sglang" and fields.get("response_format") == "url":
            return web.json_response({"detail": "response_format=url needs a store"}, status=400)
        if self.dialect in STRICT and fields["model"] not in OPEN_MODELS:
            error = {"message": f"The model `{fields['model']}` does not exist.", "code": 404}
            return web.json_response({"error": error}, status=404)
        size = _size(fields["size"])
        pictures: list[dict[str, Any]] = []
        for number in range(int(fields["n"])):
            if self.pictures_at is not None:
                pictures.append({"url": f"{self.pictures_at}/v1/images/{number}/content"})
                continue
            wants_url = self.dialect == "localai" and fields.get("response_format") != "b64_json"
            if wants_url or (self.dialect == "sglang" and asked.endpoint == "edits"):
                pictures.append({"url": f"/v1/images/{number}/content"})
            else:
                pictures.append({"b64_json": picture(*size, "png", number)})
        answer: dict[str, Any] = {"created": 1777777777, "data": pictures}
        if self.dialect == "localai":
            answer["usage"] = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        if self.dialect == "litellm":
            pictures[0]["revised_prompt"] = "a better prompt"
            answer["usage"] = _usage(fields["prompt"], asked.files, 1000)
        return web.json_response(answer)

    def _failure(self) -> web.Response:
        match self.dialect:
            case "sd.cpp":
                return web.json_response({"error": "width must be positive"}, status=400)
            case "vllm":
                detail = [{"loc": ["body", "size"], "msg": "size is wrong", "type": "value_error"}]
                return web.json_response({"detail": detail}, status=422)
            case "sglang":
                return web.json_response({"detail": "the prompt is empty"}, status=400)
            case _:
                return web.json_response({"error": {"message": "no model is loaded"}}, status=503)


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAIServer]:
    server = OpenAIServer()
    async with _served(server.routes()) as url:
        server.url = url
        yield server


@asynccontextmanager
async def compatible_server(dialect: str) -> AsyncIterator[CompatibleServer]:
    server = CompatibleServer(dialect)
    async with _served(server.routes()) as url:
        server.url = url
        yield server


@asynccontextmanager
async def _served(routes: list[web.RouteDef]) -> AsyncIterator[str]:
    async def name(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["x-request-id"] = f"req_{uuid4().hex}"

    app = web.Application(client_max_size=2**30)
    app.on_response_prepare.append(name)
    app.add_routes(routes)
    # A handler ends when its client leaves, so that we see it.
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()
