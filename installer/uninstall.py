"""Take an installation out of the cluster, whatever state it is in, and say what stays.

The custom resource goes first, while its controller can still tidy up. A finalizer that nobody will ever remove is
removed here, but only once there is no Helm release left that it protects: the controller insists on uninstalling a
release even if there never was one, or if it cannot read its chart any more.
"""

from collections.abc import Callable
from dataclasses import dataclass

from installer import chart_configmap, controller, history
from installer.chart.releases import Releases
from installer.controller import CUSTOM_RESOURCE, FINALIZER
from installer.errors import NotReadyError
from installer.kube import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, JOB, SECRET, VOLUME_CLAIM, Cluster, Object, describe
from installer.record import PREFIX, InstalledChart, Record
from installer.wait import AGAIN, Patience
from installer.workload import ReleaseName, of_release, workloads

# The controller needs a moment even when all is well; only then is its silence a sign.
GRACE_SECONDS = 15.0
HOOK_SECONDS = 120
# In the controller's complaints: it cannot remove the release, or not read the chart that it wants for that.
_SIGNS = ("uninstall", "refused", "no such", "not found", "timeout", "deadline", "no route", "unreachable", "download")


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed, in order, and what stays on purpose, each with the reason."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]


def uninstall(cluster: Cluster, releases: Callable[[str], Releases], record: Record, patience: Patience) -> Removal:
    """Remove what `record` describes. Run again after an interruption, it goes on.

    Raises ClusterError if an object cannot be removed, NotReadyError if the time does not suffice.
    """
    removed: list[str] = []

    def note(what: str) -> None:
        removed.append(what)
        patience.reporter.note(f"removed {what}")

    platform, operator = record.platform, record.operator
    if platform and operator and _remove_resource(cluster, releases, platform.name, operator, patience):
        note(f"{CUSTOM_RESOURCE.name} {platform.name}")
    _remove_releases(cluster, releases, record, patience, note)
    kept = _kept(cluster, record)
    if record.operator and _remove_charts(cluster, record.operator.namespace):
        note(f"ConfigMap {record.operator.namespace}/{chart_configmap.CONFIG_MAP_NAME}")
    # The record goes last: until then a second run finds its way.
    own = ((SECRET, history.secret_name(record.bundle)), (CONFIG_MAP, f"{PREFIX}{record.bundle}"))
    for kind, name in own:
        if cluster.delete(kind, name, record.namespace):
            note(f"{kind.name} {record.namespace}/{name}")
    return Removal(tuple(removed), tuple(kept))


def _remove_releases(
    cluster: Cluster,
    releases: Callable[[str], Releases],
    record: Record,
    patience: Patience,
    note: Callable[[str], None],
) -> None:
    """Remove what Helm installed from here, the last one first, and what it leaves behind."""
    for chart in reversed(record.charts):
        seconds = max(int(patience.left()), HOOK_SECONDS)
        if releases(chart.namespace).uninstall(chart.release, timeout=seconds):
            note(f"release {chart.name}")
    # Helm leaves the Jobs of its hooks where a chart does not say otherwise.
    for chart in record.all_charts:
        for name in chart.hooks:
            if cluster.delete(JOB, name, chart.namespace):
                note(f"Job {chart.namespace}/{name}")


def _remove_resource(
    cluster: Cluster,
    releases: Callable[[str], Releases],
    name: ReleaseName,
    operator: InstalledChart,
    patience: Patience,
) -> bool:
    """Delete the custom resource and see it gone; False if there was none."""
    if cluster.get(CUSTOM_RESOURCE, name.name, name.namespace) is None:
        return False
    cluster.delete(CUSTOM_RESOURCE, name.name, name.namespace)
    start = patience.clock()
    while held := cluster.get(CUSTOM_RESOURCE, name.name, name.namespace):
        release = controller.release_status(cluster, name.name, name.namespace)
        patience.state(f"{describe(held)}: being deleted; Helm release: {release or 'none left'}")
        if patience.clock() - start >= GRACE_SECONDS:
            if not release:
                _release_finalizer(cluster, held, patience)
            elif stuck := _stuck(cluster, name, operator.name):
                patience.reporter.note(f"removing release {name} without the controller: {stuck}")
                releases(name.namespace).uninstall(name.name, timeout=HOOK_SECONDS)
        if patience.over():
            raise NotReadyError(f"{describe(held)} is not deleted in time", hint=AGAIN)
        patience.rest()
    return True


def _stuck(cluster: Cluster, name: ReleaseName, operator: ReleaseName) -> str:
    """Why the controller will not remove the release; empty while it may still be at work."""
    running = [item for item in workloads(cluster, operator) if item.ready]
    if not running:
        return "it does not run"
    said = controller.complaint(cluster, operator, name.name)
    return said if any(sign in said.lower() for sign in _SIGNS) else ""


def _release_finalizer(cluster: Cluster, held: Object, patience: Patience) -> None:
    """Take the controller's finalizer off; those of others stay."""
    metadata = held["metadata"]
    finalizers = metadata.get("finalizers") or []
    if FINALIZER not in finalizers:
        return
    patience.reporter.note(f"{describe(held)}: no release exists; removing the finalizer {FINALIZER}")
    rest = [item for item in finalizers if item != FINALIZER]
    change = {"metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}}
    cluster.merge(CUSTOM_RESOURCE, metadata["name"], metadata["namespace"], change)


def _remove_charts(cluster: Cluster, namespace: str) -> bool:
    held = cluster.get(CONFIG_MAP, chart_configmap.CONFIG_MAP_NAME, namespace)
    if held is None or not chart_configmap.is_ours(held):
        return False
    return cluster.delete(CONFIG_MAP, chart_configmap.CONFIG_MAP_NAME, namespace)


def _kept(cluster: Cluster, record: Record) -> list[str]:
    """What is left on purpose: data, keys, and what others may share."""
    kept = []
    for place in record.secrets:
        namespace, _, name = place.partition("/")
        if cluster.get(SECRET, name, namespace) is not None:
            kept.append(f"Secret {place} (given by the site)")
    for chart in record.all_charts:
        kept += _left(cluster, chart.name)
    if record.operator and cluster.get(CUSTOM_RESOURCE_DEFINITION, f"{CUSTOM_RESOURCE.plural}.{CUSTOM_RESOURCE.group}"):
        kept.append(f"CustomResourceDefinition {CUSTOM_RESOURCE.plural}.{CUSTOM_RESOURCE.group} (others may use it)")
    kept += [f"Namespace {name}" for name in sorted({chart.namespace for chart in record.all_charts})]
    return kept


def _left(cluster: Cluster, release: ReleaseName) -> list[str]:
    """Volume claims hold data, and Secrets the keys to it: a new installation needs both."""
    reasons = {VOLUME_CLAIM: "holds data", SECRET: "holds keys that a new installation needs"}
    return [
        f"{kind.name} {release.namespace}/{item['metadata']['name']} ({reason})"
        for kind, reason in reasons.items()
        for item in cluster.find(kind, release.namespace)
        if of_release(item, release) or _labelled(item, release)
    ]


def _labelled(item: Object, release: ReleaseName) -> bool:
    labels = item["metadata"].get("labels") or {}
    return bool(labels.get("app.kubernetes.io/instance") == release.name)
