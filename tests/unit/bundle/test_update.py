"""Updates: bundles that leave out what the registry has, and patches that bring it after all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from builder.assemble.patch import write_patch
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBase, chunk_count, content_of
from installer.bundle.patch import Request
from installer.bundle.volume import VolumeFile
from installer.errors import BundleError, ContentError, UsageError
from installer.oci import media_types
from installer.report import Silent
from installer.serving.answer import Answer, Refusal
from installer.serving.catalogue import Catalogue
from installer.value import replace
from installer.verify.describe import description, summary
from installer.verify.verification import verify_by_turns
from tests.parts import second_reader
from tests.parts.bundles import KEYS, MemoryStream, open_bundle, signing_key, update_of
from tests.parts.counted import Counted
from tests.parts.images import File, Image, Layer, write_layout

if TYPE_CHECKING:
    from pathlib import Path

    from installer.bundle.reader import Bundle
    from installer.oci.model import Descriptor
    from tests.parts.bundles import Cargo

PULL = "/v2/docker.io/library/page/manifests/1.0"
PUBLIC = KEYS / "test-only.pub", KEYS / "test-only.minisign.pub"


class Earlier:
    """Where the sender has what the update leaves out."""

    def __init__(self, cargo: Cargo) -> None:
        self._held = {blob.digest: data for blob, data in cargo.blobs.items()}

    def open(self, descriptor: Descriptor, offset: int = 0) -> MemoryStream:
        return MemoryStream(self._held[descriptor.digest][offset:])


def shared_layer(cargo: Cargo) -> Descriptor:
    """The layer that both images have."""
    skeleton = cargo.skeleton()
    (shared,) = set(skeleton.images[0].parts) & set(skeleton.images[1].parts)
    return skeleton.blobs[shared].descriptor


@pytest.fixture(scope="module")
def update(cargo: Cargo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference bundle without the shared layer; leave it unchanged."""
    (path,) = update_of(cargo, [shared_layer(cargo)]).write(tmp_path_factory.mktemp("update"), key=signing_key())
    return path


def request_for(bundle: Bundle) -> Request:
    """For all that is not carried."""
    missing = [(number, blob.size) for number, blob in enumerate(bundle.manifest.blobs) if not blob.carried]
    chunks = [(number, chunk) for number, size in missing for chunk in range(chunk_count(size))]
    return Request.of(bundle.verdict.sums, chunks)


def test_what_is_left_out_is_told(cargo: Cargo, update: Path, volume: Path) -> None:
    layer = shared_layer(cargo)
    with open_bundle([update]) as bundle, open_bundle([volume]) as whole:
        found = verify_by_turns(bundle, Counted(), sha256=True)
        assert not found.damages
        facts = description(bundle)
        assert facts["not_carried"] == {"blobs": 1, "bytes": layer.size}
        assert facts["content"] == description(whole)["content"] == content_of(blob.digest for blob in cargo.blobs)
        assert (
            f"an update of reference 0.9; not carried, but to be in the registry: {layer.size} B (blobs: 1)"
            in summary(bundle)
        )
        assert "an update" not in summary(whole)
        assert [image["not_carried"] for image in facts["images"]] == [layer.size] * 2
        assert f"image docker.io/library/page:1.0 (without {layer.size} B" in summary(bundle, images=True)
        for image, same in zip(bundle.manifest.images, whole.manifest.images, strict=True):
            assert [blob.digest for blob in bundle.lacking(image)] == [layer.digest]
            assert bundle.images.closure(image).keys() == whole.images.closure(same).keys()
        with pytest.raises(BundleError, match=r"not carried by this update, needed by docker\.io/library/page"):
            bundle.read(layer.digest)


def test_a_second_reader(cargo: Cargo, update: Path) -> None:
    found = second_reader.read([update.read_bytes()], *PUBLIC)
    layer = shared_layer(cargo).digest
    assert found.blobs == {str(blob.digest): data for blob, data in cargo.blobs.items() if blob.digest != layer}
    # Stock tools meet no image that they could begin and not finish.
    assert b'"manifests":[]' in update.read_bytes()


