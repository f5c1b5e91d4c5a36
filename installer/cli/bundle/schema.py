"""The command `schema`."""

import json

import click

from installer.apps.application import application_of
from installer.cli.opening import BundleChoice, bundle_options
from installer.commands import Command
from installer.schema import json_schema
from installer.shell import Session
from installer.site.site import RegistryOnly


@click.command(cls=Command)
@bundle_options
def schema(session: Session, *, choice: BundleChoice) -> None:
    """Print the JSON Schema of site.yaml: with it, editors complete and check what is written there.

    \b
    Example:
      PROGRAM schema > site.schema.json
    """
    with choice.open(session) as bundle:
        application = application_of(bundle) or RegistryOnly()
    document = json_schema(application.answers, "site.yaml of airferry")
    session.emit(document, json.dumps(document, indent=1, sort_keys=True))
