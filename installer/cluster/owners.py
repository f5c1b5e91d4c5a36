"""Whose a pod is: its controllers, up to the outermost, which is what people and operators have made."""

from collections.abc import Iterable

from installer.cluster.cluster import Object
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

    def outermost(self, item: Object) -> Object:
        """The outermost owner of `item`, or `item` itself where it has none.

        Of one that is none of the workloads, such as a custom resource, only kind, name and namespace are known.
        """
        namespace = item["metadata"].get("namespace")
        for _ in range(_MAX_OWNERS):
            owners = item["metadata"].get("ownerReferences") or []
            if not owners:
                break
            owner = next((each for each in owners if each.get("controller")), owners[0])
            known = self._held.get((namespace, owner["kind"], owner["name"]))
            item = known or {"kind": owner["kind"], "metadata": {"name": owner["name"], "namespace": namespace}}
        return item
