"""The command `preflight`."""

from pathlib import Path

import click

from installer.cli.cluster.chart_choice import ChartChoice, chart_options
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import site_option, take_over_option
from installer.cli.registry_place import registry_of
from installer.cli.site_file import read_site
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.shell import Session
from installer.workflows.install import look


@click.command(cls=Command)
@bundle_options
@site_option
@cluster_options
@take_over_option
@chart_options
def preflight(
    session: Session,
    *,
    choice: BundleChoice,
    site_file: Path,
    cluster: ClusterChoice,
    take_over: bool,
    chart: ChartChoice,
) -> None:
    """Tell everything that stands in the way of `install`, and change nothing.

    Looks at image references, permissions, namespaces, kinds, classes, Secrets, volumes, nodes, other operators, and
    the registry. `install` and `upgrade` begin with the same. Of several exit codes it ends with the lowest.
    With `--take-over` it tells what these would overwrite and remove of what others have made.

    \b
    Example:
      PROGRAM preflight --site site.yaml
    """
    with choice.open(session) as bundle:
        target = cluster.target(session)
        site = read_site(session, bundle, site_file)
        request = chart.request(session, bundle, target)
        held = registry_of(session, site)
        found = look(bundle, site, target.cluster, held, target.releases, request, take_over=take_over)
    session.emit(found.document(), found.text())
    found.verdict()
