"""What carriers do: write onto sticks, prove it, and read from sticks and discs in place."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.parts.mounted import fat_image, iso_image, mounted_fat, mounted_iso
from tests.parts.programs import from_source, on_tmpfs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried, Volumes
    from tests.parts.registry import Registry


def test_two_sticks(carried: Carried, volumes: Volumes, tmp_path: Path, enclave: Registry) -> None:
    """`sha256sum -c` agrees with what was written, and the installer loads from both sticks, read-only."""
    images = [fat_image(tmp_path / f"{name}.img", 40, name) for name in ("STICK-A", "STICK-B")]
    halves = volumes.files[:2], volumes.files[2:]
    written, again = [], []
    for image, files, name in zip(images, halves, "ab", strict=True):
        command = ("write", tmp_path / name, *(word for file in files for word in ("--from", file)))
        with mounted_fat(image, tmp_path / name, writable=True) as stick:
            written += carried.airferry.result("media", *command)["media"]
            again += carried.airferry.result("media", *command)["media"]
            for sidecar in sorted(stick.glob("*.sha256")):
                subprocess.run(["sha256sum", "--check", "--strict", sidecar.name], cwd=stick, check=True)
    found = [item for medium in written for item in medium["files"]]
    assert sorted(item["volume"] for item in found) == list(range(1, len(volumes.files) + 1))
    assert {medium["file_system"] for medium in written} == {"fuse.fusefat"}
    assert all("no serial known" in medium["described"] for medium in written)
    assert all(item["written"] for item in found)
    assert not any(item["written"] for medium in again for item in medium["files"])
    before = [hashlib.sha256(image.read_bytes()).hexdigest() for image in images]
    with mounted_fat(images[0], tmp_path / "a"), mounted_fat(images[1], tmp_path / "b"):
        installer = from_source("installer", tmp_path, "--key", carried.key)
        bundle = ("--bundle", tmp_path / "b", "--bundle", tmp_path / "a")
        assert installer.result("verify", *bundle, "--proof", "proof.json")["verified"]
        installer.result("load", *bundle, "--registry", enclave.address)
    assert [hashlib.sha256(image.read_bytes()).hexdigest() for image in images] == before
    proof = json.loads((tmp_path / "proof.json").read_text())
    mounts = [str(tmp_path / ("a" if file in halves[0] else "b")) for file in volumes.files]
    assert [item["mount"] for item in proof["media"]] == mounts
    assert {item["file_system"] for item in proof["media"]} == {"fuse.fusefat"}


def test_a_disc(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    """A burnt disc is found by content, whatever its file system made of the names."""
    (tmp_path / "disc").mkdir()
    shutil.copyfile(volumes.files[1], tmp_path / "disc" / volumes.files[1].name)
    image = iso_image(tmp_path / "disc.iso", tmp_path / "disc", "DISC_2")
    with mounted_iso(image, tmp_path / "mounted") as mount:
        found = carried.airferry.result("verify", mount, "--partial", "--key", carried.key)
    assert found["unseen_volumes"] == [number for number in range(1, len(volumes.files) + 1) if number != 2]


def test_what_to_write_on_it(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    program = tmp_path / "installer"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    write = ("media", "write", tmp_path / "stick", "--own-disk")
    done = carried.airferry.run(*write, "--from", volumes.files[2], "--from", program)
    assert done.returncode == 0, done.stderr
    assert f"demo 1.0\n    volume 3 of {len(volumes.files)}\n    SHA256SUMS begins " in done.stdout
    assert (tmp_path / "stick" / "installer").stat().st_mode & 0o111
    digest = hashlib.sha256(volumes.files[2].read_bytes()).hexdigest()
    assert f"sha256 {digest}" in done.stdout


@pytest.mark.frozen
def test_what_to_write_on_a_stick_with_the_installer(carried: Carried, tmp_path: Path) -> None:
    """It is a volume, too, for whoever holds the stick."""
    (tmp_path / "stick").mkdir()
    found = carried.airferry.result("media", "write", tmp_path / "stick", "--own-disk", "--from", carried.frozen)
    (medium,) = found["media"]
    assert medium["write_on_it"][:2] == ["demo 1.0", "volume 1 of 1"]
    assert [file["volume"] for file in medium["files"]] == [1]


def test_a_stick_that_is_not_mounted_is_noticed(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    done = carried.airferry.run("media", "write", tmp_path / "stick", "--from", volumes.folder)
    assert (done.returncode, "no medium is mounted there" in done.stderr) == (2, True), done.stderr
    assert list((tmp_path / "stick").iterdir()) == []


@pytest.mark.frozen
def test_the_program_goes_with_the_volumes(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    """Whoever names their folder means all that is carried, and nothing else."""
    shelf, stick = tmp_path / "shelf", tmp_path / "stick"
    for folder in (shelf, stick):
        folder.mkdir()
    for file in (*volumes.files, carried.frozen):
        (shelf / file.name).hardlink_to(file)
    (shelf / "notes.txt").write_text("not for the enclave")
    torn = bytearray(carried.frozen.read_bytes())
    torn[-1] ^= 1
    (shelf / "torn").write_bytes(torn + b"?")
    done = carried.airferry.run("media", "write", stick, "--own-disk", "--from", shelf)
    assert done.returncode == 0, done.stderr
    assert "left out: " in done.stderr
    expected = {file.name for file in (*volumes.files, carried.frozen)}
    assert {path.name for path in stick.iterdir() if path.suffix != ".sha256"} == expected


def test_a_copy_that_differs_is_replaced(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    copy = stick / volumes.files[0].name
    whole = volumes.files[0].read_bytes()
    # As after another signature; at the end of it; and of another size.
    for there, note in ((b"?" + whole[1:], True), (whole[:-1] + b"?", True), (b"the rest of something", False)):
        copy.write_bytes(there)
        done = carried.airferry.run("media", "write", stick, "--own-disk", "--from", volumes.files[0])
        assert (done.returncode, "is not this file" in done.stderr) == (0, note), done.stderr
        assert copy.read_bytes() == whole
        assert sorted(path.name for path in stick.iterdir()) == [copy.name, f"{copy.name}.sha256"]


def test_before_anything_is_written(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    done = carried.airferry.run("media", "write", volumes.folder, "--own-disk", "--from", volumes.folder)
    assert (done.returncode, "the file to be copied itself" in done.stderr) == (2, True), done.stderr
    small = on_tmpfs(carried.airferry, tmp_path / "small", "size=6m")
    done = small.run("media", "write", tmp_path / "small", "--from", volumes.folder)
    assert (done.returncode, "free:" in done.stderr, "left:" in done.stderr) == (50, True, False), done.stderr


def test_each_file_goes_where_there_is_room(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    airferry = on_tmpfs(carried.airferry, tmp_path / "small", "size=6m")
    folders = (tmp_path / "small", tmp_path / "large")
    done = airferry.run("media", "write", *folders, "--own-disk", "--from", volumes.folder)
    assert done.returncode == 0, done.stderr
    left = {line.removeprefix("left: ") for line in done.stderr.splitlines() if line.startswith("left: ")}
    large = {path.name for path in (tmp_path / "large").iterdir()}
    assert left
    assert large
    assert {name for name in left | large if name.endswith(".tar")} == {file.name for file in volumes.files}


def test_what_an_interrupted_run_left_is_not_trusted(carried: Carried, tmp_path: Path) -> None:
    """It is continued if it is of this file, and written again if the medium returns something else."""
    stick, whole = tmp_path / "stick", carried.bundle.read_bytes()
    stick.mkdir()
    copy = stick / carried.bundle.name
    part = copy.with_name(f"{copy.name}.part")
    assert len(whole) > 8 << 20
    torn = whole[: 4 << 20] + bytes(len(whole) - (4 << 20))
    for left, note in ((whole[: 5 << 20], False), (torn + b"more", True), (bytes(len(whole)), False)):
        part.write_bytes(left)
        done = carried.airferry.run("media", "write", stick, "--own-disk", "--from", carried.bundle)
        assert done.returncode == 0, done.stderr
        assert ("it is written again" in done.stderr) == note
        assert copy.read_bytes() == whole
        assert not part.exists()
        copy.unlink()
