"""A Kubernetes cluster in memory: `Cluster` without a server.

cluster = FakeCluster(namespaces=["here"])
cluster.apply(obj)                                     # as airferry
cluster.apply(other, manager="helm", force=True)       # as anybody
cluster.given(obj)                                     # there, as others have made it, with status and all
cluster.set_status(POD, "a", "here", {"phase": "Running"})
cluster.after = lambda verb, kind, obj: …              # what controllers do then
cluster.before = lambda verb, kind, name: …            # faults: what it raises is what the server answers
cluster.forbidden.add(("patch", VOLUME))

The same checks as on a real API server hold for it (`cluster_checks.py`). It has no defaults and no validation of its
kinds, merges no lists, and all versions of a kind are alike. Controllers: only those that delete. Namespaces and
kinds go with all that is in them, dependents with their owners, and all of it waits for finalizers.
"""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import json
from typing import TYPE_CHECKING, Any

from installer.cluster import kinds
from installer.cluster.cluster import FIELD_MANAGER, AbsentError, Cluster, ConflictError, describe
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, EVENT, NAMESPACE, POD_LOG, SERVICE_PROXY, Kind
from installer.errors import ClusterError, ClusterForbiddenError
from tests.parts import field_managers
from tests.parts.field_managers import ClashError, Owners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from installer.cluster.cluster import Object

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
BUILT_IN = tuple(kind for kind in vars(kinds).values() if isinstance(kind, Kind) and "/" not in kind.plural)
# Other fields that can be selected by than name and namespace (Kubernetes documentation, "Field Selectors").
SELECTABLE = {
    "secrets": {"type"},
    "pods": {"spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"},
    "events": {"involvedObject.kind", "involvedObject.name", "involvedObject.namespace", "reason", "type"},
    "nodes": {"spec.unschedulable"},
    "namespaces": {"status.phase"},
    "jobs": {"status.successful"},
}
# Kinds whose specification is numbered (`metadata.generation`) are those of these groups, and custom ones.
NUMBERED = ("apps", "batch", "autoscaling", "networking.k8s.io", "apiextensions.k8s.io")
Key = tuple[str, str, str, str]


