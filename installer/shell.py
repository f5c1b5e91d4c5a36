"""What both command lines share: results and talk, errors, signals and exit codes.

stdout carries the result and nothing else, stderr the talk. Only modules of the command line read the environment, the
clock and the arguments, and they do so through this one.
"""

import contextlib
import ctypes
import datetime as dt
import errno
import gc
import io
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from installer.errors import AirferryError, InterruptedByUserError, StorageError, UsageError
from installer.files import look_at, storage_error
from installer.frozen.program import open_closed_streams
from installer.report import Reporter, printable, reporter

if TYPE_CHECKING:
    from installer.registry.credentials import CredentialStore

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = InterruptedByUserError.exit_code
_ECHO_SECONDS = 0.5
_RUN = Path("/run/containers")
Form = Literal["text", "json"]
"""The form of a result."""


@dataclass(frozen=True)
class Session:
    """One run of one command: the form of its result, who hears of its progress, and the process's surroundings.

    `executable` is the frozen file that runs, None where the program runs from source.
    """

    output: Form
    reporter: Reporter
    environment: Mapping[str, str]
    executable: Path | None = None
    emitted: list[Any] = field(default_factory=list, repr=False)
    """The results so far."""

    @classmethod
    def start(cls, output: Form, *, quiet: bool, executable: Path | None) -> "Session":
        """The session of this process."""
        dumb = os.environ.get("TERM") == "dumb"
        return cls(output, reporter(quiet=quiet, dumb=dumb), dict(os.environ), executable)

    def emit(self, document: Any, text: str) -> None:
        """Print the result: `document` as JSON, or `text`, whatever the user chose. Raises StorageError."""
        self.emitted.append(document)
        if self.output == "json":
            show(json.dumps(document, indent=1, sort_keys=True))
        else:
            show(text)

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: both standard input and error are a terminal."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def columns(self) -> int | None:
        """The width of the terminal that standard error is, 0 if it does not say; None if it is no terminal."""
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(sys.stderr.fileno()).columns
        return None

    def ask(self, text: str) -> bool:
        """Show `text` and wait until the person says that it is done; False if it cannot be, or nobody is there."""
        self.reporter.note(text)
        question = "press Enter when it is there, or type none"
        try:
            answer = click.prompt(question, default="", show_default=False, prompt_suffix=": ", err=True)
        except click.Abort:
            # The end of the input; Ctrl-C is another exception, that of a signal.
            return False
        return str(answer).strip().lower() != "none"

    def ask_secret(self, question: str, *, confirm: bool = False) -> str:
        """What the person types unseen; with `confirm` twice. Raises UsageError where nobody can be asked."""
        if not self.interactive:
            raise UsageError(f"{question}: there is no terminal to ask on")
        try:
            return str(click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True))
        except InterruptedByUserError as exc:
            raise InterruptedByUserError(exc.message, hint="nothing was done.") from exc

    def now(self) -> dt.datetime:
        """The time by this machine's clock, in UTC, whole seconds."""
        return dt.datetime.now(dt.UTC).replace(microsecond=0)

    def proxies(self) -> Mapping[str, str]:
        """The proxy variables of the environment."""
        names = ("http_proxy", "https_proxy", "no_proxy")
        return {name: value for name, value in self.environment.items() if name.lower() in names}

    def leave_no_proxies(self) -> None:
        """Take the proxy variables out of the environment that libraries read by themselves; the session keeps them.

        A library in Go, when it is loaded, reads what the kernel has put beside the arguments (Go's package runtime,
        `goenvs_unix`), and that `unsetenv` may leave as it is: so the value itself is made empty in its place.
        """
        getenv = ctypes.CDLL(None).getenv
        getenv.restype = ctypes.c_void_p
        for name in self.proxies():
            if value := getenv(name.encode()):
                ctypes.memset(value, 0, 1)
            os.environ.pop(name, None)

    def state(self) -> Path | None:
        """The folder for what one run leaves for the next: in `XDG_STATE_HOME` or `~/.local/state`, if there is any."""
        home = self.environment.get("HOME")
        base = self.environment.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
        return Path(base, "airferry") if base.startswith("/") else None

    def credentials(self) -> "CredentialStore":
        """Registry credentials, from the files that the user's other tools use too.

        `REGISTRY_AUTH_FILE` alone if it is set, or `config.json` in `DOCKER_CONFIG`. Else `containers/auth.json` in
        `XDG_RUNTIME_DIR` (without it `/run/containers/UID/auth.json`) and then in `~/.config`, as skopeo and podman do
        (containers-auth.json(5)), and last `~/.docker/config.json`: the first that knows the registry. A file named by
        the environment must be readable; of the others one that may not be read counts as none.
        Raises UsageError, StorageError.
        """
        from installer.registry.credentials import CredentialStore

        named = self.environment.get("REGISTRY_AUTH_FILE")
        if named:
            if look_at(Path(named)) is None:
                raise storage_error(FileNotFoundError(2, "no such file"), Path(named), "read (REGISTRY_AUTH_FILE)")
            return CredentialStore.from_docker_config(Path(named), self.environment)
        if folder := self.environment.get("DOCKER_CONFIG"):
            return CredentialStore.from_docker_config(Path(folder, "config.json"), self.environment)
        home = self.environment.get("HOME") or "/"
        kept = self.environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
        places = [Path(home, ".docker", "config.json"), Path(kept, "containers", "auth.json")]
        base = self.environment.get("XDG_RUNTIME_DIR")
        places.append(Path(base, "containers", "auth.json") if base else _RUN / f"{os.getuid()}/auth.json")
        store = CredentialStore()
        for place in places:
            try:
                store = CredentialStore.from_docker_config(place, self.environment, store)
            except StorageError as exc:
                # Nobody named the file, and the folder may be another user's: that of a pod's HOME often is.
                if not isinstance(exc.__cause__, PermissionError):
                    raise
                self.reporter.note(f"note: {exc.message}; going on without its credentials")
        return store


