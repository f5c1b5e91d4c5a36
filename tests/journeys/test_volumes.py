"""Several volumes: planned, built into several folders, signed, and read wherever they lie."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.journeys.conftest import SIZE
from tests.parts.bad_sectors import with_bad_sectors
from tests.parts.bundles import KEYS, Cargo, open_bundle, packed_chart, signing_key
from tests.parts.drive import Drive
from tests.parts.programs import Program, from_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.journeys.conftest import Carried, Volumes
    from tests.parts.registry import Registry


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


# --- reading ---


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """An empty folder for volumes."""
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture
def installer(carried: Carried, shelf: Path, tmp_path: Path) -> Program:
    """The enclave's program, which looks for volumes on the shelf."""
    return from_source("installer", tmp_path, "--bundle", shelf, "--key", carried.key)


def names(registry: Registry) -> set[str]:
    """The last part of the repositories that hold a manifest of the bundle."""
    links = registry.storage.rglob("_manifests/revisions/sha256/*/link")
    return {path.parts[path.parts.index("_manifests") - 1] for path in links} - {"floors"}


def name_of(target: str) -> str:
    """The last part of a repository."""
    return target.split("@", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1].split(":", maxsplit=1)[0]


def copy(files: Sequence[Path], folder: Path) -> list[Path]:
    return [Path(shutil.copyfile(file, folder / file.name)) for file in files]


def test_one_drive(volumes: Volumes, installer: Program, shelf: Path, enclave: Registry) -> None:
    """Each disc is needed once, whatever was in the drive first; what is cut goes on with the next one."""
    drive = Drive(shelf, volumes.files)
    drive.insert(1)
    done = drive.run(installer, "load", "--registry", enclave.address, "--output", "json")
    assert done.returncode == 0, done.stderr
    assert drive.inserted == list(range(1, len(volumes.files) + 1))
    assert all(not image["present"] for image in json.loads(done.stdout)["images"])
    again = drive.run(installer, "load", "--registry", enclave.address, "--output", "json")
    assert json.loads(again.stdout)["sent"] == 0
    assert len(drive.inserted) == len(volumes.files)
    verified = drive.run(installer, "verify", "--output", "json", "--proof", "proof.json")
    assert (verified.returncode, json.loads(verified.stdout)["verified"]) == (0, True)
    seen = json.loads((installer.folder / "proof.json").read_text())["media"]
    assert [item["volume"] for item in seen] == list(range(1, len(volumes.files) + 1))
    assert len(drive.inserted) == 2 * len(volumes.files) - 1


def test_one_drive_and_a_chart_on_two_discs(tmp_path: Path, shelf: Path, enclave: Registry) -> None:
    """Its archive stands beside a file on the first disc, its manifest on the second: each is needed once."""
    source, cargo = random.Random(1), Cargo()
    for name in ("first.bin", "second.bin"):
        cargo.document(name, source.randbytes(3_900_000), "file")
    chart = cargo.chart(packed_chart("greeter", "0.1.0"))
    discs = cargo.write(tmp_path, volume_size=4_300_000, key=signing_key())
    with open_bundle(discs) as bundle:
        lies = [{piece[0] for piece in bundle.blob(digest).pieces} for digest in (chart.archive, chart.artifact)]
    assert lies == [{0}, {1}]
    drive = Drive(shelf, discs)
    drive.insert(1)
    installer = from_source("installer", tmp_path, "--bundle", shelf, "--key", KEYS / "test-only.pub")
    done = drive.run(installer, "load", "--registry", enclave.address, "--output", "json")
    assert (done.returncode, drive.inserted) == (0, [1, 2]), done.stderr
    assert [item["chart"] for item in json.loads(done.stdout)["charts"]] == ["greeter"]


def test_one_drive_that_begins_in_the_middle(
    volumes: Volumes, installer: Program, shelf: Path, enclave: Registry
) -> None:
    drive = Drive(shelf, volumes.files)
    drive.insert(2)
    done = drive.run(installer, "load", "--registry", enclave.address, "--sha256")
    assert done.returncode == 0, done.stderr
    # What is cut begins on a volume that has passed already: no disc is asked for more than twice.
    assert len(drive.inserted) <= len(volumes.files) + 2


def test_a_disc_that_nobody_finds(volumes: Volumes, installer: Program, shelf: Path, enclave: Registry) -> None:
    """It can be said; then what needs it is left out, or is the error."""
    drive = Drive(shelf, volumes.files, lost=frozenset({2}))
    drive.insert(1)
    done = drive.run(installer, "load", "--registry", enclave.address, "--whole-images", "--output", "json")
    assert done.returncode == 10, done.stderr
    assert "docker.io/demo/data:1.0" in json.loads(done.stdout)["left_out"]
    for command in (("verify",), ("load", "--registry", enclave.address)):
        done = drive.run(installer, *command)
        assert (done.returncode, volumes.files[1].name in done.stderr) == (12, True), done.stderr


