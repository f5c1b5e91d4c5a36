"""The lock: a recipe with every name replaced by content, as release engineers commit it.

A lock says all that is needed to lay a bundle out to the byte and to fetch it without resolving any name: each
blob's digest, size and media type, where it comes from, and the text of the few small blobs that are made here
instead of fetched. Paths in it are relative to the folder it lies in. The file is JSON with sorted keys, one item
a line, so that two locks compare well.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from builder.recipe.findings import Excluded, Failure, OptionalImage, Reason, Suspected
from installer import strict_json
from installer.bundle import canonical
from installer.bundle.manifest import NEVER, BundleChart, BundleDocument, BundleImage, parse_time
from installer.errors import AirferryError, BundleError, RecipeError
from installer.files import read_bounded, write_atomic
from installer.moving.rewriting import Rewrite
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Platform
from installer.oci.reference import Repository, TagRef, parse_reference, parse_repository
from installer.registry.endpoint import ANSWER_SECONDS, MOST_SECONDS, PAUSE_SECONDS
from installer.value import Value

FORMAT = "airferry-lock/6"
LOCK_NAME = "airferry.lock"
MAX_LOCK = 256 * 1024 * 1024
MAX_INLINE = 4 * 1024 * 1024
"""The longest text of a generated blob."""
MAX_DEPTH = 5
"""Levels of index, manifest and layer; two indexes inside each other are rare, three unheard of."""
ORIGINS = ("registry", "layout", "archive", "engine", "url", "file", "folder", "inline")
_BASE64 = "base64:"
_INLINE = re.compile(r"[\x20-\x7e]*", re.ASCII)


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - an assertion reads best this way
    if not condition:
        raise BundleError(message)


class Origin(Value, order=True):
    """The source of content.

    | kind     | location                   | name                                                    |
    |----------|----------------------------|---------------------------------------------------------|
    | registry | repository with its host   | tag that was asked for, or empty                        |
    | layout   | folder of the OCI layout   | name in its index                                       |
    | archive  | file of the docker archive | name in its manifest                                    |
    | engine   | reference in the engine    | empty                                                   |
    | url      | http(s) URL                | empty                                                   |
    | file     | path                       | empty                                                   |
    | folder   | path of a chart, to be packed | empty                                                |
    | inline   | empty: the text is in the lock | empty                                               |
    """

    kind: str
    location: str
    name: str = ""

    def __post_init__(self) -> None:
        _require(self.kind in ORIGINS, f"unknown kind of origin {self.kind[:40]!r}")
        _require((self.kind == "inline") == (not self.location), f"origin {self.kind} without a location")
        if self.kind == "registry":
            _require(str(self.repository) == self.location, f"{self.location[:100]!r}: not a full repository name")
            if self.name:
                TagRef(self.repository, self.name)

    @property
    def repository(self) -> Repository:
        """The repository of an origin of kind `registry`."""
        return parse_repository(self.location)

    def __str__(self) -> str:
        return f"{self.kind} {self.location}{':' + self.name if self.name else ''}".rstrip()


class LockedBlob(Value):
    """A blob: what it is, and its text where it is generated instead of fetched.

    Texts that are not one line of printable ASCII stand as `base64:` and their Base64 in UTF-8.
    """

    digest: Digest
    media_type: str
    size: int
    text: str = ""

    def __post_init__(self) -> None:
        Descriptor(self.media_type, self.digest, self.size)
        if self.text:
            _require(len(self.text) <= MAX_INLINE, f"blob {self.digest}: a text of {len(self.text)} characters")
            _require(bool(_INLINE.fullmatch(self.text)), f"blob {self.digest}: text that is not plain ASCII")
            raw = self.content
            _require(Digest.of(raw) == self.digest and len(raw) == self.size, f"blob {self.digest}: not its text")

    @classmethod
    def made(cls, raw: bytes, media_type: str = media_types.OCTETS) -> Self:
        """The blob of a text that is generated."""
        plain = _INLINE.fullmatch(raw.decode("latin-1")) and not raw.startswith(_BASE64.encode())
        text = raw.decode("ascii") if plain else _BASE64 + base64.b64encode(raw).decode("ascii")
        return cls(Digest.of(raw), media_type, len(raw), text)

    @property
    def content(self) -> bytes:
        """The bytes of `text`. Raises BundleError."""
        if not self.text.startswith(_BASE64):
            return self.text.encode("ascii")
        try:
            return base64.b64decode(self.text.removeprefix(_BASE64), validate=True)
        except ValueError as exc:
            raise BundleError(f"blob {self.digest}: broken Base64") from exc

    @property
    def descriptor(self) -> Descriptor:
        """Type, digest and size."""
        return Descriptor(self.media_type, self.digest, self.size)


class LockedManifest(Value):
    """The content of a manifest, in its order: manifests of an index, or the configuration and then the layers."""

    digest: Digest
    content: tuple[Digest, ...]


class LockedImage(Value):
    """An image under the name by which it is asked for; see `installer.bundle.manifest.BundleImage`.

    `single` is the manifest for the recipe's first platform, or `digest` itself where there is none to choose from:
    what engines load that know one platform only. `referrers` and `tagged` are manifests about it that travel along.
    """

    source: str
    digest: Digest
    media_type: str
    size: int
    upstream: Digest
    single: Digest
    platforms: tuple[Platform, ...]
    origin: Origin
    reasons: tuple[Reason, ...]
    referrers: tuple[Digest, ...] = ()
    tagged: tuple[tuple[str, Digest], ...] = ()

    def __post_init__(self) -> None:
        self.in_bundle()
        _require(list(self.referrers) == sorted(set(self.referrers)), f"{self.source}: referrers are not sorted")
        _require(self.origin.kind in ("registry", "layout", "archive", "engine"), f"{self.source}: no place for images")

    def in_bundle(self) -> BundleImage:
        """The image as the bundle names it."""
        return BundleImage(
            self.source,
            self.digest,
            self.media_type,
            self.size,
            self.upstream,
            self.platforms,
            self.referrers,
            self.tagged,
        )


class TemplateEdit(Value, order=True):
    """The file `template` in a chart's archive, and the replacements that what it makes passes through."""

    template: str
    rewrites: tuple[Rewrite, ...]


