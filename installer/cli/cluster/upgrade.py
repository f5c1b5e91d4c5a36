"""The command `upgrade`."""

from pathlib import Path

import click

from installer.cli.cluster.chart_choice import ChartChoice, chart_options
from installer.cli.cluster.delivery import Delivery
from installer.cli.cluster.mutation import ask
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import (
    back_to_option,
    dry_run_option,
    site_option,
    take_over_option,
    timeout_option,
    yes_option,
)
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
@dry_run_option
@yes_option
@back_to_option
@chart_options
@timeout_option
def upgrade(
    session: Session,
    *,
    choice: BundleChoice,
    site_file: Path,
    cluster: ClusterChoice,
    take_over: bool,
    dry_run: bool,
    yes: bool,
    back_to: int | None,
    chart: ChartChoice,
    timeout: int,
) -> None:
    """Show what this bundle changes in an installation of an earlier one, ask, and bring it about.

    Run it again after an interruption: it continues. `rollback` goes back to what ran before.

    \b
    Example:
      PROGRAM upgrade --site site.yaml
    """
    with choice.open(session) as bundle:
        target = cluster.target(session)
        site, request = read_site(session, bundle, site_file), chart.request(session, bundle, target)
        delivery = Delivery(
            session, bundle, target, site, request, take_over=take_over, back_to=back_to, upgrading=True
        )
        prepared = delivery.prepare()
        if dry_run:
            delivery.show(prepared)
            return
        for line in prepared.changes.text().splitlines():
            session.reporter.note(line)
        verify(bundle, session.reporter)
        if not yes and not prepared.changes.empty:
            ask(f"Upgrade {prepared.note.bundle} in namespace {prepared.note.namespace}?")
        delivery.carry_out(prepared, timeout)
