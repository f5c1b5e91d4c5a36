"""What rendered objects need of a cluster and find missing there: version, kinds, classes, no rival.

Each function looks at one thing and yields what is wrong with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.cluster.cluster import AbsentError, Cluster, Object, namespace_of
from installer.cluster.kinds import (
    CUSTOM_RESOURCE_DEFINITION,
    INGRESS_CLASS,
    PRIORITY_CLASS,
    STATEFUL_SET,
    STORAGE_CLASS,
    VOLUME,
    VOLUME_CLAIM,
    is_default_class,
)
from installer.cluster.workload import pod_specs, release_of
from installer.diagnosis.finding import Finding, warning
from installer.diagnosis.release_state import require_own_kinds
from installer.errors import ClusterError, SiteError
from installer.objects.desired import ChartRelease, Desired, DesiredStep
from installer.preflight.permissions import custom_kinds
from installer.site.answer_types import is_dns_name


def versions(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Charts that say themselves that they are not for this version of Kubernetes."""
    version = cluster.version()
    for release in wanted.releases:
        if not release.chart.accepts(version):
            yield Finding(
                f"chart {release.chart.name} {release.chart.version} is for Kubernetes "
                f"{release.chart.metadata['kubeVersion']}, and this is {version}",
                "use a cluster of such a version, or a bundle with another version of the chart.",
                ClusterError,
            )


def silent_groups(cluster: Cluster) -> Iterator[Finding]:
    """API groups whose own server is down; only what needs one of them is hindered by that."""
    for api_version in cluster.silent_groups:
        group, _, version = api_version.partition("/")
        yield warning(
            f"the API group {api_version} of this cluster does not answer: the server behind it is down",
            f"look at `kubectl get apiservices {version}.{group}`; until it is up, charts see none of its kinds.",
        )


