"""A volume that is lost is rebuilt on site from PAR2 files: by the installer, and by the tool of any Linux."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from builder.release.sign import _fill
from installer.bundle.limits import MINISIG, SIGNATURE, UNSIGNED
from tests.parts.bad_sectors import with_bad_sectors
from tests.parts.mounted import iso_image, mounted_iso
from tests.parts.programs import Program, from_source, on_tmpfs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.journeys.conftest import Carried, Volumes


@pytest.fixture(scope="module")
def parity(volumes: Volumes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the PAR2 files for one lost volume."""
    folder = tmp_path_factory.mktemp("parity")
    made = volumes.airferry.result("parity", volumes.folder, "-o", folder)
    assert {item["file"] for item in made["files"]} == {str(path) for path in folder.iterdir()}
    assert sorted(path.name for path in folder.iterdir()) == ["demo-1-0.par2", "demo-1-0.vol00+64.par2"]
    largest = max(file.stat().st_size for file in volumes.files)
    assert sum(item["bytes"] for item in made["files"]) < 1.1 * largest
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with room."""
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def installer(carried: Carried, tmp_path: Path) -> Program:
    """The enclave's program."""
    return from_source("installer", tmp_path, "--key", carried.key)


def shelf(files: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return folder


def test_a_lost_volume_is_rebuilt(
    volumes: Volumes, parity: Path, installer: Program, site: Path, tmp_path: Path
) -> None:
    """From discs that cannot be written to; then nothing is missing."""
    lost = volumes.files[1]
    others = [file for file in volumes.files if file != lost]
    burnt = iso_image(tmp_path / "disc.iso", shelf([*others, *parity.iterdir()], tmp_path / "burn"), "DISCS")
    with mounted_iso(burnt, tmp_path / "disc") as disc:
        bundle = ("--bundle", disc)
        assert installer.run("verify", *bundle).returncode == 12
        (site / ".demo-1-0.repair").mkdir()
        (site / ".demo-1-0.repair" / lost.name).write_text("what a killed run has left")
        done = installer.run("repair", disc, *bundle, "--out", site)
        assert (done.returncode, done.stdout) == (0, f"{site / lost.name}: rebuilt, genuine and whole\n"), done.stderr
        assert [path.name for path in site.iterdir()] == [lost.name]
        assert (site / lost.name).read_bytes() == lost.read_bytes()
        both = ("--bundle", site, *bundle)
        assert installer.result("verify", *both)["missing_volumes"] == []
        assert installer.result("repair", disc, *both, "--out", site) == {"files": []}


def test_a_folder_that_is_not_there_is_refused_before_anything_is_read(
    volumes: Volumes, parity: Path, installer: Program, tmp_path: Path
) -> None:
    shelf(volumes.files[2:], tmp_path / "discs")
    done = installer.run("repair", parity, "--bundle", tmp_path / "discs", "--out", tmp_path / "none")
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            f"error: {tmp_path / 'none'}: no such folder",
            "next: make it, on a disk with room for the rebuilt volumes.",
        ],
    )


@pytest.mark.frozen
def test_the_frozen_file_repairs(carried: Carried, volumes: Volumes, parity: Path, site: Path, tmp_path: Path) -> None:
    """It brings PAR2 along; the volume that it carries takes part."""
    carried.airferry.result("freeze", volumes.folder, "--key", carried.key, "-o", tmp_path / "installer")
    shelf(volumes.files[2:], tmp_path / "discs")
    frozen = Program((str(tmp_path / "installer"),), tmp_path, environment={"PATH": ""})
    discs = ("--bundle", tmp_path / "discs")
    assert frozen.result("repair", parity, *discs, "--out", site)["files"] == [str(site / volumes.files[1].name)]
    assert (site / volumes.files[1].name).read_bytes() == volumes.files[1].read_bytes()
    assert frozen.result("verify", "--bundle", site, *discs)["verified"]


