"""Pods that run images of another registry than the enclave's: what came about after all proofs, by whatever hand."""

from collections.abc import Iterable, Iterator, Mapping

from installer.chart.images import as_reference
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import POD
from installer.cluster.workload import ReleaseName, pods_of, workloads
from installer.diagnosis.cause import Cause, brief
from installer.oci.reference import DigestRef, Reference

_LISTS = ("initContainers", "containers", "ephemeralContainers")
_STATES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_STEP = (
    "undo the change if somebody has set this image; if an admission webhook puts it there (a service mesh, say), have "
    "its image brought into the enclave."
)


def strays(
    cluster: Cluster, releases: Iterable[ReleaseName], registry: str, images: Mapping[str, str]
) -> tuple[Cause, ...]:
    """Every container of a pod of `releases` whose image is not from `registry`, and what to do about it.

    `images` are the references that were installed, with their digests: a container that asks for one of them and runs
    other content is meant as well.
    """
    found: dict[str, Cause] = {}
    for release in releases:
        for pod in _pods(cluster, release):
            for cause in _of_pod(pod, registry, images):
                found.setdefault(str(cause), cause)
    return tuple(found[key] for key in sorted(found))


def _pods(cluster: Cluster, release: ReleaseName) -> list[Object]:
    """The pods of the workloads of `release`, and those that bear its label, such as runs of its CronJobs."""
    labels = {"app.kubernetes.io/instance": release.name}
    pods = cluster.find(POD, release.namespace, labels=labels)
    pods += [pod for item in workloads(cluster, release) for pod in pods_of(cluster, item)]
    return list({pod["metadata"]["uid"]: pod for pod in pods}.values())


def _of_pod(pod: Object, registry: str, images: Mapping[str, str]) -> Iterator[Cause]:
    metadata, status = pod["metadata"], pod.get("status") or {}
    running = {
        item["name"]: str(item.get("imageID") or "").rpartition("://")[2]
        for name in _STATES
        for item in status.get(name) or []
    }
    for container in (item for name in _LISTS for item in pod["spec"].get(name) or []):
        image, name = str(container.get("image") or ""), container["name"]
        where = f"Pod {metadata['namespace']}/{metadata['name']}, container {name}"
        if not _is_of(image, registry):
            yield Cause("image-from-elsewhere", where, f"{brief(image)} is not from {registry}", _STEP, image=image)
        elif (other := _other(running.get(name, ""), registry, images.get(image, ""))) is not None:
            detail = f"{brief(image)} runs as {other}, which is not what was installed"
            step = (
                "the node had other content under this name: delete the pod and the node's copy, and run `load` again."
            )
            yield Cause("image-from-elsewhere", where, detail, step, image=image)


def _other(running: str, registry: str, digest: str) -> Reference | None:
    """What a container runs, if that is from elsewhere and not the content with `digest` under another name.

    Nodes name content that they had before by the name under which it came first.
    """
    found = as_reference(running) if "/" in running else None
    if not isinstance(found, DigestRef) or found.repository.host == registry or found.digest.text == digest:
        return None
    return found


def _is_of(image: str, registry: str) -> bool:
    found = as_reference(image)
    return found is not None and found.repository.host == registry
