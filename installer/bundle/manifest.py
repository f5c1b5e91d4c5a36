"""`bundle.json`: what the bundle holds and where, as objects that are valid when they exist."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from installer.bundle import canonical
from installer.bundle.limits import CHUNK, FORMAT, MAX_SMALL_BLOB, MAX_VOLUMES
from installer.bundle.tar import BLOCK, padded
from installer.errors import AirferryError, BundleError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Platform
from installer.oci.reference import DigestRef, Reference, parse_reference, parse_repository
from installer.value import Value, replace

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,126}", re.ASCII)
_RELEASE = re.compile(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){2}", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_ABOUT = re.compile(r"sha256-([0-9a-f]{64})\.[a-z]{1,16}", re.ASCII)
_CONTENT = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
NEVER = "never"
HASH = 32
KINDS = ("profile", "values", "resource", "manifests", "site", "recipe", "lock", "proof", "file", "other")


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion reads best this way
    if not condition:
        raise BundleError(message)


def parse_time(text: str) -> dt.datetime:
    """The UTC time in `text`, written `2026-01-31T00:00:00Z`. Raises BundleError."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as exc:
        raise BundleError(f"not a time like 2026-01-31T00:00:00Z: {text[:40]!r}") from exc
    _require(time.strftime(_TIME) == text, f"not a time like 2026-01-31T00:00:00Z: {text[:40]!r}")
    return time


def parse_release(text: str) -> tuple[int, ...]:
    """The three numbers of a program's version, such as `0.1.0`. Raises BundleError."""
    _require(bool(_RELEASE.fullmatch(text)), f"not a version like 1.2.3: {text[:40]!r}")
    return tuple(int(part) for part in text.split("."))


def subject_of(tag: str) -> Digest | None:
    """What a manifest is about that is found by the `tag` alone: `sha256-HEX.sig` (cosign, specs/SIGNATURE_SPEC.md,
    "Tag-based Discovery"). None for another tag."""
    match = _ABOUT.fullmatch(tag)
    return Digest.from_hex(match[1]) if match else None


class BundleImage(Value):
    """An image under the name that manifests and values use for it.

    `source` is that name in full (`docker.io/library/redis:7`), `digest`, `media_type` and `size` describe the
    manifest or index that is carried, `upstream` is what the name stood for upstream: `digest` itself, or the index
    that `digest` was chosen from. `platforms` are those carried. `referrers` are manifests that speak about the image,
    and `tagged` those that are found by their tags alone, which begin with the digest that they are about (cosign).
    `parts` are the numbers of the blobs that the image consists of: places in the bundle's list, ascending.
    """

    source: str
    digest: Digest
    media_type: str
    size: int
    upstream: Digest
    platforms: tuple[Platform, ...]
    referrers: tuple[Digest, ...] = ()
    tagged: tuple[tuple[str, Digest], ...] = ()
    parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require(str(self.reference) == self.source, f"{self.source}: not the full form of an image name")
        tags = [tag for tag, _ in self.tagged]
        _require(tags == sorted(set(tags)) and all(map(subject_of, tags)), f"{self.source}: malformed tags about it")
        _require(self.media_type in media_types.INDEXES | media_types.MANIFESTS, f"{self.source}: not an image")

    @property
    def roots(self) -> tuple[Digest, ...]:
        """The manifests that the image and all about it begin with, its own first."""
        return (self.digest, *self.referrers, *(digest for _, digest in self.tagged))

    @property
    def reference(self) -> Reference:
        """`source` as a reference."""
        try:
            return parse_reference(self.source)
        except AirferryError as exc:
            raise BundleError(exc.message) from exc

    @property
    def tag(self) -> str:
        """The tag by which the image is asked for, empty when only a digest is."""
        return self.reference.tag

    @property
    def by_digest(self) -> bool:
        """Whether manifests ask for the image by digest."""
        return isinstance(self.reference, DigestRef)

    @property
    def root(self) -> Descriptor:
        """The manifest or index that is carried."""
        return Descriptor(self.media_type, self.digest, self.size)


class BundleChart(Value):
    """A Helm chart: `archive` is its tgz, `artifact` the manifest of its form as an OCI artifact.

    What it becomes in the cluster is said by the steps of the bundle's profile.
    """

    name: str
    version: str
    archive: Digest
    artifact: Digest
    source: str

    def __post_init__(self) -> None:
        _require(bool(_FILE.fullmatch(self.name)), f"not a chart name: {self.name[:100]!r}")
        _require(bool(_VERSION.fullmatch(self.version)), f"not a chart version: {self.version[:100]!r}")

    @property
    def file_name(self) -> str:
        """The name under which chart repositories serve the archive."""
        return f"{self.name}-{self.version}.tgz"


