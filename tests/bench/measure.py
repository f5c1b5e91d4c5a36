"""One run of a command as the kernel accounts for it."""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """Seconds by the clock, seconds of CPU, MiB of memory (largest process), MB given to the file system.

    CPU and bytes count the command and all that it has started: what it leaves behind is waited for.
    """

    wall: float
    cpu: float
    memory: float
    written: float


# A process of its own, since the kernel counts the memory of whoever forks as the child's until it is replaced. What
# the command leaves behind becomes its child (prctl(2), PR_SET_CHILD_SUBREAPER).
_WATCH = """
import ctypes, json, os, resource, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
start = time.perf_counter()
child = os.fork()
if not child:
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    finally:
        os._exit(127)
status = os.waitpid(child, 0)[1]
wall = time.perf_counter() - start
try:
    while True:
        os.wait()
except ChildProcessError:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
figures = wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, usage.ru_oublock * 512 / 1e6
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), *figures], file)
"""


def run(command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> Run:
    """Run `command` to its end. Raises RuntimeError with the end of its output when it fails."""
    result = log.with_suffix(".json")
    with log.open("wb") as output:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _WATCH, str(result), *command],
            env=env,
            cwd=cwd,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    code, *figures = json.loads(result.read_text())
    if code != 0:
        raise RuntimeError(f"{shlex.join(command)}: exit {code}: {log.read_text(errors='replace')[-2000:]}")
    return Run(*figures)


def turns(runs: int) -> range:
    """The numbers of the turns: 1 to `runs`, and 0, which is not counted, before several."""
    return range(0 if runs > 1 else 1, runs + 1)


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure."""
    return Run(*(statistics.median(getattr(each, name) for each in runs) for name in Run.__dataclass_fields__))
