"""Descriptors, manifests and indexes: a parsed view beside the raw bytes, which alone carry the digest.

Source: OCI image specification (descriptor.md, manifest.md, image-index.md) and Docker manifest v2 schema 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from installer import strict_json
from installer.errors import ContentError, UsageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.value import Value

# Registries refuse larger ones (distribution's limit), so nothing larger can be carried.
MAX_MANIFEST = 4 * 1024 * 1024
MAX_DESCRIPTORS = 10_000
MAX_SIZE = 2**53 - 1


class Platform(Value, order=True):
    """What an image runs on, such as `linux/amd64` or `linux/arm/v7`. Raises UsageError if a part is missing."""

    os: str
    architecture: str
    variant: str = ""

    def __post_init__(self) -> None:
        if not self.os or not self.architecture or "/" in self.os + self.architecture + self.variant:
            raise UsageError(f"not a platform: {self}", hint="write it like linux/amd64.")

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}{'/' + self.variant if self.variant else ''}"

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """`os/architecture[/variant]`. Raises UsageError."""
        parts = text.split("/")
        if not 2 <= len(parts) <= 3:
            raise UsageError(f"not a platform: {text[:80]!r}", hint="write it like linux/amd64.")
        return cls(*parts)

    def serves(self, wanted: "Platform") -> bool:
        """Whether this runs where `wanted` is asked for; arm64 is v8 by definition."""
        mine, theirs = self.variant, wanted.variant
        if self.architecture == "arm64":
            mine, theirs = mine or "v8", theirs or "v8"
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and (mine == theirs or not theirs)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Content by media type, digest and size in bytes. Raises ContentError for an impossible size."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise ContentError(f"{self.digest}: impossible size {self.size}")

    @property
    def is_index(self) -> bool:
        """Whether the content is an index (or Docker manifest list)."""
        return self.media_type in media_types.INDEXES

    @property
    def is_manifest(self) -> bool:
        """Whether the content is an image manifest."""
        return self.media_type in media_types.MANIFESTS


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: `raw` is what has the digest; the rest is its parsed view.

    `subject` is the manifest that this one is about, if it is a signature or the like.
    """

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, those a registry holds; each digest once."""
        held = (self.config, *(layer for layer in self.layers if layer.media_type not in media_types.FOREIGN_LAYERS))
        return tuple({item.digest: item for item in held}.values())


@dataclass(frozen=True, slots=True)
class Index:
    """An index: `raw` is what has the digest; `manifests` are its children; `subject` as in `Manifest`."""

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None

    def entry_for(self, platform: Platform) -> Descriptor | None:
        """The entry for `platform`: one of exactly its variant goes before one that merely serves it.

        An entry that is alone and names no platform serves any.
        """
        if [child.platform for child in self.manifests] == [None]:
            return self.manifests[0]
        fitting = [child for child in self.manifests if child.platform and child.platform.serves(platform)]
        return min(fitting, key=lambda child: child.platform != platform, default=None)


def parse_manifest(raw: bytes, media_type: str) -> Manifest | Index:
    """The manifest or index in `raw`, whose declared type (Content-Type or descriptor) is `media_type`.

    A document that could be read as both kinds, contradicts its declared type, or repeats keys is refused
    (CVE-2021-41190). Raises ContentError.
    """
    what = f"manifest {Digest.of(raw)}"
    if len(raw) > MAX_MANIFEST:
        raise ContentError(f"{what}: {len(raw)} bytes; registries hold at most {MAX_MANIFEST}")
    doc = strict_json.parse(raw, what, ContentError)
    if not isinstance(doc, dict):
        raise ContentError(f"{what}: not an object")
    media_type = media_type.partition(";")[0].strip()
    stated = doc.get("mediaType", media_type)
    if stated != media_type:
        raise ContentError(f"{what}: delivered as {media_type!r:.100} but says {stated!r:.100}")
    if doc.get("schemaVersion") != 2:
        raise ContentError(f"{what}: schema version {doc.get('schemaVersion')!r:.20}; only 2 can be carried")
    descriptor = Descriptor(media_type, Digest.of(raw), len(raw))
    subject = None if doc.get("subject") is None else _descriptor(doc["subject"], what)
    if descriptor.is_index and not {"config", "layers", "fsLayers"} & doc.keys():
        return Index(raw, descriptor, _descriptors(doc, "manifests", what), subject)
    if descriptor.is_manifest and not {"manifests", "fsLayers"} & doc.keys():
        config = _descriptor(doc.get("config"), what)
        return Manifest(raw, descriptor, config, _descriptors(doc, "layers", what), subject)
    raise ContentError(f"{what}: neither an image manifest nor an index ({media_type!r:.100})")


def _descriptors(doc: dict[str, Any], key: str, what: str) -> tuple[Descriptor, ...]:
    items = doc.get(key)
    if not isinstance(items, list) or len(items) > MAX_DESCRIPTORS:
        raise ContentError(f"{what}: {key} is not a list of at most {MAX_DESCRIPTORS} descriptors")
    return tuple(_descriptor(item, what) for item in items)


def _descriptor(item: Any, what: str) -> Descriptor:
    """One descriptor of a manifest. Embedded `data` is ignored: the blob itself is carried."""
    if not isinstance(item, dict):
        raise ContentError(f"{what}: a descriptor is not an object")
    media_type, digest, size = item.get("mediaType"), item.get("digest"), item.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise ContentError(f"{what}: a descriptor lacks mediaType, digest or size")
    annotations = item.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise ContentError(f"{what}: annotations are not text")
    return Descriptor(media_type, Digest(digest), size, _platform(item.get("platform"), what), annotations)


def _platform(item: Any, what: str) -> Platform | None:
    if item is None:
        return None
    if not isinstance(item, dict):
        raise ContentError(f"{what}: a platform is not an object")
    parts = [item.get(key, "") for key in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) and "/" not in part for part in parts) or not parts[0] or not parts[1]:
        raise ContentError(f"{what}: a platform lacks os or architecture, or one of them holds a slash")
    return Platform(*parts)
