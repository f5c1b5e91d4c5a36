"""Helm's own record of a release: the Secrets in which it keeps revisions."""

import base64
import json
import zlib

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import SECRET
from installer.value import Value

# Packed, a Secret holds it in 1 MiB.
MAX_RELEASE = 64 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class HeldRelease(Value):
    """The newest revision of a release: Helm's word on it, and name and version of its chart; empty if there is none.

    The chart is empty, too, where the record cannot be read.
    """

    status: str = ""
    chart: str = ""
    version: str = ""


def release_held(cluster: Cluster, release: str, namespace: str) -> HeldRelease:
    """What Helm has of `release`."""
    newest = _newest(cluster, release, namespace)
    return HeldRelease(_status(newest), *_chart(newest)) if newest else HeldRelease()


def release_status(cluster: Cluster, release: str, namespace: str) -> str:
    """Helm's word on the newest revision of `release`; empty if there is none."""
    newest = _newest(cluster, release, namespace)
    return _status(newest) if newest else ""


def forget_pending(cluster: Cluster, release: str, namespace: str) -> str:
    """Delete the newest revision of `release` if it is pending, and return what Helm called it, else an empty text.

    Only to be called when its controller has given up: Helm refuses every change for the sake of a revision that
    nobody is at work on any more. The one before it, which is in service, becomes the newest.
    """
    newest = _newest(cluster, release, namespace)
    status = _status(newest) if newest else ""
    if newest is None or not status.startswith("pending-"):
        return ""
    cluster.delete(SECRET, newest["metadata"]["name"], namespace)
    return status


def _newest(cluster: Cluster, release: str, namespace: str) -> Object | None:
    """The newest revision of `release` as Helm keeps it."""
    found = cluster.find(SECRET, namespace, labels={"owner": "helm", "name": release})
    return max(found, key=lambda item: int(item["metadata"]["labels"].get("version", "0")), default=None)


def _status(newest: Object) -> str:
    return str(newest["metadata"]["labels"].get("status", ""))


def _chart(newest: Object) -> tuple[str, str]:
    """Name and version of the chart in the Secret `newest`; its form is of Helm, pkg/storage/driver/util.go."""
    try:
        packed = base64.b64decode(base64.b64decode((newest.get("data") or {})["release"]))
        whole = zlib.decompressobj(wbits=_GZIP).decompress(packed, MAX_RELEASE)
        chart = json.loads(whole)["chart"]["metadata"]
        return str(chart["name"]), str(chart["version"])
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error):
        return "", ""
