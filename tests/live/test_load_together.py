"""Several colleagues load the same bundle into one registry at the same moment."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.parts.bundles import Cargo, signing_key
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.registry_kinds import REGISTRIES, bring, running

if TYPE_CHECKING:
    from pathlib import Path

LOADS = 12
ROUNDS = 5


@pytest.fixture(scope="module")
def shipment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image of several layers, all of which are on their way at once."""
    folder, dice, cargo = tmp_path_factory.mktemp("together"), random.Random(5), Cargo()
    layers = tuple(Layer({f"/{name}": File(dice.randbytes(60_000))}, "none") for name in "abcd")
    cargo.image("docker.io/demo/one:1", write_layout(folder / "one", Image(layers)))
    (path,) = cargo.write(folder, key=signing_key())
    return path


@pytest.mark.parametrize("kind", REGISTRIES)
def test_loads_at_the_same_moment_do_not_disturb_each_other(shipment: Path, kind: str, tmp_path: Path) -> None:
    """Distribution empties the file that says that a repository has a blob before it writes it anew; whoever names an
    image in that moment is told that the blob is unknown.
    """
    with running(kind, tmp_path) as address, ThreadPoolExecutor(LOADS) as threads:
        for number in range(ROUNDS):
            loads = [threads.submit(bring, shipment, address, f"site{number}", time.sleep) for _ in range(LOADS)]
            digests = {load.result().images[0].digest for load in loads}
            assert len(digests) == 1
