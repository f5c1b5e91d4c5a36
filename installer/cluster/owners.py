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
    family = _Family(cluster, resource)
    found = [
        workload(item, kind)
        for kind in KINDS
        for item in cluster.find(kind, resource["metadata"]["namespace"])
        if family.has(item)
    ]
    return sorted(found, key=lambda item: (item.kind.name, item.name))


class _Family:
    """What belongs to `resource`, by owner references."""

    def __init__(self, cluster: Cluster, resource: Object) -> None:
        self._cluster, self._namespace = cluster, resource["metadata"]["namespace"]
        self._known: dict[str, bool] = {resource["metadata"]["uid"]: True}

    def has(self, item: Object, depth: int = 0) -> bool:
        """Whether `item` has the resource among its owners, or theirs."""
        owners = item["metadata"].get("ownerReferences") or []
        return depth < _MAX_OWNERS and any(self._is(owner, depth) for owner in owners)

    def _is(self, owner: Object, depth: int) -> bool:
        uid = owner["uid"]
        if uid not in self._known:
            # Owners that lead back to what they own would be asked for without an end.
            self._known[uid] = False
            held = self._held(owner)
            self._known[uid] = held is not None and held["metadata"].get("uid") == uid and self.has(held, depth + 1)
        return self._known[uid]

    def _held(self, owner: Object) -> Object | None:
        if owner["kind"] == CRON_JOB.name:
            return None
        try:
            kind = self._cluster.kind(owner["apiVersion"], owner["kind"])
            return self._cluster.get(kind, owner["name"], self._namespace if kind.namespaced else "")
        except (AbsentError, ClusterForbiddenError):
            return None
