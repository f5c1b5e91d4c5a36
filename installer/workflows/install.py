"""Bring a bundle's application about in a cluster, and converge: run again after anything, it finishes the job.

`prepare` works out everything that can be known beforehand and changes nothing: references, values, permissions, what
others have set. `carry_out` does it. What is written first is the record, so that `uninstall` finds its way after any
interruption; the history is told at the end which state was reached.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from installer.apps.application import application_of
from installer.bundle.reader import Bundle
from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.workload import Workload
from installer.errors import ClusterError, UsageError
from installer.floor.floor import floor_after
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Manifests
from installer.objects.driver import ChartSourceRequest, TemporaryRepository
from installer.preflight import preflight
from installer.preflight.images_held import require_images
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


@dataclass(frozen=True)
class Prepared:
    """An installation or upgrade that can be carried out. `history` is what has been so far."""

    wanted: Desired = field(repr=False)
    note: Record
    history: History
    changes: Changes
    access: Access
    take_over: bool
    repository: TemporaryRepository | None

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


def prepare(
    bundle: Bundle,
    site: Site,
    cluster: Cluster,
    releases: Callable[[str], Releases],
    *,
    registry: Registry | None,
    reporter: Reporter,
    time: str,
    upgrading: bool = False,
    back_to: int | None = None,
    take_over: bool = False,
    request: ChartSourceRequest = ChartSourceRequest(),  # noqa: B008 - it cannot be changed
) -> Prepared:
    """Check that `bundle` can be installed at `site`, or, `upgrading`, take the place of another one; `back_to` is the
    number of an older one that a person means.

    `releases` gives the Helm releases of a namespace, `registry` takes the images (None: nodes have them), `time` is
    now (UTC), and `request` says where a controller shall read its chart. Changes nothing.
    Raises what `preflight` finds in the way, all of it at once, what others have set among it unless it shall be taken
    over (`take_over`); BundleError; UsageError if it is an upgrade without `upgrading`, NothingHereError if
    there is nothing to upgrade, PolicyError if it is older without `back_to`, SiteError if a release would move.
    """
    name = driver_name(bundle)
    looked = look(bundle, site, cluster, registry, releases, request, take_over=take_over)
    wanted = looked.require(reporter)
    note = record.record(bundle.manifest, bundle.verdict.sums, name, wanted, time)
    before = record.held(cluster, note.bundle, note.namespace)
    past = history.read(cluster, note)
    if not upgrading and before and before.sums != note.sums and past.settled:
        raise UsageError(
            f"{before.bundle} {before.version} is installed, and this bundle holds {note.version}",
            hint="run `upgrade` with the same arguments: it shows what changes, and asks.",
        )
    if before:
        floor_after(bundle.manifest, before.floor, f"namespace {before.namespace}", back_to)
        upgrade.stays_in_place(before, note)
    else:
        upgrade.shares_nothing(cluster, note)
    changes = Changes((), (), (), ())
    if upgrading:
        changes = upgrade.changes(releases, wanted, note, before, past)
    names = [step.name for step in (*note.steps, *upgrade.dropped(past, note)) if step.chart]
    kept = tuple(map(str, volumes.at_stake(cluster, releases, names, wanted.claims)))
    changes = replace(changes, overwritten=looked.taken_over, volumes=kept)
    ca = (site.registry_ca or b"").decode()
    answers = site.answers.registry
    hosts = tuple(answers.token_hosts)
    access = Access(site.registry, answers.plain_http, ca, site.on_nodes, hosts, answers.pull_secret_name)
    return Prepared(wanted, note, past, changes, access, take_over, request.repository)


def look(
    bundle: Bundle,
    site: Site,
    cluster: Cluster,
    registry: Registry | None,
    releases: Callable[[str], Releases],
    request: ChartSourceRequest,
    *,
    take_over: bool,
) -> preflight.Preflight:
    """What `preflight` finds, knowing what has been installed before; raises the same."""
    name = driver_name(bundle)

    def left_behind(wanted: Desired, item: Object) -> bool:
        note = record.record(bundle.manifest, bundle.verdict.sums, name, wanted, "")
        return InstalledObject.of(item).identity in upgrade.succeeded(history.read(cluster, note), note)

    driver = driver_of(name)
    return preflight.look(
        bundle, site, driver, cluster, registry, releases, request, take_over=take_over, exempt=left_behind
    )


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
