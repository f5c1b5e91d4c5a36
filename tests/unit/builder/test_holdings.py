"""What may be left out: by bundles that everybody has, and by what single registries hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.assemble.contents import contents
from builder.assemble.delta_base import WHOLE, Holding, Omission, omission, omission_of
from builder.assemble.volume_size import VolumeSize
from installer.bundle.manifest import content_of
from installer.errors import UsageError
from installer.transfer.receipt import Receipt
from installer.value import replace
from tests.parts.locks import digest, example, image

if TYPE_CHECKING:
    from pathlib import Path

    from builder.recipe.lock import Lock


def lock_of(version: str, **layers: list[str]) -> Lock:
    """A lock with images of these layers."""
    parts = [image(name, layers[name]) for name in sorted(layers)]
    unique = {blob.digest: blob for *_, blobs in parts for blob in blobs}
    manifests = (manifest for _, manifest, _ in parts)
    return replace(
        example(),
        version=version,
        images=tuple(locked for locked, *_ in parts),
        charts=(),
        documents=(),
        manifests=tuple(sorted(manifests, key=lambda manifest: manifest.digest)),
        blobs=tuple(unique[key] for key in sorted(unique)),
    )


OLD = lock_of("1.0", web=["os", "web1"], job=["os", "job1"])
NEW = lock_of("2.0", web=["os", "web2"], job=["os", "job1"], moved=["web1"])


def receipt_of(lock: Lock, registry: str) -> Receipt:
    planned = contents(lock)
    return Receipt.of(planned.skeleton, {entry.source for entry in lock.images}, registry)


def names(found: Omission) -> set[str]:
    known = {digest(name): name for name in ("os", "web1", "web2", "job1", "web config", "job config")}
    return {known[blob] for blob in found.blobs}


def test_a_lock_a_bundle_and_a_receipt_say_the_same() -> None:
    planned = contents(OLD)
    lock, bundle = Holding.of_lock(OLD), Holding.of_bundle(planned.skeleton)
    receipt = Holding.of_receipt(receipt_of(OLD, "r:5000"))
    assert lock.content == bundle.content == receipt.content == content_of(blob.digest for blob in OLD.blobs)
    for blob in OLD.blobs:
        assert lock.where(blob.digest) == bundle.where(blob.digest)
        if not blob.descriptor.is_manifest:
            assert lock.where(blob.digest) == receipt.where(blob.digest)


def test_what_is_left_out() -> None:
    found = omission(NEW, [Holding.of_lock(OLD)], {})
    assert names(found) == {"os", "web1", "job1", "web config", "job config"}
    (base,) = found.bases
    # The one layer that no repository of its own holds.
    assert (base.name, base.version, base.repositories) == (OLD.name, "1.0", ("docker.io/team/web",))
    assert omission(NEW, [], {}) == WHOLE


def test_what_all_registries_hold() -> None:
    """Of one registry any receipt counts; of several, what each has."""
    less = lock_of("0.9", web=["os", "web0"])
    old, before = (Holding.of_receipt(receipt_of(lock, "r")) for lock in (OLD, less))
    assert omission(NEW, [], {"a": [old, before]}).blobs == omission(NEW, [], {"a": [old]}).blobs
    assert names(omission(NEW, [], {"a": [old], "b": [before]})) == {"os", "web config"}
    assert names(omission(NEW, [Holding.of_lock(OLD)], {"b": [before]})) == names(omission(NEW, [], {"a": [old]}))


def test_the_order_of_names_does_not_matter(tmp_path: Path) -> None:
    less = lock_of("0.9", web=["os", "web0"])
    for lock in (OLD, less):
        lock.save(tmp_path / f"{lock.version}.lock")
    paths = [tmp_path / "1.0.lock", tmp_path / "0.9.lock"]
    assert omission_of(NEW, [], paths) == omission_of(NEW, [], paths[::-1])


def test_a_line_needs_the_lock_that_it_speaks_of(tmp_path: Path) -> None:
    OLD.save(tmp_path / "old.lock")
    line = receipt_of(OLD, "r:5000").text
    with pytest.raises(UsageError, match="only says that r:5000 holds"):
        omission_of(NEW, [line], [])
    found = omission_of(NEW, [line], [tmp_path / "old.lock"])
    assert found == omission_of(NEW, [], [tmp_path / "old.lock"])
    # It does not make the old lock one that everybody has.
    (tmp_path / "other.json").write_bytes(receipt_of(lock_of("0.9", web=["os"]), "other:5000").encode())
    assert names(omission_of(NEW, [line, str(tmp_path / "other.json")], [tmp_path / "old.lock"])) == {
        "os",
        "web config",
    }


def test_volumes_without_what_is_left_out() -> None:
    """Sizes follow from what is carried; whole images are what stock tools are told of."""
    omitted = omission(NEW, [Holding.of_lock(OLD)], {})
    planned = contents(NEW, None, omitted)
    assert {blob.digest for blob in planned.skeleton.left_out} == omitted.blobs
    assert [entry.source for entry in planned.skeleton.whole_images] == []
    assert planned.manifest_json == b"[]"
    assert planned.file_names == [f"{NEW.name}-2.0-update.tar"]
    several = contents(NEW, VolumeSize.parse("8MiB"), omitted)
    assert several.skeleton.blobs == planned.skeleton.blobs