class BundleDocument(Value):
    """A file that travels along, such as values or the custom resource's template."""

    name: str
    kind: str
    digest: Digest

    def __post_init__(self) -> None:
        _require(bool(_FILE.fullmatch(self.name)), f"not a document name: {self.name[:100]!r}")
        _require(self.kind in KINDS, f"document {self.name}: unknown kind {self.kind[:40]!r}")


class BundleBase(Value):
    """A bundle that an update builds on: whoever has loaded it holds blobs that the update does not carry.

    `content` tells what it consists of, see `content_of`. `repositories` (full upstream names, sorted) hold such blobs
    where none of the repositories that need them does.
    """

    name: str
    version: str
    content: str
    repositories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(bool(_NAME.fullmatch(self.name)), f"not a bundle name: {self.name[:80]!r}")
        _require(bool(_VERSION.fullmatch(self.version)), f"not a version: {self.version[:80]!r}")
        _require(bool(_CONTENT.fullmatch(self.content)), f"not a content: {self.content[:40]!r}")
        _require(list(self.repositories) == sorted(set(self.repositories)), f"base {self}: repositories out of order")
        for text in self.repositories:
            try:
                full = str(parse_repository(text)) == text
            except AirferryError as exc:
                raise BundleError(exc.message) from exc
            _require(full, f"{text[:100]!r}: not a full repository name")

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def content_of(digests: Iterable[Digest]) -> str:
    """A fingerprint of a bundle's blobs, 16 hex digits: the same for whole and update, in one volume or more.

    They begin the SHA-256 of all its blobs' digests, sorted, each ended by LF.
    """
    return Digest.of("".join(f"{text}\n" for text in sorted({digest.text for digest in digests})).encode()).hex[:16]


class BundleBlob(Value):
    """A blob and its place. `pieces` are (volume, offset in that volume's payload, length); most blobs have one.

    One without pieces is not carried: the registry must hold it already. `chunks` are the BLAKE3 hashes of each CHUNK
    bytes, one after the other; all zero while a bundle is being built, and none for a blob that is not carried.
    """

    digest: Digest
    media_type: str
    size: int
    pieces: tuple[tuple[int, int, int], ...]
    chunks: bytes

    def __post_init__(self) -> None:
        if wrong := self._wrong():
            raise BundleError(f"blob {self.digest}: {wrong}")

    def _wrong(self) -> str:
        """The contradiction in this entry, or an empty text. Builds no text unless there is one: blobs are many."""
        if not self.pieces:
            if self.chunks:
                return "chunk hashes, but no place"
            if not self.size:
                return "empty, and yet not carried"
            return "a manifest that is not carried" if self.is_manifest else ""
        if len(self.chunks) != HASH * chunk_count(self.size):
            return "wrong count of chunk hashes"
        if len(self.pieces) == 1:
            return "" if self.pieces[0][2] == self.size else "pieces and size differ"
        lengths = [length for _, _, length in self.pieces]
        if sum(lengths) != self.size:
            return "pieces and size differ"
        if not all(lengths):
            return "cut into an empty piece"
        return "cut inside a chunk" if any(cut % CHUNK for cut in lengths[:-1]) else ""

    @property
    def descriptor(self) -> Descriptor:
        """Type, digest and size."""
        return Descriptor(self.media_type, self.digest, self.size)

    @property
    def carried(self) -> bool:
        """Whether its bytes are in the bundle."""
        return bool(self.pieces)

    @property
    def is_manifest(self) -> bool:
        """Whether it is a manifest or an index."""
        return self.media_type in media_types.MANIFESTS | media_types.INDEXES

    def locate(self, position: int) -> tuple[int, int]:
        """The number of the piece that holds byte `position` of the blob, and the place inside that piece."""
        for piece, (_, _, length) in enumerate(self.pieces):
            if position < length:
                return piece, position
            position -= length
        raise ValueError(f"{self.digest}: position beyond the end")

    def runs(self) -> Iterator[tuple[int, range]]:
        """For each piece its volume and the numbers of its chunks."""
        first = 0
        for volume, _, length in self.pieces:
            stop = first + chunk_count(length)
            yield volume, range(first, stop)
            first = stop

    def member(self, piece: int) -> str:
        """The name of the tar member that holds piece number `piece`."""
        name = f"blobs/sha256/{self.digest.hex}"
        return name if len(self.pieces) == 1 else f"{name}.{piece:03d}"