def kinds(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Kinds that neither the cluster nor the bundle has."""
    brought = set(custom_kinds(item for part in wanted.parts for item in (*part.crds, *part.objects)))
    brought = brought.union(*(release.brought for release in wanted.installed))
    lacking: dict[tuple[str, str], list[str]] = {}
    for part in wanted.parts:
        for item in part.applied:
            needed = str(item["apiVersion"]), str(item["kind"])
            if needed not in brought and (needed in lacking or not _has(cluster, *needed)):
                lacking.setdefault(needed, []).append(f"{named(item, part)} ({part.origin})")
    for (api_version, kind), items in sorted(lacking.items()):
        names = sorted(set(items))
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding(
            f"this cluster has no {kind} in {api_version}, which {names[0]}{more} is",
            "install what brings this kind (a CustomResourceDefinition), switch the part off in site.yaml, or use a "
            "version of the chart that fits this version of Kubernetes.",
            ClusterError,
        )


def ingress_classes(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Ingresses whose class does not exist."""
    found = [
        (item, release) for release in wanted.releases for item in release.objects if item.get("kind") == "Ingress"
    ]
    if not found:
        return
    there = {item["metadata"]["name"]: item for item in cluster.find(INGRESS_CLASS)}
    for item, release in found:
        name = (item.get("spec") or {}).get("ingressClassName")
        if name and name not in there:
            yield Finding(
                f"{named(item, release)} wants the ingress class {name!r}; this cluster has "
                f"{', '.join(sorted(there)) or 'none'}",
                f"name one of these in site.yaml ({wanted.key('ingress-class')}), or install that ingress controller.",
                SiteError,
            )
        elif not name and not any(map(is_default_class, there.values())):
            yield warning(
                f"{named(item, release)} names no ingress class, and none is this cluster's default",
                f"name one in site.yaml ({wanted.key('ingress-class')}) unless your controller takes such Ingresses.",
            )


def ingress_hosts(wanted: Desired) -> Iterator[Finding]:
    """Hosts for which the API server refuses an Ingress; charts make them of the address that users type.

    Source of the rules: Kubernetes, pkg/apis/networking/validation, `ValidateIngressRules`.
    """
    for release in wanted.releases:
        for item in release.objects:
            rules = ((item.get("spec") or {}).get("rules") or []) if item["kind"] == "Ingress" else []
            hosts = dict.fromkeys(str(rule.get("host") or "") for rule in rules)
            for host in (host for host in hosts if host and not is_dns_name(host.removeprefix("*."))):
                yield Finding(
                    f"{named(item, release)} is for the host {host!r}, which is no DNS name without a port",
                    f"correct it in site.yaml ({wanted.key('host')}), or reach the application without an Ingress.",
                    SiteError,
                )


def priority_classes(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Priority classes that pods name, and that neither the cluster nor the bundle has: no such pod is ever made."""
    owners: dict[str, str] = {}
    brought = set()
    for part in wanted.parts:
        for item in part.applied:
            if item["kind"] == PRIORITY_CLASS.name:
                brought.add(item["metadata"]["name"])
            for spec in pod_specs(item):
                if name := spec.get("priorityClassName"):
                    owners.setdefault(str(name), named(item, part))
    if not owners:
        return
    there = {item["metadata"]["name"] for item in cluster.find(PRIORITY_CLASS)}
    for name in sorted(owners.keys() - there - brought):
        yield Finding(
            f"{owners[name]} wants the priority class {name!r}; this cluster has {', '.join(sorted(there))}",
            f"name one of these in site.yaml ({wanted.key('priority-class')}), or have that one made.",
            SiteError,
        )


def storage_classes(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Volume claims that are not there yet and whose class does not exist."""
    claims = [claim for release in wanted.releases for claim in _claims(cluster, release)]
    if not claims:
        return
    there = {item["metadata"]["name"]: item for item in cluster.find(STORAGE_CLASS)}
    for owner, name in dict.fromkeys(claims):
        if (name is None or name not in there) and _made_beforehand(cluster, name or ""):
            continue
        if name and name not in there:
            yield Finding(
                f"{owner} wants the storage class {name!r}; this cluster has {', '.join(sorted(there)) or 'none'}",
                f"name one of these in site.yaml ({wanted.key('storage-class')}), or have that one made.",
                SiteError,
            )
        elif name is None and not any(map(is_default_class, there.values())):
            known = f" among {', '.join(sorted(there))}" if there else ""
            yield Finding(
                f"{owner} names no storage class, and this cluster has no default one{known}",
                f"name one in site.yaml ({wanted.key('storage-class')}), or have one made the default.",
                SiteError,
            )


def _made_beforehand(cluster: Cluster, name: str) -> bool:
    """Whether a volume waits for claims of the class `name`, which need not exist as an object then."""
    return any(
        (item["spec"].get("storageClassName") or "") == name and (item.get("status") or {}).get("phase") == "Available"
        for item in cluster.find(VOLUME)
    )


def _claims(cluster: Cluster, release: ChartRelease) -> Iterator[tuple[str, str | None]]:
    """The new volume claims of `release`: who wants them, and their class; None stands for the default."""
    for item in release.objects:
        kind = {VOLUME_CLAIM.name: VOLUME_CLAIM, STATEFUL_SET.name: STATEFUL_SET}.get(item["kind"])
        if (
            kind is None
            or cluster.get(kind, item["metadata"]["name"], namespace_of(item, release.name.namespace)) is not None
        ):
            continue
        for spec in (
            [item["spec"]]
            if kind == VOLUME_CLAIM
            else _templates(cluster, item, namespace_of(item, release.name.namespace))
        ):
            if not spec.get("volumeName"):
                yield named(item, release), spec.get("storageClassName")


def _templates(cluster: Cluster, stateful_set: Object, place: str) -> Iterator[Mapping[str, Any]]:
    """The claims that a StatefulSet will make; its first pod takes one that an earlier installation has left."""
    for claim in stateful_set["spec"].get("volumeClaimTemplates") or []:
        name = f"{claim['metadata']['name']}-{stateful_set['metadata']['name']}-0"
        if cluster.get(VOLUME_CLAIM, name, place) is None:
            yield claim["spec"]


def definitions(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """CustomResourceDefinitions that exist in a form which those of the bundle cannot replace."""
    for crd in (crd for release in wanted.installed for crd in release.crds):
        try:
            require_own_kinds(cluster, [crd])
        except ClusterError as exc:
            yield Finding(exc.message, exc.hint, ClusterError)
            continue
        held = cluster.get(CUSTOM_RESOURCE_DEFINITION, crd["metadata"]["name"])
        owner = release_of(held) if held else None
        if owner and owner not in [release.name for release in wanted.releases]:
            yield warning(
                f"CustomResourceDefinition {crd['metadata']['name']} belongs to the Helm release {owner}",
                "it changes with that release and goes with it, and all objects of its kind: keep that one as it is.",
            )
        if held and (held["spec"].get("conversion") or {}).get("strategy") == "Webhook":
            yield Finding(
                f"CustomResourceDefinition {crd['metadata']['name']} converts objects by a webhook of another operator",
                "this cluster has been moved to a newer operator, and there is no way back: use a bundle for that one, "
                "or another cluster.",
                ClusterError,
            )


def _has(cluster: Cluster, api_version: str, name: str) -> bool:
    try:
        cluster.kind(api_version, name)
    except AbsentError:
        return False
    return True


def named(item: Object, part: DesiredStep) -> str:
    """An object for people; it may not name its namespace itself."""
    return f"{item['kind']} {namespace_of(item, part.name.namespace)}/{item['metadata']['name']}"
