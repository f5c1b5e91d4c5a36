"""The command `wait`."""

import click

from installer.cli.cluster.recorded_registry import held_as_recorded
from installer.cli.options import Installation, installation_options, timeout_option
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.diagnosis.wait import Patience
from installer.shell import Session
from installer.workflows import record
from installer.workflows.status import until_ready


@click.command(cls=Command)
@cluster_options
@installation_options
@timeout_option
def wait(session: Session, *, cluster: ClusterChoice, installation: Installation, timeout: int) -> None:
    """Wait until everything runs, like `install` does at its end. Needs no bundle and changes nothing.

    \b
    Example:
      PROGRAM wait --timeout 600

    Exit code 0: everything runs; 32: something does not, or cannot any more, and the reason is printed.
    """
    held = cluster.target(session).cluster
    note = record.find(held, installation.name, installation.namespace)
    patience = Patience(timeout, session.reporter, holds=held_as_recorded(session, held, note))
    found = until_ready(held, note, patience)
    session.emit(found.document(), found.text())
    found.require()
