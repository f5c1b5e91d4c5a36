"""What odd images are made with: layers, configs, manifests and indexes, any part of which can be another one."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.parts.images import OCI, Family, File, Layer, compact

if TYPE_CHECKING:
    from collections.abc import Mapping

TAG = "1"
"""The tag of the top of each image."""
AMD64, ARM64 = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}


@dataclass(frozen=True)
class Held:
    """A manifest as a registry holds it, with a tag or without."""

    media_type: str
    raw: bytes
    tag: str = ""

    @property
    def digest(self) -> str:
        """What names it always."""
        return sha256(self.raw)


@dataclass(frozen=True)
class OddImage:
    """An image: `blobs` by digest, and `manifests` in the order in which a registry takes them, the last one its top.

    `needed` are the digests without which it was not carried, `on_node` those that a node of linux/amd64 needs. `whole`
    asks for all platforms of an index, else for linux/amd64; `referrers` asks for what refers to the image, too.
    """

    name: str
    about: str
    blobs: Mapping[str, bytes]
    manifests: tuple[Held, ...]
    needed: frozenset[str]
    on_node: frozenset[str]
    whole: bool = False
    referrers: bool = False

    @property
    def top(self) -> str:
        """The digest that the tag names."""
        return self.manifests[-1].digest


def sha256(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Maker:
    """Collects what an image consists of; descriptors are what refers to it."""

    name: str
    about: str
    family: Family = OCI
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: list[Held] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    def blob(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.blobs[sha256(content)] = content
        return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}

    def layer(self, text: str = "hello\n", **more: Any) -> dict[str, Any]:
        return self.blob(packed(text), self.family.layer_gzip, **more)

    def config(self, *texts: str, **more: Any) -> dict[str, Any]:
        """The configuration of an image whose layers are those that `layer` makes of `texts`."""
        rootfs = {"type": "layers", "diff_ids": [sha256(plain(text)) for text in texts]}
        return self.blob(compact({**AMD64, "config": {}, "rootfs": rootfs, **more}), self.family.config)

    def manifest(self, **parts: Any) -> dict[str, Any]:
        """A manifest; without parts, of one layer. A part that is ABSENT is left out."""
        document = {
            "schemaVersion": 2,
            "mediaType": self.family.manifest,
            "config": parts.get("config") or self.config("hello\n"),
            "layers": parts["layers"] if "layers" in parts else [self.layer()],
            **{key: value for key, value in parts.items() if key not in ("config", "layers")},
        }
        return self.put(document, self.family.manifest)

    def put(self, document: dict[str, Any], media_type: str) -> dict[str, Any]:
        return self.raw(compact({key: value for key, value in document.items() if value is not ABSENT}), media_type)

    def raw(self, raw: bytes, media_type: str) -> dict[str, Any]:
        """A manifest of just these bytes."""
        self.manifests.append(Held(media_type, raw))
        return {"mediaType": media_type, "digest": sha256(raw), "size": len(raw)}

    def child(self, text: str, platform: Mapping[str, str] | None, **stated: str) -> dict[str, Any]:
        """The entry of an image for `platform`, whose configuration states `stated` instead where that is given."""
        config = self.config(text, **(stated or platform or AMD64))
        made = self.manifest(config=config, layers=[self.layer(text)])
        return {**made, **({} if platform is None else {"platform": dict(platform)})}

    def index(self, *entries: dict[str, Any], **parts: Any) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": self.family.index, "manifests": list(entries), **parts}
        return self.put(document, self.family.index)

    def image(self, subject: dict[str, Any] | None = None) -> OddImage:
        """All that was made is needed, on a node the `subject` of the rest if there is one."""
        every = {*self.blobs, *(held.digest for held in self.manifests)}
        return self._odd(every, self._parts(subject) if subject else every, referrers=subject is not None)

    def one(self, entry: dict[str, Any]) -> OddImage:
        """Of an index, only `entry` is needed."""
        return self._odd(self._parts(entry), self._parts(entry))

    def whole(self, entry: dict[str, Any], *above: dict[str, Any]) -> OddImage:
        """Of an index, all is needed; on a node its `entry` for linux/amd64, and the indexes `above` it."""
        every = {*self.blobs, *(held.digest for held in self.manifests)}
        on_node = self._parts(entry) | {index["digest"] for index in above}
        return self._odd(every, on_node, whole=True)

    def nothing(self, index: dict[str, Any]) -> OddImage:
        """An index of which there is only itself."""
        return self._odd({index["digest"]}, {index["digest"]}, whole=True)

    def _parts(self, entry: dict[str, Any]) -> set[str]:
        (raw,) = {held.raw for held in self.manifests if held.digest == entry["digest"]}
        named = {digest for digest in self.blobs if digest.encode() in raw}
        assert len(named) > 1
        return {entry["digest"], *named}

    def _odd(self, needed: set[str], on_node: set[str], **more: bool) -> OddImage:
        blobs = {digest: data for digest, data in self.blobs.items() if digest not in self.absent}
        found = frozenset(needed - self.absent)
        manifests = (*self.manifests[:-1], replace(self.manifests[-1], tag=TAG))
        return OddImage(self.name, self.about, blobs, manifests, found, frozenset(on_node), **more)


ABSENT = object()
"""In the place of a part of a document that shall not be there."""


def plain(text: str) -> bytes:
    """The layer with `text`, as a tar archive."""
    return Layer({"/etc/text": File(text.encode())}).tar()


def packed(text: str) -> bytes:
    """The same in gzip."""
    return gzip.compress(plain(text), 1, mtime=0)