class FakeCluster(Cluster):
    """The cluster. The namespace `default` is there, and that of the context; `now` is the server's clock (UTC)."""

    server = "https://fake:6443"
    context = "fake"
    silent_groups: tuple[str, ...] = ()
    time: dt.datetime | None = None

    def __init__(
        self, *objects: Object, namespaces: Iterable[str] = (), now: Callable[[], dt.datetime] = lambda: START
    ) -> None:
        self.before: Callable[[str, Kind, str], None] = lambda _verb, _kind, _name: None
        self.after: Callable[[str, Kind, Object], None] = lambda _verb, _kind, _obj: None
        self.forbidden: set[tuple[str, Kind]] = set()
        self.hidden: set[str] = set()
        self.server_version = "v1.35.4"
        self._now = now
        self._numbers = itertools.count(1)
        self._held: dict[Key, Object] = {}
        self._owners: dict[Key, Owners] = {}
        self.statuses: dict[tuple[str, str, int, str], int] = {}
        """By which Services answer."""
        self._logs: dict[tuple[str, str, str, bool], list[str]] = {}
        self._quiet = False
        for name in ("default", *namespaces):
            self._add_namespace(name)
        for obj in objects:
            self.given(obj)

    # --- what others do

    def given(self, obj: Object, *, namespace: str = "default", manager: str = "others") -> Object:
        """`obj` is there as it stands and belongs to `manager`; its namespace, or this one, is there then, too."""
        kind = self.kind(obj["apiVersion"], obj["kind"])
        obj = copy.deepcopy(obj)
        if kind.namespaced:
            obj["metadata"].setdefault("namespace", namespace)
            self._add_namespace(obj["metadata"]["namespace"])
        key = self._key(kind, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
        _, owners = field_managers.update({}, {}, obj, manager, self._stamp())
        self._store(key, obj, owners)
        return self._shown(kind, key)

    def set_status(self, kind: Kind, name: str, namespace: str, status: Mapping[str, Any]) -> None:
        """What the kind's controller reports. Raises LookupError if there is no such object."""
        key = self._key(kind, name, namespace)
        self._store(key, {**self._held[key], "status": copy.deepcopy(dict(status))}, self._owners[key])

    def happened(self, namespace: str, kind: str, name: str, reason: str, message: str) -> None:
        """An event about an object."""
        number = next(self._numbers)
        about = {"kind": kind, "name": name, "namespace": namespace}
        metadata = {"name": f"{name}.{number}", "namespace": namespace}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": about}
        self.given({**event, "reason": reason, "message": message, "lastTimestamp": self._stamp()})

    def said(self, namespace: str, pod: str, *lines: str, container: str = "", previous: bool = False) -> None:
        """What a container wrote into its log; without a name it is the pod's only one."""
        self._logs[namespace, pod, container, previous] = list(lines)

    # --- Cluster

    def hide(self, secrets: Iterable[str]) -> None:
        self.hidden.update(secrets)

    def version(self) -> str:
        return self.server_version

    def api_versions(self) -> tuple[str, ...]:
        found = {kind.api_version for kind in self._kinds()}
        return tuple(sorted(found | {f"{kind.api_version}/{kind.name}" for kind in self._kinds()}))

    def kind(self, api_version: str, name: str) -> Kind:
        for kind in self._kinds():
            if (kind.api_version, kind.name) == (api_version, name):
                return kind
        raise AbsentError(f"{self.server}: has no kind {name} in {api_version}")

    def can_i(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        # Permissions know no versions.
        return (verb, kind.group, kind.plural) not in {(each, of.group, of.plural) for each, of in self.forbidden}

    def apply(
        self, obj: Mapping[str, Any], *, force: bool = False, dry_run: bool = False, manager: str = FIELD_MANAGER
    ) -> Object:
        kind, wanted = self.kind(str(obj["apiVersion"]), str(obj["kind"])), copy.deepcopy(dict(obj))
        key = self._key(kind, wanted["metadata"]["name"], wanted["metadata"].get("namespace") or "")
        self._demand("patch", kind, key[3])
        live = self._held.get(key)
        if live is None:
            self._demand("create", kind, key[3])
            self._check_namespace(kind, key)
        elif wanted["metadata"].get("resourceVersion", _version(live)) != _version(live):
            raise ConflictError(f"apply {describe(obj)}: the object has been modified")
        base = live or _bare(kind, key)
        try:
            result, owners = field_managers.apply(
                base, self._owners.get(key, {}), wanted, manager, self._stamp(), force=force
            )
        except ClashError as exc:
            raise ConflictError(f"apply {describe(obj)}: conflict with {exc}", fields=exc.fields) from None
        if not self._has_own_status(kind) and "status" in wanted:
            result["status"] = wanted["status"]
        return self._written("patch", kind, key, result, owners, dry_run=dry_run)

    def create(self, obj: Mapping[str, Any], *, dry_run: bool = False, manager: str = FIELD_MANAGER) -> Object:
        kind, new = self.kind(str(obj["apiVersion"]), str(obj["kind"])), copy.deepcopy(dict(obj))
        key = self._key(kind, new["metadata"]["name"], new["metadata"].get("namespace") or "")
        self._demand("create", kind, key[3])
        self._check_namespace(kind, key)
        if key in self._held:
            raise ConflictError(f"create {describe(obj)}: already exists")
        new["metadata"] = {**new["metadata"], **_bare(kind, key)["metadata"]}
        if self._has_own_status(kind):
            new.pop("status", None)
        new, owners = field_managers.update({}, {}, new, manager, self._stamp())
        return self._written("create", kind, key, new, owners, dry_run=dry_run)

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        self._demand("get", kind, name)
        key = self._key(kind, name, namespace)
        return self._shown(kind, key) if key in self._held else None

    def find(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        self._demand("list", kind, "")
        allowed = {"metadata.name", "metadata.namespace", *SELECTABLE.get(kind.plural, ())}
        if unknown := set(fields or {}) - allowed:
            raise ClusterError(f"list {kind}: field label not supported: {', '.join(sorted(unknown))}")
        found: list[Object] = []
        for key in sorted(self._held):
            if key[:2] == (kind.group, kind.plural) and namespace in ("", key[2]):
                obj = self._shown(kind, key)
                own = obj["metadata"].get("labels") or {}
                chosen = all(own.get(name) == value for name, value in (labels or {}).items())
                if chosen and all(_value(obj, place) == value for place, value in (fields or {}).items()):
                    found.append(obj)
        return found

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        self._demand("delete", kind, name)
        key = self._key(kind, name, namespace)
        if key not in self._held:
            return False
        obj = self._shown(kind, key)
        self._leave(key)
        self._collect()
        self._then("delete", kind, obj)
        return True

    def merge(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        change: Mapping[str, Any],
        *,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        self._demand("patch", kind, name)
        key = self._key(kind, name, namespace)
        live = self._held.get(key)
        if live is None:
            raise AbsentError(f'patch {kind} {namespace}/{name}: {kind} "{name}" not found')
        if (change.get("metadata") or {}).get("resourceVersion", _version(live)) != _version(live):
            raise ConflictError(f"patch {kind} {namespace}/{name}: the object has been modified")
        kept = {"status"} if self._has_own_status(kind) else set()
        result = _merged(live, {part: content for part, content in change.items() if part not in kept})
        owners = self._owners[key]
        if (entries := result["metadata"].pop("managedFields", None)) is not None:
            owners = field_managers.owners_of(entries)
        result, owners = field_managers.update(live, owners, result, manager, self._stamp())
        return self._written("patch", kind, key, result, owners, dry_run=dry_run)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        tail: int = 20,
        previous: bool = False,
        since: str = "",
    ) -> list[str]:
        self._demand("get", POD_LOG, pod)
        lines = self._logs.get((namespace, pod, container, previous), self._logs.get((namespace, pod, "", previous)))
        return (lines or [])[-tail:]

    def http_status(self, namespace: str, service: str, port: int, path: str) -> int:
        self._demand("get", SERVICE_PROXY, service)
        return self.statuses.get((namespace, service, port, path), 0)

    def events(self, namespace: str, kind: str, name: str) -> list[Object]:
        found = self.find(EVENT, namespace, fields={"involvedObject.kind": kind, "involvedObject.name": name})
        return sorted(found, key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))

    # --- inside

    def _kinds(self) -> Iterator[Kind]:
        yield from BUILT_IN
        for key, obj in self._held.items():
            if key[:2] == (CUSTOM_RESOURCE_DEFINITION.group, CUSTOM_RESOURCE_DEFINITION.plural):
                spec = obj["spec"]
                for version in (each for each in spec["versions"] if each.get("served", True)):
                    names, namespaced = spec["names"], spec["scope"] == "Namespaced"
                    yield Kind(spec["group"], version["name"], names["kind"], names["plural"], namespaced=namespaced)

    def _has_own_status(self, kind: Kind) -> bool:
        """Whether only `set_status` writes the status of this kind."""
        definition = self._held.get(self._key(CUSTOM_RESOURCE_DEFINITION, str(kind)))
        versions = definition["spec"]["versions"] if definition else []
        return not versions or any("status" in (version.get("subresources") or {}) for version in versions)

    def _demand(self, verb: str, kind: Kind, name: str) -> None:
        if self._quiet:  # controllers meet neither faults nor what we may not do
            return
        self.before(verb, kind, name)
        if (verb, kind) in self.forbidden:
            raise ClusterForbiddenError(f'{kind} is forbidden: User "fake" cannot {verb} resource "{kind.plural}"')

    def _key(self, kind: Kind, name: str, namespace: str = "") -> Key:
        return (kind.group, kind.plural, (namespace or "default") if kind.namespaced else "", name)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _add_namespace(self, name: str) -> None:
        key = self._key(NAMESPACE, name)
        if key not in self._held:
            self._store(key, {**_bare(NAMESPACE, key), "status": {"phase": "Active"}}, {})

    def _check_namespace(self, kind: Kind, key: Key) -> None:
        """Whether an object can be made there."""
        if kind.namespaced:
            namespace = self._held.get(self._key(NAMESPACE, key[2]))
            if namespace is None:
                raise AbsentError(f'create {kind} {key[2]}/{key[3]}: namespaces "{key[2]}" not found')
            if namespace["metadata"].get("deletionTimestamp"):
                words = f"unable to create new content in namespace {key[2]} because it is being terminated"
                raise ClusterError(f'create {kind} {key[2]}/{key[3]}: "{key[3]}" is forbidden: {words}')

    def _shown(self, kind: Kind, key: Key) -> Object:
        obj = copy.deepcopy(self._held[key])
        if owners := self._owners[key]:
            obj["metadata"]["managedFields"] = field_managers.managed(owners, kind.api_version)
        return {**obj, "apiVersion": kind.api_version, "kind": kind.name}

    def _written(
        self, verb: str, kind: Kind, key: Key, obj: Object, owners: Owners, *, dry_run: bool = False
    ) -> Object:
        """The object as it is after that; stored, unless that changes nothing or it is a trial."""
        live = self._held.get(key)
        numbered = kind not in BUILT_IN or kind.group in NUMBERED
        if numbered and (live is None or _specification(live) != _specification(obj)):
            number = (live or {"metadata": {}})["metadata"].get("generation", 0)
            obj = {**obj, "metadata": {**obj["metadata"], "generation": number + 1}}
        if dry_run:
            return {**obj, "apiVersion": kind.api_version, "kind": kind.name}
        if live != obj or self._owners[key] != owners:
            self._store(key, obj, owners)
        shown = self._shown(kind, key)
        self._collect()
        self._then(verb, kind, shown)
        return shown

    def _store(self, key: Key, obj: Object, owners: Owners) -> None:
        number = str(next(self._numbers))
        metadata = {"uid": f"uid-{number}", "creationTimestamp": self._stamp()}
        metadata |= {name: value for name, value in obj["metadata"].items() if value is not None}
        self._held[key] = {**obj, "metadata": {**metadata, "resourceVersion": number}}
        self._owners[key] = owners

    def _then(self, verb: str, kind: Kind, obj: Object) -> None:
        """Let the controllers act; what they do themselves is no occasion for them."""
        if not self._quiet:
            self._quiet = True
            try:
                self.after(verb, kind, obj)
            finally:
                self._quiet = False

    def _leave(self, key: Key) -> None:
        obj = self._held[key]
        if not obj["metadata"].get("deletionTimestamp"):
            leaving = {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": self._stamp()}}
            if key[:2] == (NAMESPACE.group, NAMESPACE.plural):
                leaving["status"] = {"phase": "Terminating"}
            self._store(key, leaving, self._owners[key])

    def _collect(self) -> None:
        """Delete what goes with others, then what leaves and is held by nothing any more, until nothing is left."""
        while True:
            uids = {obj["metadata"]["uid"] for obj in self._held.values()}
            going = [key for key, obj in self._held.items() if obj["metadata"].get("deletionTimestamp")]
            for key, obj in list(self._held.items()):
                owners = {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or []}
                if (owners and not owners & uids) or any(self._holds(outer, key) for outer in going):
                    self._leave(key)
            gone = [
                key
                for key, obj in self._held.items()
                if obj["metadata"].get("deletionTimestamp")
                and not obj["metadata"].get("finalizers")
                and not any(self._holds(key, inner) for inner in self._held)
            ]
            if not gone:
                return
            for key in gone:
                del self._held[key], self._owners[key]

    def _holds(self, outer: Key, inner: Key) -> bool:
        """Whether a namespace, or the definition of a kind, holds an object."""
        if outer[:2] == (NAMESPACE.group, NAMESPACE.plural):
            return inner[2] == outer[3]
        definition = outer[:2] == (CUSTOM_RESOURCE_DEFINITION.group, CUSTOM_RESOURCE_DEFINITION.plural)
        return definition and f"{inner[1]}.{inner[0]}" == outer[3]


def _bare(kind: Kind, key: Key) -> Object:
    metadata = {"name": key[3], **({"namespace": key[2]} if kind.namespaced else {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def _specification(obj: Object) -> str:
    return json.dumps(
        {part: value for part, value in obj.items() if part not in ("metadata", "status")}, sort_keys=True
    )


def _value(obj: Object, place: str) -> Any:
    node: Any = obj
    for key in place.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _merged(target: Any, change: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
