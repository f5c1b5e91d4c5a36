"""Images of hooks, on the nodes before a hook runs.

A controller that installs a chart may give each hook half a minute only, the pull of its image included; a first pull
over a slow line takes longer, and the release is then left broken. So a DaemonSet of ours asks every node that a
hook may run on for these images, and goes again. Its containers never run: the program that they name does not exist,
and a container whose program cannot be started has its image.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import DAEMON_SET, POD
from installer.cluster.workload import ReleaseName
from installer.diagnosis.cause import MAX_TEXT
from installer.diagnosis.wait import AGAIN, Patience
from installer.errors import ClusterError, ClusterForbiddenError, NotReadyError
from installer.objects.desired import MANAGED_BY
from installer.report import printable
from installer.value import Value

MAX_SECONDS = 600.0
# A registry that starts or is busy may refuse once or twice; a node that has not even taken its pod up by then does not
# answer.
SETTLED_SECONDS = 30.0
_NAME = "airferry-images"
_UNPULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_STARTING = ("", "ContainerCreating", "PodInitializing")
# What the strictest Pod Security Standard asks for. No user is named, since the container never runs: OpenShift admits
# only users of a range that it has for the namespace.
_HARMLESS = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_of(item: Object) -> Object | None:
    """What a node must know to pull the images of the hook `item`, and where it may run; None if it is no pod."""
    spec = item.get("spec") or {}
    pod = spec if item.get("kind") == POD.name else (spec.get("template") or {}).get("spec")
    if not isinstance(pod, dict):
        return None
    containers = [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]
    images = sorted({str(each["image"]) for each in containers if each.get("image")})
    places = {key: pod[key] for key in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity") if pod.get(key)}
    return {"images": images, **places}


def pull(cluster: Cluster, release: ReleaseName, pods: Iterable[Object], patience: Patience) -> None:
    """Have the images of `pods`, made by `pod_of`, on all nodes where they may run.

    This is help, and no condition: where no DaemonSet may be made, its pods are refused, or nodes do not answer, that
    is noted, and the hooks go without. Raises NotReadyError if an image cannot be pulled anywhere: the hooks could not
    either, and would leave the release broken.
    """
    wanted = _daemon_set(release, list(pods))
    if wanted is None:
        return
    try:
        cluster.apply(wanted, force=True)
    except (ClusterForbiddenError, ClusterError) as exc:
        patience.reporter.note(f"images of hooks are not pulled beforehand: {exc.message}")
        return
    try:
        _until_pulled(cluster, release, patience)
    finally:
        clear(cluster, release)


def clear(cluster: Cluster, release: ReleaseName) -> None:
    """Remove what an interrupted `pull` left."""
    cluster.delete(DAEMON_SET, f"{_NAME}-{release.name}", release.namespace)


def _until_pulled(cluster: Cluster, release: ReleaseName, patience: Patience) -> None:
    start = patience.clock()
    while True:
        seen = patience.asked(lambda: _look(cluster, release))
        if seen.complete:
            return
        waited = patience.clock() - start
        if patience.over() or waited >= MAX_SECONDS or (waited >= SETTLED_SECONDS and not seen.pulling):
            if seen.failures and not seen.done:
                raise NotReadyError("\n  ".join(["images of hooks cannot be pulled:", *seen.failures[:20]]), hint=AGAIN)
            if seen.pulling and not seen.done:
                raise NotReadyError(f"release {release}: no node has the images of its hooks in time", hint=AGAIN)
            why = seen.failures[0] if seen.failures else _refusal(cluster, release)
            patience.reporter.note(f"{release}: images of hooks are {seen}; going on{why and f': {why}'}")
            return
        patience.state(f"{release}: images of hooks are {seen}")
        patience.rest()


class _Seen(Value):
    """How far the nodes are: how many shall have the images, have them, and are about to have them.

    The others refuse the pod, do not answer, or cannot pull: `failures` says which image, and why.
    """

    known: bool
    wanted: int
    done: int
    pulling: int
    failures: list[str]

    def __str__(self) -> str:
        return f"on {self.done} of {self.wanted} nodes" if self.wanted else "on no node: none takes their pods so far"

    @property
    def complete(self) -> bool:
        return self.known and self.done >= self.wanted


def _look(cluster: Cluster, release: ReleaseName) -> _Seen:
    held = cluster.get(DAEMON_SET, f"{_NAME}-{release.name}", release.namespace) or {}
    status = held.get("status") or {}
    pods = [
        pod
        for pod in cluster.find(POD, release.namespace, labels=_labels(release))
        if not pod["metadata"].get("deletionTimestamp")
    ]
    failed = {pod["metadata"]["name"]: list(_failures(pod)) for pod in pods}
    return _Seen(
        known=status.get("observedGeneration") == (held.get("metadata") or {}).get("generation"),
        wanted=int(status.get("desiredNumberScheduled") or 0),
        done=len([pod for pod in pods if _pulled(pod)]),
        pulling=len([pod for pod in pods if _pulling(pod) and not failed[pod["metadata"]["name"]]]),
        failures=[line for lines in failed.values() for line in lines],
    )


def _refusal(cluster: Cluster, release: ReleaseName) -> str:
    """What the API server says of pods that it refuses; empty if it has refused none."""
    events = cluster.events(release.namespace, DAEMON_SET.name, f"{_NAME}-{release.name}")
    said = (str(item.get("message") or "") for item in reversed(events) if item.get("reason") == "FailedCreate")
    return printable(next(said, ""))[:MAX_TEXT]


def _daemon_set(release: ReleaseName, pods: list[Object]) -> Object | None:
    images = sorted({image for pod in pods for image in pod["images"]})
    if not images:
        return None
    spec: Object = {
        "containers": [_container(number, image) for number, image in enumerate(images)],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "imagePullSecrets": _united(pods, "imagePullSecrets"),
        "tolerations": _united(pods, "tolerations"),
    }
    for key in ("nodeSelector", "affinity"):
        # Hooks that run in different places: then everywhere.
        if pods[0].get(key) and all(pod.get(key) == pods[0][key] for pod in pods):
            spec[key] = pods[0][key]
    labels = _labels(release)
    return {
        "apiVersion": DAEMON_SET.api_version,
        "kind": DAEMON_SET.name,
        "metadata": {
            "name": f"{_NAME}-{release.name}",
            "namespace": release.namespace,
            "labels": {**MANAGED_BY, **labels},
        },
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def _container(number: int, image: str) -> Object:
    few = {"cpu": "1m", "memory": "8Mi"}
    return {
        "name": f"image-{number}",
        "image": image,
        "command": ["/only-the-image-is-wanted"],
        "resources": {"requests": few, "limits": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": dict(_HARMLESS),
    }


def _united(pods: list[Object], key: str) -> list[Any]:
    found: list[Any] = []
    for pod in pods:
        found += [item for item in pod.get(key) or [] if item not in found]
    return found


def _labels(release: ReleaseName) -> dict[str, str]:
    return {"airferry/images-of": release.name}


def _pulled(pod: Object) -> bool:
    """Whether the node has all images of `pod`: those of containers that could not be started as well."""
    statuses = _statuses(pod)
    return bool(statuses) and all(
        item.get("imageID") or _reason(item) not in (*_UNPULLED, *_STARTING) for item in statuses
    )


def _pulling(pod: Object) -> bool:
    """Whether the node has taken `pod` up, and not all of its images are there yet."""
    return bool(_statuses(pod)) and not _pulled(pod)


def _failures(pod: Object) -> Iterator[str]:
    for item in _statuses(pod):
        if _reason(item) in _UNPULLED:
            said = printable(str(item["state"]["waiting"].get("message") or _reason(item)))[:MAX_TEXT]
            yield f"{item['image']} on node {pod['spec'].get('nodeName', '?')}: {said}"


def _statuses(pod: Object) -> list[Object]:
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def _reason(status: Object) -> str:
    """Why a container waits; a word of ours if it does not."""
    state = status.get("state") or {}
    waiting = state.get("waiting")
    return str(waiting.get("reason") or "") if isinstance(waiting, dict) else "running" if state else ""
