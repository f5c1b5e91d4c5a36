"""Small registries that say on which port they listen.

`crane registry serve` is go-containerregistry's own: it does not continue uploads, mounts nothing, and holds each blob
for all repositories. That of the project CUE is in memory: it checks most of what the specifications say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from tests.parts import process
from tests.parts.go_programs import go_program, memory_registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START_SECONDS = 20.0
_PORT = re.compile(r"serving on port (\d+)")


class SmallRegistry:
    """A process of its own within `with`, which `command` starts; `folder` takes what it says."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self._folder, self._command = folder, command
        self._log = folder / "log.txt"
        self.address = ""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = process.start(self._command, stdout=self._log, env={})
        found: list[str] = []

        def settled() -> bool:
            found[:] = _PORT.findall(self._log.read_text())
            return bool(found) or self._process.gone()

        if not process.wait_until(settled, START_SECONDS) or not found:
            self._process.end()
            raise RuntimeError(f"{self._command[0]} did not start: {self._log.read_text()[-2000:]}")
        self.address = f"127.0.0.1:{found[0]}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.end()


class CraneRegistry(SmallRegistry):
    """crane's; `storage` is where blobs lie. `prefix` is put before the command."""

    def __init__(self, folder: Path, *, prefix: Sequence[str] = ()) -> None:
        self.storage = folder / "storage"
        command = [str(go_program("crane")), "registry", "serve", "--address", "127.0.0.1:0", "--disk"]
        super().__init__(folder, [*prefix, *command, str(self.storage)])

    def __enter__(self) -> Self:
        self.storage.mkdir(parents=True, exist_ok=True)
        return super().__enter__()


class MemoryRegistry(SmallRegistry):
    """CUE's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [str(memory_registry())])
