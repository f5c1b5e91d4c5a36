"""Workloads of a release and whether they are rolled out, read from the objects alone.

Source of the rules: Kubernetes, `kubectl rollout status` (staging/src/k8s.io/kubectl/pkg/polymorphichelpers) and the
Job conditions of batch/v1. Every rule looks at `observedGeneration` first: a status of an earlier generation says
nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from installer.chart.helm import hook_events
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import DAEMON_SET, DEPLOYMENT, JOB, POD, REPLICA_SET, STATEFUL_SET, Kind
from installer.value import Value

KINDS = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET, JOB)
STEP_LABEL = "airferry/step"
"""On objects of manifests: the step that applied them."""
_RELEASE_NAME = "meta.helm.sh/release-name"
_RELEASE_NAMESPACE = "meta.helm.sh/release-namespace"
_MANAGED_BY = "app.kubernetes.io/managed-by"


class ReleaseName(Value):
    """A Helm release by name and namespace."""

    name: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet, DaemonSet or Job as last seen.

    `state` is a phrase for people. `failed`: waiting longer cannot help. `hook`: a Job that Helm runs.
    """

    kind: Kind
    namespace: str
    name: str
    ready: bool
    failed: bool
    state: str
    hook: bool
    obj: Object = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.kind.name} {self.namespace}/{self.name}"


def workloads(cluster: Cluster, release: ReleaseName) -> list[Workload]:
    """The workloads that Helm made for `release` in its namespace, hook Jobs that still exist included.

    Helm notes the release in an annotation; of hooks it does not, so those are known by the usual labels.
    Jobs of CronJobs are runs, not parts of the release.
    """
    found = []
    for kind in KINDS:
        for obj in cluster.find(kind, release.namespace):
            owners = [owner["kind"] for owner in obj["metadata"].get("ownerReferences") or []]
            if of_release(obj, release) and "CronJob" not in owners:
                found.append(workload(obj, kind))
    return sorted(found, key=lambda item: (item.kind.name, item.name))


def workload(obj: Object, kind: Kind) -> Workload:
    """What `obj`, of one of `KINDS`, says of itself."""
    ready, failed, state = _RULES[kind](obj)
    metadata = obj["metadata"]
    hook = bool(hook_events(obj))
    return Workload(kind, metadata["namespace"], metadata["name"], ready, failed, state, hook, obj)


def pods_of(cluster: Cluster, workload: Workload, *, leaving: bool = False) -> list[Object]:
    """The pods of a workload that are not on their way out, or those that are (`leaving`), newest first."""
    labels = (workload.obj["spec"].get("selector") or {}).get("matchLabels") or {}
    prefix = f"{workload.name}-" if workload.kind == DEPLOYMENT else workload.name
    kinds = (REPLICA_SET.name,) if workload.kind == DEPLOYMENT else (workload.kind.name,)
    found = [
        pod
        for pod in cluster.find(POD, workload.namespace, labels=labels)
        if bool(pod["metadata"].get("deletionTimestamp")) == leaving
        # Selectors of different workloads may overlap; owners do not.
        and any(
            owner["kind"] in kinds and owner["name"].startswith(prefix)
            for owner in pod["metadata"].get("ownerReferences") or []
        )
    ]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def current(cluster: Cluster, workload: Workload, pods: list[Object]) -> list[Object]:
    """Those of the `pods` of a workload that are of its present generation: what ails others is to be replaced anyway.

    Source: the controllers of Kubernetes, which mark pods with the revision that they were made from.
    """
    if workload.kind == DEPLOYMENT:
        sets = [item for item in cluster.find(REPLICA_SET, workload.namespace) if _owner(item) == workload.name]
        newest = max(sets, key=_revision, default=None)
        return [pod for pod in pods if newest is None or _owner(pod) == newest["metadata"]["name"]]
    if workload.kind == STATEFUL_SET:
        revision = (workload.obj.get("status") or {}).get("updateRevision")
        label = "controller-revision-hash"
    else:
        revision = (workload.obj["metadata"].get("annotations") or {}).get("deprecated.daemonset.template.generation")
        label = "pod-template-generation"
    return [pod for pod in pods if not revision or (pod["metadata"].get("labels") or {}).get(label) == revision]


