"""What Stability AI is sent, and what its answers mean.

All that it is sent is a form, also where that holds nothing but words. What it is known to refuse
is not sent at all. A picture that its filter caught comes with status 200, blurred.
"""

import re
from io import BytesIO

import aiohttp
from aiohttp.payload import Payload
from pydantic import Base64Bytes, BaseModel, ValidationError

from generation.errors import (
    ProviderAuth,
    ProviderQuota,
    ProviderRejected,
    ProviderUnavailable,
    Refused,
)
from generation.provider import GenerationRequest, InputImage
from generation.providers.answers import Answer, lost, unheard, words_of
from generation.providers.ratios import nearest
from generation.providers.stability_models import MEGAPIXEL, NAME, RATIOS, UPSCALER
from storage.errors import (
    LibraryError,
    RateLimited,
    Rejected,
    TooLarge,
    TooLong,
    TooManyPixels,
    UnsupportedMediaType,
)

MAX_PROMPT = 10_000
MAX_BODY = 10 * 2**20
MIN_SIDE, MAX_SIDE = 64, 16_384
SEEDS = 2**32 - 1
STRENGTH = 0.6
"""How far from the given picture: 0 is that very picture, 1 has nothing of it. At 0.6 it is known
again, and follows the words already."""

RATE_LIMIT = 60
"""Seconds that they shut us out for after more than 150 calls in 10 seconds."""


def form_of(request: GenerationRequest, index: int) -> Payload:
    """One picture's. Raises Rejected."""
    _check(request)
    form = aiohttp.FormData({"prompt": request.prompt}, default_to_multipart=True)
    form.add_field("output_format", "png")
    if request.negative_prompt:
        form.add_field("negative_prompt", request.negative_prompt)
    if request.style:
        form.add_field("style_preset", request.style)
    if request.seed is not None:
        # They take a seed of 0 for none.
        form.add_field("seed", str((request.seed + index) % SEEDS or SEEDS - 1))
    is_diffusion = request.model.startswith("sd3")
    if is_diffusion:
        form.add_field("model", request.model)
        form.add_field("mode", "image-to-image" if request.references else "text-to-image")
    for image in request.references:
        file = BytesIO(image.data)  # goes in small parts, where bytes would go in one
        name = f"image.{image.extension}"
        form.add_field("image", file, filename=name, content_type=image.media_type)
        if request.model != UPSCALER:
            form.add_field("strength", str(STRENGTH))
    if request.model != UPSCALER and not (is_diffusion and request.references):
        form.add_field("aspect_ratio", nearest(RATIOS, request.width, request.height))
    body = form()
    if (body.size or 0) > MAX_BODY:
        raise TooLarge(
            f"{NAME} takes at most {MAX_BODY:,} bytes, the picture and the words together.",
            field="references",
            limit=MAX_BODY,
            actual=body.size,
        )
    return body


def _check(request: GenerationRequest) -> None:
    for field, text in (("prompt", request.prompt), ("negativePrompt", request.negative_prompt)):
        if len(text or "") > MAX_PROMPT:
            raise TooLong(
                f"{NAME} takes at most {MAX_PROMPT:,} characters as {field}.",
                field=field,
                limit=MAX_PROMPT,
                actual=len(text or ""),
            )
    if request.model == UPSCALER and len(request.references) != 1:
        raise Rejected(f"{UPSCALER} needs one picture, to upscale it.", field="references")
    for image in request.references:
        _check_image(image, request.model)


def _check_image(image: InputImage, model: str) -> None:
    if image.media_type not in ("image/jpeg", "image/png", "image/webp"):
        raise UnsupportedMediaType(
            f"{NAME} takes JPEG, PNG and WebP, not {image.media_type}.", field="references"
        )
    for side in (image.width, image.height):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise Rejected(
                f"{NAME} takes pictures of {MIN_SIDE} to {MAX_SIDE} pixels a side, not {side}.",
                field="references",
                limit=MIN_SIDE if side < MIN_SIDE else MAX_SIDE,
                actual=side,
            )
    pixels = image.width * image.height
    if model == UPSCALER and pixels > MEGAPIXEL:
        raise TooManyPixels(
            f"{UPSCALER} takes pictures of at most {MEGAPIXEL:,} pixels in all, not {pixels:,}.",
            field="references",
            limit=MEGAPIXEL,
            actual=pixels,
        )


class _Drawn(BaseModel):
    image: Base64Bytes
    finish_reason: str


class _Started(BaseModel):
    id: str


class _Fault(BaseModel):
    id: str = ""
    name: str = ""
    errors: list[str] = []

    @property
    def is_theirs(self) -> bool:
        """Others who answer in JSON do not name both the request and what is wrong with it."""
        return bool(self.id and self.name)


def picture_of(answer: Answer) -> bytes:
    """We ask for a file, but whoever is in between may have asked for JSON. Raises Refused."""
    picture, reason = answer.body, answer.headers.get("finish-reason", "SUCCESS")
    if answer.media_type == "application/json":
        try:
            drawn = _Drawn.model_validate_json(answer.body)
        except ValidationError:
            raise lost(NAME) from None
        picture, reason = drawn.image, drawn.finish_reason
    match reason:
        case "SUCCESS":
            return picture
        case "CONTENT_FILTERED":
            raise Refused(f"{NAME} drew a picture, but will not show it.", stage="output")
        case _:
            raise ProviderUnavailable(f"{NAME} could not draw: {words_of(reason)}.")


def task_of(answer: Answer) -> str:
    """Its name becomes part of a path, so it has to look like a name."""
    try:
        task = _Started.model_validate_json(answer.body).id
    except ValidationError:
        raise lost(NAME) from None
    if not re.fullmatch(r"[\w-]{1,128}", task, re.ASCII):
        raise lost(NAME)
    return task


def failure_of(answer: Answer) -> LibraryError:
    """What fails costs nothing, they say: a machine in between cannot know whether it failed."""
    try:
        fault = _Fault.model_validate_json(answer.body)
    except ValidationError:
        fault = _Fault()
    if answer.may_hide_a_picture and not fault.is_theirs:
        return unheard(NAME, answer.method, f"status {answer.status}")
    said = words_of(*fault.errors) or f"status {answer.status}"
    match answer.status:
        case 401:
            return ProviderAuth(f"{NAME} does not accept our key.")
        case 402:
            return ProviderQuota(f"Our account at {NAME} has no credits left.")
        case 403 if fault.name == "content_moderation":
            return Refused(f"{NAME} will not draw this: {said}", stage="input")
        case 403:
            return ProviderAuth(f"{NAME} does not let our key do this: {said}")
        case 429:
            wait = answer.retry_after(otherwise=RATE_LIMIT)
            return RateLimited(f"{NAME} was asked too often.", retry_after=wait)
        case status if 400 <= status < 500:
            return ProviderRejected(f"{NAME} cannot do this: {said}")
        case _:
            return ProviderUnavailable(f"{NAME} does not work now ({answer.status}).")
