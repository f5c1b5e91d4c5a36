"""What is wrong with a release as a whole: Helm's record of it, or a kind that it needs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION
from installer.cluster.release_record import HeldRelease
from installer.cluster.workload import ReleaseName
from installer.diagnosis.cause import Cause
from installer.errors import ClusterError

INSTALL = "run `install` again:"
_PENDING = {
    "pending-install": "its first installation is under way, or was interrupted",
    "pending-upgrade": "an upgrade is under way, or was interrupted",
    "pending-rollback": "a rollback is under way, or was interrupted",
    "uninstalling": "it is being removed, or the removal was interrupted",
    "failed": "Helm could not finish it",
}


def helm_cause(release: ReleaseName, status: str) -> Cause | None:
    """What Helm's word on the newest revision of `release` means; None if it is deployed."""
    if status == "deployed":
        return None
    where = f"release {release}"
    if not status:
        step = f"{INSTALL} it installs what is missing."
        return Cause("release-missing", where, "Helm knows of no such release", step)
    said = f"Helm calls it {status}: {_PENDING.get(status, 'it is not in service')}"
    kind = "release-pending" if status.startswith("pending-") else "release-failed"
    return Cause(kind, where, said, f"if nobody else is at work on it, {INSTALL} it goes on from there.")


def chart_cause(release: ReleaseName, held: HeldRelease, chart: str, version: str) -> Cause | None:
    """What it means that Helm holds another chart for `release` than the installation's own record has; None if it
    does not."""
    if not held.chart or (held.chart, held.version) == (chart, version):
        return None
    said = f"Helm has chart {held.chart} {held.version}; the record of this installation has {chart} {version}"
    step = f"if nobody else has changed it on purpose, {INSTALL} it brings the chart of its bundle."
    return Cause("release-differs", f"release {release}", said, step)


def require_own_kinds(cluster: Cluster, crds: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to take a CustomResourceDefinition back to what an older chart knows.

    Objects may be stored in the versions that would vanish. Raises ClusterError, before anything is written.
    """
    for crd in crds:
        held = cluster.get(CUSTOM_RESOURCE_DEFINITION, crd["metadata"]["name"])
        if held is None:
            continue
        ours = {version["name"] for version in crd["spec"]["versions"]}
        theirs = {*served(held), *((held.get("status") or {}).get("storedVersions") or [])}
        if theirs - ours:
            cause = foreign_kind(held, sorted(ours))
            raise ClusterError(f"{cause.object}: {cause.detail}", hint=cause.next)


def foreign_kind(held: Object, ours: Sequence[str]) -> Cause:
    """The cause where the CustomResourceDefinition `held` is of another version than `ours`."""
    name, theirs = held["metadata"]["name"], sorted(served(held))
    return Cause(
        "custom-kind-foreign",
        f"{CUSTOM_RESOURCE_DEFINITION.name} {name}",
        f"is of another version: it serves {', '.join(theirs) or 'none'}, and this program needs {', '.join(ours)}",
        "use a bundle whose operator is as new as the one that brought it, or remove that operator and its "
        "CustomResourceDefinition first, with the objects in it.",
    )


def served(crd: Mapping[str, Any]) -> set[str]:
    """The versions that a CustomResourceDefinition serves."""
    return {version["name"] for version in crd["spec"].get("versions") or [] if version.get("served")}
