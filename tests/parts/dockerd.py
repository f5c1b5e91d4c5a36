"""A real container engine: Debian's dockerd, with a socket and folders of its own and without any network.

with Dockerd(folder) as engine:
    engine.docker("load", "--input", "image.tar")
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import process

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS = 60.0


class Dockerd:
    """An engine that starts in `start` or `with` and ends in `stop`; it needs root. `folder` gets all it writes.

    The path of `folder` must be short: that of a socket has at most 107 bytes (unix(7)).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "dockerd.log"
        self.process: process.Process | None = None

    @property
    def url(self) -> str:
        """What DOCKER_HOST is set to."""
        return f"unix://{self.folder / 'docker.sock'}"

    def start(self) -> Dockerd:
        """Start and return when it answers. Raises RuntimeError with the end of its log when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = process.start(
            [
                "dockerd",
                f"--host={self.url}",
                f"--data-root={self.folder / 'data'}",
                f"--exec-root={self.folder / 'exec'}",
                f"--pidfile={self.folder / 'dockerd.pid'}",
                "--iptables=false",
                "--bridge=none",
                # Works on every file system, also inside a container.
                "--storage-driver=vfs",
            ],
            stdout=self.log,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        if not process.wait_until(lambda: self._answers() or self._gone(), START_SECONDS) or self._gone():
            self.stop()
            raise RuntimeError(f"dockerd did not start: {self.log.read_text()[-2000:]}")
        return self

    def docker(self, *arguments: str | Path) -> str:
        """Standard output of docker's own client. Raises CalledProcessError."""
        env = {"PATH": os.defpath, "HOME": str(self.folder), "DOCKER_HOST": self.url}
        done = subprocess.run(["docker", *arguments], env=env, check=True, capture_output=True, text=True)
        return done.stdout

    def stop(self) -> None:
        """End the engine, which ends its own containerd; nothing happens when it does not run."""
        if self.process is not None:
            self.process.end(grace=30.0)
            self.process = None
        # Where mounts are private, as under a changed root, the engine binds its folder to itself and leaves it so.
        for mount in Path("/proc/self/mounts").read_text().splitlines():
            place = mount.split()[1]
            if Path(place).is_relative_to(self.folder):
                subprocess.run(["umount", "--lazy", place], check=True)

    def _answers(self) -> bool:
        try:
            self.docker("version")
        except subprocess.CalledProcessError:
            return False
        return True

    def _gone(self) -> bool:
        return self.process is None or self.process.gone()

    def __enter__(self) -> Dockerd:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
