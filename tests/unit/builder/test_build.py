"""What `build` reads back comes from the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.assemble import build as building
from builder.assemble.contents import Contents
from installer.bundle.volume import metadata_of
from installer.errors import StorageError
from installer.files import forget
from installer.report import Silent
from tests.parts.bundles import MemoryStream, large_cargo
from tests.parts.mounted import mounted_loop

if TYPE_CHECKING:
    from installer.oci.model import Descriptor
    from tests.parts.bundles import Cargo


class Source:
    """The blobs of a cargo."""

    def __init__(self, cargo: Cargo) -> None:
        self.cargo = cargo

    def open(self, descriptor: Descriptor, offset: int = 0) -> MemoryStream:
        return MemoryStream(self.cargo.blobs[descriptor][offset:])


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(),
    reason="mounting a file as a disk needs root and loop devices",
)
def test_a_disk_that_returns_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit changes on the stick, of which the kernel still has the right one in memory."""
    cargo = large_cargo()
    skeleton, docker = cargo.skeleton(), cargo.manifest_json()
    planned = Contents(skeleton, docker, metadata_of(skeleton, docker))
    stick = tmp_path / "stick.img"
    content = max(cargo.blobs.values(), key=len)[:4096]

    def spoil(path: Path) -> None:
        with stick.open("r+b") as file:
            place = file.read().index(content)
            file.seek(place)
            file.write(bytes([content[0] ^ 1]))
        forget(path)

    with mounted_loop(stick, tmp_path / "mounted", 2 * planned.volume_sizes[0]) as folder:
        monkeypatch.setattr(building, "forget", spoil)
        with pytest.raises(StorageError, match="the disk returns something else than was written"):
            building.build(planned, Source(cargo), [folder / "bundle.tar"], Silent())
        assert [path.name for path in folder.glob("*.tar*")] == ["bundle.tar.part"]
        monkeypatch.setattr(building, "forget", forget)
        building.build(planned, Source(cargo), [folder / "bundle.tar"], Silent())
        assert [path.name for path in folder.glob("*.tar*")] == ["bundle.tar"]
