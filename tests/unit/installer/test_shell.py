"""What a user sees of any command: results on stdout, talk on stderr, exit codes, signals."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from installer import errors, shell
from installer.commands import SETTINGS, Command
from installer.shell import Session
from tests.parts.process import wait_until

Capture = pytest.CaptureFixture[str]


@click.group(context_settings=SETTINGS)
def program() -> None:
    """A program."""


@program.command(cls=Command)
@click.argument("kind")
def act(session: Session, kind: str) -> None:
    """Do something."""
    session.reporter.note("a remark")
    if kind == "bug":
        raise ZeroDivisionError("a defect of ours")
    if kind == "full":
        raise errors.StorageError("no space\n  second line", hint="free some.")
    if kind == "escape":
        raise errors.NotFoundError("evil \x1b[2J name")
    session.emit({"kind": kind}, f"it is {kind}")
    if kind == "late":
        raise errors.BundleError("damaged")


def run(*arguments: str) -> int:
    return shell.run(program, "program", arguments)


def test_the_result_is_on_stdout_and_the_talk_on_stderr(capsys: Capture) -> None:
    assert run("act", "fine") == 0
    assert capsys.readouterr() == ("it is fine\n", "a remark\n")


def test_json(capsys: Capture) -> None:
    assert run("act", "fine", "--output", "json", "--quiet") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"kind": "fine"}, "")


def test_json_of_an_error(capsys: Capture) -> None:
    assert run("act", "full", "--output", "json", "-q") == errors.StorageError.exit_code
    out, err = capsys.readouterr()
    error = {"code": 50, "message": "no space\n  second line", "next": "free some."}
    assert json.loads(out) == {"error": error}
    assert err.startswith("error: no space")
    assert run("act", "late", "--output", "json", "-q") == errors.BundleError.exit_code
    assert json.loads(capsys.readouterr().out) == {"kind": "late"}, "one document"


def test_an_expected_error_has_its_code_and_a_next_step(capsys: Capture) -> None:
    assert run("act", "full", "-q") == errors.StorageError.exit_code
    assert capsys.readouterr() == ("", "error: no space\n  second line\nnext: free some.\n")


def test_names_cannot_steer_the_terminal(capsys: Capture) -> None:
    run("act", "escape", "-q")
    assert capsys.readouterr().err == "error: evil \\x1b[2J name\n"


def test_a_bug_shows_its_trace(capsys: Capture) -> None:
    assert run("act", "bug", "-q") == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: a defect of ours" in err
    assert "error: this is a bug in program\nnext: please report it" in err


@pytest.mark.parametrize(
    "arguments", [["act"], ["act", "x", "--nonsense"], ["nonsense"], ["act", "x", "--output", "xml"]]
)
def test_wrong_calls(capsys: Capture, arguments: list[str]) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "--help`.\n" in err


def test_help_is_no_error(capsys: Capture) -> None:
    assert run("--help") == 0
    assert "A program." in capsys.readouterr().out


def test_without_a_command_the_help_is_printed_as_it_is(capsys: Capture) -> None:
    assert run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: program [OPTIONS] COMMAND [ARGS]...\n\n  A program.\n")
    assert "\\x" not in err


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run("--help")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


SLEEPER = """
import os, time
import click
from installer import shell
from installer.commands import Command

@click.command(cls=Command)
def command(session):
    try:
        print("ready", flush=True)
        # A signal that comes just before a sleep does not end it.
        for _ in range(600):
            time.sleep(0.1)
    finally:
        print("cleaned up", flush=True)
        if os.environ.get("STUCK"):
            time.sleep(60)

