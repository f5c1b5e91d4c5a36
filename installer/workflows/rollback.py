"""Back to what ran before, from what the cluster itself holds: no bundle is needed.

Helm keeps the former revisions of the releases that were installed from here, and the history holds the resources and
manifests of each state, and knows which belong together.
"""

import base64
import json
from collections.abc import Callable

from installer.apps.profile import at_path
from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.cluster import Cluster
from installer.cluster.kinds import SECRET
from installer.cluster.workload import Workload
from installer.errors import ClusterError, NothingHereError, UsageError
from installer.registry.client import Registry
from installer.registry.credentials import Credentials
from installer.value import Value, replace
from installer.workflows import history, lease
from installer.workflows.actions import Actions
from installer.workflows.changes import Change, Changes, compared, compared_images, compared_values
from installer.workflows.driver import Driver, driver_of
from installer.workflows.history import History, ReleaseState, Revision
from installer.workflows.images_held import require_images
from installer.workflows.install import Installation, begin, finish
from installer.workflows.lease import Means
from installer.workflows.record import InstalledObject, InstalledStep, Record
from installer.workflows.removal import remove_dropped
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
    missing = [*_missing_secrets(cluster, goal.record), *_missing_releases(releases, goal)]
    driver = driver_of(goal.record.driver)
    missing += [
        text for step in goal.record.resources for text in driver.lost(cluster, step, goal.objects[step.release][0])
    ]
    if missing:
        raise ClusterError(
            "\n  ".join([f"revision {goal.number} cannot be had again; the cluster no longer holds:", *missing]),
            hint="run `upgrade --allow-downgrade` with the bundle of that version instead.",
        )
    names = [step.name for step in (*goal.record.steps, *_added(past, goal.record)) if step.chart]
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
        actions = Actions(held, take_over=take_over)
        found = _gone_back(back, held, actions)
    return Installation(back.note, tuple(actions.changed), tuple(found))


def _gone_back(back: Return, means: Means, actions: Actions) -> list[Workload]:
    goal, note, last = back.goal, back.note, back.past.last
    unfinished = last is not None and not last.finished and last.origin == goal.number
    number = last.number if last and unfinished else back.past.next_number()
    attempt = replace(goal, number=number, record=note, finished=False, origin=goal.number)
    past, attempt = begin(means.cluster, actions, back.past, note, attempt)
    added, driver = _added(back.past, note), driver_of(note.driver)
    actions.keep_volumes((*note.steps, *added), goal.claims)
    found = [item for step in note.steps for item in _step(step, goal, actions, driver)]
    remove_dropped(actions, driver, added, _surplus(back.past, note))
    finish(means, past, attempt)
    return found


def _step(step: InstalledStep, goal: Revision, actions: Actions, driver: Driver) -> list[Workload]:
    """Bring `step` back to what it was in `goal`."""
    if step.kind == "chart":
        states = {(item.release, item.namespace): item for item in goal.releases}
        return actions.back_to(step, states[step.release, step.namespace].revision)
    objects = goal.objects[step.release]
    if step.kind == "manifests":
        return actions.manifests(step.name, objects)
    return driver.bring_back(step, objects[0], actions, goal.hook_pods.get(step.release, ()))


def credentials(cluster: Cluster, goal: Revision) -> Credentials | None:
    """The registry's user as the cluster itself knows it, from the pull secret; None if it tells none."""
    name = goal.access.pull_secret
    held = cluster.get(SECRET, name, goal.record.namespace) if name else None
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
    for step in goal.record.resources:
        now, then = (at_path((item.objects.get(step.release) or ({},))[0], step.values_at) for item in (last, goal))
        values += compared_values(step.release, now or {}, then or {})
    return Changes(
        bundle=compared(bundle_line(last.record), bundle_line(goal.record)),
        charts=compared(chart_lines(last.record), chart_lines(goal.record)),
        images=compared_images(last.images, goal.images),
        values=values,
    )


def _added(past: History, note: Record) -> list[InstalledStep]:
    """The steps that came with the state that is left."""
    names = {(step.kind, step.name) for step in note.steps}
    last = past.last
    return [step for step in last.record.steps if (step.kind, step.name) not in names] if last else []


def _surplus(past: History, note: Record) -> list[InstalledObject]:
    """The objects of the steps that stay, that came with the state that is left."""
    last, then = past.last, {item for step in note.steps for item in step.objects}
    stays = {(step.kind, step.name) for step in note.steps}
    now = [step for step in last.record.steps if (step.kind, step.name) in stays] if last else []
    return [item for step in now for item in step.objects if item not in then]


def _missing_secrets(cluster: Cluster, note: Record) -> list[str]:
    found = []
    for place in note.secrets:
        namespace, _, name = place.partition("/")
        if cluster.get(SECRET, name, namespace) is None:
            found.append(f"Secret {place}")
    return found


def _missing_releases(releases: Callable[[str], Releases], goal: Revision) -> list[str]:
    def there(item: ReleaseState) -> bool:
        kept = {each.revision for each in releases(item.namespace).history(item.release)}
        return item.revision in kept

    return [
        f"revision {item.revision} of Helm release {item.namespace}/{item.release}"
        for item in goal.releases
        if not there(item)
    ]
