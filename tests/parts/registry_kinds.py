"""Registries of several kinds, and what is sent to any of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from installer.chart.relocation import Relocation
from installer.registry.client import Registry as Client
from installer.registry.transport import Transport
from installer.transfer.load import load
from tests.parts.bundles import open_bundle
from tests.parts.counted import Counted
from tests.parts.gitea import Gitea
from tests.parts.go_programs import go_program
from tests.parts.registry import DEBIAN_PROGRAM, Registry
from tests.parts.small_registries import CraneRegistry, MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from installer.transfer.load_result import LoadResult

REGISTRIES = ("debian", "v3", "crane")
FURTHER = ("memory", "gitea")
# Layers that stay at their vendor, and entries of an index that are not there: by default both are refused.
_WILLING = {"validation": {"manifests": {"urls": {"allow": ["^https?://"]}, "indexes": {"platforms": "none"}}}}


@contextlib.contextmanager
def running(kind: str, folder: Path, *, prefix: Sequence[str] = ()) -> Iterator[str]:
    """A fresh registry of a kind; its address. Those of `FURTHER` run without a prefix."""
    if kind == "crane":
        with CraneRegistry(folder, prefix=prefix) as crane:
            yield crane.address
    elif kind == "memory":
        with MemoryRegistry(folder) as memory:
            yield memory.address
    elif kind == "gitea":
        with Gitea(folder) as gitea:
            yield gitea.address
    else:
        program = DEBIAN_PROGRAM if kind == "debian" else go_program("registry")
        with Registry(folder, program=program, prefix=prefix, settings=_WILLING) as registry:
            yield registry.address


def bring(
    volume: Path, address: str, project: str = "site", sleep: Callable[[float], None] = lambda _: None
) -> LoadResult:
    """Load a bundle of one volume; unless `sleep` says otherwise, pauses take no time."""
    client = Client(Transport(sleep=sleep))
    with open_bundle([volume]) as bundle:
        images = frozenset(image.reference for image in bundle.manifest.images)
        return load(bundle, client, Relocation(address, project, images), Counted())


def slices(view: memoryview) -> Callable[[int], Iterator[memoryview]]:
    """The content of a blob for an upload, from any position on."""
    return lambda position: (view[start : start + (4 << 20)] for start in range(position, len(view), 4 << 20))
