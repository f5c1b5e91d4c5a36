"""Bring a bundle's application about in a cluster, and converge: run again after anything, it finishes the job.

`examine` works out everything that can be known beforehand and changes nothing: references, values, permissions, what
others have set, what is installed. `prepare` refuses where anything stands in the way, and `carry_out` does the rest.
What is written first is the record, so that `uninstall` finds its way after any interruption; the history is told at
the end which state was reached.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from installer.apps.application import application_of
from installer.bundle.reader import Bundle
from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.workload import Workload
from installer.diagnosis.finding import Finding, warning
from installer.errors import (
    AirferryError,
    ClusterError,
    ClusterForbiddenError,
    ClusterUnreachableError,
    UsageError,
)
from installer.floor.floor import floor_after
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Manifests
from installer.objects.driver import ChartSourceRequest, TemporaryRepository
from installer.preflight import preflight
from installer.preflight.images_held import require_images
from installer.preflight.preflight import Check, Preflight
from installer.registry.client import Registry
from installer.report import Reporter
from installer.site.site import Site
from installer.value import replace
from installer.workflows import history, lease, record, upgrade
from installer.workflows.actions import Actions
from installer.workflows.changes import Changes
from installer.workflows.driver import Driver, driver_of
from installer.workflows.history import Access, History, Revision
from installer.workflows.lease import Means
from installer.workflows.phases import Phase, carried_out
from installer.workflows.record import InstalledObject, Record
from installer.workflows.removal import remove_dropped
from installer.workflows.smoke import until_answered

_Result = TypeVar("_Result")
ANOTHER = "run `upgrade` with the same arguments: it shows what changes, and asks."


@dataclass(frozen=True)
class Prepared:
    """An installation or upgrade that can be carried out. `before` and `history` are what has been so far."""

    wanted: Desired = field(repr=False)
    note: Record
    before: Record | None
    history: History
    changes: Changes
    access: Access
    take_over: bool
    repository: TemporaryRepository | None

    @property
    def another(self) -> str:
        """What it says if another bundle was brought about before; else empty."""
        old, new = self.before, self.note
        other = old is not None and old.sums != new.sums and self.history.settled is not None
        return f"{old.bundle} {old.version} is installed, and this bundle holds {new.version}" if old and other else ""

    @property
    def pulled_charts(self) -> frozenset[tuple[str, str]]:
        """Name and version of the charts that controllers shall pull from the registry."""
        made = [step.installs.chart for step in self.wanted.resources if step.installs and step.chart_source == "oci"]
        return frozenset((chart.name, chart.version) for chart in made)


@dataclass(frozen=True)
class Installation:
    """What an install did: `changed` names what it had to write, in order; empty if all was in place."""

    record: Record
    changed: tuple[str, ...]
    workloads: tuple[Workload, ...] = field(repr=False)


@dataclass(frozen=True)
class Examined:
    """All that can be known before anything is changed; `prepared` is None where site.yaml and bundle do not even fit
    each other, and can be carried out only if nothing stands in the way."""

    preflight: Preflight
    prepared: Prepared | None


def examine(
    bundle: Bundle,
    site: Site,
    cluster: Cluster,
    releases: Callable[[str], Releases],
    *,
    registry: Registry | None,
    time: str,
    back_to: int | None = None,
    take_over: bool = False,
    request: ChartSourceRequest = ChartSourceRequest(),  # noqa: B008 - it cannot be changed
    further: Iterable[Check] = (),
) -> Examined:
    """Everything that stands in the way of bringing `bundle` about at `site`, in place of another one if there is one.

    `releases` gives the Helm releases of a namespace, `registry` takes the images (None: nodes have them), `time` is
    now (UTC), `back_to` the number of an older bundle that a person means, and `request` says where a controller shall
    read its chart; `further` looks at what only the caller knows. Changes nothing. Raises BundleError,
    ClusterUnreachableError, and ClusterForbiddenError where the credentials as such are refused.
    """
    name = driver_name(bundle)

    def left_behind(wanted: Desired, item: Object) -> bool:
        note = record.record(bundle.manifest, bundle.verdict.sums, name, wanted, time)
        return InstalledObject.of(item).identity in upgrade.succeeded(history.read(cluster, note), note)

    driver = driver_of(name)
    looked = preflight.look(
        bundle, site, driver, cluster, registry, releases, request, take_over=take_over, exempt=left_behind
    )
    wanted, found = looked.wanted, list[Finding]()

    def tried(question: Callable[[], _Result], otherwise: _Result) -> _Result:
        """The answer to `question`; one that it refuses to give is a finding."""
        try:
            return question()
        except ClusterUnreachableError:
            raise
        except AirferryError as exc:
            found.append(Finding.of(exc))
            return otherwise

    for check in further:
        found += tried(partial(_all_of, check), [])
    if wanted is None:
        return Examined(looked.with_findings(found), None)
    note = record.record(bundle.manifest, bundle.verdict.sums, name, wanted, time)
    before = tried(partial(record.held, cluster, note.bundle, note.namespace), None)
    past = tried(partial(history.read, cluster, note), History(()))
    if before is None:
        found += tried(partial(_all_of, partial(_elsewhere, cluster, note)), [])
    else:
        place = f"namespace {before.namespace}"
        tried(partial(floor_after, bundle.manifest, before.floor, place, back_to), None)
        tried(partial(upgrade.stays_in_place, before, note), None)
    names = [step.name for step in (*note.steps, *upgrade.dropped(past, note)) if step.chart]
    kept = tried(partial(volumes.at_stake, cluster, releases, names, wanted.claims), list[volumes.Volume]())
    changes = Changes((), (), (), (), looked.taken_over, tuple(map(str, kept)))
    ca = (site.registry_ca or b"").decode()
    answers = site.answers.registry
    hosts = tuple(answers.token_hosts)
    access = Access(site.registry, answers.plain_http, ca, site.on_nodes, hosts, answers.pull_secret_name)
    prepared = Prepared(wanted, note, before, past, changes, access, take_over, request.repository)
    return Examined(looked.with_findings(found), prepared)


def _all_of(check: Check) -> list[Finding]:
    return list(check())


def _elsewhere(cluster: Cluster, note: Record) -> Iterator[Finding]:
    """Installations of the same bundle that are kept in other namespaces, as far as we may look.

    Raises SiteError for one that this would tear apart.
    """
    with suppress(ClusterForbiddenError):
        upgrade.shares_nothing(cluster, note)
        for other in record.every(cluster, note.bundle):
            yield warning(
                f"{other.bundle} {other.version} is installed in namespace {other.namespace}; this would be another "
                f"one, in {note.namespace}",
                "name that namespace in site.yaml if it is to be changed.",
            )


def prepare(
    examined: Examined, releases: Callable[[str], Releases], reporter: Reporter, *, upgrading: bool = False
) -> Prepared:
    """What was `examined`, ready to be carried out; or, `upgrading`, to take the place of another bundle.

    Raises what stands in the way, all of it at once; UsageError if it is an upgrade without `upgrading`,
    NothingHereError if there is nothing to upgrade.
    """
    examined.preflight.require(reporter)
    prepared = examined.prepared
    if prepared is None:
        raise AssertionError("nothing to be done, and no reason why")
    if upgrading:
        shown = upgrade.changes(releases, prepared.wanted, prepared.note, prepared.before, prepared.history)
        kept = prepared.changes
        shown = replace(shown, overwritten=kept.overwritten, volumes=kept.volumes)
        return dataclasses.replace(prepared, changes=shown)
    if prepared.another:
        raise UsageError(prepared.another, hint=ANOTHER)
    return prepared


def driver_name(bundle: Bundle) -> str:
    """The driver of the application in `bundle`; empty if it has none. Raises BundleError."""
    found = application_of(bundle)
    return (found.profile.driver if found else None) or ""


@dataclass
class _Work:
    """What the phases of one installation work with, and what they have reached."""

    prepared: Prepared
    means: Means
    actions: Actions
    driver: Driver
    registry: Registry | None
    turn: ExitStack
    past: History
    revision: Revision
    workloads: list[Workload] = field(default_factory=list)


def phases(prepared: Prepared) -> list[Phase[_Work]]:
    """What `carry_out` does, in order."""
    wanted, note = prepared.wanted, prepared.note
    dropped, pruned = upgrade.dropped(prepared.history, note), upgrade.pruned(prepared.history, note)
    first = [describe(item) for item in (*wanted.secrets, *wanted.accounts)]
    return [
        Phase("see that the registry holds all images", _see_images, needed=not prepared.access.on_nodes),
        Phase("make namespaces", _make_namespaces, tuple(wanted.namespaces)),
        Phase("take the turn: one installer at a time", _take_turn),
        Phase("note what is about to be", _note_begin),
        Phase("keep volumes", _keep_volumes, prepared.changes.volumes, needed=bool(prepared.changes.volumes)),
        Phase("apply what the application needs beforehand", _apply_first, tuple(first)),
        *(
            Phase(f"{record.kind_of(step)} {step.name}", partial(_bring_about, step), _tells(step))
            for step in wanted.steps
        ),
        Phase("see that it answers", _see_answers, tuple(map(str, wanted.smoke)), needed=bool(wanted.smoke)),
        Phase(
            "remove what is no part of it any more",
            _remove_dropped,
            (*(f"{step.kind} {step.name}" for step in dropped), *map(str, pruned)),
            needed=bool(dropped or pruned),
        ),
        Phase("note that it is reached", _note_end),
    ]


def carry_out(prepared: Prepared, means: Means, registry: Registry | None) -> Installation:
    """Bring about what was prepared; the images must be in `registry` by now, or on the nodes if there is none.

    Raises NotFoundError or ContentError if an image is not, ClusterError if an object or a chart is refused or
    somebody else is at work, NotReadyError with the causes if workloads do not come up.
    """
    note, driver = prepared.note, driver_of(prepared.note.driver)
    with ExitStack() as turn:
        actions = Actions(means, take_over=prepared.take_over)
        work = _Work(prepared, means, actions, driver, registry, turn, prepared.history, _revision(prepared))
        carried_out(phases(prepared), work, means.patience.reporter)
    return Installation(note, tuple(work.actions.changed), tuple(work.workloads))


def _see_images(work: _Work) -> None:
    if work.registry is not None:
        images = work.prepared.wanted.images
        require_images(work.registry, {reference: digest.text for reference, digest in images.items()})


def _make_namespaces(work: _Work) -> None:
    work.actions.namespaces(work.prepared.wanted.namespaces, work.prepared.wanted.owners)


def _take_turn(work: _Work) -> None:
    note = work.prepared.note
    work.means = work.turn.enter_context(lease.held(work.means, note.bundle, note.namespace))
    work.actions = Actions(work.means, take_over=work.prepared.take_over, changed=work.actions.changed)


def _note_begin(work: _Work) -> None:
    note = work.prepared.note
    work.past, work.revision = begin(work.means.cluster, work.actions, work.past, note, work.revision)


def _keep_volumes(work: _Work) -> None:
    note = work.prepared.note
    # By what was before: with the turn's own revision, old ones may be gone.
    dropped = upgrade.dropped(work.prepared.history, note)
    work.actions.keep_volumes((*note.steps, *dropped), work.prepared.wanted.claims)


def _apply_first(work: _Work) -> None:
    wanted = work.prepared.wanted
    for item in (*wanted.secrets, *wanted.accounts):
        work.actions.apply(item)
    work.driver.before(work.actions, wanted)


def _bring_about(step: DesiredStep, work: _Work) -> None:
    if isinstance(step, ChartRelease):
        work.workloads += work.actions.release(step)
    elif isinstance(step, Manifests):
        work.workloads += work.actions.manifests(step.name, step.objects)
    else:
        if not step.succeeds:
            work.actions.take_over_whole(step.document)
        work.workloads += work.driver.bring_about(step, work.actions, work.prepared.repository)


def _see_answers(work: _Work) -> None:
    for endpoint in work.prepared.wanted.smoke:
        until_answered(work.means.cluster, endpoint, work.actions.patience)


def _remove_dropped(work: _Work) -> None:
    past, note = work.prepared.history, work.prepared.note
    remove_dropped(work.actions, work.driver, upgrade.dropped(past, note), upgrade.pruned(past, note))


def _note_end(work: _Work) -> None:
    finish(work.means, work.past, work.revision)


def _tells(step: DesiredStep) -> tuple[str, ...]:
    """What a dry run lists of a step: the chart, or the objects."""
    if isinstance(step, ChartRelease):
        return (f"chart {step.chart.name} {step.chart.version}",)
    return tuple(describe(item) for item in step.applied)


def _revision(prepared: Prepared) -> Revision:
    """The new revision in the history, or the last one if that is the same state."""
    past, last = prepared.history, prepared.history.last
    new = history.revision(past.next_number(), prepared.note, prepared.wanted, prepared.access)
    return last if last and last.same(new) else new


def begin(
    cluster: Cluster, actions: Actions, past: History, note: Record, coming: Revision
) -> tuple[History, Revision]:
    """Note in record and history what is about to be, unless it is there already.

    Raises ClusterError if the history is no longer `past`, on which the decision was made.
    """
    if history.read(cluster, note) != past:
        raise ClusterError(
            f"the installation of {note.bundle} was changed by somebody else just now", hint="run the command again."
        )
    if record.keep(cluster, note):
        actions.note(f"ConfigMap {note.namespace}/{record.PREFIX}{note.bundle}")
    return (past if coming in past.revisions else history.keep(cluster, past, coming)), coming


def finish(means: Means, past: History, reached: Revision) -> None:
    """Note in the history that a state is reached, and by which revisions of Helm's releases."""
    histories = {item: means.releases(item.namespace).history(item.release) for item in reached.releases}
    known = tuple(replace(item, revision=found[-1].revision if found else 0) for item, found in histories.items())
    done = replace(reached, finished=True, releases=known)
    if done != reached:
        history.keep(means.cluster, past, done)
