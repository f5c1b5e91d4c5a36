"""The W&B operator: installed by Helm, and running with the chart at hand."""

from collections.abc import Iterable

from installer.apps.wandb.controller import CUSTOM_RESOURCE, INVALID
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import POD, SECRET
from installer.cluster.managed_fields import change_time
from installer.cluster.release_record import forget_pending, release_status
from installer.cluster.workload import ReleaseName, condition, pods_of, workloads
from installer.diagnosis.wait import AGAIN, Patience, until_rolled_out
from installer.errors import NotReadyError

# Some hooks in a row, each with the 30 s that the controller gives it.
BUSY_SECONDS = 180.0
# Helm's words (pkg/action) for a release that is pending.
PENDING = "another operation"


def until_seen(cluster: Cluster, operator: ReleaseName, config_maps: Iterable[Object], patience: Patience) -> None:
    """Wait until every pod of the operator runs with the content of `config_maps`, which it mounts, as they are held.

    A kubelet renews a mounted ConfigMap after a minute or so, and nothing tells when; certificates are read only
    once. A new pod starts with what there is. So pods that are older than the last change are replaced.
    Raises NotReadyError.
    """
    renew(cluster, operator, max(map(change_time, config_maps), default=""), patience)


def wake(cluster: Cluster, operator: ReleaseName, patience: Patience) -> str:
    """Make the controller look again at a custom resource that it has refused: it does so only when it starts.

    Returns the time of its new pod, by the clock of the API server. Raises NotReadyError.
    """
    former = max((_created(pod) for pod in _pods(cluster, operator)), default="")
    for pod in _pods(cluster, operator):
        cluster.delete(POD, pod["metadata"]["name"], operator.namespace)
    renew(cluster, operator, former, patience)
    return min((_created(pod) for pod in _pods(cluster, operator)), default=former)


def renew(cluster: Cluster, operator: ReleaseName, since: str, patience: Patience) -> None:
    """Replace the operator's pods that were made before `since` and wait for the others. Raises NotReadyError."""
    while True:
        until_rolled_out(cluster, operator, patience)
        pods = _pods(cluster, operator)
        outdated = [pod for pod in pods if _created(pod) < since]
        if pods and not outdated and all(condition(pod, "Ready").get("status") == "True" for pod in pods):
            return
        for pod in outdated:
            patience.reporter.note(
                f"{operator}: replacing pod {pod['metadata']['name']}, which is older than what it mounts"
            )
            cluster.delete(POD, pod["metadata"]["name"], operator.namespace)
        if patience.over():
            raise NotReadyError(f"release {operator}: its pods are not replaced in time", hint=AGAIN)
        patience.rest()


def _pods(cluster: Cluster, operator: ReleaseName) -> list[Object]:
    return [pod for part in workloads(cluster, operator) for pod in pods_of(cluster, part)]


def _created(pod: Object) -> str:
    """When the pod was made, by the clock of the API server; when it started is known by the clock of its node only."""
    return str(pod["metadata"]["creationTimestamp"])


def settle(cluster: Cluster, operator: ReleaseName, release: ReleaseName, patience: Patience) -> bool:
    """End a change of `release` that the controller has begun and will never finish; whether there was one.

    Helm refuses every further change of a release that is pending. The controller leaves it so when it is ended
    meanwhile, or when a hook takes too long. One that is still at work is waited for. Raises NotReadyError.
    """
    start = patience.clock()
    while (status := _pending(cluster, release)) and _at_work(cluster, operator, release):
        if patience.over():
            raise NotReadyError(f"release {release}: an earlier change goes on ({status})", hint=AGAIN)
        if patience.clock() - start >= BUSY_SECONDS:
            wake(cluster, operator, patience)
            continue
        patience.state(f"release {release}: an earlier change goes on ({status})")
        patience.rest()
    if not status:
        return False
    patience.reporter.note(f"release {release}: was left {status} by a change that broke off; taking that back")
    forget_pending(cluster, release.name, release.namespace)
    return True


def _pending(cluster: Cluster, release: ReleaseName) -> str:
    status = release_status(cluster, release.name, release.namespace)
    return status if status.startswith("pending-") else ""


def _at_work(cluster: Cluster, operator: ReleaseName, release: ReleaseName) -> bool:
    """Whether the controller may still be busy with the change that made `release` pending."""
    resource = cluster.get(CUSTOM_RESOURCE, release.name, release.namespace)
    if resource is None or (resource.get("status") or {}).get("phase") == INVALID:
        return False
    secrets = cluster.find(SECRET, release.namespace, labels={"owner": "helm", "name": release.name})
    begun = max((str(item["metadata"]["creationTimestamp"]) for item in secrets), default="")
    return any(_created(pod) <= begun for pod in _pods(cluster, operator))
