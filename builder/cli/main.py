"""`airferry`: the command line of the connected side."""

import importlib

import click

from installer import __version__, shell

PROGRAM = "airferry"


MODULES = {
    "builder.cli.init": ("init",),
    "builder.cli.recipe": ("lock", "list"),
    "builder.cli.plan": ("plan",),
    "builder.cli.build": ("build",),
    "builder.cli.bundle": ("keygen", "sign", "verify", "inspect", "freeze"),
    "builder.cli.sheet": ("sheet", "explain"),
    "builder.cli.media": ("media", "patch"),
    "builder.cli.parity": ("parity",),
}


class Commands(click.Group):
    """Imports the module of a command when the command is wanted: each brings libraries that take time to load."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order of their use."""
        return [name for names in MODULES.values() for name in names]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As usual; of a name that does not exist it is said which one may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as exc:
            raise click.exceptions.NoSuchCommand(
                exc.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of this name."""
        for module, names in MODULES.items():
            if cmd_name in names:
                commands: tuple[click.Command, ...] = importlib.import_module(module).COMMANDS
                return next(command for command in commands if command.name == cmd_name)
        return None


@click.group(cls=Commands, context_settings=shell.CONTEXT)
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
      airferry parity VOLUMES                         for several volumes: one more that stands in for any of them
      airferry freeze BUNDLE --key release.pub -o FILE
      airferry sheet BUNDLE --key release.pub         one page for everybody on the way, to be printed
    On the other side FILE does the rest: ./FILE verify, load, install.

    The result of a command goes to stdout (JSON with --output json, errors too), all talk to stderr. The exit code says
    what kind of problem there was; every error names the next step.

    Completion for bash: eval "$(_AIRFERRY_COMPLETE=bash_source airferry)"; zsh and fish likewise.
    """


def main() -> None:
    """The console script."""
    shell.main(cli, PROGRAM)
