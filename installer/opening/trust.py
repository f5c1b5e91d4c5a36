"""Whom to trust: from the key files and the checksum that a person names."""

from collections.abc import Sequence
from pathlib import Path

from installer.bundle.signature import MAX_KEY_FILE, PublicKey, Trust, parse_keys
from installer.errors import UsageError
from installer.files import read_bounded
from installer.oci.digest import Digest

_SEPARATORS = str.maketrans("", "", " :-")


def typed_digest(text: str) -> Digest:
    """The SHA-256 that a person typed: 64 hex digits, in groups or not, with `sha256:` or not. Raises UsageError."""
    plain = text.strip().lower().removeprefix("sha256:").translate(_SEPARATORS)
    if len(plain) != 64 or not set(plain) <= set("0123456789abcdef"):
        raise UsageError(f"not a SHA-256: {text[:100]!r}", hint="it has 64 digits from 0 to f.")
    return Digest.from_hex(plain)


def read_keys(paths: Sequence[Path]) -> tuple[PublicKey, ...]:
    """The keys in public key files, each once: two files may hold one key in two forms. Raises UsageError."""
    found = [key for path in paths for key in parse_keys(read_bounded(path, MAX_KEY_FILE), str(path))]
    return tuple({key.fingerprint: key for key in found}.values())


def trust_in(keys: Sequence[Path], sums: str) -> Trust:
    """Trust in public key files and, if it is not empty, in the typed SHA-256 of SHA256SUMS. Raises UsageError."""
    return Trust(read_keys(keys), typed_digest(sums) if sums else None)
