"""A closed place for processes: a network namespace without a way out, a mount namespace, control groups.

Everything started in it carries a mark in its environment, so that it can be found again without any record that
a crash might have kept from being written. Nothing here changes the host's own network, mounts or kernel settings.

The mount namespace lives as long as a process in it; the first one, the keeper, does nothing else. Mounts made inside
are invisible outside and vanish with the namespace.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import process
from tests.parts.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CGROUPS = Path("/sys/fs/cgroup")
CGROUP2_CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")
MARK = "AIRFERRY_CONFINED_IN"
PART = "AIRFERRY_CONFINED_AS"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEEPER = "keeper"


class Confinement:
    """The namespaces and control groups that belong to the folder `folder`; several can exist side by side.

    `address` is reached from everywhere inside, `services` are the addresses that kube-proxy leads elsewhere.
    """

    def __init__(self, folder: Path, address: str, services: str) -> None:
        self.folder = folder.resolve()
        self.address, self.services = address, services
        self.name = "enclave-" + hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        self.network = Path("/run/netns", self.name)

    @property
    def network_prefix(self) -> list[str]:
        """Put before a command, it lets the command run in the network namespace.

        Not `ip netns exec`: that mounts another /sys, in which there are no control groups.
        """
        return ["nsenter", f"--net={self.network}", "--"]

    def create(self, overlays: Mapping[Path, Path]) -> None:
        """Make the namespaces and control groups.

        In the mount namespace each path of `overlays` shows the file or folder that it maps to.
        """
        ip = ["ip", "-n", self.name]
        _run("ip", "netns", "add", self.name)
        _run(*ip, "link", "set", "lo", "up")
        # A bridge without members is an address that everything inside can reach and that leads nowhere else.
        _run(*ip, "link", "add", "home", "type", "bridge")
        _run(*ip, "address", "add", f"{self.address}/32", "dev", "home")
        _run(*ip, "link", "set", "home", "up")
        # Who asks a service from outside of the pods, as the API server asks webhooks, needs a way to set out on.
        _run(*ip, "route", "add", self.services, "dev", "home")
        self._create_cgroups()
        self._create_mounts(overlays)

    def start(self, part: str, command: Sequence[str], log: Path) -> Process:
        """Start a server in the confinement under the name `part`, its output appended to `log`."""
        return process.start([*self.full_prefix(), *command], stdout=log, env=self.environment(part), cwd=Path("/"))

    def environment(self, part: str) -> dict[str, str]:
        """The whole environment of a confined process, its mark included; Go's collector takes memory for time."""
        return {"PATH": SEARCH_PATH, "HOME": "/root", "GOGC": "400", MARK: str(self.folder), PART: part}

    def full_prefix(self) -> list[str]:
        """Put before a command, it lets the command run in both namespaces. Raises RuntimeError without a keeper."""
        keeper = self.parts().get(KEEPER)
        if keeper is None:
            raise RuntimeError(f"nothing keeps the namespaces of {self.folder} open")
        return ["nsenter", f"--target={keeper.pid}", "--mount", "--net", "--"]

    def parts(self) -> dict[str, Process]:
        """The servers that run, by the name they were started under."""
        # Children inherit the mark; the server itself is the oldest process that has it, so it comes last here.
        youngest_first = sorted(self._marked(), key=lambda marked: (marked[0].started, marked[0].pid), reverse=True)
        return {environment[PART]: found for found, environment in youngest_first if PART in environment}

    def remove(self, order: Sequence[str] = ()) -> None:
        """End everything inside and remove namespaces and control groups; nothing happens where there is nothing.

        The servers named by `order` are ended first and one after the other, the rest (what they started, too)
        after them, and the keeper last.
        """
        for part in order:
            if server := self.parts().get(part):
                server.end()
        self._end_cgroups()
        _end_all([found for found, environment in self._marked() if environment.get(PART) != KEEPER])
        _end_all([found for found, _ in self._marked()])
        self._remove_cgroups()
        if self.network.exists():
            _run("ip", "netns", "delete", self.name)

    def exists(self) -> bool:
        """Whether there is anything to remove."""
        return self.network.exists() or bool(self._marked()) or any(path.exists() for path in self._cgroups())

    def _create_mounts(self, overlays: Mapping[Path, Path]) -> None:
        ready = self.folder / "keeper.ready"
        ready.unlink(missing_ok=True)
        lines = ["set -e", "mount --make-rshared /"]
        for path, source in overlays.items():
            if source.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            lines.append(f"mount --bind '{source}' '{path}'")
        lines += [f"touch '{ready}'", "exec sleep infinity"]
        keep = [*self.network_prefix, "unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(lines)]
        log = self.folder / "logs" / "keeper.log"
        keeper = process.start(keep, stdout=log, env=self.environment(KEEPER), cwd=Path("/"))
        if not process.wait_until(lambda: ready.exists() or keeper.gone(), 10) or not ready.exists():
            raise RuntimeError(f"the mount namespace could not be made: {log.read_text()}")

    def _cgroups(self) -> list[Path]:
        """Our group in each hierarchy: one with version 2, one a controller with version 1."""
        if CGROUP2_CONTROLLERS.exists():
            return [CGROUPS / self.name]
        if not CGROUPS.is_dir():
            return []
        return [
            folder / self.name for folder in sorted(CGROUPS.iterdir()) if folder.is_dir() and not folder.is_symlink()
        ]

    def _create_cgroups(self) -> None:
        if CGROUP2_CONTROLLERS.exists():
            # A group gets the controllers that its parent hands down.
            for controller in CGROUP2_CONTROLLERS.read_text().split():
                with contextlib.suppress(OSError):
                    (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
        for path in self._cgroups():
            path.mkdir(exist_ok=True)

    def _end_cgroups(self) -> None:
        """Kill what runs in our groups (the containers); new processes may appear while we look."""
        deadline = time.monotonic() + 20
        while found := self._cgroup_members():
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of {self.name} do not end: {found}")
            for member in found:
                member.send(signal.SIGKILL)
            time.sleep(process.POLL_SECONDS)

    def _cgroup_members(self) -> set[Process]:
        members: set[Process] = set()
        for path in self._cgroups():
            # Unlike `rglob`, this takes no offence at folders that vanish meanwhile.
            for folder, _, _ in os.walk(path):
                with contextlib.suppress(OSError):
                    listing = Path(folder, "cgroup.procs").read_text()
                    found = (Process.of(int(line)) for line in listing.split())
                    members |= {member for member in found if member is not None}
        return members

    def _remove_cgroups(self) -> None:
        for path in self._cgroups():
            # The deepest first; the files in a group are no obstacle.
            for group, _, _ in os.walk(path, topdown=False):
                _remove_cgroup(Path(group))

    def _marked(self) -> list[tuple[Process, dict[str, str]]]:
        """All processes with our mark, each with its environment."""
        wanted = f"{MARK}={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                candidate = Process.of(int(entry.name))
                if wanted in variables and candidate is not None:
                    pairs = (os.fsdecode(variable).partition("=") for variable in variables)
                    found.append((candidate, {name: value for name, _, value in pairs}))
        return found


def _end_all(processes: Sequence[Process], grace: float = 5.0) -> None:
    """TERM to all at once, KILL to those that remain."""
    for each in processes:
        each.send(signal.SIGTERM)
    process.wait_until(lambda: all(each.gone() for each in processes), grace)
    for each in processes:
        each.end(grace=0)


def _remove_cgroup(group: Path) -> None:
    """Remove one group; the kernel may need a moment after its last process has ended."""

    def removed() -> bool:
        try:
            group.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    if not process.wait_until(removed, 5):
        raise RuntimeError(f"cannot remove the control group {group}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
