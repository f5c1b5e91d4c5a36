"""The command `status`."""

import click

from installer.cli.cluster.recorded_registry import held_as_recorded
from installer.cli.options import Installation, installation_options
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.shell import Session
from installer.workflows import record
from installer.workflows.status import status as look


@click.command(cls=Command)
@cluster_options
@installation_options
def status(session: Session, *, cluster: ClusterChoice, installation: Installation) -> None:
    """Tell what is installed, whether all of it runs, and if not, why. Needs no bundle.

    \b
    Example:
      PROGRAM status

    Exit code 0: everything runs; 32: something does not, and the reason is printed.
    """
    held = cluster.target(session).cluster
    note = record.find(held, installation.name, installation.namespace)
    found = look(held, note, held_as_recorded(session, held, note))
    session.emit(found.document(), found.text())
    found.require()
