"""Where content comes from: one way to open a blob, whatever kind of place holds it.

`Places` reaches every kind of origin that a lock can name; `LockSource` finds any blob of a lock by its digest.
"""

import io
import threading
from pathlib import Path
from typing import Self

from builder.images.docker_archive import DockerArchive
from builder.images.engine import Engine
from builder.images.layout import OciLayout
from builder.recipe.lock import Lock, LockedChart, Origin, closure, reach
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.errors import ContentError, NotFoundError, UsageError
from installer.files import storage_error
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import ANEW, MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import DigestRef, Reference, TagRef
from installer.oci.source import BlobStream
from installer.registry.client import Registry
from installer.registry.transport import Transport

# Local places first; several remote ones in the order of the lock.
_NEAR = ("inline", "file", "folder", "layout", "archive", "engine", "registry", "url")


class FileStream:
    """A local file from `offset` on. Raises NotFoundError, StorageError."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        try:
            self._file = path.open("rb", buffering=0)
            self._file.seek(offset)
        except OSError as exc:
            raise storage_error(exc, path, "read", missing=NotFoundError) from exc

    def readinto(self, view: memoryview) -> int:
        """See `BlobStream`."""
        try:
            return self._file.readinto(view) or 0
        except OSError as exc:
            raise storage_error(exc, self._path, "read") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


class TextStream:
    """Bytes in memory from `offset` on."""

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._file = io.BytesIO(data)
        self._file.seek(offset)

    def readinto(self, view: memoryview) -> int:
        """See `BlobStream`."""
        return self._file.readinto(view)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


class Places:
    """All places that origins can name; paths are relative to `folder`. Safe to use from several threads."""

    def __init__(self, folder: Path, registry: Registry, transport: Transport, engine: Engine) -> None:
        self.folder, self.registry, self.transport, self.engine = folder, registry, transport, engine
        self._opened: dict[Origin, OciLayout | DockerArchive] = {}
        self._lock = threading.Lock()

    def path(self, text: str) -> Path:
        """The file that a recipe or lock calls `text`."""
        return self.folder / text

    def manifest(self, origin: Origin, digest: Digest | None = None) -> Manifest | Index:
        """The manifest that the origin's name stands for, or in a registry the one with `digest`.

        Raises the errors of the place, NotFoundError if it does not hold it.
        """
        if origin.kind == "registry":
            reference = DigestRef(origin.repository, digest) if digest else TagRef(origin.repository, origin.name)
            return self.registry.manifest(reference)
        found = self._local(origin).manifest(_name(origin))
        if digest not in (None, found.descriptor.digest):
            raise NotFoundError(f"{origin}: holds {found.descriptor.digest}, not {digest}", hint="correct the recipe.")
        return found

    def has(self, origin: Origin, reference: Reference) -> bool:
        """Whether the registry at `origin` has what `reference` selects. Raises the errors of registries."""
        where = origin.repository
        asked = DigestRef(where, reference.digest) if isinstance(reference, DigestRef) else TagRef(where, origin.name)
        return self.registry.head_manifest(asked) is not None

    def child(self, origin: Origin, descriptor: Descriptor) -> Manifest | Index:
        """A manifest that an index at `origin` names. Raises ContentError if it is not what `descriptor` says."""
        if origin.kind == "registry":
            found = self.registry.manifest(DigestRef(origin.repository, descriptor.digest))
        else:
            found = parse_manifest(self.read(origin, descriptor, MAX_MANIFEST), descriptor.media_type)
        if (found.descriptor.size, found.descriptor.is_index) != (descriptor.size, descriptor.is_index):
            raise ContentError(
                f"{origin}: {descriptor.digest} has {found.descriptor.size} bytes of {found.descriptor.media_type}; "
                f"the index says {descriptor.size} of {descriptor.media_type:.100}",
                hint=ANEW,
            )
        return found

    def holds(self, origin: Origin, blob: Descriptor) -> bool:
        """Whether `blob` is at `origin`. Raises the errors of the place."""
        try:
            with self.open(origin, blob):
                return True
        except NotFoundError:
            return False

    def referrers(self, origin: Origin, digest: Digest) -> tuple[str, ...]:
        """The digests of manifests about `digest` that lie beside it, as they are listed; only registries keep any."""
        return self.registry.referrers(origin.repository, digest) if origin.kind == "registry" else ()

    def tagged(self, origin: Origin, tag: str) -> Manifest | Index | None:
        """What has `tag` in the repository of the registry at `origin`, None if nothing."""
        try:
            return self.registry.manifest(TagRef(origin.repository, tag))
        except NotFoundError:
            return None

    def generates(self, origin: Origin, manifest: Manifest | Index) -> bool:
        """Whether `manifest` was made here because the place has none: old docker archives name no manifests."""
        return origin.kind in ("archive", "engine") and not self.holds(origin, manifest.descriptor)

    def open(self, origin: Origin, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The blob from byte `offset` on. Raises NotFoundError where the place does not hold it."""
        if origin.kind == "registry":
            return self.registry.open(origin.repository, descriptor, offset)
        if origin.kind == "url":
            return TextStream(self.transport.fetch(origin.location, MAX_SMALL_BLOB, packed=True), offset)
        if origin.kind == "file":
            return FileStream(self.path(origin.location), offset)
        if origin.kind == "folder":
            from installer.chart.helm import packed_folder

            return TextStream(packed_folder(self.path(origin.location), ContentError), offset)
        return self._local(origin).open(descriptor, offset)

    def read(self, origin: Origin, descriptor: Descriptor, limit: int) -> bytes:
        """The whole blob, verified. Raises ContentError if it is larger than `limit` or not what `descriptor` says."""
        if descriptor.size > limit:
            raise ContentError(
                f"{origin}: {descriptor.digest} has {descriptor.size} bytes; {limit} are allowed here",
                hint="its publisher has to make it smaller.",
            )
        data = bytearray(descriptor.size + 1)
        done = 0
        with self.open(origin, descriptor) as stream, memoryview(data) as view:
            while count := stream.readinto(view[done:]):
                done += count
        found = bytes(data[:done])
        descriptor.digest.check(found, f"{origin}")
        return found

    def _local(self, origin: Origin) -> OciLayout | DockerArchive:
        place = Origin(origin.kind, origin.location)
        with self._lock:
            if place not in self._opened:
                self._opened[place] = self._open_local(place)
            found = self._opened[place]
        if isinstance(found, DockerArchive):
            # Layers of an old archive have digests only after they were read once.
            found.manifest(_name(origin))
        return found

    def _open_local(self, origin: Origin) -> OciLayout | DockerArchive:
        if origin.kind == "layout":
            return OciLayout(self.path(origin.location))
        if origin.kind not in ("archive", "engine"):
            raise UsageError(f"{origin}: no place that holds images")
        engine = origin.kind == "engine"
        path = self.engine.save(origin.location) if engine else self.path(origin.location)
        return DockerArchive(path, self.folder)


