"""The Kubernetes API, and the only module that knows lightkube.

Objects are plain dictionaries as the API server sends them. Every answer is bounded, every wait too, and no message
shows a secret that `Cluster` was told about.
"""

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx2
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster as LightkubeCluster
from lightkube.config.models import User as LightkubeUser
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource
from lightkube.types import PatchType

from installer import strict_json
from installer.cluster.kube_channel import Channel, RefusedError, TooLargeError, certificate_problem
from installer.cluster.kubeconfig import Endpoint
from installer.errors import (
    AirferryError,
    ClusterError,
    ClusterForbiddenError,
    ClusterUnreachableError,
    SiteError,
)
from installer.report import printable
from installer.value import Value

Object = dict[str, Any]

FIELD_MANAGER = "airferry"
CONNECT_SECONDS = 10.0
# The API server gives an admission webhook up to 30 s, and a request 60 s.
READ_SECONDS = 65.0
MAX_LOG = 2 * 1024 * 1024
MAX_LOG_LINE = 32 * 1024
MAX_MESSAGE = 800
LIST_CHUNK = 250
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "ingressclass.kubernetes.io/is-default-class",
)
_VERBS = ["delete", "get", "global_list", "list", "patch", "post", "put"]


class Kind(Value, order=True):
    """A kind of object: its API group (empty for the core group), version, name, plural and scope."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What stands in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
SECRET = Kind("", "v1", "Secret", "secrets")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
POD = Kind("", "v1", "Pod", "pods")
POD_LOG = Kind("", "v1", "Pod", "pods/log")
EVENT = Kind("", "v1", "Event", "events")
NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
INGRESS_CLASS = Kind("networking.k8s.io", "v1", "IngressClass", "ingressclasses", namespaced=False)
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
VOLUME = Kind("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False)
VOLUME_CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets")
DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets")
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
JOB = Kind("batch", "v1", "Job", "jobs")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)


def describe(obj: Mapping[str, Any]) -> str:
    """`Kind namespace/name` of an object, for people."""
    metadata = obj.get("metadata") or {}
    namespace = metadata.get("namespace")
    return f"{obj.get('kind', 'object')} {namespace + '/' if namespace else ''}{metadata.get('name', '?')}"


def namespace_of(obj: Mapping[str, Any], default: str) -> str:
    """The namespace that a rendered object names, or `default`, that of its release."""
    return str(obj["metadata"].get("namespace") or default)


def is_default_class(obj: Mapping[str, Any]) -> bool:
    """Whether a StorageClass or IngressClass is the one that counts where none is named."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return any(annotations.get(name) == "true" for name in _DEFAULT_CLASS)


class AbsentError(ClusterError):
    """No such object, kind or namespace."""


class ConflictError(ClusterError):
    """Others own these fields, the object exists already, or it is no longer the one that was looked at."""


class UnavailableError(ClusterUnreachableError):
    """Something answers, but not the server that is meant."""


class NoDryRunError(ClusterError):
    """An admission webhook of the cluster does not support dry runs."""


