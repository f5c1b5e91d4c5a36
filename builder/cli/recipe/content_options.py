"""Options about what a bundle holds and how it is laid out, as `plan` and `build` take them."""

from dataclasses import dataclass
from pathlib import Path

import click

from builder.assemble.volume_size import PRESETS, VolumeSize
from installer.commands import EXISTING, together


@dataclass(frozen=True)
class ContentOptions:
    """The `size` of volumes (None: one file), and what receivers hold: receipts, and earlier locks and bundles."""

    size: VolumeSize | None
    have: tuple[str, ...]
    bases: tuple[Path, ...]


def _volume_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> VolumeSize | None:
    return VolumeSize.parse(value) if value is not None else None


content_options = together(
    "content",
    ContentOptions,
    [
        click.option(
            "--volume-size",
            "size",
            metavar="SIZE",
            callback=_volume_size,
            help=f"Several files: {', '.join(PRESETS)}, a size such as 4GiB, or a count of equal parts such as 5.",
        ),
        click.option(
            "--have",
            multiple=True,
            metavar="RECEIPT",
            help="Leave out what a registry holds: the file that `load --receipt` wrote, or its line of text with "
            "the --base that it speaks of. May be repeated; of several registries, what all of them hold.",
        ),
        click.option(
            "--base",
            "bases",
            type=EXISTING,
            multiple=True,
            metavar="OLD",
            help="Leave out what is in an earlier lock or bundle, which all receivers have loaded. May be repeated.",
        ),
    ],
)
"""The command gets `content`."""
