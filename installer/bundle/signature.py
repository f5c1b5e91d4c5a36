"""Signatures over `SHA256SUMS`: keys, signature slots, and the verdict whether to trust them.

Two families, so that stock tools of either kind reach the same verdict:
- ECDSA over P-256 with SHA-256, DER (FIPS 186-5, RFC 3279): `openssl dgst -sha256 -verify`;
- Ed25519 in minisign's prehashed form (jedisct1.github.io/minisign, "Signature format"): `minisign -V`.

Keys are DER SubjectPublicKeyInfo in the one form that openssl and cosign write; so they are read without
`cryptography`'s reader for all kinds of keys, which takes longer to load than a signature to verify.
"""

import base64
import binascii
import hashlib
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from installer.bundle import canonical
from installer.bundle.limits import MINISIG, SIGNATURE, SIGNATURES, UNSIGNED
from installer.errors import BundleError, UntrustedError, UsageError
from installer.oci.digest import Digest
from installer.value import Value

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

MAX_KEY_FILE = 64 * 1024
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----", re.ASCII)
# What stands before the key itself: RFC 5480 (P-256, its point uncompressed) and RFC 8410.
_P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_P256_POINT = 65
_ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
# minisign itself writes a time, a file name and "hashed", separated by tabs.
_COMMENT = re.compile(r"[\t -~]{0,200}", re.ASCII)
_HOW = "check with the sender which key signs this bundle; never take a key from the medium that brought the bundle."


class P256Key(Value):
    """A P-256 public key as DER SubjectPublicKeyInfo. Raises ValueError if it is none."""

    spki: bytes

    family = "ECDSA P-256"

    def __post_init__(self) -> None:
        if len(self.spki) != len(_P256_SPKI) + _P256_POINT or not self.spki.startswith(_P256_SPKI):
            raise ValueError("not a P-256 key")
        self._key()

    def _key(self) -> "ec.EllipticCurvePublicKey":
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.spki[len(_P256_SPKI) :])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, 64 hex digits: `openssl pkey -pubin -in K -outform DER | sha256sum`."""
        return hashlib.sha256(self.spki).hexdigest()

    @property
    def text(self) -> str:
        """The key as a PEM file holds it."""
        body = "\n".join(textwrap.wrap(base64.b64encode(self.spki).decode("ascii"), 64))
        return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the DER `signature`, in its one encoding, is this key's over `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            if not _is_der(signature):
                return False
            self._key().verify(signature, message, ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


class Ed25519Key(Value):
    """An Ed25519 public key (32 bytes) with the 8 byte id by which minisign calls it."""

    raw: bytes
    key_id: bytes

    family = "Ed25519 (minisign)"

    @classmethod
    def of(cls, raw: bytes) -> "Ed25519Key":
        """The key with the id that `airferry keygen` gives it: the first bytes of its SHA-256."""
        return cls(raw, hashlib.sha256(raw).digest()[:8])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo, 64 hex digits."""
        return hashlib.sha256(_ED25519_SPKI + self.raw).hexdigest()

    @property
    def minisign(self) -> str:
        """The key as minisign's `-P` takes it."""
        return base64.b64encode(b"Ed" + self.key_id + self.raw).decode("ascii")

    @property
    def text(self) -> str:
        """The key as the file that `minisign -p` takes; unlike PEM it tells the id."""
        return f"untrusted comment: minisign public key {self.key_id[::-1].hex().upper()}\n{self.minisign}\n"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519

        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


PublicKey = P256Key | Ed25519Key


