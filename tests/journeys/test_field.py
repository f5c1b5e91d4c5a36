"""The frozen program in the field: media are lost, doubled, mixed up, cut short, worn, pulled out; each is mended."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.parts.bad_sectors import pulled_out, with_bad_sectors
from tests.parts.drive import Drive
from tests.parts.mounted import fat_image, iso_image, mounted_fat, mounted_iso
from tests.parts.programs import Program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.journeys.conftest import Carried, Volumes
    from tests.parts.registry import Registry

pytestmark = pytest.mark.frozen


@pytest.fixture(scope="module")
def program(carried: Carried, volumes: Volumes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frozen without a volume."""
    path = tmp_path_factory.mktemp("field") / "installer"
    carried.airferry.result("freeze", volumes.folder, "--key", carried.key, "-o", path, "--beside")
    return path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Where media are mounted."""
    (tmp_path / "media").mkdir()
    return tmp_path / "media"


@pytest.fixture
def installer(program: Path, media: Path, tmp_path: Path) -> Program:
    """The program, which looks for volumes on the media."""
    return Program((str(program),), tmp_path, ("--bundle", str(media)))


def copy(files: Sequence[Path], folder: Path) -> list[Path]:
    return [folder / shutil.copyfile(file, folder / file.name).name for file in files]


def test_a_stick_and_a_disc(
    volumes: Volumes, installer: Program, media: Path, enclave: Registry, tmp_path: Path
) -> None:
    """Mounted read-only, in whatever order."""
    stick = fat_image(tmp_path / "stick.img", 40, "STICK")
    with mounted_fat(stick, media / "a", writable=True) as folder:
        copy(volumes.files[2:], folder)
    (tmp_path / "burn").mkdir()
    copy(volumes.files[:2], tmp_path / "burn")
    disc = iso_image(tmp_path / "disc.iso", tmp_path / "burn", "DISC")
    with mounted_fat(stick, media / "a"), mounted_iso(disc, media / "b"):
        assert installer.result("verify")["verified"]
        assert installer.result("load", "--registry", enclave.address)["left_out"] == {}


def test_one_drive_and_a_damaged_disc(
    volumes: Volumes, installer: Program, media: Path, enclave: Registry, tmp_path: Path
) -> None:
    """All discs are looked at before the request; with the patch on the disk, each is asked for once at most."""
    (tmp_path / "discs").mkdir()
    discs = copy(volumes.files, tmp_path / "discs")
    with discs[1].open("r+b") as file:
        file.seek(discs[1].stat().st_size // 2)
        file.write(b"?" * 1000)
    to = ("--registry", enclave.address)
    drive = Drive(media, discs)
    drive.insert(1)
    done = drive.run(installer, "verify", "--request", tmp_path / "request.json")
    assert (done.returncode, drive.inserted) == (10, list(range(1, len(discs) + 1))), done.stderr
    patch = tmp_path / "patch.tar"
    answered = volumes.airferry.result(
        "patch", volumes.folder, "--request", tmp_path / "request.json", "-o", patch, "--quiet"
    )
    assert answered["chunks"] == 1
    drive = Drive(media, discs)
    drive.insert(1)
    done = drive.run(installer, "load", *to, "--bundle", patch)
    assert done.returncode == 0, done.stderr
    # Disc 2 holds one chunk of the cut layer, and nothing else.
    assert drive.inserted == [number for number in range(1, len(discs) + 1) if number != 2]


def test_all_that_can_happen_to_volumes_at_once(
    carried: Carried, volumes: Volumes, installer: Program, media: Path, enclave: Registry, tmp_path: Path
) -> None:
    """One is there twice, one is of another bundle, one is worn, one cut short, one missing: one request, one patch."""
    count = len(volumes.files)
    first, worn, short = copy(volumes.files[:3], media)
    shutil.copyfile(first, media / "zz-copy.tar")
    shutil.copyfile(carried.bundle, media / "zz-foreign.tar")
    short.write_bytes(short.read_bytes()[:-5000])
    place = worn.stat().st_size // 2
    damaged = with_bad_sectors(installer, tmp_path, worn, place, place + 4096)
    request, patch = tmp_path / "request.json", media / "patch.tar"
    # What is named as a file says which bundle is meant.
    done = damaged.run("verify", "--bundle", first, "--request", request)
    assert done.returncode == 10, done.stderr
    for said in (
        "zz-copy.tar: the same volume as",
        "zz-foreign.tar: a volume of another bundle",
        f"{short.name}: {short.stat().st_size} bytes, but this volume has",
        f"{worn}: cannot read at byte",
    ):
        assert said in done.stderr, done.stderr
    assert damaged.run("load", "--bundle", first, "--registry", enclave.address).returncode in (12, 50)
    answered = volumes.airferry.run("patch", volumes.folder, "--request", request, "-o", patch)
    assert answered.returncode == 0, answered.stderr
    assert "all of volume 3 is wanted" in answered.stderr
    assert ("all of volume 4 is wanted" in answered.stderr) == (count > 3)
    assert damaged.result("verify", "--bundle", first)["verified"]
    assert damaged.result("load", "--bundle", first, "--registry", enclave.address)["left_out"] == {}


@pytest.mark.parametrize("command", ["verify", "load"])
def test_a_medium_is_pulled_out_and_put_back(
    volumes: Volumes, installer: Program, media: Path, enclave: Registry, tmp_path: Path, command: str
) -> None:
    """That is no damage: it is said what to put back, and the next run goes on."""
    files = copy(volumes.files, media)
    place = files[1].stat().st_size // 2
    to = ["--registry", enclave.address] if command == "load" else []
    done = pulled_out(installer, tmp_path, files[1], place).run(command, *to)
    assert (done.returncode, f"{files[1]}: was taken away" in done.stderr) == (12, True), done.stderr
    assert "next: put its medium back" in done.stderr
    assert not files[1].exists()
    copy([volumes.files[1]], media)
    installer.result(command, *to)
