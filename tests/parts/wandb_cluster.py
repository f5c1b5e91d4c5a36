"""What W&B's operator brings into a cluster in memory: its kind, and custom resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from installer.apps.wandb.controller import CUSTOM_RESOURCE
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION

if TYPE_CHECKING:
    from installer.cluster.cluster import Object

DEFINITION: Object = {
    "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
    "kind": CUSTOM_RESOURCE_DEFINITION.name,
    "metadata": {"name": str(CUSTOM_RESOURCE)},
    "spec": {
        "group": CUSTOM_RESOURCE.group,
        "names": {"kind": CUSTOM_RESOURCE.name, "plural": CUSTOM_RESOURCE.plural},
        "scope": "Namespaced",
        "versions": [
            {"name": CUSTOM_RESOURCE.version, "served": True, "storage": True, "subresources": {"status": {}}}
        ],
    },
    "status": {"conditions": [{"type": "Established", "status": "True"}]},
}


def resource(
    name: str, namespace: str, spec: dict[str, Any] | None = None, *, phase: str = "", **metadata: Any
) -> Object:
    """A custom resource; `phase` is what its controller says of it."""
    return {
        "apiVersion": CUSTOM_RESOURCE.api_version,
        "kind": CUSTOM_RESOURCE.name,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec or {},
        "status": {"phase": phase} if phase else {},
    }
