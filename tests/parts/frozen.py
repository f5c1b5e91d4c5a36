"""The frozen program, built once for each state of its sources, and frozen bundles for tests."""

from __future__ import annotations

import functools
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.release.freeze import freeze
from builder.release.program import build_program
from installer.frozen.header import PinnedKey
from installer.report import Silent
from tests.parts.bundles import reference_cargo, signing_key

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path.home() / ".cache" / "airferry" / "program"


@functools.cache
def enclave_program() -> Path:
    """The program without a bundle, as `airferry freeze` builds it, from the same cache."""
    return build_program(CACHE, Silent())


def frozen_bundle(folder: Path, out: Path) -> Path:
    """Freeze the reference bundle into `out`, with the test key pinned; returns the bundle's volume in `folder`."""
    (volume,) = reference_cargo(folder).write(folder, key=signing_key())
    freeze_volume(volume, out, "reference-1.0")
    return volume


def freeze_volume(volume: Path, out: Path, name: str) -> None:
    """Freeze the bundle `volume`, signed with the test key, into `out`."""
    key = PinnedKey.of(signing_key().public_pem().decode(), signing_key().public[0].fingerprint)
    freeze(enclave_program(), volume, out, name=name, keys=[key], reporter=Silent())


@contextmanager
def empty_root(folder: Path) -> Iterator[list[str]]:
    """Namespaces with nothing but loopback, in which `folder` is a root with /proc, /dev/null and /tmp.

    Yields what to put before a command to run it in these namespaces, still in the host's root: `chroot FOLDER` then
    goes into the empty one. All ends with the block.
    """
    for name in ("proc", "dev", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    (folder / "dev" / "null").touch()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    ready = [
        "set -e",
        "ip link set lo up",
        f"mount --rbind /proc '{folder}/proc'",
        f"mount --bind /dev/null '{folder}/dev/null'",
        "echo ready",
        "exec sleep infinity",
    ]
    keeper = subprocess.Popen(
        ["unshare", *user, "--net", "--mount", "sh", "-c", "\n".join(ready)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != "ready\n":
            raise RuntimeError("the namespaces could not be made")
        enter = ["--user", "--preserve-credentials"] if user else []
        yield ["nsenter", f"--target={keeper.pid}", *enter, "--net", "--mount", "--"]
    finally:
        keeper.kill()
        keeper.wait()
        if keeper.stdout is not None:
            keeper.stdout.close()