class LockedSchema(Value, order=True):
    """A document that stands in the schemas of a chart which refer to `address`: the `file` beside the recipe."""

    address: str
    file: str
    digest: Digest
    size: int


class LockedChart(Value):
    """A chart; see `installer.bundle.manifest.BundleChart`. `asked` is the version or range that the recipe names.

    `published` is the archive at `origin`, of `size` bytes; with `schemas` and `edits`, which come after them, another
    than `archive`. `prefixes` are the dotted paths of the values that do not name an image, and by which some are taken
    from the enclave all the same.
    """

    name: str
    version: str
    asked: str
    origin: Origin
    archive: Digest
    artifact: Digest
    published: Digest
    size: int
    schemas: tuple[LockedSchema, ...] = ()
    edits: tuple[TemplateEdit, ...] = ()
    prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.in_bundle()
        _require(
            bool(self.schemas or self.edits) or self.published == self.archive,
            f"chart {self.name}: another archive than the published one, and no edit",
        )
        fits = self.origin.kind in ("registry", "url", "file", "folder")
        _require(fits, f"chart {self.name}: no place for charts")

    def in_bundle(self) -> BundleChart:
        """The chart as the bundle names it."""
        return BundleChart(self.name, self.version, self.archive, self.artifact, _chart_source(self.origin))


def _chart_source(origin: Origin) -> str:
    if origin.kind == "registry":
        return f"oci://{origin.location}:{origin.name}"
    # What follows the path may be a token that was given to us alone.
    return origin.location.partition("?")[0] if origin.kind == "url" else Path(origin.location).name


class LockedDocument(Value):
    """A file that travels along."""

    name: str
    kind: str
    digest: Digest
    origin: Origin

    def __post_init__(self) -> None:
        self.in_bundle()
        _require(self.origin.kind in ("file", "inline"), f"document {self.name}: no place for documents")

    def in_bundle(self) -> BundleDocument:
        """The document as the bundle names it."""
        return BundleDocument(self.name, self.kind, self.digest)


class LockedRegistry(Value):
    """Settings of a registry: another base URL as `mirror`, http or https as `scheme`, a PEM file as `ca`, or empty.

    `token_hosts` are further hosts that may get its credentials; the seconds are those of `HostSettings`.
    """

    host: str
    mirror: str
    scheme: str
    ca: str
    token_hosts: tuple[str, ...] = ()
    answer_seconds: int = ANSWER_SECONDS
    pause_seconds: int = PAUSE_SECONDS

    def __post_init__(self) -> None:
        for host in (self.host, *self.token_hosts):
            Repository(host, "x")
        for seconds in (self.answer_seconds, self.pause_seconds):
            _require(0 <= seconds <= MOST_SECONDS, f"registry {self.host}: nobody waits for {seconds} s")
        _require(self.scheme in ("", "http", "https"), f"registry {self.host}: unknown scheme {self.scheme[:20]!r}")


