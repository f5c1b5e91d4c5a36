"""Namespaces in which nothing can be made: those that are being deleted, and those that nobody makes."""

import re
from collections.abc import Iterator
from typing import Any

from installer.chart.helm import hook_events
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import CONFIG_MAP, NAMESPACE, SECRET
from installer.diagnosis.cause import brief
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError
from installer.objects.desired import Desired, Resource
from installer.preflight.prerequisites import named

# Beside `namespace`, custom resources have fields such as `targetNamespace`.
_FIELD = re.compile(r"namespace$|Namespace$")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# Maps whose keys are anybody's words.
_FREE = frozenset({"metadata", "labels", "annotations", "matchLabels", "selector", "nodeSelector"})


def leaving(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Namespaces of ours that are being deleted, with what Kubernetes says of that.

    Source of the conditions: Kubernetes, pkg/controller/namespace/deletion/status_condition_utils.go.
    """
    for name in sorted(wanted.namespaces):
        held = cluster.get(NAMESPACE, name) or {"metadata": {}}
        if since := held["metadata"].get("deletionTimestamp"):
            conditions = (held.get("status") or {}).get("conditions") or []
            waits = [brief(item.get("message")) for item in conditions if item.get("status") == "True"]
            yield Finding(
                "; ".join([f"namespace {name} is being deleted since {since}", *waits]),
                "wait until it is gone; what still has finalizers must be let go by its own controller.",
                ClusterError,
            )


def unmade(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Namespaces that objects name in their fields, or hooks of a later day for themselves, and that nobody makes."""
    for place, owners in unmade_by(wanted).items():
        if cluster.get(NAMESPACE, place) is None:
            yield warning(
                f"namespace {place} does not exist, and nobody makes it; it is named by {owners}",
                "make it, or correct what leads there in site.yaml, unless a controller makes it later.",
            )


def unmade_by(wanted: Desired) -> dict[str, str]:
    """The namespaces that `wanted` names and does not make, each with what names it, for people."""
    owners: dict[str, set[str]] = {}
    for part in wanted.parts:
        # The values of a release in a resource are its chart's; what that makes of them is rendered.
        items = [] if isinstance(part, Resource) and part.installs else [*part.objects, *part.applied]
        for item in (item for item in items if "test" not in hook_events(item)):
            for place in _places(item):
                owners.setdefault(place, set()).add(f"{named(item, part)} ({part.origin})")
    found = {place: sorted(owners[place]) for place in sorted(owners.keys() - wanted.namespaces.keys())}
    return {
        place: f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}" for place, names in found.items()
    }


def _places(item: Object) -> Iterator[str]:
    if place := item["metadata"].get("namespace"):
        yield str(place)
    if item["kind"] not in (CONFIG_MAP.name, SECRET.name):
        yield from _fields(item)


def _fields(node: Any) -> Iterator[str]:
    """What the fields for namespaces hold, anywhere in `node`."""
    if isinstance(node, list):
        for part in node:
            yield from _fields(part)
    elif isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str) and _FIELD.search(str(key)) and _NAME.fullmatch(value):
                yield value
            elif key not in _FREE:
                yield from _fields(value)
