"""What a C2PA manifest says of a picture's making (https://spec.c2pa.org/), without trusting it.

As with XMP a search over bytes: whether the signature holds is not asked, since nobody signs that
AI made a picture which it did not make. Names are those of the actions assertion, in CBOR, or in
JSON as the first versions had it.
"""

import re

from storage.marks import Mark, combined

AI_MADE = re.compile(
    rb"digitalSourceType"
    rb"(?:[\x60-\x77]|\x78.|\x79..|\"\s*:\s*\")"  # the length of a text in CBOR, or JSON's quotes
    rb"https?://cv\.iptc\.org/newscodes/digitalsourcetype/"
    rb"(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia)",
    re.DOTALL,
)


def declared(store: bytes | memoryview) -> Mark | None:
    """What the manifests say together: of the picture, and of what it was made from."""
    return combined(*(Mark(kind.decode()) for kind in AI_MADE.findall(store)))
