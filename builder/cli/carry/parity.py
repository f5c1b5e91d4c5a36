"""The command `parity`."""

from pathlib import Path

import click

from builder.assemble.outputs import make_folder
from builder.images.previous_bundle import open_own
from builder.release.parity import Parity, write_parity
from installer.bundle.envelope import envelope_of
from installer.commands import EXISTING, NEW_FOLDER, Command
from installer.errors import UsageError
from installer.opening.volume_discovery import expand
from installer.report import size as human
from installer.shell import Session
from installer.verify.verification import verify


@click.command(cls=Command)
@click.argument("bundle", type=EXISTING, nargs=-1, required=True)
@click.option("--volumes", type=click.IntRange(1), help="So many lost volumes can be rebuilt. [default: 1]")
@click.option("--redundancy", type=click.IntRange(1, 100), metavar="PERCENT", help="So much of all can be mended.")
@click.option(
    "-o",
    "--folder",
    "out",
    type=NEW_FOLDER,
    help="Where to write; a folder that is made if it does not exist. [default: beside the volumes]",
)
@click.option("--unsigned", is_flag=True, help="The volumes will never be signed; the receiver is told SHA256SUMS.")
def parity(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    volumes: int | None,
    redundancy: int | None,
    out: Path | None,
    unsigned: bool,
) -> None:
    """Write PAR2 files, from which a lost volume of BUNDLE can be rebuilt on site.

    Carry them on a medium of their own. Make them when all have signed: a signature changes the volumes. On site,
    `repair` of the installer or `par2 repair` of any Linux does the rest.

    \b
      airferry parity volumes/               # one lost volume can be rebuilt
      airferry parity volumes/ --volumes 2 -o parity/
      airferry parity app-1.0.tar --redundancy 5   # damage here and there
    """
    if volumes and redundancy:
        raise UsageError("--volumes and --redundancy are two ways to say how much", hint="give one of them.")
    files = expand(bundle)
    with open_own(files) as opened:
        opened.require_all()
        if not unsigned and not all(envelope_of(path).signed for path in files):
            raise UsageError("not signed yet, and signing changes the volumes", hint="sign first, or give --unsigned.")
        sizes = [info.bytes for info in opened.volumes.infos()]
        planned = Parity.for_share(sizes, redundancy) if redundancy else Parity.for_lost(sizes, volumes or 1)
        if out:
            make_folder(out)
        verify(opened, session.reporter)
        written = write_parity(opened, planned, out or opened.volumes.file(0).path.absolute().parent, session.reporter)
    made = {str(path): path.stat().st_size for path in written}
    lines = [f"{path}: {count} bytes ({human(count)})" for path, count in made.items()]
    found = [{"file": path, "bytes": count} for path, count in made.items()]
    document = {"files": found, "block": planned.block, "recovery_blocks": planned.recovery}
    session.emit(document, "\n".join(lines))
    session.reporter.note("next: carry them on another medium than the volumes; on site: `repair` of the installer.")
