"""Which bundle a command works on, and whom it trusts: from arguments, or from the frozen file itself."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from installer import program
from installer.bundle.opening import open_current, trust_in
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust, keys_of
from installer.bundle.volume import VolumeFile
from installer.errors import UsageError


def open_bundle(
    executable: Path | None, files: Sequence[Path], keys: Sequence[Path], sums: str, now: dt.datetime
) -> Bundle:
    """The bundle in `files`, or the one that the frozen file `executable` carries, authenticated and current.

    Trust comes from `keys` (public key files) and `sums` (the typed SHA-256 of SHA256SUMS); without either, from the
    keys pinned in the frozen file. Raises UntrustedError, BundleError, PolicyError, UsageError, StorageError.
    """
    embedded = program.locate(executable) if executable else None
    trusted = trust_in(keys, sums)
    if trusted == Trust() and embedded:
        trusted = Trust(keys_of(key.text for key in embedded.keys))
    volumes = [VolumeFile(path) for path in files]
    if not volumes and executable and embedded and embedded.volume_size:
        volumes = [VolumeFile(executable, embedded.volume_offset, embedded.volume_size)]
    if not volumes:
        raise UsageError("no bundle", hint="name its file: --bundle FILE.")
    return open_current(volumes, trusted, now)
