"""Options that commands of the enclave share, and that need no library."""

from dataclasses import dataclass

import click

from installer.commands import FILE, together

timeout_option = click.option(
    "--timeout", default=900, show_default=True, type=click.IntRange(1, 86400), help="Seconds to wait in all."
)
take_over_option = click.option(
    "--take-over",
    is_flag=True,
    help="Take over what others have made, by Helm or otherwise: what they have set goes, and is named.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
back_to_option = click.option(
    "--back-to",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Go back on purpose: the number (sequence) of this bundle, which is older than what was brought there.",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
site_option = click.option("--site", "site_file", type=FILE, required=True, help="Answers about this site.")


@dataclass(frozen=True)
class Installation:
    """Which installation is meant: the bundle's `name` and the `namespace` of its record; empty where there is one."""

    name: str
    namespace: str


installation_options = together(
    "installation",
    Installation,
    [
        click.option("--name", default="", help="Name of the bundle, where several are installed."),
        click.option(
            "-n",
            "--namespace",
            default="",
            help="Namespace of the installation's record. [default: all are searched]",
        ),
    ],
)
