"""The command `install`."""

from pathlib import Path

import click

from installer.cli.cluster.chart_choice import ChartChoice, chart_options
from installer.cli.cluster.delivery import Delivery
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import back_to_option, dry_run_option, site_option, take_over_option, timeout_option
from installer.cli.site_file import read_site
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.shell import Session
from installer.verify.verification import verify


@click.command(cls=Command)
@bundle_options
@site_option
@cluster_options
@take_over_option
@back_to_option
@dry_run_option
@chart_options
@timeout_option
def install(
    session: Session,
    *,
    choice: BundleChoice,
    site_file: Path,
    cluster: ClusterChoice,
    take_over: bool,
    back_to: int | None,
    dry_run: bool,
    chart: ChartChoice,
    timeout: int,
) -> None:
    """Verify, load the images, install the application step by step, and wait until all of it runs.

    Run it again after an interruption or a changed site.yaml: it does what is left to do, and nothing else.

    A controller that installs a chart itself reads it again on every later change. `--chart-source auto` puts it where
    it lasts; a `temporary` repository serves it from here until it is handed over.

    \b
    Example:
      PROGRAM install --site site.yaml --kubeconfig admin.conf
    """
    with choice.open(session) as bundle:
        target = cluster.target(session)
        site, request = read_site(session, bundle, site_file), chart.request(session, bundle, target)
        delivery = Delivery(session, bundle, target, site, request, take_over=take_over, back_to=back_to)
        prepared = delivery.prepare()
        if dry_run:
            delivery.show(prepared)
            return
        verify(bundle, session.reporter)
        for line in prepared.changes.overwritten:
            session.reporter.note(f"taking over: {line}")
        for line in prepared.changes.volumes:
            session.reporter.note(f"its claim will be deleted, the volume is kept: {line}")
        delivery.carry_out(prepared, timeout)
