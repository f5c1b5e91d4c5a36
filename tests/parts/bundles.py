"""Bundles for tests, made by the real writer from real images, charts and documents, and signed with a test key."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from builder.assemble.packing import arrange
from builder.assemble.volume_size import VolumeSize
from builder.release.sign import SigningKey, load_key, sign
from installer.bundle.image_graph import ImageGraph
from installer.bundle.limits import CHUNK, FORMAT
from installer.bundle.manifest import (
    NEVER,
    BundleBase,
    BundleBlob,
    BundleChart,
    BundleDocument,
    BundleImage,
    BundleManifest,
    content_of,
)
from installer.bundle.reader import Bundle, MediaPrompt
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile, metadata_of
from installer.bundle.writer import write
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, Platform, parse_manifest
from installer.report import Silent
from installer.value import replace
from tests.parts.images import File, Image, Layer, Layout, Run, compact, write_layout
from tests.parts.images import Platform as ImagePlatform

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

KEYS = Path(__file__).parent.parent / "vectors" / "keys"
AMD64 = Platform("linux", "amd64")


def signing_key(name: str = "test-only") -> SigningKey:
    """The private key `tests/vectors/keys/NAME.key`; everybody knows it, it signs nothing but tests."""
    return load_key(KEYS / f"{name}.key", b"")


def trust(name: str = "test-only") -> Trust:
    """Both public keys of that file."""
    return Trust(signing_key(name).public)


class MemoryStream:
    """A blob's bytes as a stream."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def readinto(self, view: memoryview) -> int:
        """Fill `view`; less at the end."""
        return self._file.readinto(view)


