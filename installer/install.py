"""Bring a bundle's application about in a cluster, and converge: run again after anything, it finishes the job.

`prepare` works out everything that can be known beforehand and changes nothing: references, values, permissions, what
others have set. `carry_out` does it. What is written first is the record, so that `uninstall` finds its way after any
interruption; the history is told at the end which state was reached.
"""

import base64
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from installer import chart_configmap, chart_oci, controller, handover, history, operator, record, upgrade
from installer.bundle.reader import Bundle
from installer.changes import Changes
from installer.chart.releases import Releases
from installer.chart_source import ChartSource, TemporaryRepository, Wish
from installer.chart_source import describe as describe_source
from installer.controller import CUSTOM_RESOURCE
from installer.custom_resource import with_chart
from installer.desired import ChartRelease, Desired, desired
from installer.errors import ClusterError, ClusterForbiddenError, UsageError
from installer.history import History, Revision
from installer.images_held import require_images
from installer.kube import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    FIELD_MANAGER,
    NAMESPACE,
    SECRET,
    AbsentError,
    Cluster,
    Kind,
    Object,
    describe,
)
from installer.oci.registry import Registry
from installer.site import Site
from installer.wait import AGAIN, Patience, not_ready, pending_hooks, until_installed, until_rolled_out
from installer.workload import Workload, condition

LEAST_HOOK_SECONDS = 30
_CHECKED_VERBS = ("create", "patch")


@dataclass(frozen=True)
class Prepared:
    """An installation or upgrade that can be carried out. `history` is what has been so far."""

    wanted: Desired = field(repr=False)
    note: record.Record
    history: History
    changes: Changes
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
    time: str,
    policy: upgrade.Policy | None = None,
    take_over: bool = False,
    wish: Wish = Wish(),  # noqa: B008 - it cannot be changed
) -> Prepared:
    """Check that `bundle` can be installed at `site`; `policy` says that it is to be an upgrade, and which.

    `releases` gives the Helm releases of a namespace, `time` is now (UTC), and `wish` says where the operator shall
    read the platform chart. Changes nothing.
    Raises SiteError, BundleError, ClusterForbiddenError if a permission is missing, ConflictError if others have set
    what is to be applied (unless `take_over`); UsageError if it is an upgrade without `policy`, NotFoundError if there
    is nothing to upgrade, PolicyError for a downgrade that the policy does not allow.
    """
    wanted = desired(bundle, site, kube_version=cluster.version(), api_versions=cluster.api_versions(), wish=wish)
    cluster.hide(
        base64.b64decode(text).decode()
        for item in wanted.secrets
        for key, text in item["data"].items()
        if key != chart_oci.USERNAME
    )
    require_permissions(cluster, wanted)
    note = record.record(bundle.manifest, bundle.verdict.sums, wanted, time)
    before = record.held(cluster, note.bundle, note.namespace)
    past = history.read(cluster, before) if before else History(())
    if policy is None and before and before.sums != note.sums and past.settled:
        raise UsageError(
            f"{before.bundle} {before.version} is installed, and this bundle holds {note.version}",
            hint="run `upgrade` with the same arguments: it shows what changes, and asks.",
        )
    overwritten = upgrade.claimed_by_others(cluster, wanted, take_over=take_over)
    if policy is None:
        changes = Changes((), (), (), (), overwritten)
    else:
        changes = upgrade.changes(releases, policy, wanted, note, before, past)
        changes = replace(changes, overwritten=overwritten)
    return Prepared(wanted, note, past, changes, take_over, wish.repository)


