"""Who changes an installation: a person at a host, and the process that does it."""

import os
import pwd
from pathlib import Path

from installer.value import Value

_PROC = Path("/proc")


class Holder(Value):
    """`name` is for people (`user@host`); `mark` tells this process from all others, on any host at any time."""

    name: str
    mark: str

    @classmethod
    def this_process(cls) -> "Holder":
        """The process that runs this."""
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            # Users of a directory service are unknown to a program that brings its own C library.
            user = str(os.getuid())
        pid = os.getpid()
        return cls(f"{user}@{os.uname().nodename}", f"{_machine()} {pid} {_start(pid)}")


def has_ended(mark: str) -> bool:
    """Whether the process that `mark` means is certainly gone; False where that cannot be known from here."""
    *machine, pid, start = mark.split(" ")
    if " ".join(machine) != _machine() or not pid.isdigit():
        return False
    return _start(int(pid)) != start


def _machine() -> str:
    """This boot of this machine and, since containers count processes anew, the process namespace."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"


def _start(pid: int) -> str:
    """When a process started, in the kernel's ticks (proc(5), field 22 of stat); empty if it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The program's name, in parentheses, may hold anything.
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
