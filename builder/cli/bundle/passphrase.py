"""The passphrase of a secret key, from a file or a person."""

from pathlib import Path

import click

from installer.bundle.signature import MAX_KEY_FILE
from installer.commands import FILE
from installer.errors import UsageError
from installer.files import read_bounded
from installer.shell import Session

passphrase_option = click.option(
    "--passphrase-file", type=FILE, help="File with the key's passphrase; else it is asked for, on the terminal."
)


def passphrase_for(session: Session, key: Path, file: Path | None) -> bytes:
    """The passphrase of a secret key; none is asked for if its file is not encrypted."""
    if b"ENCRYPTED" not in read_bounded(key, MAX_KEY_FILE):
        return b""
    return ask_passphrase(session, file, confirm=False)


def ask_passphrase(session: Session, file: Path | None, *, confirm: bool) -> bytes:
    """From `file` (its first line), else from the terminal. Never from the command line, where others could see it."""
    if file is not None:
        found = read_bounded(file, MAX_KEY_FILE).split(b"\n")[0].rstrip(b"\r")
    else:
        try:
            found = session.ask_secret("passphrase", confirm=confirm).encode()
        except UsageError as exc:
            raise UsageError(exc.message, hint="give it in a file: --passphrase-file.") from exc
    if not found:
        raise UsageError("an empty passphrase", hint="give one, or --no-passphrase for a key that protects nothing.")
    return found
