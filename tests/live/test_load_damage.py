"""Nothing that was not verified reaches a registry: bundles with one flipped bit, loaded into a real one."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from installer.chart.relocation import Relocation
from installer.errors import BundleError
from installer.registry.client import Registry as Client
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.transfer.load import load
from tests.parts.bundles import Cargo, open_bundle, signing_key
from tests.parts.counted import Counted
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installer.bundle.manifest import BundleBlob
    from installer.bundle.reader import Bundle

LARGE = 9 * 1024 * 1024
"""Three chunks, so that a flip in the last one is met after two have been sent."""


@dataclass(frozen=True)
class Setting:
    """A signed bundle of two images with a common layer, and a registry to load it into."""

    path: Path
    cargo: Cargo
    registry: Registry

    def load(self, project: str) -> None:
        """Load what the file holds now, into a project of its own."""
        client = Client(Transport(hosts={self.registry.address: HostSettings(plain_http=True)}))
        with open_bundle([self.path]) as bundle:
            images = frozenset(image.reference for image in bundle.manifest.images)
            load(bundle, client, Relocation(self.registry.address, project, images), Counted())

    def assert_only_genuine_content_arrived(self) -> None:
        """What the registry keeps are blobs of the bundle, and what it received in part is the start of one."""
        genuine = list(self.cargo.blobs.values())
        for data in self.registry.storage.rglob("data"):
            content = data.read_bytes()
            if "_uploads" in data.parts:
                assert any(blob.startswith(content) for blob in genuine)
            else:
                assert hashlib.sha256(content).hexdigest() == data.parent.name
                assert content in genuine

    def names(self, project: str) -> list[str]:
        """The images of the project that have a tag."""
        tags = self.registry.storage.rglob("_manifests/tags/*/current/link")
        return sorted(path.parts[-6] for path in tags if project in path.parts)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("damage")
    base = Layer({"/base": File(random.Random(1).randbytes(LARGE))}, "none")
    cargo = Cargo()
    for name in ("one", "two"):
        image = Image((base, Layer({f"/{name}": File(random.Random(name).randbytes(200_000))}, "none")))
        cargo.image(f"docker.io/demo/{name}:1", write_layout(folder / name, image))
    (path,) = cargo.write(folder, key=signing_key())
    with Registry(folder / "registry") as registry:
        yield Setting(path, cargo, registry)


def flip(path: Path, offset: int) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        (byte,) = os.pread(fd, 1, offset)
        os.pwrite(fd, bytes([byte ^ 1]), offset)
    finally:
        os.close(fd)


def places(bundle: Bundle) -> list[tuple[BundleBlob, int]]:
    """In every blob of an image a byte of its own: in each chunk of the large one, else anywhere."""
    chosen = random.Random(3)
    found = []
    for blob in bundle.manifest.blobs:
        start = bundle._metadata.length + blob.pieces[0][1]
        for begin in range(0, blob.size, 4 * 1024 * 1024):
            end = min(begin + 4 * 1024 * 1024, blob.size)
            found.append((blob, start + chosen.randrange(begin, end)))
    return found


def test_a_flipped_bit_anywhere(setting: Setting) -> None:
    with open_bundle([setting.path]) as bundle:
        flips = places(bundle)
        parts = {image.source: bundle.images.closure(image) for image in bundle.manifest.images}
    # Two manifests, two configurations, two small layers, and three chunks of the common one.
    assert len(flips) == 9
    for number, (blob, offset) in enumerate(flips):
        project = f"flip-{number}"
        flip(setting.path, offset)
        try:
            with pytest.raises(BundleError, match="damaged"):
                setting.load(project)
        finally:
            flip(setting.path, offset)
        setting.assert_only_genuine_content_arrived()
        whole = [source for source, closure in parts.items() if blob.digest not in closure]
        assert set(setting.names(project)) <= {source.split("/")[2].split(":")[0] for source in whole}


def test_the_same_project_converges_afterwards(setting: Setting) -> None:
    for project in ("flip-0", "flip-8", "new"):
        setting.load(project)
        assert setting.names(project) == ["one", "two"]
    setting.assert_only_genuine_content_arrived()
