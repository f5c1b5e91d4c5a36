"""The command `init`."""

import importlib.resources
import os
from pathlib import Path

import click

from builder.cli.recipe.recipe_files import RECIPE_NAME
from installer.commands import FOLDER, Command
from installer.files import storage_error, write_atomic
from installer.shell import Session


@click.command(cls=Command)
@click.argument("folder", type=FOLDER, default=Path())
def init(session: Session, *, folder: Path) -> None:
    """Write a commented recipe and its companions to FOLDER; files that exist are left alone.

    \b
      airferry init                  into this folder
      airferry init app-1.0     into a new one

    Then correct recipe.yaml and run `airferry lock`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(exc, folder, "create") from exc
    written, kept = [], []
    for item in sorted(importlib.resources.files("templates").iterdir(), key=lambda item: item.name):
        if item.name.endswith((".yaml", ".schema.json")):
            path = folder / item.name
            if os.path.lexists(path):
                kept.append(str(path))
            else:
                write_atomic(path, item.read_bytes())
                written.append(str(path))
    lines = [*(f"written {path}" for path in written), *(f"kept    {path} (it exists)" for path in kept)]
    session.emit({"written": written, "kept": kept}, "\n".join(lines))
    session.reporter.note(f"next: edit {folder / RECIPE_NAME}, then `airferry lock {folder / RECIPE_NAME}`.")
