"""What the commands that change a cluster share: the question before, the means, the report afterwards."""

import click

from installer.cli.target import Target
from installer.diagnosis.diagnosis import unknown
from installer.diagnosis.image_pull import Holds
from installer.diagnosis.wait import Patience
from installer.shell import Session
from installer.value import plain
from installer.workflows.changes import Changes
from installer.workflows.install import Installation
from installer.workflows.lease import Holder, Means


def ask(question: str) -> None:
    """Go on only if the user says yes."""
    click.confirm(question, abort=True, err=True)


def time_of(session: Session) -> str:
    """Now, as records and histories have it."""
    return session.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def means(session: Session, target: Target, timeout: int, holds: Holds = unknown) -> Means:
    """With what the cluster is changed, and by whom; at most `timeout` seconds are waited; `holds` as in Patience."""
    patience = Patience(timeout, session.reporter, holds=holds)
    return Means(target.cluster, target.releases, patience, Holder.this_process(), session.now)


def report(session: Session, done: Installation, changes: Changes) -> None:
    """Print what an installation, an upgrade or a rollback has done."""
    changed = [f"changed {what}" for what in done.changed] or ["nothing had to be changed"]
    ready = [f"{item}: {item.state}" for item in done.workloads]
    document = {
        "installation": plain(done.record),
        "changed": list(done.changed),
        "changes": changes.document(),
        "workloads": [{"workload": str(item), "ready": item.ready, "state": item.state} for item in done.workloads],
    }
    session.emit(document, "\n".join([*changed, "", *ready, "", f"{done.record.bundle} {done.record.version} runs"]))
