"""What an installation, an upgrade and a rollback do to a cluster, step by step; each step converges."""

from collections.abc import Collection, Iterable

from installer.chart.releases import Releases
from installer.cluster import controller, volumes
from installer.cluster.cluster import FIELD_MANAGER, NoDryRunError, Object, describe, known, namespace_of
from installer.cluster.controller import CUSTOM_RESOURCE
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, JOB, NAMESPACE
from installer.cluster.workload import ReleaseName, Workload, condition
from installer.diagnosis.wait import (
    AGAIN,
    not_ready,
    pending_hooks,
    until_installed,
    until_rolled_out,
    while_hooks_run,
)
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, NotReadyError
from installer.objects.desired import ChartRelease
from installer.workflows import hook_images, operator
from installer.workflows.handover import until_autoscalers_report
from installer.workflows.lease import Means
from installer.workflows.record import InstalledChart

LEAST_HOOK_SECONDS = 30
ATTEMPTS = 3
# The controller looks again at once when its own notes change; if not, it is started anew.
NOTICE_SECONDS = 12.0


class Steps:
    """The steps of one installation, upgrade or rollback; `changed` names what they had to write, in order."""

    def __init__(self, means: Means, *, take_over: bool = False, changed: Iterable[str] = ()) -> None:
        self._cluster, self._releases, self._patience = means.cluster, means.releases, means.patience
        self._take_over = take_over
        self.changed = list(changed)

    def apply(self, obj: Object) -> Object:
        """Server-side apply; noted as a change if the object's version moved."""
        cluster, metadata = self._cluster, obj["metadata"]
        kind = cluster.kind(obj["apiVersion"], obj["kind"])
        before = cluster.get(kind, metadata["name"], metadata.get("namespace", ""))
        after = cluster.apply(obj, force=self._take_over)
        if before is None or before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]:
            self.note(describe(obj))
        return after

    def namespaces(self, names: Iterable[str]) -> list[str]:
        """Create the namespaces that are missing; those that exist stay as they are. Returns all changes so far."""
        for name in names:
            try:
                missing = self._cluster.get(NAMESPACE, name) is None
            except ClusterForbiddenError:
                # Who may only work inside a namespace cannot look at it from outside.
                continue
            if missing:
                self._cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
                self.note(f"Namespace {name}")
        return self.changed

    def keep_volumes(self, charts: Iterable[InstalledChart], staying: Collection[str]) -> None:
        """Keep the volumes whose claims Helm will delete when `charts` change or go and only the claims `staying` stay.

        Raises ClusterForbiddenError if that is not allowed.
        """
        found = volumes.at_stake(self._cluster, self._releases, [chart.name for chart in charts], staying)
        volumes.retain(self._cluster, found)
        for item in found:
            self._patience.reporter.note(f"kept {item}")

    def release(self, release: ChartRelease) -> list[Workload]:
        """A chart that Helm installs from here, until its workloads are rolled out."""
        self._custom_kinds(release)
        self._ensure(release)
        return until_rolled_out(self._cluster, release.name, self._patience)

    def back_to(self, chart: InstalledChart, revision: int) -> list[Workload]:
        """A release that Helm has had at `revision` before, until its workloads are rolled out."""
        helm, seconds = self._releases(chart.namespace), max(int(self._patience.left()), LEAST_HOOK_SECONDS)
        self._patience.reporter.note(
            f"release {chart.name}: chart {chart.chart} {chart.version}, as in revision {revision}"
        )
        try:
            changed = helm.roll_back(chart.release, revision, timeout=seconds)
        except ClusterError as exc:
            raise self._hooks_explained(exc, chart.name, chart.hooks) from exc
        if changed:
            self.note(f"release {chart.name}")
        return until_rolled_out(self._cluster, chart.name, self._patience)

    def removed(self, chart: InstalledChart) -> None:
        """A release that is no part of the application any more."""
        seconds = max(int(self._patience.left()), LEAST_HOOK_SECONDS)
        if self._releases(chart.namespace).uninstall(chart.release, timeout=seconds):
            self.note(f"release {chart.name} (removed)")

    def resource(
        self, resource: Object, operator_name: ReleaseName, hooks: Iterable[str], hook_pods: Iterable[Object]
    ) -> list[Workload]:
        """The custom resource, until the operator has made its release of it and all of that is rolled out.

        `hooks` are the names of the Jobs that come with any change, `hook_pods` see `hook_images`.
        """
        name = ReleaseName(resource["metadata"]["name"], resource["metadata"]["namespace"])
        before = self._cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
        if before and before["metadata"].get("deletionTimestamp"):
            raise ClusterError(
                f"{describe(resource)} is being deleted", hint="run `uninstall` first; it finishes that."
            )
        hook_images.clear(self._cluster, name)
        broken = before is not None and self._broken_off(operator_name, name, hooks)
        if broken or self._differs(resource, before):
            hook_images.pull(self._cluster, name, hook_pods, self._patience)
            until_autoscalers_report(self._cluster, name, self._patience)
        since = self._applied(resource, operator_name)
        self._until_installed(resource, since, operator_name, hooks)
        until_rolled_out(self._cluster, name, self._patience)
        # Before they have, the controller refuses whatever is changed next, by whomever; and they may add replicas.
        until_autoscalers_report(self._cluster, name, self._patience)
        return until_rolled_out(self._cluster, name, self._patience)

    def _until_installed(self, resource: Object, since: str, operator_name: ReleaseName, hooks: Iterable[str]) -> None:
        """Wait for the controller; one that came upon what a broken change had left is let try again."""
        name, hooks = ReleaseName(resource["metadata"]["name"], resource["metadata"]["namespace"]), tuple(hooks)
        for attempt in range(ATTEMPTS):
            try:
                until_installed(self._cluster, resource, since, operator_name, hooks, self._patience)
            except NotReadyError as exc:
                if attempt + 1 == ATTEMPTS or self._patience.over() or operator.PENDING not in exc.message:
                    raise
            else:
                return
            operator.settle(self._cluster, operator_name, name, self._patience)
            self._patience.reporter.note(f"{describe(resource)}: waking the controller")
            since = operator.wake(self._cluster, operator_name, self._patience)

    def _broken_off(self, operator_name: ReleaseName, name: ReleaseName, hooks: Iterable[str]) -> bool:
        """Whether an earlier change broke off; what it has left that would hinder the next one is taken away."""
        pending = operator.settle(self._cluster, operator_name, name, self._patience)
        if not (pending or self._failed(name)):
            return False
        # Helm makes the Jobs of hooks anew; until then these would pass for the new ones.
        for job in pending_hooks(self._cluster, name, hooks):
            self._patience.reporter.note(f"{job}: left by a change that broke off; removing it")
            self._cluster.delete(JOB, job.name, job.namespace)
        return True

    def _differs(self, resource: Object, before: Object | None) -> bool:
        """Whether the controller will have something to do once `resource` is applied."""
        if before is None or (before.get("status") or {}).get("phase") == controller.INVALID:
            return True
        try:
            after = self._cluster.apply(resource, force=self._take_over, dry_run=True)
        except NoDryRunError:
            return True
        return bool(after["metadata"]["generation"] != before["metadata"]["generation"])

    def _applied(self, resource: Object, operator_name: ReleaseName) -> str:
        """Apply the custom resource; the time from which on a refusal of the controller is meant for it."""
        count = len(self.changed)
        after = self.apply(resource)
        refused = (after.get("status") or {}).get("phase") == controller.INVALID
        since = controller.apply_time(after, FIELD_MANAGER)
        if begun := self._anew(resource, operator_name, since):
            return begun
        if len(self.changed) == count and refused:
            self._patience.reporter.note(f"{describe(resource)} was refused before: waking the controller")
            return operator.wake(self._cluster, operator_name, self._patience)
        return since

    def _anew(self, resource: Object, operator_name: ReleaseName, since: str) -> str:
        """Make the controller apply what it has applied before, for a later change of it failed; the time of that.

        Empty if there is no need. This comes after `resource` stands in the cluster: what stood there instead must not
        be tried again.
        """
        name = ReleaseName(resource["metadata"]["name"], resource["metadata"]["namespace"])
        if not self._failed(name) or not controller.forget_applied(self._cluster, resource):
            return ""
        self._patience.reporter.note(f"{describe(resource)}: a later change failed; the controller is to apply it anew")
        start = self._patience.clock()
        while self._failed(name):
            if self._patience.clock() - start >= NOTICE_SECONDS:
                return operator.wake(self._cluster, operator_name, self._patience)
            self._patience.rest()
        return since

    def _failed(self, name: ReleaseName) -> bool:
        return controller.release_status(self._cluster, name.name, name.namespace) == "failed"

    def _custom_kinds(self, release: ChartRelease) -> None:
        """The CRDs of a chart, which Helm would install once and never upgrade; until they are served."""
        definitions = release.definitions
        for crd in definitions:
            self.apply(crd)
        for name in [crd["metadata"]["name"] for crd in definitions]:
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
        watch = while_hooks_run(self._cluster, release.name, release.hooks, self._patience)

        def ensure(*, repair: bool = False) -> bool:
            return helm.ensure(
                release.chart, name, release.values, timeout=seconds, skip_crds=True, repair=repair, watch=watch
            )

        try:
            changed = self._patience.asked(ensure)
            if not changed and (lost := self._lost(helm, release)):
                self._patience.reporter.note(f"release {release.name}: restoring {', '.join(lost)}")
                changed = self._patience.asked(lambda: ensure(repair=True))
        except ClusterError as exc:
            raise self._hooks_explained(exc, release.name, release.hooks) from exc
        if changed:
            self.note(f"release {release.name}")

    def _hooks_explained(self, exc: ClusterError, name: ReleaseName, hooks: Iterable[str]) -> AirferryError:
        """`exc`, which Helm ended with, or rather the hook that did not finish."""
        pending = pending_hooks(self._cluster, name, hooks)
        return not_ready(self._cluster, f"release {name}: {exc.message}", pending) if pending else exc

    def _lost(self, helm: Releases, release: ChartRelease) -> list[str]:
        """The objects of the deployed revision that are no longer in the cluster."""
        held = helm.status(release.name.name)
        return [describe(item) for item in (held.objects if held else ()) if not self._exists(item, release)]

    def _exists(self, item: Object, release: ChartRelease) -> bool:
        kind = known(self._cluster, item)
        if kind is None:
            return False
        place = namespace_of(item, release.name.namespace) if kind.namespaced else ""
        return self._cluster.get(kind, item["metadata"]["name"], place) is not None

    def note(self, what: str) -> None:
        """Tell of a change, and keep it in mind."""
        self.changed.append(what)
        self._patience.reporter.note(f"applied {what}")
