"""Whose a pod is: its controllers, up to the outermost, which is what people and operators have made."""

from collections.abc import Iterable

from installer.cluster.cluster import Object, describe
from installer.cluster.kinds import CRON_JOB, DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET

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