class Cargo(msgspec.Struct):
    """What a bundle shall hold, and the bundle made of it."""

    name: str = "reference"
    version: str = "1.0"
    sequence: int = 1
    created: str = "2026-01-01T00:00:00Z"
    expires: str = NEVER
    blobs: dict[Descriptor, bytes] = {}
    images: list[BundleImage] = []
    charts: list[BundleChart] = []
    documents: list[BundleDocument] = []
    left_out: frozenset[Digest] = frozenset()
    bases: tuple[BundleBase, ...] = ()
    docker_index: bytes = b""

    def put(self, data: bytes, media_type: str = media_types.OCTETS) -> Descriptor:
        """Add a blob; one that is there already keeps its media type."""
        descriptor = Descriptor(media_type, Digest.of(data), len(data))
        if all(blob.digest != descriptor.digest for blob in self.blobs):
            self.blobs[descriptor] = data
        return descriptor

    def image(self, source: str, layout: Layout, *, platform: Platform | None = None) -> BundleImage:
        """Add the image of a layout folder under the name `source`: all of it, or the part for one platform."""
        root = Digest(layout.digest)
        node = self._node(layout, root, layout.media_type)
        if platform is not None and isinstance(node, Index):
            chosen = next(child for child in node.manifests if child.platform == platform)
            node = self._node(layout, chosen.digest, chosen.media_type)
        platforms = self._carry(layout, node)
        descriptor = node.descriptor
        entry = BundleImage(source, descriptor.digest, descriptor.media_type, descriptor.size, root, platforms)
        self.images.append(entry)
        return entry

    def _node(self, layout: Layout, digest: Digest, media_type: str) -> Manifest | Index:
        return parse_manifest(_blob(layout, digest), media_type)

    def _carry(self, layout: Layout, node: Manifest | Index) -> tuple[Platform, ...]:
        self.put(node.raw, node.descriptor.media_type)
        if isinstance(node, Index):
            found = [self._carry(layout, self._node(layout, item.digest, item.media_type)) for item in node.manifests]
            return tuple(sorted({platform for platforms in found for platform in platforms}))
        for blob in node.blobs:
            self.put(_blob(layout, blob.digest), blob.media_type)
        config = json.loads(_blob(layout, node.config.digest))
        return (Platform(config["os"], config["architecture"], config.get("variant", "")),)

    def chart(self, archive: bytes, metadata: Mapping[str, Any] | None = None) -> BundleChart:
        """Add a packed chart and its form as an OCI artifact (Helm's HIP 6)."""
        metadata = metadata or chart_metadata(archive)
        config = self.put(compact(metadata), media_types.HELM_CONFIG)
        layer = self.put(archive, media_types.HELM_CHART)
        artifact = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": _json(config),
            "layers": [_json(layer)],
        }
        manifest = self.put(compact(artifact), media_types.OCI_MANIFEST)
        name, version = metadata["name"], metadata["version"]
        source = f"https://charts.example.com/{name}-{version}.tgz"
        entry = BundleChart(name, version, layer.digest, manifest.digest, source)
        self.charts.append(entry)
        return entry

    def document(self, name: str, data: bytes, kind: str = "other") -> BundleDocument:
        """Add a document."""
        entry = BundleDocument(name, kind, self.put(data).digest)
        self.documents.append(entry)
        return entry

    def skeleton(self, volume_size: int | None = None) -> BundleManifest:
        """The manifest without chunk hashes, laid out in volumes of at most `volume_size` bytes."""
        metadata = 0
        while True:
            size = VolumeSize(volume_size) if volume_size else None
            closures = {image.source: self._parts(image) for image in self.images}
            layout = arrange(list(self.blobs), closures, size, metadata, self.left_out)
            images = [replace(image, parts=layout.parts[image.source]) for image in self.images]
            found = BundleManifest(
                format=FORMAT,
                name=self.name,
                version=self.version,
                sequence=self.sequence,
                created=self.created,
                expires=self.expires,
                minimum_installer="0.1.0",
                platforms=tuple(sorted({platform for image in self.images for platform in image.platforms} or {AMD64})),
                images=tuple(sorted(images, key=lambda image: image.source)),
                charts=tuple(sorted(self.charts, key=lambda chart: f"{chart.name}-{chart.version}")),
                documents=tuple(sorted(self.documents, key=lambda document: document.name)),
                blobs=layout.blobs,
                volumes=layout.volumes,
                bases=self.bases,
            )
            needed = metadata_of(found, self._manifest_json(found)).length
            if volume_size is None or needed <= metadata:
                return found
            metadata = needed

    def refer(self, source: str, content: bytes, artifact_type: str) -> Descriptor:
        """Add a manifest with the layer `content` that speaks about the image `source`, such as a signature."""
        (place,) = (place for place, image in enumerate(self.images) if image.source == source)
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": _json(self.put(b"{}", "application/vnd.oci.empty.v1+json")),
            "layers": [_json(self.put(content, artifact_type))],
            "subject": _json(self.images[place].root),
        }
        found = self.put(compact(manifest), media_types.OCI_MANIFEST)
        about = tuple(sorted({*self.images[place].referrers, found.digest}))
        self.images[place] = replace(self.images[place], referrers=about)
        return found

    def tag_about(self, source: str, content: bytes, suffix: str) -> str:
        """Add a manifest with the layer `content` that cosign finds by its tag beside the image `source`; the tag."""
        (place,) = (place for place, image in enumerate(self.images) if image.source == source)
        image = self.images[place]
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": _json(self.put(b'{"architecture":"","os":""}', media_types.OCI_CONFIG)),
            "layers": [_json(self.put(content, "application/vnd.dev.cosign.simplesigning.v1+json"))],
        }
        tag = f"sha256-{image.digest.hex}.{suffix}"
        about = (tag, self.put(compact(manifest), media_types.OCI_MANIFEST).digest)
        self.images[place] = replace(image, tagged=tuple(sorted({*image.tagged, about})))
        return tag

    def _parts(self, image: BundleImage) -> set[Digest]:
        held = {blob.digest: blob for blob in self.blobs}
        roots = (image.root, *(held[digest] for digest in image.roots[1:]))
        return set[Digest]().union(*map(self._closure, roots))

    def _closure(self, root: Descriptor) -> set[Digest]:
        """What an image consists of, as far as it is held."""
        held = {blob.digest: data for blob, data in self.blobs.items()}
        found = {root.digest}
        if root.digest in held:
            node = parse_manifest(held[root.digest], root.media_type)
            for child in node.manifests if isinstance(node, Index) else ():
                found |= self._closure(child)
            found |= {blob.digest for blob in node.blobs} if isinstance(node, Manifest) else set()
        return found & held.keys()

    def manifest_json(self) -> bytes:
        """Docker's index: what follows from the images, unless something else shall stand there."""
        return self._manifest_json(self.skeleton())

    def _manifest_json(self, skeleton: BundleManifest) -> bytes:
        held = {blob.digest: data for blob, data in self.blobs.items()}
        graph = ImageGraph(skeleton, {blob.digest: blob for blob in skeleton.blobs}, held.__getitem__)
        return self.docker_index or graph.docker_index()

    def open_blob(self, blob: BundleBlob, offset: int) -> MemoryStream:
        """A blob from a byte on, as the writer asks for it."""
        return MemoryStream(self.blobs[blob.descriptor][offset:])

    def write(
        self, folder: Path, *, volume_size: int | None = None, key: SigningKey | None = None, name: str = "bundle"
    ) -> tuple[Path, ...]:
        """Write the bundle into `folder` and sign it unless `key` is None; the paths of its volumes."""
        skeleton = self.skeleton(volume_size)
        count = len(skeleton.volumes)
        paths = tuple(folder / (f"{name}.tar" if count == 1 else f"{name}-{n + 1}.tar") for n in range(count))
        write(paths, skeleton, self.manifest_json(), self.open_blob, Silent(), threads=2)
        if key is not None:
            sign(paths, key)
        return paths