def show(text: str) -> None:
    """Print `text` on stdout, each line made harmless for terminals. Raises StorageError if it cannot be written."""
    try:
        for line in text.splitlines():
            print(printable(line))
        sys.stdout.flush()
    except OSError as exc:
        lost = _stdout_lost(exc)
        if not isinstance(exc, BrokenPipeError):  # the reader, such as `head`, has seen enough
            raise lost from exc


def _stdout_lost(exc: OSError) -> AirferryError:
    """The error for a result that cannot be written; what Python still holds of it must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return storage_error(exc, Path("/dev/stdout"), "write the result")


def run(
    command: click.Command, program: str, arguments: Sequence[str] | None = None, *, executable: Path | None = None
) -> int:
    """Run `command` with `arguments` (the process's own by default); every error printed; the exit code.

    `program` is the name that it calls itself, `executable` as in Session.
    """
    try:
        with _signals_raise():
            code = command.main(
                args=arguments,
                prog_name=program,
                complete_var=completion_variable(program),
                standalone_mode=False,
                obj=executable,
            )
            return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as exc:
        for line in exc.format_message().splitlines():
            _say(line)
        return exc.exit_code
    except click.ClickException as exc:
        return _print_usage(exc, program)
    except (click.Abort, KeyboardInterrupt):
        # click turns Ctrl-C at a prompt, and the end of its input, into Abort.
        return print_error(InterruptedByUserError("interrupted", hint="nothing was done."))
    except (AirferryError, InterruptedByUserError) as exc:
        return print_error(exc)
    except Exception as exc:  # noqa: BLE001 - the last resort of the program: what gets here is a bug
        if (
            isinstance(exc, OSError) and exc.errno == errno.ENOSPC
        ):  # help, which click prints, for all else is converted
            return print_error(_stdout_lost(exc))
        traceback.print_exc()
        _say(f"error: this is a bug in {program}")
        _say("next: please report it with the lines above; they hold no secrets, but may hold names of your hosts.")
        return 1


def completion_variable(program: str) -> str:
    """The variable by which a shell asks `program` for completions."""
    return f"_{re.sub('[^A-Z0-9]', '_', Path(program).name.upper())}_COMPLETE"


def main(command: click.Command, program: str, *, executable: Path | None = None) -> NoReturn:
    """Run `command` as the whole process."""
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on stderr: a name that the terminal's encoding lacks is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    # The metadata of a large bundle are a million objects, none of them garbage: look for that less often.
    gc.set_threshold(50_000)
    code = run(command, program, executable=executable)
    # All clean-up of ours has run, and what was printed is out or lost. Taking the interpreter down as well would free
    # a million objects one by one, and wait for threads that may still wait for a slow host.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def print_error(error: AirferryError | InterruptedByUserError) -> int:
    """Print `error` and the next step on stderr; its exit code."""
    first, *rest = error.message.splitlines() or [""]
    _say(f"error: {first}")
    for line in rest:
        _say(line)
    if error.hint:
        _say(f"next: {error.hint}")
    return error.exit_code


def _print_usage(exc: click.ClickException, program: str) -> int:
    _say(f"error: {exc.format_message()}")
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    _say(f"next: see `{context.command_path if context else program} --help`.")
    return 2


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Meanwhile the first signal raises InterruptedByUserError in the main thread, and the next one ends at once.

    The frozen program hears one Ctrl-C twice, from the terminal and from its parent; an echo is no second signal,
    even if it arrives when the block has ended already.
    """
    heard = False

    def handler(number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard, first = True, time.monotonic()

        def again(*_: object) -> None:
            if time.monotonic() - first > _ECHO_SECONDS:
                os._exit(INTERRUPTED)

        for each in _SIGNALS:
            signal.signal(each, again)
        raise InterruptedByUserError(
            f"interrupted by {signal.Signals(number).name}",
            hint="run the same command again: it continues where it stopped.",
        )

    before = {number: signal.signal(number, handler) for number in _SIGNALS if _is_heard(number)}
    try:
        yield
    finally:
        if not heard:
            for number, former in before.items():
                signal.signal(number, former)


def _is_heard(number: signal.Signals) -> bool:
    """Whether a signal is not ignored: `nohup` lets a program ignore SIGHUP, and it shall stay so."""
    return signal.getsignal(number) is not signal.SIG_IGN
