"""The command `plan`. It needs no library that talks to registries or reads charts."""

from pathlib import Path

import click

from builder.assemble.contents import contents
from builder.assemble.delta_base import omission_of
from builder.assemble.outputs import distribute, free_bytes
from builder.assemble.plan import plan_document, plan_table
from builder.cli.options import lock_argument
from builder.cli.recipe.content_options import ContentOptions, content_options
from builder.recipe.lock import Lock
from builder.recipe.locked_files import check_files
from installer.commands import PATH, Command
from installer.errors import StorageError
from installer.shell import Session


@click.command(cls=Command)
@lock_argument
@click.option("--target", "targets", type=PATH, multiple=True, help="Where the bundle will be written.")
@content_options
def plan(
    session: Session,
    *,
    lock: Path,
    targets: tuple[Path, ...],
    content: ContentOptions,
) -> None:
    """Say what a bundle will hold and how large it will be, to the byte; nothing is fetched.

    \b
      airferry plan
      airferry plan --target /media/stick
      airferry plan --volume-size dvd      which files, which image on which
      airferry plan --base app-1.0.lock    an update, for those who have 1.0
    """
    read = Lock.load(lock)
    check_files(read, lock.parent)
    folders = [target if target.is_dir() else target.parent for target in targets] or [Path()]
    planned = contents(read, content.size, omission_of(read, content.have, content.bases))
    document = plan_document(read, planned, free_bytes(folders))
    session.emit(document, plan_table(document))
    try:
        distribute(dict(zip(planned.file_names, planned.volume_sizes, strict=True)), folders)
    except StorageError as exc:
        session.reporter.note(f"note: too little free space: {exc.message}")