def several_volumes(cargo: Cargo, folder: Path) -> tuple[Path, ...]:
    """`cargo` with a document of 10 MiB, `large.bin`, in three signed volumes, the document cut into three."""
    larger = replace(cargo, blobs=dict(cargo.blobs), documents=list(cargo.documents))
    larger.document("large.bin", random.Random(1).randbytes(10 * 1024 * 1024))
    paths = larger.write(folder, volume_size=4_300_000, key=signing_key())
    assert len(paths) == 3
    return paths


def update_of(cargo: Cargo, left_out: Collection[Descriptor]) -> Cargo:
    """`cargo` as an update that does not carry `left_out`."""
    base = BundleBase(cargo.name, "0.9", content_of(blob.digest for blob in left_out))
    return replace(cargo, left_out=frozenset(blob.digest for blob in left_out), bases=(base,))


def open_bundle(
    paths: Sequence[Path], trusted: Trust | None = None, *, on_missing_volume: MediaPrompt | None = None
) -> Bundle:
    """The bundle in `paths`, trusted with the test key unless told otherwise."""
    files = [VolumeFile(path) for path in paths]
    return Bundle.open(files, trusted or trust(), on_missing_volume=on_missing_volume)


def next_of(waiting: list[Path]) -> MediaPrompt:
    """Takes out the volume in the drive, and puts in the last one of those that are waiting."""

    def change(bundle: Bundle, volumes: frozenset[int], why: str) -> None:
        bundle.volumes.release()
        bundle.add(VolumeFile(waiting.pop()))

    return change


def packed_chart(name: str, version: str, files: Mapping[str, str] | None = None) -> bytes:
    """A chart archive that `helm` reads, always the same bytes for the same files."""
    metadata = f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: '{version}'\n"
    template = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n"
        "data: {greeting: {{ .Values.greeting }}}\n"
    )
    content = {
        "Chart.yaml": metadata,
        "values.yaml": "greeting: hello\n",
        "templates/greeting.yaml": template,
        **(files or {}),
    }
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(content):
            header = tarfile.TarInfo(f"{name}/{path}")
            header.size = len(content[path].encode())
            archive.addfile(header, io.BytesIO(content[path].encode()))
    return gzip.compress(plain.getvalue(), 9, mtime=0)


def chart_metadata(archive: bytes) -> dict[str, str]:
    """Name, version and the other texts of Chart.yaml in a chart archive, each `key: value` on a line."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        path = next(name for name in files.getnames() if name.count("/") == 1 and name.endswith("/Chart.yaml"))
        content = files.extractfile(path)
        assert content is not None
        pairs = re.findall(r"^([A-Za-z]+): (.+)$", content.read().decode(), re.MULTILINE)
        return {key: value.strip("'\"") for key, value in pairs}


def reference_cargo(folder: Path) -> Cargo:
    """A small cargo with everything that a bundle can hold: two images with a shared layer, one of them an index,
    a chart, its values, and a document without content. `folder` is for the layouts of the images."""
    base = Layer({"/etc/base": File(b"the layer that both images share\n")})
    page = Layer({"/www/index.html": File(b"hello\n")})
    layer = Layer({"/bin/tool": File(b"tool\n" * 100, 0o755)}, "none")
    plain = Image((base, page), Run(entrypoint=("/bin/serve",)))
    arm = Image((layer,), platform=ImagePlatform("arm64", variant="v8"))
    cargo = Cargo()
    cargo.image("docker.io/library/page:1.0", write_layout(folder / "page", plain))
    several = write_layout(folder / "tool", [Image((base, layer)), arm])
    cargo.image(f"registry.example.com/team/tool@{several.digest}", several)
    cargo.document("values.yaml", b"greeting: hello from outside\n", "values")
    cargo.document("empty.txt", b"")
    cargo.chart(packed_chart("greeter", "0.1.0"))
    return cargo


def _blob(layout: Layout, digest: Digest) -> bytes:
    return (layout.path / "blobs" / "sha256" / digest.hex).read_bytes()


def _json(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}


def large_cargo() -> Cargo:
    """Small and large documents: about 45 MiB, 14 chunks."""
    cargo = Cargo("writer")
    source = random.Random("writer")
    for number in range(4):
        cargo.document(f"large-{number}", source.randbytes(3 * CHUNK + 1000 - number))
        cargo.document(f"small-{number}", source.randbytes(1000 + number))
    return cargo
