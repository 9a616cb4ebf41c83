"""What a file says of its own making is read, though it does not come out."""

import zlib

import pytest

from storage.containers import rewrite
from storage.containers.xmp import declares_ai
from tests.storage.containers.seeds import (
    AI_MADE,
    CAPTURED,
    MARK,
    chunks,
    encoded,
    extension,
    gif_xmp,
    itxt,
    jpeg_c2pa,
    noise,
    png_of,
    riff_chunks,
    segment,
    webp_of,
    with_extensions,
    with_segments,
    xmp,
)

COMPOSITE = AI_MADE.replace("trained", "compositeWithTrained")
PICTURE = noise("RGB", 8, 8)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]


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


def with_c2pa(format: str) -> bytes:
    plain = encoded(PICTURE, format)
    if format == "JPEG":
        return with_segments(plain, jpeg_c2pa())
    if format == "PNG":
        header, *rest = chunks(plain)
        return png_of([header, (b"caBX", MARK), *rest])
    if format == "WEBP":
        return webp_of([*riff_chunks(plain), (b"C2PA", MARK)])
    return with_extensions(plain, extension(0xFF, b"C2PA_GIF\x01\x00\x00", MARK))


@pytest.mark.parametrize("source_type", [AI_MADE, COMPOSITE])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_declares_that_ai_made_it(format: str, source_type: str) -> None:
    rewritten = rewrite(with_xmp(format, xmp(source_type)))

    assert rewritten.declares_ai
    assert b"DigitalSourceType" not in rewritten.data


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_declares_that_a_camera_made_it(format: str) -> None:
    assert not rewrite(with_xmp(format, xmp(CAPTURED))).declares_ai


@pytest.mark.parametrize("format", FORMATS)
def test_content_credentials_are_noticed(format: str) -> None:
    rewritten = rewrite(with_c2pa(format))

    assert rewritten.has_c2pa
    assert MARK not in rewritten.data


@pytest.mark.parametrize("format", FORMATS)
def test_a_plain_file_declares_nothing(format: str) -> None:
    rewritten = rewrite(encoded(PICTURE, format))

    assert not rewritten.declares_ai
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
    assert declares_ai(packet.encode(encoding))


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
    assert not declares_ai(packet.encode())