def test_the_tool_of_any_linux(volumes: Volumes, parity: Path, tmp_path: Path) -> None:
    """Debian's par2, with the files as they were carried."""
    folder = shelf([*volumes.files[1:], *parity.iterdir()], tmp_path / "folder")
    command = ["par2", "repair", "-q", "demo-1-0.par2"]
    subprocess.run(command, cwd=folder, env={"PATH": "/usr/bin"}, check=True, stdout=subprocess.DEVNULL)
    assert (folder / volumes.files[0].name).read_bytes() == volumes.files[0].read_bytes()


def test_damage_is_mended_and_too_much_is_told(
    volumes: Volumes, parity: Path, installer: Program, site: Path, tmp_path: Path
) -> None:
    """Two volumes that are damaged in places are rebuilt; one lost and one unreadable are too much for this parity."""
    folder = shelf(volumes.files, tmp_path / "shelf")
    bundle = ("--bundle", folder)
    for file in volumes.files[1:3]:
        with (folder / file.name).open("r+b") as copy:
            copy.seek(-3000, 2)
            copy.write(b"?" * 100)
    small = on_tmpfs(installer, tmp_path / "small", "size=6m")
    done = small.run("repair", parity, *bundle, "--out", tmp_path / "small")
    assert (done.returncode, "are needed there" in done.stderr) == (50, True), done.stderr
    found = installer.result("repair", parity / "demo-1-0.par2", *bundle, "--out", site)
    assert found["files"] == [str(site / file.name) for file in volumes.files[1:3]]
    assert installer.result("verify", "--bundle", site, *bundle)["verified"]
    done = installer.run("repair", parity, *bundle, "--out", site)
    assert (done.returncode, "is there already" in done.stderr) == (2, True), done.stderr

    (folder / volumes.files[0].name).unlink()
    first = folder / volumes.files[1].name
    worn = with_bad_sectors(installer, tmp_path, first, 1 << 20, (1 << 20) + 4096)
    (tmp_path / "empty").mkdir()
    done = worn.run("repair", parity, *bundle, "--out", tmp_path / "empty")
    assert (done.returncode, "verify --request FILE" in done.stderr) == (10, True), done.stderr
    assert "more recovery blocks" in done.stderr
    assert not list((tmp_path / "empty").iterdir())


def test_parity_comes_after_the_signature(carried: Carried, volumes: Volumes, site: Path, tmp_path: Path) -> None:
    """Before, it is refused; and told on site, should it have been asked for all the same."""
    folder = shelf(volumes.files, tmp_path / "shelf")
    unsigned = carried.airferry.run("parity", *strip(folder))
    assert (unsigned.returncode, "sign first" in unsigned.stderr) == (2, True), unsigned.stderr
    carried.airferry.result("parity", folder, "--unsigned", "--redundancy", "30")
    signing = carried.airferry.run("sign", folder, "--key", "release.key")
    assert (signing.returncode, "`airferry parity`" in signing.stderr) == (0, True), signing.stderr
    (folder / volumes.files[1].name).unlink()
    installer = from_source("installer", tmp_path, "--key", carried.key, "--bundle", folder)
    done = installer.run("repair", folder, "--out", site)
    assert (done.returncode, "before the volumes were signed" in done.stderr) == (10, True), done.stderr
    assert carried.airferry.run("parity", *volumes.files, "--volumes", "9").returncode == 2
    (tmp_path / "elsewhere").mkdir()
    (folder / volumes.files[0].name).rename(tmp_path / "elsewhere" / volumes.files[0].name)
    shutil.copyfile(volumes.files[1], folder / volumes.files[1].name)
    apart = carried.airferry.run("parity", folder, tmp_path / "elsewhere")
    assert (apart.returncode, "all volumes in one folder" in apart.stderr) == (2, True), apart.stderr


def strip(folder: Path) -> list[Path]:
    """Take the signatures out of volumes."""
    files = sorted(folder.glob("*.tar"))
    for file in files:
        for slot in (SIGNATURE, MINISIG):
            _fill(file, slot, UNSIGNED)
    return files
