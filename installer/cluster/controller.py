"""What the W&B controller has made of a custom resource.

Its `status.phase` alone says little: `Completed` comes before any pod runs, is not tied to a generation, and may be
stale. So the verdict rests on what the controller writes when it has applied a specification (Secret
`NAME-spec-active`) and on Helm's own record of the release. Source: wandb/operator, v1, internal/controller.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from installer.cluster.kube import SECRET, Cluster, Kind, Object
from installer.cluster.workload import ReleaseName, pods_of, workloads
from installer.report import printable

GROUP = "apps.wandb.com"
FINALIZER = "finalizer.app.wandb.com"
CUSTOM_RESOURCE = Kind(GROUP, "v1", "WeightsAndBiases", "weightsandbiases")
INVALID = "Invalid Config"
LOADING = "Loading"
LOG_LINES = 200
_APPLIED = "-spec-active"
MAX_TEXT = 1200


@dataclass(frozen=True, slots=True)
class Verdict:
    """`installed`: the release of exactly this specification is deployed. `refused`: it will not be tried again.

    `state` is a phrase for people.
    """

    installed: bool
    refused: bool
    state: str


def verdict(cluster: Cluster, resource: Mapping[str, Any], since: str) -> Verdict:
    """How far the controller is with `resource`, the object as we applied it.

    A refusal counts only if it was written at or after `since`, a time of the API server like `2026-01-31T00:00:00Z`.
    """
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    current = cluster.get(CUSTOM_RESOURCE, name, namespace)
    if current is None:
        return Verdict(installed=False, refused=False, state="does not exist")
    phase = printable(str((current.get("status") or {}).get("phase") or "not seen by the controller yet"))
    status = release_status(cluster, name, namespace)
    if phase == INVALID and status_time(current) >= since:
        return Verdict(installed=False, refused=True, state=phase)
    if phase == INVALID:
        return Verdict(
            installed=False, refused=False, state=f"{phase}, before this change; the controller is to look again"
        )
    # While it is at work, note and release are still those of the change before.
    if phase != LOADING and _active(cluster, resource) and status == "deployed":
        return Verdict(installed=True, refused=False, state="its release is deployed")
    return Verdict(installed=False, refused=False, state=f"{phase}; Helm release: {status or 'none yet'}")


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


def forget_applied(cluster: Cluster, resource: Mapping[str, Any]) -> bool:
    """Delete the controller's note of what it applied last, if that is `resource`; only after a later change failed.

    The controller takes `resource` for done then, and leaves what the failed change has made of the platform.
    """
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    return _active(cluster, resource) and cluster.delete(SECRET, f"{name}{_APPLIED}", namespace)


def status_time(obj: Mapping[str, Any]) -> str:
    """When the status of `obj` was last changed, by the clock of the API server; empty if never."""
    return _last(obj, lambda entry: entry.get("subresource") == "status")


def apply_time(obj: Mapping[str, Any], manager: str) -> str:
    """When field manager `manager` last changed what it applies to `obj`, by the clock of the API server."""
    return _last(obj, lambda entry: entry.get("manager") == manager and entry.get("operation") == "Apply")


def change_time(obj: Mapping[str, Any]) -> str:
    """When anything but the status of `obj` was last changed, by the clock of the API server."""
    return _last(obj, lambda entry: entry.get("subresource") != "status")


def complaint(cluster: Cluster, operator: ReleaseName, name: str) -> str:
    """The last error about the custom resource `name` in the logs of `operator`'s pods; empty if there is none."""
    for part in workloads(cluster, operator):
        for pod in pods_of(cluster, part):
            for line in reversed(cluster.logs(operator.namespace, pod["metadata"]["name"], tail=LOG_LINES)):
                said = _error(line, name)
                if said:
                    return said
    return ""


def _newest(cluster: Cluster, release: str, namespace: str) -> Object | None:
    """The newest revision of `release` as Helm keeps it."""
    found = cluster.find(SECRET, namespace, labels={"owner": "helm", "name": release})
    return max(found, key=lambda item: int(item["metadata"]["labels"].get("version", "0")), default=None)


def _error(line: str, name: str) -> str:
    """What a line of the controller's log (JSON) says if it is an error about `name`."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(entry, dict) or entry.get("level") != "error" or name not in line:
        return ""
    text = f"{entry.get('msg', '')} {entry.get('error', '')}".strip()
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _last(obj: Mapping[str, Any], wanted: Callable[[Mapping[str, Any]], bool]) -> str:
    entries = obj["metadata"].get("managedFields") or []
    return max((str(entry.get("time") or "") for entry in entries if wanted(entry)), default="")


def _active(cluster: Cluster, resource: Mapping[str, Any]) -> bool:
    """Whether the specification that the controller last applied contains all of ours."""
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    secret = cluster.get(SECRET, f"{name}{_APPLIED}", namespace)
    data = (secret or {}).get("data") or {}
    for part in ("chart", "values"):
        try:
            raw = base64.b64decode(data.get(part, ""), validate=True)
            # Not the strict reader: proxies are named twice, in capitals and in small letters.
            held = json.loads(raw)
        except (ValueError, RecursionError):
            return False
        if not _contains(held, resource["spec"].get(part) or {}):
            return False
    return True


def _contains(held: Any, wanted: Any) -> bool:
    """Whether `held` is `wanted` with additions: the controller merges settings of its console behind ours."""
    if isinstance(wanted, Mapping):
        return isinstance(held, Mapping) and all(
            key in held and _contains(held[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(held, list) and held[: len(wanted)] == wanted
    return bool(held == wanted)