shell.main(command, "sleeper")
"""


def start(**environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> bool:
    """Whether `process` has ended; it is asked to."""
    process.send_signal(signal.SIGTERM)
    return process.poll() is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_and_says_how_to_go_on(number: signal.Signals) -> None:
    with start() as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "cleaned up\n")
    assert (
        err
        == f"error: interrupted by {number.name}\nnext: run the same command again: it continues where it stopped.\n"
    )


def test_the_second_signal_ends_at_once() -> None:
    with start(STUCK="1") as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cleaned up\n"
        # The first one's echo is ignored, so ask until it ends; by itself it would sleep for a minute.
        assert wait_until(lambda: ended(process), 30)
        process.communicate()
    assert process.returncode == 130


def test_an_ignored_hangup_stays_ignored() -> None:
    """What nohup does."""
    program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{textwrap.dedent(SLEEPER)}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert b"interrupted by SIGTERM" in err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = "from installer import shell; shell.show('x' * 200000 + chr(10) + 'y')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert (process.wait(timeout=30), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("arguments", [["act", "x"], ["--help"]])
def test_a_full_disk_under_stdout_is_an_error(arguments: list[str]) -> None:
    script = (
        "from tests.unit.installer.test_shell import program; from installer import shell; shell.main(program, 'p')"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == errors.StorageError.exit_code
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_streams_are_no_bug() -> None:
    script = (
        "from tests.unit.installer.test_shell import program; from installer import shell; shell.main(program, 'p')"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, "act"]
    assert subprocess.run([*command, "x"]).returncode == 0
    assert subprocess.run([*command, "full"]).returncode == errors.StorageError.exit_code


def session(environment: dict[str, str]) -> Session:
    from installer.report import Silent

    return Session("text", Silent(), environment)


def write_auth(path: Path, host: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: {"username": "user", "password": "word"}}}))


def test_where_credentials_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("installer.shell._RUN", tmp_path / "containers")
    write_auth(tmp_path / ".docker" / "config.json", "home.example")
    write_auth(tmp_path / "docker" / "config.json", "docker.example")
    write_auth(tmp_path / "auth.json", "named.example")
    home = {"HOME": str(tmp_path)}
    docker = {**home, "DOCKER_CONFIG": str(tmp_path / "docker")}
    named = {**docker, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    write_auth(tmp_path / "run" / "containers" / "auth.json", "podman.example")
    write_auth(tmp_path / ".config" / "containers" / "auth.json", "kept.example")
    podman = {**home, "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    write_auth(tmp_path / "containers" / f"{os.getuid()}" / "auth.json", "run.example")
    homes = [(podman, host) for host in ("podman.example", "kept.example", "home.example")]
    homes.append((home, "run.example"))
    for environment, host in (*homes, (home, "home.example"), (docker, "docker.example"), (named, "named.example")):
        found = session(environment).credentials().find(host)
        assert found is not None
        assert "word" not in repr(found)
    assert session({}).credentials().find("home.example") is None
    assert session(podman).credentials().find("run.example") is None
    assert session(docker | podman).credentials().find("podman.example") is None
    with pytest.raises(errors.UsageError, match="REGISTRY_AUTH_FILE"):
        session({"REGISTRY_AUTH_FILE": os.fspath(tmp_path / "gone")}).credentials()


def test_nobody_answers_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the input is no, wherever it comes: what was done stays."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert session({}).ask("volume 3 is needed next") is False


def test_a_terminal_that_lacks_a_character() -> None:
    script = (
        "import click; from installer import commands, shell\n"
        "@click.command(cls=commands.Command)\n"
        "def command(session): session.emit({}, 'größer als 나')\n"
        "shell.main(command, 'program')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}
    )
    assert (done.returncode, done.stdout) == (0, "größer als \\ub098\n".encode("latin-1")), done.stderr


@contextlib.contextmanager
def locked_out(folder: Path) -> Iterator[None]:
    """Nobody may look into `folder` meanwhile; root, who always may, is somebody else."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_home_of_somebody_else(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod often runs as a user of its own with root's HOME."""
    from installer.cli.target import Target
    from installer.cluster.endpoint import Endpoint
    from installer.report import Lines

    write_auth(tmp_path / "home" / ".docker" / "config.json", "home.example")
    home = {"HOME": str(tmp_path / "home")}
    with locked_out(tmp_path / "home"):
        assert Session("text", Lines(sys.stderr), home).credentials().find("home.example") is None
        assert "config.json: cannot look at it: Permission denied; going on" in capsys.readouterr().err
        for named in ({"DOCKER_CONFIG": home["HOME"]}, {"REGISTRY_AUTH_FILE": f"{home['HOME']}/auth.json"}):
            with pytest.raises(errors.StorageError, match="Permission denied"):
                session(named).credentials()
        with pytest.raises(errors.StorageError, match=r"\.kube/config: cannot look at it"):
            Target(session(home), None, "", plugin=False)
        pod = Endpoint("https://10.0.0.1:443", token="t")
        monkeypatch.setattr("installer.cli.target.in_cluster", lambda _: pod)
        assert Target(session(home), None, "", plugin=False).cluster.endpoint == pod


def test_a_bundle_in_a_folder_of_somebody_else(tmp_path: Path) -> None:
    from installer.opening.volume_search import VolumeSearch

    with locked_out(tmp_path / "there"), pytest.raises(errors.StorageError, match="Permission denied"):
        VolumeSearch.of([tmp_path / "there" / "demo.tar"], None, None, lambda _: None)


def test_proxies_are_taken_in_either_case() -> None:
    given = {"HTTPS_PROXY": "a", "no_proxy": "b", "PATH": "c"}
    assert session(given).proxies() == {"HTTPS_PROXY": "a", "no_proxy": "b"}


def test_an_interruption_is_no_error_that_code_could_take_for_its_own() -> None:
    def act() -> None:
        try:
            raise errors.InterruptedByUserError("interrupted by SIGINT", hint="run it again.")
        except Exception as exc:
            raise errors.BundleError("bundle.json: malformed") from exc

    with pytest.raises(errors.InterruptedByUserError):
        act()
