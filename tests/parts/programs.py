"""airferry's programs as processes, with nothing of the user's environment: no credentials, no proxies, no settings."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
"""Where the enclave's program is kept between test runs."""
SECONDS = 300
COLLECTOR = {name: value for name, value in os.environ.items() if name == "GOGC"}
"""How eager Go's collector is, of which Helm's library in the programs takes note as well."""


@dataclass(frozen=True)
class Program:
    """A command line; `folder` is where it runs, and its HOME. `options` go behind the name of the subcommand."""

    command: tuple[str, ...]
    folder: Path
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, subcommand: str, *arguments: str | Path) -> list[str]:
        """The whole command."""
        return [*self.command, subcommand, *self.options, *map(str, arguments)]

    def surroundings(self) -> dict[str, str]:
        """The process's environment."""
        path = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"))
        # Programs that are killed leave what they have unpacked; so it goes with the other files of the test.
        folders = {"HOME": str(self.folder), "TMPDIR": str(self.folder.parent)}
        return {"PATH": path, **folders, **COLLECTOR, **self.environment}

    def run(self, subcommand: str, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run to the end, `text` on standard input; whatever comes of it."""
        return subprocess.run(
            self.arguments(subcommand, *arguments),
            cwd=self.folder,
            env=self.surroundings(),
            input=text,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def start(self, subcommand: str, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start it; both outputs are pipes."""
        return subprocess.Popen(
            self.arguments(subcommand, *arguments),
            cwd=self.folder,
            env=self.surroundings(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def result(self, subcommand: str, *arguments: str | Path, text: str = "") -> Any:
        """The JSON document of a command that succeeds. Raises AssertionError with what it said if it does not."""
        done = self.run(subcommand, *arguments, "--output", "json", text=text)
        assert done.returncode == 0, f"{subcommand}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


def from_source(module: str, folder: Path, *options: str | Path, **environment: str) -> Program:
    """`python -m MODULE` of this project's sources."""
    known = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(CACHE)}
    command = (sys.executable, "-m", module)
    return Program(command, folder, tuple(map(str, options)), {**known, **environment})


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    """The exit code, one line of error that names `texts`, and the next step; no result and no trace."""
    said = f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == code, said
    assert done.stdout == "", said
    assert "Traceback" not in done.stderr, said
    lines = done.stderr.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert len(errors) == 1, said
    message = "\n".join(lines[errors[0] :])
    assert "\nnext: " in message, said
    for text in texts:
        assert text in message, said


def docker_config(folder: Path, registry: str, word: str, user: str = "ferry") -> dict[str, str]:
    """Where a user's credentials stand, as the environment says it."""
    (folder / "docker").mkdir()
    secret = b64encode(f"{user}:{word}".encode()).decode()
    (folder / "docker" / "config.json").write_text(json.dumps({"auths": {registry: {"auth": secret}}}))
    return {"DOCKER_CONFIG": str(folder / "docker")}


def with_environment(program: Program, more: Mapping[str, str]) -> Program:
    """The program with `more` in its environment."""
    return dataclasses.replace(program, environment={**program.environment, **more})


def on_tmpfs(program: Program, folder: Path, options: str) -> Program:
    """The program in a mount namespace of its own, where `folder` is a tmpfs with `options`.

    Its standard error ends with a line for each file that is left there.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = (
        f'mount -t tmpfs -o "{options}" tmpfs "{folder}" || exit 99\n'
        f'"$@"; code=$?; ls -A "{folder}" | sed "s/^/left: /" >&2; exit $code'
    )
    folder.mkdir()
    prefix = ("unshare", *user, "--mount", "sh", "-c", script, "sh")
    return dataclasses.replace(program, command=(*prefix, *program.command))
