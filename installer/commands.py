"""The commands of both programs: what each of them takes, and the group that loads a command when it is wanted."""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from installer.errors import AirferryError, InterruptedByUserError
from installer.shell import Session

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Settings of the outermost group, which its commands inherit: what `click.group(context_settings=…)` takes."""
PROGRAM = "PROGRAM"
"""Stands in help texts for the name under which the program runs."""

Function = Callable[..., None]
"""What a command runs: it takes a `Session` first, and the values of its options by name."""
Decorator = Callable[[Function], Function]

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
language_option = click.option(
    "--language", type=click.Choice(["en", "ko"]), default="en", show_default=True, help="Language of the page."
)
proof_option = click.option(
    "--proof", type=FILE, help="Write a proof of the verification to this file (.json), and a page beside it (.txt)."
)


class Command(click.Command):
    """A command with `--output` and `--quiet`, whose function gets a `Session` as its first argument."""

    def __init__(self, name: str | None, params: list[click.Parameter] | None = None, **attributes: Any) -> None:
        form = click.Option(
            ["--output", "form"],
            type=click.Choice(["text", "json"]),
            default="text",
            help="Form of the result on stdout.",
        )
        quiet = click.Option(
            ["-q", "--quiet"], is_flag=True, help="No progress and remarks on stderr; errors are printed."
        )
        super().__init__(name, params=[*(params or []), form, quiet], **attributes)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As usual; an option without its value is an error of this command, not of the program."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as exc:
            exc.ctx = exc.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> None:
        """Run the command. Who asked for JSON gets some, also where there is only an error."""
        session = Session.start(ctx.params.pop("form"), quiet=ctx.params.pop("quiet"), executable=ctx.find_root().obj)
        try:
            ctx.invoke(self.callback, session, **ctx.params)  # type: ignore[arg-type] # ours always have one
        except (AirferryError, InterruptedByUserError) as exc:
            if session.output == "json" and not session.emitted:
                session.emit({"error": {"code": exc.exit_code, "message": exc.message, "next": exc.hint}}, "")
            raise
        finally:
            session.reporter.end()

    def get_help(self, ctx: click.Context) -> str:
        """The help, with the program's true name."""
        return super().get_help(ctx).replace(PROGRAM, program_name(ctx))


class Commands(click.Group):
    """A group that imports the module of a command when the command is wanted: each brings libraries that take time.

    `table` gives, for each name, in the order of use, `module:function` and a line of help.
    """

    def __init__(self, name: str | None, *, table: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(name, **attributes)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """In the order of their use."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, or None if there is none of this name."""
        if cmd_name not in self._table:
            return None
        module, _, function = self._table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As usual; of a name that does not exist it is said which one may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as exc:
            raise click.exceptions.NoSuchCommand(exc.command_name, possibilities=self._table, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without a look into their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._table.items()])

    def get_help(self, ctx: click.Context) -> str:
        """The help, with the program's true name."""
        return super().get_help(ctx).replace(PROGRAM, program_name(ctx))


def program_name(ctx: click.Context) -> str:
    """The name under which the program runs."""
    return ctx.find_root().info_name or PROGRAM


def together(name: str, kind: Callable[..., object], options: Sequence[Decorator]) -> Decorator:
    """Options that a function gets together, as the argument `name`: a `kind`, whose fields are named like them."""
    fields = inspect.signature(kind).parameters

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapped(session: Session, **values: Any) -> None:
            function(session, **{name: kind(**{field: values.pop(field) for field in fields})}, **values)

        for option in reversed(options):
            option(wrapped)
        return wrapped

    return decorate