def test_a_patch_brings_what_is_left_out(cargo: Cargo, update: Path, tmp_path: Path) -> None:
    layer, patch = shared_layer(cargo), tmp_path / "patch.tar"
    content = cargo.blobs[layer]
    with open_bundle([update]) as bundle:
        request = Request.decode(request_for(bundle).text.encode())
        # What could be begun, but never be pulled, is not served.
        assert isinstance(Catalogue(bundle, Silent()).find(PULL), Refusal)
        with pytest.raises(UsageError, match="does not carry it"):
            write_patch(bundle, request, patch)
        assert not patch.exists()
        write_patch(bundle, request, patch, Earlier(cargo))
    found = second_reader.read([update.read_bytes()], *PUBLIC)
    assert list(second_reader.read_patch(patch.read_bytes(), found.bundle).values()) == [content]
    with open_bundle([update, patch]) as bundle:
        assert not verify_by_turns(bundle, Counted(), sha256=True).damages
        assert bundle.read(layer.digest) == content
        assert isinstance(Catalogue(bundle, Silent()).find(PULL), Answer)
        assert [b"".join(map(bytes, bundle.chunks(layer.digest, start))) for start in (0, 1)] == [content, b""]
    raw = patch.read_bytes()
    patch.write_bytes(raw.replace(content, content[:-9] + bytes(9)))
    with open_bundle([update, patch]) as bundle:
        (damage,) = verify_by_turns(bundle, Counted()).damages
        assert (damage.kind, damage.blob, len(damage.images)) == ("wrong", layer.digest.text, 2)
        with pytest.raises(BundleError, match="damaged in this patch"):
            bundle.read(layer.digest)
    with pytest.raises(second_reader.RefusedError):
        second_reader.read_patch(patch.read_bytes(), found.bundle)


def test_a_large_layer_out_of_a_patch(cargo: Cargo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes it chunk by chunk has it read twice, however many chunks it has, and gets no end that is wrong."""
    larger = replace(cargo, blobs=dict(cargo.blobs), images=list(cargo.images))
    content = random.Random(2).randbytes(6 * CHUNK - 100)
    image = Image((Layer({"/large": File(content)}, "none"),))
    larger.image("docker.io/library/large:1", write_layout(tmp_path / "layout", image))
    (layer,) = (blob for blob in larger.blobs if blob.size > len(content))
    (path,) = update_of(larger, [layer]).write(tmp_path, key=signing_key())
    patch, count = tmp_path / "patch.tar", chunk_count(layer.size)
    with open_bundle([path]) as bundle:
        write_patch(bundle, request_for(bundle), patch, Earlier(larger))
    read, reads = VolumeFile.read_into, 0

    def counted(self: VolumeFile, view: memoryview, offset: int) -> None:
        nonlocal reads
        reads += len(view) == CHUNK
        read(self, view, offset)

    with open_bundle([path, patch]) as bundle:
        monkeypatch.setattr(VolumeFile, "read_into", counted)
        chunks = [bytes(next(bundle.chunks(layer.digest, number))) for number in range(count)]
        assert b"".join(chunks) == larger.blobs[layer]
        assert reads < 2 * count
    whole = patch.read_bytes()
    place = whole.index(content[:100]) + CHUNK
    patch.write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    with open_bundle([path, patch]) as bundle:
        for number in range(count - 1):
            next(bundle.chunks(layer.digest, number))
        with pytest.raises(BundleError, match="damaged in this patch"):
            next(bundle.chunks(layer.digest, count - 1))


def test_a_source_that_delivers_something_else(cargo: Cargo, update: Path, tmp_path: Path) -> None:
    layer = shared_layer(cargo)
    for content in (bytes(layer.size), b"", cargo.blobs[layer][:-1]):
        wrong = Earlier(replace(cargo, blobs={layer: content}))
        with open_bundle([update]) as bundle, pytest.raises(ContentError, match="other content"):
            write_patch(bundle, request_for(bundle), tmp_path / "patch.tar", wrong)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_left_out(cargo: Cargo) -> None:
    fine = update_of(cargo, [shared_layer(cargo)]).skeleton()
    manifests = [blob for blob in cargo.blobs if blob.media_type in media_types.MANIFESTS]
    empty = [blob for blob in cargo.blobs if not blob.size]
    documents = [blob for blob in cargo.blobs if blob.digest == cargo.documents[0].digest]
    charts = [blob for blob in cargo.blobs if blob.digest == cargo.charts[0].archive]
    for left_out in (manifests, empty, documents, charts):
        assert left_out
        with pytest.raises(BundleError):
            update_of(cargo, left_out).skeleton()
    for bases in ((), (*fine.bases, *fine.bases)):
        with pytest.raises(BundleError):
            replace(fine, bases=bases)
    with pytest.raises(BundleError):
        replace(cargo.skeleton(), bases=fine.bases)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "A"},
        {"version": ""},
        {"content": "0" * 15},
        {"content": "A" * 16},
        {"repositories": ("redis",)},
        {"repositories": ("docker.io/library/b", "docker.io/library/a")},
        {"repositories": ("docker.io/library/a:1",)},
    ],
)
def test_bases_that_cannot_be_meant(change: dict[str, str]) -> None:
    base = BundleBase("platform", "1.0", "0" * 16, ("docker.io/library/a",))
    with pytest.raises(BundleError):
        replace(base, **change)