class Minisig(Value):
    """The content of a minisign signature file in its one accepted spelling."""

    key_id: bytes
    signature: bytes
    comment: str
    global_signature: bytes

    def encode(self) -> bytes:
        """The file. The first line, which minisign does not sign, is fixed by the key id."""
        return (
            f"untrusted comment: airferry bundle signed by minisign key {self.key_id[::-1].hex().upper()}\n"
            f"{base64.b64encode(b'ED' + self.key_id + self.signature).decode()}\n"
            f"trusted comment: {self.comment}\n"
            f"{base64.b64encode(self.global_signature).decode()}\n"
        ).encode("ascii")

    @classmethod
    def decode(cls, raw: bytes, *, any_comment: bool = False) -> "Minisig":
        """Raises BundleError unless `raw` is what `encode` makes; `any_comment` accepts foreign first lines."""
        try:
            lines = raw.decode("ascii").split("\n")
            blob = base64.b64decode(lines[1], validate=True)
            comment = lines[2].removeprefix("trusted comment: ")
            found = cls(blob[2:10], blob[10:], comment, base64.b64decode(lines[3], validate=True))
        except (ValueError, IndexError, binascii.Error) as exc:
            raise BundleError(f"{MINISIG}: not a minisign signature") from exc
        well_formed = blob[:2] == b"ED" and len(blob) == 74 and len(found.global_signature) == 64
        if any_comment:
            lines[0] = found.encode().decode("ascii").split("\n")[0]
        if not well_formed or not _COMMENT.fullmatch(comment) or found.encode() != "\n".join(lines).encode("ascii"):
            raise BundleError(f"{MINISIG}: not a minisign signature of a prehashed file in its plain form")
        return found

    def verifies(self, key: Ed25519Key, message: bytes) -> bool:
        """Whether `key` made both signatures."""
        return (
            key.key_id == self.key_id
            and key.verifies(self.signature, hashlib.blake2b(message).digest())
            and key.verifies(self.global_signature, self.signature + self.comment.encode("ascii"))
        )


class FurtherSignatures(Value):
    """`SHA256SUMS.sigs.json`: DER signatures of further P-256 keys, as (fingerprint, signature), sorted."""

    p256: tuple[tuple[str, bytes], ...]

    def __post_init__(self) -> None:
        if list(self.p256) != sorted(set(self.p256)):
            raise BundleError(f"{SIGNATURES}: not sorted")
        if not all(_FINGERPRINT.fullmatch(fingerprint) for fingerprint, _ in self.p256):
            raise BundleError(f"{SIGNATURES}: names a key by something else than its fingerprint")

    @classmethod
    def decode(cls, slot: bytes) -> "FurtherSignatures":
        """The signatures in a slot, which may be unsigned. Raises BundleError."""
        return cls(()) if slot == UNSIGNED else canonical.decode(slot.rstrip(b"\n"), cls, SIGNATURES)


class Trust(Value):
    """Whom to believe: public keys, or the SHA-256 of `SHA256SUMS` as learned from its sender.

    With keys of both families both must have signed; of several keys in one family, one must.
    """

    keys: tuple[PublicKey, ...] = ()
    sums: Digest | None = None


class Verdict(Value):
    """A passed verification: the digest of `SHA256SUMS`, the fingerprints of trusted signers, and notes.

    `further` are those of the signers whose signatures stand among the further ones.
    """

    sums: Digest
    signers: tuple[str, ...]
    notes: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


def verify(sums: bytes, slots: Mapping[str, bytes], trust: Trust) -> Verdict:
    """Whether `trust` accepts `sums`. Raises UntrustedError with the reason, BundleError for malformed slots."""
    digest = Digest.of(sums)
    p256, minisig = _signatures(slots)
    _check_claims(slots, sums, trust)
    if trust.sums is not None and trust.sums != digest:
        raise UntrustedError(f"SHA256SUMS has {digest}, expected {trust.sums}", hint=_HOW)
    if trust.sums is None and not trust.keys:
        raise UntrustedError(
            "no key was given to check the signature with",
            hint="give --key FILE, or --sums HEX as the sender states it.",
        )
    signers: list[str] = []
    for family in sorted({key.family for key in trust.keys}):
        keys = [key for key in trust.keys if key.family == family]
        made = [key.fingerprint for key in keys if _made(key, sums, p256, minisig)]
        if not made:
            raise UntrustedError(_reason(family, keys, p256, minisig), hint=_HOW)
        signers += made
    further = tuple(name for name, _ in FurtherSignatures.decode(slots[SIGNATURES]).p256 if name in signers)
    return Verdict(digest, tuple(signers), _notes(trust, p256, minisig), further)


