"""What is wrong with a release as a whole: Helm's record of it, the W&B controller's refusal, the kind it needs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from installer.cluster import controller
from installer.cluster.cluster import Cluster, Object
from installer.cluster.controller import CUSTOM_RESOURCE
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, POD
from installer.cluster.workload import ReleaseName, pods_of, workloads
from installer.diagnosis.cause import Cause, brief
from installer.errors import ClusterError

MAX_DETAIL = 1200
UNEXPLAINED = "controller-silent"
_CHART_FILE = re.compile(r"(?:open|stat|lstat) (/charts/\S+?):? no such file", re.IGNORECASE)
_INSTALL = "run `install` again:"
# What the controller says (Helm's words mostly), in lower case; the cause, and the next step.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        "another operation",
        "release-pending",
        f"{_INSTALL} it ends what an interrupted controller has left, and wakes the controller.",
    ),
    (
        "hooks failed",
        "hook-failed",
        f"mend what the hook Job lacks, then {_INSTALL} it wakes the controller.",
    ),
    (
        "failed to download",
        "chart-source-silent",
        (
            f"pods must reach that address (--serve-address names another one of this host); {_INSTALL} it brings the "
            "chart to a lasting place where there is one."
        ),
    ),
    (
        "failed to pull chart",
        "chart-source-silent",
        (
            "pods must reach the registry, trust it (registry.ca in site.yaml) and log in (registry.credentials); "
            f"{_INSTALL} it wakes the controller."
        ),
    ),
    # The API server calls these forbidden, too.
    (
        "exceeded quota",
        "quota",
        f"have the quota raised, or ask for less in the values of site.yaml, then {_INSTALL} it wakes the controller.",
    ),
    (
        "failed quota",
        "quota",
        f"set what the quota asks for in the values of site.yaml, then {_INSTALL} it wakes the controller.",
    ),
    (
        "forbidden",
        "controller-forbidden",
        "the operator's service account may not do this: correct operator_values in site.yaml, or ask for the right.",
    ),
    (
        "invalid type for comparison",
        "chart-too-early",
        f"the chart reads a status that was not there yet; {_INSTALL} it wakes the controller.",
    ),
)
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
        step = f"{_INSTALL} it installs what is missing."
        return Cause("release-missing", where, "Helm knows of no such release", step)
    said = f"Helm calls it {status}: {_PENDING.get(status, 'it is not in service')}"
    kind = "release-pending" if status.startswith("pending-") else "release-failed"
    return Cause(kind, where, said, f"if nobody else is at work on it, {_INSTALL} it goes on from there.")


def resource_cause(cluster: Cluster, name: ReleaseName, operator: ReleaseName) -> Cause | None:
    """What is wrong with the custom resource `name`; None if its controller has not refused it."""
    where = f"{CUSTOM_RESOURCE.name} {name}"
    crd = cluster.get(CUSTOM_RESOURCE_DEFINITION, f"{CUSTOM_RESOURCE.plural}.{CUSTOM_RESOURCE.group}")
    if crd is not None and CUSTOM_RESOURCE.version not in _served(crd):
        return _foreign(crd, [CUSTOM_RESOURCE.version])
    held = cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
    if held is None:
        return Cause("resource-missing", where, "does not exist", f"{_INSTALL} it applies it.")
    if (held.get("status") or {}).get("phase") != controller.INVALID:
        return None
    return refusal(cluster, operator, name)


def refusal(cluster: Cluster, operator: ReleaseName, name: ReleaseName) -> Cause:
    """Why the controller has refused the custom resource `name`, by its own log."""
    said = brief(controller.complaint(cluster, operator, name.name), MAX_DETAIL)
    where = f"{CUSTOM_RESOURCE.name} {name}"
    if missing := _CHART_FILE.search(said):
        pods = [pod["metadata"]["name"] for part in workloads(cluster, operator) for pod in pods_of(cluster, part)]
        where = f"{POD.name.lower()} {operator.namespace}/{pods[0]}" if pods else f"release {operator}"
        step = f"{_INSTALL} it brings the chart into the operator's pod and wakes the controller."
        return Cause("chart-file-missing", where, f"has no chart at {missing[1]}; it says: {said}", step)
    for sign, cause, step in _REFUSALS:
        if sign in said.lower():
            return Cause(cause, where, f"the controller says: {said}", step)
    step = f"correct the values in site.yaml, then {_INSTALL} the controller does not try again by itself."
    if not said:
        return Cause(UNEXPLAINED, where, "the controller refuses it, and its log does not say why", step)
    return Cause("controller-refuses", where, f"the controller says: {said}", step)


def require_own_kinds(cluster: Cluster, crds: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to take a CustomResourceDefinition back to what an older chart knows.

    Objects may be stored in the versions that would vanish. Raises ClusterError, before anything is written.
    """
    for crd in crds:
        held = cluster.get(CUSTOM_RESOURCE_DEFINITION, crd["metadata"]["name"])
        if held is None:
            continue
        ours = {version["name"] for version in crd["spec"]["versions"]}
        theirs = {*_served(held), *((held.get("status") or {}).get("storedVersions") or [])}
        if theirs - ours:
            cause = _foreign(held, sorted(ours))
            raise ClusterError(f"{cause.object}: {cause.detail}", hint=cause.next)


def _foreign(held: Object, ours: Sequence[str]) -> Cause:
    name, theirs = held["metadata"]["name"], sorted(_served(held))
    return Cause(
        "custom-kind-foreign",
        f"{CUSTOM_RESOURCE_DEFINITION.name} {name}",
        f"is of another version: it serves {', '.join(theirs) or 'none'}, and this program needs {', '.join(ours)}",
        "use a bundle whose operator is as new as the one that brought it, or remove that operator and its "
        "CustomResourceDefinition first, with the objects in it.",
    )


def _served(crd: Mapping[str, Any]) -> set[str]:
    return {version["name"] for version in crd["spec"].get("versions") or [] if version.get("served")}
