"""Images from layout folders and docker archives: the usual forms, and files that lie."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from builder.images.docker_archive import DockerArchive
from builder.images.layout import OciLayout
from installer.errors import AirferryError, ContentError, NotFoundError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest
from tests.parts.images import (
    DOCKER,
    OCI,
    REF_NAME,
    Family,
    File,
    Image,
    Layer,
    Layout,
    LayoutWriter,
    Platform,
    compact,
    write_layout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from installer.oci.source import BlobSource

IMAGE = Image((Layer({"a": File(b"a" * 5000)}), Layer({"b": File(b"b")}, compression="none")))
ARM = Image(IMAGE.layers, platform=Platform("arm64"))


def read(source: BlobSource, descriptor: Descriptor, offset: int = 0) -> bytes:
    view, count = memoryview(bytearray(descriptor.size + 1)), 0
    with source.open(descriptor, offset) as stream:
        while part := stream.readinto(view[count : count + 1000]):
            count += part
    return bytes(view[:count])


def blob_path(layout: Layout, digest: str) -> Path:
    return layout.path / "blobs" / digest.replace(":", "/")


class TestLayout:
    @pytest.mark.parametrize("family", [OCI, DOCKER], ids=["oci", "docker"])
    def test_one_image(self, tmp_path: Path, family: Family) -> None:
        layout = write_layout(tmp_path, IMAGE, tag="1.0", family=family)
        source = OciLayout(tmp_path)
        found = source.manifest()
        assert isinstance(found, Manifest)
        for name in ("1.0", layout.digest):
            assert source.manifest(name) == found
            assert found.descriptor == Descriptor(family.manifest, Digest(layout.digest), found.descriptor.size)
        for blob in found.blobs:
            data = read(source, blob)
            blob.digest.check(data, "blob")
            assert read(source, blob, 7) == data[7:]
            assert read(source, blob, blob.size) == b""

    def test_several_platforms(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path, [IMAGE, ARM])
        source = OciLayout(tmp_path)
        index = source.manifest("latest")
        assert isinstance(index, Index)
        for child in index.manifests:
            assert isinstance(source.manifest(child.digest.text), Manifest)
        assert {item.digest.text for item in index.manifests} == set(layout.manifests)

    def test_names(self, tmp_path: Path) -> None:
        writer = LayoutWriter(tmp_path)
        one, two = writer.put_image(IMAGE, OCI), writer.put_image(ARM, OCI)
        writer.finish(one, "7")
        name = {"io.containerd.image.name": "docker.io/library/redis:7"}
        items = [
            {**one, "annotations": {**name, "org.opencontainers.image.ref.name": "7"}},
            {**two, "annotations": {"org.opencontainers.image.ref.name": "evil\x1b[2J"}},
        ]
        (tmp_path / "index.json").write_bytes(compact({"schemaVersion": 2, "manifests": items}))
        source = OciLayout(tmp_path)
        for text in ("7", "docker.io/library/redis:7", "redis:7"):
            assert source.manifest(text).descriptor.digest.text == one["digest"]
        with pytest.raises(NotFoundError, match="no image 'redis:8'") as caught:
            source.manifest("redis:8")
        assert "7, docker.io/library/redis:7, evil\\x1b[2J" in caught.value.hint
        with pytest.raises(ContentError, match="holds 2 images"):
            source.manifest()

    def test_files_that_are_missing(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path, IMAGE)
        (tmp_path / "oci-layout").unlink()
        assert OciLayout(tmp_path).manifest().descriptor.digest.text == layout.digest
        (tmp_path / "index.json").unlink()
        with pytest.raises(NotFoundError, match=r"index\.json"):
            OciLayout(tmp_path).manifest()

    def test_names_in_an_index_below(self, tmp_path: Path) -> None:
        """As `index.json` of nested layouts has them; what stands above goes before."""
        writer = LayoutWriter(tmp_path)
        one, two = writer.put_image(IMAGE, OCI), writer.put_image(ARM, OCI)
        inner = [{**item, "annotations": {REF_NAME: name}} for item, name in ((one, "r.site/a:1"), (two, "top"))]
        below = writer.put(compact({"schemaVersion": 2, "mediaType": OCI.index, "manifests": inner}), OCI.index)
        writer.finish(below, "top")
        source = OciLayout(tmp_path)
        assert source.manifest("r.site/a:1").descriptor.digest.text == one["digest"]
        assert (
            source.manifest("top").descriptor.digest.text == source.manifest().descriptor.digest.text == below["digest"]
        )
        with pytest.raises(NotFoundError, match="no image 'absent'") as caught:
            source.manifest("absent")
        assert "r.site/a:1, top" in caught.value.hint

    @pytest.mark.parametrize(
        "text", [b"", b"{}", b'{"imageLayoutVersion":"2.0.0"}', b"[]", b'{"imageLayoutVersion":"1.0.0"}' + b" " * 5000]
    )
    def test_other_versions(self, tmp_path: Path, text: bytes) -> None:
        write_layout(tmp_path, IMAGE)
        (tmp_path / "oci-layout").write_bytes(text)
        with pytest.raises(ContentError):
            OciLayout(tmp_path)

    def test_damaged_files(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path, IMAGE)
        source = OciLayout(tmp_path)
        found = source.manifest()
        assert isinstance(found, Manifest)
        path = blob_path(layout, found.config.digest.text)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ContentError, match="the descriptor says"):
            source.open(found.config)
        path.unlink()
        with pytest.raises(NotFoundError):
            source.open(found.config)
        blob_path(layout, layout.digest).write_bytes(b"{}")
        with pytest.raises(ContentError, match="expected sha256"):
            source.manifest()

    def test_a_file_that_shrinks_while_it_is_read(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path, IMAGE)
        source = OciLayout(tmp_path)
        found = source.manifest()
        assert isinstance(found, Manifest)
        with source.open(found.config) as stream:
            stream.readinto(memoryview(bytearray(5)))
            os.truncate(blob_path(layout, found.config.digest.text), 5)
            with pytest.raises(ContentError, match="ends at byte 5"):
                stream.readinto(memoryview(bytearray(5)))

    @pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
    def test_files_that_are_none(self, tmp_path: Path, kind: str) -> None:
        layout = write_layout(tmp_path, IMAGE)
        source = OciLayout(tmp_path)
        found = source.manifest()
        assert isinstance(found, Manifest)
        path = blob_path(layout, found.config.digest.text)
        path.rename(tmp_path / "elsewhere")
        match kind:
            case "link":
                path.symlink_to(tmp_path / "elsewhere")
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case _:
                path.symlink_to("/dev/zero")
        with pytest.raises(AirferryError, match=r"cannot open|not a regular file"):
            source.open(found.config)


def archive(path: Path, members: Mapping[str, bytes | str], form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar of files (bytes) and symbolic links (text)."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            if isinstance(data, str):
                header.type, header.linkname = tarfile.SYMTYPE, data
                tar.addfile(header)
            else:
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return path


LAYERS = [Layer({"a": File(b"a" * 5000)}).tar(), Layer({"b": File(b"b")}).tar()]


def saved(
    *, tags: Any = ("redis:7",), layers: list[bytes] | None = None, more: Any = None, **change: Any
) -> dict[str, bytes | str]:
    """The members of an archive in the form of engines before 25."""
    layers = LAYERS if layers is None else layers
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = compact(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}, **(more or {})}
    )
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    members: dict[str, bytes | str] = {name: config}
    for count, layer in enumerate(layers):
        members |= {f"{count}/VERSION": b"1.0", f"{count}/json": b"{}", f"{count}/layer.tar": layer}
    item = {
        "Config": name,
        "RepoTags": tags,
        "Layers": [f"{count}/layer.tar" for count in range(len(layers))],
        **change,
    }
    members["manifest.json"] = compact([item])
    members["repositories"] = b'{"redis":{"7":"0"}}'
    return members


class TestDockerArchive:
    @pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_old_form(self, tmp_path: Path, form: int) -> None:
        with DockerArchive(archive(tmp_path / "a.tar", saved(), form), tmp_path) as source:
            found = source.manifest()
            assert source.manifest("redis:7") == source.manifest("docker.io/library/redis:7") == found
            assert isinstance(found, Manifest)
            assert [read(source, layer) for layer in found.layers] == LAYERS
            assert {layer.media_type for layer in found.layers} == {media_types.OCI_LAYER}
            config = json.loads(read(source, found.config))
            assert config["rootfs"]["diff_ids"] == [layer.digest.text for layer in found.layers]
            assert read(source, found.layers[0], 5000) == LAYERS[0][5000:]
            for name in ("redis:8", "other"):
                with pytest.raises(NotFoundError, match="no image") as caught:
                    source.manifest(name)
                assert "redis:7" in caught.value.hint

    def test_labels_may_differ_in_case_only(self, tmp_path: Path) -> None:
        labels = {"Version": "1", "version": "2"}
        with DockerArchive(archive(tmp_path / "a.tar", saved(more={"config": {"Labels": labels}})), tmp_path) as source:
            found = source.manifest()
            assert isinstance(found, Manifest)
            assert json.loads(read(source, found.config))["config"]["Labels"] == labels

    def test_the_made_manifest_is_always_the_same(self, tmp_path: Path) -> None:
        members = saved()
        other = dict(reversed(members.items()))
        digests = set()
        for name, items in (("a", members), ("b", other)):
            with DockerArchive(archive(tmp_path / name, items), tmp_path) as source:
                digests.add(source.manifest().descriptor.digest.text)
        assert digests == {"sha256:c73211c9695740b64d51b41e6346f42ecd0d6e6bad35d032e28e8b55d19a2ac5"}

    def test_links_to_layers(self, tmp_path: Path) -> None:
        members = saved()
        members |= {
            "1/layer.tar": "../shared/layer.tar",
            "shared/layer.tar": "../2/layer.tar",
            "2/layer.tar": LAYERS[1],
        }
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            found = source.manifest()
            assert isinstance(found, Manifest)
            assert read(source, found.layers[1]) == LAYERS[1]

    @pytest.mark.parametrize(
        "target", ["../../../etc/passwd", "/etc/passwd", "layer.tar", "../absent", "../1/layer.tar"]
    )
    def test_links_out_of_the_archive(self, tmp_path: Path, target: str) -> None:
        members = saved()
        members["1/layer.tar"] = target
        with (
            DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source,
            pytest.raises(ContentError, match="no layer"),
        ):
            source.manifest()

    def test_compressed_layers(self, tmp_path: Path) -> None:
        """One as registries know it stays as it is, and must unpack to what the configuration says."""
        members = saved()
        members["0/layer.tar"] = gzip.compress(LAYERS[1])
        with (
            DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source,
            pytest.raises(ContentError, match="is damaged"),
        ):
            source.manifest()
        members["0/layer.tar"] = gzip.compress(LAYERS[0], mtime=0)
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            found = source.manifest()
            assert isinstance(found, Manifest)
            assert [layer.media_type for layer in found.layers] == [media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER]
            assert gzip.decompress(read(source, found.layers[0])) == LAYERS[0]

    def test_new_form(self, tmp_path: Path) -> None:
        """An OCI layout with docker's manifest.json beside it, as engines from 25 on write it."""
        layout = write_layout(tmp_path / "layout", [IMAGE, ARM])
        members: dict[str, bytes | str] = {
            str(path.relative_to(layout.path)): path.read_bytes() for path in layout.path.rglob("*") if path.is_file()
        }
        index = json.loads(members["index.json"])
        index["manifests"][0]["annotations"]["io.containerd.image.name"] = "docker.io/library/redis:7"
        members["index.json"] = compact(index)
        members["manifest.json"] = b"[]"
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            for name in ("", "redis:7", "latest"):
                found = source.manifest(name)
                assert found.descriptor.digest.text == layout.digest
            for digest, size in layout.blobs.items():
                Digest(digest).check(read(source, Descriptor("a/b", Digest(digest), size)), "blob")
            absent = Descriptor("a/b", Digest.of(b"absent"), 6)
            with pytest.raises(NotFoundError):
                source.open(absent)
            with pytest.raises(ContentError, match="instead of 6"):
                source.open(Descriptor("a/b", Digest(layout.digest), 6))

    def test_new_form_named_by_docker_only(self, tmp_path: Path) -> None:
        layout = write_layout(tmp_path / "layout", IMAGE)
        members: dict[str, bytes | str] = {
            str(path.relative_to(layout.path)): path.read_bytes() for path in layout.path.rglob("*") if path.is_file()
        }
        found = OciLayout(layout.path).manifest()
        assert isinstance(found, Manifest)
        item = {"Config": f"blobs/sha256/{found.config.digest.hex}", "RepoTags": ["r.site/own:1"], "Layers": []}
        members["manifest.json"] = compact([item])
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            assert source.manifest("r.site/own:1") == found

    def test_layers_that_are_unpacked(self, tmp_path: Path) -> None:
        """What no registry takes for a layer is unpacked, whatever it is called; so is its digest."""
        members = saved()
        # Several streams, and padding between them: parallel programs write those.
        members["0/layer.tar"] = lzma.compress(LAYERS[0][:700]) + bytes(8) + lzma.compress(LAYERS[0][700:]) + bytes(4)
        members["1/layer.tar"] = bz2.compress(LAYERS[1][:700]) + bz2.compress(LAYERS[1][700:])
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            found = source.manifest()
            assert isinstance(found, Manifest)
            assert [(layer.media_type, layer.digest, layer.size) for layer in found.layers] == [
                (media_types.OCI_LAYER, Digest.of(layer), len(layer)) for layer in LAYERS
            ]
            for layer, data in zip(found.layers, LAYERS, strict=True):
                for offset in (0, 1, 699, 1500, len(data)):
                    assert read(source, layer, offset) == data[offset:]

    @pytest.mark.parametrize("size", [lzma.PRESET_DEFAULT, lzma.PRESET_EXTREME | 9])
    def test_memory_for_xz(self, tmp_path: Path, size: int) -> None:
        """Every preset can be read; a dictionary that only a hostile header asks for cannot."""
        members = saved()
        members["0/layer.tar"] = lzma.compress(LAYERS[0], preset=size)
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            source.manifest()
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
        members["0/layer.tar"] = lzma.compress(LAYERS[0], filters=filters)
        with (
            DockerArchive(archive(tmp_path / "b.tar", members), tmp_path) as source,
            pytest.raises(ContentError, match=r"[Mm]emory"),
        ):
            source.manifest()

    def test_several_images(self, tmp_path: Path) -> None:
        """They are named, or numbered as skopeo numbers them; what stands twice is one image."""
        one, two = saved(tags=None), saved(layers=LAYERS[:1], tags=["a:1", "r.site/b:2"])
        items = json.loads(one["manifest.json"]) + json.loads(two["manifest.json"]) * 2
        members = one | two | {"manifest.json": compact(items)}
        with DockerArchive(archive(tmp_path / "a.tar", members), tmp_path) as source:
            found = [source.manifest(name) for name in ("@0", "@1", "a:1", "r.site/b:2")]
            assert len(set(map(id, found))) == 2
            assert found[1] == found[2] == found[3]
            for name, kind in (("", ContentError), ("@3", NotFoundError), ("c:1", NotFoundError)):
                with pytest.raises(kind) as caught:
                    source.manifest(name)
                assert "it holds: a:1, r.site/b:2" in caught.value.hint

    def test_an_archive_that_is_compressed_leaves_nothing_behind(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "a.tar", saved())
        path.write_bytes(gzip.compress(path.read_bytes()))
        with DockerArchive(path, tmp_path) as source:
            found = source.manifest()
            assert isinstance(found, Manifest)
            assert [read(source, layer) for layer in found.layers] == LAYERS
            assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"Config": "absent.json"}, "holds no 'absent.json'"),
            ({"Config": "../../etc/passwd"}, "holds no"),
            ({"Config": "\x1b[2J"}, r"holds no '\\\\x1b"),
            ({"Config": 5}, "not a list of images"),
            ({"Config": "repositories"}, "does not name as many layers"),
            ({"Layers": None}, "does not name as many layers"),
            ({"Layers": "x"}, "not a list of images"),
            ({"Layers": [5]}, "not a list of images"),
            ({"Layers": ["0/layer.tar"]}, "does not name as many layers"),
            ({"Layers": ["0/layer.tar", "absent"]}, "holds no layer 'absent'"),
            ({"Layers": ["1/layer.tar", "0/layer.tar"]}, "is damaged"),
            ({"RepoTags": "x"}, "not a list of images"),
            ({"RepoTags": [5]}, "not a list of images"),
        ],
    )
    def test_lists_that_lie(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        path = archive(tmp_path / "a.tar", saved(**change))
        with pytest.raises(ContentError, match=message), DockerArchive(path, tmp_path) as source:
            source.manifest()

    def test_an_image_without_a_name(self, tmp_path: Path) -> None:
        with DockerArchive(archive(tmp_path / "a.tar", saved(tags=None)), tmp_path) as source:
            assert isinstance(source.manifest(), Manifest)
            with pytest.raises(NotFoundError, match="no image 'x'"):
                source.manifest("x")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"x",
            b"x" * 5000,
            gzip.compress(b"x" * 5000),
            gzip.compress(b"x" * 5000)[:-9],
            lzma.compress(b"x")[:-1],
            bytes(10_240),
            b"\xff" * 10_240,
        ],
        ids=["empty", "byte", "text", "gzip", "cut gzip", "cut xz", "zeros", "ones"],
    )
    def test_no_archives(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "a.tar"
        path.write_bytes(data)
        with pytest.raises(ContentError):
            DockerArchive(path, tmp_path)

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "a.tar", saved())
        whole = path.read_bytes()
        outcomes = set()
        for size in range(0, len(whole), 512):
            path.write_bytes(whole[:size])
            try:
                with DockerArchive(path, tmp_path) as source:
                    source.manifest()
                outcomes.add("read")
            except ContentError:
                outcomes.add("refused")
        assert outcomes == {"refused", "read"}

    def test_another_file_than_a_regular_one(self, tmp_path: Path) -> None:
        archive(tmp_path / "a.tar", saved())
        (tmp_path / "link").symlink_to(tmp_path / "a.tar")
        os.mkfifo(tmp_path / "pipe")
        for name in ("link", "pipe", "absent", "."):
            with pytest.raises(AirferryError):
                DockerArchive(tmp_path / name, tmp_path)

    def test_hostile_headers(self, tmp_path: Path) -> None:
        """Sizes and pax records that say what cannot be (CVE-2019-20907, CVE-2025-8194)."""
        path = archive(tmp_path / "a.tar", saved())
        whole = bytearray(path.read_bytes())
        for size in (b"7777777777\0 ", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0"):
            changed = bytearray(whole)
            changed[124:136] = size
            changed[148:156] = b" " * 8
            total = sum(changed[:512])
            changed[148:156] = f"{total:06o}\0 ".encode()
            path.write_bytes(changed)
            with pytest.raises(ContentError), DockerArchive(path, tmp_path) as source:
                source.manifest()

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
    def test_a_header_that_asks_for_all_memory(self, tmp_path: Path, kind: bytes) -> None:
        """It says that 8 GiB of names follow."""
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 8 << 30
        path = tmp_path / "a.tar"
        path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
        with pytest.raises(ContentError, match="a header of"):
            DockerArchive(path, tmp_path)
