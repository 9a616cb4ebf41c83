"""What a file says of its own making is read, and comes out in our words and no other."""

import struct
import zlib
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.containers import c2pa, is_sealed, rewrite
from storage.containers.xmp import declared
from storage.marks import Mark
from tests.storage.containers.seeds import (
    AI_MADE,
    CAPTURED,
    MARK,
    chunks,
    encoded,
    extension,
    gif_xmp,
    info,
    itxt,
    jpeg_c2pa,
    noise,
    orientation_of,
    png_of,
    profile,
    riff_chunks,
    segment,
    shown,
    types,
    webp_of,
    with_extensions,
    with_segments,
    xmp,
)
from tests.storage.containers.specimens import Specimen, specimens

COMPOSITE = AI_MADE.replace("trainedA", "compositeWithTrainedA")
PICTURE = noise("RGB", 8, 8)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]
STORE = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"  # how every store begins
MARKED_FORMATS = ["JPEG", "PNG", "WEBP"]
MARKS = {AI_MADE: Mark.TRAINED, COMPOSITE: Mark.COMPOSITE}


def said_by(data: bytes) -> list[object]:
    """What an independent reader finds: Pillow gets the packet, and expat parses it."""
    packet = info(data, "xmp")
    if packet is None:
        return []
    assert isinstance(packet, bytes)
    property = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    described = ElementTree.fromstring(packet).iter()
    return [each.attrib[property] for each in described if property in each.attrib]


