"""Helm's own record of a release: the Secrets in which it keeps revisions."""

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import SECRET


def release_status(cluster: Cluster, release: str, namespace: str) -> str:
    """Helm's word on the newest revision of `release`; empty if there is none."""
    newest = _newest(cluster, release, namespace)
    return str(newest["metadata"]["labels"].get("status", "")) if newest else ""


def forget_pending(cluster: Cluster, release: str, namespace: str) -> str:
    """Delete the newest revision of `release` if it is pending, and return what Helm called it, else an empty text.

    Only to be called when its controller has given up: Helm refuses every change for the sake of a revision that
    nobody is at work on any more. The one before it, which is in service, becomes the newest.
    """
    newest = _newest(cluster, release, namespace)
    status = str(newest["metadata"]["labels"].get("status", "")) if newest else ""
    if newest is None or not status.startswith("pending-"):
        return ""
    cluster.delete(SECRET, newest["metadata"]["name"], namespace)
    return status


def _newest(cluster: Cluster, release: str, namespace: str) -> Object | None:
    """The newest revision of `release` as Helm keeps it."""
    found = cluster.find(SECRET, namespace, labels={"owner": "helm", "name": release})
    return max(found, key=lambda item: int(item["metadata"]["labels"].get("version", "0")), default=None)
