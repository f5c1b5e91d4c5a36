"""Images in a tar made by `docker save` (or `podman save`), read in place.

Two forms are met. Engines from 25 on write an OCI image layout with docker's `manifest.json` beside it; that layout is
used. Older ones, and other programs, write `manifest.json`, a configuration and a tar for each layer; a manifest is
made for these, always the same for the same archive, whose digest no registry knows. Form of `manifest.json`: moby's
image specification v1.2, "Combined Image JSON + Filesystem Changeset Format"; what else is met, skopeo reads as well
(github.com/containers/image, docker/internal/tarfile).
"""

import hashlib
import io
import json
import os
import posixpath
import tarfile
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Self, cast

from builder.images import layout
from builder.images.compression import MAX_PLAIN, READ_SIZE, START, Compression, Plain
from builder.images.local_blob import LocalBlob, open_regular, read_whole
from installer import strict_json
from installer.errors import AirferryError, ContentError, NotFoundError
from installer.files import storage_error
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import parse_reference
from installer.oci.source import BlobStream
from installer.report import printable
from installer.value import Value

MAX_MEMBERS = 100_000
MAX_HEADER = 1 << 20
"""The most bytes that a header of a tar is followed by, as in Go's archive/tar."""
MAX_CONFIG = 64 << 20
MAX_LINKS = 8
_CARRIED: Mapping[Compression, str] = MappingProxyType(
    {
        Compression.NONE: media_types.OCI_LAYER,
        Compression.GZIP: media_types.OCI_LAYER_GZIP,
        Compression.ZSTD: media_types.OCI_LAYER_ZSTD,
    }
)
"""The types of layers that are carried as they lie in the archive; others are unpacked."""


class _Image(Value):
    """An entry of `manifest.json`: the configuration's member, the image's names, the members of its layers."""

    config: str
    names: tuple[str, ...]
    layers: tuple[str, ...]


class _Blob(Value):
    """How a blob of an image without a manifest lies in the archive, and how it is to be unpacked to become it."""

    member: tarfile.TarInfo
    size: int
    way: Compression = Compression.NONE


