"""The enclave's program, run as a user would, inside the enclave's network."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.parts.application import KEY
from tests.parts.process import wait_until
from tests.parts.programs import COLLECTOR

if TYPE_CHECKING:
    import subprocess

    from tests.parts.enclave import Enclave

ROOT = Path(__file__).parents[2]
TIMEOUT = 400
SOON = 60.0
"""Seconds from the moment at which the API shows a cause until the program must tell of it."""


@dataclass(frozen=True)
class EnclaveProgram:
    """`python -m installer`, or with `executable` the frozen file; `folder` holds site.yaml and is HOME.

    The enclave's registry outlives tests: it forgets then which applications of the same names were newer.
    """

    enclave: Enclave
    folder: Path
    executable: Path | None = None

    def __post_init__(self) -> None:
        for floors in (self.enclave.folder / "registry").rglob("repositories/airferry/airferry/floors"):
            shutil.rmtree(floors)

    def site(self, **answers: Any) -> Path:
        """Write site.yaml for the enclave's registry; `answers` are further keys. JSON is YAML."""
        registry = {"host": self.enclave.registry, "plain_http": True}
        path = self.folder / "site.yaml"
        path.write_text(json.dumps({"registry": registry, **answers}))
        return path

    def run(self, *arguments: str | Path, seconds: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Run one command; whatever comes of it."""
        start: list[str | Path] = [self.executable] if self.executable else [sys.executable, "-m", "installer"]
        access = {"KUBECONFIG": str(self.enclave.kubeconfig)}
        env = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin", **COLLECTOR, **access}
        return self.enclave.run([*start, *arguments], check=False, cwd=ROOT, env=env, timeout=seconds)

    def install(self, bundle: Path, *options: str, timeout: int = 240) -> subprocess.CompletedProcess[str]:
        """Install `bundle` with the site.yaml that was written last."""
        return self._bring_about("install", bundle, *options, timeout=timeout)

    def upgrade(self, bundle: Path, *options: str, timeout: int = 240) -> subprocess.CompletedProcess[str]:
        """Upgrade to `bundle` with the site.yaml that was written last, without being asked."""
        return self._bring_about("upgrade", bundle, "--yes", *options, timeout=timeout)

    def _bring_about(self, command: str, bundle: Path, *options: str, timeout: int) -> subprocess.CompletedProcess[str]:
        source: list[str | Path] = [] if self.executable else ["--bundle", bundle, "--key", KEY]
        site = self.folder / "site.yaml"
        return self.run(command, *source, "--site", site, "--timeout", str(timeout), "--output", "json", *options)

    def cause(self, name: str, cause: str, deadline: float, where: str = "") -> dict[str, str]:
        """The first `cause` of an object whose name begins with `where`, from `status` of the installation `name`.

        Raises AssertionError if that is silent about it at `deadline` (monotonic seconds), or calls all of it ready.
        """
        found: list[dict[str, str]] = []

        def told() -> bool:
            done = self.run("status", "--name", name, "--output", "json")
            causes = told_by(json.loads(done.stdout))
            found.extend(each for each in causes if each["cause"] == cause and each["object"].startswith(where))
            assert done.returncode == 32 or not found, done.stdout
            return bool(found)

        assert wait_until(told, deadline - time.monotonic()), self.run("status", "--name", name).stdout
        return found[0]

    def result(self, done: subprocess.CompletedProcess[str]) -> Any:
        """The document that a successful command has printed. Raises AssertionError otherwise."""
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


def told_by(status: dict[str, Any]) -> list[dict[str, str]]:
    """Every cause in the document of `status`."""
    found = list(status["causes"])
    for release in status["releases"]:
        found += release["causes"]
        for workload in release["workloads"]:
            found += workload["causes"]
    return found
