"""Bring a bundle's application about in a cluster, and converge: run again after anything, it finishes the job.

The images are in the registry already. Everything that can be known beforehand is checked before the first write:
references, values, permissions. What is written first is the record, so that `uninstall` finds its way after any
interruption.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from installer import chart_source, controller, operator, record
from installer.bundle.reader import Bundle
from installer.chart.releases import Releases
from installer.controller import CUSTOM_RESOURCE
from installer.desired import ChartRelease, Desired, desired
from installer.errors import ClusterError, ClusterForbiddenError
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
from installer.site import Site
from installer.wait import AGAIN, Patience, not_ready, pending_hooks, until_installed, until_rolled_out
from installer.workload import Workload, condition

LEAST_HOOK_SECONDS = 30
_CHECKED_VERBS = ("create", "patch")


@dataclass(frozen=True)
class Installation:
    """What an install did: `changed` names what it had to write, in order; empty if all was in place."""

    record: record.Record
    changed: tuple[str, ...]
    workloads: tuple[Workload, ...] = field(repr=False)


def install(
    bundle: Bundle,
    site: Site,
    cluster: Cluster,
    releases: Callable[[str], Releases],
    patience: Patience,
    *,
    time: str,
) -> Installation:
    """Install `bundle` at `site`; `releases` gives the Helm releases of a namespace, `time` is now (UTC).

    Raises SiteError and BundleError before anything is written, ClusterForbiddenError if a permission is missing,
    ClusterError if an object or a chart is refused, NotReadyError with the causes if workloads do not come up.
    """
    wanted = desired(bundle, site, kube_version=cluster.version(), api_versions=cluster.api_versions())
    cluster.hide(base64.b64decode(text).decode() for item in wanted.secrets for text in item["data"].values())
    require_permissions(cluster, wanted)
    note = record.record(bundle.manifest, bundle.verdict.sums, wanted, time)
    work = _Work(cluster, releases, wanted, patience)
    work.namespaces()
    if record.keep(cluster, note):
        work.changed.append(f"ConfigMap {note.namespace}/{record.PREFIX}{note.bundle}")
    for secret in wanted.secrets:
        work.apply(secret)
    found = [item for release in wanted.releases for item in work.release(release)]
    if wanted.operator and wanted.platform and wanted.chart_file and wanted.resource:
        found += work.platform(wanted.operator, wanted.platform, wanted.chart_file, wanted.resource)
    return Installation(note, tuple(work.changed), tuple(found))


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


def _namespace(item: Object, default: str) -> str:
    return str(item["metadata"].get("namespace") or default)


class _Work:
    """The steps of one installation, and what they changed."""

    def __init__(
        self, cluster: Cluster, releases: Callable[[str], Releases], wanted: Desired, patience: Patience
    ) -> None:
        self._cluster, self._releases, self._wanted, self._patience = cluster, releases, wanted, patience
        self.changed: list[str] = []

    def apply(self, obj: Object) -> Object:
        """Server-side apply; noted as a change if the object's version moved."""
        cluster, metadata = self._cluster, obj["metadata"]
        kind = cluster.kind(obj["apiVersion"], obj["kind"])
        before = cluster.get(kind, metadata["name"], metadata.get("namespace", ""))
        after = cluster.apply(obj)
        if before is None or before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            self._note(describe(obj))
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
                self._note(f"Namespace {name}")

    def release(self, release: ChartRelease) -> list[Workload]:
        """A chart that Helm installs from here, until its workloads are rolled out."""
        self._custom_kinds(release)
        self._ensure(release)
        return until_rolled_out(self._cluster, release.name, self._patience)

    def platform(
        self, chart: ChartRelease, platform: ChartRelease, file: chart_source.ChartFile, resource: Object
    ) -> list[Workload]:
        """The operator, and through it the platform. The chart goes first: a pod sees at its start what there is."""
        namespace = chart.name.namespace
        current = self._cluster.get(CONFIG_MAP, chart_source.CONFIG_MAP_NAME, namespace)
        held = self.apply(chart_source.config_map(file, namespace, current))
        found = self.release(chart)
        operator.until_chart_is_seen(self._cluster, chart.name, held, self._patience)
        since = self._resource(resource, chart)
        until_installed(self._cluster, resource, since, chart.name, platform.hooks, self._patience)
        return [*found, *until_rolled_out(self._cluster, platform.name, self._patience)]

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
            self._note(f"release {release.name}")

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

    def _note(self, what: str) -> None:
        self.changed.append(what)
        self._patience.reporter.note(f"applied {what}")
