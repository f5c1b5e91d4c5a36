"""The command `freeze`."""

from pathlib import Path

import click

from builder.cli.trust import bundle_argument
from builder.release.freeze import freeze as freeze_bundle
from builder.release.program import build_program
from installer.bundle.volume import VolumeFile
from installer.commands import FILE, NEW_FILE, Command
from installer.files import check_output
from installer.frozen.header import PinnedKey
from installer.opening.open_bundle import open_current
from installer.opening.trust import read_keys, trust_in
from installer.opening.volume_discovery import expand
from installer.report import size as human
from installer.shell import Session


@click.command(cls=Command)
@bundle_argument
@click.option(
    "-k", "--key", "keys", type=FILE, multiple=True, required=True, help="Public key to pin; may be repeated."
)
@click.option("-o", "--file", "out", type=NEW_FILE, required=True, help="The executable file to write.")
@click.option("--beside", is_flag=True, help="Leave the bundle out: it will lie beside the program.")
def freeze(session: Session, *, bundle: tuple[Path, ...], keys: tuple[Path, ...], out: Path, beside: bool) -> None:
    """Make one self-contained executable of the installer and BUNDLE, which trusts exactly the given keys.

    Of several volumes it carries the first; the others stay files of their own.

    \b
      airferry freeze app-1.0.tar --key release.pub -o app-1.0.run
      airferry freeze volumes/ --key release.pub -o app.run --beside
    """
    paths = expand(bundle)
    check_output(out, [*paths, *keys])
    files = [VolumeFile(path) for path in paths]
    with open_current(files, trust_in(keys, ""), session.now()) as opened:
        opened.require_all()
        name = f"{opened.manifest.name}-{opened.manifest.version}"
        first = opened.volumes.file(0).path
    program = build_program(_cache(session), session.reporter)
    pinned = [PinnedKey.of(key.text, key.fingerprint) for key in read_keys(keys)]
    freeze_bundle(program, None if beside else first, out, name=name, keys=pinned, reporter=session.reporter)
    total = out.stat().st_size
    session.emit({"file": str(out), "bytes": total}, f"{out}: {total} bytes ({human(total)})")
    others = [str(path) for path in paths if beside or path != first]
    carry = f"carry it over with {', '.join(others)}" if others else "carry it over"
    session.reporter.note(f"next: {carry}, then `./{out.name} verify` and `./{out.name} --help`.")


def _cache(session: Session) -> Path:
    """Where programs are kept between calls (XDG Base Directory Specification)."""
    base = session.environment.get("XDG_CACHE_HOME")
    return Path(base or Path(session.environment.get("HOME") or "/root", ".cache"), "airferry", "program")