def chunk_count(size: int) -> int:
    """The number of chunks of a blob of `size` bytes; an empty blob has none."""
    return -(-size // CHUNK)


class BundleVolume(Value):
    """A volume: `payload` is its length between the metadata and the end marker, in bytes."""

    payload: int


class Contents(Protocol):
    """A bundle as far as its metadata and its small blobs go: an open one, or one that is still to be built."""

    @property
    def manifest(self) -> "BundleManifest":
        """What it holds."""

    def read(self, digest: Digest, limit: int = MAX_SMALL_BLOB) -> bytes:
        """A blob of at most `limit` bytes, verified. Raises BundleError."""


class BundleManifest(Value):
    """All of `bundle.json`. Images, charts, documents and bases are sorted by name; blobs stand in payload order."""

    format: str
    name: str
    version: str
    sequence: int
    created: str
    expires: str
    minimum_installer: str
    platforms: tuple[Platform, ...]
    images: tuple[BundleImage, ...]
    charts: tuple[BundleChart, ...]
    documents: tuple[BundleDocument, ...]
    blobs: tuple[BundleBlob, ...]
    volumes: tuple[BundleVolume, ...]
    bases: tuple[BundleBase, ...] = ()

    def __post_init__(self) -> None:
        _require(self.format == FORMAT, f"bundle of format {self.format[:60]!r}; this program reads {FORMAT}")
        _require(bool(_NAME.fullmatch(self.name)), f"not a bundle name: {self.name[:80]!r}")
        _require(bool(_VERSION.fullmatch(self.version)), f"not a version: {self.version[:80]!r}")
        parse_time(self.created)
        if self.expires != NEVER:
            parse_time(self.expires)
        parse_release(self.minimum_installer)
        _require(0 < len(self.volumes) <= MAX_VOLUMES, f"{len(self.volumes)} volumes; 1 to {MAX_VOLUMES} are allowed")
        _require(bool(self.platforms), "a bundle for no platform")
        held = {blob.digest for blob in self.blobs if blob.pieces}
        numbers = {blob.digest: number for number, blob in enumerate(self.blobs)}
        _require(len(numbers) == len(self.blobs), "a blob stands twice")
        _require(bool(held), "a bundle without content")
        for what, names in (
            ("image", [image.source for image in self.images]),
            ("chart", [f"{chart.name}-{chart.version}" for chart in self.charts]),
            ("document", [document.name for document in self.documents]),
            ("base", [f"{base} {base.content}" for base in self.bases]),
        ):
            _require(names == sorted(set(names)), f"{what}s are not sorted, or one stands twice")
        needed = (
            *(digest for image in self.images for digest in image.roots),
            *(digest for chart in self.charts for digest in (chart.archive, chart.artifact)),
            *(document.digest for document in self.documents),
        )
        for digest in needed:
            if digest not in held:
                raise BundleError(f"{digest} is named but not held")
        self._check_places()
        self._check_parts(numbers)
        _require(
            bool(self.bases) == (len(held) < len(self.blobs)),
            "a base without blobs that are left to it, or the reverse",
        )
        profiles = [document.name for document in self.documents if document.kind == "profile"]
        _require(len(profiles) <= 1, f"several profiles: {', '.join(profiles)}")

    def _check_places(self) -> None:
        """Members follow each other without gaps: a header of one block, content, padding to whole blocks."""
        ends = [0] * len(self.volumes)
        for blob in self.blobs:
            for volume, offset, length in blob.pieces:
                if volume >= len(ends):
                    raise BundleError(f"blob {blob.digest}: in a volume that does not exist")
                if offset != ends[volume] + BLOCK:
                    raise BundleError(f"blob {blob.digest}: not where the blob before it ends")
                ends[volume] = offset + padded(length)
        _require(ends == [volume.payload for volume in self.volumes], "the blobs do not fill the volumes")
        _require(all(ends), "a volume without content")

    def _check_parts(self, numbers: Mapping[Digest, int]) -> None:
        for image in self.images:
            parts = set(image.parts)
            if list(image.parts) != sorted(parts) or image.parts[-1:] >= (len(self.blobs),):
                raise BundleError(f"{image.source}: its parts are malformed")
            if not parts >= {numbers[digest] for digest in image.roots}:
                raise BundleError(f"{image.source}: is not among its parts")

    def parts(self, image: BundleImage) -> list[BundleBlob]:
        """The blobs that an image consists of, manifests too."""
        return [self.blobs[number] for number in image.parts]

    @property
    def left_out(self) -> list[BundleBlob]:
        """The blobs that are not carried."""
        return [blob for blob in self.blobs if not blob.carried]

    @property
    def content(self) -> str:
        """The fingerprint of the bundle's blobs, see `content_of`."""
        return content_of(blob.digest for blob in self.blobs)

    @property
    def whole_images(self) -> list[BundleImage]:
        """The images of which everything is carried."""
        elsewhere = {number for number, blob in enumerate(self.blobs) if not blob.carried}
        return [image for image in self.images if elsewhere.isdisjoint(image.parts)]

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> "BundleManifest":
        """The manifest whose canonical bytes are `raw`. Raises BundleError."""
        return canonical.decode(raw, cls, "bundle.json")

    def without_chunks(self) -> "BundleManifest":
        """The same with all chunk hashes zero: what is known before a byte is fetched."""
        return replace(self, blobs=tuple(replace(blob, chunks=bytes(len(blob.chunks))) for blob in self.blobs))
