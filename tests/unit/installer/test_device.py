"""What is known about media, from files as Linux and udev write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer import device
from installer.errors import UsageError

UDEV = """\
S:disk/by-label/DISC_2
E:ID_MODEL=Ultra_Fit
E:ID_SERIAL=SanDisk_Ultra_Fit_4C530001
E:ID_SERIAL_SHORT=4C530001
E:ID_FS_LABEL=DISC_2
"""


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a stick at `a stick`, and another thing mounted over it."""
    stick = tmp_path / "a stick"
    stick.mkdir()
    place = str(stick).replace(" ", "\\040")
    mounts = [
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        f"44 21 8:17 / {place} rw,nosuid - tmpfs none rw",
        f"45 44 8:33 / {place} ro,nosuid shared:7 - vfat /dev/sdc1 ro",
    ]
    (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    (tmp_path / "udev").mkdir()
    (tmp_path / "udev" / "b8:33").write_text(UDEV)
    monkeypatch.setattr(device, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(device, "_UDEV", tmp_path / "udev")
    monkeypatch.setattr(device, "_BLOCK", tmp_path / "block")
    return stick


def test_a_stick(system: Path) -> None:
    (system / "below").mkdir()
    found = device.device_of(system / "below")
    assert found == device.Device(str(system), "/dev/sdc1", "vfat", "DISC_2", "4C530001", "Ultra_Fit")
    assert str(found) == "/dev/sdc1 (vfat), label DISC_2, serial 4C530001, model Ultra_Fit"


def test_a_disk_without_udev(system: Path, tmp_path: Path) -> None:
    """The disk of a partition knows its model."""
    disk = tmp_path / "sda"
    (disk / "sda1").mkdir(parents=True)
    (disk / "device").mkdir()
    (disk / "device" / "model").write_text("QEMU HARDDISK   \n")
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "8:1").symlink_to(disk / "sda1")
    found = device.device_of(tmp_path)
    assert found == device.Device("/", "/dev/sda1", "ext4", "", "", "QEMU HARDDISK")
    assert "no label known" in str(found)


def test_the_disks_below(system: Path, tmp_path: Path) -> None:
    """A partition is on a disk; an encrypted volume on what it is made of; anything else is by itself."""
    assert device.disks_of(system) == {"8:33"}
    for name in ("sda/sda1", "sdb/sdb1", "dm-0/slaves"):
        (tmp_path / "devices" / name).mkdir(parents=True)
    for name in ("sda/sda1", "sdb/sdb1"):
        (tmp_path / "devices" / name / "partition").write_text("1\n")
        (tmp_path / "devices/dm-0/slaves" / Path(name).name).symlink_to(tmp_path / "devices" / name)
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "8:1").symlink_to(tmp_path / "devices/sda/sda1")
    (tmp_path / "block" / "8:33").symlink_to(tmp_path / "devices/dm-0")
    assert device.disks_of(tmp_path) == {"sda"}
    assert device.disks_of(system) == {"sda", "sdb"}


def test_a_folder_that_is_not_there(system: Path) -> None:
    with pytest.raises(UsageError):
        device.device_of(system / "none")


def test_a_mount_point_in_another_encoding(system: Path, tmp_path: Path) -> None:
    with (tmp_path / "mountinfo").open("ab") as file:
        file.write("46 21 8:49 / /media/백업 rw - vfat /dev/sdd1 rw\n".encode("cp949"))
    assert device.device_of(system).label == "DISC_2"


def test_a_root_that_is_no_mount(system: Path, tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("22 21 0:5 / /proc rw - proc proc rw\n")
    assert device.device_of(system) == device.UNKNOWN
    assert device.disks_of(system) == frozenset()
