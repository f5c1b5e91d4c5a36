"""The command `repair`."""

from pathlib import Path

import click

from installer.cli.opening import BundleChoice, bundle_options
from installer.commands import NEW_FOLDER, PATH, Command
from installer.shell import Session
from installer.verify.repair import repair as rebuild


@click.command(cls=Command)
@bundle_options
@click.argument("parity", type=PATH)
@click.option("-o", "--out", type=NEW_FOLDER, required=True, help="Folder for the rebuilt volumes; with room for them.")
def repair(session: Session, *, choice: BundleChoice, parity: Path, out: Path) -> None:
    """Rebuild volumes that are lost or damaged from PARITY: PAR2 files that the sender made, or their folder.

    The other volumes are read in place, all at once. What is rebuilt is verified like any volume.

    \b
    Example:
      PROGRAM repair /media/parity --bundle /media/discs --out /data
    """
    with choice.open(session) as bundle:
        written = [str(path) for path in rebuild(bundle, parity, out, session.reporter)]
    lines = [f"{path}: rebuilt, genuine and whole" for path in written] or ["nothing is lost or damaged"]
    session.emit({"files": written}, "\n".join(lines))
    if written:
        session.reporter.note(f"next: name {out} with --bundle, before all other places.")