def test_disc_after_disc_without_a_terminal(
    volumes: Volumes, installer: Program, shelf: Path, enclave: Registry
) -> None:
    """What is at hand is loaded, and the error names what is missing; the next call needs only that."""
    first, *rest = volumes.files
    copy([first], shelf)
    done = installer.run("load", "--registry", enclave.address)
    assert done.returncode == 12, done.stderr
    assert all(file.name in done.stderr for file in rest)
    before = names(enclave)
    assert before == {name_of(image) for image in volumes.plan["volumes"][0]["images"]} | {"demo-app", "demo-platform"}
    (shelf / first.name).unlink()
    copy(rest, shelf)
    result = installer.result("load", "--registry", enclave.address)
    assert before < names(enclave)
    assert names(enclave) == {name_of(item["target"]) for item in (*result["images"], *result["charts"])}


def test_what_lies_beside_is_told(
    carried: Carried, volumes: Volumes, installer: Program, shelf: Path, tmp_path: Path
) -> None:
    """A copy under another name, a volume of another bundle, a short one: each is named, and none is in the way."""
    first, *others = copy(volumes.files, shelf)
    shutil.copyfile(first, shelf / "zz-copy.tar")
    shutil.copyfile(carried.bundle, shelf / "zz-foreign.tar")
    (shelf / "notes.txt").write_text("no volume")
    (shelf / "below").mkdir()
    others[0].rename(shelf / "below" / "IMAGE.ISO")
    done = installer.run("verify")
    # Two bundles of the same sender are no case for guessing.
    assert (done.returncode, "different bundles" in done.stderr) == (2, True), done.stderr
    (shelf / "zz-foreign.tar").unlink()
    done = installer.run("verify")
    assert (done.returncode, "zz-copy.tar: the same volume as" in done.stderr) == (0, True), done.stderr
    last = others[-1]
    last.write_bytes(last.read_bytes()[:-512])
    done = installer.run("verify")
    assert done.returncode == 12, done.stderr
    assert f"{last.name}: {last.stat().st_size} bytes, but this volume has" in done.stderr
    assert f"volume {len(volumes.files)} of {len(volumes.files)} ({last.name}) is missing" in done.stderr


@pytest.mark.frozen
@pytest.mark.parametrize("beside", [[], ["--beside"]])
def test_a_frozen_file_and_volumes_beside_it(
    carried: Carried, volumes: Volumes, tmp_path: Path, enclave: Registry, beside: list[str]
) -> None:
    carried.airferry.result("freeze", volumes.folder, "--key", carried.key, "-o", tmp_path / "installer", *beside)
    copy(volumes.files if beside else volumes.files[1:], tmp_path)
    frozen = Program((str(tmp_path / "installer"),), tmp_path)
    assert frozen.result("verify")["verified"]
    # On other media, the folder is named.
    (tmp_path / "disc").mkdir()
    (tmp_path / volumes.files[1].name).rename(tmp_path / "disc" / "2.tar")
    assert frozen.run("load", "--registry", enclave.address).returncode == 12
    frozen.result("load", "--registry", enclave.address, "--bundle", tmp_path)


# --- damage ---


def test_damage_is_reported_and_the_rest_is_loaded(
    volumes: Volumes, installer: Program, shelf: Path, enclave: Registry
) -> None:
    """Chunks that are wrong and chunks that cannot be read are located; images that need none of them are loaded."""
    files = copy(volumes.files, shelf)
    whole = installer.result("inspect")
    damaged = files[-1]
    with damaged.open("r+b") as file:
        file.seek(damaged.stat().st_size - 2000)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    done = installer.run("verify", "--output", "json")
    assert done.returncode == 10, done.stderr
    (found,) = json.loads(done.stdout)["damages"]
    assert (found["kind"], found["volume"], found["file"]) == ("wrong", len(files), str(damaged))
    assert found["offset"] <= damaged.stat().st_size - 2000 < found["offset"] + found["length"]
    count = len(whole["images"])
    assert f"{count - len(found['images'])} of {count} images need nothing of that" in done.stderr
    assert installer.run("load", "--registry", enclave.address).returncode == 10
    done = installer.run("load", "--registry", enclave.address, "--whole-images", "--output", "json")
    assert done.returncode == 10, done.stderr
    result = json.loads(done.stdout)
    assert sorted(result["left_out"]) == sorted(found["images"])
    assert {image["source"] for image in result["images"]} == {item["image"] for item in whole["images"]} - set(
        found["images"]
    )
    # What is missing is told with what is damaged: nobody goes twice.
    files[0].unlink()
    done = installer.run("verify")
    assert (done.returncode, f"{damaged}: damaged" in done.stderr) == (10, True), done.stderr
    assert f"({files[0].name}) is missing" in done.stderr
    assert "is missing" not in installer.run("verify", "--partial").stderr
    copy(volumes.files, shelf)
    assert installer.result("load", "--registry", enclave.address)["left_out"] == {}


