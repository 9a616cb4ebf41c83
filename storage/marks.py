"""What an AI picture says of itself, wherever it goes: the mark, which its file carries as XMP.

The two kinds are IPTC's digital source types (https://cv.iptc.org/newscodes/digitalsourcetype/).
The packet is always ours, from one template: nothing of an incoming file's own can hide in it.
"""

from enum import StrEnum
from typing import Protocol

NEWSCODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"

# https://iptc.org/std/photometadata/specification/ and ISO 16684-1; ASCII, and never edited in
# place, so without the padding that other writers leave.
TEMPLATE = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' Iptc4xmpExt:DigitalSourceType="{uri}"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


class Mark(StrEnum):
    """How much of a picture an AI model made."""

    TRAINED = "trainedAlgorithmicMedia"  # all of it
    COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # a part of a picture that was there before

    @property
    def uri(self) -> str:
        return NEWSCODES + self.value

    @property
    def packet(self) -> bytes:
        """The whole XMP packet, which says nothing else."""
        return TEMPLATE.format(uri=self.uri).encode()


def combined(*marks: Mark | None) -> Mark | None:
    """What is true of a picture when each of these was said of it, by its file or by its maker.

    Nothing said takes a mark away. COMPOSITE stays: what was real in the picture is still in it,
    whatever a model, or somebody who knows less, says of the last step.
    """
    said = {mark for mark in marks if mark}
    return Mark.COMPOSITE if Mark.COMPOSITE in said else next(iter(said), None)


class Seal(Protocol):
    """Signs what a file says, for those who doubt it: the last step before the file is kept."""

    def __call__(
        self,
        data: bytes,
        media_type: str,
        mark: Mark,
        *,
        parent: tuple[bytes, str] | None = None,
        dated: bool = True,
    ) -> bytes:
        """The file with its signature; the file as it is, where it cannot be signed.

        `parent` is the file that it was made from, with its type: what that says of its own origin
        stays readable within. `dated` asks for a proof of the time, which may take a call to
        somebody outside. Blocks, so not on the event loop. No two calls give the same bytes.
        """
        ...
