"""Back to what ran before, from what the cluster itself holds: no bundle is needed.

Helm keeps the former revisions of the releases that were installed from here, and the history holds the resources and
manifests of each state, and knows which belong together.
"""

import base64
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from installer.apps.profile import at_path
from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.cluster import Cluster
from installer.cluster.kinds import SECRET
from installer.cluster.workload import Workload
from installer.errors import ClusterError, NothingHereError, UsageError
from installer.objects.comparison import Change, compared, compared_values
from installer.preflight.images_held import require_images
from installer.registry.client import Registry
from installer.registry.credentials import Credentials
from installer.value import Value, replace
from installer.workflows import history, lease
from installer.workflows.actions import Actions
from installer.workflows.changes import Changes, compared_images
from installer.workflows.driver import Driver, driver_of
from installer.workflows.history import History, ReleaseState, Revision
from installer.workflows.install import Installation, begin, finish
from installer.workflows.lease import Means
from installer.workflows.phases import Phase, carried_out
from installer.workflows.record import InstalledObject, InstalledStep, Record
from installer.workflows.removal import objects_left, remove_dropped, steps_left
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
        text for step in goal.record.resources for text in driver.lost(cluster, step, goal.objects[step.key][0])
    ]
    if missing:
        raise ClusterError(
            "\n  ".join([f"revision {goal.number} cannot be had again; the cluster no longer holds:", *missing]),
            hint="run `upgrade --back-to NUMBER` with the bundle of that version instead.",
        )
    names = [step.name for step in (*goal.record.steps, *_added(past, goal.record)) if step.chart]
    kept = tuple(map(str, volumes.at_stake(cluster, releases, names, goal.claims)))
    return Return(past, goal, replace(goal.record, time=time), replace(_changes(past, goal), volumes=kept))


def carry_out(back: Return, means: Means, registry: Registry | None, *, take_over: bool = False) -> Installation:
    """Go back. Secrets of the site and CustomResourceDefinitions stay as they are.

    Run again after an interruption, it goes on. Raises NotFoundError or ContentError if `registry` lacks an image of
    the former state, ClusterError, NotReadyError.
    """
    driver = driver_of(back.note.driver)
    with ExitStack() as turn:
        actions = Actions(means, take_over=take_over)
        work = _Work(back, means, actions, driver, registry, turn, back.past, _attempt(back))
        carried_out(phases(back), work, means.patience.reporter)
    return Installation(back.note, tuple(work.actions.changed), tuple(work.workloads))


@dataclass
class _Work:
    """What the phases of one rollback work with, and what they have reached."""

    back: Return
    means: Means
    actions: Actions
    driver: Driver
    registry: Registry | None
    turn: ExitStack
    past: History
    attempt: Revision
    workloads: list[Workload] = field(default_factory=list)


def phases(back: Return) -> list[Phase[_Work]]:
    """What `carry_out` does, in order."""
    note = back.note
    added, surplus = _added(back.past, note), _surplus(back.past, note)
    return [
        Phase("see that the registry holds all images", _see_images, needed=not back.goal.access.on_nodes),
        Phase("take the turn: one installer at a time", _take_turn),
        Phase("note what is about to be", _note_begin),
        Phase("keep volumes", _keep_volumes, back.changes.volumes, needed=bool(back.changes.volumes)),
        *(
            Phase(f"{step.kind} {step.name}", partial(_bring_back, step), tuple(map(str, step.objects)))
            for step in note.steps
        ),
        Phase(
            "remove what came later",
            _remove_added,
            (*(f"{step.kind} {step.name}" for step in added), *map(str, surplus)),
            needed=bool(added or surplus),
        ),
        Phase("note that it is reached", _note_end),
    ]


def _attempt(back: Return) -> Revision:
    """The revision that this rollback is: an unfinished one goes on under its number."""
    goal, last = back.goal, back.past.last
    unfinished = last is not None and not last.finished and last.origin == goal.number
    number = last.number if last and unfinished else back.past.next_number()
    return replace(goal, number=number, record=back.note, finished=False, origin=goal.number)


def _see_images(work: _Work) -> None:
    if work.registry is not None:
        require_images(work.registry, work.back.goal.images)


def _take_turn(work: _Work) -> None:
    note = work.back.note
    work.means = work.turn.enter_context(lease.held(work.means, note.bundle, note.namespace))
    work.actions = Actions(work.means, take_over=work.actions.take_over)


def _note_begin(work: _Work) -> None:
    work.past, work.attempt = begin(work.means.cluster, work.actions, work.past, work.back.note, work.attempt)


def _keep_volumes(work: _Work) -> None:
    note = work.back.note
    work.actions.keep_volumes((*note.steps, *_added(work.back.past, note)), work.back.goal.claims)


def _bring_back(step: InstalledStep, work: _Work) -> None:
    work.workloads += _step(step, work.back.goal, work.actions, work.driver)


def _remove_added(work: _Work) -> None:
    past, note = work.back.past, work.back.note
    remove_dropped(work.actions, work.driver, _added(past, note), _surplus(past, note))


def _note_end(work: _Work) -> None:
    finish(work.means, work.past, work.attempt)


def _step(step: InstalledStep, goal: Revision, actions: Actions, driver: Driver) -> list[Workload]:
    """Bring `step` back to what it was in `goal`."""
    if step.kind == "chart":
        states = {(item.release, item.namespace): item for item in goal.releases}
        return actions.back_to(step, states[step.release, step.namespace].revision)
    objects = goal.objects[step.key]
    if step.kind == "manifests":
        return actions.manifests(step.name, objects)
    if not step.succeeds:
        actions.take_over_whole(objects[0])
    return driver.bring_back(step, objects[0], actions, goal.hook_pods.get(step.key, ()))


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
        now, then = (at_path((item.objects.get(step.key) or ({},))[0], step.values_at) for item in (last, goal))
        values += compared_values(step.release, now or {}, then or {})
    return Changes(
        bundle=compared(bundle_line(last.record), bundle_line(goal.record)),
        charts=compared(chart_lines(last.record), chart_lines(goal.record)),
        images=compared_images(last.images, goal.images),
        values=values,
    )


def _added(past: History, note: Record) -> list[InstalledStep]:
    """The steps that came with the state that is left."""
    return steps_left(past.last.record, note) if past.last else []


def _surplus(past: History, note: Record) -> list[InstalledObject]:
    """The objects of the steps that stay, that came with the state that is left."""
    return objects_left(past.last.record, note) if past.last else []


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
