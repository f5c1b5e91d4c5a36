"""Waiting for the controller to deploy the platform."""

from collections.abc import Iterable, Mapping
from typing import Any

from installer.apps.wandb import controller
from installer.apps.wandb.refusals import UNEXPLAINED, refusal
from installer.cluster.cluster import Cluster
from installer.cluster.workload import ReleaseName, workloads
from installer.diagnosis import diagnosis
from installer.diagnosis.wait import AGAIN, Patience, consider, pending_hooks
from installer.errors import NotReadyError

LOG_ATTEMPTS = 3


def until_installed(
    cluster: Cluster,
    resource: Mapping[str, Any],
    since: str,
    operator: ReleaseName,
    hooks: Iterable[str],
    patience: Patience,
) -> None:
    """Wait until the W&B controller has deployed the release of `resource`, the object as we applied it.

    `since` as for `controller.verdict`, `hooks` as for `pending_hooks`. Raises NotReadyError with the controller's own
    words if it refuses, or with what it hangs on: hook Jobs, or its own pods.
    """
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    what, attempts = f"custom resource {namespace}/{name}", 0

    def look() -> bool:
        nonlocal attempts
        found = controller.verdict(cluster, resource, since)
        patience.state(f"{what}: {found.state}")
        if found.installed:
            return True
        pending = pending_hooks(cluster, ReleaseName(name, namespace), hooks)
        if found.refused:
            cause = refusal(cluster, operator, ReleaseName(name, namespace))
            # The controller writes the phase first, and why into its log after that.
            if cause.cause == UNEXPLAINED and (attempts := attempts + 1) <= LOG_ATTEMPTS:
                return False
            more = [f"\n  {each}" for item in pending for each in diagnosis.causes(cluster, item, patience.holds)]
            raise NotReadyError(f"{what}: {found.state}: {cause.detail}{''.join(more)}", hint=f"{cause.next} {AGAIN}")
        missing = [*pending, *(item for item in workloads(cluster, operator) if not item.ready)]
        if missing:
            consider(cluster, what, missing, patience)
        elif patience.over():
            said = controller.complaint(cluster, operator, name)
            raise NotReadyError(
                f"{what}: {found.state}{f'; the controller says: {said}' if said else ''}",
                hint=f"read the controller's log in namespace {operator.namespace}; {AGAIN}",
            )
        return False

    while not patience.asked(look):
        patience.rest()
