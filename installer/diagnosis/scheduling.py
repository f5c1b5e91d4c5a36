"""Why no node takes a pod, or runs it: too little room, no node that fits or is ready, or a volume without a place."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import NODE, POD, STORAGE_CLASS, VOLUME_CLAIM, is_default_class
from installer.cluster.workload import condition
from installer.diagnosis.cause import Cause, brief
from installer.errors import ClusterForbiddenError

# What an autoscaler says of a pod for which it makes a node (cluster-autoscaler, Karpenter).
_NEW_NODE = frozenset({"TriggeredScaleUp", "Nominated"})
# The scheduler's words (Kubernetes, pkg/scheduler: ErrNoNodesAvailable and its plugins); since 1.35 they name no taint.
_NONE = "no nodes available"
_TAINT = re.compile(r"untolerated taint|had taint", re.IGNORECASE)
_FIT = re.compile(rf"node affinity|node selector|{_TAINT.pattern}", re.IGNORECASE)
# Taints that Kubernetes itself sets while something is wrong with a node, and takes away again; people cordon nodes.
_PASSING = re.compile(r"node\.kubernetes\.io/(?!unschedulable)|node\.cloudprovider\.kubernetes\.io/")
_SHORTAGES = ("DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable")
_UNREADY = "look at its kubelet, container runtime and network, and start what is down; pods go on by themselves then."
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", re.ASCII)
_UNITS = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    **{letter: 1000.0**power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)},
}


def unscheduled(cluster: Cluster, pod: Object, where: str, message: str) -> Iterator[Cause]:
    """Why the scheduler has found no node for `pod`, in its words `message`; volumes first, for they decide."""
    namespace, found = pod["metadata"]["namespace"], False
    for volume in pod["spec"].get("volumes") or []:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if "ephemeral" in volume:
            # Kubernetes makes the claim of such a volume itself, under this name.
            name = f"{pod['metadata']['name']}-{volume['name']}"
        claim = cluster.get(VOLUME_CLAIM, name, namespace) if name else None
        if name and claim is None:
            found = True
            yield Cause(
                "volume-claim-missing",
                where,
                f"volume claim {name} does not exist",
                "run the same command again: it restores what is missing.",
            )
        elif claim is not None and (claim.get("status") or {}).get("phase") != "Bound":
            for cause in _unbound(cluster, claim):
                found = True
                yield cause
    if not found:
        yield _no_node(cluster, pod, where, message)


def unready(node: Object) -> str:
    """Why `node` takes no pods and runs none, as Kubernetes has it; empty if it is ready, or that is not known yet."""
    ready = condition(node, "Ready")
    if ready.get("status", "True") == "True":
        return ""
    said = brief(ready.get("message") or ready.get("reason") or "it does not say why")
    return f"node {node['metadata']['name']} is not ready: {said}"


def ailing(node: Object) -> str:
    """Why `node` takes no pods, or not all of them: it is not ready, or short of something; empty if nothing is wrong.

    Source of the conditions: Kubernetes documentation, "Node Status".
    """
    found = [name for name in _SHORTAGES if condition(node, name).get("status") == "True"]
    said = [f"{name} ({brief(condition(node, name).get('message'))})" for name in found]
    short = f"node {node['metadata']['name']} reports {', '.join(said)}" if said else ""
    return unready(node) or short


def node_away(cluster: Cluster, pod: Object) -> Iterator[Cause]:
    """The node of `pod`, if it is not ready: all else that is known of the pod is from before that."""
    name = pod["spec"].get("nodeName")
    try:
        node = cluster.get(NODE, name) if name else None
    except ClusterForbiddenError:
        return
    if node and (said := unready(node)):
        where = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        yield Cause("node-not-ready", where, f"stands still: {said}", _UNREADY)


def quantity(text: Any) -> float:
    """A resource quantity such as `500m` or `2Gi` as a number; 0 for what is none."""
    match = _QUANTITY.fullmatch(str(text))
    try:
        return float(match[1]) * _UNITS[match[2]] if match else 0.0
    except (KeyError, ValueError):
        return 0.0


def requested(spec: Mapping[str, Any], resource: str) -> float:
    """What a pod asks for: all its containers together, or its largest init container. A limit counts as a request
    where there is none, as it does for the API server.
    """

    def each(containers: Iterable[Mapping[str, Any]]) -> Iterator[float]:
        for item in containers:
            resources = item.get("resources") or {}
            requests = resources.get("requests") or {}
            yield quantity(requests.get(resource, (resources.get("limits") or {}).get(resource)))

    return max(sum(each(spec.get("containers") or [])), *each(spec.get("initContainers") or []), 0.0)


def _no_node(cluster: Cluster, pod: Object, where: str, message: str) -> Cause:
    try:
        nodes = cluster.find(NODE)
    except ClusterForbiddenError:
        # Who may only work inside a namespace sees no nodes.
        nodes = []
    if _NONE in message:
        step = "join a node to the cluster, or start one."
        return Cause("no-node", where, f"no node can take it: {message}", step, mending=_room_comes(cluster, pod))
    if too_large := _too_large(nodes, pod):
        step = "lower its requests in the values of site.yaml, or add a larger node."
        return Cause("node-too-small", where, f"no node can take it: {too_large} ({message})", step)
    step = "free resources, add a node, or lower requests and drop selectors in the values of site.yaml."
    if not _FIT.search(message):
        return Cause("no-room", where, f"no node can take it: {message}", step, mending=_room_comes(cluster, pod))
    tainted = nodes if _TAINT.search(message) else []
    if away := next(filter(None, map(unready, tainted)), ""):
        return Cause("node-not-ready", where, f"no node can take it: {message}; {away}", _UNREADY)
    if short := next(filter(None, map(ailing, tainted)), ""):
        said = f"no node can take it: {message}; {short}"
        return Cause("node-under-pressure", where, said, "free what the node is short of, or add a node.")
    wanted = ", ".join(f"{key}={value}" for key, value in (pod["spec"].get("nodeSelector") or {}).items())
    said = f"no node can take it: {message}" + (f" (it wants nodes with {wanted})" if wanted else "")
    taints = " ".join(taint["key"] for node in tainted for taint in (node.get("spec") or {}).get("taints") or [])
    mending = bool(_PASSING.search(f"{message} {taints}")) or _room_comes(cluster, pod)
    step = "label a node so, or correct node selectors, affinity and tolerations in the values of site.yaml."
    return Cause("no-matching-node", where, said, step, mending=mending)


def _room_comes(cluster: Cluster, pod: Object) -> bool:
    """Whether a node is being made for `pod`, or other pods here are on their way out."""
    metadata = pod["metadata"]
    events = cluster.events(metadata["namespace"], POD.name, metadata["name"])
    leaving = (each["metadata"].get("deletionTimestamp") for each in cluster.find(POD, metadata["namespace"]))
    return any(event.get("reason") in _NEW_NODE for event in events) or any(leaving)


def _too_large(nodes: Iterable[Object], pod: Object) -> str:
    """What the pod asks for beyond what any node has in all; empty if one could take it were it empty."""
    room = [dict((node.get("status") or {}).get("allocatable") or {}) for node in nodes]
    for resource in ("cpu", "memory"):
        asked = requested(pod["spec"], resource)
        largest = max((item.get(resource, "0") for item in room), key=quantity, default="")
        if largest and asked > quantity(largest):
            unit = "CPUs" if resource == "cpu" else "bytes of memory"
            return f"it asks for {asked:.12g} {unit}, and the largest node has {largest}"
    return ""


def _unbound(cluster: Cluster, claim: Object) -> Iterator[Cause]:
    metadata, name = claim["metadata"], claim["spec"].get("storageClassName")
    where = f"volume claim {metadata['namespace']}/{metadata['name']}"
    events = cluster.events(metadata["namespace"], VOLUME_CLAIM.name, metadata["name"])
    said = brief(events[-1].get("message")) if events else "nothing provides it"
    try:
        classes = {item["metadata"]["name"]: item for item in cluster.find(STORAGE_CLASS)}
    except ClusterForbiddenError:
        classes = {name: {}} if name and "not found" not in said else {}
    has = f"the cluster has {', '.join(sorted(classes))}" if classes else "the cluster has none"
    step = "name one that exists in site.yaml, or have this one made"
    if name and name not in classes:
        yield Cause(
            "storage-class-missing", where, f"pending: storage class {name} does not exist ({said})", f"{step}: {has}."
        )
    elif not name and not any(map(is_default_class, classes.values())):
        step = "name a class in site.yaml, or have one made the default"
        said = f"pending: no storage class is named and the cluster has no default one ({said})"
        yield Cause("no-default-storage-class", where, said, f"{step}: {has}.")
    elif classes.get(name or "", {}).get("volumeBindingMode") != "WaitForFirstConsumer" or _failed(events):
        step = f"look at the provisioner of storage class {name or 'that is the default'}, or create the volume."
        yield Cause("volume-pending", where, f"pending: {said}", step)


def _failed(events: list[Object]) -> bool:
    return any(event.get("reason") == "ProvisioningFailed" for event in events)
