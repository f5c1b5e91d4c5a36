"""The processes in which Helm works (`installer.chart.rendering_child`), seen from the program that starts them.

They are programs of their own and no forks: the fork of a process with threads may find any lock taken, and holds all
that the program holds, secrets too. What they are to do comes through a socket, never by arguments, environment or
files. They live on for the next job, since starting one takes a tenth of a second, and end with the program, which
closes the socket by ending. There are as many as processors; threads that find none free wait.
"""

import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
from typing import Any

from installer.chart import refusal, rendering_child
from installer.chart.refusal import LimitRefusal
from installer.chart.rendering_child import ANSWER, ENVIRONMENT, MAX_ANSWER, MEMORY, REQUEST, Job

_FROM_SOURCE = f"import sys; sys.path[:] = sys.argv[1:]; from {rendering_child.__name__} import serve; serve()"
SECONDS = 60
"""The longest that a job may take."""
_GRACE_SECONDS = 10
"""A process ends itself after `SECONDS`, and is ended so much later at the latest."""


def done(job: Job, archive: bytes = b"") -> Any:
    """What Helm answers to a job. Raises Refusal. Safe for threads; whatever interrupts one ends its process."""
    process = processes.get()
    try:
        if process is not None and process.ended:
            process.end()
            process = None
        process = process or _Process()
        answer = process.answer(job, archive)
    except BaseException:
        if process is not None:
            process.end()
            process = None
        raise
    finally:
        processes.put(process)
    try:
        found = json.loads(answer)
    except RecursionError as exc:
        raise LimitRefusal("makes objects that are nested too deep") from exc
    if "refused" in found:
        kind, text, place = found["refused"]
        raise getattr(refusal, kind)(text, place)
    return found["done"]


class _Process:
    """One such process."""

    def __init__(self) -> None:
        """Raises LimitRefusal where the system allows no more processes."""
        self._channel, theirs = socket.socketpair()
        # The frozen program has no options of Python: `installer.__main__` knows this argument.
        frozen = getattr(sys, "frozen", False)
        words = [rendering_child.__name__] if frozen else ["-I", "-c", _FROM_SOURCE, *sys.path]
        with theirs:
            try:
                self._started = subprocess.Popen(
                    [sys.executable, *words],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=ENVIRONMENT,
                    start_new_session=True,  # Ctrl-C is for the program alone
                )
            except OSError as exc:
                self._channel.close()
                raise LimitRefusal(f"needs a process of its own, and none can be started: {exc}") from exc
        self._channel.settimeout(SECONDS + _GRACE_SECONDS)
        self._answers = self._channel.makefile("rb")

    @property
    def ended(self) -> bool:
        return self._started.poll() is not None

    def end(self) -> None:
        """End it in the midst of whatever it does."""
        self._started.kill()
        self._started.wait()
        self._answers.close()
        self._channel.close()

    def answer(self, job: Job, archive: bytes) -> bytes:
        """Have a job done. Raises LimitRefusal if the process ends meanwhile."""
        text = json.dumps(job).encode()
        try:
            self._channel.sendall(REQUEST.pack(SECONDS, len(text), len(archive)) + text + archive)
            (length,) = ANSWER.unpack(self._answers.read(ANSWER.size))
            answer = self._answers.read(min(length, MAX_ANSWER))
        except TimeoutError as exc:
            raise _too_long() from exc
        except (OSError, struct.error) as exc:
            raise self._broken_off() from exc
        if len(answer) != length:
            raise self._broken_off()
        return answer

    def _broken_off(self) -> LimitRefusal:
        """What a process that has closed the socket must have met."""
        try:
            code = self._started.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0
        if code == -signal.SIGALRM:
            return _too_long()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return LimitRefusal(f"makes Helm break off ({how}), as it does beyond {MEMORY >> 30} GiB of memory")


def _too_long() -> LimitRefusal:
    return LimitRefusal(f"takes longer than {SECONDS} seconds")


def unstarted(count: int) -> "queue.LifoQueue[_Process | None]":
    """Places for so many processes: who takes an empty one starts it. Last in, first out, so that few are started."""
    places: queue.LifoQueue[_Process | None] = queue.LifoQueue()
    for _ in range(count):
        places.put(None)
    return places


processes = unstarted(len(os.sched_getaffinity(0)))
