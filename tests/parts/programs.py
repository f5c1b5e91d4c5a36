"""airferry's programs as processes, with nothing of the user's environment: no credentials, no proxies, no settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
        return {"PATH": path, "HOME": str(self.folder), **COLLECTOR, **self.environment}

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