def carry_out(
    prepared: Prepared,
    cluster: Cluster,
    releases: Callable[[str], Releases],
    registry: Registry,
    patience: Patience,
) -> Installation:
    """Bring about what was prepared; the images must be in `registry` by now.

    Raises NotFoundError or ContentError if an image is not, ClusterError if an object or a chart is refused,
    NotReadyError with the causes if workloads do not come up.
    """
    wanted, note = prepared.wanted, prepared.note
    require_images(registry, {reference: digest.text for reference, digest in wanted.images.items()})
    work = _Work(cluster, releases, wanted, patience, take_over=prepared.take_over)
    work.namespaces()
    if record.keep(cluster, note):
        work.changed.append(f"ConfigMap {note.namespace}/{record.PREFIX}{note.bundle}")
    past, revision = _begin(cluster, prepared)
    for secret in wanted.secrets:
        work.apply(secret)
    found = [item for release in wanted.releases for item in work.release(release)]
    if wanted.operator and wanted.platform and wanted.source and wanted.resource:
        platform = _Platform(wanted.operator, wanted.platform, wanted.source, wanted.resource)
        found += work.platform(platform, prepared.repository)
    for release in upgrade.dropped(past, note):
        if releases(release.namespace).uninstall(release.release, timeout=max(int(patience.left()), 30)):
            work.note(f"removed release {release.namespace}/{release.release}")
    finish(cluster, releases, past, revision)
    return Installation(note, tuple(work.changed), tuple(found))


def _begin(cluster: Cluster, prepared: Prepared) -> tuple[History, Revision]:
    """Note in the history what is about to be, unless it is there already."""
    past, last = prepared.history, prepared.history.last
    new = history.revision(past.next_number(), prepared.note, prepared.wanted)
    if last and last.same(new):
        return past, last
    return history.keep(cluster, past, new), new


def finish(cluster: Cluster, releases: Callable[[str], Releases], past: History, reached: Revision) -> None:
    """Note in the history that a state is reached, and by which revisions of Helm's releases."""
    known = tuple(
        replace(item, revision=newest[-1].revision if (newest := releases(item.namespace).history(item.release)) else 0)
        for item in reached.releases
    )
    done = replace(reached, finished=True, releases=known)
    if done != reached:
        history.keep(cluster, past, done)


def require_permissions(cluster: Cluster, wanted: Desired) -> None:
    """Raises ClusterForbiddenError naming everything that `install` would write and may not."""
    needed: set[tuple[Kind, str]] = set()
    for release in wanted.installed:
        for item in (*release.objects, *release.crds):
            if kind := _known(cluster, item):
                needed.add((kind, _namespace(item, release.name.namespace)))
    needed |= {(each, wanted.home) for each in (SECRET, CONFIG_MAP)}
    needed |= {(SECRET, item["metadata"]["namespace"]) for item in wanted.secrets}
    if any(release.crds for release in wanted.installed):
        needed.add((CUSTOM_RESOURCE_DEFINITION, ""))
    if wanted.resource:
        needed.add((CUSTOM_RESOURCE, wanted.resource["metadata"]["namespace"]))
    missing = [
        f"{verb} {kind}{f' in namespace {place}' if kind.namespaced else ''}"
        for kind, place in sorted(needed)
        for verb in _CHECKED_VERBS
        if not cluster.can_i(verb, kind, place if kind.namespaced else "")
    ]
    if missing:
        raise ClusterForbiddenError(
            "\n  ".join([f"context {cluster.endpoint.context!r} may not:", *missing]),
            hint="ask for these permissions, or use a context that has them.",
        )


def _known(cluster: Cluster, item: Object) -> Kind | None:
    """The kind of `item`, or None where the cluster does not have it yet: charts bring kinds along."""
    try:
        return cluster.kind(item["apiVersion"], item["kind"])
    except AbsentError:
        return None


def _source(resource: Object | None) -> Object:
    """Where a custom resource's chart comes from."""
    return dict(((resource or {}).get("spec") or {}).get("chart") or {})


def _namespace(item: Object, default: str) -> str:
    return str(item["metadata"].get("namespace") or default)


@dataclass(frozen=True)
class _Platform:
    """The operator, and what it shall install: the parts of `Desired` that are there together."""

    operator: ChartRelease
    chart: ChartRelease
    source: ChartSource
    resource: Object = field(repr=False)


