"""`airferry`: the command line of the connected side."""

import click

from installer import __version__, shell
from installer.commands import SETTINGS, About, Commands

PROGRAM = "airferry"
COMMANDS = {
    "init": ("builder.cli.recipe.init:init", "Write a commented recipe and its companions."),
    "lock": ("builder.cli.recipe.lock:lock", "Resolve every tag to a digest, every chart to an archive."),
    "list": ("builder.cli.recipe.list_images:list_images", "List the images, each with what asks for it."),
    "observe": ("builder.cli.recipe.observe:observe", "Compare a staging cluster with the lock."),
    "plan": ("builder.cli.recipe.plan:plan", "Say how large a bundle will be, to the byte."),
    "build": ("builder.cli.recipe.build:build", "Fetch everything and write one bundle."),
    "keygen": ("builder.cli.bundle.keygen:keygen", "Make a release key."),
    "rehearse": ("builder.cli.bundle.rehearse:rehearse_bundle", "Would it install at a site?"),
    "sign": ("builder.cli.bundle.sign:sign", "Sign a bundle in place."),
    "verify": ("builder.cli.bundle.verify:verify", "Check signature, structure and every byte."),
    "inspect": ("builder.cli.bundle.inspect:inspect", "Show what a bundle holds."),
    "explain": ("builder.cli.bundle.explain:explain", "Say how to verify with stock tools only."),
    "freeze": ("builder.cli.bundle.freeze:freeze", "Make one executable of installer and bundle."),
    "sheet": ("builder.cli.carry.sheet:sheet", "Make the run sheet: one page for everybody on the way."),
    "media": ("builder.cli.carry.media:media", "Write volumes onto sticks and discs, and prove them."),
    "parity": ("builder.cli.carry.parity:parity", "Write PAR2 files that stand in for lost volumes."),
    "patch": ("builder.cli.carry.patch:patch", "Answer a request from the enclave with a small file."),
}


@click.group(cls=Commands, table=COMMANDS, about=lambda _: About(PROGRAM, __version__), context_settings=SETTINGS)
def cli() -> None:
    """Carry container images and Helm charts across an air gap.

    \b
    On this side:
      airferry init               a commented recipe
      airferry lock               every name resolved, to be committed
      airferry observe            what a staging cluster asks for besides
      airferry plan               what will it hold, how large will it be
      airferry build              one bundle
      airferry rehearse BUNDLE    would it install at a site?
      airferry sign BUNDLE --key release.key
      airferry parity VOLUMES     one more that stands in for any of them
      airferry freeze BUNDLE --key release.pub -o FILE
      airferry sheet BUNDLE --key release.pub
                                  one page for everybody on the way
    On the other side FILE does the rest: ./FILE verify, load, install.

    The result of a command goes to stdout (JSON with --output json, errors too), all talk to stderr. The exit code says
    what kind of problem there was; every error names the next step.
    """


def main() -> None:
    """The console script."""
    shell.main(cli, PROGRAM)
