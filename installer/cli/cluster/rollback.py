"""The command `rollback`."""

import click

from installer.cli.cluster.mutation import ask, means, report, time_of
from installer.cli.cluster.recorded_registry import as_recorded
from installer.cli.options import (
    Installation,
    dry_run_option,
    installation_options,
    take_over_option,
    timeout_option,
    yes_option,
)
from installer.cli.registry_place import held_in, registry_at
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.diagnosis.diagnosis import unknown
from installer.shell import Session
from installer.workflows import record
from installer.workflows import rollback as backwards
from installer.workflows.phases import described, documents


@click.command(cls=Command)
@cluster_options
@installation_options
@take_over_option
@click.option(
    "--to", "number", default=0, metavar="NUMBER", help="A revision that `history` lists. [default: the one before]"
)
@dry_run_option
@yes_option
@timeout_option
def rollback(
    session: Session,
    *,
    cluster: ClusterChoice,
    installation: Installation,
    take_over: bool,
    number: int,
    dry_run: bool,
    yes: bool,
    timeout: int,
) -> None:
    """Go back to what ran before the last upgrade or change, from what the cluster holds. Needs no bundle.

    Data, Secrets and CustomResourceDefinitions stay as they are. Run it again after an interruption: it continues.

    \b
    Example:
      PROGRAM rollback
    """
    target = cluster.target(session)
    present = record.find(target.cluster, installation.name, installation.namespace)
    back = backwards.prepare(target.cluster, target.releases, present, number=number, time=time_of(session))
    if dry_run:
        todo = backwards.phases(back)
        document = {"changes": back.changes.document(), "revision": back.goal.number, "phases": documents(todo)}
        session.emit(document, f"{back.changes.text()}\n\n{described(todo)}")
        return
    for line in back.changes.text().splitlines():
        session.reporter.note(line)
    if not yes:
        ask(f"Go back to revision {back.goal.number}, {back.note.bundle} {back.note.version}?")
    place = as_recorded(back.goal.access, backwards.credentials(target.cluster, back.goal))
    registry = None if back.goal.access.on_nodes else registry_at(session, place)
    held = means(session, target, timeout, held_in(session, place) if registry else unknown)
    done = backwards.carry_out(back, held, registry, take_over=take_over)
    report(session, done, back.changes)
