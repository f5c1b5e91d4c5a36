"""What an update leaves out and the receiver lacks: told, and asked of the sender."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from installer.bundle.manifest import BundleBlob
from installer.bundle.reader import Bundle
from installer.cli.requesting import hand_over
from installer.shell import Session
from installer.transfer.existing_blobs import lacking_document, request_for


def ask_for(session: Session, bundle: Bundle, lacking: Sequence[BundleBlob], file: Path | None) -> dict[str, Any]:
    """What is `lacking`, as plain values, and the line of text that asks for it; that is written to `file`, if given.

    The line is empty if nothing is lacking. Raises UsageError for a file that must not be replaced, StorageError.
    """
    wanted = request_for(bundle, lacking)
    if wanted and file:
        hand_over(session, wanted, file, qr=None)
    return {"lacking": lacking_document(bundle, lacking), "request": wanted.text if wanted else ""}
