"""Back to what ran before, from what the cluster itself holds: no bundle is needed.

The former chart of the platform lies where the custom resource has always taken it from, Helm keeps the former
revisions of the releases that were installed from here, and the history knows which belong together.
"""

import base64
import json
from collections.abc import Callable

from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.kube import CONFIG_MAP, SECRET, Cluster
from installer.cluster.workload import Workload
from installer.errors import ClusterError, NothingHereError, UsageError
from installer.objects import chart_configmap
from installer.objects.chart_source import is_repository
from installer.registry.client import Registry
from installer.registry.credentials import Credentials
from installer.site.platform_values import PULL_SECRET
from installer.value import Value, replace
from installer.workflows import history, lease
from installer.workflows.actions import Steps
from installer.workflows.changes import Change, Changes, compared, compared_images, compared_values
from installer.workflows.history import History, ReleaseState, Revision
from installer.workflows.images_held import require_images
from installer.workflows.install import Installation, begin, finish
from installer.workflows.lease import Means
from installer.workflows.record import InstalledChart, Record
from installer.workflows.upgrade import bundle_line, chart_lines


class Return(Value):
    """A rollback that can be carried out: from the present state to that of `goal`."""

    past: History
    goal: Revision
    note: Record
    changes: Changes


def prepare(
    cluster: Cluster, releases: Callable[[str], Releases], present: Record, *, number: int = 0, time: str
) -> Return:
    """Look for what to go back to: revision `number`, or what was reached before the present state.

    Changes nothing. Raises NothingHereError if there is no such revision, ClusterError naming what it needs and the
    cluster no longer holds.
    """
    past = history.read(cluster, present)
    goal = next((item for item in past.revisions if item.number == number), None) if number else past.before()
    if goal is None or not goal.finished:
        reached = ", ".join(str(item.number) for item in past.revisions if item.finished) or "none"
        what = f"revision {number} of {present.bundle}" if number else f"an earlier state of {present.bundle}"
        raise NothingHereError(f"{what} is not in the history", hint=f"revisions that were reached: {reached}.")
    last = past.last
    if last and last.finished and last.same(goal):
        raise UsageError(f"revision {goal.number} is what runs already")
    missing = [*_missing_secrets(cluster, goal.record), *_missing_chart(cluster, goal)]
    missing += _missing_releases(releases, goal)
    if missing:
        raise ClusterError(
            "\n  ".join([f"revision {goal.number} cannot be had again; the cluster no longer holds:", *missing]),
            hint="run `upgrade --allow-downgrade` with the bundle of that version instead.",
        )
    names = [chart.name for chart in (*goal.record.all_charts, *_added(past, goal.record))]
    kept = tuple(map(str, volumes.at_stake(cluster, releases, names, goal.claims)))
    return Return(past, goal, replace(goal.record, time=time), replace(_changes(past, goal), volumes=kept))


def carry_out(back: Return, means: Means, registry: Registry | None, *, take_over: bool = False) -> Installation:
    """Go back. Secrets of the site and CustomResourceDefinitions stay as they are.

    Run again after an interruption, it goes on. Raises NotFoundError or ContentError if `registry` lacks an image of
    the former state, ClusterError, NotReadyError.
    """
    if registry is not None:
        require_images(registry, back.goal.images)
    with lease.held(means, back.note.bundle, back.note.namespace) as held:
        steps = Steps(held, take_over=take_over)
        found = _gone_back(back, held, steps)
    return Installation(back.note, tuple(steps.changed), tuple(found))


def _gone_back(back: Return, means: Means, steps: Steps) -> list[Workload]:
    goal, note, last = back.goal, back.note, back.past.last
    unfinished = last is not None and not last.finished and last.origin == goal.number
    number = last.number if last and unfinished else back.past.next_number()
    attempt = replace(goal, number=number, record=note, finished=False, origin=goal.number)
    past, attempt = begin(means.cluster, steps, back.past, note, attempt)
    states = {(item.release, item.namespace): item for item in goal.releases}
    added = _added(back.past, note)
    steps.keep_volumes((*note.all_charts, *added), goal.claims)
    found = []
    for chart in note.charts:
        found += steps.back_to(chart, states[chart.release, chart.namespace].revision)
    if note.operator and note.platform and goal.resource:
        found += steps.resource(goal.resource, note.operator.name, note.platform.hooks, goal.hook_pods)
    for chart in added:
        steps.removed(chart)
    finish(means, past, attempt)
    return found


def credentials(cluster: Cluster, goal: Revision) -> Credentials | None:
    """The registry's user as the cluster itself knows it, from the pull secret; None if there is none of ours."""
    held = cluster.get(SECRET, PULL_SECRET, goal.record.namespace)
    text = ((held or {}).get("data") or {}).get(".dockerconfigjson") or ""
    try:
        entry = json.loads(base64.b64decode(text) or b"{}")["auths"][goal.access.host]
        found = Credentials(entry["username"], entry["password"])
    except (ValueError, KeyError, TypeError):
        return None
    cluster.hide([found.password])
    return found


def _changes(past: History, goal: Revision) -> Changes:
    last = past.last
    if last is None:
        return Changes((), (), (), ())
    values: tuple[Change, ...] = ()
    if last.resource and goal.resource:
        now, then = (item["spec"].get("values") or {} for item in (last.resource, goal.resource))
        values = compared_values(goal.resource["metadata"]["name"], now, then)
    return Changes(
        bundle=compared(bundle_line(last.record), bundle_line(goal.record)),
        charts=compared(chart_lines(last.record), chart_lines(goal.record)),
        images=compared_images(last.images, goal.images),
        values=values,
    )


def _added(past: History, note: Record) -> list[InstalledChart]:
    """The releases that came with the state that is left."""
    names = {chart.name for chart in note.charts}
    last = past.last
    return [chart for chart in last.record.charts if chart.name not in names] if last else []


def _missing_secrets(cluster: Cluster, note: Record) -> list[str]:
    found = []
    for place in note.secrets:
        namespace, _, name = place.partition("/")
        if cluster.get(SECRET, name, namespace) is None:
            found.append(f"Secret {place}")
    return found


def _missing_chart(cluster: Cluster, goal: Revision) -> list[str]:
    """The chart where the operator would read it: in its ConfigMap; a registry is looked at with the images."""
    spec = (goal.resource or {}).get("spec", {}).get("chart") or {}
    if is_repository(spec):
        return [f"chart repository {spec['url']}, which ended with the installer"]
    path = str(spec.get("path") or "")
    if not goal.record.operator or not path.startswith(f"{chart_configmap.MOUNT}/"):
        return []
    namespace, key = goal.record.operator.namespace, path.removeprefix(f"{chart_configmap.MOUNT}/")
    held = cluster.get(CONFIG_MAP, chart_configmap.CONFIG_MAP_NAME, namespace) or {}
    return (
        [] if key in (held.get("binaryData") or {}) else [f"chart {key} in ConfigMap {chart_configmap.CONFIG_MAP_NAME}"]
    )


def _missing_releases(releases: Callable[[str], Releases], goal: Revision) -> list[str]:
    def there(item: ReleaseState) -> bool:
        kept = {each.revision for each in releases(item.namespace).history(item.release)}
        return item.revision in kept

    return [
        f"revision {item.revision} of Helm release {item.namespace}/{item.release}"
        for item in goal.releases
        if not there(item)
    ]