class Lock(Value):
    """All of the lock. Lists are sorted; `expires` is a time or `never`.

    `site` are the answers it is meant for, as `FILE sha256:…`; empty if it is for every site.

    Raises BundleError where it contradicts itself.
    """

    format: str
    name: str
    version: str
    sequence: int
    created: str
    expires: str
    site: str
    platforms: tuple[Platform, ...]
    images: tuple[LockedImage, ...]
    charts: tuple[LockedChart, ...]
    documents: tuple[LockedDocument, ...]
    excluded: tuple[Excluded, ...]
    suspected: tuple[Suspected, ...]
    optional: tuple[OptionalImage, ...]
    failures: tuple[Failure, ...]
    registries: tuple[LockedRegistry, ...]
    manifests: tuple[LockedManifest, ...]
    blobs: tuple[LockedBlob, ...]

    def __post_init__(self) -> None:
        _require(self.format == FORMAT, f"a lock of format {self.format[:60]!r}; this program reads {FORMAT}")
        parse_time(self.created)
        if self.expires != NEVER:
            parse_time(self.expires)
        for what, names in (
            ("images", [image.source for image in self.images]),
            ("charts", [f"{chart.name}-{chart.version}" for chart in self.charts]),
            ("documents", [document.name for document in self.documents]),
            ("registries", [registry.host for registry in self.registries]),
            ("manifests", [manifest.digest.text for manifest in self.manifests]),
            ("blobs", [blob.digest.text for blob in self.blobs]),
        ):
            _require(names == sorted(set(names)), f"{what} are not sorted, or one stands twice")
        self._check_blobs()

    def _check_blobs(self) -> None:
        """Every blob is used, every used one is there, and sizes and texts agree with that."""
        held, trees = self.blobs_by_digest(), self.manifests_by_digest()
        used = {document.digest for document in self.documents}
        roots = [root for image in self.images for root in image.in_bundle().roots]
        for root in (*roots, *(chart.artifact for chart in self.charts)):
            _require(root in trees, f"{root}: a manifest without its content")
            used |= reach(trees, root)
        for chart in self.charts:
            _require(chart.archive in reach(trees, chart.artifact), f"chart {chart.name}: its archive is missing")
        odd = sorted(digest.text for digest in (held.keys() ^ used) | (trees.keys() - used))
        _require(not odd, f"blobs that nothing uses, or that are missing: {', '.join(odd[:3])}")
        for image in self.images:
            _require(held[image.digest].size == image.size, f"{image.source}: two sizes for {image.digest}")
        for document in self.documents:
            blob = held[document.digest]
            _require(document.origin.kind == "file" or bool(blob.text) or not blob.size, f"{document.name}: no text")

    def blobs_by_digest(self) -> dict[Digest, LockedBlob]:
        """All blobs by their digests."""
        return {blob.digest: blob for blob in self.blobs}

    def manifests_by_digest(self) -> dict[Digest, LockedManifest]:
        """All manifests and indexes by their digests."""
        return {manifest.digest: manifest for manifest in self.manifests}

    def encode(self) -> bytes:
        """The bytes of the file. Raises RecipeError for names that a bundle cannot carry."""
        try:
            plain = json.loads(canonical.encode(self))
        except BundleError as exc:
            raise RecipeError(exc.message, hint="rename it.") from exc
        return (json.dumps(plain, sort_keys=True, indent=1) + "\n").encode("ascii")

    @classmethod
    def decode(cls, raw: bytes, what: str = LOCK_NAME) -> "Lock":
        """The lock whose bytes are `raw`. Raises RecipeError."""
        document = strict_json.parse(raw, what, RecipeError)
        try:
            return canonical.typed(document, cls, what)
        except (AirferryError, RecursionError) as exc:
            hint = "restore the file from version control, or make it anew with `airferry lock`."
            raise RecipeError(f"{what}: {str(exc).removeprefix(what + ': ')}", hint=hint) from exc

    @classmethod
    def load(cls, path: Path) -> "Lock":
        """The lock in the file `path`. Raises RecipeError, StorageError."""
        try:
            return cls.decode(read_bounded(path, MAX_LOCK, RecipeError), path.name)
        except RecipeError as exc:
            if not isinstance(exc.__cause__, FileNotFoundError):
                raise
            hint = "run `airferry lock`: it makes the lock of a recipe."
            raise RecipeError(f"there is no {path}", hint=hint) from exc

    def save(self, path: Path) -> None:
        """Write the file `path` atomically. Raises StorageError."""
        write_atomic(path, self.encode())


def reach(manifests: Mapping[Digest, LockedManifest], root: Digest) -> set[Digest]:
    """All that `root` consists of, itself included. Raises BundleError for a tree that contains itself."""
    found, level = {root}, [root]
    for _ in range(MAX_DEPTH):
        level = [digest for parent in level if parent in manifests for digest in manifests[parent].content]
        if not level:
            return found
        found.update(level)
    raise BundleError(f"{root}: indexes inside indexes, more than {MAX_DEPTH} deep")


def closure(manifests: Mapping[Digest, LockedManifest], image: LockedImage) -> set[Digest]:
    """All that an image and what is about it consist of. Raises BundleError."""
    return set().union(*(reach(manifests, root) for root in image.in_bundle().roots))


def full_name(text: str) -> str:
    """The full form of the image name `text`: `redis` → `docker.io/library/redis:latest`. Raises UsageError."""
    return str(parse_reference(text))


def is_mutable(image: str) -> bool:
    """Whether the full name `image` means whatever was pushed last: the tag `latest`, written or not."""
    reference = parse_reference(image)
    return isinstance(reference, TagRef) and reference.tag == "latest"
