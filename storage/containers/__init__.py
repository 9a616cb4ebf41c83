"""Picture files rewritten without re-encoding: only the parts that make the picture come out.

Each container has an allow-list. What is on it is checked, put into the standard's order and
copied; everything else (places, camera notes, previews, comments, second pictures, whatever stands
before the signature or after the end) is gone because nobody copied it. Two things are kept beside
the pixels, since pictures come out wrong without them: the colour profile and the orientation. One
is written anew: the mark of a picture that AI made, if the file bears it, or the caller knows.

Nothing is decoded: compressed data are copied as they are, in time linear in the file. So two
things are not promised: that the compressed data decode (the decoder tells), and that nothing hides
inside them, behind the last pixel but before the part's own end.
"""

from dataclasses import fields

from storage.containers import avif, gif, jpeg, png, webp
from storage.containers.vocabulary import Bounds, Rewritten
from storage.errors import UnsupportedMediaType
from storage.marks import Mark

__all__ = ["Bounds", "Rewritten", "avif", "is_sealed", "rewrite"]

ACCEPTED = "JPEG, PNG, WebP or GIF"
BOUNDLESS = Bounds(*[2**63] * len(fields(Bounds)))  # for what was admitted before


def rewrite(
    data: bytes | memoryview,
    bounds: Bounds = Bounds(),  # noqa: B008  # a frozen value
    mark: Mark | None = None,
) -> Rewritten:
    """The same pixels in a file that holds nothing else. Rewriting it again changes nothing.

    `mark` is added to what the file says of itself.

    Raises UnsupportedMediaType for what begins like none of the four, or is a kind of JPEG that
    browsers do not show; CorruptFile for a broken structure; TooManyPixels; and Rejected, with
    limit and actual, for what has too many frames, scans or chunks, or too large a profile.
    """
    view = memoryview(data).cast("B")
    head = bytes(view[:12])
    if head.startswith(jpeg.SIGNATURE):
        return jpeg.rewrite(view, bounds, mark)
    if head.startswith(png.SIGNATURE):
        return png.rewrite(view, bounds, mark)
    if head.startswith(gif.SIGNATURES):
        return gif.rewrite(view, bounds, mark)
    if head.startswith(b"RIFF") and head.endswith(webp.FORM):
        return webp.rewrite(view, bounds, mark)
    raise UnsupportedMediaType(
        f"This file is no picture that we can read. Send {ACCEPTED}.", field="file"
    )


def is_sealed(clean: bytes) -> bool:
    """Whether there is a manifest in a clean file, or a rendition: there none is but ours.

    Looked for where manifests stand, and nowhere else: what hides in compressed data is no seal.
    """
    if clean[4:8] == b"ftyp":
        return avif.has_manifest(memoryview(clean))
    return rewrite(clean, BOUNDLESS).has_c2pa
