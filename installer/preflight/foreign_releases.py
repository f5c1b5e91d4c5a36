"""Helm releases that bear the name of one of ours and were made by others."""

from collections.abc import Callable, Iterator

from installer.chart.releases import Releases
from installer.cluster.cluster import Cluster, known
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError
from installer.objects.desired import ChartRelease, Desired


def foreign_releases(
    cluster: Cluster, releases: Callable[[str], Releases], wanted: Desired, *, take_over: bool
) -> Iterator[Finding]:
    """Releases that would be replaced: of another chart only with `take_over`, and never without a word.

    What was installed from here has our label; what a controller has made has a resource.
    """
    for item in wanted.installed:
        yield from _found(releases, item, take_over=take_over)
    for step in wanted.resources:
        kind = known(cluster, step.document)
        held = cluster.get(kind, step.name.name, step.name.namespace) if kind else None
        if step.installs and held is None:
            yield from _found(releases, step.installs, take_over=take_over)


def _found(releases: Callable[[str], Releases], item: ChartRelease, *, take_over: bool) -> Iterator[Finding]:
    history = releases(item.name.namespace).history(item.name.name)
    newest = history[-1] if history else None
    if newest is None or newest.label or newest.status == "uninstalled":
        return
    what = f"Helm release {item.name} was made by others (chart {newest.chart} {newest.version})"
    if newest.chart == item.chart.name or take_over:
        yield warning(
            f"{what}; it is taken over and becomes chart {item.chart.name} {item.chart.version}",
            "name in site.yaml what you have set for it, all other values of it are lost.",
        )
    else:
        yield Finding(
            f"{what}, and would be replaced by chart {item.chart.name}",
            "name another namespace in site.yaml, or remove that release; `install --take-over` replaces it.",
            ClusterError,
        )
