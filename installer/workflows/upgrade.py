"""What makes an installation an upgrade: what was there before, whether it may be replaced, and what changes.

The doing is that of every installation, see `installer.workflows.install`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from installer.chart.releases import Releases
from installer.cluster.kube import AbsentError, Cluster, ConflictError, NoDryRunError
from installer.errors import NothingHereError, PolicyError, SiteError
from installer.objects.desired import ChartRelease, Desired
from installer.value import Value
from installer.workflows.changes import Changes, compared, compared_images, compared_values
from installer.workflows.history import History
from installer.workflows.record import InstalledChart, Record


class Policy(Value):
    """What an upgrade may do. `downgrade`: also to a bundle that was made before the installed one."""

    downgrade: bool = False


def changes(
    releases: Callable[[str], Releases],
    policy: Policy,
    wanted: Desired,
    note: Record,
    before: Record | None,
    past: History,
) -> Changes:
    """What an upgrade from `before` to `note` changes.

    Raises NothingHereError if nothing is installed, PolicyError for a downgrade.
    """
    if before is None:
        raise NothingHereError(
            f"no installation of {note.bundle} in namespace {note.namespace}",
            hint="run `install`; if it is in another namespace, site.yaml has to say so.",
        )
    if note.sequence < before.sequence and not policy.downgrade:
        raise PolicyError(
            f"this bundle ({note.version}, number {note.sequence}) is older than what is installed "
            f"({before.version}, number {before.sequence})",
            hint="`rollback` goes back to what ran before; --allow-downgrade installs the older bundle all the same.",
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
            for change in compared_values(release.name.name, values, release.values)
        ),
    )


def claimed_by_others(cluster: Cluster, wanted: Desired, *, take_over: bool) -> tuple[str, ...]:
    """What of `wanted` others have set otherwise, in the words of the API server.

    Raises ConflictError unless `take_over`.
    """
    found = []
    definitions = [crd for release in wanted.installed for crd in release.definitions]
    for item in (*wanted.secrets, *definitions, *((wanted.resource,) if wanted.resource else ())):
        try:
            cluster.apply(item, dry_run=True)
        except ConflictError as exc:
            if not take_over:
                raise
            found.append(exc.message)
        except (AbsentError, NoDryRunError):
            # Its namespace or kind does not exist yet, so nobody else has set anything; or applying will tell.
            continue
    return tuple(found)


def dropped(past: History, note: Record) -> list[InstalledChart]:
    """The releases of the state that was reached last that are no part of `note`."""
    names = {chart.name for chart in note.charts}
    settled = past.settled
    return [chart for chart in settled.record.charts if chart.name not in names] if settled else []


def stays_in_place(before: Record, note: Record) -> None:
    """Raises SiteError if the platform's release would be another one: its data belongs to its name and namespace."""
    for old, new in ((before.platform, note.platform), (before.operator, note.operator)):
        if old and (new is None or new.name != old.name):
            raise SiteError(
                f"chart {old.chart} is installed as {old.name}; this would "
                f"{f'make it {new.name}' if new else 'drop it'}",
                hint="a release cannot be moved: keep its namespace in site.yaml, or uninstall first.",
            )


def bundle_line(note: Record) -> dict[str, str]:
    """The bundle's version by its name."""
    return {note.bundle: f"{note.version} (number {note.sequence}, {note.sums[:19]})"}


def chart_lines(note: Record) -> dict[str, str]:
    """The version of each chart by its name and release."""
    return {f"{item.chart} as {item.namespace}/{item.release}": _version(item) for item in note.all_charts}


def _version(item: InstalledChart) -> str:
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
    if wanted.platform and settled and settled.resource:
        found.append((wanted.platform, settled.resource["spec"].get("values") or {}))
    return found
