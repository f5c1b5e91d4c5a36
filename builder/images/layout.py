"""Images in an OCI image layout folder (OCI image specification, image-layout.md)."""

import os
from collections.abc import Callable
from pathlib import Path

from builder.images.local_blob import LocalBlob, open_regular, read_whole
from installer import strict_json
from installer.errors import AirferryError, ContentError, NotFoundError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import MAX_DESCRIPTORS, MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import parse_reference
from installer.report import printable
from installer.value import Value

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT_VERSION = "1.0.0"
MAX_LAYOUT_FILE = 4096
MAX_DEPTH = 4
"""How deep names are looked for in indexes inside indexes."""


class OciLayout(Value):
    """An image layout in the folder `path` (a `BlobSource`). Safe to use from several threads.

    Raises ContentError if the folder is no image layout.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            version = self._read("oci-layout", MAX_LAYOUT_FILE)
        except NotFoundError:
            return  # as skopeo and crane: a folder without `index.json` is refused when that is read
        check_layout(version, str(self.path))

    def index(self) -> Index:
        """The layout's `index.json`."""
        return parse_top(self._read("index.json", MAX_MANIFEST), str(self.path))

    def manifest(self, name: str = "") -> Manifest | Index:
        """The manifest or index called `name` in `index.json`, or that has the digest `name`.

        Without a name the only one there is. Raises NotFoundError, ContentError.
        """
        index = self.index()
        if name.startswith("sha256:"):
            digest = Digest(name)
            for item in index.manifests:
                if item.digest == digest:
                    return self._manifest(item)
            return self._nested(digest)
        return self._manifest(choose(index, name, str(self.path), self._manifest))

    def open(self, descriptor: Descriptor, offset: int = 0) -> LocalBlob:
        """The blob from byte `offset` on. Raises NotFoundError, ContentError if its size is not the stated one."""
        path = self._blob(descriptor.digest)
        fd = open_regular(path)
        size = os.fstat(fd).st_size
        if size != descriptor.size:
            os.close(fd)
            raise ContentError(f"{path}: {size} bytes, the descriptor says {descriptor.size}")
        return LocalBlob(fd, path, 0, size, offset=offset, owned=True)

    def _manifest(self, descriptor: Descriptor) -> Manifest | Index:
        raw = self._read(f"blobs/sha256/{descriptor.digest.hex}", MAX_MANIFEST)
        descriptor.digest.check(raw, str(self._blob(descriptor.digest)))
        return parse_manifest(raw, descriptor.media_type)

    def _nested(self, digest: Digest) -> Manifest | Index:
        """A manifest that `index.json` does not name itself: the member of an index. Its type is what it says."""
        raw = self._read(f"blobs/sha256/{digest.hex}", MAX_MANIFEST)
        digest.check(raw, str(self._blob(digest)))
        return parse_manifest(raw, "")

    def _blob(self, digest: Digest) -> Path:
        return self.path / "blobs" / "sha256" / digest.hex

    def _read(self, name: str, limit: int) -> bytes:
        path = self.path / name
        fd = open_regular(path)
        try:
            size = os.fstat(fd).st_size
            if size > limit:
                raise ContentError(f"{path}: {size} bytes; at most {limit} are read")
            return read_whole(LocalBlob(fd, path, 0, size), size)
        finally:
            os.close(fd)


def check_layout(raw: bytes, what: str) -> None:
    """Raises ContentError unless `raw` is the `oci-layout` file of a layout that can be read here."""
    doc = strict_json.parse(raw, f"{what}: oci-layout", ContentError)
    version = doc.get("imageLayoutVersion") if isinstance(doc, dict) else None
    if version != LAYOUT_VERSION:
        raise ContentError(f"{what}: image layout version {version!r:.40}; only {LAYOUT_VERSION} can be read")


def parse_top(raw: bytes, what: str) -> Index:
    """The `index.json` of a layout. Raises ContentError."""
    index = parse_manifest(raw, media_types.OCI_INDEX)
    if not isinstance(index, Index):
        raise ContentError(f"{what}: index.json is not an index")
    return index


def choose(index: Index, name: str, what: str, read: Callable[[Descriptor], Manifest | Index]) -> Descriptor:
    """The entry of `index` that is annotated with `name`, as it stands there or as the same image reference.

    If none is, an entry of the indexes that it names, which `read` reads. Without a name the only one there is. Raises
    NotFoundError, ContentError if several answer to the name.
    """
    items, known, found = list(index.manifests), set[str](), list[Descriptor]()
    for _ in range(MAX_DEPTH):
        known.update(text for item in items for text in _names(item))
        found = [item for item in items if name in _names(item)] if name else items
        if not found:
            found = [item for item in items if _canonical(name) in {_canonical(text) for text in _names(item)} - {""}]
        if len({item.digest for item in found}) == 1:
            return found[0]
        if found:
            break
        below = [read(item) for item in items if item.is_index]
        items = [item for inner in below if isinstance(inner, Index) for item in inner.manifests][:MAX_DESCRIPTORS]
    hint = f"it holds: {printable(', '.join(sorted(known)[:10]) or 'none has a name')[:500]}."
    if found:
        raise ContentError(f"{what}: {f'{name!r} names' if name else 'holds'} {len(found)} images", hint=hint)
    raise NotFoundError(f"{what}: no image {name!r}", hint=hint)


def _names(item: Descriptor) -> list[str]:
    return [text for key in (REF_NAME, CONTAINERD_NAME) if (text := item.annotations.get(key))]


def _canonical(name: str) -> str:
    """`name` as a full reference; empty if it is none."""
    try:
        return str(parse_reference(name))
    except AirferryError:
        return ""
