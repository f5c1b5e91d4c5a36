"""Why a workload is not ready, as causes with a next step.

Reads pods, their events and last log lines, and names the first thing that is wrong in the order in which a pod comes
to life: created, scheduled, volumes, image, start, readiness.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from installer.kube import CONFIG_MAP, JOB, SECRET, VOLUME_CLAIM, Cluster, Object
from installer.report import printable
from installer.workload import Workload, condition, pods_of

LOG_LINES = 5
MAX_PODS = 3
MAX_TEXT = 400
_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "RegistryUnavailable", "ErrImageNeverPull"}
_MISSING = re.compile(r'(secret|configmap) "([^"]+)" not found')
# What a node's container runtime says of a failed pull, and what it means in an enclave.
_PULL_STEPS = (
    ("HTTP response to HTTPS client", "tell the nodes' container runtime that this registry speaks plain HTTP."),
    ("x509", "give the nodes' container runtime the CA of this registry."),
    ("certificate", "give the nodes' container runtime the CA of this registry."),
    ("unauthorized", "give the namespace a pull secret for this registry, or the nodes its credentials."),
    ("403", "give the namespace a pull secret for this registry, or the nodes its credentials."),
    ("not found", "run `load` again: the registry does not hold this image."),
    ("manifest unknown", "run `load` again: the registry does not hold this image."),
    ("no such host", "the nodes cannot resolve the registry's name: check their DNS."),
    ("connection refused", "the registry does not answer the nodes: check that it runs at this address and port."),
    ("timeout", "the nodes cannot reach the registry: check routes and firewalls."),
    ("no route", "the nodes cannot reach the registry: check routes and firewalls."),
    ("unreachable", "the nodes cannot reach the registry: check routes and firewalls."),
)


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong with which object, and what to do next."""

    where: str
    what: str
    step: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; next: {self.step}"


def causes(cluster: Cluster, workload: Workload) -> list[Cause]:
    """Why `workload` is not ready; one cause per distinct problem, at least one."""
    found = problems(cluster, workload)
    if found:
        return found
    step = f"look at `kubectl describe {workload.kind.name.lower()} -n {workload.namespace} {workload.name}`."
    return [Cause(str(workload), workload.state, step)]


def problems(cluster: Cluster, workload: Workload) -> list[Cause]:
    """What is wrong with `workload`; empty if it may just need more time."""
    found: dict[tuple[str, str], Cause] = {}
    pods = pods_of(cluster, workload)
    for pod in pods[:MAX_PODS]:
        for cause in _pod(cluster, pod):
            # Replicas fail alike: one of them is enough.
            found.setdefault((cause.what, cause.step), cause)
    if not pods:
        for cause in _uncreated(cluster, workload):
            found.setdefault((cause.what, cause.step), cause)
    return list(found.values())


def _uncreated(cluster: Cluster, workload: Workload) -> Iterator[Cause]:
    """Why there is not even a pod: quota, admission policy, missing service account."""
    step = "a quota, an admission policy or a missing service account stops the pod: ask who runs the cluster."
    failure = condition(workload.obj, "ReplicaFailure")
    if failure.get("status") == "True":
        yield Cause(str(workload), _short(failure.get("message")), step)
        return
    for event in reversed(cluster.events(workload.namespace, workload.kind.name, workload.name)):
        if event.get("reason") == "FailedCreate":
            yield Cause(str(workload), _short(event.get("message")), step)
            return
    if workload.kind == JOB and workload.failed:
        yield Cause(str(workload), workload.state, "its pods are gone; run the same command again and watch the Job.")


def _pod(cluster: Cluster, pod: Object) -> Iterator[Cause]:
    metadata, status = pod["metadata"], pod.get("status") or {}
    where = f"pod {metadata['namespace']}/{metadata['name']}"
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        yield from _unscheduled(cluster, pod, where, _short(scheduled.get("message")))
        return
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    found = False
    for container in containers:
        for cause in _container(cluster, pod, container, where):
            found = True
            yield cause
    if not found and status.get("phase") == "Failed":
        yield Cause(where, _short(status.get("message") or status.get("reason")), "see its events.")
    elif not found and status.get("phase") == "Pending":
        yield from _unmounted(cluster, pod, where)


