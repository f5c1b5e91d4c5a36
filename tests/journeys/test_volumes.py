"""Several volumes: planned, built into several folders, signed, and read wherever they lie."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.programs import Program, from_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried

SIZE = "5MiB"
"""The demo's large layer, three chunks, does not fit: it is cut."""


@dataclass(frozen=True)
class Volumes:
    """The demo's release in several signed volumes, in one folder."""

    folder: Path
    plan: Any
    airferry: Program

    @property
    def files(self) -> list[Path]:
        """In their order."""
        return [self.folder / item["file"] for item in self.plan["volumes"]]


@pytest.fixture(scope="module")
def volumes(carried: Carried, tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    """Leave them unchanged."""
    folder = tmp_path_factory.mktemp("volumes")
    plan = carried.airferry.result("plan", "--volume-size", SIZE)
    carried.airferry.result("build", "--volume-size", SIZE, "-o", folder)
    carried.airferry.result("sign", folder, "--key", "release.key")
    return Volumes(folder, plan, carried.airferry)


def test_the_plan_is_exact_to_the_byte(volumes: Volumes) -> None:
    assert len(volumes.files) > 2
    for item, file in zip(volumes.plan["volumes"], volumes.files, strict=True):
        assert file.stat().st_size == item["bytes"] <= 5 << 20
    assert sorted(path.name for path in volumes.folder.iterdir()) == [path.name for path in volumes.files]
    complete = [image for item in volumes.plan["volumes"] for image in item["images"]]
    spread = [item["image"] for item in volumes.plan["spread"]]
    assert sorted(complete + spread) == sorted(item["image"] for item in volumes.plan["images"])
    assert spread == ["docker.io/demo/data:1.0"]


def test_several_folders_and_an_interruption(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    """The same bytes wherever they are written, and when a finished volume is lost in the middle of the renaming."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    build = ("build", "--volume-size", SIZE, "-o", first, "-o", second)
    # A volume that was begun somewhere stays there.
    (second / f"{volumes.files[1].name}.part").touch()
    done = carried.airferry.result(*build)
    assert [item["file"] for item in done["volumes"]] == [
        str((second if number == 1 else first) / file.name) for number, file in enumerate(volumes.files)
    ]
    carried.airferry.result("sign", first, second, "--key", "release.key", "--sidecar")
    for file in (*first.glob("*.tar"), *second.glob("*.tar")):
        assert file.read_bytes() == (volumes.folder / file.name).read_bytes()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert file.with_name(f"{file.name}.sha256").read_text() == f"{digest}  {file.name}\n"
    for number in (0, 1):
        path = (second if number == 1 else first) / volumes.files[number].name
        path.rename(path.with_name(f"{path.name}.part"))
    again = carried.airferry.run(*build)
    assert (again.returncode, "built already" in again.stderr) == (0, True), again.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_a_volume_alone_is_verified(carried: Carried, volumes: Volumes, tmp_path: Path) -> None:
    for file in volumes.files:
        folder = tmp_path / file.stem
        folder.mkdir()
        shutil.copyfile(file, folder / "renamed.img")
        found = carried.airferry.result("verify", folder, "--partial", "--key", carried.key)
        assert len(found["missing_volumes"]) == len(volumes.files) - 1
        assert carried.airferry.run("verify", folder, "--key", carried.key).returncode == 12
    assert carried.airferry.result("verify", volumes.folder, "--key", carried.key)["missing_volumes"] == []


def test_a_volume_that_is_missing_when_signing(carried: Carried, volumes: Volumes) -> None:
    done = carried.airferry.run("sign", *volumes.files[:-1], "--key", "release.key")
    assert (done.returncode, f"volume {len(volumes.files)}" in done.stderr) == (12, True)


def test_too_little_space_is_said_first(carried: Carried, tmp_path: Path) -> None:
    airferry = from_source("builder", carried.folder)
    done = airferry.run("build", "--volume-size", SIZE, "-o", "/dev/full")
    assert (done.returncode, "not a folder" in done.stderr) == (2, True)
    done = airferry.run("build", "--volume-size", "many")
    assert (done.returncode, "not a size of volumes" in done.stderr) == (2, True)
    done = airferry.run("build", "-o", "one.tar", "-o", "two.tar")
    assert done.returncode == 2
