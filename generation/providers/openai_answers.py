"""What is in the SDK's answers. It builds them from whatever was sent, so nothing is sure."""

from base64 import b64decode

from generation.provider import Preview

STAGES = ("sketching", "drawing", "refining")


def read_picture(answer: object) -> bytes | None:
    """The picture in an answer, if it is in there. Raises ValueError for a broken one."""
    text = getattr(answer, "b64_json", None)
    return b64decode(text) if isinstance(text, str) and text else None


def read_url(answer: object) -> str | None:
    """Where the picture is, from servers that keep it. It may be relative to theirs."""
    url = getattr(answer, "url", None)
    return url if isinstance(url, str) and url else None


def read_revised_prompt(answer: object) -> str | None:
    """The words that were drawn. OpenAI's image models do not tell them, other servers may."""
    text = getattr(answer, "revised_prompt", None)
    return text if isinstance(text, str) and text else None


def read_preview(event: object, previews: int) -> Preview | None:
    """One of `previews` unfinished pictures; None for what is none, which is worth no failure.

    Its progress is a guess that stays behind the truth: they come at even distances at best.
    """
    number = getattr(event, "partial_image_index", None)
    try:
        data = read_picture(event)
    except ValueError:
        return None
    if not data or not isinstance(number, int) or not (media_type := sniffed(data)):
        return None
    progress = 0.9 * min(number + 1, previews) / (previews + 1)
    return Preview(0, data, media_type, progress, STAGES[min(number, len(STAGES) - 1)])


def read_tokens(answer: object) -> tuple[int, int, int] | None:
    """Of text and pictures that went in, and of what came out; None where it is not all told."""
    usage = getattr(answer, "usage", None)
    details = getattr(usage, "input_tokens_details", None)
    text_in, image_in = (
        getattr(details, "text_tokens", None),
        getattr(details, "image_tokens", None),
    )
    image_out = getattr(usage, "output_tokens", None)
    if isinstance(text_in, int) and isinstance(image_in, int) and isinstance(image_out, int):
        return text_in, image_in, image_out
    return None


def read_models(answer: object) -> dict[str, str | None]:
    """The names in a list of models, and when each ends. Raises ValueError for what is none."""
    match answer:
        case {"data": [*entries]}:
            return {
                entry["id"]: entry.get("shutdown_date")
                for entry in entries
                if isinstance(entry, dict) and isinstance(entry.get("id"), str)
            }
    raise ValueError("no list of models")


def sniffed(data: bytes) -> str | None:
    """The media type that the bytes show, whatever was said of them."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None