def _unscheduled(cluster: Cluster, pod: Object, where: str, message: str) -> Iterator[Cause]:
    """No node takes the pod: often because a volume has no place yet."""
    namespace, found = pod["metadata"]["namespace"], False
    for volume in pod["spec"].get("volumes") or []:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        claim = cluster.get(VOLUME_CLAIM, name, namespace) if name else None
        if name and claim is None:
            found = True
            yield Cause(where, f"volume claim {name} does not exist", "run the same command again.")
        elif claim is not None and (claim.get("status") or {}).get("phase") != "Bound":
            found = True
            yield _unbound(cluster, claim)
    if not found:
        yield Cause(
            where,
            f"no node can take it: {message}",
            "free resources, add a node, or lower requests and drop selectors in the values of site.yaml.",
        )


def _unbound(cluster: Cluster, claim: Object) -> Cause:
    metadata = claim["metadata"]
    storage = claim["spec"].get("storageClassName")
    events = cluster.events(metadata["namespace"], "PersistentVolumeClaim", metadata["name"])
    message = _short(events[-1].get("message")) if events else "nothing provides it"
    said = f"storage class {storage}" if storage else "no storage class is named and the cluster has no default one"
    step = "name a storage class that this cluster has in the values of site.yaml, or create the volume."
    return Cause(f"volume claim {metadata['namespace']}/{metadata['name']}", f"pending, {said}: {message}", step)


def _unmounted(cluster: Cluster, pod: Object, where: str) -> Iterator[Cause]:
    metadata = pod["metadata"]
    for event in reversed(cluster.events(metadata["namespace"], "Pod", metadata["name"])):
        if str(event.get("reason", "")).startswith("Failed"):
            message = _short(event.get("message"))
            yield Cause(where, message, _missing_step(message) or "look at its events.")
            return


def _container(cluster: Cluster, pod: Object, container: dict[str, Any], where: str) -> Iterator[Cause]:
    name, state = container["name"], container.get("state") or {}
    place = f"{where}, container {name}"
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    reason, message = str(waiting.get("reason") or ""), _short(waiting.get("message"))
    if reason in _PULL:
        yield Cause(place, f"image {container['image']} cannot be pulled: {message or reason}", _pull_step(message))
    elif reason == "CrashLoopBackOff" or (ended and ended.get("exitCode")) or (waiting and last.get("exitCode")):
        run = ended or last
        log = cluster.logs(
            pod["metadata"]["namespace"], pod["metadata"]["name"], name, tail=LOG_LINES, previous=not ended
        )
        yield _crash(place, run, log)
    elif reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "ImageInspectError"):
        yield Cause(place, f"cannot start: {message}", _missing_step(message) or "correct the values it is made from.")
    elif state.get("running") and container.get("started") is not None and not container.get("ready"):
        yield from _unready(cluster, pod, place, last)


def _crash(place: str, run: dict[str, Any], log: list[str]) -> Cause:
    reason = run.get("reason") or "ended"
    said = f"; its last words: {' | '.join(log)}" if log else "; it wrote nothing"
    step = "read its whole log with `kubectl logs --previous`; it is the program's own complaint."
    if reason == "OOMKilled":
        step = "raise its memory limit in the values of site.yaml."
    return Cause(place, f"ends with exit code {run.get('exitCode')} ({reason}){_short(said, 3 * MAX_TEXT)}", step)


def _unready(cluster: Cluster, pod: Object, place: str, last: dict[str, Any]) -> Iterator[Cause]:
    metadata = pod["metadata"]
    for event in reversed(cluster.events(metadata["namespace"], "Pod", metadata["name"])):
        if event.get("reason") == "Unhealthy":
            yield Cause(place, f"runs, but {_short(event.get('message'))}", "it may need more time; else read its log.")
            return
    if last.get("exitCode"):
        yield _crash(place, last, [])


def _pull_step(message: str) -> str:
    for sign, step in _PULL_STEPS:
        if sign in message:
            return step
    return "check that `load` has put it there and that the nodes may pull from this registry."


def _missing_step(message: str) -> str:
    found = _MISSING.search(message)
    if not found:
        return ""
    kind = {"secret": SECRET.name, "configmap": CONFIG_MAP.name}[found[1]]
    return f"create the {kind} {found[2]}, or name it under `secrets` in site.yaml."


def _short(text: Any, limit: int = MAX_TEXT) -> str:
    line = printable(" ".join(str(text or "").split()))
    return line if len(line) <= limit else f"{line[:limit]}…"
