"""Keys and signatures: the private half of trust. Never reachable from the installer.

Signing fills slots of fixed size at the front of each volume: it moves nothing and takes milliseconds whatever the
size. It touches neither `SHA256SUMS` nor anything it names.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from installer.bundle import canonical
from installer.bundle.envelope import envelope_of, member
from installer.bundle.limits import MINISIG, SIGNATURE, SIGNATURES, SLOTS, UNSIGNED
from installer.bundle.signature import (
    MAX_KEY_FILE,
    Ed25519Key,
    FurtherSignatures,
    Minisig,
    P256Key,
    PublicKey,
    Trust,
    Verdict,
    verify,
)
from installer.bundle.tar import BLOCK, padded
from installer.errors import BundleError, UntrustedError, UsageError
from installer.files import read_bounded, storage_error, write_atomic

_MAX_PASSPHRASE = 1023
"""What OpenSSL takes (`PEM_BUFSIZE`)."""
_Slot = tuple[str, bytes]
"""The name of a signature member, and what it is to hold."""
_END = b"-----END ENCRYPTED PRIVATE KEY-----\n", b"-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A release key: one P-256 and one Ed25519 private key, so that stock tools of both kinds can check."""

    p256: ec.EllipticCurvePrivateKey = field(repr=False)
    ed: ed25519.Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key from the system's random source."""
        return cls(ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())

    @property
    def public(self) -> tuple[P256Key, Ed25519Key]:
        """The public keys."""
        der = self.p256.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return P256Key(der), Ed25519Key.of(self.ed.public_key().public_bytes_raw())

    def private_pem(self, passphrase: bytes) -> bytes:
        """Both keys as PKCS #8 in PEM, encrypted unless `passphrase` is empty."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            protection = serialization.BestAvailableEncryption(passphrase)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return b"".join(key.private_bytes(*form, protection) for key in (self.p256, self.ed))

    def public_pem(self) -> bytes:
        """Both public keys in PEM, the P-256 one first: that is the one `openssl dgst -verify` takes."""
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return b"".join(key.public_key().public_bytes(*form) for key in (self.p256, self.ed))

    def minisign_pub(self) -> bytes:
        """The Ed25519 public key as the file that `minisign -p` takes."""
        return self.public[1].text.encode("ascii")

    @classmethod
    def load(cls, data: bytes, passphrase: bytes, name: str) -> "SigningKey":
        """The key in a file that `private_pem` made. Raises UsageError."""
        try:
            blocks = _blocks(data)
            keys = [serialization.load_pem_private_key(block, passphrase or None) for block in blocks]
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise UsageError(f"{name}: cannot be read with this passphrase", hint="give the right passphrase.") from exc
        p256 = next((key for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)), None)
        ed = next((key for key in keys if isinstance(key, ed25519.Ed25519PrivateKey)), None)
        if p256 is not None and ed is not None and isinstance(p256.curve, ec.SECP256R1):
            return cls(p256, ed)
        raise UsageError(f"{name}: not a secret key that `airferry keygen` wrote", hint="give its NAME.key.")


def _blocks(data: bytes) -> list[bytes]:
    blocks, current = [], b""
    for line in data.splitlines(keepends=True):
        current += line
        if line in _END:
            blocks.append(current)
            current = b""
    return blocks


def keygen(prefix: Path, passphrase: bytes) -> tuple[PublicKey, ...]:
    """Write `PREFIX.key` (private, mode 0600), `PREFIX.pub` and `PREFIX.minisign.pub`; return the public keys.

    Raises UsageError if one of them exists: a key is never overwritten; and for what is no name or passphrase.
    """
    if prefix.name in ("", ".."):
        raise UsageError(f"{prefix}: not a name for a key", hint="like `airferry keygen release`.")
    if len(passphrase) > _MAX_PASSPHRASE:
        raise UsageError(f"a passphrase has at most {_MAX_PASSPHRASE} bytes", hint="choose a shorter one.")
    paths = [prefix.with_name(prefix.name + end) for end in (".key", ".pub", ".minisign.pub")]
    for path in paths:
        if path.exists():
            raise UsageError(f"{path}: exists already", hint="choose another name; a key is never overwritten.")
    key = SigningKey.generate()
    for path, data in zip(paths, (key.private_pem(passphrase), key.public_pem(), key.minisign_pub()), strict=True):
        write_atomic(path, data, mode=0o600 if path == paths[0] else 0o644)
    return key.public


def load_key(path: Path, passphrase: bytes) -> SigningKey:
    """The private key in `path`. Raises UsageError, StorageError."""
    return SigningKey.load(read_bounded(path, MAX_KEY_FILE), passphrase, str(path))


def sign(volumes: Sequence[Path], key: SigningKey) -> Verdict:
    """Sign the bundle in `volumes` with both halves of `key`. Signing again with the same key changes nothing.

    Raises BundleError, StorageError, UntrustedError if another key holds the only minisign slot.
    """
    p256, ed = key.public
    signed = _sums(volumes)
    der = key.p256.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    minisig = _minisig(key, ed, signed)
    found = {path: envelope_of(path).slots for path in volumes}
    both = [
        (path, (_of_minisign(path, slots, minisig), _of_der(path, slots, p256, der))) for path, slots in found.items()
    ]
    return _filled(both, Trust((p256, ed)))


def attach(volumes: Sequence[Path], signature: bytes, key: PublicKey) -> Verdict:
    """Put a signature that was made elsewhere (HSM, minisign) over `SHA256SUMS` into its slot.

    `signature` is DER for a P-256 key, a minisign file for an Ed25519 key. Raises UntrustedError if it is not that
    key's, BundleError, StorageError.
    """
    signed = _sums(volumes)
    found = {path: envelope_of(path).slots for path in volumes}
    if isinstance(key, P256Key):
        if not key.verifies(signature, signed):
            raise UntrustedError("the signature is not this key's over SHA256SUMS", hint="sign SHA256SUMS itself.")
        one = [(path, (_of_der(path, slots, key, signature),)) for path, slots in found.items()]
    else:
        minisig = Minisig.decode(signature, any_comment=True)
        if not minisig.verifies(key, signed):
            raise UntrustedError(
                "the minisign signature is not this key's over SHA256SUMS", hint="sign SHA256SUMS itself."
            )
        one = [(path, (_of_minisign(path, slots, minisig),)) for path, slots in found.items()]
    return _filled(one, Trust((key,)))


def sums_of(volume: Path) -> bytes:
    """`SHA256SUMS` of a volume, for signing elsewhere. Raises BundleError, IncompleteError, StorageError."""
    return envelope_of(volume).sums


def _minisig(key: SigningKey, public: Ed25519Key, signed: bytes) -> Minisig:
    comment = "airferry bundle, file SHA256SUMS"
    signature = key.ed.sign(hashlib.blake2b(signed).digest())
    return Minisig(public.key_id, signature, comment, key.ed.sign(signature + comment.encode("ascii")))


def _sums(volumes: Sequence[Path]) -> bytes:
    found = {envelope_of(path).sums for path in volumes}
    if len(found) != 1:
        raise BundleError("these volumes belong to different bundles", hint="sign the volumes of one bundle together.")
    return found.pop()


def _of_der(path: Path, slots: dict[str, bytes], key: P256Key, der: bytes) -> _Slot:
    """The first slot when it is free, else that of further signatures, with what it is to hold."""
    if slots[SIGNATURE] in (UNSIGNED, der):
        return SIGNATURE, der
    further = FurtherSignatures.decode(slots[SIGNATURES]).p256
    kept = tuple(sorted({*further, (key.fingerprint, der)}))
    text = canonical.encode(FurtherSignatures(kept)) + b"\n"
    if len(text) > SLOTS[SIGNATURES]:
        raise UsageError(f"{path}: no room for another signature", hint=f"it carries {len(further) + 1} already.")
    return SIGNATURES, text


def _of_minisign(path: Path, slots: dict[str, bytes], minisig: Minisig) -> _Slot:
    if slots[MINISIG] not in (UNSIGNED, minisig.encode()):
        raise UntrustedError(
            f"{path}: carries a minisign signature of another key, and there is room for one",
            hint="further people sign with P-256: `airferry sign --attach`.",
        )
    return MINISIG, minisig.encode()


def _filled(changes: Sequence[tuple[Path, Sequence[_Slot]]], trust: Trust) -> Verdict:
    """Fill slots of all volumes, each of which has room; what a reader makes of the result."""
    for path, slots in changes:
        for slot, content in slots:
            _fill(path, slot, content)
    verdicts = [verify(envelope.sums, envelope.slots, trust) for envelope in (envelope_of(path) for path, _ in changes)]
    return verdicts[0]


def _fill(path: Path, slot: str, content: bytes) -> None:
    """Replace one signature member in place. Raises StorageError."""
    with_sums = envelope_of(path).sums
    offset = BLOCK + padded(len(with_sums))
    for name, area in SLOTS.items():
        if name == slot:
            break
        offset += BLOCK + area
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(fd, member(slot, content), offset)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise storage_error(exc, path, "sign") from exc
