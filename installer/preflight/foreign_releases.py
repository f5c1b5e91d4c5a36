"""Helm releases that bear the name of one of ours and were made by others."""

import re
from collections.abc import Callable, Iterator

from installer.chart.releases import Releases
from installer.cluster.cluster import FIELD_MANAGER, Cluster, known
from installer.cluster.managed_fields import applies
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError
from installer.objects.desired import ChartRelease, Desired


def foreign_releases(
    cluster: Cluster, releases: Callable[[str], Releases], wanted: Desired, *, take_over: bool
) -> Iterator[Finding]:
    """Releases that would be replaced: only with `take_over`, and not without a word.

    What was installed from here has our label; what a controller has made of a resource is ours if that is.
    """
    for item in wanted.installed:
        yield from _found(releases, item, take_over=take_over)
    for step in wanted.resources:
        kind = known(cluster, step.document)
        held = cluster.get(kind, step.name.name, step.name.namespace) if kind else None
        if step.installs and not (held and applies(FIELD_MANAGER, held)):
            yield from _found(releases, step.installs, take_over=take_over)


def _found(releases: Callable[[str], Releases], item: ChartRelease, *, take_over: bool) -> Iterator[Finding]:
    history = releases(item.name.namespace).history(item.name.name)
    newest = history[-1] if history else None
    if newest is None or newest.label or newest.status == "uninstalled":
        return
    what = f"Helm release {item.name} was made by others (chart {newest.chart} {newest.version})"
    new = f"chart {item.chart.name} {item.chart.version}"
    if not take_over:
        yield Finding(
            f"{what}, and would be replaced by {new}",
            "name another namespace in site.yaml, or `--take-over`: `preflight --take-over` tells what becomes of it.",
            ClusterError,
        )
    elif newest.chart == item.chart.name and _numbers(item.chart.version) < _numbers(newest.version):
        yield warning(
            f"{what}; it is taken over and becomes {new}, which is older",
            "better take a bundle as new as that: an older version may not read what a newer one has made of the data.",
        )
    else:
        yield warning(
            f"{what}; it is taken over and becomes {new}",
            "see below what others have set, and name in site.yaml what of it shall stay.",
        )


def _numbers(version: str) -> list[int]:
    """What of a version tells which one is older."""
    return [int(part) for part in re.findall("[0-9]+", re.split("[-+]", version)[0])]
