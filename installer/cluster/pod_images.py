"""What nodes are asked for by pods: images of containers and of volumes, and what has become of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.cluster.cluster import Object
from installer.value import Value

_LISTS = ("initContainers", "containers", "ephemeralContainers")
_STATES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


class PodImage(Value):
    """An image, as the specification of a pod names it: that of a `container`, or (empty then) of a volume.

    `place` says where, for people.
    """

    text: str
    container: str
    place: str


def pod_images(spec: Mapping[str, Any]) -> Iterator[PodImage]:
    """All images of the pod specification `spec` (Kubernetes API reference, PodSpec)."""
    for item in (each for name in _LISTS for each in spec.get(name) or []):
        if image := item.get("image"):
            yield PodImage(str(image), str(item["name"]), f"container {item['name']}")
    for item in spec.get("volumes") or []:
        if reference := (item.get("image") or {}).get("reference"):
            yield PodImage(str(reference), "", f"volume {item['name']}")


def container_states(pod: Object) -> dict[str, Object]:
    """What the node reports of the containers of `pod`, by name (Kubernetes API reference, ContainerStatus)."""
    status = pod.get("status") or {}
    return {item["name"]: item for name in _STATES for item in status.get(name) or []}


def runs(state: Mapping[str, Any]) -> str:
    """What a container runs, `REPOSITORY@DIGEST` or a digest alone; empty where it is not known.

    Some runtimes write a scheme in front, such as `docker-pullable://`.
    """
    return str(state.get("imageID") or "").rpartition("://")[2]
