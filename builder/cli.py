"""`airferry`: the command line of the connected side."""

import click

from builder import cli_bundle, cli_recipe
from installer import __version__, shell

PROGRAM = "airferry"


@click.group(context_settings=shell.CONTEXT)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Carry container images and Helm charts across an air gap.

    \b
    On this side:
      airferry init                                   a commented recipe
      airferry lock                                   every name resolved, to be committed
      airferry plan                                   what will it hold, how large will it be
      airferry build                                  one bundle
      airferry sign BUNDLE --key release.key
      airferry freeze BUNDLE --key release.pub -o FILE
    On the other side FILE does the rest: ./FILE verify, load, install.

    The result of a command goes to stdout (JSON with --output json), all talk to stderr. The exit code says what kind
    of problem there was; every error names the next step.
    """


for _command in (*cli_recipe.COMMANDS, *cli_bundle.COMMANDS):
    cli.add_command(_command)


def main() -> None:
    """The console script."""
    shell.main(cli, PROGRAM)
