"""The Kubernetes API over HTTP."""

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote

import msgspec
from urllib3.exceptions import HTTPError

from installer.cluster import failures
from installer.cluster.channel import APPLY, Channel
from installer.cluster.cluster import FIELD_MANAGER, AbsentError, Cluster, Object, UnavailableError, describe
from installer.cluster.endpoint import Endpoint
from installer.cluster.failures import RefusedError, TooLargeError
from installer.cluster.kinds import ACCESS_REVIEW, EVENT, POD, SERVICE, Kind
from installer.errors import AirferryError, ClusterError, SiteError
from installer.report import printable

MAX_LOG = 2 * 1024 * 1024
MAX_LOG_LINE = 32 * 1024
MAX_MESSAGE = 800
LIST_CHUNK = 250
# Kubernetes is made for 150 000 pods (Kubernetes documentation, "Considerations for large clusters").
MAX_OBJECTS = 200_000
_OBJECT = msgspec.json.Decoder(Object)
_MERGE = "application/merge-patch+json"
_JSON = "application/json"


class ApiServer(Cluster):
    """An API server, reached as `endpoint` says. Nobody is asked before the first call."""

    def __init__(
        self, endpoint: Endpoint, *, secrets: Iterable[str] = (), sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Raises SiteError for unusable credentials, or a plugin that nobody allowed."""
        if endpoint.plugin is not None:
            raise SiteError(
                f"context {endpoint.context!r} runs the program {endpoint.plugin.command!r} to get its credentials",
                hint="allow it with --allow-exec-plugin if you trust it, or use a token or a client certificate.",
            )
        self.endpoint = endpoint
        self._hidden: set[str] = set()
        self.hide(secrets)
        self._channel = Channel(endpoint, sleep, self.hide)
        self._discovered: dict[str, tuple[Kind, ...]] = {}
        self._silent_groups: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._channel.close()

    @property
    def server(self) -> str:
        return self.endpoint.server

    @property
    def context(self) -> str:
        return self.endpoint.context

    @property
    def silent_groups(self) -> tuple[str, ...]:
        return self._silent_groups

    def hide(self, secrets: Iterable[str]) -> None:
        for text in secrets:
            if len(text) >= 4:
                self._hidden |= {text, base64.b64encode(text.encode()).decode()}

    # --- about the server

    def version(self) -> str:
        with self._errors("read", "the server's version"):
            version = self._asked("GET", "/version").get("gitVersion")
        if not isinstance(version, str) or len(version) > 100:
            raise ClusterError(f"{self.server}: not a Kubernetes API server", hint="check the kubeconfig.")
        return printable(version)

    def api_versions(self) -> tuple[str, ...]:
        with self._errors("list", "API groups"):
            groups = self._asked("GET", "/apis").get("groups") or []
            versions = [str(entry["groupVersion"]) for group in groups for entry in group["versions"]]
        kinds = [f"v1/{kind.name}" for kind in self._kinds("v1")]
        silent = []
        for version in versions:
            try:
                kinds += [f"{version}/{kind.name}" for kind in self._kinds(version)]
            except UnavailableError:
                silent.append(version)
        self._silent_groups = tuple(silent)
        return tuple(sorted({"v1", *versions, *kinds}))

    def kind(self, api_version: str, name: str) -> Kind:
        for fresh in (False, True):
            if fresh:
                self._discovered.pop(api_version, None)
            for kind in self._kinds(api_version):
                if kind.name == name:
                    return kind
        raise AbsentError(
            f"{self.server}: has no kind {name} in {api_version}",
            hint="its CustomResourceDefinition is missing, or the cluster is too old or too new for the chart.",
        )

    def can_i(self, verb: str, kind: Kind, namespace: str = "", name: str = "") -> bool:
        resource, _, part = kind.plural.partition("/")
        attributes = {"verb": verb, "group": kind.group, "resource": resource, "subresource": part}
        attributes |= {"namespace": namespace, "name": name}
        review = {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.name,
            "spec": {"resourceAttributes": attributes},
        }
        with self._errors("create", "an access review"):
            answer = self._asked("POST", self._path(ACCESS_REVIEW), {}, review, _JSON)
            return (answer.get("status") or {}).get("allowed") is True

    # --- objects

    def apply(
        self, obj: Mapping[str, Any], *, force: bool = False, dry_run: bool = False, manager: str = FIELD_MANAGER
    ) -> Object:
        kind, metadata = self._kind_of(obj), obj["metadata"]
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        if not kind.namespaced:
            obj = {**obj, "metadata": {key: value for key, value in metadata.items() if key != "namespace"}}
        with self._errors("apply", describe(obj)):
            path = self._path(kind, self._namespace(kind, metadata.get("namespace")), metadata["name"])
            return self._asked("PATCH", path, query, obj, APPLY)

    def create(self, obj: Mapping[str, Any]) -> Object:
        kind = self._kind_of(obj)
        with self._errors("create", describe(obj)):
            path = self._path(kind, self._namespace(kind, obj["metadata"].get("namespace")))
            return self._asked("POST", path, {"fieldManager": FIELD_MANAGER}, obj, _JSON)

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        try:
            with self._errors("get", f"{kind} {_place(namespace, name)}"):
                return self._asked("GET", self._path(kind, self._namespace(kind, namespace), name))
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
        query = {"limit": str(LIST_CHUNK)}
        for name, wanted in (("labelSelector", labels), ("fieldSelector", fields)):
            if wanted:
                query[name] = ",".join(f"{key}={value}" for key, value in wanted.items())
        found = list[Object]()
        try:
            with self._errors("list", f"{kind} {f'in {namespace}' if namespace else ''}".strip()):
                while len(found) < MAX_OBJECTS:
                    answer = self._asked("GET", self._path(kind, namespace), query)
                    found += [
                        {"apiVersion": kind.api_version, "kind": kind.name, **item} for item in answer["items"] or []
                    ]
                    if not (more := (answer.get("metadata") or {}).get("continue")):
                        return found
                    query["continue"] = str(more)
                raise ClusterError(f"list {kind}: more than {MAX_OBJECTS} objects")
        except AbsentError:
            return []

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        try:
            with self._errors("delete", f"{kind} {_place(namespace, name)}"):
                path = self._path(kind, self._namespace(kind, namespace), name)
                # Without a policy the pods of Jobs would stay.
                self._channel.ask("DELETE", path, {"propagationPolicy": "Background"})
        except AbsentError:
            return False
        return True

    def merge(self, kind: Kind, name: str, namespace: str, change: Mapping[str, Any]) -> Object:
        with self._errors("patch", f"{kind} {_place(namespace, name)}"):
            path = self._path(kind, self._namespace(kind, namespace), name)
            return self._asked("PATCH", path, {"fieldManager": FIELD_MANAGER}, change, _MERGE)

    def logs(
        self, namespace: str, pod: str, container: str = "", *, tail: int = 20, previous: bool = False, since: str = ""
    ) -> list[str]:
        query = {"tailLines": str(tail), "limitBytes": str(MAX_LOG)}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        if since:
            query["sinceTime"] = since
        try:
            with self._errors("read", f"the log of pod {namespace}/{pod}"):
                answer = self._channel.ask("GET", f"{self._path(POD, namespace, pod)}/log", query)
        except ClusterError:
            # A container that has not started yet has no log; the API server says so with 400.
            return []
        text = answer[:MAX_LOG].decode("utf-8", "replace")
        return [self._clean(line, MAX_LOG_LINE) for line in text.splitlines()[-tail:]]

    def http_status(self, namespace: str, service: str, port: int, path: str) -> int:
        place = f"{self._path(SERVICE, namespace, service)}:{port}/proxy{path}"
        with self._errors("ask", f"Service {namespace}/{service}"):
            try:
                self._channel.ask("GET", place)
            except RefusedError as exc:
                # The words of the API server itself: we may not, or nobody is there.
                if exc.reason == "Forbidden":
                    raise
                return 0 if exc.reason in ("ServiceUnavailable", "NotFound", "InternalError") else exc.code
        return 200

    def events(self, namespace: str, kind: str, name: str) -> list[Object]:
        found = self.find(EVENT, namespace, fields={"involvedObject.kind": kind, "involvedObject.name": name})
        return sorted(found, key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))

    # --- inside

    def _asked(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: object = None, media: str = ""
    ) -> Object:
        """The object that answers. Raises ValueError for an answer that is none, else as `Channel.ask`."""
        return _OBJECT.decode(self._channel.ask(method, path, query, body, media))

    def _kinds(self, api_version: str) -> tuple[Kind, ...]:
        """The kinds of one group version; empty if the server does not have it (any more)."""
        if api_version not in self._discovered:
            group, slash, version = api_version.rpartition("/")
            try:
                with self._errors("list", f"the kinds of {api_version}"):
                    answer = self._asked("GET", f"/apis/{api_version}" if slash else f"/api/{api_version}")
                    self._discovered[api_version] = tuple(
                        Kind(group, version, entry["kind"], entry["name"], namespaced=entry["namespaced"])
                        for entry in answer.get("resources") or []
                        if "/" not in entry["name"]
                    )
            except AbsentError:
                self._discovered[api_version] = ()
        return self._discovered[api_version]

    def _kind_of(self, obj: Mapping[str, Any]) -> Kind:
        return self.kind(str(obj["apiVersion"]), str(obj["kind"]))

    def _namespace(self, kind: Kind, namespace: str | None) -> str:
        """The namespace of one object."""
        return (namespace or self.endpoint.namespace) if kind.namespaced else ""

    def _path(self, kind: Kind, namespace: str = "", name: str = "") -> str:
        """The path of an object, or of all in `namespace`, or everywhere."""
        parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
        if kind.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "".join(f"/{quote(part, safe='')}" for part in [*parts, kind.plural, name] if part)

    def _clean(self, text: str, limit: int = MAX_MESSAGE) -> str:
        for secret in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = printable(" ".join(text.split()))
        return text if len(text) <= limit else f"{text[:limit]}…"

    @contextmanager
    def _errors(self, verb: str, what: str) -> Iterator[None]:
        """Turn everything that can go wrong into our errors."""
        try:
            yield
        except RefusedError as exc:
            raise failures.refusal(exc, f"{verb} {what}: {self._clean(exc.message)}", self.endpoint) from None
        except TooLargeError as exc:
            raise ClusterError(f"{verb} {what}: the answer exceeds {exc} bytes") from None
        except HTTPError as exc:
            error = failures.unreachable(exc, self.endpoint)
            raise type(error)(self._clean(error.message), hint=error.hint) from None
        except AirferryError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise ClusterError(f"{verb} {what}: not the answer of an API server ({type(exc).__name__})") from None


def _place(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
