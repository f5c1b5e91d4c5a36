"""Bring a bundle's application about in a cluster, and converge: run again after anything, it finishes the job.

`prepare` works out everything that can be known beforehand and changes nothing: references, values, permissions, what
others have set. `carry_out` does it. What is written first is the record, so that `uninstall` finds its way after any
interruption; the history is told at the end which state was reached.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from installer.bundle.reader import Bundle
from installer.chart.releases import Releases
from installer.cluster import volumes
from installer.cluster.kube import Cluster
from installer.cluster.workload import Workload
from installer.errors import ClusterError, UsageError
from installer.objects.chart_source import TemporaryRepository, Wish
from installer.objects.desired import Desired
from installer.preflight import preflight
from installer.registry.client import Registry
from installer.report import Reporter
from installer.site.site import Site
from installer.value import replace
from installer.workflows import history, lease, record, upgrade
from installer.workflows.actions import Steps
from installer.workflows.changes import Changes
from installer.workflows.history import Access, History, Revision
from installer.workflows.images_held import require_images
from installer.workflows.lease import Means
from installer.workflows.platform import Platform


@dataclass(frozen=True)
class Prepared:
    """An installation or upgrade that can be carried out. `history` is what has been so far."""

    wanted: Desired = field(repr=False)
    note: record.Record
    history: History
    changes: Changes
    access: Access
    take_over: bool
    repository: TemporaryRepository | None

    @property
    def needs_registry(self) -> bool:
        """Whether the operator shall read its chart from the registry."""
        return self.wanted.source is not None and self.wanted.source.final.kind == "oci"


@dataclass(frozen=True)
class Installation:
    """What an install did: `changed` names what it had to write, in order; empty if all was in place."""

    record: record.Record
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
    wish: Wish = Wish(),  # noqa: B008 - it cannot be changed
) -> Prepared:
    """Check that `bundle` can be installed at `site`; `policy` says that it is to be an upgrade, and which.

    `releases` gives the Helm releases of a namespace, `registry` takes the images (None: nodes have them), `time` is
    now (UTC), and `wish` says where the operator shall read the platform chart. Changes nothing.
    Raises what `preflight` finds in the way, all of it at once; BundleError; ConflictError if others have set what is
    to be applied (unless `take_over`); UsageError if it is an upgrade without `policy`, NothingHereError if there is
    nothing to upgrade, PolicyError for a downgrade that the policy does not allow, SiteError if a release would move.
    """
    wanted = preflight.look(bundle, site, cluster, registry, releases, wish, take_over=take_over).require(reporter)
    note = record.record(bundle.manifest, bundle.verdict.sums, wanted, time)
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
    names = [chart.name for chart in (*note.all_charts, *upgrade.dropped(past, note))]
    kept = tuple(map(str, volumes.at_stake(cluster, releases, names, wanted.claims)))
    changes = replace(changes, overwritten=overwritten, volumes=kept)
    ca = (site.registry_ca or b"").decode()
    answers = site.answers.registry
    access = Access(site.registry, answers.plain_http, ca, site.on_nodes, tuple(answers.token_hosts))
    return Prepared(wanted, note, past, changes, access, take_over, wish.repository)


def carry_out(prepared: Prepared, means: Means, registry: Registry | None) -> Installation:
    """Bring about what was prepared; the images must be in `registry` by now, or on the nodes if there is none.

    Raises NotFoundError or ContentError if an image is not, ClusterError if an object or a chart is refused or
    somebody else is at work, NotReadyError with the causes if workloads do not come up.
    """
    wanted, note = prepared.wanted, prepared.note
    if registry is not None:
        require_images(registry, {reference: digest.text for reference, digest in wanted.images.items()})
    changed = Steps(means).namespaces(wanted.namespaces)
    with lease.held(means, note.bundle, note.namespace) as held:
        steps = Steps(held, take_over=prepared.take_over, changed=changed)
        found = _brought_about(prepared, held, steps)
    return Installation(note, tuple(steps.changed), tuple(found))


def _brought_about(prepared: Prepared, means: Means, steps: Steps) -> list[Workload]:
    wanted, note = prepared.wanted, prepared.note
    past, revision = begin(means.cluster, steps, prepared.history, note, _revision(prepared))
    dropped = upgrade.dropped(past, note)
    steps.keep_volumes((*note.all_charts, *dropped), wanted.claims)
    for secret in wanted.secrets:
        steps.apply(secret)
    found = [item for release in wanted.releases for item in steps.release(release)]
    if wanted.operator and wanted.platform and wanted.source and wanted.resource:
        platform = Platform(wanted.operator, wanted.platform, wanted.source, wanted.resource)
        found += platform.bring_about(steps, means.cluster, means.patience, prepared.repository)
    for chart in dropped:
        steps.removed(chart)
    finish(means, past, revision)
    return found


def _revision(prepared: Prepared) -> Revision:
    """The new revision in the history, or the last one if that is the same state."""
    past, last = prepared.history, prepared.history.last
    new = history.revision(past.next_number(), prepared.note, prepared.wanted, prepared.access)
    return last if last and last.same(new) else new


def begin(
    cluster: Cluster, steps: Steps, past: History, note: record.Record, coming: Revision
) -> tuple[History, Revision]:
    """Note in record and history what is about to be, unless it is there already.

    Raises ClusterError if the history is no longer `past`, on which the decision was made.
    """
    if history.read(cluster, note) != past:
        raise ClusterError(
            f"the installation of {note.bundle} was changed by somebody else just now", hint="run the command again."
        )
    if record.keep(cluster, note):
        steps.note(f"ConfigMap {note.namespace}/{record.PREFIX}{note.bundle}")
    return (past if coming in past.revisions else history.keep(cluster, past, coming)), coming


def finish(means: Means, past: History, reached: Revision) -> None:
    """Note in the history that a state is reached, and by which revisions of Helm's releases."""
    histories = {item: means.releases(item.namespace).history(item.release) for item in reached.releases}
    known = tuple(replace(item, revision=found[-1].revision if found else 0) for item, found in histories.items())
    done = replace(reached, finished=True, releases=known)
    if done != reached:
        history.keep(means.cluster, past, done)
