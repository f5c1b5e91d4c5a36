"""The command line of the enclave: arguments to one workflow call each."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from installer import __version__, shell
from installer.commands import SETTINGS, About, Commands
from installer.errors import AirferryError
from installer.frozen import program

COMMANDS = {
    "inspect": ("installer.cli.bundle.inspect:inspect", "Show what the bundle holds."),
    "verify": ("installer.cli.bundle.verify:verify", "Read every byte and compare it with what was signed."),
    "explain": ("installer.cli.bundle.explain:explain", "Say how to verify with stock tools only."),
    "repair": ("installer.cli.bundle.repair:repair", "Rebuild lost or damaged volumes from PAR2 files."),
    "template": ("installer.cli.bundle.template:template", "Print the template of site.yaml."),
    "schema": ("installer.cli.bundle.schema:schema", "Print the JSON Schema of site.yaml."),
    "extract": ("installer.cli.bundle.extract:extract", "Take out the files that travel along."),
    "preflight": ("installer.cli.cluster.preflight:preflight", "Tell what stands in the way; change nothing."),
    "load": ("installer.cli.registry.load:load", "Load images and charts into the registry of this enclave."),
    "import": ("installer.cli.registry.node_import:node_import", "Bring the images onto this node."),
    "serve": ("installer.cli.registry.serve:serve", "Serve the bundle as a read-only registry."),
    "render": ("installer.cli.cluster.render:render", "Write everything that `install` would apply as files."),
    "install": ("installer.cli.cluster.install:install", "Verify, load, install, and wait until all of it runs."),
    "upgrade": ("installer.cli.cluster.upgrade:upgrade", "Show what this bundle changes, ask, and bring it about."),
    "status": ("installer.cli.cluster.status:status", "Tell whether all of it runs, and if not, why."),
    "wait": ("installer.cli.cluster.wait:wait", "Wait until everything runs."),
    "history": ("installer.cli.cluster.history:history", "List what has been installed."),
    "rollback": ("installer.cli.cluster.rollback:rollback", "Go back to what ran before. Needs no bundle."),
    "uninstall": (
        "installer.cli.cluster.uninstall:uninstall",
        "Remove the application, the last step first. Data stays.",
    ),
}


def about(executable: Path | None) -> About:
    """What this program is; a damaged one names no bundle."""
    with suppress(AirferryError):
        found = program.locate(executable) if executable else None
        return About("airferry installer", __version__, found.name if found else "")
    return About("airferry installer", __version__)


@click.group(cls=Commands, table=COMMANDS, about=about, context_settings=SETTINGS)
def cli() -> None:
    """Bring a bundle that was carried in into this enclave.

    \b
    The usual order:
      verify     is the bundle genuine and whole?
      template   site.yaml, to be filled in with answers about this place
      preflight  what stands in the way of an installation here?
      load       its images into the registry of this enclave
                 (`import`: onto a node, where there is none)
      install    operator and application into the cluster, from site.yaml
      status     does it really run?
      upgrade    to a later version, with the differences shown first
      rollback   to what ran before

    Every command can be run again after an interruption: it continues. A frozen installer carries its bundle and the
    keys it trusts; otherwise name them with --bundle and --key.
    """


def start(executable: Path | None) -> NoReturn:
    """Run the command line as the whole process; `executable` is the frozen file, None when run from source."""
    shell.main(cli, called(executable) if executable else "python -m installer", executable=executable)


def called(executable: Path) -> str:
    """What a user types to run the frozen file: `./NAME` in its folder, `NAME` if it is on the PATH, else its path."""
    with suppress(FileNotFoundError):  # the folder may be gone
        if executable.parent == Path.cwd():
            return f"./{executable.name}"
    return executable.name if shutil.which(executable.name) == str(executable) else str(executable)
