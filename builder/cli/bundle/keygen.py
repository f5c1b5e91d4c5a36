"""The command `keygen`."""

from pathlib import Path

import click

from builder.cli.bundle.passphrase import ask_passphrase, passphrase_option
from builder.release import sign as signing
from installer.commands import PATH, Command
from installer.shell import Session


@click.command(cls=Command)
@click.argument("name", type=PATH)
@passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave the key file unencrypted: for tests.")
def keygen(session: Session, *, name: Path, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make a release key: NAME.key (secret), NAME.pub and NAME.minisign.pub (for those who verify).

    \b
      airferry keygen release
    """
    passphrase = b"" if no_passphrase else ask_passphrase(session, passphrase_file, confirm=True)
    keys = signing.keygen(name, passphrase)
    files = [f"{name}{end}" for end in (".key", ".pub", ".minisign.pub")]
    lines = [*(f"written {path}" for path in files), *(f"{key.family}: {key.fingerprint}" for key in keys)]
    document = {"files": files, "fingerprints": {key.family: key.fingerprint for key in keys}}
    session.emit(document, "\n".join(lines))
    session.reporter.note("next: tell the fingerprint to those who verify, by another way than the bundle's.")
