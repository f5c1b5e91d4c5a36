"""The command `uninstall`."""

import click

from installer.cli.cluster.mutation import ask, means
from installer.cli.options import Installation, dry_run_option, installation_options, timeout_option, yes_option
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.shell import Session
from installer.workflows import record
from installer.workflows.phases import described, documents
from installer.workflows.uninstall import data_of, phases
from installer.workflows.uninstall import uninstall as remove


@click.command(cls=Command)
@cluster_options
@installation_options
@click.option("--delete-data", is_flag=True, help="Delete the volume claims and Secrets too; they are listed first.")
@click.option("--delete-crds", is_flag=True, help="Delete the CustomResourceDefinitions too, unless others use them.")
@dry_run_option
@yes_option
@timeout_option
def uninstall(
    session: Session,
    *,
    cluster: ClusterChoice,
    installation: Installation,
    delete_data: bool,
    delete_crds: bool,
    dry_run: bool,
    yes: bool,
    timeout: int,
) -> None:
    """Remove the application, the last step first. Data stays: volumes and Secrets are listed, not deleted.

    \b
    Examples:
      PROGRAM uninstall
      PROGRAM uninstall --delete-data --delete-crds
    """
    target = cluster.target(session)
    found = record.find(target.cluster, installation.name, installation.namespace)
    if delete_data:
        for item in data_of(target.cluster, found):
            if item.ours:
                session.reporter.note(f"will be deleted for good: {item}")
    if dry_run:
        todo = phases(found, data=delete_data)
        session.emit({"phases": documents(todo)}, described(todo))
        return
    if not yes:
        also = " AND ALL ITS DATA" if delete_data else ""
        ask(f"Remove {found.bundle} {found.version}{also} from namespace {found.namespace}?")
    done = remove(means(session, target, timeout), found, data=delete_data, crds=delete_crds)
    lines = [*(f"kept {item}" for item in done.kept), f"{found.bundle} {found.version} is removed"]
    session.emit({"removed": list(done.removed), "kept": list(done.kept)}, "\n".join(lines))
