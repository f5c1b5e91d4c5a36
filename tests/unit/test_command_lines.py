"""What both command lines have in common: help, names, completion, exit codes of what is not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from builder.cli.main import COMMANDS as BUILDER_COMMANDS
from builder.cli.main import cli as builder
from installer import __version__
from installer.cli.main import COMMANDS as INSTALLER_COMMANDS
from installer.cli.main import about, called
from installer.cli.main import cli as installer
from installer.commands import SETTINGS, Commands
from installer.shell import run
from tests.parts.bundles import KEYS, reference_cargo, signing_key
from tests.parts.faulty_api import FaultyApi, Reply
from tests.parts.programs import ROOT, from_source

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = {"airferry": builder, "./wandb-installer": installer}
TABLES = {"airferry": BUILDER_COMMANDS, "./wandb-installer": INSTALLER_COMMANDS}
WIDTH = 80


def every_command(command: click.Command, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    """`command`, and all below it."""
    yield context, command
    if isinstance(command, Commands):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found, name
            assert found.name == name
            yield from every_command(found, click.Context(found, parent=context, info_name=name))


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_fits_a_narrow_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines do not break inside words, nothing is cut, and the program calls itself as it was called."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    root = click.Context(PROGRAMS[name], info_name=name, **SETTINGS)
    seen = 0
    for context, command in every_command(PROGRAMS[name], root):
        text = command.get_help(context)
        assert [line for line in text.splitlines() if len(line) > WIDTH] == [], context.command_path
        assert "PROGRAM" not in text
        assert text.startswith(f"Usage: {context.command_path} ")
        seen += 1
    assert seen > 15
    whole = " ".join(PROGRAMS[name].get_help(root).split())
    assert all(f"{each} {line}" in whole for each, (_, line) in TABLES[name].items())


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_of_a_program_loads_no_command(name: str) -> None:
    module = PROGRAMS[name].callback.__module__
    script = (
        f"import sys; from {module} import cli; from installer.shell import run; assert run(cli, 'x', ['--help']) == 0;"
        "assert not [name for name in sys.modules if '.cli.' in name and not name.endswith('.main')]"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Commands:\n" in done.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "help_of"),
    [
        ("airferry", ["build", "--volume-size"], "airferry build"),
        ("./wandb-installer", ["load", "--site"], "./wandb-installer load"),
        ("./wandb-installer", ["--nonsense"], "./wandb-installer"),
    ],
)
def test_a_wrong_call_points_to_the_right_help(
    name: str, arguments: list[str], help_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(PROGRAMS[name], name, arguments) == 2
    assert capsys.readouterr().err.endswith(f"next: see `{help_of} --help`.\n")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("airferry", ["build", "-o", "json"]),
        ("airferry", ["sheet", "bundle.tar", "-o", "text"]),
        ("./wandb-installer", ["render", "--site", "site.yaml", "-o", "json"]),
    ],
)
def test_a_form_is_not_the_name_of_an_output(
    name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(PROGRAMS[name], name, arguments) == 2
    assert f"`--output {arguments[-1]}`" in capsys.readouterr().err


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_version_is_told_in_every_way(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = set()
    for arguments in (["--version"], ["version"]):
        assert run(PROGRAMS[name], name, arguments) == 0
        told.add(capsys.readouterr().out)
    (line,) = told
    assert __version__ in line
    assert run(PROGRAMS[name], name, ["--help"]) == 0
    assert capsys.readouterr().out.endswith(f"\n{line}")
    assert run(PROGRAMS[name], name, ["version", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__


def test_a_damaged_program_still_has_a_version(tmp_path: Path) -> None:
    program = tmp_path / "damaged"
    program.write_bytes(Path(sys.executable).read_bytes() + b"something else")
    assert about(program) == about(None)


def test_a_program_is_called_as_the_user_can_type_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "here" / "platform.run"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.chdir(program.parent)
    assert called(program) == "./platform.run"
    monkeypatch.chdir(tmp_path)
    assert called(program) == str(program)
    monkeypatch.setenv("PATH", str(program.parent))
    assert called(program) == "platform.run"
    program.parent.rename(tmp_path / "gone")
    monkeypatch.chdir(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    assert called(program) == str(program)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_shell_completes_commands(name: str, tmp_path: Path) -> None:
    """bash reads the script that `completion` prints, and asks a program of that name."""
    program = tmp_path / Path(name).name
    module = "builder" if name == "airferry" else "installer.cli"
    program.write_text(
        f"#!{sys.executable}\nimport sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from {module}{'.cli' if module == 'builder' else ''}.main import cli\n"
        f"from installer import shell; shell.main(cli, sys.argv[0])\n"
    )
    program.chmod(0o755)
    script = (
        f"source <({program} completion bash); COMP_WORDS=({program} vers); COMP_CWORD=1; "
        f'$(complete -p {program.name} | sed "s/.*-F \\([^ ]*\\) .*/\\1/") {program}; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env={"PATH": os.defpath})
    assert (done.stdout, done.stderr) == ("version\n", "")


def test_what_is_not_there_has_a_code_of_its_own(tmp_path: Path) -> None:
    """2 for a file that was named, 42 for what a command works on: neither is an image that a registry lacks."""
    program = from_source("installer", tmp_path)
    (volume,) = reference_cargo(tmp_path).write(tmp_path, key=signing_key())
    bundle = ("--bundle", volume, "--key", KEYS / "test-only.pub")
    assert program.run("template", *bundle).returncode == 42
    for command, *options in (("load",), ("render", "--output-dir", "out")):
        done = program.run(command, *bundle, *options, "--site", tmp_path / "site.yaml")
        assert done.returncode == 2, done.stderr
        assert "site.yaml: cannot read: No such file" in done.stderr
    with FaultyApi() as api:
        api.answers = [Reply(200, {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": []})]
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        done = program.run("status", "-n", "wandb", "--kubeconfig", tmp_path / "kubeconfig")
    assert done.returncode == 42, done.stderr
    assert "no installation by this program in this cluster" in done.stderr


class Installed:
    """airferry's packages in a folder, as a wheel puts them into one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site-packages"
        for package in ("builder", "installer", "templates"):
            shutil.copytree(ROOT / package, self.folder / package, ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, *before: Path) -> subprocess.CompletedProcess[str]:
        """What `airferry --version` does with the folders `before` in front of this one."""
        path = os.pathsep.join(map(str, [*before, self.folder]))
        script = "import sys; sys.argv[1:] = ['--version']; from builder.__main__ import main; main()"
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd="/", env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)


def test_the_library_installer_is_noticed(tmp_path: Path) -> None:
    """It and airferry overwrite, and when removed delete, each other's files."""
    installed, foreign = Installed(tmp_path), tmp_path / "foreign"
    done = installed.start()
    assert (done.returncode, done.stdout) == (0, f"airferry {__version__}\n"), done.stderr
    (foreign / "installer").mkdir(parents=True)
    (foreign / "installer" / "__init__.py").write_text('__version__ = "0.7.0"\n')

    elsewhere = installed.start(foreign)
    assert (elsewhere.returncode, elsewhere.stdout) == (2, "")
    assert elsewhere.stderr.startswith(f"error: {foreign}/installer/__init__.py: the Python library `installer`")
    assert "next: remove it (pip uninstall installer)" in elsewhere.stderr

    trace = installed.folder / "installer-0.7.0.dist-info"
    trace.mkdir()
    beside = installed.start()
    assert beside.returncode == 2
    assert beside.stderr.startswith(f"error: {trace}: ")
    trace.rmdir()
    (installed.folder / "installer" / "__init__.py").unlink()
    assert installed.start().returncode == 2, "what its removal leaves"
