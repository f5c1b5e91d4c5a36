"""A site without a registry: images straight into a node's containerd, into the folders that k3s and RKE2 import from,
or pulled from `serve`."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from installer.errors import LackingError
from tests.parts import images, process
from tests.parts.bundles import KEYS, Cargo, open_bundle, packed_chart, signing_key, update_of
from tests.parts.containerd import Containerd
from tests.parts.drive import Drive
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.images import Platform as ImagePlatform
from tests.parts.programs import Program, from_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")

PAGE, DATA, DOCKER = "docker.io/demo/page:1", "docker.io/demo/data:1", "registry.example.com:5000/demo/old:1"
BASE = Layer({"/base": File(random.Random(1).randbytes(300_000))}, "none")
LARGE = Layer({"/large": File(random.Random(2).randbytes(9 * 1024 * 1024))}, "none")
MEDIUM = Layer({"/medium": File(random.Random(3).randbytes(1_000_000))}, "none")
SLOW_CTR = """\
#!/bin/sh
# The real client; an import of more than COUNT bytes gets these, and then nothing for as long as its parent runs.
case "$*" in *" import "*) ;; *) exec {ctr} "$@" ;; esac
mkfifo {mark}.$$
exec 3<&0
{{
  head -c {count} <&3
  [ "$(head -c 1 <&3 | wc -c)" = 0 ] || {{ touch {mark}; while kill -0 $PPID 2>/dev/null; do sleep 0.05; done; }}
}} >{mark}.$$ &
exec 3<&-
exec {ctr} "$@" <{mark}.$$
"""


@dataclass(frozen=True)
class Setting:
    """A signed bundle of four images in several volumes, and a containerd; each test has a namespace of its own.

    `names` are all names that a node shall know, and their digests.
    """

    discs: tuple[Path, ...]
    cargo: Cargo
    names: Mapping[str, str]
    node: Containerd

    @property
    def socket(self) -> Path:
        return self.node.folder / "c.sock"

    def installer(self, folder: Path, shelf: Path | None = None, **environment: str) -> Program:
        """The program in `folder` with the discs in `shelf`, and a snapshotter that works on every file system."""
        trust = ("--bundle", shelf or self.discs[0].parent, "--key", KEYS / "test-only.pub")
        return from_source("installer", folder, *trust, CONTAINERD_SNAPSHOTTER="native", **environment)

    def ctr(self, namespace: str, *arguments: str | Path) -> str:
        return self.node.ctr("--namespace", namespace, *arguments).decode()

    def known(self, namespace: str) -> dict[str, str]:
        """What the node names in a namespace, with digests."""
        return {line.split()[0]: line.split()[2] for line in self.ctr(namespace, "images", "list").splitlines()[1:]}

    def assert_whole(self, namespace: str) -> None:
        """All images are there under all names, complete, unpacked, and safe from the kubelet."""
        assert self.known(namespace) == self.names
        checked = self.ctr(namespace, "images", "check", "--snapshotter=native", 'labels."io.cri-containerd.pinned"')
        lines = [line.split() for line in checked.splitlines()[1:]]
        assert {line[0] for line in lines} == set(self.names)
        assert {(line[3], line[-1]) for line in lines} == {("complete", "true")}
        for digest in set(self.names.values()):
            content = self.node.ctr("--namespace", namespace, "content", "get", digest)
            assert "sha256:" + hashlib.sha256(content).hexdigest() == digest


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    with tempfile.TemporaryDirectory(prefix="af-") as name:
        folder = Path(name)
        page, old = (Layer({f"/{text}": File(random.Random(text).randbytes(200_000))}) for text in ("page", "old"))
        other = Image((Layer({"/arm": File(b"arm")}),), platform=ImagePlatform("arm64", variant="v8"))
        cargo = Cargo()
        cargo.image(PAGE, write_layout(folder / "page", Image((BASE, page))))
        cargo.image(DATA, write_layout(folder / "data", Image((BASE, MEDIUM, LARGE))))
        cargo.image(DOCKER, write_layout(folder / "old", Image((BASE, old)), family=images.DOCKER))
        several = write_layout(folder / "several", [Image((BASE,)), other])
        cargo.image(f"docker.io/demo/tool:2@{several.digest}", several)
        cargo.image(f"docker.io/demo/tool@{several.digest}", several)
        cargo.chart(packed_chart("greeter", "0.1.0"))
        (folder / "discs").mkdir()
        discs = cargo.write(folder / "discs", volume_size=5_000_000, key=signing_key())
        assert len(discs) > 2
        names = {f"{image.reference.repository}@{image.digest}": image.digest.text for image in cargo.images}
        names |= {image.source: image.digest.text for image in cargo.images if not image.by_digest}
        with Containerd(folder / "c") as node:
            yield Setting(discs, cargo, names, node)


def test_several_volumes_into_containerd(setting: Setting, tmp_path: Path) -> None:
    installer = setting.installer(tmp_path)
    done = installer.result("import", "--containerd", setting.socket, "--namespace", "several")
    setting.assert_whole("several")
    assert {name for image in done["images"] for name in image["names"]} == set(setting.names)
    assert not any(image["present"] for image in done["images"])
    # The common layer went through once.
    whole = sum(len(data) for data in setting.cargo.blobs.values())
    assert whole < done["sent"] < whole + 100_000
    again = installer.result("import", "--containerd", setting.socket, "--namespace", "several")
    assert again["sent"] == 0
    assert all(image["present"] for image in again["images"])
    # What a person has taken away comes back, and of it only what is gone.
    setting.ctr("several", "images", "remove", "--sync", PAGE, f"{PAGE.removesuffix(':1')}@{setting.names[PAGE]}")
    mended = installer.result("import", "--containerd", setting.socket, "--namespace", "several")
    setting.assert_whole("several")
    assert 200_000 < mended["sent"] < 250_000


def test_one_drive(setting: Setting, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    drive = Drive(shelf, setting.discs)
    drive.insert(1)
    done = drive.run(
        setting.installer(tmp_path, shelf), "import", "--containerd", setting.socket, "--namespace", "drive"
    )
    assert (done.returncode, drive.inserted) == (0, [1, 2, 3]), done.stderr
    setting.assert_whole("drive")


def flipped(discs: tuple[Path, ...], folder: Path, digest: str, chunk: int) -> Path:
    """Copies of the discs in `folder`, with one bit of a blob flipped in chunk number `chunk`."""
    copies = [Path(shutil.copyfile(disc, folder / disc.name)) for disc in discs]
    with open_bundle(copies) as bundle:
        blob = next(blob for blob in bundle.manifest.blobs if blob.digest.text == digest)
        place = bundle.volumes.place(blob, chunk)
    with place.file.path.open("r+b") as file:
        file.seek(place.start + 100)
        (byte,) = file.read(1)
        file.seek(place.start + 100)
        file.write(bytes([byte ^ 1]))
    return folder


@pytest.mark.parametrize("what", ["a layer", "the end of a cut layer", "a manifest"])
def test_what_is_damaged_has_no_name(setting: Setting, tmp_path: Path, what: str) -> None:
    """All other images arrive, and good volumes bring what is left."""
    layers = sorted((len(data), blob.digest.text) for blob, data in setting.cargo.blobs.items())
    digest, chunk, harmed = {
        "a layer": ([text for size, text in layers if size < 250_000][-1], 0, {PAGE, DOCKER}),
        "the end of a cut layer": (layers[-1][1], 2, {DATA}),
        "a manifest": (setting.names[PAGE], 0, {PAGE}),
    }[what]
    namespace = what.replace(" ", "-")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    installer = setting.installer(tmp_path, flipped(setting.discs, shelf, digest, chunk))
    arguments = ("import", "--containerd", setting.socket, "--namespace", namespace)
    done = installer.run(*arguments, "--output", "json")
    assert (done.returncode, "damaged" in done.stderr) == (10, True), done.stderr
    left_out = set(json.loads(done.stdout)["left_out"])
    assert left_out
    assert left_out <= harmed
    missing = {
        name
        for image in setting.cargo.images
        if image.source in left_out
        for name in setting.names
        if setting.names[name] == image.digest.text
    }
    assert setting.known(namespace) == {name: text for name, text in setting.names.items() if name not in missing}
    setting.installer(tmp_path).result(*arguments)
    setting.assert_whole(namespace)


def test_an_update_goes_on_from_what_the_node_has(setting: Setting, tmp_path: Path) -> None:
    """Layers that the update does not carry are those of the node; one that lacks them gets all but that image."""
    update, small = Cargo(sequence=2), Layer({"/small": File(b"one more")})
    entry = update.image(DATA, write_layout(tmp_path / "data", Image((BASE, LARGE, small))))
    update.image("docker.io/demo/new:1", write_layout(tmp_path / "new", Image((small,))))
    large = [blob for blob, data in update.blobs.items() if len(data) > 250_000]
    (path,) = update_of(update, large).write(tmp_path, key=signing_key())
    arguments = ("import", "--containerd", setting.socket, "--namespace", "update")
    bare = setting.installer(tmp_path, path).run(*arguments, "--request", "request.json")
    lacking = LackingError.exit_code
    assert (bare.returncode, f"{DATA}: this update of" in bare.stderr) == (lacking, True), bare.stderr
    assert len(json.loads((tmp_path / "request.json").read_bytes())["extents"]) == len(large)
    assert "docker.io/demo/new:1" in setting.known("update")
    assert DATA not in setting.known("update")
    setting.installer(tmp_path).result(*arguments)
    assert setting.installer(tmp_path, path).result(*arguments)["sent"] < 50_000
    assert setting.known("update")[DATA] == entry.digest.text
    assert "incomplete" not in setting.ctr("update", "images", "check")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_import_continues(setting: Setting, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "bin").mkdir()
    mark, slow = tmp_path / "mark", tmp_path / "bin" / "ctr"
    slow.write_text(SLOW_CTR.format(ctr=shutil.which("ctr"), count=len(LARGE.tar()) + 100_000, mark=mark))
    slow.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    arguments = ("import", "--containerd", setting.socket, "--namespace", how.name)
    running = setting.installer(tmp_path, PATH=path).start(*arguments)
    assert process.wait_until(mark.exists, 60)
    running.send_signal(how)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, "it continues" in said) == ((130, True) if how == signal.SIGINT else (-9, False))
    assert DATA not in setting.known(how.name)
    if how == signal.SIGINT:
        # What had arrived whole is there for the next run.
        assert hashlib.sha256(LARGE.tar()).hexdigest() in setting.ctr(how.name, "content", "list", "--quiet")
    setting.installer(tmp_path).result(*arguments)
    setting.assert_whole(how.name)


def test_a_volume_that_is_missing(setting: Setting, tmp_path: Path) -> None:
    """What lies on the others is there."""
    only = setting.installer(tmp_path, setting.discs[0])
    done = only.run("import", "--containerd", setting.socket, "--namespace", "missing")
    assert (done.returncode, f"{DATA}: volume 2 of 3" in done.stderr) == (12, True), done.stderr
    data = setting.names[DATA]
    assert setting.known("missing") == {name: text for name, text in setting.names.items() if text != data}


def test_nobody_to_import_into(setting: Setting, tmp_path: Path) -> None:
    installer, dead = setting.installer(tmp_path), tmp_path / "dead.sock"
    dead.touch()
    for code, arguments in (
        (2, ("--containerd", tmp_path / "absent.sock")),
        (2, ("--containerd", setting.socket, "--image-folder", tmp_path)),
        (2, ()),
        (20, ("--containerd", dead)),
    ):
        assert installer.run("import", *arguments).returncode == code
    done = setting.installer(tmp_path, PATH="/nowhere").run("import", "--containerd", setting.socket)
    assert (done.returncode, "`ctr`" in done.stderr) == (22, True)


def test_an_image_folder(setting: Setting, tmp_path: Path) -> None:
    """k3s and RKE2 import what lies there for all platforms, and pods ask for the names of their site."""
    folder = tmp_path / "images"
    folder.mkdir()
    installer = setting.installer(tmp_path)
    done = installer.result("import", "--image-folder", folder)
    (path,) = folder.iterdir()
    assert (done["file"], done["written"]) == (str(path), True)
    assert path.suffix == ".tar"
    setting.ctr("folder", "images", "import", "--all-platforms", "--snapshotter=native", path)
    assert setting.known("folder") == setting.names
    for name, digest in setting.names.items():
        if DOCKER.rpartition(":")[0] not in name:  # a media type that skopeo does not know in a layout
            inspect = ("skopeo", "--insecure-policy", "inspect", "--raw", f"oci-archive:{path}:{name}")
            raw = subprocess.run(inspect, capture_output=True, check=True).stdout
            assert "sha256:" + hashlib.sha256(raw).hexdigest() == digest
    before = path.stat()
    assert installer.result("import", "--image-folder", folder)["written"] is False
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with path.open("r+b") as file:
        file.seek(-5_000_000, os.SEEK_END)
        file.write(b"damage")
    assert installer.result("import", "--image-folder", folder)["written"] is True
    (tmp_path / "site.yaml").write_text('{"registry": {"host": "reg.example:5000", "project": "p", "on_nodes": true}}')
    renamed = installer.result("import", "--image-folder", folder, "--site", "site.yaml")
    assert (renamed["written"], renamed["file"] == done["file"]) == (True, False)
    assert "reg.example:5000/p/docker.io/demo/page:1" in renamed["images"][1]["names"]
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_bundle_leaves_an_image_folder_alone(setting: Setting, tmp_path: Path) -> None:
    folder, shelf = tmp_path / "images", tmp_path / "shelf"
    folder.mkdir()
    shelf.mkdir()
    bad = flipped(setting.discs, shelf, setting.names[DATA], 0)
    done = setting.installer(tmp_path, bad).run("import", "--image-folder", folder)
    assert (done.returncode, list(folder.iterdir())) == (10, [])


def test_an_update_does_not_do_for_an_image_folder(setting: Setting, tmp_path: Path) -> None:
    """Its file holds everything; what is missing is asked for before anything is written."""
    folder, update = tmp_path / "images", Cargo(sequence=2)
    folder.mkdir()
    update.image(DATA, write_layout(tmp_path / "data", Image((BASE, LARGE))))
    large = [blob for blob, data in update.blobs.items() if len(data) > 250_000]
    (path,) = update_of(update, large).write(tmp_path, key=signing_key())
    installer = setting.installer(tmp_path, path)
    done = installer.run("import", "--image-folder", folder, "--request", "request.json", "--output", "json")
    assert (done.returncode, list(folder.iterdir())) == (LackingError.exit_code, []), done.stderr
    assert "`import --request FILE`" in done.stderr
    assert len(json.loads((tmp_path / "request.json").read_bytes())["extents"]) == len(large)
    assert {item["digest"] for item in json.loads(done.stdout)["lacking"]} == {blob.digest.text for blob in large}


@pytest.fixture
def served(setting: Setting, tmp_path: Path) -> Iterator[str]:
    """The address of `serve`."""
    running = setting.installer(tmp_path).start("serve", "--listen", "127.0.0.1:0")
    assert running.stdout
    yield running.stdout.readline().split()[1].rstrip(",")
    running.terminate()
    _, said = running.communicate(timeout=60)
    assert (running.returncode, "ended" in said) == (0, True)


def test_a_signal_that_interrupts_another_thread_ends_the_server(setting: Setting, tmp_path: Path) -> None:
    """The kernel chooses which one: with Helm's library loaded it is not always the first."""
    running = setting.installer(tmp_path).start("serve", "--listen", "127.0.0.1:0")
    assert running.stdout
    running.stdout.readline()
    (other,) = {int(task.name) for task in Path(f"/proc/{running.pid}/task").iterdir()} - {running.pid}
    assert ctypes.CDLL(None).tgkill(running.pid, other, signal.SIGTERM) == 0
    _, said = running.communicate(timeout=30)
    assert (running.returncode, "ended" in said) == (0, True)


def test_a_node_pulls_from_the_bundle_itself(setting: Setting, tmp_path: Path, served: str) -> None:
    """Under upstream names, for which the node has `serve` as a mirror, and under those of a site that has it for its
    registry, which `load` finds complete."""
    installer = setting.installer(tmp_path)
    site = {"registry": {"host": served, "project": "", "plain_http": True}}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    installer.result("render", "--site", "site.yaml", "--output-dir", "rendered")
    hosts = tmp_path / "rendered" / "nodes" / "containerd" / "certs.d"
    own = {f"{served}/{name.replace('com:5000/', 'com__5000/')}": digest for name, digest in setting.names.items()}
    for name in (*setting.names, *own):
        setting.ctr("served", "images", "pull", "--snapshotter=native", "--hosts-dir", hosts, name)
    assert setting.known("served") == {**setting.names, **own}
    with pytest.raises(subprocess.CalledProcessError):
        setting.ctr("served", "images", "pull", "--hosts-dir", hosts, "docker.io/demo/absent:1")
    loaded = installer.result("load", "--site", "site.yaml")
    assert loaded["sent"] == 0
    assert all(item["present"] for item in loaded["images"])
    assert not any(chart["refusal"] for chart in loaded["charts"])
