"""What an installation is doing now, from its record and the cluster alone: no bundle is needed."""

from dataclasses import asdict, dataclass
from typing import Any

from installer import controller, diagnosis
from installer.chart_source import describe
from installer.controller import CUSTOM_RESOURCE
from installer.kube import Cluster, Object
from installer.record import InstalledChart, Record
from installer.report import printable
from installer.workload import Workload, workloads


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """A release. `helm` is Helm's word on its newest revision, empty if there is none; `causes` say why not ready."""

    chart: str
    version: str
    release: str
    namespace: str
    helm: str
    workloads: tuple[Workload, ...]
    causes: tuple[diagnosis.Cause, ...]

    @property
    def ready(self) -> bool:
        """Whether it is deployed and everything of it is rolled out."""
        return self.helm == "deployed" and all(item.ready for item in self.workloads if not item.hook)


@dataclass(frozen=True, slots=True)
class Status:
    """An installation. `phase` is what the custom resource says of itself, empty where there is none.

    `chart` says where the operator reads the platform chart.
    """

    record: Record
    phase: str
    releases: tuple[ReleaseStatus, ...]
    complaint: str
    chart: str

    @property
    def ready(self) -> bool:
        """Whether all of it is there and rolled out."""
        return bool(self.releases) and all(item.ready for item in self.releases) and self.phase != controller.INVALID

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "installation": asdict(self.record),
            "ready": self.ready,
            "phase": self.phase,
            "complaint": self.complaint,
            "chart": self.chart,
            "releases": [
                {
                    "release": f"{item.namespace}/{item.release}",
                    "chart": item.chart,
                    "version": item.version,
                    "helm": item.helm,
                    "ready": item.ready,
                    "workloads": [
                        {"workload": str(each), "ready": each.ready, "state": each.state} for each in item.workloads
                    ],
                    "causes": [str(cause) for cause in item.causes],
                }
                for item in self.releases
            ],
        }

    def text(self) -> str:
        """The same for people."""
        lines = [f"{self.record.bundle} {self.record.version}, installed {self.record.time}"]
        if self.phase:
            lines.append(f"custom resource: {self.phase}")
        if self.chart:
            lines.append(f"chart: {self.chart}")
        if self.complaint:
            lines.append(f"the controller says: {self.complaint}")
        for item in self.releases:
            lines.append(
                f"release {item.namespace}/{item.release} ({item.chart} {item.version}): {item.helm or 'absent'}"
            )
            lines += [f"  {each}: {each.state}" for each in item.workloads]
            lines += [f"  cause: {cause}" for cause in item.causes]
        return "\n".join([*lines, "everything runs" if self.ready else "not ready"])


def status(cluster: Cluster, record: Record) -> Status:
    """The state of the installation that `record` describes. Changes nothing."""
    phase, complaint, chart = "", "", ""
    if record.platform and record.operator:
        name = record.platform.name
        held = cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
        phase = _phase(held)
        chart = printable(describe(held["spec"].get("chart") or {})) if held else ""
        if phase == controller.INVALID:
            complaint = controller.complaint(cluster, record.operator.name, record.platform.release)
    return Status(record, phase, tuple(_release(cluster, each) for each in record.all_charts), complaint, chart)


def _phase(held: Object | None) -> str:
    if held is None:
        return "the custom resource does not exist"
    return printable(str((held.get("status") or {}).get("phase") or "not seen by the controller yet"))


def _release(cluster: Cluster, chart: InstalledChart) -> ReleaseStatus:
    found = workloads(cluster, chart.name)
    missing = [item for item in found if not item.ready and not item.hook]
    return ReleaseStatus(
        chart=chart.chart,
        version=chart.version,
        release=chart.release,
        namespace=chart.namespace,
        helm=controller.release_status(cluster, chart.release, chart.namespace),
        workloads=tuple(found),
        causes=tuple(cause for item in missing for cause in diagnosis.causes(cluster, item)),
    )
