"""The command `history`."""

import click

from installer.cli.options import Installation, installation_options
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.shell import Session
from installer.workflows import history as past
from installer.workflows import record


@click.command(cls=Command)
@cluster_options
@installation_options
def history(session: Session, *, cluster: ClusterChoice, installation: Installation) -> None:
    """List what has been installed, newest last: what `rollback` can go back to.

    \b
    Example:
      PROGRAM history
    """
    held = cluster.target(session).cluster
    found = past.read(held, record.find(held, installation.name, installation.namespace))
    session.emit([item.document() for item in found.revisions], "\n".join(item.line() for item in found.revisions))
