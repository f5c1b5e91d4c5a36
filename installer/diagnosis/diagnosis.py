"""Why a workload is not ready, as causes with a next step.

Reads pods, their events and last log lines, and names the first thing that is wrong in the order in which a pod comes
to life: created, scheduled, volumes, image, start, readiness.
"""

from collections.abc import Iterator

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import JOB, POD, STATEFUL_SET
from installer.cluster.workload import Workload, condition, current, pods_of
from installer.diagnosis.cause import Cause, brief
from installer.diagnosis.container_state import ContainerState, configuration_cause
from installer.diagnosis.image_pull import Holds
from installer.diagnosis.scheduling import node_away, unscheduled

MAX_PODS = 3
_LIMITS = "keep requests and limits within the namespace's LimitRange, in the values of site.yaml."
_SECURITY = (
    "set security contexts in the values of site.yaml, or lower the namespace's level: `kubectl label --overwrite "
    "namespace {namespace} pod-security.kubernetes.io/enforce=baseline` (or privileged)."
)
# Words of the API server when it refuses to create a pod, in lower case, with cause and next step.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    ("exceeded quota", "quota", "have the quota raised, or lower requests and replicas in the values of site.yaml."),
    ("failed quota", "quota", "set the resources that the quota asks for in the values of site.yaml."),
    ("violates podsecurity", "pod-security", _SECURITY),
    ("usage per", "limit-range", _LIMITS),
    ("request ratio per", "limit-range", _LIMITS),
    # A LimitRange gives a limit to who has none, be it below the request.
    ("must be less than or equal to", "limit-range", _LIMITS),
    (
        "because it is being terminated",
        "namespace-terminating",
        "wait until namespace {namespace} is gone, then run the same command again; `preflight` says what hinders it.",
    ),
    ("serviceaccount", "service-account-missing", "run the same command again: it restores what is missing."),
    ("service account", "service-account-missing", "run the same command again: it restores what is missing."),
)  # fmt: skip
_ADMISSION = "an admission policy of the cluster refuses the pod: ask who runs the cluster."


def unknown(_reference: str) -> bool | None:
    """`Holds` where the registry cannot be asked."""
    return None


def causes(cluster: Cluster, workload: Workload, holds: Holds = unknown) -> list[Cause]:
    """Why `workload` is not ready; one cause per distinct problem, at least one."""
    found = problems(cluster, workload, holds)
    if found:
        return found
    step = f"look at `kubectl describe {workload.kind.name.lower()} -n {workload.namespace} {workload.name}`."
    return [Cause("unknown", str(workload), workload.state, step)]


def problems(cluster: Cluster, workload: Workload, holds: Holds = unknown) -> list[Cause]:
    """What is wrong with `workload`; empty if it may just need more time."""
    found: dict[tuple[str, str], Cause] = {}
    pods = pods_of(cluster, workload)
    newest = current(cluster, workload, pods)
    for pod in newest[:MAX_PODS]:
        for cause in _pod(cluster, pod, holds):
            # Replicas fail alike: one of them is enough.
            found.setdefault((cause.cause, cause.object.partition(", ")[2]), cause)
    own = [*_blocked(workload, pods, newest), *_uncreated(cluster, workload, newest), *_deadline(workload)]
    if not newest:
        # A StatefulSet waits for the end of its pod, which a node that is away cannot tell.
        own += [cause for pod in pods_of(cluster, workload, leaving=True) for cause in node_away(cluster, pod)]
    for cause in own:
        found.setdefault((cause.cause, cause.object), cause)
    return list(found.values())


def restarts(cluster: Cluster, workload: Workload) -> list[tuple[str, str, int]]:
    """Pod, container and count of restarts of each program of `workload` that runs after it has failed."""
    return [
        (pod["metadata"]["name"], container["name"], int(container.get("restartCount") or 0))
        for pod in current(cluster, workload, pods_of(cluster, workload))
        for container in (pod.get("status") or {}).get("containerStatuses") or []
        if "running" in (container.get("state") or {})
        and ((container.get("lastState") or {}).get("terminated") or {}).get("exitCode")
    ]


