"""Start a server, know it again later, and end exactly that one.

A process id alone is no identity: the kernel gives it out again. Here a process is its id together with the time
the kernel started it (`/proc/PID/stat`, field 22, clock ticks since boot; see proc(5)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """A process that lives or has lived on this machine."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has the id `pid` now, or None; a zombie counts as none."""
        try:
            text = Path("/proc", str(pid), "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The command's name stands in parentheses and may itself hold spaces and parentheses.
        state, *rest = text[text.rindex(")") + 2 :].split()
        return None if state in "ZX" else cls(pid, int(rest[18]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this very process, if it still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, grace: float = 10.0) -> None:
        """TERM, then KILL after `grace` seconds; returns when it is gone. Raises RuntimeError if it survives."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            self.send(number)
            if wait_until(self.gone, seconds):
                return
        raise RuntimeError(f"process {self.pid} does not end")

    def gone(self) -> bool:
        """Whether it has ended; also collects it if it is a child of ours."""
        ended = not self.alive()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return ended


def start(
    command: Sequence[str],
    *,
    stdout: Path,
    stderr: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a server in a session of its own, its output appended to files (`stderr` defaults to `stdout`).

    `command` must replace itself by the server (as `nsenter` does), so that the id is the server's.
    """
    with stdout.open("ab") as out, (stderr or stdout).open("ab") as err:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    # The child outlives this object on purpose; `Process.end` collects it.
    child.returncode = 0
    process = Process.of(child.pid)
    if process is None:
        raise RuntimeError(f"{command[0]} ended at once: {(stderr or stdout).read_text(errors='replace')[-2000:]}")
    return process


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask `condition` until it holds or `seconds` are over; whether it held.

    What takes long to answer is asked less often: what is waited for needs the processors, too.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if condition():
            return True
        answered = time.monotonic()
        if answered >= deadline:
            return False
        time.sleep(min(max(POLL_SECONDS, 2 * (answered - asked)), 2))
