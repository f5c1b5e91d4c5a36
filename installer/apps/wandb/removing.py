"""The custom resource removed, whatever state its controller is in.

A finalizer that nobody will ever remove is removed here, but only once there is no Helm release left that it protects:
the controller insists on uninstalling a release even if there never was one, or if it cannot read its chart any more.
"""

from collections.abc import Callable
from contextlib import suppress

from installer.apps.wandb import controller
from installer.apps.wandb.chart_source import configmap
from installer.apps.wandb.controller import CLEANUP_FAILED, CUSTOM_RESOURCE, FINALIZER
from installer.chart.releases import Releases
from installer.cluster.cluster import FIELD_MANAGER, AbsentError, Cluster, ConflictError, Object, describe
from installer.cluster.kinds import CONFIG_MAP
from installer.cluster.managed_fields import applies
from installer.cluster.release_record import release_status
from installer.cluster.workload import ReleaseName, workloads
from installer.diagnosis.wait import AGAIN, Patience
from installer.errors import NotReadyError

# The controller needs a moment even when all is well; only then is its silence a sign.
GRACE_SECONDS = 15.0
HOOK_SECONDS = 120


def remove_resource(
    cluster: Cluster,
    releases: Callable[[str], Releases],
    name: ReleaseName,
    operator: ReleaseName,
    patience: Patience,
) -> bool:
    """Delete the custom resource and see it gone; False if there was none. Raises NotReadyError."""
    if cluster.get(CUSTOM_RESOURCE, name.name, name.namespace) is None:
        return False
    cluster.delete(CUSTOM_RESOURCE, name.name, name.namespace)
    start = seen = patience.clock()
    while held := cluster.get(CUSTOM_RESOURCE, name.name, name.namespace):
        release = release_status(cluster, name.name, name.namespace)
        patience.state(f"{describe(held)}: being deleted; Helm release: {release or 'none left'}")
        now = patience.clock()
        if not release:
            # Whoever has just removed the release is about to take its finalizer off.
            if now - seen >= GRACE_SECONDS:
                _release_finalizer(cluster, held, patience)
        elif now - start >= GRACE_SECONDS and (stuck := _stuck(cluster, name, operator)):
            patience.reporter.note(f"removing release {name} without the controller: {stuck}")
            releases(name.namespace).uninstall(name.name, timeout=HOOK_SECONDS)
            # No last step of anybody else is to be waited for.
            seen = start
        else:
            seen = now
        if patience.over():
            raise NotReadyError(f"{describe(held)} is not deleted in time", hint=AGAIN)
        patience.rest()
    return True


def remove_chart_file(cluster: Cluster, namespace: str, note: Callable[[str], None]) -> list[str]:
    """Remove the ConfigMap of charts; of one that others have a part in only ours, and it is said that it stays."""
    name = configmap.CONFIG_MAP_NAME
    held = cluster.get(CONFIG_MAP, name, namespace)
    if held is None or not applies(FIELD_MANAGER, held):
        return []
    # What one has applied before and does not apply any more is removed, unless others own it, too.
    left = cluster.apply(configmap.without_charts(namespace))
    if configmap.is_ours(held) and not (left.get("data") or left.get("binaryData")):
        cluster.delete(CONFIG_MAP, name, namespace)
        note(f"ConfigMap {namespace}/{name}")
        return []
    note(f"our charts in ConfigMap {namespace}/{name}")
    return [f"ConfigMap {namespace}/{name} (made or used by others)"]


def _stuck(cluster: Cluster, name: ReleaseName, operator: ReleaseName) -> str:
    """Why the controller will not remove the release; empty while it may still be at work."""
    running = [item for item in workloads(cluster, operator) if item.ready]
    if not running:
        return "it does not run"
    said = controller.complaint(cluster, operator, name.name)
    # Its last complaint may still be about the change before, with which it is not done yet.
    return said if said.startswith(CLEANUP_FAILED) else ""


def _release_finalizer(cluster: Cluster, held: Object, patience: Patience) -> None:
    """Take the controller's finalizer off; those of others stay."""
    metadata = held["metadata"]
    finalizers = metadata.get("finalizers") or []
    if FINALIZER not in finalizers:
        return
    patience.reporter.note(f"{describe(held)}: no release exists; removing the finalizer {FINALIZER}")
    rest = [item for item in finalizers if item != FINALIZER]
    change = {"metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}}
    # The controller may have come first after all; the next look tells.
    with suppress(AbsentError, ConflictError):
        cluster.merge(CUSTOM_RESOURCE, metadata["name"], metadata["namespace"], change)
