"""Odd images in real registries: what skopeo, crane or containerd carries, airferry carries, or says why not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts.bare_client import BareClient, RefusedError
from tests.parts.carriers import Airferry, Ctr, Place
from tests.parts.containerd import Containerd
from tests.parts.odd_images import odd_images
from tests.parts.registry_kinds import running
from tests.parts.registry_matrix import AIRFERRY, ARGUED, OWNER, Matrix, needless, pair, unargued

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.odd_maker import OddImage
    from tests.parts.registry_matrix import Step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")


@pytest.fixture
def node() -> Iterator[Containerd]:
    """A containerd in a folder with a short path, for its socket."""
    with tempfile.TemporaryDirectory(prefix="mx-") as name, Containerd(Path(name, "c")) as containerd:
        yield containerd


@pytest.mark.parametrize("kind", ["debian", "memory"])
def test_no_peer_carries_what_airferry_does_not(kind: str, node: Containerd) -> None:
    """In the most lenient of the registries that are built in seconds, and in the strictest. Peers are asked where
    airferry fails; `make docs` asks them everywhere, and in all registries."""
    matrix = Matrix(node.folder.parent, [node], lazy=True)
    with pair(kind, node.folder.parent) as two:
        cells = [cell for odd in odd_images() for cell in matrix.row(two, odd)]
    assert unargued(cells, ARGUED) == []
    carried = {cell.image for cell in cells if cell.step == "load" and AIRFERRY in cell.went}
    refused = {cell.image for cell in cells if cell.refused}
    argued = {image for step, image in ARGUED if step == "build"}
    assert carried == {odd.name for odd in odd_images()} - refused - argued
    assert len(carried) > 40


def test_one_bundle_with_all_of_them(node: Containerd) -> None:
    """Images that share content, each of which calls it something else; what one registry or node refuses is named, and
    keeps nothing else back."""
    folder, ferry, ctr = node.folder.parent, Airferry(), Ctr(node)
    argued = {image for step, image in ARGUED if step == "build"}
    wanted = {f"{OWNER}/{odd.name}": odd for odd in odd_images() if odd.name not in argued}
    with running("crane", folder / "from") as source, running("memory", folder / "to") as target:
        for path, odd in wanted.items():
            BareClient(source).push(odd, path)
        said = ferry.take_all(wanted, Place(source, ""), folder / "conflict")
        assert said.startswith("41: ")
        assert f"{OWNER}/artifact-of-manifest:1: its content" in said
        del wanted[f"{OWNER}/artifact-of-manifest"]
        assert ferry.take_all(wanted, Place(source, ""), folder / "all") == ""
        told = ferry.bring_all(folder / "all", Place(target, OWNER))
        refused = {path for path, odd in wanted.items() if f"docker.io/{path}{'@' if odd.whole else ':'}" in told}
        client = BareClient(target)
        assert refused == {path for path, odd in wanted.items() if client.lacks(odd, f"{OWNER}/docker.io/{path}")}
        for path in refused:
            with pytest.raises(RefusedError):
                client.push(wanted[path], f"{OWNER}/again/{path}")
        ferry.node_import(folder / "all", node, "all")
        held = ctr.holds(Path("all"))
        for path, odd in wanted.items():
            assert held >= odd.on_node or ctr.pull(Place(source, path), odd, folder / odd.name), path


class Forgetful(Airferry):
    """Leaves one image behind, and says that another one has arrived."""

    def take(self, place: Place, odd: OddImage, folder: Path) -> str:
        return "forgotten" if odd.name == "oci" else super().take(place, odd, folder)

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str:
        return "" if odd.name == "docker" else super().bring(folder, odd, place)


def test_a_carrier_that_leaves_something_behind_is_seen(node: Containerd) -> None:
    """Neither what a program says of itself counts, nor an argument that nobody needs."""
    matrix = Matrix(node.folder.parent, [node], Forgetful(), lazy=True)
    with pair("memory", node.folder.parent) as two:
        wanted = [odd for odd in odd_images() if odd.name in ("oci", "docker", "list")]
        cells = [cell for odd in wanted for cell in matrix.row(two, odd)]
    assert [(cell.step, cell.image) for cell in cells if cell.stands_back] == [
        ("build", "oci"),
        ("load", "oci"),
        ("load", "docker"),
    ]
    arguments: dict[tuple[Step, str], str] = {("build", "oci"): "no wish to", ("import", "list"): "no reason to"}
    assert [line.partition(":")[0] for line in unargued(cells, arguments)] == ["load of docker with memory"]
    assert [line.partition(":")[0] for line in needless(cells, arguments)] == ["import of list"]
