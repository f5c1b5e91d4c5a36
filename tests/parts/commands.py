"""The commands of both programs, as the command line knows them."""

from __future__ import annotations

import click

from builder.cli.main import cli as builder_cli
from installer.cli.main import cli as installer_cli


def commands(name: str, rest: str) -> list[click.Command]:
    """The commands of that name on both sides, at least one; of a group the one that `rest` begins with."""
    found = [group.get_command(click.Context(group), name) for group in (builder_cli, installer_cli)]
    assert any(found), f"no command {name}"
    return [
        inner
        for command in found
        if command
        and (
            inner := command.get_command(click.Context(command), rest.split(maxsplit=1)[0])
            if isinstance(command, click.Group)
            else command
        )
    ]
