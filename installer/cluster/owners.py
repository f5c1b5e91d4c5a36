"""Whose an object is: its owners, up to the outermost, which is what people and operators have made."""

from collections.abc import Iterable

from installer.cluster.cluster import AbsentError, Cluster, Object, describe
from installer.cluster.kinds import CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET
from installer.cluster.workload import KINDS, Workload, workload
from installer.errors import ClusterForbiddenError

WORKLOADS = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET, CRON_JOB, JOB, REPLICA_SET)
"""The kinds that Kubernetes brings along and that make pods of a template."""
_MAX_OWNERS = 10


class Owners:
    """The controllers among `workloads`, objects of `WORKLOADS`."""

    def __init__(self, workloads: Iterable[Object]) -> None:
        self._held = {
            (item["metadata"].get("namespace"), item["kind"], item["metadata"]["name"]): item for item in workloads
        }

    def chain(self, item: Object) -> list[Object]:
        """`item`, its owner, and so on to the outermost.

        Of an owner that is none of the workloads, such as a custom resource, only kind, name and namespace are known.
        """
        found = [item]
        namespace = item["metadata"].get("namespace")
        while (refs := found[-1]["metadata"].get("ownerReferences") or []) and len(found) < _MAX_OWNERS:
            owner = next((each for each in refs if each.get("controller")), refs[0])
            known = self._held.get((namespace, owner["kind"], owner["name"]))
            found.append(known or {"kind": owner["kind"], "metadata": {"name": owner["name"], "namespace": namespace}})
        return found


def place_of(pod: Object, owner: Object) -> str:
    """A pod and its outermost owner, for people: `Pod shop/db-1 of Cluster db`."""
    return describe(pod) if owner is pod else f"{describe(pod)} of {owner['kind']} {owner['metadata']['name']}"


def made_for(cluster: Cluster, resource: Object) -> list[Workload]:
    """The workloads in the namespace of `resource` that controllers have made for it, be it through other objects.

    Jobs of CronJobs are runs, and left out.
    """
    return [item for item, _ in _family(cluster, resource)]


def heirs(cluster: Cluster, resource: Object) -> list[Object]:
    """What `resource` owns itself of those workloads, or of the objects through which they were made."""
    return list({item["metadata"]["uid"]: item for _, item in _family(cluster, resource)}.values())


def _family(cluster: Cluster, resource: Object) -> list[tuple[Workload, Object]]:
    """The workloads that were made for `resource`, each with the object above it that the resource owns."""
    family = _Family(cluster, resource)
    found = [
        (workload(item, kind), child)
        for kind in KINDS
        for item in cluster.find(kind, resource["metadata"]["namespace"])
        if (child := family.child(item))
    ]
    return sorted(found, key=lambda pair: (pair[0].kind.name, pair[0].name))


class _Family:
    """What belongs to `resource`, by owner references."""

    def __init__(self, cluster: Cluster, resource: Object) -> None:
        self._cluster, self._resource = cluster, resource["metadata"]["uid"]
        self._namespace = resource["metadata"]["namespace"]
        self._known: dict[str, Object | None] = {}

    def child(self, item: Object, depth: int = 0) -> Object | None:
        """`item` or the one of its owners that the resource owns; None if it does not belong to the resource."""
        for owner in item["metadata"].get("ownerReferences") or []:
            if owner["uid"] == self._resource:
                return item
            if depth < _MAX_OWNERS and (found := self._above(owner, depth)):
                return found
        return None

    def _above(self, owner: Object, depth: int) -> Object | None:
        uid = owner["uid"]
        if uid not in self._known:
            # Owners that lead back to what they own would be asked for without an end.
            self._known[uid] = None
            held = self._held(owner)
            if held is not None and held["metadata"].get("uid") == uid:
                self._known[uid] = self.child(held, depth + 1)
        return self._known[uid]

    def _held(self, owner: Object) -> Object | None:
        if owner["kind"] == CRON_JOB.name:
            return None
        try:
            kind = self._cluster.kind(owner["apiVersion"], owner["kind"])
            return self._cluster.get(kind, owner["name"], self._namespace if kind.namespaced else "")
        except (AbsentError, ClusterForbiddenError):
            return None