def pod_specs(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every map with a list of containers in an object, wherever it stands."""
    if isinstance(node, Mapping):
        if isinstance(node.get("containers"), list):
            yield node
            return
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)


def pod_templates(node: Any) -> Iterator[dict[str, Any]]:
    """Every map whose `spec` has containers, wherever it stands."""
    if isinstance(node, Mapping):
        spec = node.get("spec")
        if isinstance(spec, Mapping) and isinstance(spec.get("containers"), list):
            yield dict(node)
            return
        for value in node.values():
            yield from pod_templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_templates(value)


def condition(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The status condition `name`; empty if there is none."""
    for item in (obj.get("status") or {}).get("conditions") or []:
        if item.get("type") == name:
            return dict(item)
    return {}


def of_release(obj: Object, release: ReleaseName) -> bool:
    """Whether Helm made `obj` for `release`, or manifests of a step of that name hold it."""
    metadata = obj["metadata"]
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    if STEP_LABEL in labels:
        return bool(labels[STEP_LABEL] == release.name)
    if _RELEASE_NAME in annotations:
        noted = (annotations[_RELEASE_NAME], annotations.get(_RELEASE_NAMESPACE, release.namespace))
        return noted == (release.name, release.namespace)
    owned = labels.get(_MANAGED_BY) == "Helm"
    return owned and bool(labels.get("app.kubernetes.io/instance") == release.name)


def release_of(obj: Object) -> ReleaseName | None:
    """The release that Helm notes on `obj` as its owner."""
    annotations = obj["metadata"].get("annotations") or {}
    name = annotations.get(_RELEASE_NAME)
    return ReleaseName(str(name), str(annotations.get(_RELEASE_NAMESPACE) or "")) if name else None


def marked(obj: Object, release: ReleaseName) -> Object:
    """`obj` with what Helm notes on each object of `release`, and asks for where one is there already (Helm,
    pkg/action/validate.go)."""
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), _MANAGED_BY: "Helm"}
    place = {_RELEASE_NAME: release.name, _RELEASE_NAMESPACE: release.namespace}
    annotations = {**(metadata.get("annotations") or {}), **place}
    return {**obj, "metadata": {**metadata, "labels": labels, "annotations": annotations}}


def is_marked(obj: Object, release: ReleaseName) -> bool:
    """Whether Helm takes `obj` for a part of `release`, by the notes of `marked`."""
    return marked(obj, release) == obj


def of_some_release(obj: Object) -> bool:
    """Whether Helm made `obj`, or a step holds it, whichever it is."""
    metadata = obj["metadata"]
    return STEP_LABEL in (metadata.get("labels") or {}) or _RELEASE_NAME in (metadata.get("annotations") or {})


def _owner(obj: Object) -> str:
    """The name of the controller of `obj`."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((str(owner["name"]) for owner in owners if owner.get("controller")), "")


def _revision(replica_set: Object) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _unobserved(obj: Object) -> bool:
    return int((obj.get("status") or {}).get("observedGeneration") or 0) < int(obj["metadata"].get("generation") or 0)


def _deployment(obj: Object) -> tuple[bool, bool, str]:
    status, wanted = obj.get("status") or {}, _replicas(obj)
    updated, available = int(status.get("updatedReplicas") or 0), int(status.get("availableReplicas") or 0)
    if _unobserved(obj):
        return False, False, "waits for its controller"
    if updated < wanted:
        return False, False, f"{updated} of {wanted} replicas are of this generation"
    if int(status.get("replicas") or 0) > updated:
        return False, False, f"{int(status['replicas']) - updated} replicas of an earlier generation still run"
    if available < wanted:
        return False, False, f"{available} of {wanted} replicas are available"
    return True, False, f"{available} of {wanted} replicas are available"


def _stateful_set(obj: Object) -> tuple[bool, bool, str]:
    spec, status, wanted = obj["spec"], obj.get("status") or {}, _replicas(obj)
    strategy = spec.get("updateStrategy") or {}
    ready, updated = int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)
    first = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    if _unobserved(obj):
        return False, False, "waits for its controller"
    if strategy.get("type") != "OnDelete" and updated < wanted - first:
        return False, False, f"{updated} of {wanted - first} replicas are of this generation"
    return ready >= wanted, False, f"{ready} of {wanted} replicas are ready"


def _daemon_set(obj: Object) -> tuple[bool, bool, str]:
    status = obj.get("status") or {}
    wanted, available = int(status.get("desiredNumberScheduled") or 0), int(status.get("numberAvailable") or 0)
    updated = int(status.get("updatedNumberScheduled") or 0)
    if _unobserved(obj):
        return False, False, "waits for its controller"
    if (obj["spec"].get("updateStrategy") or {}).get("type") != "OnDelete" and updated < wanted:
        return False, False, f"{updated} of {wanted} nodes have this generation"
    return available >= wanted, False, f"available on {available} of {wanted} nodes"


def _job(obj: Object) -> tuple[bool, bool, str]:
    if condition(obj, "Complete").get("status") == "True":
        return True, False, "is complete"
    failure = condition(obj, "Failed")
    if failure.get("status") == "True":
        return False, True, f"has failed: {failure.get('message') or failure.get('reason') or 'no reason given'}"
    if obj["spec"].get("suspend"):
        return True, False, "is suspended"
    failures = int((obj.get("status") or {}).get("failed") or 0)
    return False, False, f"runs{f', {failures} attempts failed' if failures else ''}"


def _replicas(obj: Object) -> int:
    count = obj["spec"].get("replicas")
    return 1 if count is None else int(count)


_RULES: dict[Kind, Callable[[Object], tuple[bool, bool, str]]] = {
    DEPLOYMENT: _deployment,
    STATEFUL_SET: _stateful_set,
    DAEMON_SET: _daemon_set,
    JOB: _job,
}
