"""What commands share that start from a lock or recipe: its argument, and options."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from builder.assemble.volume_size import PRESETS, VolumeSize
from builder.recipe.lock import LOCK_NAME

_Command = TypeVar("_Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)


def file_argument(name: str, default: str) -> Callable[[_Command], _Command]:
    """An argument that is a file, or the folder of the one that is called `default`."""

    def inside(_ctx: click.Context, _param: click.Parameter, value: Path) -> Path:
        return value / default if os.path.isdir(value) else value  # noqa: PTH112 - it raises nothing

    return click.argument(name, type=click.Path(path_type=Path), default=Path(default), callback=inside)


lock_argument = file_argument("lock", LOCK_NAME)
"""The argument LOCK of commands that start from a lock."""


def _volume_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> VolumeSize | None:
    return VolumeSize.parse(value) if value is not None else None


volume_size_option = click.option(
    "--volume-size",
    "size",
    metavar="SIZE",
    callback=_volume_size,
    help=f"Several files: {', '.join(PRESETS)}, a size such as 4GiB, or a count of equal parts such as 5.",
)
"""The option of commands that lay a bundle out; they get it as `size`."""


def base_options(command: _Command) -> _Command:
    """The options of commands that may leave out what its receivers hold; they get `have` and `bases`."""
    have = click.option(
        "--have",
        multiple=True,
        metavar="RECEIPT",
        help="Leave out what a registry holds: the file that `load --receipt` wrote, or its line of text with the "
        "--base that it speaks of. May be repeated; of several registries, what all of them hold.",
    )
    bases = click.option(
        "--base",
        "bases",
        type=click.Path(path_type=Path, exists=True),
        multiple=True,
        metavar="OLD",
        help="Leave out what is in an earlier lock or bundle, which all receivers have loaded. May be repeated.",
    )
    return have(bases(command))
