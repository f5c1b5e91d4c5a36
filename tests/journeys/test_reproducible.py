"""The same lock gives the same files, whoever builds them where, signatures included."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.parts.programs import from_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried

SURROUNDINGS = {
    "plain": (0o022, {"LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "1"}),
    "odd": (0o077, {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "2"}),
}
COMMANDS = (
    ("build", "--threads", "{threads}"),
    ("sign", "demo-1.0.tar", "--key", "release.key", "--sidecar"),
    ("freeze", "demo-1.0.tar", "--key", "release.pub", "--file", "demo-installer"),
)


def files_made(folder: Path, carried: Carried, which: str) -> dict[str, tuple[str, int]]:
    """Digest and size of every file that the commands leave, run from the carried release's lock in `folder`."""
    umask, environment = SURROUNDINGS[which]
    folder.mkdir(parents=True)
    for name in ("airferry.lock", "recipe.yaml", "demo-platform-1.0.0.tgz", "release.key", "release.pub"):
        shutil.copy(carried.folder / name, folder)
        os.utime(folder / name, (umask, umask))
    airferry = from_source("builder", folder, **environment)
    before = os.umask(umask)
    try:
        for subcommand, *arguments in COMMANDS:
            airferry.result(subcommand, *(item.format(threads=1 if which == "plain" else 4) for item in arguments))
    finally:
        os.umask(before)
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size) for path in folder.iterdir()
    }


@pytest.mark.frozen
def test_two_machines_make_the_same_files(carried: Carried, tmp_path: Path) -> None:
    made = [
        files_made(tmp_path / "a", carried, "plain"),
        files_made(tmp_path / "a folder with spaces, and Ünïcödé" / "b", carried, "odd"),
    ]
    assert {"demo-1.0.tar", "demo-1.0.tar.sha256", "demo-installer"} <= made[0].keys()
    assert made[0] == made[1]
    assert made[0]["demo-1.0.tar"][0] == hashlib.sha256(carried.bundle.read_bytes()).hexdigest()


def test_a_second_lock_changes_nothing(carried: Carried, tmp_path: Path) -> None:
    shutil.copytree(carried.folder, tmp_path / "b", ignore=shutil.ignore_patterns("*.tar", "demo-installer"))
    before = (tmp_path / "b" / "airferry.lock").read_bytes()
    airferry = from_source("builder", tmp_path / "b", TZ="America/St_Johns", LANG="tr_TR.UTF-8")
    assert airferry.result("lock")["state"] == "unchanged"
    assert airferry.run("lock", "--check").returncode == 0
    assert (tmp_path / "b" / "airferry.lock").read_bytes() == before
