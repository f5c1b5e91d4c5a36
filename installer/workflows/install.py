"""Bring a bundle's application about in a cluster, and converge: run again after anything, it finishes the job.

`prepare` works out everything that can be known beforehand and changes nothing: references, values, permissions, what
others have set. `carry_out` does it. What is written first is the record, so that `uninstall` finds its way after any
interruption; the history is told at the end which state was reached.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from installer.apps.application import application_of
from installer.bundle.reader import Bundle
from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.cluster import Cluster
from installer.cluster.workload import Workload
from installer.errors import ClusterError, UsageError
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Manifests
from installer.objects.driver import ChartSourceRequest, TemporaryRepository
from installer.preflight import preflight
from installer.registry.client import Registry
from installer.report import Reporter
from installer.site.site import Site
from installer.value import replace
from installer.workflows import history, lease, record, upgrade
from installer.workflows.actions import Actions
from installer.workflows.changes import Changes
from installer.workflows.driver import Driver, driver_of
from installer.workflows.history import Access, History, Revision
from installer.workflows.images_held import require_images
from installer.workflows.lease import Means
from installer.workflows.record import Record
from installer.workflows.removal import remove_dropped


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
        made = [step.installs.chart for step in self.wanted.resources if step.installs and step.pulled]
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
    policy: upgrade.Policy | None = None,
    take_over: bool = False,
    request: ChartSourceRequest = ChartSourceRequest(),  # noqa: B008 - it cannot be changed
) -> Prepared:
    """Check that `bundle` can be installed at `site`; `policy` says that it is to be an upgrade, and which.

    `releases` gives the Helm releases of a namespace, `registry` takes the images (None: nodes have them), `time` is
    now (UTC), and `request` says where a controller shall read its chart. Changes nothing.
    Raises what `preflight` finds in the way, all of it at once; BundleError; ConflictError if others have set what is
    to be applied (unless `take_over`); UsageError if it is an upgrade without `policy`, NothingHereError if there is
    nothing to upgrade, PolicyError for a downgrade that the policy does not allow, SiteError if a release would move.
    """
    name = driver_name(bundle)
    looked = preflight.look(bundle, site, driver_of(name), cluster, registry, releases, request, take_over=take_over)
    wanted = looked.require(reporter)
    note = record.record(bundle.manifest, bundle.verdict.sums, name, wanted, time)
    before = record.held(cluster, note.bundle, note.namespace)
    past = history.read(cluster, note)
    if policy is None and before and before.sums != note.sums and past.settled:
        raise UsageError(
            f"{before.bundle} {before.version} is installed, and this bundle holds {note.version}",
            hint="run `upgrade` with the same arguments: it shows what changes, and asks.",
        )
    if before:
        upgrade.stays_in_place(before, note)
    overwritten = upgrade.claimed_by_others(cluster, wanted, take_over=take_over)
    if policy is None:
        changes = Changes((), (), (), ())
    else:
        changes = upgrade.changes(releases, policy, wanted, note, before, past)
    names = [step.name for step in (*note.steps, *upgrade.dropped(past, note)) if step.chart]
    kept = tuple(map(str, volumes.at_stake(cluster, releases, names, wanted.claims)))
    changes = replace(changes, overwritten=overwritten, volumes=kept)
    ca = (site.registry_ca or b"").decode()
    answers = site.answers.registry
    hosts = tuple(answers.token_hosts)
    access = Access(site.registry, answers.plain_http, ca, site.on_nodes, hosts, answers.pull_secret_name)
    return Prepared(wanted, note, past, changes, access, take_over, request.repository)


def driver_name(bundle: Bundle) -> str:
    """The driver of the application in `bundle`; empty if it has none. Raises BundleError."""
    found = application_of(bundle)
    return (found.profile.driver if found else None) or ""


def carry_out(prepared: Prepared, means: Means, registry: Registry | None) -> Installation:
    """Bring about what was prepared; the images must be in `registry` by now, or on the nodes if there is none.

    Raises NotFoundError or ContentError if an image is not, ClusterError if an object or a chart is refused or
    somebody else is at work, NotReadyError with the causes if workloads do not come up.
    """
    wanted, note = prepared.wanted, prepared.note
    if registry is not None:
        require_images(registry, {reference: digest.text for reference, digest in wanted.images.items()})
    changed = Actions(means).namespaces(wanted.namespaces)
    with lease.held(means, note.bundle, note.namespace) as held:
        actions = Actions(held, take_over=prepared.take_over, changed=changed)
        found = _brought_about(prepared, held, actions)
    return Installation(note, tuple(actions.changed), tuple(found))


def _brought_about(prepared: Prepared, means: Means, actions: Actions) -> list[Workload]:
    wanted, note = prepared.wanted, prepared.note
    driver = driver_of(note.driver)
    past, revision = begin(means.cluster, actions, prepared.history, note, _revision(prepared))
    dropped = upgrade.dropped(past, note)
    actions.keep_volumes((*note.steps, *dropped), wanted.claims)
    for item in (*wanted.secrets, *wanted.accounts):
        actions.apply(item)
    driver.before(actions, wanted)
    found = [item for step in wanted.steps for item in _step(step, actions, driver, prepared.repository)]
    remove_dropped(actions, driver, dropped, upgrade.pruned(past, note))
    finish(means, past, revision)
    return found


def _step(
    step: DesiredStep, actions: Actions, driver: Driver, repository: TemporaryRepository | None
) -> list[Workload]:
    if isinstance(step, ChartRelease):
        return actions.release(step)
    if isinstance(step, Manifests):
        return actions.manifests(step.name, step.objects)
    return driver.bring_about(step, actions, repository)


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
