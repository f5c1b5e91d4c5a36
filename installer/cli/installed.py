"""The commands about what is installed, from the cluster alone: rollback, history, status, wait, uninstall."""

from typing import Any

import click

from installer.cli.mutation import TIME, ask, means, report
from installer.cli.options import cluster_options, name_options, take_over_option, timeout_option
from installer.shell import Session, common


@click.command()
@common
@cluster_options
@name_options
@take_over_option
@click.option(
    "--to", "number", default=0, metavar="NUMBER", help="A revision that `history` lists. [default: the one before]"
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout_option
def rollback(
    session: Session,
    target: Any,
    name: str,
    namespace: str,
    number: int,
    timeout: int,
    *,
    take_over: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Go back to what ran before the last upgrade or change, from what the cluster holds. Needs no bundle.

    \b
    Example: ./wandb-installer rollback
    Data, Secrets and CustomResourceDefinitions stay as they are. Run it again after an interruption: it continues.
    """
    from installer.cli.loading import held_in, registry_at
    from installer.cli.recorded_registry import as_recorded
    from installer.workflows import record
    from installer.workflows import rollback as backwards

    cluster = target.cluster
    present = record.find(cluster, name, namespace)
    time = session.now().strftime(TIME)
    back = backwards.prepare(cluster, target.releases, present, number=number, time=time)
    if dry_run:
        session.emit({"changes": back.changes.document(), "revision": back.goal.number}, back.changes.text())
        return
    for line in back.changes.text().splitlines():
        session.reporter.note(line)
    if not yes:
        ask(f"Go back to revision {back.goal.number}, {back.note.bundle} {back.note.version}?")
    place = as_recorded(back.goal.access, backwards.credentials(cluster, back.goal))
    registry = None if back.goal.access.on_nodes else registry_at(session, place)
    held = means(session, target, timeout, held_in(session, place) if registry else None)
    done = backwards.carry_out(back, held, registry, take_over=take_over)
    report(session, done, back.changes)


@click.command()
@common
@cluster_options
@name_options
def history(session: Session, target: Any, name: str, namespace: str) -> None:
    """List what has been installed, newest last: what `rollback` can go back to.

    \b
    Example: ./wandb-installer history
    """
    from installer.workflows import history as past
    from installer.workflows import record

    found = past.read(target.cluster, record.find(target.cluster, name, namespace))
    session.emit([item.document() for item in found.revisions], "\n".join(item.line() for item in found.revisions))


@click.command()
@common
@cluster_options
@name_options
def status(session: Session, target: Any, name: str, namespace: str) -> None:
    """Tell what is installed, whether all of it runs, and if not, why. Needs no bundle.

    \b
    Example: ./wandb-installer status
    Exit code 0: everything runs; 32: something does not, and the reason is printed.
    """
    from installer.cli.recorded_registry import held_as_recorded
    from installer.workflows import record
    from installer.workflows.status import status as look

    note = record.find(target.cluster, name, namespace)
    found = look(target.cluster, note, held_as_recorded(session, target.cluster, note))
    session.emit(found.document(), found.text())
    found.require()


@click.command()
@common
@cluster_options
@name_options
@timeout_option
def wait(session: Session, target: Any, name: str, namespace: str, timeout: int) -> None:
    """Wait until everything runs, like `install` does at its end. Needs no bundle and changes nothing.

    \b
    Example: ./wandb-installer wait --timeout 600
    Exit code 0: everything runs; 32: something does not, or cannot any more, and the reason is printed.
    """
    from installer.cli.recorded_registry import held_as_recorded
    from installer.diagnosis.wait import Patience
    from installer.workflows import record
    from installer.workflows.status import until_ready

    note = record.find(target.cluster, name, namespace)
    holds = held_as_recorded(session, target.cluster, note)
    found = until_ready(target.cluster, note, Patience(timeout, session.reporter, holds=holds))
    session.emit(found.document(), found.text())
    found.require()


@click.command()
@common
@cluster_options
@name_options
@click.option("--delete-data", is_flag=True, help="Delete the volume claims and Secrets too; they are listed first.")
@click.option("--delete-crds", is_flag=True, help="Delete the CustomResourceDefinitions too, unless others use them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout_option
def uninstall(
    session: Session,
    target: Any,
    name: str,
    namespace: str,
    timeout: int,
    *,
    delete_data: bool,
    delete_crds: bool,
    yes: bool,
) -> None:
    """Remove the application and the operator. Data stays: volumes and Secrets are listed, not deleted.

    \b
    Examples:
      ./wandb-installer uninstall
      ./wandb-installer uninstall --delete-data --delete-crds
    """
    from installer.workflows import record
    from installer.workflows.uninstall import data_of
    from installer.workflows.uninstall import uninstall as remove

    found = record.find(target.cluster, name, namespace)
    if delete_data:
        for item in data_of(target.cluster, found):
            if item.ours:
                session.reporter.note(f"will be deleted for good: {item}")
    if not yes:
        also = " AND ALL ITS DATA" if delete_data else ""
        ask(f"Remove {found.bundle} {found.version}{also} from namespace {found.namespace}?")
    done = remove(means(session, target, timeout), found, data=delete_data, crds=delete_crds)
    lines = [*(f"kept {item}" for item in done.kept), f"{found.bundle} {found.version} is removed"]
    session.emit({"removed": list(done.removed), "kept": list(done.kept)}, "\n".join(lines))
