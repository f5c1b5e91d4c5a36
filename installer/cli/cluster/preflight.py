"""The command `preflight`."""

from pathlib import Path

import click

from installer.cli.cluster.chart_choice import ChartChoice, chart_options
from installer.cli.cluster.delivery import Delivery
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import back_to_option, site_option, take_over_option
from installer.cli.site_file import read_site
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.diagnosis.finding import warning
from installer.shell import Session
from installer.workflows.install import ANOTHER


@click.command(cls=Command)
@bundle_options
@site_option
@cluster_options
@take_over_option
@back_to_option
@chart_options
def preflight(
    session: Session,
    *,
    choice: BundleChoice,
    site_file: Path,
    cluster: ClusterChoice,
    take_over: bool,
    back_to: int | None,
    chart: ChartChoice,
) -> None:
    """Tell everything that stands in the way of `install` or `upgrade`, and change nothing.

    Looks at image references, permissions, namespaces, kinds, classes, Secrets, volumes, nodes, other operators, the
    registry, clocks, and what is installed; has the cluster try all objects without keeping any. `install` and
    `upgrade` begin with the same. Of several exit codes it ends with the lowest.
    With `--take-over` it tells what these would overwrite and remove of what others have made.

    \b
    Example:
      PROGRAM preflight --site site.yaml
    """
    with choice.open(session) as bundle:
        target = cluster.target(session)
        site, request = read_site(session, bundle, site_file), chart.request(session, bundle, target)
        delivery = Delivery(session, bundle, target, site, request, take_over=take_over, back_to=back_to)
        examined = delivery.examine()
        another = examined.prepared.another if examined.prepared else ""
        found = examined.preflight.with_findings([warning(another, ANOTHER)] if another else [])
        session.emit(found.document(), found.text())
        found.verdict()
