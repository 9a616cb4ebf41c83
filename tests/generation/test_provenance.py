"""What the operator signs, as the C2PA project's own reader finds it."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import c2pa  # type: ignore[import-untyped]  # it has no stubs
import pytest
from aiohttp import web
from anyio import to_thread
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL.PngImagePlugin import PngInfo
from pydantic import SecretStr

from generation.provenance import Signer, SignerOptions
from storage.containers import is_sealed
from storage.database import Database
from storage.errors import Unavailable
from storage.intake import Intake
from storage.keeper import Keeper
from storage.library import Library, NewImage
from storage.marks import Mark
from storage.models import ImageOrigin
from storage.objects.local import LocalObjectStore
from storage.renditions import DIGEST, ORIGINAL, Renditions
from storage.viewers import Viewer
from tests.pictures import encoded, jpeg, opened, photo, png
from tests.storage.rows import ON_SQLITE

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
}
VERSION = "1.2.3"


# ---- who signs ---------------------------------------------------------------------------------


class Authority:
    """A CA that issues what signs pictures."""

    def __init__(self, name: str) -> None:
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._issue(self._name, self._key.public_key(), is_ca=True)

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        name: str = "Darkroom's operator",
        *,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
        days: int = 30,
    ) -> SignerOptions:
        """A key and its chain, in force since two months for so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._issue(_named(name), key.public_key(), is_ca=False, usage=usage, days=days)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        chain = leaf.public_bytes(Encoding.PEM).decode() + self.pem
        return SignerOptions(chain, SecretStr(secret))

    def _issue(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        is_ca: bool,
        usage: x509.ObjectIdentifier | None = None,
        days: int = 30,
    ) -> x509.Certificate:
        today = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - timedelta(days=60))
            .not_valid_after(today + timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(_key_usage(signs_certificates=is_ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if usage:
            certificate = certificate.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return certificate.sign(self._key, SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("An authority")


@pytest.fixture(scope="session")
def options(authority: Authority) -> SignerOptions:
    return authority.issue()


@pytest.fixture(scope="session")
def signer(options: SignerOptions) -> Signer:
    return Signer(options, version=VERSION)


# ---- what a reader finds -----------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    state: str
    manifests: dict[str, Any]
    active: dict[str, Any]

    @property
    def actions(self) -> list[dict[str, Any]]:
        (told,) = [each for each in self.active["assertions"] if "actions" in each["label"]]
        actions: list[dict[str, Any]] = told["data"]["actions"]
        return actions


def read(data: bytes, media_type: str, *trusted: Authority) -> Read:
    settings: dict[str, object] = {"verify": {"remote_manifest_fetch": False}}
    if trusted:
        anchors = "".join(authority.pem for authority in trusted)
        settings = {
            "verify": {"remote_manifest_fetch": False, "verify_trust": True},
            "trust": {"trust_anchors": anchors},
        }
    context = c2pa.Context(c2pa.Settings.from_dict(settings))
    with c2pa.Reader(media_type, BytesIO(data), context=context) as reader:
        told = json.loads(reader.json())
        state = reader.get_validation_state()
    return Read(state, told["manifests"], told["manifests"][told["active_manifest"]])


def marked(format: str, mark: Mark = Mark.TRAINED) -> bytes:
    if format == "PNG":
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", mark.packet.decode())
        return encoded(photo(), "PNG", pnginfo=texts)
    return encoded(photo(), format, xmp=mark.packet)


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_signed_file_is_trusted_by_whoever_trusts_the_authority(
    format: str, mark: Mark, signer: Signer, authority: Authority
) -> None:
    data, media_type = marked(format, mark), MEDIA_TYPES[format]

    signed = signer(data, media_type, mark)

    assert read(signed, media_type, authority).state == "Trusted"
    assert read(signed, media_type).state == "Valid"
    assert read(signed, media_type, Authority("Another")).state == "Valid"


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_its_manifest_says_who_made_what(format: str, mark: Mark, signer: Signer) -> None:
    found = read(signer(marked(format), MEDIA_TYPES[format], mark), MEDIA_TYPES[format])

    assert found.actions == [{"action": "c2pa.created", "digitalSourceType": mark.uri}]
    assert found.active["claim_generator_info"][0]["name"] == "Darkroom"
    assert found.active["claim_generator_info"][0]["version"] == VERSION
    assert found.active["signature_info"]["issuer"] == "Darkroom's operator"
    assert "thumbnail" not in found.active


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_the_picture_and_its_mark_are_as_they_were(format: str, signer: Signer) -> None:
    data = marked(format)

    signed = signer(data, MEDIA_TYPES[format], Mark.TRAINED)

    assert (is_sealed(data), is_sealed(signed)) == (False, True)
    assert opened(signed).tobytes() == opened(data).tobytes()
    assert opened(signed).info["xmp"] == Mark.TRAINED.packet
    assert len(signed) - len(data) < 5000


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_file_with_one_byte_changed_is_invalid(
    format: str, signer: Signer, authority: Authority
) -> None:
    signed = bytearray(signer(marked(format), MEDIA_TYPES[format], Mark.TRAINED))
    at = signed.index(b"cv.iptc.org/newscodes", signed.index(b"xpacket"))
    signed[at] ^= 1

    assert read(bytes(signed), MEDIA_TYPES[format], authority).state == "Invalid"


def test_a_gif_is_signed_though_it_has_no_place_for_xmp(
    signer: Signer, authority: Authority
) -> None:
    signed = signer(encoded(photo(), "GIF"), "image/gif", Mark.TRAINED)

    assert read(signed, "image/gif", authority).state == "Trusted"
    assert is_sealed(signed)


def test_a_large_picture_is_signed_in_no_time(signer: Signer, authority: Authority) -> None:
    data = jpeg(1080, 1350)
    begin = datetime.now(UTC)

    signed = [signer(data, "image/jpeg", Mark.TRAINED) for _ in range(10)]

    assert datetime.now(UTC) - begin < timedelta(seconds=1)
    assert {read(each, "image/jpeg", authority).state for each in signed} == {"Trusted"}


def test_many_threads_sign_at_once(signer: Signer, authority: Authority) -> None:
    pictures = [jpeg(seed=seed) for seed in range(40)]

    with ThreadPoolExecutor(4) as threads:
        signed = list(threads.map(lambda data: signer(data, "image/jpeg", Mark.TRAINED), pictures))

    assert {read(each, "image/jpeg", authority).state for each in signed} == {"Trusted"}


def test_what_cannot_be_signed_stays_as_it_is(
    signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    bitmap = encoded(photo(), "BMP")

    assert signer(bitmap, "image/bmp", Mark.TRAINED) == bitmap
    assert signer(b"no picture", "image/jpeg", Mark.TRAINED) == b"no picture"
    assert [record.message.split(" reason=")[0] for record in caplog.records] == [
        "seal.failed media_type=image/bmp",
        "seal.failed media_type=image/jpeg",
    ]


# ---- what it was made from ---------------------------------------------------------------------


def test_a_providers_manifest_is_kept_within_ours(signer: Signer, authority: Authority) -> None:
    another = Authority("Another")
    provider = Signer(another.issue("A provider"), version="9")
    delivered = provider(png(), "image/png", Mark.TRAINED)

    signed = signer(marked("PNG"), "image/png", Mark.TRAINED, parent=(delivered, "image/png"))

    found = read(signed, "image/png", authority, another)
    assert found.state == "Trusted"
    assert [action["action"] for action in found.actions] == ["c2pa.opened", "c2pa.edited.metadata"]
    assert found.actions[1]["digitalSourceType"] == Mark.TRAINED.uri
    (ingredient,) = found.active["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    theirs = found.manifests[ingredient["active_manifest"]]
    assert theirs["signature_info"]["issuer"] == "A provider"


def test_a_providers_manifest_that_does_not_hold_does_not_hinder_ours(
    signer: Signer, authority: Authority
) -> None:
    delivered = bytearray(signer(jpeg(), "image/jpeg", Mark.TRAINED))
    delivered[-100] ^= 1

    signed = signer(jpeg(), "image/jpeg", Mark.TRAINED, parent=(bytes(delivered), "image/jpeg"))

    assert read(signed, "image/jpeg", authority).state == "Trusted"


def test_a_parent_that_cannot_be_read_is_left_out(
    signer: Signer, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    signed = signer(jpeg(), "image/jpeg", Mark.TRAINED, parent=(b"no picture", "image/png"))

    found = read(signed, "image/jpeg", authority)
    assert found.state == "Trusted"
    assert [action["action"] for action in found.actions] == ["c2pa.created"]
    assert caplog.records[0].message.startswith("seal.without_parent media_type=image/png reason=")


@dataclass(frozen=True)
class Elsewhere:
    url: str
    asked: Sequence[str]


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    """A server that fails at everything, and what it was asked for."""
    asked: list[str] = []

    async def fail(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.Response(status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fail)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    yield Elsewhere(f"http://{host}:{port}", asked)
    await runner.cleanup()


async def sign(signer: Signer, **more: Any) -> bytes:
    """In a thread, as the service does it, so that somebody can answer meanwhile."""
    return await to_thread.run_sync(partial(signer, jpeg(), "image/jpeg", Mark.TRAINED, **more))


async def test_a_parent_cannot_send_us_anywhere(signer: Signer, elsewhere: Elsewhere) -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dcterms="http://purl.org/dc/terms/" '
        f'dcterms:provenance="{elsewhere.url}/manifest.c2pa"/></rdf:RDF></x:xmpmeta>'
    )
    lure = jpeg(xmp=packet.encode())

    signed = await sign(signer, parent=(lure, "image/jpeg"))

    assert read(signed, "image/jpeg").state == "Valid"
    assert elsewhere.asked == []


# ---- time-stamps -------------------------------------------------------------------------------


async def test_an_authority_of_time_that_fails_costs_no_picture_and_is_left_alone_for_a_while(
    options: SignerOptions,
    authority: Authority,
    elsewhere: Elsewhere,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dating = Signer(replace(options, timestamp_url=f"{elsewhere.url}/tsa"), version=VERSION)
    assert elsewhere.asked == []

    first = await sign(dating)
    asked = len(elsewhere.asked)
    second = await sign(dating)

    assert set(elsewhere.asked) == {"POST /tsa"}
    assert len(elsewhere.asked) == asked
    for signed in (first, second):
        assert read(signed, "image/jpeg", authority).state == "Trusted"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].message.startswith("seal.not_dated media_type=image/jpeg reason=")


async def test_what_can_be_made_anew_is_not_dated(
    options: SignerOptions, elsewhere: Elsewhere
) -> None:
    dating = Signer(replace(options, timestamp_url=f"{elsewhere.url}/tsa"), version=VERSION)

    await sign(dating, dated=False)

    assert elsewhere.asked == []


# ---- certificates and keys ---------------------------------------------------------------------


def test_certificates_and_key_may_be_files(
    options: SignerOptions, authority: Authority, tmp_path: Path
) -> None:
    assert isinstance(options.certificates, str)
    assert isinstance(options.private_key, SecretStr)
    (tmp_path / "chain.pem").write_text(options.certificates)
    (tmp_path / "key.pem").write_text(options.private_key.get_secret_value())

    signer = Signer(
        SignerOptions(tmp_path / "chain.pem", tmp_path / "key.pem", "ES256"), version=VERSION
    )

    signed = signer(jpeg(), "image/jpeg", Mark.TRAINED)
    assert read(signed, "image/jpeg", authority).state == "Trusted"


UNUSABLE = {
    "no certificates": lambda usable, authority: replace(usable, certificates="none"),
    "no key": lambda usable, authority: replace(usable, private_key=SecretStr("none")),
    "another's key": lambda usable, authority: replace(
        usable, private_key=authority.issue().private_key
    ),
    "another algorithm": lambda usable, authority: replace(usable, algorithm="ps256"),
    "no algorithm": lambda usable, authority: replace(usable, algorithm="rot13"),
    "no file": lambda usable, authority: replace(usable, certificates=Path("/no/such/file")),
    "expired": lambda usable, authority: authority.issue(days=-1),
    "for web servers": lambda usable, authority: authority.issue(
        usage=ExtendedKeyUsageOID.SERVER_AUTH
    ),
}


@pytest.mark.parametrize("make", UNUSABLE.values(), ids=list(UNUSABLE))
def test_what_does_not_sign_is_told_at_once_and_how_to_mend_it(
    make: Any, options: SignerOptions, authority: Authority
) -> None:
    unusable = make(options, authority)

    with pytest.raises(Unavailable) as refusal:
        Signer(unusable, version=VERSION)

    said = refusal.value.message
    for setting in ("CERTIFICATES", "PRIVATE_KEY", "ALGORITHM"):
        assert f"DARKROOM_C2PA_{setting}" in said
    secret = unusable.private_key.get_secret_value()
    assert all(
        line not in said for line in secret.splitlines() if len(line) > 10 and "-" not in line
    )
    assert secret not in repr(unusable)


# ---- the whole road ----------------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize("format", MEDIA_TYPES)
async def test_a_generated_picture_is_trusted_wherever_it_goes(
    database: Database,
    keeper: Keeper,
    intake: Intake,
    store: LocalObjectStore,
    alice: Viewer,
    signer: Signer,
    authority: Authority,
    format: str,
) -> None:
    library = Library(database, keeper, intake, seal=signer)
    renditions = Renditions(
        database, keeper, store, threads=2, memory_bytes=0, kept=9, is_alone=False, seal=signer
    )
    new = NewImage(origin=ImageOrigin.GENERATED, mark=Mark.COMPOSITE)

    image = (await library.add_image(alice, encoded(photo(), format), new)).image

    grid = "320x-inside.jpeg"
    for name in (ORIGINAL, grid, *(f"80x80-cover.{each.lower()}" for each in MEDIA_TYPES)):
        served = await renditions.find(image.id, image.sha256[:DIGEST], name)
        assert served.data is not None
        found = read(served.data, served.media_type, authority)
        assert found.state == "Trusted"
        assert found.actions[0]["digitalSourceType"] == Mark.COMPOSITE.uri
        assert opened(served.data).info["xmp"] == Mark.COMPOSITE.packet


@ON_SQLITE
async def test_a_picture_that_a_crash_left_sealed_is_sealed_once_more_with_its_past_inside(
    database: Database,
    keeper: Keeper,
    intake: Intake,
    store: LocalObjectStore,
    alice: Viewer,
    signer: Signer,
    authority: Authority,
) -> None:
    library = Library(database, keeper, intake, seal=signer)
    left = signer(marked("JPEG"), "image/jpeg", Mark.TRAINED)
    new = NewImage(origin=ImageOrigin.GENERATED, is_ai_generated=True)

    image = (await library.add_image(alice, left, new, id=uuid4())).image

    found = read(await store.get(image.object_key), "image/jpeg", authority)
    assert found.state == "Trusted"
    assert len(found.manifests) == 2
    assert [action["action"] for action in found.actions] == ["c2pa.opened", "c2pa.edited.metadata"]
