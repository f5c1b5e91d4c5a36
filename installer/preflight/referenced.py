"""Secrets and ConfigMaps that objects refer to, and whether they exist or will."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.cluster.cert_manager import is_certificate
from installer.cluster.cluster import Cluster, Object, namespace_of
from installer.cluster.kinds import CONFIG_MAP, SECRET, Kind
from installer.cluster.workload import pod_specs
from installer.diagnosis.finding import Finding, warning
from installer.errors import SiteError
from installer.objects.desired import Desired
from installer.preflight.prerequisites import named
from installer.value import Value

_TLS_KEYS = ("tls.crt", "tls.key")


class _Need(Value, order=True):
    """A Secret or ConfigMap that an object refers to, and the key that it wants of it (empty: any)."""

    kind: Kind
    namespace: str
    name: str
    key: str


def referenced(
    cluster: Cluster,
    wanted: Desired,
    first: Iterable[Object],
    answered: frozenset[str],
    own: Iterable[tuple[str, str, str]],
) -> Iterator[Finding]:
    """Secrets and ConfigMaps that are referred to, and that neither exist nor are made.

    `first` are made before all steps. `answered` are texts of site.yaml: what it names must exist. Anything else may be
    made later by a hook or a controller, and is a warning. `own` are Secrets (namespace, name, key) that site.yaml
    names as sources.
    """
    needs: dict[_Need, str] = {_Need(SECRET, *place): "site.yaml" for place in own}
    made = {(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in first}
    for part in wanted.parts:
        for item in part.applied:
            place = namespace_of(item, part.name.namespace)
            made.add((item["kind"], place, item["metadata"]["name"]))
            if is_certificate(item):
                made.add((SECRET.name, place, item["spec"].get("secretName")))
            for kind, name, key in _referred(item):
                needs.setdefault(_Need(kind, place, name, key), named(item, part))
    held: dict[tuple[Kind, str, str], Object | None] = {}
    for need, owner in sorted(needs.items()):
        asked = need.kind, need.namespace, need.name
        if (need.kind.name, need.namespace, need.name) in made:
            continue
        if asked not in held:
            held[asked] = cluster.get(need.kind, need.name, need.namespace)
        if found := _lack(held[asked], need, owner):
            yield (
                found
                if need.name in answered
                else warning(
                    found.what,
                    "nothing is to be done if a hook, a controller "
                    "or somebody makes it later; until then its pods wait.",
                )
            )


def _lack(held: Object | None, need: _Need, owner: str) -> Finding | None:
    what = f"{need.kind.name} {need.namespace}/{need.name}"
    if held is None:
        return Finding(f"{what} does not exist, and {owner} needs it", "create it, or correct site.yaml.", SiteError)
    keys = {**(held.get("data") or {}), **(held.get("binaryData") or {})}
    if need.key and need.key not in keys:
        return Finding(
            f"{what} has no key {need.key!r}, which {owner} needs; it has {', '.join(sorted(keys)) or 'none'}",
            "add the key, or correct site.yaml.",
            SiteError,
        )
    return None


def _referred(item: Object) -> Iterator[tuple[Kind, str, str]]:
    """All Secrets and ConfigMaps that `item` cannot do without, with a key or an empty text."""
    if item.get("kind") == "Ingress":
        yield from _of_ingress(item)
    for spec in pod_specs(item):
        for entry in spec.get("imagePullSecrets") or []:
            yield SECRET, entry["name"], ".dockerconfigjson"
        for volume in spec.get("volumes") or []:
            yield from _source(volume.get("secret"), SECRET, "secretName")
            yield from _source(volume.get("configMap"), CONFIG_MAP, "name")
            for source in (volume.get("projected") or {}).get("sources") or []:
                yield from _source(source.get("secret"), SECRET, "name")
                yield from _source(source.get("configMap"), CONFIG_MAP, "name")
        for container in (*(spec.get("initContainers") or []), *(spec.get("containers") or [])):
            yield from _of_container(container)


def _of_ingress(item: Object) -> Iterator[tuple[Kind, str, str]]:
    if any("cert-manager.io/" in key for key in item["metadata"].get("annotations") or {}):
        return  # cert-manager makes the Secret
    for entry in (item.get("spec") or {}).get("tls") or []:
        if entry.get("secretName"):
            yield from ((SECRET, entry["secretName"], key) for key in _TLS_KEYS)


def _of_container(container: Mapping[str, Any]) -> Iterator[tuple[Kind, str, str]]:
    for entry in container.get("envFrom") or []:
        yield from _source(entry.get("secretRef"), SECRET, "name")
        yield from _source(entry.get("configMapRef"), CONFIG_MAP, "name")
    for entry in container.get("env") or []:
        source = entry.get("valueFrom") or {}
        yield from _source(source.get("secretKeyRef"), SECRET, "name")
        yield from _source(source.get("configMapKeyRef"), CONFIG_MAP, "name")


def _source(source: Mapping[str, Any] | None, kind: Kind, name: str) -> Iterator[tuple[Kind, str, str]]:
    if source and source.get(name) and not source.get("optional"):
        keys = [source["key"]] if source.get("key") else [part["key"] for part in source.get("items") or []]
        yield from ((kind, source[name], key) for key in keys or [""])