def _name(origin: Origin) -> str:
    return origin.location if origin.kind == "engine" else origin.name


class LockSource:
    """Every blob of a lock, found by its digest: a `BlobSource`."""

    def __init__(self, lock: Lock, places: Places) -> None:
        self._places = places
        self._texts = {blob.digest: blob.content for blob in lock.blobs if blob.text or not blob.size}
        self._origins = _origins(lock)
        self._edited = {chart.archive: chart for chart in lock.charts if chart.archive != chart.published}

    def open(self, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The blob from byte `offset` on, from the first place that holds it.

        Raises NotFoundError if none does; its hint names `airferry lock`.
        """
        if descriptor.digest in self._texts:
            return TextStream(self._texts[descriptor.digest], offset)
        if chart := self._edited.get(descriptor.digest):
            return TextStream(self._edit(chart), offset)
        missing = ""
        for origin in self._origins.get(descriptor.digest, ()):
            try:
                return self._places.open(origin, descriptor, offset)
            except NotFoundError as exc:
                missing = missing or exc.message
        raise NotFoundError(
            missing or f"{descriptor.digest}: the lock names no place for it",
            hint="it is gone from where it was locked: run `airferry lock --update` to see what is there now.",
        )

    def _edit(self, chart: LockedChart) -> bytes:
        """The archive of `chart`, edited as when it was locked. Raises ContentError if it comes out otherwise."""
        from builder.recipe.chart_edit import edited
        from builder.recipe.schema_edit import MAX_SCHEMA, document, inlined
        from installer.chart.helm import MAX_ARCHIVE, Chart

        source = f"chart {chart.name} ({chart.origin})"
        descriptor = Descriptor(media_types.HELM_CHART, chart.published, chart.size)
        archive = self._places.read(chart.origin, descriptor, MAX_ARCHIVE)
        documents = {}
        for schema in chart.schemas:
            held = Descriptor(media_types.OCTETS, schema.digest, schema.size)
            raw = self._places.read(Origin("file", schema.file), held, MAX_SCHEMA)
            documents[schema.address] = document(raw, schema.file)
        archive = inlined(archive, source, documents).archive
        if chart.edits:
            archive = edited(Chart.load(archive, source=source), chart.edits)
        chart.archive.check(archive, f"chart {chart.name}, edited")
        return archive


def _origins(lock: Lock) -> dict[Digest, list[Origin]]:
    """Every place of every blob, local places first."""
    trees = lock.manifests_by_digest()
    found: dict[Digest, list[Origin]] = {}
    for document in lock.documents:
        found.setdefault(document.digest, []).append(document.origin)
    for chart in lock.charts:
        reached = reach(trees, chart.artifact) if chart.origin.kind == "registry" else {chart.archive}
        for digest in reached:
            found.setdefault(digest, []).append(chart.origin)
    for image in lock.images:
        for digest in closure(trees, image):
            found.setdefault(digest, []).append(image.origin)
    return {
        digest: sorted(set(origins), key=lambda origin: (_NEAR.index(origin.kind), origin))
        for digest, origins in found.items()
    }
