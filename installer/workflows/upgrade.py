"""What makes an installation an upgrade: what was there before, whether it may be replaced, and what changes.

The doing is that of every installation, see `installer.workflows.install`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from installer.apps.profile import at_path
from installer.chart.releases import Releases
from installer.cluster.cluster import Cluster
from installer.errors import NothingHereError, SiteError
from installer.objects.comparison import compared, compared_values
from installer.objects.desired import ChartRelease, Desired
from installer.workflows import record
from installer.workflows.changes import Changes, compared_images
from installer.workflows.history import History
from installer.workflows.record import InstalledObject, InstalledStep, Record, installed_step
from installer.workflows.removal import objects_left, steps_left

Identity = tuple[str, str, str, str]
"""That of an object, see `InstalledObject.identity`."""


def changes(
    releases: Callable[[str], Releases],
    wanted: Desired,
    note: Record,
    before: Record | None,
    past: History,
) -> Changes:
    """What an upgrade from `before` to `note` changes. Raises NothingHereError if nothing is installed."""
    if before is None:
        raise NothingHereError(
            f"no installation of {note.bundle} in namespace {note.namespace}",
            hint="run `install`; if it is in another namespace, site.yaml has to say so.",
        )
    # Compared with what was reached last: an interrupted upgrade is shown as a whole again.
    settled = past.settled
    old = settled.record if settled else before
    return Changes(
        bundle=compared(bundle_line(old), bundle_line(note)),
        charts=compared(chart_lines(old), chart_lines(note)),
        images=compared_images(
            settled.images if settled else {}, {text: digest.text for text, digest in wanted.images.items()}
        ),
        values=tuple(
            change
            for release, values in _values(releases, wanted, past)
            for change in compared_values(release.name.name, values, release.values, release.hidden)
        ),
    )


def succeeded(past: History, note: Record) -> frozenset[Identity]:
    """Resources that a former controller has written as well, which `note` leaves behind: no field of them is another's
    wish. Until the new controller has them, they are as the former one left them."""
    former = {step.objects[0].identity: step.chart for step in past.settled.record.resources} if past.settled else {}
    resources = ((step.objects[0].identity, step.succeeds) for step in note.resources)
    return frozenset(identity for identity, charts in resources if former.get(identity) in charts)


def dropped(past: History, note: Record) -> list[InstalledStep]:
    """The steps of the state that was reached last that are no part of `note`."""
    return steps_left(past.settled.record, note) if past.settled else []


def pruned(past: History, note: Record) -> list[InstalledObject]:
    """The objects that a step of `note` applied in the state that was reached last, and does not any more."""
    return objects_left(past.settled.record, note) if past.settled else []


def stays_in_place(before: Record, note: Record) -> None:
    """Raises SiteError if a step would move, or a release that a controller makes would become another one: its data
    belongs to its name and namespace."""
    for old in before.steps:
        new = [step for step in note.steps if _called(step) == _called(old)]
        bound = old.kind == "resource" and bool(old.chart)
        if bound:
            new = [step for step in note.steps if step.kind == "resource" and old.chart in (step.chart, *step.succeeds)]
        if (bound and not new) or (new and new[0].name != old.name):
            raise SiteError(
                f"{(old.chart and f'chart {old.chart}') or old.kind} is installed as {old.name}; this would "
                f"{f'make it {new[0].name}' if new else 'drop it'}",
                hint="a release cannot be moved: keep its namespace in site.yaml, or uninstall first.",
            )


def shares_nothing(cluster: Cluster, note: Record) -> None:
    """Raises SiteError if a release of `note` is part of an installation of the same bundle that is kept elsewhere: it
    would move."""
    releases = {step.key for step in note.charts}
    for other in record.every(cluster, note.bundle):
        if releases & {step.key for step in other.charts}:
            stays_in_place(other, note)


def _called(step: InstalledStep) -> tuple[object, ...]:
    """What a step is, wherever it is."""
    kinds = [item.identity[:2] for item in step.objects] if step.kind == "resource" else []
    return step.kind, step.release, *kinds


def bundle_line(note: Record) -> dict[str, str]:
    """The bundle's version by its name."""
    return {note.bundle: f"{note.version} (number {note.sequence}, {note.sums[:19]})"}


def chart_lines(note: Record) -> dict[str, str]:
    """The version of each chart by its name and release."""
    return {f"{item.chart} as {item.namespace}/{item.release}": _version(item) for item in note.all_charts}


def _version(item: InstalledStep) -> str:
    return f"{item.version} {item.archive[:19]}"


def _values(
    releases: Callable[[str], Releases], wanted: Desired, past: History
) -> list[tuple[ChartRelease, Mapping[str, Any]]]:
    """Each release that was there before, with its former values."""
    found: list[tuple[ChartRelease, Mapping[str, Any]]] = []
    for release in wanted.installed:
        helm = releases(release.name.namespace)
        if helm.history(release.name.name):
            found.append((release, helm.values(release.name.name)))
    settled = past.settled
    for step in wanted.resources:
        former = settled.objects.get(installed_step(step).key) if settled else None
        if step.installs and former:
            found.append((step.installs, at_path(former[0], step.values_at) or {}))
    return found
