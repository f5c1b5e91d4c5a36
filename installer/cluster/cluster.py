"""What workflows need of a Kubernetes cluster. Objects are plain dictionaries as the API server sends them."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from installer.cluster.kinds import Kind
from installer.errors import ClusterError, ClusterUnreachableError

Object = dict[str, Any]

FIELD_MANAGER = "airferry"


class AbsentError(ClusterError):
    """No such object, kind or namespace."""


class ConflictError(ClusterError):
    """Others own `fields`, the object exists already, or it is no longer the one that was looked at.

    Fields are paths as the API server writes them: `.spec.template.spec.containers[name="app"].image`.
    """

    def __init__(self, message: str, *, hint: str = "", fields: Iterable[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.fields = tuple(fields)


class UnavailableError(ClusterUnreachableError):
    """Something answers, but not the server that is meant."""


class WebhookError(ClusterError):
    """An admission or conversion webhook does not answer, as it does until its pods serve."""


class NoDryRunError(ClusterError):
    """An admission webhook of the cluster does not support dry runs."""


class Cluster(Protocol):
    """A Kubernetes API server. Not for use from several threads.

    Every method raises ClusterUnreachableError where no answer comes, ClusterForbiddenError for 401 and 403, and
    ClusterError for any other refusal; messages are bounded, printable and free of the secrets given to `hide`.
    An object without a namespace, of a kind that has namespaces, is that of the context's namespace.
    """

    @property
    def server(self) -> str:
        """The API server's address, `https://host:port`."""

    @property
    def context(self) -> str:
        """The kubeconfig's name for this cluster and identity."""

    @property
    def time(self) -> dt.datetime | None:
        """When the server gave its last answer, by its own clock (UTC); None if it did not say."""

    @property
    def silent_groups(self) -> tuple[str, ...]:
        """The group versions that did not answer the last call of `api_versions`."""

    def hide(self, secrets: Iterable[str]) -> None:
        """Never show these texts in a message, neither plain nor in base64. Shorter than 4 characters says nothing."""

    def version(self) -> str:
        """The server's version, such as `v1.35.4`."""

    def api_versions(self) -> tuple[str, ...]:
        """What charts see as `.Capabilities.APIVersions`: group versions, and `group/version/Kind` of each kind.

        Of a group that another server provides (Kubernetes documentation, "Aggregation Layer") there are no kinds
        while that one is down, as for Helm; `silent_groups` names it then.
        """

    def kind(self, api_version: str, name: str) -> Kind:
        """The kind as the server knows it. Raises AbsentError if it does not."""

    def can_i(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Whether this identity may do `verb` on objects of `kind` in `namespace` (all of them if empty)."""

    def apply(
        self, obj: Mapping[str, Any], *, force: bool = False, dry_run: bool = False, manager: str = FIELD_MANAGER
    ) -> Object:
        """Server-side apply of `obj` as field manager `manager`; the object as the server then holds it.

        Fields that others own are left to them: ConflictError unless `force`. With `dry_run` nothing is stored.
        """

    def create(self, obj: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Create `obj`, and nothing if it exists: ConflictError. With `dry_run` nothing is stored."""

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """The object, or None if there is none (also if its kind does not exist)."""

    def find(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """All objects of `kind` in `namespace` (everywhere if empty) that have these labels and fields."""

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        """Delete an object, its dependents in the background; False if there was none."""

    def merge(
        self, kind: Kind, name: str, namespace: str, change: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        """A JSON merge patch (RFC 7386). With `metadata.resourceVersion` in it, it applies to that state only; with
        `dry_run` nothing is stored."""

    def logs(
        self, namespace: str, pod: str, container: str = "", *, tail: int = 20, previous: bool = False, since: str = ""
    ) -> list[str]:
        """The last `tail` lines of a container, of its run before this one if `previous`; empty if there are none.

        Older ones than `since`, a time like `2026-01-31T00:00:00Z`, are left out.
        """

    def http_status(self, namespace: str, service: str, port: int, path: str) -> int:
        """The HTTP status by which a Service answers a request for `path`, asked through the API server; 0 if nobody
        answers."""

    def events(self, namespace: str, kind: str, name: str) -> list[Object]:
        """The events about one object, oldest first."""


def known(cluster: Cluster, item: Object) -> Kind | None:
    """The kind of `item`, or None where the cluster does not have it yet: charts bring kinds along."""
    try:
        return cluster.kind(item["apiVersion"], item["kind"])
    except AbsentError:
        return None


def in_namespace(cluster: Cluster, item: Object, namespace: str) -> Object:
    """`item` in `namespace`, unless it names one itself or its kind has none."""
    kind = known(cluster, item)
    if kind is not None and not kind.namespaced:
        return item
    return {**item, "metadata": {**item["metadata"], "namespace": namespace_of(item, namespace)}}


def live(cluster: Cluster, item: Object, namespace: str) -> Object | None:
    """`item` as the cluster has it, in `namespace` unless it names one itself; None if it or its kind is not there."""
    kind = known(cluster, item)
    place = namespace_of(item, namespace) if kind and kind.namespaced else ""
    return cluster.get(kind, item["metadata"]["name"], place) if kind else None


def describe(obj: Mapping[str, Any]) -> str:
    """`Kind namespace/name` of an object, for people."""
    metadata = obj.get("metadata") or {}
    namespace = metadata.get("namespace")
    return f"{obj.get('kind', 'object')} {namespace + '/' if namespace else ''}{metadata.get('name', '?')}"


def bare(obj: Mapping[str, Any]) -> Object:
    """`obj` without its status, and without what the API server notes of each change."""
    metadata = {key: item for key, item in obj["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    return {**{key: item for key, item in obj.items() if key != "status"}, "metadata": metadata}


def namespace_of(obj: Mapping[str, Any], default: str) -> str:
    """The namespace that a rendered object names, or `default`, that of its release."""
    return str(obj["metadata"].get("namespace") or default)
