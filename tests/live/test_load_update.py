"""Updates into a real registry: what they leave out is proven before anything is sent, or a patch brings it."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from builder.assemble.patch import write_patch
from installer.bundle.manifest import BundleBase
from installer.chart.relocation import Relocation
from installer.errors import BundleError, ContentError, LackingError
from installer.oci.model import Manifest
from installer.oci.reference import DigestRef, Repository
from installer.preflight import preflight
from installer.registry.client import Registry as Client
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.transfer.existing_blobs import request_for
from installer.transfer.load import load
from installer.value import Value, replace
from installer.verify.verification import verify
from tests.parts.bundles import Cargo, MemoryStream, open_bundle, signing_key, update_of
from tests.parts.counted import Counted
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.registry import Registry
from tests.parts.registry_kinds import REGISTRIES, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installer.oci.digest import Digest
    from installer.oci.model import Descriptor
    from installer.transfer.load_result import LoadResult

LARGE = 5 * 1024 * 1024
"""Two chunks."""


class WithoutMounts(Client):
    """Some registries do not take blobs over from other repositories."""

    def mount(self, repository: Repository, digest: Digest, source: Repository) -> bool:
        return False


class Setting(Value):
    """A bundle, and an update of it: image `one` has a new layer, `moved` was called `two`; both build on `shared`."""

    folder: Path
    old: Path
    update: Path
    cargo: Cargo
    shared: Descriptor
    registry: Registry
    address: str

    def load(self, project: str, *paths: Path, client: type[Client] = Client, whole_only: bool = False) -> LoadResult:
        """Load a bundle into a project of its own."""
        registry = self.client(client)
        with open_bundle(paths) as bundle:
            images = frozenset(image.reference for image in bundle.manifest.images)
            relocation = Relocation(self.address, project, images)
            return load(bundle, registry, relocation, Counted(), whole_only=whole_only)

    def client(self, kind: type[Client] = Client) -> Client:
        """A client for the registry."""
        hosts = {self.address: HostSettings(plain_http=True)}
        return kind(Transport(hosts=hosts, sleep=lambda _: None))

    def writes(self) -> int:
        """How many requests have changed the registry so far."""
        return sum(access.method not in ("GET", "HEAD") for access in self.registry.accesses())

    def open(self, descriptor: Descriptor, offset: int = 0) -> MemoryStream:
        """Where the sender has everything: a BlobSource."""
        return MemoryStream(self.cargo.blobs[descriptor][offset:])


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("updates")

    def layer(name: str, size: int = 200_000) -> Layer:
        return Layer({f"/{name}": File(random.Random(name).randbytes(size))}, "none")

    def image(cargo: Cargo, name: str, *layers: str) -> None:
        made = Image((layer("shared", LARGE), *map(layer, layers)))
        cargo.image(f"docker.io/demo/{name}:1", write_layout(folder / f"{name}-{'-'.join(layers)}", made))

    old, new = Cargo(), Cargo(version="2.0")
    image(old, "two", "b")
    image(new, "moved", "b")
    (shared,) = (blob for blob in new.blobs if blob.size > LARGE)
    kept = [blob for blob in new.blobs if blob in old.blobs and not blob.is_manifest]
    assert len(kept) == 3
    image(new, "one", "a")
    base = BundleBase("reference", "1.0", "0" * 16, ("docker.io/demo/two",))
    (folder / "old").mkdir()
    (old_path,) = old.write(folder / "old", key=signing_key())
    (path,) = replace(update_of(new, kept), bases=(base,)).write(folder, key=signing_key())
    with Registry(folder / "registry") as registry:
        yield Setting(folder, old_path, path, new, shared, registry, registry.address)


@pytest.mark.parametrize("kind", REGISTRIES)
def test_an_update_finds_what_it_builds_on(setting: Setting, kind: str, tmp_path: Path) -> None:
    """In a repository that is not its own, since the image has another name now."""
    with running(kind, tmp_path) as address:
        other = replace(setting, address=address)
        other.load("x", setting.old)
        loaded = other.load("x", setting.update)
        assert (len(loaded.images), any(image.present for image in loaded.images)) == (2, False)
        assert loaded.sent < LARGE
        again = other.load("x", setting.update)
        assert (all(image.present for image in again.images), again.sent) == (True, 0)


def test_a_registry_that_mounts_nothing(setting: Setting) -> None:
    """What it holds elsewhere goes through our hands, once for each repository."""
    setting.load("plain", setting.old)
    loaded = setting.load("plain", setting.update, client=WithoutMounts)
    assert (loaded.mounted, loaded.sent > 2 * LARGE, len(loaded.images)) == (0, True, 2)


def test_nothing_is_sent_where_something_is_lacking(setting: Setting, tmp_path: Path) -> None:
    before = setting.writes()
    with pytest.raises(LackingError) as caught:
        setting.load("empty", setting.update)
    assert setting.writes() == before
    # Before an installation, preflight says the same.
    site: Any = SimpleNamespace(registry=setting.registry.address, project="empty")
    with open_bundle([setting.update]) as bundle:
        (finding,) = preflight._registry(bundle, site, setting.client())
    assert (finding.what, finding.error) == (caught.value.message, LackingError)
    message = caught.value.message
    assert "this update of reference 1.0 leaves out 3 blobs (5.4" in message
    assert f"{setting.shared.digest} (5.25 MB), needed by docker.io/demo/moved:1, docker.io/demo/one:1" in message
    # A request, a patch, and it goes.
    with open_bundle([setting.update]) as bundle:
        lacking = [blob for blob in bundle.manifest.blobs if blob.digest.text in caught.value.digests]
        request = request_for(bundle, lacking)
        assert request is not None
        write_patch(bundle, request, tmp_path / "patch.tar", setting)
    patch = tmp_path / "patch.tar"
    content = patch.read_bytes()
    # Its last chunk never leaves if the whole is wrong, wherever the mistake is.
    place = content.index(setting.cargo.blobs[setting.shared][4096:8192])
    patch.write_bytes(content[:place] + bytes(100) + content[place + 100 :])
    with pytest.raises((BundleError, ContentError), match="damaged in this patch"):
        setting.load("empty", setting.update, patch)
    assert not list(setting.registry.storage.rglob(f"empty/**/_layers/sha256/{setting.shared.digest.hex}/link"))
    patch.write_bytes(content)
    loaded = setting.load("empty", setting.update, patch)
    assert list(setting.registry.storage.rglob(f"empty/**/_layers/sha256/{setting.shared.digest.hex}/link"))
    assert [str(image.target).split("/", 1)[1] for image in loaded.images] == [
        "empty/docker.io/demo/moved:1",
        "empty/docker.io/demo/one:1",
    ]


def test_a_registry_that_remembers_what_it_has_lost(setting: Setting, tmp_path: Path) -> None:
    """Debian's keeps what it knows of blobs in memory, also after somebody has cleared them away."""
    cached = {"filesystem": {"rootdirectory": str(tmp_path / "storage")}, "cache": {"blobdescriptor": "inmemory"}}
    with Registry(tmp_path, settings={"storage": cached}) as registry:
        other = replace(setting, address=registry.address)
        other.load("x", setting.old)
        (lost,) = registry.storage.rglob(f"{setting.shared.digest.hex}/data")
        lost.unlink()
        with pytest.raises(ContentError, match="says that it holds this blob, and does not deliver it"):
            other.load("x", setting.update)


