"""C2PA manifests (https://spec.c2pa.org/): what the operator signs of the pictures made here.

The native library does the work, in memory. It must stay off the network but for time-stamps: left
to itself it fetches what a picture's own XMP names as its manifest, wherever that is.
"""

import logging
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import c2pa  # type: ignore[import-untyped]  # it has no stubs
from PIL import Image
from pydantic import SecretStr

from storage.errors import Unavailable
from storage.marks import Mark

log = logging.getLogger(__name__)

SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},  # each would add as much as a small picture
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
SOURCE_TYPES = {
    Mark.TRAINED: c2pa.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
    Mark.COMPOSITE: c2pa.C2paDigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
}
PAUSE = 300.0  # seconds without time-stamps, after their authority has failed

Parent = tuple[bytes, str]
"""A file and its media type."""


@dataclass(frozen=True, slots=True)
class SignerOptions:
    """Who signs. Certificates and key are PEM, or files of that.

    `certificates` are a chain, the signer's own first, which must be for digital signatures and
    have an extended key usage, such as e-mail protection. `private_key` is PKCS#8, `algorithm` as
    in COSE: es256, ps256, ed25519, … `timestamp_url` is an authority after RFC 3161.
    """

    certificates: Path | str
    private_key: Path | SecretStr
    algorithm: str = "es256"
    timestamp_url: str | None = None


class Signer:
    """A Seal, to be called in threads, several at a time."""

    def __init__(self, options: SignerOptions, *, version: str) -> None:
        """`version` is ours. Raises Unavailable for certificates and a key that do not sign."""
        self._generator = {"name": "Darkroom", "version": version}
        self._context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
        self._dated: c2pa.Signer | None = None
        self._paused_until = 0.0
        try:
            self._plain = _signer(options, timestamp_url=None)
            self._signed(self._plain, _trial(), "image/png", Mark.TRAINED, None)
            if options.timestamp_url:
                self._dated = _signer(options, timestamp_url=options.timestamp_url)
        except (c2pa.C2paError, OSError, ValueError) as fault:
            raise Unavailable(
                f"Pictures cannot be signed: {fault}. Set DARKROOM_C2PA_CERTIFICATES to a chain "
                "in PEM that is valid today, the signer's own first, for digital signatures; "
                "DARKROOM_C2PA_PRIVATE_KEY to its key, in PEM as PKCS#8 (BEGIN PRIVATE KEY); and "
                "DARKROOM_C2PA_ALGORITHM to what that key is for. Or set none of them."
            ) from None

    def __call__(
        self,
        data: bytes,
        media_type: str,
        mark: Mark,
        *,
        parent: Parent | None = None,
        dated: bool = True,
    ) -> bytes:
        """The file with a manifest; the file as it is where that fails, which is logged.

        A picture that was paid for is not lost over its signature: it still has its mark.
        """
        wanted = self._dated if dated and time.monotonic() >= self._paused_until else None
        if wanted:
            try:
                return self._signed(wanted, data, media_type, mark, parent)
            except c2pa.C2paError as fault:
                log.warning("seal.not_dated media_type=%s reason=%s", media_type, fault)
        try:
            signed = self._signed(self._plain, data, media_type, mark, parent)
        except c2pa.C2paError as fault:
            log.warning("seal.failed media_type=%s reason=%s", media_type, fault)
            return data
        if wanted:  # so it was the authority's fault, which may take half a minute to show
            self._paused_until = time.monotonic() + PAUSE
        return signed

    def _signed(
        self, signer: c2pa.Signer, data: bytes, media_type: str, mark: Mark, parent: Parent | None
    ) -> bytes:
        signed = BytesIO()
        with self._builder(mark, parent) as builder:
            builder.sign(signer, media_type, BytesIO(data), signed)
        return signed.getvalue()

    def _builder(self, mark: Mark, parent: Parent | None) -> c2pa.Builder:
        """Of a manifest that says: made so; or with a parent: this was opened, and is made so."""
        manifest = {"claim_generator_info": [self._generator]}
        builder = c2pa.Builder(manifest, context=self._context)
        if parent:
            file, media_type = parent
            try:
                builder.add_ingredient({"relationship": "parentOf"}, media_type, BytesIO(file))
            except c2pa.C2paError as fault:
                log.warning("seal.without_parent media_type=%s reason=%s", media_type, fault)
                builder.close()
                return self._builder(mark, None)
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            # What we do to a provider's file: other metadata go, the mark comes.
            builder.add_action({"action": "c2pa.edited.metadata", "digitalSourceType": mark.uri})
        else:
            builder.set_intent(c2pa.C2paBuilderIntent.CREATE, SOURCE_TYPES[mark])
        return builder


def _signer(options: SignerOptions, *, timestamp_url: str | None) -> c2pa.Signer:
    certificates, key = options.certificates, options.private_key
    chain = certificates.read_bytes() if isinstance(certificates, Path) else certificates.encode()
    secret = key.read_bytes() if isinstance(key, Path) else key.get_secret_value().encode()
    info = c2pa.C2paSignerInfo(options.algorithm.lower(), chain, secret, timestamp_url)
    return c2pa.Signer.from_info(info)


def _trial() -> bytes:
    """The smallest picture, to find out whether signing works: only then it is known."""
    file = BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    return file.getvalue()
