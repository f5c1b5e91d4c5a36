"""Whether the nodes can run the pods: their architecture, the room left on them, and images without a registry."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.chart.helm import hook_events
from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import DAEMON_SET, DEPLOYMENT, NODE, POD, STATEFUL_SET
from installer.cluster.workload import pod_specs
from installer.diagnosis.finding import Finding, warning
from installer.diagnosis.scheduling import ailing, quantity, requested, unready
from installer.errors import ClusterError
from installer.objects.desired import Desired
from installer.oci.model import Platform
from installer.oci.reference import DigestRef, parse_reference
from installer.report import size

_REPORTED, _REPORTED_NAMES = 50, 5
_SHOWN = 10
_OPEN = (
    "start what is down on them (kubelet, container runtime, network), free what they are short of, `kubectl uncordon` "
    "one, or give the pods tolerations in site.yaml."
)
_CLOSING = ("NoSchedule", "NoExecute")


def nodes(cluster: Cluster, wanted: Desired, platforms: Iterable[Platform]) -> Iterator[Finding]:
    """Nodes that are away or cannot run the bundle's images, and too little room on those that can."""
    carried = sorted({f"{item.os}/{item.architecture}" for item in platforms})
    there = cluster.find(NODE)
    pods = [spec for part in wanted.parts for item in part.applied for spec in pod_specs(item)]
    closed = {item["metadata"]["name"]: _closed(item, pods) for item in there}
    found = [item for item in there if not closed[item["metadata"]["name"]]]
    if not there:
        yield warning("this cluster has no node", "join one, unless an autoscaler makes nodes for pods that wait.")
    elif not found:
        yield Finding(f"no node takes pods: {'; '.join(list(closed.values())[:_SHOWN])}", _OPEN, ClusterError)
    else:
        for said in list(filter(None, map(ailing, there)))[:_SHOWN]:
            yield warning(said, "look at its kubelet, container runtime, network and disk: what runs there suffers.")
    fitting = [item for item in found if _platform(item) in carried]
    others = sorted({_platform(item) for item in found} - set(carried))
    if found and not fitting:
        yield Finding(
            f"no node can run these images: they are for {', '.join(carried)}, the nodes are {', '.join(others)}",
            "use a bundle for these nodes.",
            ClusterError,
        )
    elif others:
        yield warning(
            f"some nodes are {', '.join(others)}, and the images are for {', '.join(carried)}",
            "keep the pods away from them with node selectors in site.yaml.",
        )
    if fitting:
        yield from _room(cluster, wanted, fitting)


def _closed(node: Object, pods: list[Mapping[str, Any]]) -> str:
    """Why `node` takes none of `pods`; empty if it takes some."""
    spec, name = node.get("spec") or {}, node["metadata"]["name"]
    if away := unready(node):
        return away
    if spec.get("unschedulable"):
        return f"node {name} is cordoned"
    taints = [taint for taint in spec.get("taints") or [] if taint.get("effect") in _CLOSING]
    if not pods or any(all(_tolerates(pod, taint) for taint in taints) for pod in pods):
        return ""
    return ailing(node) or f"node {name} has the taint {', '.join(str(taint['key']) for taint in taints)}"


def _tolerates(pod: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether `pod` may run in spite of `taint` (Kubernetes documentation, "Taints and Tolerations")."""
    return any(
        each.get("key") in (None, "", taint["key"])
        and each.get("effect") in (None, "", taint["effect"])
        and (each.get("operator") == "Exists" or (each.get("key") and each.get("value", "") == taint.get("value", "")))
        for each in pod.get("tolerations") or []
    )


def images_on_nodes(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    """Nodes that do not report images of `wanted`, where there is no registry.

    Late by up to a minute, and the kubelet reports the 50 largest images and five names of each only
    (Kubernetes, `pkg/kubelet/nodestatus/setters.go`): so nothing is said of a node whose report may be cut.
    """
    names = {_on_node(reference) for reference in wanted.images}
    for node in cluster.find(NODE):
        held = [image.get("names") or [] for image in (node.get("status") or {}).get("images") or []]
        lacking = sorted(names.difference(*held))
        cut = len(held) >= _REPORTED or any(len(some) >= _REPORTED_NAMES for some in held)
        if lacking and not cut and not (node.get("spec") or {}).get("unschedulable"):
            count = f"{len(lacking)} of {len(names)} images"
            yield warning(
                f"node {node['metadata']['name']} does not report {count}, {lacking[0]} for one",
                "run `import --site` on this node, unless that was a moment ago or no such pod runs there.",
            )


def _on_node(text: str) -> str:
    """An image by the name that container runtimes know it by: a tag beside a digest does not count."""
    reference = parse_reference(text)
    return f"{reference.repository}@{reference.digest}" if isinstance(reference, DigestRef) else str(reference)


def _room(cluster: Cluster, wanted: Desired, fitting: list[Object]) -> Iterator[Finding]:
    """Requests of the rendered pods against what the nodes have and others have asked for."""
    asked = [
        (spec, _copies(item, len(fitting)))
        for part in wanted.parts
        for item in part.objects
        if not hook_events(item)
        for spec in pod_specs(item)
    ]
    busy = [
        pod["spec"]
        for pod in cluster.find(POD)
        if (pod.get("status") or {}).get("phase") in ("Pending", "Running")
        and pod["metadata"]["namespace"] not in wanted.namespaces
    ]
    for resource, text in (("cpu", _cpus), ("memory", _memory)):
        capacity = [quantity(((item.get("status") or {}).get("allocatable") or {}).get(resource)) for item in fitting]
        needed = sum(requested(spec, resource) * copies for spec, copies in asked)
        free = sum(capacity) - sum(requested(spec, resource) for spec in busy)
        largest = max((requested(spec, resource) for spec, copies in asked if copies), default=0.0)
        step = f"give the cluster more, or lower the requests in site.yaml ({wanted.key('resources')})."
        if needed > free:
            yield warning(f"the pods ask for {text(needed)}, and the nodes have {text(max(free, 0))} left", step)
        elif largest > max(capacity):
            yield warning(f"one pod asks for {text(largest)}, and no node has more than {text(max(capacity))}", step)


def _cpus(count: float) -> str:
    return f"{count:.1f} CPUs"


def _memory(count: float) -> str:
    return f"{size(int(count))} of memory"


def _copies(item: Object, count: int) -> int:
    """How many pods `item` has at the same time; those of CronJobs and Jobs do not stay."""
    if item["kind"] in (DEPLOYMENT.name, STATEFUL_SET.name):
        replicas = item["spec"].get("replicas")
        return 1 if replicas is None else int(replicas)
    return count if item["kind"] == DAEMON_SET.name else 0


def _platform(node: Object) -> str:
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return f"{info.get('operatingSystem')}/{info.get('architecture')}"