class _Work:
    """The steps of one installation, and what they changed."""

    def __init__(
        self,
        cluster: Cluster,
        releases: Callable[[str], Releases],
        wanted: Desired,
        patience: Patience,
        *,
        take_over: bool,
    ) -> None:
        self._cluster, self._releases, self._wanted, self._patience = cluster, releases, wanted, patience
        self._take_over = take_over
        self.changed: list[str] = []

    def apply(self, obj: Object) -> Object:
        """Server-side apply; noted as a change if the object's version moved."""
        cluster, metadata = self._cluster, obj["metadata"]
        kind = cluster.kind(obj["apiVersion"], obj["kind"])
        before = cluster.get(kind, metadata["name"], metadata.get("namespace", ""))
        after = cluster.apply(obj, force=self._take_over)
        if before is None or before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            self.note(describe(obj))
        return after

    def namespaces(self) -> None:
        """Create the namespaces that are missing; those that exist stay as they are."""
        for name in self._wanted.namespaces:
            try:
                missing = self._cluster.get(NAMESPACE, name) is None
            except ClusterForbiddenError:
                # Who may only work inside a namespace cannot look at it from outside.
                continue
            if missing:
                self._cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
                self.note(f"Namespace {name}")

    def release(self, release: ChartRelease) -> list[Workload]:
        """A chart that Helm installs from here, until its workloads are rolled out."""
        self._custom_kinds(release)
        self._ensure(release)
        return until_rolled_out(self._cluster, release.name, self._patience)

    def platform(self, wanted: _Platform, repository: TemporaryRepository | None) -> list[Workload]:
        """The operator, and through it the platform. The chart goes first: a pod sees at its start what there is."""
        name = wanted.chart.name
        held = self._cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
        # A resource that exists had its first installation, or one that was interrupted: both continue with what lasts.
        source = wanted.source.final if held else wanted.source
        prepared = self._chart_file(wanted, held)
        with repository.serve() if repository and source.kind == "temporary" else nullcontext():
            found = self.release(wanted.operator)
            operator.until_seen(
                self._cluster, wanted.operator.name, [*prepared, *self._trusted(wanted)], self._patience
            )
            if held:
                self._announce(held, source)
                handover.until_autoscalers_report(self._cluster, name, self._patience)
            resource = with_chart(wanted.resource, source.spec)
            since = self._resource(resource, wanted.operator)
            until_installed(self._cluster, resource, since, wanted.operator.name, wanted.chart.hooks, self._patience)
            rolled_out = until_rolled_out(self._cluster, name, self._patience)
            if source.lasting:
                hooks = wanted.chart.hooks
                handover.hand_over(self._cluster, wanted.resource, wanted.operator.name, hooks, self._patience)
                rolled_out = until_rolled_out(self._cluster, name, self._patience)
            elif source.kind == "temporary":
                self._patience.reporter.note(
                    f"{describe(resource)} reads its chart from {source.spec['url']}, which ends with this program: "
                    "for any later change of it, run `install` again"
                )
        return [*found, *rolled_out]

    def _chart_file(self, wanted: _Platform, resource: Object | None) -> list[Object]:
        """The ConfigMap with the chart, applied, if the source is one."""
        file, namespace = wanted.source.final.file, wanted.operator.name.namespace
        if file is None:
            return []
        current = self._cluster.get(CONFIG_MAP, chart_configmap.CONFIG_MAP_NAME, namespace)
        in_use = str(_source(resource).get("path") or "")
        return [self.apply(chart_configmap.config_map(file, namespace, current, in_use))]

    def _trusted(self, wanted: _Platform) -> list[Object]:
        """The ConfigMaps of the operator's chart, if it must trust certificates that may be new in one of them."""
        if not wanted.source.final.authorities:
            return []
        place = wanted.operator.name.namespace
        names = [item["metadata"]["name"] for item in wanted.operator.objects if item["kind"] == CONFIG_MAP.name]
        return [item for name in names if (item := self._cluster.get(CONFIG_MAP, name, place))]

    def _announce(self, held: Object, source: ChartSource) -> None:
        """Say so if the chart comes from elsewhere from now on."""
        former, new = describe_source(_source(held)), describe_source(source.spec)
        if former.partition(",")[0] != new.partition(",")[0]:
            self._patience.reporter.note(
                f"{describe(held)}: chart source changes from {former} to {new}; this is an upgrade with all its hooks"
            )

    def _resource(self, resource: Object, chart: ChartRelease) -> str:
        """Apply the custom resource; the time from which on a refusal of the controller is meant for it."""
        name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
        before = self._cluster.get(CUSTOM_RESOURCE, name, namespace)
        if before and before["metadata"].get("deletionTimestamp"):
            raise ClusterError(
                f"{describe(resource)} is being deleted", hint="run `uninstall` first; it finishes that."
            )
        count = len(self.changed)
        after = self.apply(resource)
        refused = (after.get("status") or {}).get("phase") == controller.INVALID
        if before and len(self.changed) == count and refused:
            self._patience.reporter.note(f"{describe(resource)} was refused before: waking the controller")
            return operator.wake(self._cluster, chart.name, self._patience)
        return controller.apply_time(after, FIELD_MANAGER)

    def _custom_kinds(self, release: ChartRelease) -> None:
        """The CRDs of a chart, which Helm would install once and never upgrade; until they are served."""
        names = []
        for crd in release.crds:
            metadata = {key: value for key, value in crd["metadata"].items() if key != "creationTimestamp"}
            self.apply({**{key: crd[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})
            names.append(metadata["name"])
        for name in names:
            while not self._served(name):
                if self._patience.over():
                    raise ClusterError(f"CustomResourceDefinition {name} is not served", hint=AGAIN)
                self._patience.rest()

    def _served(self, name: str) -> bool:
        held = self._cluster.get(CUSTOM_RESOURCE_DEFINITION, name)
        return held is not None and condition(held, "Established").get("status") == "True"

    def _ensure(self, release: ChartRelease) -> None:
        """Helm's part; a hook that does not finish is explained. Objects that somebody removed are restored."""
        helm, name = self._releases(release.name.namespace), release.name.name
        seconds = max(int(self._patience.left()), LEAST_HOOK_SECONDS)
        self._patience.reporter.note(f"release {release.name}: chart {release.chart.name} {release.chart.version}")
        try:
            changed = helm.ensure(release.chart, name, release.values, timeout=seconds, skip_crds=True)
            if not changed and (lost := self._lost(helm, release)):
                self._patience.reporter.note(f"release {release.name}: restoring {', '.join(lost)}")
                changed = helm.ensure(release.chart, name, release.values, timeout=seconds, skip_crds=True, repair=True)
        except ClusterError as exc:
            pending = pending_hooks(self._cluster, release.name, release.hooks)
            if pending:
                raise not_ready(self._cluster, f"release {release.name}: {exc.message}", pending) from exc
            raise
        if changed:
            self.note(f"release {release.name}")

    def _lost(self, helm: Releases, release: ChartRelease) -> list[str]:
        """The objects of the deployed revision that are no longer in the cluster."""
        held = helm.status(release.name.name)
        return [describe(item) for item in (held.objects if held else ()) if not self._exists(item, release)]

    def _exists(self, item: Object, release: ChartRelease) -> bool:
        kind = _known(self._cluster, item)
        if kind is None:
            return False
        place = _namespace(item, release.name.namespace) if kind.namespaced else ""
        return self._cluster.get(kind, item["metadata"]["name"], place) is not None

    def note(self, what: str) -> None:
        """Tell of a change, and keep it in mind."""
        self.changed.append(what)
        self._patience.reporter.note(f"applied {what}")
