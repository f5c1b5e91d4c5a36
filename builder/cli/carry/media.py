"""The group `media`."""

import click

from installer.commands import Commands

COMMANDS = {
    "write": ("builder.cli.carry.media_write:media_write", "Copy onto mounted media, and read everything back."),
}


@click.group(cls=Commands, table=COMMANDS)
def media() -> None:
    """Sticks and discs: write volumes onto them, and prove that the medium returns them.

    \b
      airferry media write /media/stick --from app-1.0.tar
    """
