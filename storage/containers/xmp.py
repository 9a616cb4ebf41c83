"""Whether a file says of itself that AI made it: IPTC's digital source type, in its XMP.

A search over bytes and no XML parser: there are no entities to expand, nothing to nest and nothing
to fetch. It finds the property as attribute, as element and as `rdf:resource`, under any namespace
prefix. https://cv.iptc.org/newscodes/digitalsourcetype/
"""

import re

from storage.marks import Mark, combined

# More than ten times what fits into a JPEG's segment. What is behind it is not read.
MAX_BYTES = 1024 * 1024

AI_MADE = re.compile(
    rb"DigitalSourceType"
    rb"(?:\s+[\w.-]+:resource)?"
    rb"\s*(?:=\s*[\"']|>)\s*"
    rb"(?:https?://cv\.iptc\.org/newscodes/digitalsourcetype/)?"
    rb"(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia)\s*[\"'<]"
)


def declared(packet: bytes | memoryview) -> Mark | None:
    # A packet may be in UTF-16 or UTF-32: without its zeros it reads like ASCII.
    readable = bytes(packet[:MAX_BYTES]).replace(b"\0", b"")
    return combined(*(Mark(kind.decode()) for kind in AI_MADE.findall(readable)))
