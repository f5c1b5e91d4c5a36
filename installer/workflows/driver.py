"""How resources come about in a cluster and go again: by the rule of their profile, or by a driver of their own.

`PlainDriver` applies a resource and waits until its rule of readiness holds. An application whose controller needs
more has the module `installer.apps.NAME.driver`, whose `DRIVER` replaces it.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from installer.cluster.cluster import FIELD_MANAGER, Cluster, Object, describe
from installer.cluster.kinds import JOB
from installer.cluster.managed_fields import apply_time, change_time
from installer.cluster.owners import made_for
from installer.cluster.workload import Workload, workloads
from installer.diagnosis.cause import Cause
from installer.diagnosis.controller_log import logged_cause, logged_sign
from installer.diagnosis.finding import Finding
from installer.diagnosis.wait import AGAIN, Patience, consider, until_rolled_out
from installer.errors import BundleError, ClusterError, NotReadyError, UsageError
from installer.objects.desired import Desired, Resource
from installer.objects.driver import ChartSourceRequest, Completed, Preparing, TemporaryRepository
from installer.objects.maker import Maker
from installer.site.free_values import suspicious
from installer.value import Value
from installer.workflows.actions import Actions
from installer.workflows.record import InstalledStep, Record, installed_step


class ResourceState(Value):
    """A resource: a phrase for people, where its controller reads its chart (or empty), what is wrong, and the
    workloads that controllers have made for it, unless they are those of a release."""

    phase: str
    source: str = ""
    causes: tuple[Cause, ...] = ()
    workloads: tuple[Workload, ...] = ()


class Driver(Preparing, Protocol):
    """What an application's resources need. All methods converge: run again after an interruption, they go on."""

    def before(self, actions: Actions, wanted: Desired) -> None:
        """Bring `beforehand` about."""

    def bring_about(self, step: Resource, actions: Actions, repository: TemporaryRepository | None) -> list[Workload]:
        """Apply `step` and wait until it is ready. Raises ClusterError, NotReadyError with the causes."""

    def bring_back(
        self, step: InstalledStep, former: Object, actions: Actions, hooks: Iterable[Object]
    ) -> list[Workload]:
        """The same with `former`, the resource as it was applied before; `hooks` see `Revision.hook_pods`."""

    def lost(self, cluster: Cluster, step: InstalledStep, former: Object) -> list[str]:
        """What going back to `former` needs and the cluster no longer holds."""

    def remove(self, step: InstalledStep, actions: Actions, *, data: bool = False) -> list[str]:
        """Delete the resource and see it gone, with `data` also what it keeps; what was there, for people."""

    def after_removal(self, record: Record, actions: Actions, note: Callable[[str], None]) -> list[str]:
        """Remove what `before` has made, and tell `note` what; what stays of it, for people."""

    def state(self, cluster: Cluster, step: InstalledStep) -> ResourceState:
        """How the resource is."""

    def until_ready(self, cluster: Cluster, step: InstalledStep, patience: Patience) -> None:
        """Wait until the resource is ready. Raises NotReadyError."""