def with_xmp(format: str, packet: bytes) -> bytes:
    plain = encoded(PICTURE, format)
    if format == "JPEG":
        return with_segments(plain, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    if format == "PNG":
        header, *rest = chunks(plain)
        return png_of([header, (b"iTXt", itxt(packet)), *rest])
    if format == "WEBP":
        return encoded(PICTURE, "WEBP", xmp=packet)
    return with_extensions(plain, gif_xmp(packet))


def with_c2pa(format: str, store: bytes = MARK) -> bytes:
    plain = encoded(PICTURE, format)
    if format == "JPEG":
        return with_segments(plain, jpeg_c2pa(), *jumbf_segments(store))
    if format == "PNG":
        header, *rest = chunks(plain)
        return png_of([header, (b"caBX", store), *rest])
    if format == "WEBP":
        return webp_of([*riff_chunks(plain), (b"C2PA", store)])
    blocks = [store[at : at + 100] for at in range(0, len(store), 100)]
    return with_extensions(plain, extension(0xFF, b"C2PA_GIF\x01\x00\x00", *blocks))


def jumbf_segments(store: bytes) -> list[bytes]:
    """A box in as many segments as it takes, each with the box's head once more."""
    parts = [store[at : at + 100] for at in range(0, len(store), 100)]
    box = struct.pack(">I", len(store) + 8) + b"jumb"
    return [
        segment(0xEB, b"JP\x00\x02" + struct.pack(">I", number) + box + part)
        for number, part in enumerate(parts, start=1)
    ]


def actions(source_type: str) -> bytes:
    """An actions assertion in CBOR, so far as it tells of a digital source type."""
    uri = source_type.encode()
    return b"\xbffactionlc2pa.createdqdigitalSourceType\x78" + bytes([len(uri)]) + uri + b"\xff"


@pytest.mark.parametrize("source_type", [AI_MADE, COMPOSITE])
@pytest.mark.parametrize("format", MARKED_FORMATS)
def test_a_file_that_declares_ai_still_does_in_our_words(format: str, source_type: str) -> None:
    rewritten = rewrite(with_xmp(format, xmp(source_type)))

    assert rewritten.declares_ai
    assert rewritten.declared == rewritten.mark == MARKS[source_type]
    assert info(rewritten.data, "xmp") == MARKS[source_type].packet
    assert said_by(rewritten.data) == [source_type]
    assert MARK not in rewritten.data


def test_a_gif_that_declares_ai_has_no_place_for_our_words() -> None:
    rewritten = rewrite(with_xmp("GIF", xmp(AI_MADE)))

    assert rewritten.declared == rewritten.mark == Mark.TRAINED
    assert b"DigitalSourceType" not in rewritten.data


@pytest.mark.parametrize("source_type", [AI_MADE, COMPOSITE])
@pytest.mark.parametrize("format", FORMATS)
def test_a_manifest_declares_ai_too(format: str, source_type: str) -> None:
    rewritten = rewrite(with_c2pa(format, bytes(150) + MARK + actions(source_type)))

    assert rewritten.has_c2pa
    assert rewritten.declared == rewritten.mark == MARKS[source_type]
    assert said_by(rewritten.data) == ([source_type] if format != "GIF" else [])
    assert MARK not in rewritten.data
    assert not is_sealed(rewritten.data)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_declares_that_a_camera_made_it(format: str) -> None:
    for data in (with_xmp(format, xmp(CAPTURED)), with_c2pa(format, actions(CAPTURED))):
        rewritten = rewrite(data)

        assert not rewritten.declares_ai
        assert rewritten.mark is None
        assert b"DigitalSourceType" not in rewritten.data


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("format", MARKED_FORMATS)
def test_a_plain_file_is_marked_as_its_maker_says(format: str, mark: Mark) -> None:
    rewritten = rewrite(encoded(PICTURE, format), mark=mark)

    assert rewritten.declared is None
    assert rewritten.mark is mark
    assert said_by(rewritten.data) == [mark.uri]


@pytest.mark.parametrize(
    ("source_type", "mark", "expected"),
    [
        (CAPTURED, Mark.TRAINED, Mark.TRAINED),
        (AI_MADE, Mark.TRAINED, Mark.TRAINED),
        (AI_MADE, Mark.COMPOSITE, Mark.COMPOSITE),
        (COMPOSITE, Mark.TRAINED, Mark.COMPOSITE),
    ],
)
@pytest.mark.parametrize("format", MARKED_FORMATS)
def test_what_file_and_maker_say_is_combined(
    format: str, source_type: str, mark: Mark, expected: Mark
) -> None:
    rewritten = rewrite(with_xmp(format, xmp(source_type)), mark=mark)

    assert said_by(rewritten.data) == [expected.uri]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(specimens, st.sampled_from(Mark))
def test_a_mark_changes_nothing_else_and_is_written_once(specimen: Specimen, mark: Mark) -> None:
    plain = rewrite(specimen.data)

    marked = rewrite(specimen.data, mark=mark)

    assert shown(marked.data) == shown(plain.data) == shown(specimen.data)
    assert orientation_of(marked.data) == specimen.orientation
    assert info(marked.data, "icc_profile") == specimen.icc
    assert MARK not in marked.data
    assert rewrite(marked.data).data == rewrite(marked.data, mark=mark).data == marked.data
    if specimen.media_type == "image/gif":
        assert marked.data == plain.data
    else:
        assert info(marked.data, "xmp") == mark.packet


def test_the_mark_of_a_png_stands_before_its_pixels() -> None:
    rewritten = rewrite(encoded(PICTURE, "PNG"), mark=Mark.TRAINED)

    assert types(rewritten.data) == [b"IHDR", b"iTXt", b"IDAT", b"IEND"]


def test_a_simple_webp_gets_a_header_that_announces_the_mark() -> None:
    see_through = encoded(noise("RGBA", 8, 8), "WEBP", lossless=True)

    rewritten = rewrite(see_through, mark=Mark.TRAINED)

    assert types_of_webp(see_through) == [b"VP8L"]
    assert types_of_webp(rewritten.data) == [b"VP8X", b"VP8L", b"XMP "]
    assert riff_chunks(rewritten.data)[0][1][0] == 0x10 | 0x04  # alpha, XMP


def types_of_webp(data: bytes) -> list[bytes]:
    return [type for type, _ in riff_chunks(data)]


@pytest.mark.parametrize("format", FORMATS)
def test_content_credentials_are_noticed(format: str) -> None:
    rewritten = rewrite(with_c2pa(format))

    assert rewritten.has_c2pa
    assert MARK not in rewritten.data


@pytest.mark.parametrize("format", FORMATS)
def test_a_plain_file_declares_nothing(format: str) -> None:
    rewritten = rewrite(encoded(PICTURE, format))

    assert rewritten.declared is None
    assert rewritten.mark is None
    assert not rewritten.has_c2pa


def test_a_declaration_in_a_compressed_text_chunk_is_read() -> None:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    data = png_of([header, *rest[:-1], (b"iTXt", itxt(xmp(AI_MADE), compressed=True)), rest[-1]])

    assert rewrite(data).declares_ai


def test_only_the_beginning_of_a_text_that_inflates_without_end_is_read() -> None:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000) + xmp(AI_MADE))

    assert not rewrite(png_of([header, (b"iTXt", text), *rest])).declares_ai


