"""What an installation is doing now, from its record and the cluster alone: no bundle is needed."""

from collections.abc import Iterable, Iterator
from typing import Any

from installer.cluster.cluster import Cluster
from installer.cluster.release_record import HeldRelease, release_held
from installer.cluster.workload import Workload, workloads
from installer.diagnosis import diagnosis
from installer.diagnosis.cause import Cause
from installer.diagnosis.foreign_images import strays
from installer.diagnosis.image_pull import Holds
from installer.diagnosis.release_state import chart_cause, helm_cause
from installer.diagnosis.wait import Patience, pending_hooks, until_rolled_out
from installer.errors import NotReadyError
from installer.value import Value, plain
from installer.workflows import history
from installer.workflows.driver import driver_of
from installer.workflows.history import Revision
from installer.workflows.record import InstalledStep, Record


class WorkloadStatus(Value):
    """A workload, and why it is not ready."""

    workload: Workload
    causes: tuple[Cause, ...]

    @property
    def counts(self) -> bool:
        """Whether it must be ready for the release to be so: a hook that has served, or failed once, need not."""
        return not self.workload.hook


class ReleaseStatus(Value):
    """A release, or what a step of the `kind` manifests or resource has instead.

    `helm` is Helm's word on its newest revision, empty if there is none, and `chart` and `version` are those that Helm
    has, if it has any; `causes` are about the whole.
    """

    kind: str
    chart: str
    version: str
    release: str
    namespace: str
    helm: str
    workloads: tuple[WorkloadStatus, ...]
    causes: tuple[Cause, ...]

    @property
    def ready(self) -> bool:
        """Whether it is deployed as noted and everything of it is rolled out."""
        return not self.causes and all(item.workload.ready for item in self.workloads if item.counts)


class Status(Value):
    """An installation. `phase` is what the resources say of themselves, empty where there are none.

    `chart` says where a controller reads the chart that it installs. `strays` are images in its namespaces that the
    enclave's registry does not bring; whether it is `ready` does not depend on them. `finished`: what the record names
    was reached, as far as is known.
    """

    record: Record
    phase: str
    releases: tuple[ReleaseStatus, ...]
    causes: tuple[Cause, ...]
    chart: str
    strays: tuple[Cause, ...] = ()
    finished: bool = True

    @property
    def ready(self) -> bool:
        """Whether all of it is there and rolled out."""
        return bool(self.releases) and all(item.ready for item in self.releases) and not self.causes

    def require(self) -> None:
        """Raises NotReadyError unless all of it is ready."""
        if not self.ready:
            raise NotReadyError(f"{self.record.bundle} is not ready", hint="the causes are listed above.")

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "installation": plain(self.record),
            "ready": self.ready,
            "finished": self.finished,
            "phase": self.phase,
            "causes": _documents(self.causes),
            "chart": self.chart,
            "strays": _documents(self.strays),
            "releases": [
                {
                    "kind": item.kind,
                    "release": f"{item.namespace}/{item.release}",
                    "chart": item.chart,
                    "version": item.version,
                    "helm": item.helm,
                    "ready": item.ready,
                    "causes": _documents(item.causes),
                    "workloads": [
                        {
                            "workload": str(each.workload),
                            "ready": each.workload.ready,
                            "state": each.workload.state,
                            "causes": _documents(each.causes),
                        }
                        for each in item.workloads
                    ],
                }
                for item in self.releases
            ],
        }

    def text(self) -> str:
        """The same for people: one line a workload, causes below it with the next step."""
        when = "installed" if self.finished else "not finished since it was begun"
        lines = [f"{self.record.bundle} {self.record.version}, {when} {self.record.time}"]
        if self.phase:
            lines.append(f"custom resource: {self.phase}")
        if self.chart:
            lines.append(f"chart: {self.chart}")
        lines += _lines(self.causes)
        for item in self.releases:
            place = f"{item.namespace}/{item.release}"
            helm = f"release {place} ({item.chart} {item.version}): {item.helm or 'absent'}"
            lines.append(helm if item.chart else f"{item.kind} {place}")
            lines += _lines(item.causes)
            for each in item.workloads:
                lines.append(f"  {each.workload}: {each.workload.state}")
                lines += _lines(each.causes, "    ")
        if self.strays:
            lines += ["images that this bundle does not bring:", *_lines(self.strays)]
        return "\n".join([*lines, "everything runs" if self.ready else "not ready"])