class DockerArchive:
    """The images in the archive at `path` (a `BlobSource`). Safe to use from several threads; a context manager.

    Members are read where they lie. Only an archive that is compressed as a whole is unpacked, into a file without a
    name in the folder `scratch`. Raises ContentError if `path` is no such archive, NotFoundError, StorageError.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path = path
        self._fd = open_regular(path)
        try:
            self._unpack(scratch)
            self._members = _members(self._file(), path)
            self._blobs: dict[Digest, _Blob] = {}
            self._made: dict[_Image, Manifest] = {}
            self._lock = threading.Lock()
            self._index = self._read_index()
            self._images = self._read_images()
        except BaseException:
            os.close(self._fd)
            raise

    def manifest(self, name: str = "") -> Manifest | Index:
        """The image that is tagged `name` or is at place `@N` of `manifest.json`, the only one if no name is given.

        From an archive without an OCI layout the manifest is made here, which reads all layers of the image once.
        Raises NotFoundError, ContentError.
        """
        if self._index is None:
            return self._generate(self._image(name))
        try:
            return self._manifest(layout.choose(self._index, name, str(self.path), self._manifest))
        except NotFoundError:
            # A name may stand in docker's own list only.
            image = self._image(name)
        found = self._indexed(self._index, image)
        return self._generate(image) if found is None else found

    def open(self, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The blob from byte `offset` on; those of images without a manifest are known once `manifest` was asked.

        Raises NotFoundError, ContentError.
        """
        with self._lock:
            blob = self._blobs.get(descriptor.digest)
        if blob is None and (member := self._members.get(f"blobs/sha256/{descriptor.digest.hex}")) is not None:
            blob = _Blob(member, member.size)
        if blob is None:
            raise NotFoundError(f"{self.path}: no blob {descriptor.digest}")
        if blob.size != descriptor.size:
            raise ContentError(f"{self.path}: {descriptor.digest}: {blob.size} bytes instead of {descriptor.size}")
        return self._stream(blob, offset)

    def close(self) -> None:
        """Close the archive; streams over it end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _file(self) -> LocalBlob:
        return LocalBlob(self._fd, self.path, 0, os.fstat(self._fd).st_size)

    def _unpack(self, scratch: Path) -> None:
        way = Compression.of(self._file().read(START) or b"")
        if way is Compression.NONE:
            return
        packed, buffer = self._file(), memoryview(bytearray(READ_SIZE))
        try:
            with tempfile.TemporaryFile(dir=scratch) as file:
                with Plain(cast(BinaryIO, packed), way, str(self.path)) as plain:
                    while count := plain.readinto(buffer):
                        file.write(buffer[:count])
                file.flush()
                os.dup2(file.fileno(), self._fd, inheritable=False)
        except OSError as exc:
            raise storage_error(exc, scratch, f"unpack {self.path.name}") from exc

    def _stream(self, blob: _Blob, offset: int = 0) -> BlobStream:
        member, what = blob.member, f"{self.path}: {printable(blob.member.name)[:200]!r}"
        if blob.way is Compression.NONE and not member.issparse():
            return LocalBlob(self._fd, self.path, member.offset_data, member.size, offset=offset)
        return Plain(self._open_member(member), blob.way, what, offset=offset)

    def _open_member(self, member: tarfile.TarInfo) -> BinaryIO:
        if not member.issparse():
            return cast(BinaryIO, LocalBlob(self._fd, self.path, member.offset_data, member.size))
        # Each stream has a reader of its own: one has one position.
        with tarfile.open(fileobj=self._file(), mode="r:") as archive:
            return cast(BinaryIO, archive.extractfile(member))

    def _read(self, name: str, limit: int) -> bytes:
        member = self._members.get(posixpath.normpath(name))
        if member is None:
            raise ContentError(f"{self.path}: holds no {printable(name)[:200]!r}")
        if member.size > limit:
            raise ContentError(f"{self.path}: {printable(name)[:200]!r} has {member.size} bytes; at most {limit}")
        return read_whole(self._stream(_Blob(member, member.size)), member.size)

    def _read_index(self) -> Index | None:
        if "index.json" not in self._members:
            return None
        if "oci-layout" in self._members:
            layout.check_layout(self._read("oci-layout", layout.MAX_LAYOUT_FILE), str(self.path))
        return layout.parse_top(self._read("index.json", MAX_MANIFEST), str(self.path))

    def _read_images(self) -> list[_Image]:
        what = f"{self.path}: manifest.json"
        if "manifest.json" in self._members:
            images = strict_json.parse(self._read("manifest.json", MAX_MANIFEST), what, ContentError)
            if not isinstance(images, list):
                raise ContentError(f"{what} is not a list of images")
            return [_image(item, what) for item in images]
        if self._index is not None:
            return []
        hint = "save the image anew with docker 1.10 or later." if "repositories" in self._members else ""
        raise ContentError(f"{self.path}: neither manifest.json nor index.json: not made by `docker save`", hint=hint)

    def _image(self, name: str) -> _Image:
        wanted = _canonical(name)
        found = [
            item
            for place, item in enumerate(self._images)
            if name in ("", f"@{place}") or wanted in map(_canonical, item.names)
        ]
        if len(set(found)) == 1:
            return found[0]
        known = ", ".join(tag for item in self._images for tag in item.names) or "none has a name"
        hint = f"it holds: {printable(known)[:500]}; `@N` names the one at place N of manifest.json, from 0 on."
        if found:
            raise ContentError(f"{self.path}: holds {len(found)} images for the name {name!r}", hint=hint)
        raise NotFoundError(f"{self.path}: no image {name!r}", hint=hint)

    def _indexed(self, index: Index, image: _Image) -> Manifest | None:
        """The manifest in the layout whose configuration is that of `image`."""
        hexdigits = posixpath.basename(image.config).removesuffix(".json")
        for item in index.manifests:
            manifest = self._manifest(item)
            if isinstance(manifest, Manifest) and manifest.config.digest.hex == hexdigits:
                return manifest
        return None

    def _manifest(self, descriptor: Descriptor) -> Manifest | Index:
        raw = self._read(f"blobs/sha256/{descriptor.digest.hex}", MAX_MANIFEST)
        descriptor.digest.check(raw, f"{self.path}: blobs/sha256/{descriptor.digest.hex}")
        return parse_manifest(raw, descriptor.media_type)

    def _generate(self, image: _Image) -> Manifest:
        """An OCI manifest over the configuration and the layers as they lie in the archive."""
        with self._lock:
            if image in self._made:
                return self._made[image]
        config = self._read(image.config, MAX_CONFIG)
        what = f"{self.path}: {printable(image.config)[:200]}"
        rootfs = _field(strict_json.parse(config, what, ContentError, known={"rootfs"}), "rootfs")
        diff_ids = _field(rootfs, "diff_ids") or [] if isinstance(rootfs, dict) else None
        if not isinstance(diff_ids, list) or len(diff_ids) != len(image.layers):
            raise ContentError(f"{self.path}: the configuration does not name as many layers as manifest.json")
        descriptor = Descriptor(media_types.OCI_CONFIG, Digest.of(config), len(config))
        found = {descriptor.digest: _Blob(self._members[posixpath.normpath(image.config)], len(config))}
        layers = []
        for name, diff_id in zip(image.layers, diff_ids, strict=True):
            layer, blob = self._layer(name, diff_id)
            found[layer.digest] = blob
            layers.append(layer)
        raw = _manifest_bytes(descriptor, layers)
        made = Manifest(raw, Descriptor(media_types.OCI_MANIFEST, Digest.of(raw), len(raw)), descriptor, tuple(layers))
        with self._lock:
            self._blobs.update(found)
            self._made[image] = made
        return made

    def _layer(self, name: str, diff_id: object) -> tuple[Descriptor, _Blob]:
        """A layer that unpacks to `diff_id`: as it lies in the archive if registries know its compression."""
        member = self._members.get(posixpath.normpath(name))
        if member is None:
            raise ContentError(f"{self.path}: holds no layer {printable(name)[:200]!r}")
        way = Compression.of(self._open_member(member).read(START))
        plain, size = self._hash(_Blob(member, member.size, way))
        if plain.text != diff_id:
            raise ContentError(f"{self.path}: layer {printable(name)[:200]!r} is damaged: its digest is {plain}")
        media_type = _CARRIED.get(way)
        if media_type is None:
            return Descriptor(media_types.OCI_LAYER, plain, size), _Blob(member, size, way)
        packed = _Blob(member, member.size)
        digest, size = (plain, size) if way is Compression.NONE else self._hash(packed)
        return Descriptor(media_type, digest, size), packed

    def _hash(self, blob: _Blob) -> tuple[Digest, int]:
        """The digest and the size of what a blob is unpacked to."""
        sha256, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(READ_SIZE))
        with self._stream(blob) as stream:
            while count := stream.readinto(buffer):
                sha256.update(buffer[:count])
                size += count
        return Digest.from_hex(sha256.hexdigest()), size


class _Headers(io.BufferedReader):
    """A tar as `tarfile` reads it, which asks for as many bytes at once as a header says."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As the base does, but no more than a header's worth. Raises ContentError."""
        if size is None or not 0 <= size <= MAX_HEADER:
            raise ContentError(f"a header of {size} bytes; at most {MAX_HEADER} are read")
        return super().read(size)


