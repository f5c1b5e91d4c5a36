"""One drive for discs, and the person in front of it: a folder that holds one volume, and a terminal that asks."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.parts.programs import Program

SECONDS = 60
_ASKED = re.compile(rb"volume (\d+) of \d+ is needed next.*?press Enter when it is there, or type none: ", re.DOTALL)


@dataclass
class Drive:
    """`folder` holds at most one of `discs`; those with the numbers `lost`, from 1, are nowhere to be found.

    `inserted` are the numbers of what was put in so far.
    """

    folder: Path
    discs: Sequence[Path]
    lost: frozenset[int] = frozenset()
    inserted: list[int] = field(default_factory=list)
    said: bytes = b""

    def insert(self, number: int) -> None:
        """Take out what is there and put in disc `number` (from 1)."""
        for path in self.folder.iterdir():
            path.unlink()
        disc = self.discs[number - 1]
        shutil.copyfile(disc, self.folder / disc.name)
        (self.folder / disc.name).chmod(0o444)
        self.inserted.append(number)

    def run(self, program: Program, subcommand: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command on a terminal of its own, changing discs as it asks for them."""
        self.said = b""
        master, slave = pty.openpty()
        with subprocess.Popen(
            program.arguments(subcommand, *arguments),
            cwd=program.folder,
            env={**program.surroundings(), "TERM": "dumb"},
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            start_new_session=True,
        ) as running:
            os.close(slave)
            try:
                self._serve(running, master)
                out = running.stdout.read() if running.stdout else ""
            finally:
                running.kill()
                os.close(master)
        return subprocess.CompletedProcess(running.args, running.wait(), out, self.said.decode("utf-8", "replace"))

    def _serve(self, running: subprocess.Popen[str], master: int) -> None:
        """Until the program closes its terminal, do what it asks for."""
        asked, end = 0, time.monotonic() + SECONDS
        said = select.poll()  # not `select.select`, which knows the first thousand files of a process only
        said.register(master, select.POLLIN)
        while time.monotonic() < end:
            if not said.poll(200):
                continue
            try:
                self.said += os.read(master, 65536)
            except OSError:  # nobody has the other end open any more
                return
            requests = _ASKED.findall(self.said)
            if len(requests) > asked:
                asked += 1
                assert not self._in_use(running.pid), "the drive cannot be opened"
                wanted = int(requests[-1])
                if wanted not in self.lost:
                    self.insert(wanted)
                os.write(master, b"none\n" if wanted in self.lost else b"\n")
        raise AssertionError(f"still running: {self.said!r}")

    def _in_use(self, pid: int) -> list[str]:
        """Open files of a process that lie in the drive."""
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        return [target for target in links if target.startswith(str(self.folder))]
