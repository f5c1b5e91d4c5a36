"""An older release over a newer one, genuine, of the same name, tag and key: by every way in, refused before anything
is written, unless somebody names its number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from installer.errors import PolicyError
from installer.floor.floor import Floor, release_of
from installer.floor.guard import Guard
from installer.floor.registry_floor import RegistryFloor
from installer.oci.reference import parse_repository
from installer.registry.client import Registry as Client
from installer.registry.transport import Transport
from tests.parts.bundles import KEYS, Cargo, open_bundle, packed_chart, signing_key, update_of
from tests.parts.containerd import Containerd
from tests.parts.faulty_proxy import FaultyProxy
from tests.parts.faulty_registry import status
from tests.parts.go_programs import go_program
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.programs import assert_refused, from_source
from tests.parts.registry import Registry
from tests.parts.small_registries import CraneRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.parts.programs import Program

PAGE = "docker.io/demo/page"
FLOORS = "airferry/airferry/floors"


@dataclass(frozen=True)
class Releases:
    """Signed bundles of one application, all with the same tag, by name, and the digest of the image in each."""

    bundles: Mapping[str, Path]
    digests: Mapping[str, str]

    def program(self, name: str, machine: Path, **environment: str) -> Program:
        """The enclave's program with that bundle, on a machine that remembers what lies in `machine`."""
        machine.mkdir(exist_ok=True)
        trust = ("--bundle", self.bundles[name], "--key", KEYS / "test-only.pub")
        return from_source("installer", machine, *trust, CONTAINERD_SNAPSHOTTER="native", **environment)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Numbers 1, 5 and 9, another 9, and 9 made once more, as an update."""
    bundles, digests = {}, {}
    for name in ("1", "5", "9", "another 9", "9 as an update"):
        folder = tmp_path_factory.mktemp("release")
        number = int(name.removeprefix("another ").split()[0])
        layout = write_layout(folder / "page", Image((Layer({"/page": File(name.split(" as ")[0].encode())}, "none"),)))
        cargo = Cargo("demo", str(number), number)
        digests[name] = cargo.image(f"{PAGE}:latest", layout).digest.text
        cargo.chart(packed_chart("greeter", "1.0.0", {"release": name.split(" as ")[0]}))
        if "update" in name:
            cargo.created = "2026-01-02T00:00:00Z"
            cargo = update_of(cargo, [blob for blob in cargo.blobs if blob.media_type.endswith("layer.v1.tar")])
        (bundles[name],) = cargo.write(folder, key=signing_key())
    return Releases(bundles, digests)


@dataclass(frozen=True)
class Place:
    """A registry at `address` that is loaded into."""

    address: str
    releases: Releases

    def load(self, name: str, machine: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return self.releases.program(name, machine).run("load", "--registry", self.address, *options)

    def refuses(self, name: str, machine: Path, *texts: str) -> None:
        before = self.page(), self.tags()
        done = self.load(name, machine)
        assert_refused(done, 13, *texts)
        assert (self.page(), self.tags()) == before

    def takes(self, name: str, machine: Path, *options: str) -> str:
        """What it says on standard error."""
        done = self.load(name, machine, *options)
        assert done.returncode == 0, done.stderr
        assert self.page() == self.releases.digests[name]
        return done.stderr

    def page(self) -> str:
        """The digest that the tag names."""
        return self._crane("digest", f"{self.address}/airferry/{PAGE}:latest")

    def tags(self) -> list[str]:
        """The floors."""
        return self._crane("ls", f"{self.address}/{FLOORS}").split()

    def forget(self) -> None:
        """Remove the floors, as somebody can who may write there."""
        for digest in {self._crane("digest", f"{self.address}/{FLOORS}:{tag}") for tag in self.tags()}:
            self._crane("delete", f"{self.address}/{FLOORS}@{digest}")

    def _crane(self, *arguments: str) -> str:
        command = [str(go_program("crane")), *arguments, "--insecure"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


@pytest.fixture(params=["distribution", "crane"])
def place(request: pytest.FixtureRequest, releases: Releases, tmp_path: Path) -> Iterator[Place]:
    """An empty registry."""
    kind = Registry if request.param == "distribution" else CraneRegistry
    with kind(tmp_path / "registry") as registry:
        yield Place(registry.address, releases)


def test_a_load(place: Place, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    place.takes("5", here)
    assert "demo.0.9." not in " ".join(place.tags())
    moved = f"loaded: {place.releases.digests['5'][:19]} -> {place.releases.digests['9'][:19]}"
    done = place.load("9", here)
    assert done.returncode == 0, done.stderr
    assert f"{place.address}/airferry/{PAGE}:latest  {moved}" in done.stdout
    assert f"{place.address}/airferry/charts/greeter:1.0.0  loaded: sha256:" in done.stdout
    for machine in (here, elsewhere):
        place.refuses("1", machine, f"{place.address}/airferry: number 9 of demo", "number 1", "--back-to 1")
        place.refuses("another 9", machine, "another release of demo", "as number 9", "`sequence`", "--back-to 9")
        done = place.load("1", machine, "--back-to", "9")
        assert_refused(done, 2, "--back-to 9", "this bundle is number 1")
        # However it is packed, it is the same release.
        assert "note: " not in place.takes("9", machine)
        assert place.load("9 as an update", machine).returncode == 0


def test_a_deliberate_return(releases: Releases, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    with Registry(tmp_path / "registry") as registry:
        place = Place(registry.address, releases)
        place.takes("9", here)
        done = place.load("1", elsewhere, "--back-to", "1", "--output", "json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        old, new = place.releases.digests["9"], place.releases.digests["1"]
        assert [(item["before"], item["digest"]) for item in document["images"]] == [(old, new)]
        assert document["charts"][0]["before"].startswith("sha256:")
        # From there it goes on, on the machine too that remembers more.
        place.takes("1", here)
        place.takes("5", here)
        for machine in (here, elsewhere):
            place.refuses("1", machine, "number 5 of demo")
        place.takes("another 9", elsewhere)
        place.refuses("9", here, "another release")
        place.takes("9", elsewhere, "--back-to", "9")
        place.takes("9", here)


def test_two_loads_of_which_both_have_asked(place: Place) -> None:
    """Neither takes away what the other writes, whichever comes last; whoever asks then is below the greater one."""
    registry = Client(Transport())
    floor = RegistryFloor(registry, parse_repository(f"{place.address}/{FLOORS}"), "demo")
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(open_bundle([path])).manifest for name, path in place.releases.bundles.items()
        }

        def guard(name: str) -> Guard:
            return Guard(opened[name], "here", None, None, pytest.fail, floor)

        for newer, older in (("5", "1"), ("9", "another 9")):
            both = guard(newer), guard(older)
            for each in both:
                each.check()
            for each in both:
                each.keep()
        kept = floor.read()
        assert kept
        assert (kept.returns, kept.sequence) == (0, 9)
        for name in ("1", "5"):
            with pytest.raises(PolicyError, match="number 9 of demo"):
                guard(name).check()
        # Of two that were one number one is left, the same for everybody.
        passes = []
        for name in ("9", "another 9"):
            with suppress(PolicyError):
                guard(name).check()
                passes.append(release_of(opened[name]))
        assert passes == [kept.release]


def test_two_loads_at_once(releases: Releases, tmp_path: Path) -> None:
    with Registry(tmp_path / "registry") as registry:
        place = Place(registry.address, releases)
        running = [
            place.releases.program(name, tmp_path / name).start("load", "--registry", place.address)
            for name in ("9", "1")
        ]
        errors = [each.communicate(timeout=120)[1] for each in running]
        newer, older = (each.returncode for each in running)
        # Each may find the other's tag where it has just set its own, and then says so.
        assert newer in (0, 23), errors
        assert older in (0, 13, 23), errors
        # Whichever came last: nobody is below the greater one afterwards.
        place.takes("9", tmp_path / "third")
        for machine in ("1", "fourth"):
            place.refuses("5", tmp_path / machine, "number 9 of demo")


def test_floors_that_are_lost(releases: Releases, tmp_path: Path) -> None:
    """Who may write a registry can remove them: then only a machine that has loaded remembers."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    with Registry(tmp_path / "registry") as registry:
        place = Place(registry.address, releases)
        place.takes("9", here)
        place.forget()
        assert place.tags() == []
        place.refuses("1", here, "number 9 of demo")
        assert "did not tell of number 9 of demo" in place.takes("9", here)
        place.refuses("1", elsewhere, "number 9 of demo")
        place.forget()
        place.takes("1", elsewhere)
        (kept,) = (here / ".local/state/airferry/floors").iterdir()
        kept.write_text("9")
        said = place.takes("1", here)
        assert f"{kept}: not a floor that this program wrote" in said
        assert "remove this file" in said


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("PUT", f"{FLOORS}/manifests/", 400), ("POST", f"{FLOORS}/blobs/", 403), ("GET", f"{FLOORS}/tags/", 405)],
)
def test_a_registry_that_keeps_no_floor(releases: Releases, tmp_path: Path, method: str, path: str, code: int) -> None:
    with Registry(tmp_path / "registry") as registry, FaultyProxy(registry.address) as proxy:
        proxy.on(method, path, status(code))
        place = Place(proxy.address, releases)
        said = place.takes("9", tmp_path / "here")
        assert [line for line in said.splitlines() if "floors" in line and f"answered with {code}" in line]
        assert said.count("note: ") == 1
        place.refuses("1", tmp_path / "here", "number 9 of demo")
        place.takes("1", tmp_path / "elsewhere")


