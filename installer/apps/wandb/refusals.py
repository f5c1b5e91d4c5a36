"""Why the controller refuses a custom resource: its log, with a cause and the next step."""

import re

from installer.apps.wandb import controller
from installer.apps.wandb.controller import CUSTOM_RESOURCE
from installer.chart.releases import RIGHT_LACKING
from installer.cluster.cluster import Cluster
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, POD
from installer.cluster.workload import ReleaseName, pods_of, workloads
from installer.diagnosis.cause import Cause, brief
from installer.diagnosis.release_state import INSTALL, foreign_kind, served

MAX_DETAIL = 1200
UNEXPLAINED = "controller-silent"
_CHART_FILE = re.compile(r"(?:open|stat|lstat) (/charts/\S+?):? no such file", re.IGNORECASE)
_FIXED = f"nobody can change this of what exists: take it back in site.yaml, then {INSTALL} it wakes the controller."
# What the controller says (Helm's words mostly), in lower case; the cause, and the next step.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        "another operation",
        "release-pending",
        f"{INSTALL} it ends what an interrupted controller has left, and wakes the controller.",
    ),
    (
        "hooks failed",
        "hook-failed",
        f"mend what the hook Job lacks, then {INSTALL} it wakes the controller.",
    ),
    (
        "failed to download",
        "chart-source-silent",
        (
            f"pods must reach that address (--serve-address names another one of this host); {INSTALL} it brings the "
            "chart to a lasting place where there is one."
        ),
    ),
    (
        "failed to pull chart",
        "chart-source-silent",
        (
            "pods must reach the registry, trust it (registry.ca in site.yaml) and log in (registry.credentials); "
            f"{INSTALL} it wakes the controller."
        ),
    ),
    (
        "exceeded quota",
        "quota",
        f"have the quota raised, or ask for less in the values of site.yaml, then {INSTALL} it wakes the controller.",
    ),
    (
        "failed quota",
        "quota",
        f"set what the quota asks for in the values of site.yaml, then {INSTALL} it wakes the controller.",
    ),
    (
        RIGHT_LACKING,
        "controller-forbidden",
        "the operator's service account may not do this: correct operator_values in site.yaml, or ask for the right.",
    ),
    # The fields that a StatefulSet never changes, and those of Jobs, claims and selectors.
    ("for fields other than", "field-immutable", _FIXED),
    ("field is immutable", "field-immutable", _FIXED),
    (
        "because it is being terminated",
        "namespace-terminating",
        f"wait until that namespace is gone; `preflight` tells what it waits for. Then {INSTALL} it makes it anew.",
    ),
    (
        "invalid type for comparison",
        "chart-too-early",
        f"the chart reads a status that was not there yet; {INSTALL} it wakes the controller.",
    ),
)


def resource_cause(cluster: Cluster, name: ReleaseName, operator: ReleaseName) -> Cause | None:
    """What is wrong with the custom resource `name`; None if its controller has not refused it."""
    where = f"{CUSTOM_RESOURCE.name} {name}"
    crd = cluster.get(CUSTOM_RESOURCE_DEFINITION, f"{CUSTOM_RESOURCE.plural}.{CUSTOM_RESOURCE.group}")
    if crd is not None and CUSTOM_RESOURCE.version not in served(crd):
        return foreign_kind(crd, [CUSTOM_RESOURCE.version])
    held = cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
    if held is None:
        return Cause("resource-missing", where, "does not exist", f"{INSTALL} it applies it.")
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
        step = f"{INSTALL} it brings the chart into the operator's pod and wakes the controller."
        return Cause("chart-file-missing", where, f"has no chart at {missing[1]}; it says: {said}", step)
    for sign, cause, step in _REFUSALS:
        if sign in said.lower():
            return Cause(cause, where, f"the controller says: {said}", step)
    step = f"correct the values in site.yaml, then {INSTALL} the controller does not try again by itself."
    if not said:
        return Cause(UNEXPLAINED, where, "the controller refuses it, and its log does not say why", step)
    return Cause("controller-refuses", where, f"the controller says: {said}", step)
