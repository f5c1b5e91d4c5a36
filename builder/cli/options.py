"""Arguments that commands share which start from a recipe or lock."""

import os
from pathlib import Path

import click

from builder.recipe.lock import LOCK_NAME
from installer.commands import PATH, Decorator


def file_argument(name: str, default: str) -> Decorator:
    """An argument that is a file, or the folder of the one that is called `default`."""

    def inside(_ctx: click.Context, _param: click.Parameter, value: Path) -> Path:
        return value / default if os.path.isdir(value) else value  # noqa: PTH112 - it raises nothing

    return click.argument(name, type=PATH, default=Path(default), callback=inside)


lock_argument = file_argument("lock", LOCK_NAME)
"""The argument LOCK of commands that start from a lock."""