def _uncreated(cluster: Cluster, workload: Workload, newest: list[Object]) -> Iterator[Cause]:
    """Why there is not even a pod: quota, admission policy, missing service account."""
    failure = condition(workload.obj, "ReplicaFailure")
    if failure.get("status") == "True":
        yield pods_refused(str(failure.get("message") or ""), str(workload), workload.namespace)
        return
    if newest:
        return
    events = cluster.events(workload.namespace, workload.kind.name, workload.name)
    refused = next((item for item in reversed(events) if item.get("reason") == "FailedCreate"), None)
    if refused is not None:
        yield pods_refused(str(refused.get("message") or ""), str(workload), workload.namespace)
    elif workload.kind == JOB and workload.failed:
        step = "its pods are gone; run the same command again and watch the Job."
        yield Cause("job-failed", str(workload), workload.state, step)


def pods_refused(message: str, where: str, namespace: str) -> Cause:
    """Why the API server refuses the pods of the workload `where`, in its words."""
    lower, said = message.lower(), f"its pods are refused: {brief(message)}"
    for sign, cause, step in _REFUSALS:
        if sign in lower:
            return Cause(cause, where, said, step.format(namespace=namespace))
    return Cause("admission", where, said, _ADMISSION)


def _blocked(workload: Workload, pods: list[Object], newest: list[Object]) -> Iterator[Cause]:
    """A StatefulSet does not replace a pod of an earlier generation that never got ready (Kubernetes issue 67250)."""
    if workload.kind != STATEFUL_SET:
        return
    for pod in pods:
        if pod not in newest and condition(pod, "Ready").get("status") != "True":
            where = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
            step = f"`kubectl delete pod -n {pod['metadata']['namespace']} {pod['metadata']['name']}`"
            said = "is of an earlier generation and not ready; Kubernetes does not replace it by itself"
            yield Cause("old-replica-blocks", where, said, f"{step}; then it is made anew as wanted.")


def _deadline(workload: Workload) -> Iterator[Cause]:
    """A Deployment that has given up hope itself: its chart says how long progress may take."""
    progress = condition(workload.obj, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        seconds = workload.obj["spec"].get("progressDeadlineSeconds", 600)
        said = f"no progress within the {seconds} s that it allows itself ({workload.state})"
        step = (
            f"mend what its pods lack; `kubectl describe deployment -n {workload.namespace} {workload.name}` says more."
        )
        yield Cause("deadline-exceeded", str(workload), said, step)


def _pod(cluster: Cluster, pod: Object, holds: Holds) -> Iterator[Cause]:
    metadata, status = pod["metadata"], pod.get("status") or {}
    where = f"pod {metadata['namespace']}/{metadata['name']}"
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield from unscheduled(cluster, pod, where, brief(scheduled.get("message")))
        return
    if away := list(node_away(cluster, pod)):
        yield from away
        return
    found = False
    for key, init in (("initContainerStatuses", True), ("containerStatuses", False)):
        for container in status.get(key) or []:
            sidecar = init and container.get("started") and _restarts(pod, container["name"])
            for cause in ContainerState(cluster, pod, container, init and not sidecar, holds).causes():
                found = True
                yield cause
    if not found and status.get("phase") == "Failed":
        said = brief(status.get("message") or status.get("reason") or "it has failed")
        yield Cause("pod-failed", where, said, f"look at `kubectl describe pod -n {metadata['namespace']}`.")
    elif not found and status.get("phase") == "Pending":
        yield from _unmounted(cluster, pod, where)


def _restarts(pod: Object, name: str) -> bool:
    """Whether the init container `name` is a sidecar: it runs beside the others instead of before them."""
    containers = pod["spec"].get("initContainers") or []
    return any(item["name"] == name and item.get("restartPolicy") == "Always" for item in containers)


def _unmounted(cluster: Cluster, pod: Object, where: str) -> Iterator[Cause]:
    metadata = pod["metadata"]
    for event in reversed(cluster.events(metadata["namespace"], POD.name, metadata["name"])):
        reason, message = str(event.get("reason", "")), str(event.get("message") or "")
        if reason == "FailedMount" or reason == "FailedAttachVolume":
            found = configuration_cause(cluster, pod, where, message)
            if found.cause == "config-invalid":
                step = "look at the volume and at the storage it comes from."
                found = Cause("volume-not-mounted", where, f"cannot start: {brief(message)}", step)
            yield found
            return
        if reason == "FailedCreatePodSandBox":
            step = "the node cannot start pods: look at its container runtime and network plugin."
            yield Cause("node-broken", where, f"cannot start: {brief(message)}", step)
            return
