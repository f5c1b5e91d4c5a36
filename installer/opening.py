"""Which bundle a command works on, and whom it trusts: from arguments, or from the frozen file itself."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from installer import __version__, program
from installer.bundle.reader import Bundle
from installer.bundle.signature import MAX_KEY_FILE, Trust, keys_of, parse_keys
from installer.bundle.volume import VolumeFile
from installer.errors import UsageError
from installer.files import read_bounded
from installer.oci.digest import Digest


def digest_typed(text: str) -> Digest:
    """The SHA-256 that a person typed: 64 hex digits, in groups or not, with `sha256:` or not. Raises UsageError."""
    plain = text.lower().removeprefix("sha256:").translate(str.maketrans("", "", " :-"))
    if len(plain) != 64 or not set(plain) <= set("0123456789abcdef"):
        raise UsageError(f"not a SHA-256: {text[:100]!r}", hint="it has 64 digits from 0 to f.")
    return Digest.from_hex(plain)


def open_bundle(
    executable: Path | None, files: Sequence[Path], keys: Sequence[Path], sums: str, now: dt.datetime
) -> Bundle:
    """The bundle in `files`, or the one that the frozen file `executable` carries, authenticated and current.

    Trust comes from `keys` (public key files), else from `sums` (the typed SHA-256 of SHA256SUMS), else from the keys
    pinned in the frozen file. Raises UntrustedError, BundleError, PolicyError, UsageError, StorageError.
    """
    embedded = program.locate(executable) if executable else None
    volumes = [VolumeFile(path) for path in files]
    if not volumes and executable and embedded and embedded.volume_size:
        volumes = [VolumeFile(executable, embedded.volume_offset, embedded.volume_size)]
    if not volumes:
        raise UsageError("no bundle", hint="name its file: --bundle FILE.")
    trusted = tuple(key for path in keys for key in parse_keys(read_bounded(path, MAX_KEY_FILE), str(path)))
    if not trusted and not sums and embedded:
        trusted = keys_of(key.text for key in embedded.keys)
    bundle = Bundle.open(volumes, Trust(trusted, digest_typed(sums) if sums else None))
    try:
        bundle.check_program(__version__)
        bundle.check_time(now)
    except BaseException:
        bundle.close()
        raise
    return bundle
