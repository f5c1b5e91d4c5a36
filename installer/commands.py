"""The commands of both programs: what each of them takes, and the group that loads a command when it is wanted."""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from installer.errors import AirferryError, InterruptedByUserError, UsageError
from installer.shell import Session, completion_variable

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Settings of the outermost group, which its commands inherit: what `click.group(context_settings=…)` takes."""
PROGRAM = "PROGRAM"
"""Stands in help texts for the name under which the program runs."""

Function = Callable[..., None]
"""What a command runs: it takes a `Session` first, and the values of its options by name."""
Decorator = Callable[[Function], Function]


class _Output(click.Path):
    """A place to write to. Not `json` or `text`: whoever types that means `--output`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As usual. Raises UsageError."""
        if value in ("json", "text"):
            raise UsageError(
                f"-o {value}: -o names what is written",
                hint=f"the form of the result is `--output {value}`; a file of that name is `-o ./{value}`.",
            )
        return super().convert(value, param, ctx)


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
NEW_FILE = _Output(path_type=Path, dir_okay=False)
NEW_FOLDER = _Output(path_type=Path, file_okay=False)
NEW_PATH = _Output(path_type=Path)
language_option = click.option(
    "--language", type=click.Choice(["en", "ko"]), default="en", show_default=True, help="Language of the page."
)
force_option = click.option("--force", is_flag=True, help="Replace files that this program has not written.")
proof_option = click.option(
    "--proof", type=FILE, help="Write a proof of the verification to this file (.json), and a page beside it (.txt)."
)


@dataclass(frozen=True)
class About:
    """What a program is: its name and version, and the bundle that it carries, if any."""

    program: str
    version: str
    bundle: str = ""

    def __str__(self) -> str:
        return f"{self.program} {self.version}{f', with {self.bundle}' if self.bundle else ''}"


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

    `table` gives, for each name, in the order of use, `module:function` and a line of help. A group that is a whole
    program also has `--version`, and the commands `version` and `completion`; `about` says what it is, told the frozen
    file.
    """

    def __init__(
        self,
        name: str | None,
        *,
        table: Mapping[str, tuple[str, str]],
        about: Callable[[Path | None], About] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(name, **attributes)
        self.about = about
        self._table = {**table, **_OWN} if about else table
        if about:
            self.params.append(_version_option(about))

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

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What the program is."""
        if self.about:
            formatter.write_paragraph()
            formatter.write(f"{self.about(ctx.find_root().obj)}\n")

    def get_help(self, ctx: click.Context) -> str:
        """The help, with the program's true name."""
        return super().get_help(ctx).replace(PROGRAM, program_name(ctx))


_OWN = {
    "completion": ("installer.commands:completion", "Print what lets a shell complete commands and options."),
    "version": ("installer.commands:version", "Print the version."),
}


def _version_option(about: Callable[[Path | None], About]) -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it so
        if wanted and not ctx.resilient_parsing:
            click.echo(about(ctx.find_root().obj))
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )


@click.command(cls=Command)
@click.pass_context
def version(ctx: click.Context, session: Session) -> None:
    """Print the version of the program, and what it carries.

    \b
    Example:
      PROGRAM version --output json
    """
    program = ctx.find_root().command
    if isinstance(program, Commands) and program.about:
        found = program.about(session.executable)
        session.emit(asdict(found), str(found))


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, session: Session, *, shell: str) -> None:
    """Print what lets SHELL complete commands and options.

    \b
    Examples:
      source <(PROGRAM completion bash)
      PROGRAM completion fish | source
    """
    # Only this command needs it, and it starts processes.
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    name = Path(program_name(ctx)).name
    if kind:
        script = kind(ctx.find_root().command, {}, name, completion_variable(name)).source()
        session.emit({"shell": shell, "script": script}, script)


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
