"""The operator, and through it the platform, from whichever source the operator reads its chart."""

from contextlib import nullcontext
from dataclasses import dataclass, field

from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.controller import CUSTOM_RESOURCE
from installer.cluster.kinds import CONFIG_MAP
from installer.cluster.workload import Workload
from installer.diagnosis.wait import Patience, until_rolled_out
from installer.objects import chart_configmap
from installer.objects.chart_source import ChartSource, TemporaryRepository
from installer.objects.chart_source import describe as describe_source
from installer.objects.custom_resource import with_chart
from installer.objects.desired import ChartRelease
from installer.workflows import handover, operator
from installer.workflows.actions import Steps
from installer.workflows.history import hook_pods


@dataclass(frozen=True)
class Platform:
    """The parts of `Desired` that are there together."""

    operator: ChartRelease
    chart: ChartRelease
    source: ChartSource
    resource: Object = field(repr=False)

    def bring_about(
        self, steps: Steps, cluster: Cluster, patience: Patience, repository: TemporaryRepository | None
    ) -> list[Workload]:
        """Install or change both. The chart goes first: a pod sees at its start what there is."""
        name = self.chart.name
        held = cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
        # A resource that exists had its first installation, or one that was interrupted: both continue with what lasts.
        source = self.source.final if held else self.source
        prepared = self._chart_file(steps, cluster, held)
        with repository.serve() if repository and source.kind == "temporary" else nullcontext():
            found = steps.release(self.operator)
            operator.until_seen(cluster, self.operator.name, [*prepared, *self._trusted(cluster)], patience)
            if held:
                _announce(held, source, patience)
            resource = with_chart(self.resource, source.spec)
            rolled_out = steps.resource(resource, self.operator.name, self.chart.hooks, hook_pods(self.chart))
            if source.lasting:
                handover.hand_over(cluster, self.resource, self.operator.name, self.chart.hooks, patience)
                rolled_out = until_rolled_out(cluster, name, patience)
            elif source.kind == "temporary":
                patience.reporter.note(
                    f"{describe(resource)} reads its chart from {source.spec['url']}, which ends with this program: "
                    "for any later change of it, run `install` again"
                )
        return [*found, *rolled_out]

    def _chart_file(self, steps: Steps, cluster: Cluster, resource: Object | None) -> list[Object]:
        """The ConfigMap with the chart, applied, if the source is one."""
        file, namespace = self.source.final.file, self.operator.name.namespace
        if file is None:
            return []
        current = cluster.get(CONFIG_MAP, chart_configmap.CONFIG_MAP_NAME, namespace)
        in_use = str(_source(resource).get("path") or "")
        return [steps.apply(chart_configmap.config_map(file, namespace, current, in_use))]

    def _trusted(self, cluster: Cluster) -> list[Object]:
        """The ConfigMaps of the operator's chart, if it must trust certificates that may be new in one of them."""
        if not self.source.final.authorities:
            return []
        place = self.operator.name.namespace
        names = [item["metadata"]["name"] for item in self.operator.objects if item["kind"] == CONFIG_MAP.name]
        return [item for name in names if (item := cluster.get(CONFIG_MAP, name, place))]


def _announce(held: Object, source: ChartSource, patience: Patience) -> None:
    """Say so if the chart comes from elsewhere from now on."""
    former, new = describe_source(_source(held)), describe_source(source.spec)
    if former.partition(",")[0] != new.partition(",")[0]:
        patience.reporter.note(
            f"{describe(held)}: chart source changes from {former} to {new}; this is an upgrade with all its hooks"
        )


def _source(resource: Object | None) -> Object:
    """Where a custom resource's chart comes from."""
    return dict(((resource or {}).get("spec") or {}).get("chart") or {})
