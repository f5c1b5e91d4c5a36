"""Waiting that ends in readiness or in a diagnosis, never in a mere "timed out"."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from installer import controller, diagnosis
from installer.errors import AirferryError, ClusterUnreachableError, NotReadyError
from installer.kube import JOB, Cluster
from installer.report import Reporter
from installer.workload import ReleaseName, Workload, workload, workloads

POLL_SECONDS = 2.0
# Causes are told while waiting as well: somebody can mend them meanwhile.
DIAGNOSE_SECONDS = 20.0
AGAIN = "mend the cause, then run the same command again: it continues."


@dataclass
class Patience:
    """How long this command may still wait, and how it tells of it. `clock` is monotonic, in seconds."""

    seconds: float
    reporter: Reporter
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)
    _said: set[str] = field(init=False, default_factory=set)
    _state: str = field(init=False, default="")
    _diagnosed: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self._diagnosed = self.clock()

    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self.seconds - (self.clock() - self._start), 0.0)

    def over(self) -> bool:
        """Whether the time is used up."""
        return self.left() <= 0

    def rest(self) -> None:
        """Sleep until the next look."""
        self.sleep(POLL_SECONDS)

    def state(self, text: str) -> None:
        """Tell where we are, if that has changed."""
        if text != self._state:
            self._state = text
            self.reporter.note(text)

    def once(self, lines: Iterable[str]) -> None:
        """Tell each of these lines once."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self.reporter.note(line)

    def may_diagnose(self) -> bool:
        """Whether it is time to look for causes again."""
        if self.clock() - self._diagnosed < DIAGNOSE_SECONDS:
            return False
        self._diagnosed = self.clock()
        return True


def until_rolled_out(cluster: Cluster, release: ReleaseName, patience: Patience) -> list[Workload]:
    """Wait until every workload that Helm made for `release` is rolled out; hook Jobs have then done their work.

    Raises NotReadyError with the cause of each workload that is not, at once where waiting cannot help.
    """
    while True:
        found = _seen(cluster, release)
        if found is not None:
            # Helm itself waits for hooks: once it calls the release deployed, they have served.
            parts = [item for item in found if not item.hook]
            missing = [item for item in parts if not item.ready]
            if not missing:
                patience.state(f"{release}: {_count(parts)} rolled out")
                return parts
            patience.state(_progress(release, parts, missing))
            if patience.over() or any(item.failed for item in missing):
                raise not_ready(cluster, f"release {release}", missing)
            if patience.may_diagnose():
                patience.once(f"  {cause}" for item in missing for cause in diagnosis.problems(cluster, item))
        elif patience.over():
            raise ClusterUnreachableError(f"{cluster.endpoint.server} stopped answering while waiting", hint=AGAIN)
        patience.rest()


def until_installed(
    cluster: Cluster,
    resource: Mapping[str, Any],
    since: str,
    operator: ReleaseName,
    hooks: Iterable[str],
    patience: Patience,
) -> None:
    """Wait until the W&B controller has deployed the release of `resource`, the object as we applied it.

    `since` as for `controller.verdict`, `hooks` as for `pending_hooks`. Raises NotReadyError with the controller's own
    words if it refuses, or with the hook Jobs it hangs on.
    """
    name, namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
    what = f"custom resource {namespace}/{name}"
    while True:
        found = controller.verdict(cluster, resource, since)
        patience.state(f"{what}: {found.state}")
        if found.installed:
            return
        pending = pending_hooks(cluster, ReleaseName(name, namespace), hooks)
        if found.refused:
            said = controller.complaint(cluster, operator, name) or "its log does not say why"
            causes = "".join(f"\n  {cause}" for item in pending for cause in diagnosis.causes(cluster, item))
            raise NotReadyError(f"{what}: the controller refuses it ({found.state}): {said}{causes}", hint=AGAIN)
        if patience.over():
            if pending:
                raise not_ready(cluster, what, pending)
            said = controller.complaint(cluster, operator, name)
            raise NotReadyError(
                f"{what}: {found.state}{f'; the controller says: {said}' if said else ''}",
                hint=f"read the controller's log in namespace {operator.namespace}; {AGAIN}",
            )
        if pending and patience.may_diagnose():
            patience.once(f"  {cause}" for item in pending for cause in diagnosis.problems(cluster, item))
        patience.rest()


def pending_hooks(cluster: Cluster, release: ReleaseName, names: Iterable[str]) -> list[Workload]:
    """Those of the Jobs called `names`, which Helm runs as hooks of `release`, that exist and are not complete."""
    jobs = [cluster.get(JOB, name, release.namespace) for name in sorted(names)]
    return [item for job in jobs if job and not (item := workload(job, JOB)).ready]


def not_ready(cluster: Cluster, what: str, missing: Iterable[Workload]) -> NotReadyError:
    """The error that names the causes of `missing`."""
    lines = []
    for item in missing:
        lines.append(f"{item}: {item.state}")
        try:
            lines += [f"  {cause}" for cause in diagnosis.causes(cluster, item)]
        except AirferryError as exc:
            lines.append(f"  cause unknown: {exc.message}")
    return NotReadyError("\n  ".join([f"{what} is not ready:", *lines]), hint=AGAIN)


def _seen(cluster: Cluster, release: ReleaseName) -> list[Workload] | None:
    """The workloads, or None in a moment without an answer: API servers restart while people wait."""
    try:
        return workloads(cluster, release)
    except ClusterUnreachableError:
        return None


def _count(parts: list[Workload]) -> str:
    return f"{len(parts)} workload{'' if len(parts) == 1 else 's'}"


def _progress(release: ReleaseName, parts: list[Workload], missing: list[Workload]) -> str:
    names = ", ".join(f"{item.kind.name} {item.name} ({item.state})" for item in missing[:4])
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    return f"{release}: {len(parts) - len(missing)} of {_count(parts)} rolled out; waiting for {names}{more}"
