"""Archives that real tools write: docker's own engine, and skopeo."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from installer.oci.docker_archive import DockerArchive
from installer.oci.model import Descriptor, Manifest
from tests.parts.dockerd import Dockerd
from tests.parts.images import File, Image, Layer, Layout, write_layout

IMAGE = Image((Layer({"a": File(b"a" * 100_000)}), Layer({"b": File(b"b")}, compression="none")))


def contents(path: Path, name: str) -> dict[str, bytes]:
    """The plain layers of the image in an archive by digest, verified, as a check that they can be read."""
    with DockerArchive(path) as source:
        found = source.manifest(name)
        assert isinstance(found, Manifest)
        return {blob.digest.text: read(source, blob) for blob in found.layers}


def read(source: DockerArchive, descriptor: Descriptor) -> bytes:
    view, count = memoryview(bytearray(descriptor.size)), 0
    with source.open(descriptor) as stream:
        while part := stream.readinto(view[count:]):
            count += part
    descriptor.digest.check(view, "blob")
    return bytes(view)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return write_layout(tmp_path / "layout", IMAGE)


def copy_with_skopeo(layout: Layout, target: Path) -> Path:
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layout.path}:{layout.tag}"]
    subprocess.run([*command, f"docker-archive:{target}:r.site/team/app:1"], check=True, timeout=60)
    return target


def test_written_by_skopeo(tmp_path: Path, layout: Layout) -> None:
    found = contents(copy_with_skopeo(layout, tmp_path / "a.tar"), "r.site/team/app:1")
    assert list(found.values()) == [layer.tar() for layer in IMAGE.layers]


def test_written_by_the_engine(tmp_path: Path, layout: Layout) -> None:
    source, target = copy_with_skopeo(layout, tmp_path / "a.tar"), tmp_path / "b.tar"
    with tempfile.TemporaryDirectory(prefix="af-") as folder, Dockerd(Path(folder)) as engine:
        engine.docker("load", "--input", source)
        engine.docker("tag", "r.site/team/app:1", "second:2")
        engine.docker("save", "--output", target, "r.site/team/app:1", "second:2")
    found = contents(target, "second:2")
    assert found == contents(target, "r.site/team/app:1")
    assert list(found.values()) == [layer.tar() for layer in IMAGE.layers]
