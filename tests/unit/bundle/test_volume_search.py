"""Volumes are found by what they are, wherever and under whatever name they lie."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from installer.errors import IncompleteError, UsageError
from installer.opening.media_prompt import AskPerson
from installer.opening.volume_discovery import DEPTH, expand, volumes_in
from installer.opening.volume_search import VolumeSearch
from tests.parts.bundles import trust

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


@pytest.fixture
def folder(volumes: tuple[Path, ...], tmp_path: Path) -> Path:
    """A folder with the three volumes, whose name is a part of a message."""
    found = tmp_path / "a volume of another bundle"
    found.mkdir()
    for path in volumes:
        shutil.copyfile(path, found / path.name)
    return found


def test_a_damaged_volume_is_no_other_bundle(folder: Path, volumes: tuple[Path, ...]) -> None:
    """Errors are told apart by their class: the same words may stand in a path."""
    last = folder / volumes[2].name
    os.truncate(last, last.stat().st_size - 1024)
    said: list[str] = []
    with VolumeSearch.of([folder], None, None, said.append).open(trust()) as bundle:
        assert bundle.volumes.missing == {2}
    (remark,) = said
    assert f"{last}: " in remark


def test_two_bundles_in_one_folder(folder: Path, volume: Path) -> None:
    shutil.copyfile(volume, folder / "zzz.tar")
    with pytest.raises(UsageError, match="are of different bundles"):
        VolumeSearch.of([folder], None, None, lambda _: None).open(trust())


def test_a_person_changes_media(folder: Path, volumes: tuple[Path, ...]) -> None:
    """Files are closed while the person is asked, and again until a volume comes that is wanted, or there is none."""
    first, *others = [folder / path.name for path in volumes]
    aside = [path.rename(folder.parent / path.name) for path in others]
    asked: list[str] = []

    def ask(text: str) -> bool:
        asked.append(text)
        assert not bundle.volumes.files
        first.unlink(missing_ok=True)
        if len(asked) == 3:
            return False
        aside.pop(0).rename(others[len(asked) - 1])
        return True

    search = VolumeSearch.of([folder], None, None, lambda _: None)
    with search.open(trust(), AskPerson(search, ask)) as bundle:
        bundle.require({2}, "it holds a chart")
        assert bundle.volumes.at_hand == {1, 2}
        with pytest.raises(IncompleteError, match="volume 1 of 3"):
            bundle.require({0}, "not verified yet")
    name = bundle.volumes.file_name(2)
    assert asked[:2] == [f"volume 3 of 3 is needed next ({name}): it holds a chart"] * 2
    assert asked[2].endswith("not verified yet")
