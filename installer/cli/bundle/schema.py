"""The command `schema`."""

import json

import click

from installer.commands import Command
from installer.shell import Session
from installer.site.site import Site


@click.command(cls=Command)
def schema(session: Session) -> None:
    """Print the JSON Schema of site.yaml: with it, editors complete and check what is written there.

    \b
    Example:
      PROGRAM schema > site.schema.json
    """
    document = Site.json_schema()
    session.emit(document, json.dumps(document, indent=1, sort_keys=True))
