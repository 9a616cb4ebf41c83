"""Files that are a picture and something else too come out as pictures."""

from io import BytesIO
from zipfile import ZipFile, is_zipfile

import pytest

from storage.containers import rewrite
from storage.errors import UnsupportedMediaType
from tests.storage.containers.seeds import (
    chunks,
    encoded,
    extension,
    noise,
    png_of,
    segment,
    shown,
    with_extensions,
    with_segments,
)

PICTURE = noise("RGB", 8, 8)
HTML = b"<html><script>alert(1)</script></html>"


def an_archive() -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Main-Class: Evil")
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_an_archive_behind_a_picture_is_gone(format: str) -> None:
    data = encoded(PICTURE, format) + an_archive()
    assert is_zipfile(BytesIO(data))

    rewritten = rewrite(data)

    assert not is_zipfile(BytesIO(rewritten.data))
    assert b"Evil" not in rewritten.data
    assert shown(rewritten.data) == shown(data)


def test_php_in_the_comment_of_a_jpeg_is_gone() -> None:
    data = with_segments(encoded(PICTURE, "JPEG"), segment(0xFE, b"<?php system($_GET[0]); ?>"))

    assert b"php" not in rewrite(data).data


def test_a_script_in_the_comment_of_a_gif_is_gone() -> None:
    data = with_extensions(encoded(PICTURE, "GIF"), extension(0xFE, b"*/=1;alert(1)//"))

    assert b"alert" not in rewrite(data).data


def test_html_in_the_text_of_a_png_is_gone() -> None:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    data = png_of([header, (b"tEXt", b"Comment\0" + HTML), *rest])

    assert b"script" not in rewrite(data).data


def test_a_script_in_the_name_of_a_profile_is_gone() -> None:
    header, *rest = chunks(encoded(PICTURE, "PNG"))
    data = png_of([header, (b"iCCP", HTML + b"\0\0not deflated"), *rest])

    assert b"script" not in rewrite(data).data


@pytest.mark.parametrize(
    "data",
    [
        HTML,
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"%PDF-1.7\n",
        b"BM" + bytes(60),
        b"\0\0\0\x1cftypavif" + bytes(60),
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(60),
        b"GIF90a" + bytes(60),
        an_archive(),
        b" " + encoded(PICTURE, "JPEG"),
        b"",
    ],
)
def test_what_does_not_begin_like_a_picture_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType) as refusal:
        rewrite(data)

    assert refusal.value.message == (
        "This file is no picture that we can read. Send JPEG, PNG, WebP or GIF."
    )
