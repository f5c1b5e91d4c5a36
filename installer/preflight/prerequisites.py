"""What rendered objects need of a cluster and find missing there: version, kinds, classes, no rival.

Each function looks at one thing and yields what is wrong with it.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.cluster.cluster import AbsentError, Cluster, Object, describe, namespace_of
from installer.cluster.kinds import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    INGRESS_CLASS,
    STATEFUL_SET,
    STORAGE_CLASS,
    VOLUME,
    VOLUME_CLAIM,
    is_default_class,
)
from installer.cluster.workload import of_release
from installer.diagnosis.release_state import require_own_kinds
from installer.errors import ClusterError, SiteError
from installer.objects.desired import ChartRelease, Desired
from installer.preflight.permissions import custom_kinds
from installer.site.answers import is_dns_name
from installer.site.service_values import LICENSE, LICENSE_KEY

# The controllers of v1 and v2 under all names by which W&B publishes them.
_OPERATOR_IMAGE = re.compile(r"(^|/)(wandb/controller|wandb_tools/wandb-k8s-operator|wandb/operator)(:|@|$)")
_COMPACT_JWS = re.compile(r"[\w-]+(\.[\w-]+){2}", re.ASCII)


def versions(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Charts that say themselves that they are not for this version of Kubernetes."""
    version = cluster.version()
    for release in all_releases(wanted):
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
    brought = custom_kinds(item for release in all_releases(wanted) for item in (*release.crds, *release.objects))
    lacking: dict[tuple[str, str], list[str]] = {}
    for release in all_releases(wanted):
        for item in release.applied:
            needed = str(item["apiVersion"]), str(item["kind"])
            if needed not in brought and (needed in lacking or not _has(cluster, *needed)):
                lacking.setdefault(needed, []).append(f"{named(item, release)} (chart {release.chart.name})")
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
        (item, release) for release in all_releases(wanted) for item in release.objects if item.get("kind") == "Ingress"
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
                "name one of these in site.yaml (ingress.class), or install that ingress controller.",
                SiteError,
            )
        elif not name and not any(map(is_default_class, there.values())):
            yield warning(
                f"{named(item, release)} names no ingress class, and none is this cluster's default",
                "name one in site.yaml (ingress.class) unless your ingress controller takes such Ingresses.",
            )


def ingress_hosts(wanted: Desired) -> Iterator[Finding]:
    """Hosts for which the API server refuses an Ingress; W&B's chart makes them of the address that users type.

    Source of the rules: Kubernetes, pkg/apis/networking/validation, `ValidateIngressRules`.
    """
    for release in all_releases(wanted):
        for item in release.objects:
            rules = ((item.get("spec") or {}).get("rules") or []) if item["kind"] == "Ingress" else []
            hosts = dict.fromkeys(str(rule.get("host") or "") for rule in rules)
            for host in (host for host in hosts if host and not is_dns_name(host.removeprefix("*."))):
                yield Finding(
                    f"{named(item, release)} is for the host {host!r}, which is no DNS name without a port",
                    "set `host` in site.yaml, or `expose` to something else than ingress."
                    if release is wanted.platform
                    else "correct the values of this chart in site.yaml.",
                    SiteError,
                )


def storage_classes(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Volume claims that are not there yet and whose class does not exist."""
    claims = [claim for release in all_releases(wanted) for claim in _claims(cluster, release)]
    if not claims:
        return
    there = {item["metadata"]["name"]: item for item in cluster.find(STORAGE_CLASS)}
    for owner, name in dict.fromkeys(claims):
        if (name is None or name not in there) and _made_beforehand(cluster, name or ""):
            continue
        if name and name not in there:
            yield Finding(
                f"{owner} wants the storage class {name!r}; this cluster has {', '.join(sorted(there)) or 'none'}",
                "name one of these in site.yaml (storage_class), or have that one made.",
                SiteError,
            )
        elif name is None and not any(map(is_default_class, there.values())):
            known = f" among {', '.join(sorted(there))}" if there else ""
            yield Finding(
                f"{owner} names no storage class, and this cluster has no default one{known}",
                "name one in site.yaml (storage_class), or have one made the default.",
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
        if held and (held["spec"].get("conversion") or {}).get("strategy") == "Webhook":
            yield Finding(
                f"CustomResourceDefinition {crd['metadata']['name']} converts objects by a webhook of another operator",
                "this cluster has been moved to a newer operator, and there is no way back: use a bundle for that one, "
                "or another cluster.",
                ClusterError,
            )


def operators(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Another W&B operator that would take the same custom resource for its own."""
    if not (wanted.operator and wanted.resource):
        return
    place = wanted.resource["metadata"]["namespace"]
    for item in cluster.find(DEPLOYMENT):
        spec = item["spec"]["template"]["spec"]
        containers = spec.get("containers") or []
        if not any(_OPERATOR_IMAGE.search(str(each.get("image"))) for each in containers):
            continue
        mine = (
            of_release(item, wanted.operator.name) and item["metadata"]["namespace"] == wanted.operator.name.namespace
        )
        if not mine and _watches(containers, item, place):
            yield Finding(
                f"{describe(item)} is a W&B operator as well and watches namespace {place}",
                "two operators undo each other's work: remove that one, or confine it to other namespaces.",
                ClusterError,
            )


def _watches(containers: Iterable[Mapping[str, Any]], item: Object, namespace: str) -> bool:
    """Whether an operator looks at `namespace`: at all of them, unless an argument or a variable confines it."""
    for container in containers:
        words = [str(word) for word in container.get("args") or []]
        words += [
            f"--isolation-namespaces={each.get('value')}"
            for each in container.get("env") or []
            if each.get("name") == "ISOLATION_NAMESPACES" and each.get("value")
        ]
        for word in words:
            flag, _, names = word.partition("=")
            if flag == "--isolation-namespaces":
                return namespace in names.split(",")
    return bool(item["spec"].get("replicas", 1))


def licence(wanted: Desired) -> Iterator[Finding]:
    """A licence that is none: W&B's server starts with it all the same, and says so to its users only.

    It is a signed token in the compact form of JWS (RFC 7515, section 7.1).
    """
    for item in wanted.secrets:
        if item["metadata"]["name"] == LICENSE:
            text = base64.b64decode(item["data"][LICENSE_KEY]).decode(errors="replace")
            if not _COMPACT_JWS.fullmatch(text):
                yield warning(
                    "license in site.yaml is no licence of W&B: that is one line, three parts with a dot between them",
                    "copy the whole of it from where W&B gives licences out, and run the same command again.",
                )


def all_releases(wanted: Desired) -> tuple[ChartRelease, ...]:
    """All releases, the one that the operator makes included."""
    return (*wanted.installed, *((wanted.platform,) if wanted.platform else ()))


def _has(cluster: Cluster, api_version: str, name: str) -> bool:
    try:
        cluster.kind(api_version, name)
    except AbsentError:
        return False
    return True


def named(item: Object, release: ChartRelease) -> str:
    """An object for people; it may not name its namespace itself."""
    return f"{item['kind']} {namespace_of(item, release.name.namespace)}/{item['metadata']['name']}"
