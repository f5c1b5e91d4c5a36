"""What the commands that change a cluster share: the question before, the means, the report afterwards."""

from typing import Any

import click

from installer.shell import Session

TIME = "%Y-%m-%dT%H:%M:%SZ"


def ask(question: str) -> None:
    """Go on only if the user says yes."""
    click.confirm(question, abort=True, err=True)


def means(session: Session, target: Any, timeout: int, holds: Any = None) -> Any:
    """With what the cluster is changed, and by whom; at most `timeout` seconds are waited; `holds` as in Patience."""
    from installer.diagnosis.wait import Patience
    from installer.workflows.lease import Means
    from installer.workflows.lock_owner import Holder

    patience = Patience(timeout, session.reporter, **({"holds": holds} if holds else {}))
    return Means(target.cluster, target.releases, patience, Holder.this_process(), session.now)


def report(session: Session, done: Any, changes: Any) -> None:
    """Print what an installation, an upgrade or a rollback has done."""
    from installer.value import plain

    changed = [f"changed {what}" for what in done.changed] or ["nothing had to be changed"]
    ready = [f"{item}: {item.state}" for item in done.workloads]
    document = {
        "installation": plain(done.record),
        "changed": list(done.changed),
        "changes": changes.document(),
        "workloads": [{"workload": str(item), "ready": item.ready, "state": item.state} for item in done.workloads],
    }
    session.emit(document, "\n".join([*changed, "", *ready, "", f"{done.record.bundle} {done.record.version} runs"]))
