"""What cert-manager does for a chart after Helm has applied it: certificates, and authorities in front of webhooks.

Until both are there, the API server cannot ask the chart's webhooks, and refuses what they are to look at.
Source: cert-manager's documentation, "CA Injector" and "Certificate resource".
"""

from collections.abc import Iterable, Iterator
from typing import Any

from installer.cluster.cluster import Cluster, Object, describe, live
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION
from installer.cluster.workload import condition
from installer.report import printable

GROUP = "cert-manager.io"
_INJECT = (f"{GROUP}/inject-ca-from", f"{GROUP}/inject-ca-from-secret")
_CONFIGURATIONS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def waited_for(objects: Iterable[Object]) -> list[Object]:
    """Those of `objects` for which cert-manager has something to do."""
    return [
        item
        for item in objects
        if is_certificate(item)
        or (item["kind"] in (*_CONFIGURATIONS, CUSTOM_RESOURCE_DEFINITION.name) and _injected(item))
    ]


def pending(cluster: Cluster, objects: Iterable[Object], namespace: str) -> Iterator[str]:
    """What is still to be done for `objects`, as phrases; `namespace` is that of objects which name none."""
    for item in objects:
        held = live(cluster, item, namespace)
        if held is None:
            yield f"{describe(item)} does not exist"
        elif is_certificate(held):
            ready = condition(held, "Ready")
            if ready.get("status") != "True":
                said = printable(str(ready.get("message") or "cert-manager has not looked at it yet"))
                yield f"{describe(held)} is not issued: {said}"
        elif _injected(held) and not all(client.get("caBundle") for client in _clients(held)):
            yield f"{describe(held)} has no authority yet, which cert-manager's CA injector puts there"


def is_certificate(item: Object) -> bool:
    """Whether cert-manager makes a Secret of `item`."""
    return bool(item["kind"] == "Certificate") and str(item["apiVersion"]).startswith(f"{GROUP}/")


def _injected(item: Object) -> bool:
    annotations = item["metadata"].get("annotations") or {}
    return any(name in annotations for name in _INJECT)


def _clients(item: Object) -> Iterator[dict[str, Any]]:
    """How the API server reaches the webhooks of `item`."""
    if item["kind"] in _CONFIGURATIONS:
        for hook in item.get("webhooks") or []:
            yield hook["clientConfig"]
    else:
        conversion = item["spec"].get("conversion") or {}
        if conversion.get("strategy") == "Webhook":
            yield (conversion.get("webhook") or {}).get("clientConfig") or {}
