"""Volumes are found by what they are, wherever and under whatever name they lie."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from installer.errors import UsageError
from installer.opening.volume_discovery import DEPTH, expand, volumes_in

if TYPE_CHECKING:
    from pathlib import Path


def test_by_content(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcd"[:DEPTH])
    deep.mkdir(parents=True)
    (deep / "too" / "deep").mkdir(parents=True)
    shutil.copyfile(volumes[0], tmp_path / "NAME.ISO")
    shutil.copyfile(volumes[1], deep / "2")
    shutil.copyfile(volumes[2], deep / "too" / "3.tar")
    (tmp_path / "empty.tar").touch()
    (tmp_path / "part.tar.part").write_bytes(bytes(4096))
    (tmp_path / "gone").symlink_to("nowhere")
    assert volumes_in(tmp_path) == [tmp_path / "NAME.ISO", deep / "2"]
    assert volumes_in(tmp_path, 0) == [tmp_path / "NAME.ISO"]
    assert expand([volumes[2], tmp_path]) == [volumes[2], tmp_path / "NAME.ISO", deep / "2"]


def test_a_folder_without_volumes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no volume"):
        expand([tmp_path])


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "worn.tar").symlink_to("/proc/self/mem")  # a regular file whose first bytes cannot be read
    said: list[str] = []
    assert volumes_in(tmp_path, remark=said.append) == []
    assert len(said) == 1
    assert "worn.tar: cannot read: Input/output error" in said[0]
