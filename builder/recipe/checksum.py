"""Size and SHA-256 of whole files, however large."""

import hashlib
from pathlib import Path

from installer.files import storage_error
from installer.report import Reporter

_STEP = 4 * 1024 * 1024


def size_of(path: Path) -> int:
    """The bytes of a file. Raises UsageError, StorageError."""
    try:
        return path.stat().st_size
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc


def sha256_of(path: Path, reporter: Reporter) -> str:
    """The SHA-256 of a file, 64 hex digits, as `sha256sum` prints it. Raises UsageError, StorageError."""
    whole = hashlib.sha256()
    reporter.begin(f"sha256 of {path.name}", size_of(path))
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_STEP):
                whole.update(piece)
                reporter.advance(len(piece))
        reporter.end()
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc
    return whole.hexdigest()