class Cluster:
    """A Kubernetes API server. Not for use from several threads.

    Every method raises ClusterUnreachableError where no answer comes, ClusterForbiddenError for 401 and 403, and
    ClusterError for any other refusal; messages are bounded, printable and free of the secrets given to `hide`.
    """

    def __init__(
        self, endpoint: Endpoint, *, secrets: Iterable[str] = (), sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Connects on first use. Raises SiteError for unusable credentials, or a plugin that nobody allowed."""
        if endpoint.plugin is not None:
            raise SiteError(
                f"context {endpoint.context!r} runs the program {endpoint.plugin.command!r} to get its credentials",
                hint="allow it with --allow-exec-plugin if you trust it, or use a token or a client certificate.",
            )
        self.endpoint = endpoint
        self._hidden: set[str] = set()
        self.hide([*endpoint.secrets, *secrets])
        channel = Channel(endpoint, sleep, lambda renewed: self.hide(renewed.secrets))
        timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx2.Client(base_url=endpoint.server, transport=channel, timeout=timeout, trust_env=False)
        # Credentials and certificates are the channel's; lightkube gets an address and an identity without either.
        config = KubeConfig.from_one(
            cluster=LightkubeCluster(server=endpoint.server), user=LightkubeUser(), namespace=endpoint.namespace
        )
        self._client: Any = Client(
            config.get(), transport=channel, timeout=timeout, trust_env=False, field_manager=FIELD_MANAGER
        )
        self._resources: dict[Kind, Any] = {}
        self._discovered: dict[str, tuple[Kind, ...]] = {}
        self.silent_groups: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def hide(self, secrets: Iterable[str]) -> None:
        """Never show these texts in a message, neither plain nor in base64. Shorter than 4 characters says nothing."""
        for text in secrets:
            if len(text) >= 4:
                self._hidden |= {text, base64.b64encode(text.encode()).decode()}

    # --- about the server

    def version(self) -> str:
        """The server's version, such as `v1.35.4`."""
        with self._refusals("read", "the server's version"):
            answer = self._raw("/version")
        version = answer.get("gitVersion")
        if not isinstance(version, str) or len(version) > 100:
            raise ClusterError(f"{self.endpoint.server}: not a Kubernetes API server", hint="check the kubeconfig.")
        return printable(version)

    def api_versions(self) -> tuple[str, ...]:
        """What charts see as `.Capabilities.APIVersions`: group versions, and `group/version/Kind` of each kind.

        Of a group that another server provides (Kubernetes documentation, "Aggregation Layer") there are no kinds
        while that one is down, as for Helm; `silent_groups` names it then.
        """
        with self._refusals("list", "API groups"):
            groups = self._raw("/apis").get("groups") or []
        versions = [entry["groupVersion"] for group in groups for entry in group["versions"]]
        kinds = [f"v1/{kind.name}" for kind in self._kinds("v1")]
        silent = []
        for version in versions:
            try:
                kinds += [f"{version}/{kind.name}" for kind in self._kinds(version)]
            except UnavailableError:
                silent.append(version)
        self.silent_groups = tuple(silent)
        return tuple(sorted({"v1", *versions, *kinds}))

    def kind(self, api_version: str, name: str) -> Kind:
        """The kind as the server knows it. Raises AbsentError if it does not."""
        for fresh in (False, True):
            if fresh:
                self._discovered.pop(api_version, None)
            for kind in self._kinds(api_version):
                if kind.name == name:
                    return kind
        raise AbsentError(
            f"{self.endpoint.server}: has no kind {name} in {api_version}",
            hint="its CustomResourceDefinition is missing, or the cluster is too old or too new for the chart.",
        )

    def can_i(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        """Whether this identity may do `verb` on objects of `kind` in `namespace` (all of them if empty).

        A plural such as `pods/log` means a part of these objects.
        """
        resource, _, part = kind.plural.partition("/")
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": resource,
            **({"subresource": part} if part else {}),
            **({"namespace": namespace} if namespace else {}),
            **({"name": name} if name else {}),
        }
        review = self._resource(ACCESS_REVIEW)(
            apiVersion=ACCESS_REVIEW.api_version,
            kind=ACCESS_REVIEW.name,
            metadata={},
            spec={"resourceAttributes": attributes},
        )
        with self._refusals("create", "an access review"):
            answer = self._client.create(review)
        return (answer.get("status") or {}).get("allowed") is True

    # --- objects

    def apply(self, obj: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply of `obj` as field manager `airferry`; the object as the server then holds it.

        Fields that others own are left to them: ConflictError unless `force`. With `dry_run` nothing is stored.
        """
        kind = self.kind(str(obj["apiVersion"]), str(obj["kind"]))
        metadata = obj["metadata"]
        with self._refusals("apply", describe(obj)):
            answer = self._client.patch(
                self._resource(kind),
                metadata["name"],
                dict(obj),
                namespace=metadata.get("namespace") if kind.namespaced else None,
                patch_type=PatchType.APPLY,
                field_manager=FIELD_MANAGER,
                force=force,
                dry_run=dry_run,
            )
        return dict(answer)

    def create(self, obj: Mapping[str, Any]) -> Object:
        """Create `obj`, and nothing if it exists: ConflictError."""
        resource = self._resource(self.kind(str(obj["apiVersion"]), str(obj["kind"])))
        with self._refusals("create", describe(obj)):
            return dict(self._client.create(resource(**obj)))

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """The object, or None if there is none (also if its kind does not exist)."""
        try:
            with self._refusals("get", f"{kind} {_place(namespace, name)}"):
                return dict(self._client.get(self._resource(kind), name, **_where(kind, namespace)))
        except AbsentError:
            return None

    def find(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """All objects of `kind` in `namespace` (everywhere if empty) that have these labels and fields."""
        selection: dict[str, Any] = {"labels": dict(labels or {}) or None, "fields": dict(fields or {}) or None}
        where = {"namespace": namespace or "*"} if kind.namespaced else {}
        try:
            with self._refusals("list", f"{kind} {f'in {namespace}' if namespace else ''}".strip()):
                found = self._client.list(self._resource(kind), chunk_size=LIST_CHUNK, **where, **selection)
                return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in found]
        except AbsentError:
            return []

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        """Delete an object, its dependents in the background; False if there was none."""
        try:
            with self._refusals("delete", f"{kind} {_place(namespace, name)}"):
                self._client.delete(self._resource(kind), name, **_where(kind, namespace))
        except AbsentError:
            return False
        return True

    def merge(self, kind: Kind, name: str, namespace: str, change: Mapping[str, Any]) -> Object:
        """A JSON merge patch (RFC 7386). With `metadata.resourceVersion` in it, it applies to that state only."""
        with self._refusals("patch", f"{kind} {_place(namespace, name)}"):
            answer = self._client.patch(
                self._resource(kind), name, dict(change), patch_type=PatchType.MERGE, **_where(kind, namespace)
            )
        return dict(answer)

    def logs(
        self, namespace: str, pod: str, container: str = "", *, tail: int = 20, previous: bool = False
    ) -> list[str]:
        """The last `tail` lines of a container, of its run before this one if `previous`; empty if there are none."""
        params: dict[str, str] = {"tailLines": str(tail), "limitBytes": str(MAX_LOG)}
        if container:
            params["container"] = container
        if previous:
            params["previous"] = "true"
        try:
            with self._refusals("read", f"the log of pod {namespace}/{pod}"):
                answer = self._http.get(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", params=params)
        except ClusterError:
            # A container that has not started yet has no log; the API server says so with 400.
            return []
        text = answer.content[:MAX_LOG].decode("utf-8", "replace")
        return [self._clean(line, MAX_LOG_LINE) for line in text.splitlines()[-tail:]]

    def events(self, namespace: str, kind: str, name: str) -> list[Object]:
        """The events about one object, oldest first."""
        found = self.find(EVENT, namespace, fields={"involvedObject.kind": kind, "involvedObject.name": name})
        return sorted(found, key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))

    # --- inside

    def _raw(self, path: str) -> Object:
        answer = strict_json.parse(self._http.get(path).content, f"{self.endpoint.server}{path}", ClusterError)
        if not isinstance(answer, dict):
            raise ClusterError(f"{self.endpoint.server}{path}: not an object", hint="check the server's address.")
        return answer

    def _kinds(self, api_version: str) -> tuple[Kind, ...]:
        """The kinds of one group version; empty if the server does not have it (any more)."""
        if api_version not in self._discovered:
            group, slash, version = api_version.rpartition("/")
            try:
                with self._refusals("list", f"the kinds of {api_version}"):
                    answer = self._raw(f"/apis/{api_version}" if slash else f"/api/{api_version}")
                    self._discovered[api_version] = tuple(
                        Kind(group, version, entry["kind"], entry["name"], namespaced=entry["namespaced"])
                        for entry in answer.get("resources") or []
                        if "/" not in entry["name"]
                    )
            except AbsentError:
                self._discovered[api_version] = ()
        return self._discovered[api_version]

    def _resource(self, kind: Kind) -> Any:
        """The class by which lightkube knows `kind`: always a generic one, so that no field is lost."""
        if kind not in self._resources:
            base = GenericNamespacedResource if kind.namespaced else GenericGlobalResource
            info = ApiInfo(resource=ResourceDef(kind.group, kind.version, kind.name), plural=kind.plural, verbs=_VERBS)
            self._resources[kind] = type(kind.name, (base,), {"_api_info": info})
        return self._resources[kind]

    def _clean(self, text: str, limit: int = MAX_MESSAGE) -> str:
        for secret in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = printable(" ".join(text.split()))
        return text if len(text) <= limit else f"{text[:limit]}…"

    @contextmanager
    def _refusals(self, verb: str, what: str) -> Iterator[None]:
        """Turn everything that can go wrong into our errors."""
        try:
            yield
        except RefusedError as exc:
            raise self._error(exc, verb, what) from None
        except TooLargeError as exc:
            raise ClusterError(f"{verb} {what}: the answer exceeds {exc} bytes") from None
        except (httpx2.TransportError, httpx2.InvalidURL) as exc:
            raise self._unreachable(exc) from None
        except AirferryError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ClusterError(f"{verb} {what}: not the answer of an API server ({type(exc).__name__})") from exc

    def _error(self, exc: RefusedError, verb: str, what: str) -> AirferryError:
        said = self._clean(exc.message)
        message = f"{verb} {what}: {said}"
        if exc.code == 401:
            return ClusterForbiddenError(
                f"{self.endpoint.server} does not accept the credentials of context {self.endpoint.context!r}",
                hint="renew them; the kubeconfig's token or client certificate may have expired.",
            )
        if exc.code == 403 and exc.reason == "Forbidden" and "is forbidden: User" in exc.message:
            return ClusterForbiddenError(message, hint="ask for this permission, or use a context that has it.")
        if exc.code == 403:
            # Quotas and admission policies answer 403 as well; no permission helps against them.
            return ClusterForbiddenError(
                message, hint="a quota or an admission policy of the cluster refuses this object."
            )
        if exc.code == 404:
            return AbsentError(message, hint="its namespace or kind does not exist.")
        if exc.code == 400 and "dry run" in exc.message:
            return NoDryRunError(message)
        if exc.code == 409:
            return ConflictError(
                message,
                hint="another tool manages these fields: --take-over overwrites them; or change them with that tool.",
            )
        if exc.code in (502, 503, 504):
            return UnavailableError(message, hint="the API server, or what stands before it, is not ready.")
        hints = {
            422: "correct the answers in site.yaml that lead to this value.",
            413: "the object is too large for this API server.",
        }
        return ClusterError(message, hint=hints.get(exc.code, "see the message of the API server."))

    def _unreachable(self, exc: Exception) -> ClusterUnreachableError:
        if certificate_problem(exc):
            return ClusterUnreachableError(
                f"{self.endpoint.server}: its certificate is not trusted: {self._clean(str(exc))}",
                hint="put the cluster's CA into the kubeconfig (certificate-authority-data).",
            )
        return ClusterUnreachableError(
            f"{self.endpoint.server}: {self._clean(str(exc)) or type(exc).__name__}",
            hint="check that the API server runs and that this host reaches it; proxies are used only if named.",
        )


def _where(kind: Kind, namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if kind.namespaced else {}


def _place(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def known(cluster: Cluster, item: Object) -> Kind | None:
    """The kind of `item`, or None where the cluster does not have it yet: charts bring kinds along."""
    try:
        return cluster.kind(item["apiVersion"], item["kind"])
    except AbsentError:
        return None
