"""A real containerd with a socket and folders of its own, as cluster nodes run it; no containers, images only."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts import process

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS = 30.0
CONFIGURATION = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
address = "{folder}/c.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"
"""


class Containerd:
    """A containerd that starts in `start` or `with` and ends in `stop`; it needs root. `folder` gets all it writes.

    `programs` is where `containerd` and `ctr` are. What one of its namespaces holds, another one does not have yet. The
    path of `folder` must be short: that of a socket has at most 107 bytes (unix(7)).
    """

    def __init__(self, folder: Path, programs: Path = Path("/usr/bin")) -> None:
        self.folder, self.programs = folder, programs
        self.name = folder.name
        self.log = folder / "containerd.log"
        self.socket = folder / "c.sock"
        self.process: process.Process | None = None

    def start(self) -> Containerd:
        """Start and return when it answers. Raises RuntimeError with the end of its log when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "config.toml"
        configuration.write_text(CONFIGURATION.format(folder=self.folder))
        self.process = process.start(
            [str(self.programs / "containerd"), "--config", str(configuration)], stdout=self.log
        )
        if not process.wait_until(lambda: self._answers() or self._gone(), START_SECONDS) or self._gone():
            self.stop()
            raise RuntimeError(f"containerd did not start: {self.log.read_text()[-2000:]}")
        return self

    def ctr(self, *arguments: str | Path) -> bytes:
        """Standard output of containerd's own client. Raises CalledProcessError."""
        command = [self.programs / "ctr", "--address", self.socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def _answers(self) -> bool:
        try:
            self.ctr("version")
        except subprocess.CalledProcessError:
            return False
        return True

    def _gone(self) -> bool:
        return self.process is None or self.process.gone()

    def __enter__(self) -> Containerd:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