class PlainDriver:
    """Resources of which the profile says all."""

    def completed(
        self,
        made: Completed,
        maker: Maker,  # noqa: ARG002 - the signature is the protocol's
        request: ChartSourceRequest,
        *,
        blank: bool,  # noqa: ARG002
    ) -> Completed:
        """`made` as it is."""
        if request.kind:
            raise UsageError("--chart-source has no meaning here: no controller of this application installs a chart")
        return made

    def checks(self, cluster: Cluster, wanted: Desired) -> Iterable[Callable[[], Iterable[Finding]]]:  # noqa: ARG002
        """None."""
        return ()

    def in_clear(self, resource: Object) -> Iterable[tuple[str, str]]:
        """What looks like a secret by its key, or holds one in a URL."""
        return ((f"spec.{path}", "") for path in suspicious(resource.get("spec") or {}))

    def beforehand(self, wanted: Desired) -> tuple[Object, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def before(self, actions: Actions, wanted: Desired) -> None:
        """Nothing."""

    def bring_about(
        self,
        step: Resource,
        actions: Actions,
        repository: TemporaryRepository | None,  # noqa: ARG002
    ) -> list[Workload]:
        """Apply `step` and wait until it is ready."""
        return self.bring_back(installed_step(step), step.document, actions, ())

    def bring_back(
        self,
        step: InstalledStep,
        former: Object,
        actions: Actions,
        hooks: Iterable[Object],  # noqa: ARG002
    ) -> list[Workload]:
        """Apply `former` and wait until it is ready."""
        applied = actions.apply_once_served(former)
        self.until_ready(actions.cluster, step, actions.patience)
        if step.chart:
            return until_rolled_out(actions.cluster, step.name, actions.patience)
        return made_for(actions.cluster, applied)

    def lost(self, cluster: Cluster, step: InstalledStep, former: Object) -> list[str]:  # noqa: ARG002
        """Nothing."""
        return []

    def remove(self, step: InstalledStep, actions: Actions, *, data: bool = False) -> list[str]:  # noqa: ARG002
        """Delete the resource and wait until it is gone, its finalizers served."""
        return actions.delete(step.objects)

    def after_removal(self, record: Record, actions: Actions, note: Callable[[str], None]) -> list[str]:  # noqa: ARG002
        """Nothing."""
        return []

    def state(self, cluster: Cluster, step: InstalledStep) -> ResourceState:
        """By the rule of the profile."""
        held = _held(cluster, step)
        if held is None:
            what = str(step.objects[0])
            cause = Cause("resource-missing", what, "does not exist", "run `install` again: it applies it.")
            return ResourceState(f"{what} does not exist", causes=(cause,))
        ready, said = step.ready.state(held)
        causes = () if ready else (_cause(cluster, step, describe(held), said),)
        # A Job that an operator has run counts only while the resource waits for it.
        made = () if step.chart else (item for item in made_for(cluster, held) if item.kind != JOB or not ready)
        return ResourceState(f"{describe(held)}: {said}", causes=causes, workloads=tuple(made))

    def until_ready(self, cluster: Cluster, step: InstalledStep, patience: Patience) -> None:
        """Wait until the rule of the profile holds, and what was made for the resource is rolled out.

        Its controller's pods are looked at meanwhile, and those that it makes.
        """
        what = str(step.objects[0])

        def look() -> bool:
            held = _held(cluster, step)
            ready, said = step.ready.state(held) if held else (False, "does not exist")
            waiting = [] if held is None or step.chart else _waiting(cluster, held, ready=ready)
            patience.state(f"{what}: {said}{_count(waiting) if ready else ''}")
            if ready and not waiting:
                return True
            controller = step.controller_name
            missing = [item for item in workloads(cluster, controller) if not item.ready] if controller else []
            if missing or waiting:
                consider(cluster, f"{what} ({said})", missing or waiting, patience)
            elif patience.over():
                cause = _cause(cluster, step, what, said)
                more = "" if cause.detail == said else f"\n  {cause.detail}"
                raise NotReadyError(f"{what} is not ready: {said}{more}", hint=f"{cause.next} {AGAIN}")
            if not ready and controller and patience.may_diagnose():
                sign = logged_sign(cluster, controller, what, step.signs, apply_time(held or _NOTHING, FIELD_MANAGER))
                patience.tell((sign,) if sign else ())
            return False

        while not patience.asked(look):
            patience.rest()


_NOTHING: Object = {"metadata": {}}
_LOOK = "look at `kubectl describe` of {} and at the log of its controller."


def driver_of(name: str | None) -> Driver:
    """The driver called `name`, or the plain one. Raises BundleError if this program does not have it."""
    if not name:
        return PlainDriver()
    module = f"installer.apps.{name}.driver"
    try:
        driver: Driver = importlib.import_module(module).DRIVER
    except ModuleNotFoundError as exc:
        if exc.name != module and exc.name != module.rpartition(".")[0]:
            raise
        raise BundleError(
            f"the application needs the driver {name!r}, which this program does not have",
            hint="use the installer that came with the bundle, or a newer one.",
        ) from exc
    return driver


def _waiting(cluster: Cluster, held: Object, *, ready: bool) -> list[Workload]:
    """The workloads of the resource `held` that are to become ready.

    Until its controller calls it ready, those that it has not touched since the last change may be about to go.
    """
    since = apply_time(held, FIELD_MANAGER)
    return [
        item
        for item in made_for(cluster, held)
        if not item.ready and (item.kind != JOB if ready else change_time(item.obj) >= since)
    ]


def _count(waiting: Sequence[Workload]) -> str:
    return f"; waiting for {', '.join(map(str, waiting[:4]))}" if waiting else ""


def _cause(cluster: Cluster, step: InstalledStep, what: str, said: str) -> Cause:
    """Why `what` is not ready: what the log of its controller says, else what its status has `said`."""
    controller = step.controller_name
    since = apply_time(_held(cluster, step) or _NOTHING, FIELD_MANAGER)
    found = logged_cause(cluster, controller, what, step.signs, since) if controller else None
    return found or Cause("resource-not-ready", what, said, _LOOK.format(what))


def _held(cluster: Cluster, step: InstalledStep) -> Object | None:
    item = step.objects[0]
    try:
        kind = cluster.kind(item.api_version, item.kind)
    except ClusterError:
        return None
    return cluster.get(kind, item.name, item.namespace)
