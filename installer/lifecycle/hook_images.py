"""Images of hooks, on the nodes before a hook runs.

The W&B controller gives each hook 30 s (Helm 4.1.4 as of controller 1.22.0), the pull of its image included; a first
pull over a slow line takes longer, and the release is then left broken. So a DaemonSet of ours asks every node that a
hook may run on for these images, and goes again. Its containers never run: the program that they name does not exist,
and a container whose program cannot be started has its image.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from installer.cluster.kube import DAEMON_SET, POD, Cluster, Object
from installer.cluster.workload import ReleaseName
from installer.diagnosis.wait import AGAIN, Patience
from installer.errors import ClusterForbiddenError, NotReadyError
from installer.objects.desired import MANAGED_BY
from installer.report import printable

MAX_SECONDS = 600.0
# A registry that starts or is busy may refuse once or twice.
FAILED_SECONDS = 30.0
_NAME = "airferry-images"
_UNPULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_STARTING = ("", "ContainerCreating", "PodInitializing")
# What the strictest Pod Security Standard asks for.
_HARMLESS = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65534,
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

    Where no DaemonSet may be made, nothing happens. Raises NotReadyError if an image cannot be pulled anywhere.
    """
    wanted = _daemon_set(release, list(pods))
    if wanted is None:
        return
    try:
        cluster.apply(wanted, force=True)
    except ClusterForbiddenError as exc:
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
        held = cluster.get(DAEMON_SET, f"{_NAME}-{release.name}", release.namespace) or {}
        status = held.get("status") or {}
        known = status.get("observedGeneration") == (held.get("metadata") or {}).get("generation")
        pods = cluster.find(POD, release.namespace, labels=_labels(release))
        done = [pod for pod in pods if _pulled(pod)]
        if known and len(done) >= int(status.get("desiredNumberScheduled") or 0):
            return
        waited = patience.clock() - start
        failures = list(_failures(pods))
        if failures and not done and waited >= FAILED_SECONDS:
            raise NotReadyError("\n  ".join(["images of hooks cannot be pulled:", *failures[:20]]), hint=AGAIN)
        if patience.over() or waited >= MAX_SECONDS:
            if not done:
                raise NotReadyError(f"release {release}: no node has the images of its hooks in time", hint=AGAIN)
            patience.reporter.note(f"release {release}: {len(pods) - len(done)} nodes lack images of hooks; going on")
            return
        patience.state(f"{release}: images of hooks are on {len(done)} of {len(pods)} nodes")
        patience.rest()


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
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return bool(statuses) and all(
        item.get("imageID") or _reason(item) not in (*_UNPULLED, *_STARTING) for item in statuses
    )


def _failures(pods: Iterable[Object]) -> Iterator[str]:
    for pod in pods:
        for item in (pod.get("status") or {}).get("containerStatuses") or []:
            if _reason(item) in _UNPULLED:
                said = printable(str(item["state"]["waiting"].get("message") or _reason(item)))[:400]
                yield f"{item['image']} on node {pod['spec'].get('nodeName', '?')}: {said}"


def _reason(status: Object) -> str:
    """Why a container waits; a word of ours if it does not."""
    state = status.get("state") or {}
    waiting = state.get("waiting")
    return str(waiting.get("reason") or "") if isinstance(waiting, dict) else "running" if state else ""
