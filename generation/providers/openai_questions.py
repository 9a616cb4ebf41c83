"""What OpenAI, or a server that speaks its protocol, is sent: each once, through the SDK."""

from typing import Any, cast

from openai import AsyncOpenAI, omit

from generation.errors import ProviderRejected
from generation.provider import GenerationRequest, InputImage
from generation.providers.openai_offer import Offer
from generation.providers.options import OpenAIOptions

REFERENCES = ("image/png", "image/jpeg", "image/webp")


class Questions:
    """Fields that are not everybody's go only to whom they suit. Raises what the SDK does."""

    def __init__(self, client: AsyncOpenAI, offer: Offer, options: OpenAIOptions) -> None:
        self._client = client
        self._offer = offer
        self._is_compatible = options.is_compatible
        # The SDK wants to hear with each request that there is no key.
        self._headers: Any = {} if options.api_key else {"Authorization": omit}

    async def models(self) -> object:
        """The list of them, as it was sent. Raises ValueError for what is no JSON."""
        answer = await self._client.models.with_raw_response.list(extra_headers=self._headers)
        return cast(object, answer.http_response.json())

    async def pictures(self, request: GenerationRequest, *, previews: int = 0) -> Any:
        """The answer, or with `previews` a stream. Raises ProviderRejected before it is sent."""
        images: Any = self._client.images  # its overloads do not take a dict
        asked: dict[str, Any] = {
            "model": self._offer.named(request.model),
            "prompt": request.prompt,
            "n": request.count,
            "size": f"{request.width}x{request.height}",
            "extra_headers": self._headers,
        }
        if previews:
            asked |= {"stream": True, "partial_images": previews}
        if request.quality:
            asked["quality"] = request.quality.value
        if self._is_compatible:
            extras = {"negative_prompt": request.negative_prompt, "seed": request.seed}
            asked["extra_body"] = {
                name: extras[name] for name in extras if extras[name] is not None
            }
            asked["response_format"] = "b64_json"  # some would rather give a URL
        else:
            asked["output_format"] = "png"  # without loss; it is encoded again anyway
            asked["background"] = request.background.value if request.background else omit
            asked["safety_identifier"] = request.asked_by or omit
        if not request.references:
            return await images.generate(**asked)
        files = [_file(f"image-{n}", image) for n, image in enumerate(request.references, start=1)]
        mask = _file("mask", request.mask) if request.mask else omit
        return await images.edit(image=files if files[1:] else files[0], mask=mask, **asked)


def _file(name: str, image: InputImage) -> tuple[str, bytes, str]:
    """Raises ProviderRejected for what the API does not take."""
    taken = ("image/png",) if name == "mask" else REFERENCES
    if image.media_type not in taken:
        raise ProviderRejected(
            f"The {name} is {image.media_type}, but must be one of: {', '.join(taken)}.",
            field="mask" if name == "mask" else "references",
        )
    return f"{name}.{image.extension}", image.data, image.media_type