def test_floors_cost_a_request_before_and_one_after(releases: Releases, tmp_path: Path) -> None:
    """The first one in a registry brings the empty blob, too."""
    with Registry(tmp_path / "registry") as registry:
        place = Place(registry.address, releases)

        def asked(name: str) -> list[str]:
            already = len(registry.accesses())
            place.takes(name, tmp_path / "here")
            return [access.method for access in registry.accesses()[already:] if f"/{FLOORS}/" in access.path]

        assert asked("1") == ["GET", "POST", "PUT", "PUT"]
        assert asked("5") == ["GET", "PUT"]
        assert asked("5") == ["GET"]


def test_floors_hold_for_one_name_in_one_place(releases: Releases, tmp_path: Path) -> None:
    """Names may be the beginnings of others; and a floor does not depend on how many digits a number has."""
    here = tmp_path / "here"
    with Registry(tmp_path / "registry") as registry:
        place = Place(registry.address, releases)
        place.takes("9", here)
        place.load("1", here, "--project", "other").check_returncode()
        for name, number in (("demo.0", 1), ("d", 1), ("demo", 10)):
            cargo = Cargo(name, "x", number)
            cargo.image(f"{PAGE}:latest", write_layout(tmp_path / name, Image((Layer({}),))))
            (bundle,) = cargo.write(tmp_path, key=signing_key(), name=name)
            mine = Releases({"x": bundle}, {})
            Place(registry.address, mine).load("x", here).check_returncode()
        place.refuses("9", here, "number 10 of demo", "number 9, which is older")


@pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")
def test_an_import(releases: Releases, tmp_path: Path) -> None:
    machine = tmp_path / "node"
    with tempfile.TemporaryDirectory(prefix="af-") as short, Containerd(Path(short)) as node:
        options = ("--containerd", str(node.socket))

        def run(name: str, *more: str) -> subprocess.CompletedProcess[str]:
            return releases.program(name, machine).run("import", *options, *more)

        for name in ("9", "9"):
            assert run(name).returncode == 0
        listed = node.ctr("--namespace", "k8s.io", "images", "list")
        assert_refused(run("1"), 13, "number 9 of demo", "--back-to 1")
        assert node.ctr("--namespace", "k8s.io", "images", "list") == listed
        assert run("1", "--back-to", "1").returncode == 0
        assert releases.digests["1"] in node.ctr("--namespace", "k8s.io", "images", "list").decode()
        # Another namespace is another place.
        assert run("1", "--namespace", "other").returncode == 0


def test_an_import_into_a_folder(releases: Releases, tmp_path: Path) -> None:
    machine, folder = tmp_path / "node", tmp_path / "images"
    folder.mkdir()
    options = ("--image-folder", str(folder))
    assert releases.program("9", machine).run("import", *options).returncode == 0
    (before,) = folder.iterdir()
    assert_refused(releases.program("1", machine).run("import", *options), 13, str(folder), "number 9 of demo")
    assert list(folder.iterdir()) == [before]
    assert releases.program("1", machine).run("import", *options, "--back-to", "1").returncode == 0


def test_serving(releases: Releases, tmp_path: Path) -> None:
    machine = tmp_path / "server"

    def served(name: str, *options: str, **environment: str) -> str:
        running = releases.program(name, machine, **environment).start("serve", "--listen", "127.0.0.1:0", *options)
        assert running.stdout
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 0, said
        return said

    served("9")
    served("9")
    done = releases.program("1", machine).run("serve", "--listen", "127.0.0.1:0")
    assert_refused(done, 13, "served at 127.0.0.1:0", "number 9 of demo", "--back-to 1")
    served("1", "--back-to", "1")
    assert "note: " not in served("1")
    # As a supervisor may start it.
    assert "without XDG_STATE_HOME or HOME nobody remembers this bundle" in served("9", HOME="")


def test_a_release_is_what_it_holds(releases: Releases) -> None:
    """And of several floors the greatest counts."""
    found = {}
    for name, path in releases.bundles.items():
        with open_bundle([path]) as bundle:
            found[name] = release_of(bundle.manifest)
    assert found["9"] == found["9 as an update"]
    assert len(set(found.values())) == len(found) - 1
    floors = [Floor(1, 1, "a"), Floor(0, 10, "a"), Floor(0, 9, "b"), Floor(0, 9, "a")]
    assert sorted(floors, reverse=True) == floors
