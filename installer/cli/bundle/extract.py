"""The command `extract`."""

from pathlib import Path

import click

from installer.cli.opening import BundleChoice, bundle_options
from installer.commands import NEW_FOLDER, Command, force_option
from installer.report import size
from installer.shell import Session
from installer.transfer import extract as extraction


@click.command(cls=Command)
@bundle_options
@click.argument("names", nargs=-1, metavar="[FILE]...")
@click.option("-o", "--output-dir", type=NEW_FOLDER, help="Folder for the files; without it they are listed only.")
@force_option
def extract(
    session: Session, *, choice: BundleChoice, names: tuple[str, ...], output_dir: Path | None, force: bool
) -> None:
    """Take out the files that travel along, such as handbooks and tools; without a folder, list them.

    \b
    Examples:
      PROGRAM extract
      PROGRAM extract handbook.pdf --output-dir docs
    """
    with choice.open(session) as bundle:
        if output_dir is None:
            found = [(item.name, bundle.blob(item.digest).size) for item in extraction.files_of(bundle.manifest)]
            document = [{"name": name, "bytes": length} for name, length in found]
            lines = [f"{name}  {size(length)}" for name, length in found] or ["no files travel along"]
            session.emit({"files": document}, "\n".join(lines))
            return
        written = [str(path) for path in extraction.extract(bundle, names, output_dir, session.reporter, replace=force)]
    session.emit({"written": written}, "\n".join(f"written {path}" for path in written) or "no files travel along")
