"""What the W&B controller has made of a custom resource.

Its `status.phase` alone says little: `Completed` comes before any pod runs, is not tied to a generation, and may be
stale. So the verdict rests on what the controller writes when it has applied a specification (Secret
`NAME-spec-active`) and on Helm's own record of the release. Source: wandb/operator, v1, internal/controller.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import SECRET, Kind
from installer.cluster.managed_fields import change_time, status_time
from installer.cluster.release_record import release_status
from installer.cluster.workload import ReleaseName, pods_of, workloads
from installer.report import printable
from installer.value import Value

GROUP = "apps.wandb.com"
FINALIZER = "finalizer.app.wandb.com"
CUSTOM_RESOURCE = Kind(GROUP, "v1", "WeightsAndBiases", "weightsandbiases")
INVALID = "Invalid Config"
LOADING = "Loading"
LOG_LINES = 200
# How its complaint begins when it cannot remove the release of a deleted resource; it tries again each minute.
CLEANUP_FAILED = "Failed to cleanup deployment."
_APPLIED = "-spec-active"
_CONSOLE = "-spec-user"
MAX_TEXT = 1200


class Verdict(Value):
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
    if phase != LOADING and status == "deployed" and _applied(cluster, resource, current, since):
        return Verdict(installed=True, refused=False, state="its release is deployed")
    return Verdict(installed=False, refused=False, state=f"{phase}; Helm release: {status or 'none yet'}")


def forget_applied(cluster: Cluster, resource: Mapping[str, Any]) -> bool:
    """Delete the controller's note of what it applied last, if that is `resource`; only after a later change failed.

    The controller takes `resource` for done then, and leaves what the failed change has made of the platform.
    """
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    return _active(cluster, resource) and cluster.delete(SECRET, f"{name}{_APPLIED}", namespace)


def complaint(cluster: Cluster, operator: ReleaseName, name: str) -> str:
    """The last error about the custom resource `name` in the logs of `operator`'s pods; empty if there is none."""
    for part in workloads(cluster, operator):
        for pod in pods_of(cluster, part):
            for line in reversed(cluster.logs(operator.namespace, pod["metadata"]["name"], tail=LOG_LINES)):
                said = _error(line, name)
                if said:
                    return said
    return ""


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


def _active(cluster: Cluster, resource: Mapping[str, Any]) -> bool:
    """Whether the specification that the controller last applied contains all of ours."""
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    return _holds(cluster.get(SECRET, f"{name}{_APPLIED}", namespace), resource)


def _applied(cluster: Cluster, resource: Mapping[str, Any], current: Mapping[str, Any], since: str) -> bool:
    """Whether the controller has applied `resource` as it was changed at `since`; `current` is what is stored of it.

    A note that contains all of ours can be that of a former, larger specification. So it must be younger than the
    change, or else hold nothing but what the controller makes of the present one: where that is what it has applied
    before, it writes no new note.
    """
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    note = cluster.get(SECRET, f"{name}{_APPLIED}", namespace)
    if note is None or not _holds(note, resource):
        return False
    return change_time(note) > since or _made_of(note, current, cluster.get(SECRET, f"{name}{_CONSOLE}", namespace))


def _holds(note: Object | None, resource: Mapping[str, Any]) -> bool:
    """Whether `note` contains the specification of `resource`."""
    held = {part: _noted(note, part) for part in ("chart", "values")}
    return all(_contains(held[part], resource["spec"].get(part) or {}) for part in held)


def _made_of(note: Object, current: Mapping[str, Any], console: Object | None) -> bool:
    """Whether `note` holds the specification of the custom resource `current`, and nothing else than the controller
    adds to it: the settings of its console, its own name, and of the chart the keys that are not used."""
    spec = current.get("spec") or {}
    chart, values = _noted(note, "chart"), _noted(note, "values")
    if not isinstance(chart, dict) or not isinstance(values, dict):
        return False
    own = {"global": {"operator": (values.get("global") or {}).get("operator") or {}}}
    expected = _merged(_merged(spec.get("values") or {}, _noted(console, "values") or {}), own)
    return bool(_used(chart) == _used(spec.get("chart") or {}) and values == expected)


def _noted(note: Object | None, part: str) -> Any:
    """The `chart` or `values` in a note of the controller; None if that cannot be read."""
    try:
        raw = base64.b64decode(((note or {}).get("data") or {}).get(part, ""), validate=True)
        # Not the strict reader: proxies are named twice, in capitals and in small letters.
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _used(value: Any) -> Any:
    """A map without its empty parts; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: used for key, item in value.items() if (used := _used(item))}
    return value


def _merged(first: Any, second: Any) -> Any:
    """As the controller merges: of two values the first, of two maps all keys, of two lists all elements."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {
            **second,
            **{key: _merged(value, second[key]) if key in second else value for key, value in first.items()},
        }
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    return first


def _contains(held: Any, wanted: Any) -> bool:
    """Whether `held` is `wanted` with additions: the controller merges settings of its console behind ours."""
    if isinstance(wanted, Mapping):
        return isinstance(held, Mapping) and all(
            key in held and _contains(held[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(held, list) and held[: len(wanted)] == wanted
    return bool(held == wanted)