def test_unreadable_places(
    volumes: Volumes, installer: Program, shelf: Path, enclave: Registry, tmp_path: Path
) -> None:
    """The medium fails inside the cut layer: that is found, and the other images are loaded."""
    files = copy(volumes.files, shelf)
    middle = files[1].stat().st_size // 2
    worn = with_bad_sectors(installer, tmp_path, files[1], middle, middle + 4096)
    done = worn.run("verify", "--output", "json")
    assert done.returncode == 10, done.stderr
    (found,) = json.loads(done.stdout)["damages"]
    assert (found["kind"], found["volume"], found["images"]) == ("unreadable", 2, ["docker.io/demo/data:1.0"])
    assert found["offset"] <= middle < found["offset"] + found["length"]
    assert "Input/output error" in done.stderr
    assert worn.run("load", "--registry", enclave.address).returncode == 50
    done = worn.run("load", "--registry", enclave.address, "--whole-images", "--output", "json")
    assert list(json.loads(done.stdout)["left_out"]) == ["docker.io/demo/data:1.0"]
    assert "data" not in names(enclave)
    # The sender answers with what is missing, and with that the same worn medium is enough.
    worn.run("verify", "--request", tmp_path / "request.json")
    line = json.loads(worn.run("verify", "--output", "json").stdout)["request"]
    answered = volumes.airferry.result("patch", volumes.folder, "--request", line, "-o", tmp_path / "patch.tar")
    again = tmp_path / "again.tar"
    volumes.airferry.result("patch", volumes.folder, "--request", tmp_path / "request.json", "-o", again)
    assert again.read_bytes() == (tmp_path / "patch.tar").read_bytes()
    assert (answered["chunks"], answered["bytes"] < 5 << 20) == (1, True)
    (tmp_path / "patch.tar").rename(shelf / "patch.tar")
    assert worn.result("verify")["verified"]
    assert worn.result("load", "--registry", enclave.address)["left_out"] == {}
    assert "data" in names(enclave)


def photographed(screen: str, folder: Path) -> str:
    """What a reader of QR codes makes of the half blocks on a screen."""
    lines = [line for line in screen.splitlines() if line and set(line) <= set(" ▀▄█")]
    rows = [[line[i] in light for i in range(len(lines[0]))] for line in lines for light in ("▀█", "▄█")]
    large = [[cell for cell in row for _ in range(4)] for row in rows for _ in range(4)]
    picture = folder / "photograph.pgm"
    picture.write_bytes(
        b"P5 %d %d 255\n" % (len(large[0]), len(large)) + bytes(255 * cell for row in large for cell in row)
    )
    command = ["ZXingReader", "-1", "-format", "QRCode", str(picture)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split('"')[1]


def test_a_lost_volume(volumes: Volumes, installer: Program, shelf: Path, enclave: Registry, tmp_path: Path) -> None:
    """What needs it is left out if that is asked for; then the sender answers a photograph of the screen."""
    *others, lost = volumes.files
    copy(others, shelf)
    done = installer.run("load", "--registry", enclave.address, "--whole-images", "--output", "json")
    assert done.returncode == 10, done.stderr
    result = json.loads(done.stdout)
    assert all(f"missing volume ({len(volumes.files)})" in reason for reason in result["left_out"].values())
    assert result["images"]
    done = installer.run("verify", "--qr", "--request", tmp_path / "request.json")
    assert (done.returncode, "next: send the request" in done.stderr) == (12, True), done.stderr
    seen = photographed(done.stderr, tmp_path)
    assert f" V{len(volumes.files)} " in seen
    assert seen.lower() in done.stderr
    wrong = volumes.airferry.run(
        "patch", volumes.folder, "--request", seen.replace(" V", " 1"), "-o", tmp_path / "none"
    )
    assert (wrong.returncode, "not copied right" in wrong.stderr) == (2, True), wrong.stderr
    answered = volumes.airferry.run("patch", volumes.folder, "--request", seen, "-o", tmp_path / "patch.tar")
    assert (answered.returncode, f"{lost} itself would do" in answered.stderr) == (0, True), answered.stderr
    volumes.airferry.result("patch", volumes.folder, "--request", tmp_path / "request.json", "-o", shelf / "patch.tar")
    assert (shelf / "patch.tar").read_bytes() == (tmp_path / "patch.tar").read_bytes()
    (tmp_path / "stick").mkdir()
    (stick,) = volumes.airferry.result(
        "media", "write", tmp_path / "stick", "--own-disk", "--from", shelf / "patch.tar"
    )["media"]
    assert stick["write_on_it"][:2] == ["demo 1.0", "patch"]
    assert installer.result("verify")["missing_volumes"] == []
    assert installer.result("load", "--registry", enclave.address)["left_out"] == {}


def test_a_request_on_a_terminal(volumes: Volumes, installer: Program, shelf: Path, tmp_path: Path) -> None:
    """Its QR code is shown where it fits; a disc that nobody finds is asked for."""
    drive = Drive(shelf, volumes.files, lost=frozenset(range(2, len(volumes.files) + 1)))
    drive.insert(1)
    done = drive.run(installer, "verify", "--request", tmp_path / "request.json")
    assert "needs a terminal of" not in done.stderr
    assert " V2 " in photographed(done.stderr, tmp_path)
    done = drive.run(installer, "verify", "--request", tmp_path / "request.json", "--no-qr")
    assert "█" not in done.stderr


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
