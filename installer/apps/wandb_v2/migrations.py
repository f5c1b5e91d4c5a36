"""Jobs of database migrations that stand in the way of a change.

The operator calls them by the resource and the migration, without the version (internal/controller/reconciler,
`runMigrations`). So one that has failed keeps every later version waiting, one that was made for another version counts
as that of the present one, and whatever it is, its image stays that of its first try.
"""

from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.kinds import JOB
from installer.cluster.workload import ReleaseName, condition
from installer.diagnosis.wait import AGAIN, Patience
from installer.errors import NotReadyError
from installer.workflows.actions import Actions

_COMPONENT = {"app.kubernetes.io/component": "migration"}


def until_none_runs(cluster: Cluster, name: ReleaseName, patience: Patience) -> None:
    """Wait until no migration is at work for the resource `name`: its success would count as that of another version.

    Raises NotReadyError if one goes on for too long.
    """
    while running := [item for item in _jobs(cluster, name) if _works(item)]:
        what = f"{describe(running[0])}: migrates the database"
        patience.state(f"{what}; waiting for its end")
        if patience.over():
            raise NotReadyError(f"{what}, and a change now would hide how it ends", hint=AGAIN)
        patience.rest()


def clear(actions: Actions, name: ReleaseName, since: str) -> None:
    """Delete the migrations of the resource `name` that have failed, and those made before `since`, its last change.

    The operator makes them anew, with the images of the present version.
    """
    cluster, patience = actions.cluster, actions.patience
    for item in _jobs(cluster, name):
        failed = condition(item, "Failed").get("status") == "True"
        if not failed and str(item["metadata"]["creationTimestamp"]) >= since:
            continue
        why = "has failed" if failed else "is of an earlier change"
        patience.reporter.note(f"{describe(item)}: {why}; removing it, so that it is made anew")
        uid, metadata = item["metadata"]["uid"], item["metadata"]
        cluster.delete(JOB, metadata["name"], metadata["namespace"])
        while (left := cluster.get(JOB, metadata["name"], metadata["namespace"])) and left["metadata"]["uid"] == uid:
            patience.state(f"{describe(item)}: being deleted")
            if patience.over():
                raise NotReadyError(f"{describe(item)} is not deleted in time", hint=AGAIN)
            patience.rest()


def _jobs(cluster: Cluster, name: ReleaseName) -> list[Object]:
    labels = {**_COMPONENT, "app.kubernetes.io/instance": name.name}
    return cluster.find(JOB, name.namespace, labels=labels)


def _works(job: Object) -> bool:
    """Whether its program runs: a pod that waits for its image has done nothing yet."""
    return int((job.get("status") or {}).get("ready") or 0) > 0
