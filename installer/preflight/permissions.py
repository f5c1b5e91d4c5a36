"""What this identity must be allowed to do for an installation, and which of it it may not.

Source of the rules for roles: Kubernetes documentation, "Using RBAC Authorization", section "Privilege escalation
prevention and bootstrapping": who makes a role must hold all that it grants, or may `escalate`; who binds one must hold
it as well, or may `bind`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.cluster.cluster import AbsentError, Cluster, Object, namespace_of
from installer.cluster.kinds import (
    AUTOSCALER,
    CLUSTER_ROLE,
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    DAEMON_SET,
    EVENT,
    JOB,
    LEASE,
    NAMESPACE,
    POD,
    POD_LOG,
    REPLICA_SET,
    ROLE,
    SECRET,
    SERVICE_ACCOUNT,
    SERVICE_PROXY,
    VOLUME_CLAIM,
    Kind,
)
from installer.cluster.workload import KINDS
from installer.objects.desired import ChartRelease, Desired, Manifests, Resource
from installer.value import replace

# Helm and server-side apply: look, wait, create, change, and remove what a later version no longer has.
_MANAGE = ("get", "list", "watch", "create", "patch", "delete")
_ANYTHING = Kind("*", "*", "*", "*", namespaced=False)
_ROLES = {ROLE.name: ROLE, CLUSTER_ROLE.name: CLUSTER_ROLE}
_Asked = tuple[str, Kind, str, str]


def custom_kinds(objects: Iterable[Object]) -> dict[tuple[str, str], Kind]:
    """The kinds that the CustomResourceDefinitions among `objects` bring, by `apiVersion` and `kind`."""
    found = {}
    for item in objects:
        if item.get("kind") == CUSTOM_RESOURCE_DEFINITION.name:
            spec = item["spec"]
            names, group, scope = spec["names"], spec["group"], spec.get("scope") == "Namespaced"
            for version in spec.get("versions") or []:
                kind = Kind(group, version["name"], names["kind"], names["plural"], namespaced=scope)
                found[kind.api_version, kind.name] = kind
    return found


def missing_permissions(cluster: Cluster, wanted: Desired) -> list[str]:
    """Everything that installing, diagnosing and removing `wanted` needs and this identity may not, a line each."""
    asker = _Asker(cluster)
    if asker.may("*", _ANYTHING):
        return []
    needed: dict[tuple[Kind, str], set[str]] = {}
    for kind, place, verbs in _needs(cluster, wanted):
        needed.setdefault((kind, place if kind.namespaced else ""), set()).update(verbs)
    lines = []
    for (kind, place), verbs in sorted(needed.items(), key=lambda item: item[0]):
        lacking = [verb for verb in (*_MANAGE, "update") if verb in verbs and not asker.may(verb, kind, place)]
        if lacking:
            lines.append(f"{', '.join(lacking)} {kind}{f' in namespace {place}' if place else ''}")
    return [*lines, *(line for release in wanted.installed for line in asker.escalation(release))]


def _needs(cluster: Cluster, wanted: Desired) -> Iterator[tuple[Kind, str, Iterable[str]]]:
    """Kinds, namespaces and verbs; the same may come several times."""
    for release in wanted.installed:
        yield from _helm_needs(cluster, release)
    for release in wanted.releases:
        yield from _workload_needs(release.name.namespace)
    brought = custom_kinds(item for part in wanted.parts for item in (*part.crds, *part.objects))
    for step in wanted.applied:
        yield from _applied_needs(cluster, step, brought)
    for endpoint in wanted.smoke:
        yield SERVICE_PROXY, endpoint.namespace, ("get",)
    yield CONFIG_MAP, wanted.home, _MANAGE
    yield SECRET, wanted.home, _MANAGE
    yield LEASE, wanted.home, ("get", "create", "patch", "delete")
    for account in wanted.accounts:
        yield SERVICE_ACCOUNT, account["metadata"]["namespace"], ("get", "create", "patch")
    for secret in wanted.secrets:
        yield SECRET, secret["metadata"]["namespace"], ("get", "create", "patch", "delete")
    for name in wanted.namespaces:
        # Who may not even look cannot create either, and may be meant to work in what others have made.
        if cluster.can_i("get", NAMESPACE, name=name) and cluster.get(NAMESPACE, name) is None:
            yield NAMESPACE, "", ("create", "patch")


def _applied_needs(
    cluster: Cluster, step: Resource | Manifests, brought: Mapping[tuple[str, str], Kind]
) -> Iterator[tuple[Kind, str, Iterable[str]]]:
    yield from _workload_needs(step.name.namespace)
    for item in step.applied:
        if kind := _kind(cluster, item, brought):
            yield kind, namespace_of(item, step.name.namespace), ("get", "create", "patch", "delete")
    if isinstance(step, Resource) and step.installs:
        # Before it is changed, what an interrupted pull of hook images left is removed, and autoscalers are waited for.
        yield DAEMON_SET, step.name.namespace, ("delete",)
        yield AUTOSCALER, step.name.namespace, ("list",)


def _workload_needs(place: str) -> Iterator[tuple[Kind, str, Iterable[str]]]:
    """What waiting for workloads, finding what hinders them, and removing what they leave takes."""
    for kind in KINDS:
        yield kind, place, ("get", "list")
    yield POD, place, ("get", "list", "delete")
    yield POD_LOG, place, ("get",)
    yield JOB, place, ("delete",)
    yield VOLUME_CLAIM, place, ("get", "list")
    yield SECRET, place, ("get", "list", "delete")
    for kind in (EVENT, REPLICA_SET):
        yield kind, place, ("list",)


def _helm_needs(cluster: Cluster, release: ChartRelease) -> Iterator[tuple[Kind, str, Iterable[str]]]:
    brought = custom_kinds((*release.crds, *release.objects))
    # Helm keeps its record of a release in Secrets.
    yield SECRET, release.name.namespace, (*_MANAGE, "update")
    crds = {crd["metadata"]["name"] for crd in release.crds}
    for item in release.applied:
        if item["kind"] == CUSTOM_RESOURCE_DEFINITION.name and item["metadata"]["name"] in crds:
            continue  # never Helm's to change or remove
        if kind := _kind(cluster, item, brought):
            yield kind, namespace_of(item, release.name.namespace), _MANAGE
    if crds:
        yield CUSTOM_RESOURCE_DEFINITION, "", ("get", "create", "patch")


def _kind(cluster: Cluster, item: Object, brought: Mapping[tuple[str, str], Kind]) -> Kind | None:
    """The kind of `item`; None where neither the cluster nor the bundle has it, which is told elsewhere."""
    try:
        return cluster.kind(item["apiVersion"], item["kind"])
    except AbsentError:
        return brought.get((item["apiVersion"], item["kind"]))


class _Asker:
    """Asks the API server what this identity may do, each thing once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._answers: dict[_Asked, bool] = {}
        self._told: set[str] = set()

    def may(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Whether it may do this; the version of `kind` does not matter."""
        asked = (verb, replace(kind, version="*"), namespace, name)
        if asked not in self._answers:
            self._answers[asked] = self._cluster.can_i(verb, kind, namespace, name)
        return self._answers[asked]

    def escalation(self, release: ChartRelease) -> list[str]:
        """What the API server will refuse among the roles and bindings of `release`, and what would help."""
        roles = {(item["kind"], item["metadata"]["name"]): item for item in release.objects if item["kind"] in _ROLES}
        lines = []
        for item in release.objects:
            place, name = namespace_of(item, release.name.namespace), item["metadata"]["name"]
            if kind := _ROLES.get(item["kind"]):
                lines += self._grant("escalate", kind, name, place if kind.namespaced else "", item)
            elif item["kind"] in ("RoleBinding", "ClusterRoleBinding"):
                kind, name = _ROLES[item["roleRef"]["kind"]], item["roleRef"]["name"]
                scope = place if item["kind"] == "RoleBinding" else ""
                role = roles.get((kind.name, name)) or self._held(kind, name, scope)
                lines += self._grant("bind", kind, name, scope, role)
        return lines

    def _held(self, kind: Kind, name: str, namespace: str) -> Object:
        place = namespace if kind.namespaced else ""
        return (self.may("get", kind, place, name) and self._cluster.get(kind, name, place)) or {}

    def _grant(self, verb: str, kind: Kind, name: str, namespace: str, role: Object) -> list[str]:
        """The line for a role that may not be handed on; empty if it may."""
        lacking = [text for rule in role.get("rules") or [] for text in self._lacking(rule, namespace)]
        if not lacking or self.may(verb, kind, namespace if kind.namespaced else "", name):
            return []
        where = f" in namespace {namespace}" if namespace else ""
        granted = "; ".join(dict.fromkeys(lacking))
        if granted in self._told:
            granted = "see above"
        self._told.add(granted)
        return [f"{verb} {kind} {name}{where}, or else itself hold what it grants: {granted}"]

    def _lacking(self, rule: Mapping[str, Any], namespace: str) -> Iterator[str]:
        """What `rule` grants and this identity does not hold in `namespace` (everywhere if empty)."""
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                kind = Kind(group, "*", "*", resource)
                for name in rule.get("resourceNames") or [""]:
                    verbs = [verb for verb in rule["verbs"] if not self.may(verb, kind, namespace, name)]
                    if verbs:
                        plural, slash, part = resource.partition("/")
                        what = f"{plural}{f'.{group}' if group else ''}{slash}{part}"
                        yield f"{', '.join(verbs)} {what}{f' {name}' if name else ''}"