@pytest.mark.parametrize(
    "packet",
    [
        f"<Iptc4xmpExt:DigitalSourceType>{AI_MADE}</Iptc4xmpExt:DigitalSourceType>",
        f"<Iptc4xmpExt:DigitalSourceType>\n {AI_MADE}\n</Iptc4xmpExt:DigitalSourceType>",
        f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{AI_MADE}"/>',
        f"<x Iptc4xmpExt:DigitalSourceType = '{AI_MADE}'/>",
        f'<x other:DigitalSourceType="{AI_MADE}"/>',
        f'<x Iptc4xmpExt:DigitalSourceType="{AI_MADE.replace("http:", "https:")}"/>',
        '<x Iptc4xmpExt:DigitalSourceType="trainedAlgorithmicMedia"/>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
def test_every_way_to_write_the_property_counts(packet: str, encoding: str) -> None:
    assert declared(packet.encode(encoding)) is Mark.TRAINED


@pytest.mark.parametrize(
    "packet",
    [
        "",
        f"<dc:description>Not {AI_MADE}</dc:description>",
        f'<x Iptc4xmpExt:DigitalSourceType="{CAPTURED}"/>',
        f'<x Iptc4xmpExt:DigitalSourceType="{AI_MADE}Not"/>',
        '<!DOCTYPE x [<!ENTITY a "trainedAlgorithmicMedia">]>'
        "<Iptc4xmpExt:DigitalSourceType>&a;</Iptc4xmpExt:DigitalSourceType>",
    ],
)
def test_nothing_else_counts(packet: str) -> None:
    assert declared(packet.encode()) is None


def test_the_more_careful_of_two_declarations_counts() -> None:
    both = xmp(AI_MADE) + xmp(COMPOSITE)

    assert declared(both) is Mark.COMPOSITE


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (actions(AI_MADE), Mark.TRAINED),
        (actions(COMPOSITE), Mark.COMPOSITE),
        (f'{{"digitalSourceType": "{AI_MADE}"}}'.encode(), Mark.TRAINED),
        (actions(AI_MADE) + actions(COMPOSITE), Mark.COMPOSITE),
        (actions(CAPTURED), None),
        (AI_MADE.encode(), None),
        (b"digitalSourceType is not " + AI_MADE.encode(), None),
        (b"", None),
    ],
)
def test_of_a_manifest_the_actions_count(store: bytes, expected: Mark | None) -> None:
    assert c2pa.declared(store) is expected


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_sealed_that_holds_a_manifest_in_its_place(format: str) -> None:
    assert is_sealed(with_c2pa(format, STORE))
    assert not is_sealed(encoded(PICTURE, format))
    assert not is_sealed(encoded(PICTURE, format) + STORE)


def test_an_avif_is_sealed_that_holds_a_manifest_in_its_place() -> None:
    plain = encoded(PICTURE, "AVIF")
    uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
    box = struct.pack(">I", 24 + len(STORE)) + b"uuid" + uuid + STORE

    assert is_sealed(plain + box)
    assert not is_sealed(plain)
    assert not is_sealed(plain + box.replace(uuid, bytes(16)))
    assert not is_sealed(plain + STORE)


def test_nothing_in_a_profile_or_among_the_pixels_is_a_seal() -> None:
    hidden = b"JP\0\1\0\0\0\1\0\0\0\x30jumb" + STORE
    in_a_profile = profile(1000)[:500] + hidden + profile(1000)[500 + len(hidden) :]
    jpeg = encoded(PICTURE, "JPEG", icc_profile=in_a_profile)
    at = jpeg.rindex(b"\xff\xd9")

    clean = rewrite(jpeg[:at] + hidden + jpeg[at:], mark=Mark.TRAINED).data

    assert clean.count(STORE) == 2
    assert not is_sealed(clean)
