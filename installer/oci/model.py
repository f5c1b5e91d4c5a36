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
ANEW = "whoever publishes it has to write it anew."
"""What is to be done about content that nobody can read; a hint."""


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
    def of(cls, item: Any) -> "Platform | None":
        """The platform of an index entry or a configuration; None where it names none, be it by an empty text.

        Raises TypeError for what is no object of texts.
        """
        if not isinstance(item, dict):
            raise TypeError("not an object")
        os, architecture, variant = (item.get(key) or "" for key in ("os", "architecture", "variant"))
        if not all(isinstance(part, str) for part in (os, architecture, variant)):
            raise TypeError("not texts")
        return (
            cls(os, architecture, variant) if os and architecture and "/" not in os + architecture + variant else None
        )

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
            raise ContentError(f"{self.digest}: impossible size {self.size}", hint=ANEW)

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

    Registries need not hold `layers` of the types in `media_types.FOREIGN_LAYERS`. `subject` is the manifest that this
    one is about, if it is a signature or the like.
    """

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers; each digest once."""
        return tuple({item.digest: item for item in (self.config, *self.layers)}.values())

    def needs(self, blob: Descriptor) -> bool:
        """Whether it is not to be carried without `blob`: all but layers that may stay at their vendor."""
        return blob.media_type not in media_types.FOREIGN_LAYERS


@dataclass(frozen=True, slots=True)
class Index:
    """An index: `raw` is what has the digest; `manifests` are its entries; `subject` as in `Manifest`."""

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """The entries that are manifests and indexes."""
        return tuple(item for item in self.manifests if item.is_index or item.is_manifest)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All other entries; a type that is not known is no error (OCI image-index.md)."""
        return tuple(item for item in self.manifests if not (item.is_index or item.is_manifest))

    def needs(self, blob: Descriptor) -> bool:  # noqa: ARG002 - as in `Manifest`
        """Whether it is not to be carried without `blob`: never, since nobody can say what that is."""
        return False

    def entry_for(self, platform: Platform) -> Descriptor | None:
        """The entry that docker is given for `platform` (FORMAT.md, "manifest.json").

        One of exactly its variant goes before one that merely serves it.

        An entry that is alone and names no platform serves any.
        """
        if [child.platform for child in self.manifests] == [None]:
            return self.manifests[0]
        fitting = [child for child in self.manifests if child.platform and child.platform.serves(platform)]
        return min(fitting, key=lambda child: child.platform != platform, default=None)


def parse_manifest(raw: bytes, media_type: str) -> Manifest | Index:
    """The manifest or index in `raw`, whose declared type (Content-Type or descriptor) is `media_type`.

    What it says itself goes before that, and its content before a declared type that is none of a manifest, as servers
    for plain files name it. A document that could be read as both kinds, contradicts its declared kind, or repeats keys
    is refused (CVE-2021-41190). Raises ContentError.
    """
    what = f"manifest {Digest.of(raw)}"
    if len(raw) > MAX_MANIFEST:
        hint = "its publisher has to make it smaller."
        raise ContentError(f"{what}: {len(raw)} bytes; registries hold at most {MAX_MANIFEST}", hint=hint)
    doc = strict_json.parse(raw, what, ContentError, known=_KNOWN, hint=ANEW)
    if not isinstance(doc, dict):
        raise ContentError(f"{what}: not an object", hint=ANEW)
    if doc.get("schemaVersion") != 2:
        raise ContentError(
            f"{what}: schema version {doc.get('schemaVersion')!r:.20}; only 2 can be carried",
            hint="version 1 is of before 2016: ask for another tag, or have an old engine push it anew.",
        )
    declared = media_type.partition(";")[0].strip()
    stated = doc.get("mediaType") or (declared if declared in _KINDS else _guessed(doc))
    if not isinstance(stated, str) or stated not in _KINDS:
        raise ContentError(
            f"{what}: neither an image manifest nor an index ({stated or declared!r:.100})",
            hint="only these can be carried, and artifacts in the form of one.",
        )
    if declared in _KINDS and (declared in media_types.INDEXES) != (stated in media_types.INDEXES):
        hint = "whoever serves it must say what it is."
        raise ContentError(f"{what}: delivered as {declared!r:.100} but says {stated!r:.100}", hint=hint)
    descriptor = Descriptor(stated, Digest.of(raw), len(raw))
    subject = None if doc.get("subject") is None else _descriptor(doc["subject"], what)
    if descriptor.is_index and not {"config", "layers", "fsLayers"} & doc.keys():
        return Index(raw, descriptor, _descriptors(doc, "manifests", what), subject)
    if descriptor.is_manifest and not {"manifests", "fsLayers"} & doc.keys():
        config = _descriptor(doc.get("config"), what)
        return Manifest(raw, descriptor, config, _descriptors(doc, "layers", what), subject)
    raise ContentError(f"{what}: says {stated!r}, and holds what makes another kind", hint=ANEW)


_KINDS = media_types.INDEXES | media_types.MANIFESTS
_KNOWN = frozenset({"config", "layers", "manifests", "subject", "platform", "fsLayers"})
"""Keys of objects whose keys have a meaning; all others, such as annotations, are free."""


def _guessed(doc: dict[str, Any]) -> str:
    """The type of a document that does not say it, by its content (OCI manifest.md: `mediaType` is not required)."""
    kinds = {"manifests": media_types.OCI_INDEX, "config": media_types.OCI_MANIFEST}
    found = [kind for key, kind in kinds.items() if key in doc]
    return found[0] if len(found) == 1 else ""


def _descriptors(doc: dict[str, Any], key: str, what: str) -> tuple[Descriptor, ...]:
    """A list of descriptors; none is written as `null` or not at all, too (image-spec PR 1013)."""
    items = doc.get(key)
    if items is None:
        return ()
    if not isinstance(items, list) or len(items) > MAX_DESCRIPTORS:
        raise ContentError(f"{what}: {key} is not a list of at most {MAX_DESCRIPTORS} descriptors", hint=ANEW)
    return tuple(_descriptor(item, what) for item in items)


def _descriptor(item: Any, what: str) -> Descriptor:
    """One descriptor of a manifest. Embedded `data` is ignored: the blob itself is carried."""
    if not isinstance(item, dict):
        raise ContentError(f"{what}: a descriptor is not an object", hint=ANEW)
    media_type, digest, size = item.get("mediaType"), item.get("digest"), item.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise ContentError(f"{what}: a descriptor lacks mediaType, digest or size", hint=ANEW)
    annotations = item.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str | None) for value in annotations.values()):
        raise ContentError(f"{what}: annotations are not text", hint=ANEW)
    # Go reads null as the empty text.
    texts = {key: value or "" for key, value in annotations.items()}
    return Descriptor(media_type, Digest(digest), size, _platform(item.get("platform"), what), texts)


def _platform(item: Any, what: str) -> Platform | None:
    """The platform that `item` names; None where it names none, be it by leaving something empty."""
    if item is None:
        return None
    try:
        return Platform.of(item)
    except TypeError as exc:
        raise ContentError(f"{what}: a platform is not an object of texts", hint=ANEW) from exc
