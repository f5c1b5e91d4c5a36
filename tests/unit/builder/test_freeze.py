"""One file from program, front and volume."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.release.freeze import freeze
from installer.errors import BundleError, StorageError, UsageError
from installer.frozen import program
from installer.frozen.header import PinnedKey
from installer.report import Silent
from tests.parts.counted import Counted
from tests.parts.elf import elf

KEYS = (PinnedKey.of("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n", "ab" * 32),)
VOLUME = os.urandom(512) * 5000


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "program").write_bytes(elf(content=b"code" * 3000))
    (tmp_path / "volume.tar").write_bytes(VOLUME)
    return tmp_path / "program", tmp_path / "volume.tar"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system (memory)."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def test_the_file_holds_program_front_and_volume(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    out, counter = tmp_path / "out.run", Counted()
    freeze(*inputs, out, name="demo 1", keys=KEYS, reporter=counter)
    found = program.locate(out)
    assert found is not None
    assert (found.name, found.keys, found.volume_size) == ("demo 1", KEYS, len(VOLUME))
    raw = out.read_bytes()
    assert raw.startswith(inputs[0].read_bytes())
    assert raw[found.volume_offset :] == VOLUME
    assert out.stat().st_mode & 0o777 == 0o755
    assert counter.done in (0, len(VOLUME))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.run", "program", "volume.tar"]


def test_the_same_inputs_give_the_same_bytes(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    for name, mask in (("one", 0o077), ("two", 0)):
        former = os.umask(mask)
        try:
            freeze(*inputs, tmp_path / name, name="demo", keys=KEYS, reporter=Silent())
        finally:
            os.umask(former)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "two").stat().st_mode


def test_another_key_changes_only_the_front(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    freeze(*inputs, tmp_path / "one", name="demo", keys=KEYS, reporter=Silent())
    freeze(*inputs, tmp_path / "two", name="demo", keys=(), reporter=Silent())
    one, two = (tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()
    assert len(one) == len(two)
    differing = [place // 4096 for place in range(len(one)) if one[place] != two[place]]
    assert set(differing) == {-(-inputs[0].stat().st_size // 4096)}


def test_without_a_volume_the_file_ends_with_its_front(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    freeze(inputs[0], None, tmp_path / "out", name="demo", keys=KEYS, reporter=Silent())
    found = program.locate(tmp_path / "out")
    assert found is not None
    assert (found.volume_size, found.volume_offset) == (0, (tmp_path / "out").stat().st_size)


def test_between_file_systems_the_volume_is_copied_too(
    inputs: tuple[Path, Path], elsewhere: Path, tmp_path: Path
) -> None:
    counter = Counted()
    shutil.copy(inputs[1], elsewhere / "volume.tar")
    freeze(inputs[0], elsewhere / "volume.tar", tmp_path / "out", name="demo", keys=KEYS, reporter=counter)
    freeze(*inputs, tmp_path / "same", name="demo", keys=KEYS, reporter=Silent())
    assert (tmp_path / "out").read_bytes() == (tmp_path / "same").read_bytes()
    assert counter.done == counter.total == len(VOLUME)


def test_an_existing_file_is_replaced_at_the_end(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"former")
    (tmp_path / ".out.partial").write_bytes(b"left by a killed run" * 100_000)
    freeze(*inputs, out, name="demo", keys=KEYS, reporter=Silent())
    assert program.locate(out) is not None
    assert not (tmp_path / ".out.partial").exists()


class Interrupted(Silent):
    def begin(self, title: str, total: int) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_run_leaves_the_former_file(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"former")
    with pytest.raises(KeyboardInterrupt):
        freeze(*inputs, out, name="demo", keys=KEYS, reporter=Interrupted())
    assert out.read_bytes() == b"former"
    assert not (tmp_path / ".out.partial").exists()


def test_a_volume_that_shrinks_meanwhile_is_an_error(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    class Shrink(Silent):
        def begin(self, title: str, total: int) -> None:
            os.truncate(inputs[1], 512)

    with pytest.raises(StorageError, match="changed while it was read"):
        freeze(*inputs, tmp_path / "out", name="demo", keys=KEYS, reporter=Shrink())
    assert not (tmp_path / "out").exists()


def test_a_second_writer_of_the_same_file_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with (tmp_path / ".out.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process"):
            freeze(*inputs, tmp_path / "out", name="demo", keys=KEYS, reporter=Silent())
    assert (tmp_path / ".out.partial").exists()


def test_space_is_checked_before_the_volume_is_copied(
    inputs: tuple[Path, Path], elsewhere: Path, tmp_path: Path
) -> None:
    counter = Counted()
    (elsewhere / "volume.tar").touch()
    os.truncate(elsewhere / "volume.tar", shutil.disk_usage(tmp_path).free // 512 * 512 + 1024**3)  # sparse
    with pytest.raises(StorageError, match="are free"):
        freeze(inputs[0], elsewhere / "volume.tar", tmp_path / "out", name="demo", keys=KEYS, reporter=counter)
    assert counter.total == 0
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("name", ["program", "volume.tar"])
def test_an_input_is_never_overwritten(inputs: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / name)
    for out in (tmp_path / name, tmp_path / "link"):
        with pytest.raises(UsageError):
            freeze(*inputs, out, name="demo", keys=KEYS, reporter=Silent())
    assert inputs[1].read_bytes() == VOLUME


def test_what_cannot_be_frozen_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    missing, out = tmp_path / "missing", tmp_path / "out"
    with pytest.raises(UsageError, match="missing"):
        freeze(missing, inputs[1], out, name="demo", keys=KEYS, reporter=Silent())
    with pytest.raises(UsageError, match="missing"):
        freeze(inputs[0], missing, out, name="demo", keys=KEYS, reporter=Silent())
    with pytest.raises(UsageError, match="missing"):
        freeze(*inputs, missing / "out", name="demo", keys=KEYS, reporter=Silent())
    with pytest.raises(BundleError, match="ASCII"):
        freeze(*inputs, out, name="имя", keys=KEYS, reporter=Silent())
    inputs[1].write_bytes(b"x" * 513)
    with pytest.raises(BundleError, match="513"):
        freeze(*inputs, out, name="demo", keys=KEYS, reporter=Silent())
    assert not out.exists()