def test_images_that_need_nothing_of_it_are_loaded_if_asked_for(setting: Setting) -> None:
    loaded = setting.load("some", setting.update, whole_only=True)
    assert (loaded.images, len(loaded.lacking), len(loaded.left_out), loaded.sent) == ((), 3, 2, 0)
    assert all("neither carried nor in the registry" in reason for reason in loaded.left_out.values())


@pytest.mark.parametrize("kind", REGISTRIES)
def test_what_refers_to_an_image_is_loaded_after_it(kind: str, tmp_path: Path) -> None:
    """By digest; what the registry makes of its `subject` is its own matter."""
    cargo, layer = Cargo(), Layer({"/one": File(b"one")})
    cargo.image("docker.io/demo/one:1", write_layout(tmp_path / "one", Image((layer,))))
    signature = cargo.refer("docker.io/demo/one:1", b"signed by somebody", "application/x.signature")
    (path,) = cargo.write(tmp_path, key=signing_key())
    client = Client(Transport(sleep=lambda _: None))
    with running(kind, tmp_path / "registry") as address, open_bundle([path]) as bundle:
        verify(bundle, Counted(), sha256=True)
        images = frozenset(image.reference for image in bundle.manifest.images)
        load(bundle, client, Relocation(address, "x", images), Counted())
        repository = Repository(address, "x/docker.io/demo/one")
        manifest = client.manifest(DigestRef(repository, signature.digest))
        assert manifest.raw == cargo.blobs[signature]
        assert isinstance(manifest, Manifest)
        with client.open(repository, manifest.layers[0]) as stream:
            content = memoryview(bytearray(100))
            assert bytes(content[: stream.readinto(content)]) == b"signed by somebody"