def _members(file: LocalBlob, path: Path) -> dict[str, tarfile.TarInfo]:
    """The regular members of a tar by normalized name, links within it resolved; of several the last, as tar has it."""
    found: dict[str, tarfile.TarInfo] = {}
    links: dict[str, str] = {}
    try:
        with _Headers(file, MAX_HEADER // 4) as headers, tarfile.open(fileobj=headers, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS or member.size > MAX_PLAIN:
                    raise ContentError(f"{path}: more than {MAX_MEMBERS} members or {MAX_PLAIN} bytes: not an image")
                name = posixpath.normpath(member.name)
                if member.isreg():
                    found[name] = member
                elif member.issym() or member.islnk():
                    folder = posixpath.dirname(name) if member.issym() else ""
                    links[name] = posixpath.normpath(posixpath.join(folder, member.linkname))
    except (tarfile.TarError, ValueError, EOFError, RecursionError, OverflowError) as exc:
        raise ContentError(f"{path}: not a tar archive ({type(exc).__name__})") from exc
    for name in links.keys() - found.keys():
        target = name
        for _ in range(MAX_LINKS):
            target = links.get(target, target)
        if target in found:
            found[name] = found[target]
    return found


def _image(item: Any, what: str) -> _Image:
    config, names, layers = (_field(item, key) for key in ("Config", "RepoTags", "Layers"))
    names, layers = names or [], layers or []
    texts = isinstance(names, list) and isinstance(layers, list) and [config, *names, *layers]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ContentError(f"{what} is not a list of images")
    return _Image(config, tuple(names), tuple(layers))


def _field(item: Any, key: str) -> Any:
    """The value of `key` in whatever case: jib before 2.3 writes other keys than docker, which Go reads as the same."""
    if not isinstance(item, dict):
        return None
    return next((value for name, value in item.items() if name.casefold() == key.casefold()), None)


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
