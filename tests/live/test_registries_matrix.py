"""Odd images in real registries: what skopeo, crane or containerd carries, airferry carries, or says why not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts.carriers import Airferry
from tests.parts.containerd import Containerd
from tests.parts.odd_images import odd_images
from tests.parts.registry_matrix import Matrix, pair, unargued

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.carriers import Place
    from tests.parts.odd_maker import OddImage
    from tests.parts.registry_matrix import Step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root")


@pytest.fixture
def node() -> Iterator[Containerd]:
    """A containerd in a folder with a short path, for its socket."""
    with tempfile.TemporaryDirectory(prefix="mx-") as name, Containerd(Path(name, "c")) as containerd:
        yield containerd


class Forgetful(Airferry):
    """Leaves behind the image that it is asked for first, and of the next ones the wish to bring them anywhere."""

    def take(self, place: Place, odd: OddImage, folder: Path) -> str:
        return super().take(place, odd, folder) if odd.name != "oci" else "forgotten"

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str:
        return ""


def test_a_carrier_that_leaves_something_behind_is_seen(node: Containerd) -> None:
    """Neither what a program says of itself counts, nor an argument that nobody needs."""
    matrix = Matrix(node.folder.parent, node, Forgetful(), lazy=True)
    with pair("memory", node.folder.parent) as two:
        cells = [cell for odd in odd_images()[:2] for cell in matrix.row(two, odd)]
    assert [(cell.step, cell.image) for cell in cells if cell.stands_back] == [
        ("build", "oci"),
        ("load", "oci"),
        ("load", "docker"),
    ]
    arguments: dict[tuple[Step, str], str]
    arguments = {("build", "oci"): "no wish", ("load", "oci"): "no wish", ("import", "docker"): "no reason"}
    wrong = unargued(cells, arguments)
    assert [line.partition(":")[0] for line in wrong] == ["load of docker with memory", "import of docker"]
