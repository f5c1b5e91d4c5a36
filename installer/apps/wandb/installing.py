"""The platform brought about through its controller, and everything that this controller does not do by itself.

It does not try again what it has refused, gives each hook of a change half a minute, leaves a release pending when it
is ended meanwhile, and takes the number of replicas from autoscalers that may not have reported yet.
"""

from collections.abc import Iterable

from installer.apps.wandb import controller, operator
from installer.apps.wandb.chart_source.source import ChartSource
from installer.apps.wandb.chart_source.source import describe as describe_source
from installer.apps.wandb.controller import CUSTOM_RESOURCE
from installer.apps.wandb.handover import until_autoscalers_report
from installer.apps.wandb.waiting import until_installed
from installer.cluster.cluster import FIELD_MANAGER, NoDryRunError, Object, describe
from installer.cluster.kinds import JOB
from installer.cluster.managed_fields import apply_time
from installer.cluster.release_record import release_status
from installer.cluster.workload import ReleaseName, Workload
from installer.diagnosis.wait import pending_hooks, until_rolled_out
from installer.errors import ClusterError, NotReadyError
from installer.workflows import hook_images
from installer.workflows.actions import Actions

ATTEMPTS = 3
# The controller looks again at once when its own notes change; if not, it is started anew.
NOTICE_SECONDS = 12.0


class Installing:
    """One custom resource on its way to a deployed release, through the controller in the pods of `operator_name`.

    `hooks` are the names of the Jobs that come with any change.
    """

    def __init__(self, actions: Actions, operator_name: ReleaseName, hooks: Iterable[str]) -> None:
        self._actions, self._operator, self._hooks = actions, operator_name, tuple(hooks)
        self._cluster, self._patience = actions.cluster, actions.patience

    def bring_about(self, resource: Object, hook_pods: Iterable[Object]) -> list[Workload]:
        """Apply `resource` and wait until its release is made and all of that is rolled out.

        `hook_pods` see `hook_images`. Raises ClusterError, NotReadyError with the causes.
        """
        name = _name(resource)
        before = self._cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
        if before and before["metadata"].get("deletionTimestamp"):
            raise ClusterError(
                f"{describe(resource)} is being deleted", hint="run `uninstall` first; it finishes that."
            )
        hook_images.clear(self._cluster, name)
        broken = before is not None and self._broken_off(name)
        if broken or self._differs(resource, before):
            hook_images.pull(self._cluster, name, hook_pods, self._patience)
            until_autoscalers_report(self._cluster, name, self._patience)
        since = self._applied(resource)
        self._until_installed(resource, since)
        until_rolled_out(self._cluster, name, self._patience)
        # Before they have, the controller refuses whatever is changed next, by whomever; and they may add replicas.
        until_autoscalers_report(self._cluster, name, self._patience)
        return until_rolled_out(self._cluster, name, self._patience)

    def announce(self, held: Object, source: ChartSource) -> None:
        """Say so if the chart comes from elsewhere from now on."""
        spec = (held.get("spec") or {}).get("chart") or {}
        former, new = describe_source(spec), describe_source(source.spec)
        if former.partition(",")[0] != new.partition(",")[0]:
            self._patience.reporter.note(
                f"{describe(held)}: chart source changes from {former} to {new}; this is an upgrade with all its hooks"
            )

    def _until_installed(self, resource: Object, since: str) -> None:
        """Wait for the controller; one that came upon what a broken change had left is let try again."""
        for attempt in range(ATTEMPTS):
            try:
                until_installed(self._cluster, resource, since, self._operator, self._hooks, self._patience)
            except NotReadyError as exc:
                if attempt + 1 == ATTEMPTS or self._patience.over() or operator.PENDING not in exc.message:
                    raise
            else:
                return
            operator.settle(self._cluster, self._operator, _name(resource), self._patience)
            self._patience.reporter.note(f"{describe(resource)}: waking the controller")
            since = operator.wake(self._cluster, self._operator, self._patience)

    def _broken_off(self, name: ReleaseName) -> bool:
        """Whether an earlier change broke off; what it has left that would hinder the next one is taken away."""
        pending = operator.settle(self._cluster, self._operator, name, self._patience)
        if not (pending or self._failed(name)):
            return False
        # Helm makes the Jobs of hooks anew; until then these would pass for the new ones.
        for job in pending_hooks(self._cluster, name, self._hooks):
            self._patience.reporter.note(f"{job}: left by a change that broke off; removing it")
            self._cluster.delete(JOB, job.name, job.namespace)
        return True

    def _differs(self, resource: Object, before: Object | None) -> bool:
        """Whether the controller will have something to do once `resource` is applied."""
        if before is None or (before.get("status") or {}).get("phase") == controller.INVALID:
            return True
        try:
            after = self._cluster.apply(resource, force=self._actions.take_over, dry_run=True)
        except NoDryRunError:
            return True
        return bool(after["metadata"]["generation"] != before["metadata"]["generation"])

    def _applied(self, resource: Object) -> str:
        """Apply the custom resource; the time from which on a refusal of the controller is meant for it."""
        count = len(self._actions.changed)
        after = self._actions.apply(resource)
        refused = (after.get("status") or {}).get("phase") == controller.INVALID
        since = apply_time(after, FIELD_MANAGER)
        if begun := self._anew(resource, since):
            return begun
        if len(self._actions.changed) == count and refused:
            self._patience.reporter.note(f"{describe(resource)} was refused before: waking the controller")
            return operator.wake(self._cluster, self._operator, self._patience)
        return since

    def _anew(self, resource: Object, since: str) -> str:
        """Make the controller apply what it has applied before, for a later change of it failed; the time of that.

        Empty if there is no need. This comes after `resource` stands in the cluster: what stood there instead must not
        be tried again.
        """
        name = _name(resource)
        if not self._failed(name) or not controller.forget_applied(self._cluster, resource):
            return ""
        self._patience.reporter.note(f"{describe(resource)}: a later change failed; the controller is to apply it anew")
        start = self._patience.clock()
        while self._failed(name):
            if self._patience.clock() - start >= NOTICE_SECONDS:
                return operator.wake(self._cluster, self._operator, self._patience)
            self._patience.rest()
        return since

    def _failed(self, name: ReleaseName) -> bool:
        return release_status(self._cluster, name.name, name.namespace) == "failed"


def _name(resource: Object) -> ReleaseName:
    return ReleaseName(resource["metadata"]["name"], resource["metadata"]["namespace"])
