"""Images that the enclave's registry did not bring: what came about after all proofs, by whatever hand.

All pods in the namespaces of an installation are looked at, also those that operators make: what only the code of an
operator names could not be proven.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from installer.chart.spelling.text import as_reference
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import POD
from installer.cluster.owners import WORKLOADS, Owners, place_of
from installer.cluster.pod_images import container_states, pod_images, runs
from installer.cluster.workload import ReleaseName, of_release, of_some_release
from installer.diagnosis.cause import Cause, brief
from installer.diagnosis.image_pull import REASONS
from installer.errors import ClusterForbiddenError
from installer.oci.reference import DigestRef, Reference

# Names that Kubernetes keeps for itself (Kubernetes documentation, "Namespaces").
_SYSTEM = "kube-"
_PLAIN = {POD.name, "Node", *(kind.name for kind in WORKLOADS)}
_STEP = (
    "undo the change if somebody has set this image; if an admission webhook puts it there (a service mesh, say), have "
    "its image brought into the enclave."
)
_OPERATOR_STEP = (
    "if an operator of this application asks for it, have it added to `images` of the recipe (`airferry observe` finds "
    "all of these on a staging cluster), load the bundle made of that, and tell the operator the image's name in "
    "{registry}."
)
_LOAD_STEP = "run `load` with the bundle that brings it."


def strays(
    cluster: Cluster, releases: Sequence[ReleaseName], registry: str, images: Mapping[str, str]
) -> tuple[Cause, ...]:
    """What pods in the namespaces of `releases` ask for and should not, and what to do about it: images that are not
    from `registry`, and those of pods that no release makes which cannot be pulled.

    Pods of other releases are left out. `images` are the references that were installed, with their digests: a
    container that asks for one of them and runs other content is meant as well.
    """
    found: dict[str, Cause] = {}
    for namespace in sorted({release.namespace for release in releases} - {""}):
        owners = Owners(_workloads(cluster, namespace))
        for pod in cluster.find(POD, namespace):
            for cause in _of_pod(pod, owners.chain(pod)[-1], releases, registry, images):
                found.setdefault(str(cause), cause)
    return tuple(found[key] for key in sorted(found))


def _workloads(cluster: Cluster, namespace: str) -> Iterator[Object]:
    for kind in WORKLOADS:
        # Without one of them its pods belong to what it has made, which is told as well.
        with suppress(ClusterForbiddenError):
            yield from cluster.find(kind, namespace)


def _of_pod(
    pod: Object, owner: Object, releases: Collection[ReleaseName], registry: str, images: Mapping[str, str]
) -> Iterator[Cause]:
    metadata = pod["metadata"]
    ours = any(of_release(owner, release) for release in releases)
    others = of_some_release(owner) or (metadata["namespace"].startswith(_SYSTEM) and owner["kind"] in _PLAIN)
    if not ours and (others or owner["kind"] == "Node"):
        return
    states = container_states(pod)
    for asked in pod_images(pod["spec"]):
        image, state = asked.text, states.get(asked.container) or {}
        where = f"{place_of(pod, owner)}, {asked.place}"
        running = runs(state)
        waiting = str(((state.get("state") or {}).get("waiting") or {}).get("reason") or "")
        if not _is_of(image, registry):
            step = _STEP if ours else _OPERATOR_STEP.format(registry=registry)
            yield Cause("image-from-elsewhere", where, f"{brief(image)} is not from {registry}", step, image=image)
        elif (ours or image in images) and (other := _other(running, registry, images.get(image, ""))):
            detail = f"{brief(image)} runs as {other}, which is not what was installed"
            step = (
                "the node had other content under this name: delete the pod and the node's copy, and run `load` again."
            )
            yield Cause("image-from-elsewhere", where, detail, step, image=image)
        elif not ours and waiting in REASONS:
            unknown = "" if image in images else ", and nothing that was installed names it"
            step = _OPERATOR_STEP.format(registry=registry) if unknown else _LOAD_STEP
            yield Cause("image-not-pulled", where, f"{brief(image)} cannot be pulled{unknown}", step, image=image)


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
