"""Archives that real tools write: docker's own engine, and skopeo; and whatever skopeo reads."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd

from builder.images.docker_archive import DockerArchive
from installer.oci import media_types
from installer.oci.model import Descriptor, Manifest
from tests.parts.dockerd import Dockerd
from tests.parts.images import File, Image, Layer, Layout, compact, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE = Image((Layer({"a": File(b"a" * 100_000)}), Layer({"b": File(b"b")}, compression="none")))


def contents(path: Path, name: str) -> dict[str, bytes]:
    """The plain layers of the image in an archive by digest, verified, as a check that they can be read."""
    with DockerArchive(path, path.parent) as source:
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


NAME = "r.site/team/app:1"
LAYERS = [layer.tar() for layer in IMAGE.layers]
# A hole in the middle, which programs that know of holes leave out.
HOLE = b"".join([Layer({"a": File(b"a" * 5000 + bytes(300_000) + b"z")}).tar(), bytes(300_000)])
Members = dict[str, "bytes | tarfile.TarInfo"]


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo()
    header.type, header.linkname = kind, target
    return header


def saved(layers: list[bytes], **change: Any) -> Members:
    """The members of an archive as engines before 25 write it."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = compact({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    members: Members = {f"{count}/layer.tar": layer for count, layer in enumerate(layers)}
    item = {"Config": "config.json", "RepoTags": [NAME], "Layers": list(members)} | change
    return members | {"config.json": config, "manifest.json": compact([item])}


def packed_layers(pack: Callable[[bytes], bytes]) -> Members:
    return saved(LAYERS) | {f"{count}/layer.tar": pack(layer) for count, layer in enumerate(LAYERS)}


def small_keys() -> Members:
    members = saved(LAYERS)
    item = {"config": "config.json", "repoTags": [NAME], "layers": ["0/layer.tar", "1/layer.tar"]}
    return members | {"manifest.json": compact([item])}


READABLE: dict[str, Callable[[], Members]] = {
    "plain": lambda: saved(LAYERS),
    "layers in gzip": lambda: packed_layers(gzip.compress),
    "layers in bzip2": lambda: packed_layers(bz2.compress),
    "layers in zstd": lambda: packed_layers(zstd.compress),
    "layers in xz": lambda: packed_layers(lzma.compress),
    "keys of jib before 2.3": small_keys,
    "names with ./": lambda: {f"./{name}": data for name, data in saved(LAYERS).items()},
    "a layer twice, the second a link": lambda: (
        saved([LAYERS[0], LAYERS[1], LAYERS[0]]) | {"2/layer.tar": link(tarfile.SYMTYPE, "../0/layer.tar")}
    ),
    "no name": lambda: saved(LAYERS, RepoTags=None),
    "several names": lambda: saved(LAYERS, RepoTags=["other:1", NAME, f"{NAME}.2"]),
    "names out of the usual": lambda: saved(LAYERS, RepoTags=[]) | {"extra/file": b"x", "repositories": b"{}"},
    "no layers": lambda: saved([], Layers=None),
}
WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    media_types.OCI_LAYER: bytes,
    media_types.OCI_LAYER_GZIP: gzip.decompress,
    media_types.OCI_LAYER_ZSTD: zstd.decompress,
}


def write(path: Path, members: Members, form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name) if isinstance(data, bytes) else data
            header.name = name
            if isinstance(data, bytes):
                header.size = len(data)
            header.pax_headers = {"comment": "x" * 2000}
            archive.addfile(header, io.BytesIO(data if isinstance(data, bytes) else b""))
    return path


def check(path: Path, selector: str = "", ours: Path | None = None) -> None:
    """skopeo finds in the archive at `path` what airferry finds in `ours`, usually the same archive: the configuration
    and layers with its diff_ids.
    """
    theirs = path.parent / "theirs"
    suffix = f":{selector}" if selector else ""
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"docker-archive:{path}{suffix}", f"dir:{theirs}"],
        check=True,
        timeout=60,
    )
    manifest = json.loads((theirs / "manifest.json").read_bytes())
    with DockerArchive(ours or path, path.parent) as source:
        found = source.manifest(selector)
        assert isinstance(found, Manifest)
        assert found.config.digest.text == manifest["config"]["digest"]
        plain = []
        for layer in found.layers:
            data = read(source, layer)
            plain.append(UNPACK[layer.media_type](data))
    assert [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in plain] == [
        layer["digest"] for layer in manifest["layers"]
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("name", READABLE)
def test_what_skopeo_reads(tmp_path: Path, name: str, form: int) -> None:
    check(write(tmp_path / "a.tar", READABLE[name](), form))


@pytest.mark.parametrize("way", WHOLE)
def test_archives_that_are_compressed(tmp_path: Path, way: str) -> None:
    path, packed = write(tmp_path / "a.tar", saved(LAYERS)), tmp_path / "packed"
    packed.write_bytes(WHOLE[way](path.read_bytes()))
    # Not of the packed one: skopeo 1.9.3 finds the end of a small one in gzip too early.
    check(path, NAME, packed)


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_members(tmp_path: Path, form: str) -> None:
    """As GNU tar packs files with holes, in each of its formats."""
    (tmp_path / "0").mkdir()
    for name, data in saved([HOLE]).items():
        assert isinstance(data, bytes)
        (tmp_path / "full").write_bytes(data)
        subprocess.run(["cp", "--sparse=always", "full", name], cwd=tmp_path, check=True)
    command = ["tar", "--create", "--file", "a.tar", "--sparse", "--hole-detection=raw"]
    command += ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form}"]
    subprocess.run([*command, "0/layer.tar", "config.json", "manifest.json"], cwd=tmp_path, check=True)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.getmember("0/layer.tar").issparse()
    check(tmp_path / "a.tar")


def test_several_images(tmp_path: Path) -> None:
    one, two = saved(LAYERS), saved(LAYERS[:1], RepoTags=["other:2"])
    items = [json.loads(bytes(members["manifest.json"]))[0] for members in (one, two)]  # type: ignore[arg-type]
    items[1]["Config"] = "two.json"
    members = one | {"two.json": two["config.json"], "manifest.json": compact(items)}
    for count, selector in enumerate((NAME, "other:2", "@0", "@1")):
        (tmp_path / str(count)).mkdir()
        check(write(tmp_path / str(count) / "a.tar", members), selector)


@pytest.mark.parametrize("way", WHOLE)
def test_an_archive_of_a_layout(tmp_path: Path, layout: Layout, way: str) -> None:
    path = tmp_path / "a.tar"
    command = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--preserve-digests",
        "--quiet",
        f"oci:{layout.path}:{layout.tag}",
    ]
    subprocess.run([*command, f"oci-archive:{path}:{NAME}"], check=True, timeout=60)
    path.write_bytes(WHOLE[way](path.read_bytes()))
    for name in (NAME, ""):
        with DockerArchive(path, tmp_path) as source:
            assert source.manifest(name).descriptor.digest.text == layout.digest
