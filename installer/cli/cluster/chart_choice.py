"""Where a controller shall read the chart that it installs, as options say."""

from dataclasses import dataclass

import click

from installer.bundle.reader import Bundle
from installer.cli.cluster.own_repository import own_repository
from installer.cli.target import Target
from installer.commands import together
from installer.objects.driver import ChartSourceRequest
from installer.shell import Session


@dataclass(frozen=True)
class ChartChoice:
    """The source of the chart, and the address of a temporary repository; empty where the program decides."""

    chart_source: str
    serve_address: str

    def request(self, session: Session, bundle: Bundle, target: Target) -> ChartSourceRequest:
        """The same, and what this host can offer. Raises UsageError for a malformed address."""
        server = target.cluster.server
        own = own_repository(bundle, server, self.serve_address, session.reporter)
        return ChartSourceRequest(self.chart_source, repository=own)


chart_source_option = click.option(
    "--chart-source",
    default="",
    type=click.Choice(["", "auto", "configmap", "oci", "temporary"]),
    metavar="auto|configmap|oci|temporary",
    help="Where a controller reads the chart that it installs. [default: the answer in site.yaml, else auto]",
)
chart_options = together(
    "chart",
    ChartChoice,
    [
        chart_source_option,
        click.option(
            "--serve-address",
            default="",
            metavar="HOST[:PORT]",
            help="Where a temporary chart repository listens. [default: this host as the API server sees it, port "
            "8879]",
        ),
    ],
)
"""The command gets `chart`."""
