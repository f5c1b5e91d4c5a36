"""The registry that `crane registry serve` is: go-containerregistry's own, in memory or in a folder.

A third implementation beside the two versions of the distribution project: it does not continue uploads, mounts
nothing, and holds each blob for all repositories.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from tests.parts import process
from tests.parts.go_programs import go_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START_SECONDS = 20.0
_PORT = re.compile(r"serving on port (\d+)")


class CraneRegistry:
    """A process of its own within `with`; `storage` is where blobs lie. `prefix` is put before the command."""

    def __init__(self, folder: Path, *, prefix: Sequence[str] = ()) -> None:
        self.storage, self._log = folder / "storage", folder / "log.txt"
        self._prefix = prefix
        self.address = ""

    def __enter__(self) -> Self:
        self.storage.mkdir(parents=True, exist_ok=True)
        command = [str(go_program("crane")), "registry", "serve", "--address", "127.0.0.1:0", "--disk"]
        self._process = process.start([*self._prefix, *command, str(self.storage)], stdout=self._log, env={})
        found: list[str] = []

        def settled() -> bool:
            found[:] = _PORT.findall(self._log.read_text())
            return bool(found) or self._process.gone()

        if not process.wait_until(settled, START_SECONDS) or not found:
            self._process.end()
            raise RuntimeError(f"crane's registry did not start: {self._log.read_text()[-2000:]}")
        self.address = f"127.0.0.1:{found[0]}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.end()