def _signatures(slots: Mapping[str, bytes]) -> tuple[list[bytes], Minisig | None]:
    """The P-256 signatures and the minisign signature that the slots hold, each in canonical form."""
    p256 = [] if slots[SIGNATURE] == UNSIGNED else [slots[SIGNATURE]]
    p256 += [der for _, der in FurtherSignatures.decode(slots[SIGNATURES]).p256]
    for der in p256:
        try:
            in_form = _is_der(der)
        except ValueError as exc:
            raise BundleError(f"{SIGNATURE}: neither a signature nor the word unsigned") from exc
        if not in_form:
            raise BundleError(f"{SIGNATURE}: not in DER form")
    return p256, None if slots[MINISIG] == UNSIGNED else Minisig.decode(slots[MINISIG])


def _is_der(signature: bytes) -> bool:
    """Whether an ECDSA signature is in DER, its one form. Raises ValueError if it is no signature in any form."""
    from cryptography.hazmat.primitives.asymmetric import utils

    return utils.encode_dss_signature(*utils.decode_dss_signature(signature)) == signature


def _check_claims(slots: Mapping[str, bytes], sums: bytes, trust: Trust) -> None:
    """A further signature that names a trusted key must be that key's, even where another one would be enough."""
    trusted = {key.fingerprint: key for key in trust.keys if isinstance(key, P256Key)}
    for fingerprint, der in FurtherSignatures.decode(slots[SIGNATURES]).p256:
        if fingerprint in trusted and not trusted[fingerprint].verifies(der, sums):
            raise UntrustedError(f"{SIGNATURES}: the signature in the name of key {fingerprint[:16]} is not its own")


def _made(key: PublicKey, sums: bytes, p256: Iterable[bytes], minisig: Minisig | None) -> bool:
    if isinstance(key, P256Key):
        return any(key.verifies(der, sums) for der in p256)
    return minisig is not None and minisig.verifies(key, sums)


def _reason(family: str, keys: list[PublicKey], p256: list[bytes], minisig: Minisig | None) -> str:
    if not p256 and minisig is None:
        return "the bundle is unsigned"
    if (isinstance(keys[0], P256Key) and not p256) or (isinstance(keys[0], Ed25519Key) and minisig is None):
        return f"the bundle has no {family} signature, and a trusted key of that kind demands one"
    wanted = ", ".join(key.fingerprint[:16] for key in keys)
    return f"the {family} signature was not made by a trusted key ({wanted}), or SHA256SUMS was altered"


def _notes(trust: Trust, p256: list[bytes], minisig: Minisig | None) -> tuple[str, ...]:
    families = {key.family for key in trust.keys}
    unchecked = [
        family
        for family, present in ((P256Key.family, bool(p256)), (Ed25519Key.family, minisig is not None))
        if present and family not in families
    ]
    return tuple(f"its {family} signature was not checked: no key of that kind is trusted here" for family in unchecked)


def parse_keys(data: bytes, name: str) -> tuple[PublicKey, ...]:
    """All public keys in a file: PEM (P-256 or Ed25519, several allowed) or a minisign `.pub`. Raises UsageError."""
    text = data.decode("ascii", "replace")
    try:
        if text.startswith("untrusted comment:"):
            return (_minisign_key(text.split("\n")[1]),)
        keys = tuple(_pem_key(body) for body in _PEM.findall(text))
    except (ValueError, IndexError) as exc:
        raise UsageError(f"{name}: not a public key airferry can use", hint="it takes P-256 or Ed25519 keys.") from exc
    if not keys:
        raise UsageError(f"{name}: holds no public key", hint="give the .pub file that `airferry keygen` wrote.")
    return keys


def _pem_key(body: str) -> PublicKey:
    der = base64.b64decode("".join(body.split()), validate=True)
    if der.startswith(_ED25519_SPKI) and len(der) == len(_ED25519_SPKI) + 32:
        return Ed25519Key.of(der[len(_ED25519_SPKI) :])
    return P256Key(der)


def _minisign_key(line: str) -> Ed25519Key:
    blob = base64.b64decode(line.strip(), validate=True)
    if len(blob) != 42 or blob[:2] != b"Ed":
        raise ValueError("not a minisign key")
    return Ed25519Key(blob[10:], blob[2:10])


def keys_of(texts: Iterable[str]) -> tuple[PublicKey, ...]:
    """The keys pinned in a frozen program, as their PEM or minisign texts. Raises BundleError."""
    try:
        return tuple(key for text in texts for key in parse_keys(text.encode("ascii"), "pinned key"))
    except UsageError as exc:
        raise BundleError(exc.message) from exc