def status(cluster: Cluster, record: Record, holds: Holds = diagnosis.unknown) -> Status:
    """The state of the installation that `record` describes; `holds` asks the registry. Changes nothing."""
    driver = driver_of(record.driver)
    states = [driver.state(cluster, step) for step in record.resources]
    releases = tuple(_release(cluster, step, holds) for step in record.steps if step.kind != "resource" or step.chart)
    made = zip(record.resources, states, strict=True)
    releases += tuple(_made(cluster, step, state.workloads, holds) for step, state in made if state.workloads)
    last = history.read(cluster, record).last
    return Status(
        record=record,
        phase="; ".join(state.phase for state in states),
        releases=releases,
        causes=tuple(cause for state in states for cause in state.causes),
        chart="; ".join(state.source for state in states if state.source),
        strays=_strays(cluster, record, last),
        finished=last is None or last.finished,
    )


def until_ready(cluster: Cluster, record: Record, patience: Patience) -> Status:
    """Wait until all of the installation that `record` describes runs, and return its state then.

    Raises NotReadyError as soon as waiting cannot help, ClusterUnreachableError if the API server stays silent.
    """
    driver = driver_of(record.driver)
    for step in record.steps:
        if step.kind == "resource":
            driver.until_ready(cluster, step, patience)
        if step.kind != "resource" or step.chart:
            until_rolled_out(cluster, step.name, patience)
    return patience.asked(lambda: status(cluster, record, patience.holds))


def _strays(cluster: Cluster, record: Record, last: Revision | None) -> tuple[Cause, ...]:
    """Images that the bundle does not bring; none are known of an installation without a history."""
    if last is None:
        return ()
    return strays(cluster, [item.name for item in record.steps], last.access.host, last.images)


def _release(cluster: Cluster, chart: InstalledStep, holds: Holds) -> ReleaseStatus:
    # Manifests have no release of Helm's: they are there or not, which their workloads tell.
    held = release_held(cluster, chart.release, chart.namespace) if chart.chart else HeldRelease("deployed")
    helm = held.status
    found = workloads(cluster, chart.name)
    if helm != "deployed":
        # Hooks that Helm waits for, or that have failed it; not all of them bear the labels of the release.
        known = {str(item) for item in found}
        found += [item for item in pending_hooks(cluster, chart.name, chart.hooks) if str(item) not in known]
    about = helm_cause(chart.name, helm) or chart_cause(chart.name, held, chart.chart, chart.version)
    return ReleaseStatus(
        kind=chart.kind,
        chart=held.chart or chart.chart,
        version=held.version or chart.version,
        release=chart.release,
        namespace=chart.namespace,
        helm=helm,
        workloads=tuple(_workload(cluster, item, helm, holds) for item in found),
        causes=(about,) if about else (),
    )


def _made(cluster: Cluster, step: InstalledStep, made: Iterable[Workload], holds: Holds) -> ReleaseStatus:
    """What controllers have made for the resource of `step`, which Helm knows nothing of."""
    return ReleaseStatus(
        kind=step.kind,
        chart="",
        version="",
        release=step.release,
        namespace=step.namespace,
        helm="deployed",
        workloads=tuple(_workload(cluster, item, "deployed", holds) for item in made),
        causes=(),
    )


def _workload(cluster: Cluster, item: Workload, helm: str, holds: Holds) -> WorkloadStatus:
    needed = not item.hook or helm != "deployed"
    return WorkloadStatus(item, tuple(diagnosis.causes(cluster, item, holds)) if needed and not item.ready else ())


def _documents(causes: Iterable[Cause]) -> list[dict[str, str]]:
    return [cause.document() for cause in causes]


def _lines(causes: Iterable[Cause], indent: str = "  ") -> Iterator[str]:
    for cause in causes:
        yield f"{indent}{cause.object}: {cause.detail}"
        yield f"{indent}next: {cause.next}"
