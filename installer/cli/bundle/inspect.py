"""The command `inspect`."""

import click

from installer.cli.opening import BundleChoice, bundle_options
from installer.commands import Command
from installer.shell import Session
from installer.verify.describe import description, summary


@click.command(cls=Command)
@bundle_options
def inspect(session: Session, *, choice: BundleChoice) -> None:
    """Show what the bundle holds, after checking its signature.

    \b
    Example:
      PROGRAM inspect
    """
    with choice.open(session) as bundle:
        session.emit(description(bundle) if session.output == "json" else None, summary(bundle, images=True))
