"""How pods learn of the pull secret: by values that the chart reads, in manifests themselves, else by service accounts.

Charts name the value differently, so each usual name is tried and judged by what is rendered. Source of the names: the
charts of Bitnami, `helm create`, and the community's charts.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from installer.apps.profile import placed
from installer.chart.helm import hook_events
from installer.chart.retarget import merged
from installer.cluster.cluster import Object, namespace_of
from installer.cluster.workload import ReleaseName, pod_specs
from installer.errors import AirferryError
from installer.objects.desired import MANAGED_BY, DesiredStep, Resource


def with_pull_secret(
    values: Mapping[str, Any], name: str, render: Callable[[Mapping[str, Any]], Sequence[Object]]
) -> dict[str, Any]:
    """`values` with the usual key by which most pods of `render` get the pull secret; as they are if none helps."""
    best, left = dict(values), len(list(uncovered(render(values), name)))
    for path, named in _usual(name) if left else ():
        tried = merged(values, placed(path, named))
        try:
            count = len(list(uncovered(render(tried), name)))
        except AirferryError:
            continue  # the chart takes something else under this key
        if count < left:
            best, left = tried, count
        if not left:
            break
    return best


def _usual(name: str) -> tuple[tuple[str, list[object]], ...]:
    """The usual keys, each with what stands there."""
    named: list[object] = [{"name": name}]
    return (
        ("imagePullSecrets", named),
        ("global.imagePullSecrets", named),
        ("global.imagePullSecrets", [name]),
        ("image.pullSecrets", [name]),
    )


def pod_with_pull_secret(item: Object, name: str) -> Object:
    """A copy of the manifest `item` whose pods have the pull secret beside their own."""
    result = copy.deepcopy(item)
    for spec in pod_specs(result):
        named = spec.get("imagePullSecrets") or []
        if isinstance(spec, dict) and not _has(spec, name):
            spec["imagePullSecrets"] = [*named, {"name": name}]
    return result


def accounts(parts: Iterable[DesiredStep], name: str) -> tuple[list[Object], list[str]]:
    """The service accounts that have to bear the pull secret, since pods without it run under them; and what stays
    without: pods whose account a chart makes, for people."""
    found: dict[tuple[str, str], Object] = {}
    lacking = []
    parts = tuple(parts)
    own = {
        (namespace_of(item, part.name.namespace), item["metadata"]["name"])
        for part in parts
        for item in part.applied
        if item["kind"] == "ServiceAccount"
    }
    for part in parts:
        if isinstance(part, Resource) and part.installs is None:
            # The pods that its controller makes are not known here; most run under this account.
            found[part.name.namespace, "default"] = _account(ReleaseName("default", part.name.namespace), name)
        for item, spec in uncovered(part.applied, name):
            account = str(spec.get("serviceAccountName") or "default")
            place = namespace_of(item, part.name.namespace)
            if (place, account) in own:
                lacking.append(f"{item['kind']} {place}/{item['metadata']['name']} ({part.origin})")
            else:
                found[place, account] = _account(ReleaseName(account, place), name)
    return [found[key] for key in sorted(found)], sorted(set(lacking))


def uncovered(objects: Iterable[Object], name: str) -> Iterator[tuple[Object, Mapping[str, Any]]]:
    """The pods of `objects` that have no pull secret, each with its object; those of `helm test` aside."""
    for item in objects:
        if not {"test", "test-success"}.intersection(hook_events(item)):
            for spec in pod_specs(item):
                if not _has(spec, name):
                    yield item, spec


def _has(spec: Mapping[str, Any], name: str) -> bool:
    return any(entry.get("name") == name for entry in spec.get("imagePullSecrets") or [])


def _account(account: ReleaseName, name: str) -> Object:
    metadata = {"name": account.name, "namespace": account.namespace, "labels": dict(MANAGED_BY)}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "imagePullSecrets": [{"name": name}]}
