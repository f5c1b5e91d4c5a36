"""Images in a tar made by `docker save` (or `podman save`), read in place.

Two forms are met. Engines from 25 on write an OCI image layout with docker's `manifest.json` beside it; that layout is
used. Older ones write `manifest.json`, a configuration and one uncompressed `layer.tar` for each layer; a manifest is
made for these, always the same for the same archive, whose digest no registry knows. Form of `manifest.json`: moby's
image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

import hashlib
import json
import os
import posixpath
import tarfile
import threading
from pathlib import Path
from typing import Any, Self

from installer import strict_json
from installer.errors import AirferryError, ContentError, NotFoundError
from installer.files import storage_error
from installer.oci import layout, media_types
from installer.oci.digest import Digest
from installer.oci.local_blob import LocalBlob, open_regular, read_region
from installer.oci.model import MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import parse_reference
from installer.report import printable
from installer.value import Value

MAX_MEMBERS = 100_000
MAX_CONFIG = 64 << 20
MAX_LINKS = 8
READ_SIZE = 4 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Region(Value):
    """Where in the archive the content of a member is, in bytes."""

    start: int
    size: int


class DockerArchive:
    """The images in the archive at `path` (a `BlobSource`). Safe to use from several threads; a context manager.

    Nothing is extracted: members are read where they lie. Raises ContentError if `path` is no such archive,
    NotFoundError, StorageError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = open_regular(path)
        try:
            self._members = _members(self._fd, path)
            self._blobs: dict[Digest, _Region] = {}
            self._lock = threading.Lock()
            self._index = self._read_index()
            self._images = self._read_images()
        except BaseException:
            os.close(self._fd)
            raise

    def manifest(self, name: str = "") -> Manifest | Index:
        """The image that is tagged `name`, the only one if no name is given.

        From an archive without an OCI layout the manifest is made here, which reads all layers of the image once.
        Raises NotFoundError, ContentError.
        """
        if self._index is not None:
            try:
                found = layout.choose(self._index.manifests, name, str(self.path))
            except NotFoundError:
                # A name may stand in docker's own list only.
                found = self._index_entry(self._index, self._image(name))
            return self._manifest(found)
        return self._generate(self._image(name))

    def open(self, descriptor: Descriptor, offset: int = 0) -> LocalBlob:
        """The blob from byte `offset` on; layers of old archives are known once `manifest` was asked.

        Raises NotFoundError, ContentError.
        """
        with self._lock:
            region = self._blobs.get(descriptor.digest)
        region = region or self._members.get(f"blobs/sha256/{descriptor.digest.hex}")
        if region is None:
            raise NotFoundError(f"{self.path}: no blob {descriptor.digest}")
        if region.size != descriptor.size:
            raise ContentError(f"{self.path}: {descriptor.digest}: {region.size} bytes instead of {descriptor.size}")
        return LocalBlob(self._fd, self.path, region.start, region.size, offset=offset)

    def close(self) -> None:
        """Close the archive; streams over it end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read(self, name: str, limit: int) -> bytes:
        region = self._members.get(posixpath.normpath(name))
        if region is None:
            raise ContentError(f"{self.path}: holds no {printable(name)[:200]!r}")
        if region.size > limit:
            raise ContentError(f"{self.path}: {printable(name)[:200]!r} has {region.size} bytes; at most {limit}")
        return read_region(self._fd, self.path, region.start, region.size)

    def _read_index(self) -> Index | None:
        if not {"oci-layout", "index.json"} <= self._members.keys():
            return None
        layout.check_layout(self._read("oci-layout", layout.MAX_LAYOUT_FILE), str(self.path))
        return layout.parse_top(self._read("index.json", MAX_MANIFEST), str(self.path))

    def _read_images(self) -> list[dict[str, Any]]:
        if "manifest.json" not in self._members:
            if self._index is not None:
                return []
            raise ContentError(f"{self.path}: neither manifest.json nor index.json: not made by `docker save`")
        images = strict_json.parse(
            self._read("manifest.json", MAX_MANIFEST), f"{self.path}: manifest.json", ContentError
        )
        if not isinstance(images, list) or not all(_is_image(item) for item in images):
            raise ContentError(f"{self.path}: manifest.json is not a list of images")
        return images

    def _image(self, name: str) -> dict[str, Any]:
        wanted = _canonical(name)
        found = [item for item in self._images if not name or wanted in map(_canonical, item["RepoTags"] or [])]
        if len(found) == 1:
            return found[0]
        known = ", ".join(tag for item in self._images for tag in item["RepoTags"] or []) or "none has a name"
        hint = f"it holds: {printable(known)[:500]}."
        if found:
            raise ContentError(f"{self.path}: holds {len(found)} images for the name {name!r}", hint=hint)
        raise NotFoundError(f"{self.path}: no image {name!r}", hint=hint)

    def _index_entry(self, index: Index, image: dict[str, Any]) -> Descriptor:
        """The entry of `index.json` whose configuration is that of an image in `manifest.json`."""
        hexdigits = posixpath.basename(image["Config"]).removesuffix(".json")
        for item in index.manifests:
            manifest = self._manifest(item)
            if isinstance(manifest, Manifest) and manifest.config.digest.hex == hexdigits:
                return item
        raise ContentError(f"{self.path}: index.json lacks an image of manifest.json")

    def _manifest(self, descriptor: Descriptor) -> Manifest | Index:
        raw = self._read(f"blobs/sha256/{descriptor.digest.hex}", MAX_MANIFEST)
        descriptor.digest.check(raw, f"{self.path}: blobs/sha256/{descriptor.digest.hex}")
        return parse_manifest(raw, descriptor.media_type)

    def _generate(self, image: dict[str, Any]) -> Manifest:
        """An OCI manifest over the configuration and the layers as they lie in the archive."""
        config = self._read(image["Config"], MAX_CONFIG)
        doc = strict_json.parse(config, f"{self.path}: {printable(image['Config'])[:200]}", ContentError)
        rootfs = doc.get("rootfs") if isinstance(doc, dict) else None
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(diff_ids, list) or len(diff_ids) != len(image["Layers"]):
            raise ContentError(f"{self.path}: the configuration does not name as many layers as manifest.json")
        descriptor = Descriptor(media_types.OCI_CONFIG, Digest.of(config), len(config))
        found = {descriptor.digest: self._members[posixpath.normpath(image["Config"])]}
        layers = []
        for name, diff_id in zip(image["Layers"], diff_ids, strict=True):
            layer, region = self._layer(name, diff_id)
            found[layer.digest] = region
            layers.append(layer)
        with self._lock:
            self._blobs.update(found)
        raw = _manifest_bytes(descriptor, layers)
        return Manifest(raw, Descriptor(media_types.OCI_MANIFEST, Digest.of(raw), len(raw)), descriptor, tuple(layers))

    def _layer(self, name: str, diff_id: object) -> tuple[Descriptor, _Region]:
        region = self._members.get(posixpath.normpath(name))
        if region is None:
            raise ContentError(f"{self.path}: holds no layer {printable(name)[:200]!r}")
        digest, start = self._hash(region)
        if start.startswith(_ZSTD):
            raise ContentError(
                f"{self.path}: layer {printable(name)[:200]!r} is compressed with zstd", hint="use skopeo."
            )
        media_type = media_types.OCI_LAYER_GZIP if start.startswith(_GZIP) else media_types.OCI_LAYER
        if media_type == media_types.OCI_LAYER and digest.text != diff_id:
            raise ContentError(f"{self.path}: layer {printable(name)[:200]!r} is damaged: its digest is {digest}")
        return Descriptor(media_type, digest, region.size), region

    def _hash(self, region: _Region) -> tuple[Digest, bytes]:
        """The digest and the first bytes of a part of the archive, in one pass."""
        sha256, start = hashlib.sha256(), b""
        buffer = memoryview(bytearray(min(READ_SIZE, region.size)))
        with LocalBlob(self._fd, self.path, region.start, region.size) as blob:
            while count := blob.readinto(buffer):
                start = start or bytes(buffer[:4])
                sha256.update(buffer[:count])
        return Digest.from_hex(sha256.hexdigest()), start


def _members(fd: int, path: Path) -> dict[str, _Region]:
    """The regular members of a tar by normalized name, links within it resolved; of several the last, as tar has it."""
    found: dict[str, _Region] = {}
    links: dict[str, str] = {}
    try:
        with os.fdopen(os.dup(fd), "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive):
                if member.issparse() or count >= MAX_MEMBERS:
                    raise ContentError(f"{path}: sparse files or more than {MAX_MEMBERS} members: not an image")
                name = posixpath.normpath(member.name)
                if member.isreg():
                    found[name] = _Region(member.offset_data, member.size)
                elif member.issym() or member.islnk():
                    folder = posixpath.dirname(name) if member.issym() else ""
                    links[name] = posixpath.normpath(posixpath.join(folder, member.linkname))
    except (tarfile.TarError, ValueError, EOFError, RecursionError, OverflowError) as exc:
        hint = "if it is compressed, decompress it first (gunzip)."
        raise ContentError(f"{path}: not a tar archive ({type(exc).__name__})", hint=hint) from exc
    except OSError as exc:
        raise storage_error(exc, path, "read") from exc
    for name in links.keys() - found.keys():
        target = name
        for _ in range(MAX_LINKS):
            target = links.get(target, target)
        if target in found:
            found[name] = found[target]
    return found


def _is_image(item: Any) -> bool:
    if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
        return False
    layers, tags = item.get("Layers"), item.setdefault("RepoTags", None)
    if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
        return False
    return tags is None or (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags))


def _manifest_bytes(config: Descriptor, layers: list[Descriptor]) -> bytes:
    def pairs(item: Descriptor) -> dict[str, Any]:
        return {"mediaType": item.media_type, "digest": item.digest.text, "size": item.size}

    doc = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": pairs(config),
        "layers": [pairs(layer) for layer in layers],
    }
    return json.dumps(doc, sort_keys=True, separators=(",", ":")).encode()


def _canonical(name: str) -> str:
    try:
        return str(parse_reference(name))
    except AirferryError:
        return name
