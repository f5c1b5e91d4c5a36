"""Images as people publish them, the odd ones among them, and artifacts: each of a few kB, all bytes fixed.

for odd in odd_images():
    hold(place, odd)            # tests/parts/bare_client.py
"""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.parts.images import DOCKER, OCI, Family, File, Layer, compact

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGE_CONFIG = 12_000_000
LARGE_MANIFEST = 4 * 1024 * 1024 - 100
EMPTY = "application/vnd.oci.empty.v1+json"
AMD64, ARM64 = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}
WINDOWS = {"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.2113"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


@dataclass(frozen=True)
class OddImage:
    """An image under the tag 1: `blobs` by digest, `manifests` children first, the last one under the tag.

    `whole` asks for all platforms of an index, else for linux/amd64; `root` is the manifest that is carried then.
        `referrers` asks for what refers to it, too.
    """

    name: str
    about: str
    blobs: Mapping[str, bytes]
    manifests: tuple[tuple[str, bytes], ...]
    needed: frozenset[str]
    on_node: frozenset[str]
    whole: bool = False
    referrers: bool = False

    @property
    def top(self) -> str:
        """The digest that the tag names."""
        return sha256(self.manifests[-1][1])


def sha256(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class _Maker:
    """Collects what an image consists of; descriptors are what refers to it."""

    name: str
    about: str
    family: Family = OCI
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: list[tuple[str, bytes]] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    def blob(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        self.blobs[sha256(content)] = content
        return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}

    def layer(self, text: str = "hello\n", **more: Any) -> dict[str, Any]:
        return self.blob(_packed(text), self.family.layer_gzip, **more)

    def config(self, *texts: str, **more: Any) -> dict[str, Any]:
        """The configuration of an image whose layers are those that `layer` makes of `texts`."""
        rootfs = {"type": "layers", "diff_ids": [sha256(_plain(text)) for text in texts]}
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
        raw = compact({key: value for key, value in document.items() if value is not ABSENT})
        self.manifests.append((media_type, raw))
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
        every = {*self.blobs, *(sha256(raw) for _, raw in self.manifests)}
        return self._odd(every, self._parts(subject) if subject else every, referrers=subject is not None)

    def one(self, entry: dict[str, Any]) -> OddImage:
        """Of an index, only `entry` is needed."""
        return self._odd(self._parts(entry), self._parts(entry))

    def whole(self, entry: dict[str, Any], *above: dict[str, Any]) -> OddImage:
        """Of an index, all is needed; on a node its `entry` for linux/amd64, and the indexes `above` it."""
        every = {*self.blobs, *(sha256(raw) for _, raw in self.manifests)}
        on_node = self._parts(entry) | {index["digest"] for index in above}
        return self._odd(every, on_node, whole=True)

    def _parts(self, entry: dict[str, Any]) -> set[str]:
        raw = next(raw for _, raw in self.manifests if sha256(raw) == entry["digest"])
        named = {digest for digest in self.blobs if digest.encode() in raw}
        assert len(named) > 1
        return {entry["digest"], *named}

    def _odd(self, needed: set[str], on_node: set[str], **more: bool) -> OddImage:
        blobs = {digest: data for digest, data in self.blobs.items() if digest not in self.absent}
        found = frozenset(needed - self.absent)
        return OddImage(self.name, self.about, blobs, tuple(self.manifests), found, frozenset(on_node), **more)


ABSENT = object()
"""In the place of a part of a document that shall not be there."""


def _plain(text: str) -> bytes:
    return Layer({"/etc/text": File(text.encode())}).tar()


def _packed(text: str) -> bytes:
    return gzip.compress(_plain(text), 1, mtime=0)


def odd_images() -> list[OddImage]:
    """All of them, each name once."""
    found = [*_plain_ones(), *_indexes(), *_odd_manifests(), *_odd_contents(), *_artifacts()]
    assert len({odd.name for odd in found}) == len(found)
    return found


def _plain_ones() -> list[OddImage]:
    oci, docker = _Maker("oci", "an OCI image"), _Maker("docker", "a Docker image", DOCKER)
    for maker in (oci, docker):
        maker.manifest()
    several = []
    for family, kind in ((OCI, "index"), (DOCKER, "list")):
        words = "an OCI index" if family is OCI else "a Docker manifest list"
        one = _Maker(f"{kind}-one", f"{words}, one platform wanted", family)
        entry = one.child("amd64\n", AMD64)
        one.index(entry, one.child("arm64\n", ARM64))
        both = _Maker(f"{kind}-whole", f"{words}, whole", family)
        entry = both.child("amd64\n", AMD64)
        top = both.index(entry, both.child("arm64\n", ARM64))
        several += [one.one(entry), both.whole(entry, top)]
    return [oci.image(), docker.image(), *several]


def _indexes() -> list[OddImage]:
    found = []
    for whole in (False, True):
        suffix, words = ("-whole", ", whole") if whole else ("", "")

        def done(maker: _Maker, entry: dict[str, Any], *above: dict[str, Any], whole: bool = whole) -> None:
            found.append(maker.whole(entry, *above) if whole else maker.one(entry))

        maker = _Maker(f"no-architecture{suffix}", f'an entry with `"architecture": ""` beside a good one{words}')
        entry = maker.child("good\n", AMD64)
        top = maker.index(entry, maker.child("other\n", {"os": "linux", "architecture": ""}))
        done(maker, entry, top)

        maker = _Maker(f"attested{suffix}", f"an entry without platform, and its attestation{words}")
        entry = maker.child("good\n", None)
        about = {"vnd.docker.reference.digest": entry["digest"], "vnd.docker.reference.type": "attestation-manifest"}
        statement = maker.blob(b'{"_type":"https://in-toto.io/Statement/v0.1"}', "application/vnd.in-toto+json")
        attestation = maker.manifest(config=maker.config(**UNKNOWN), layers=[statement])
        top = maker.index(entry, {**attestation, "platform": UNKNOWN, "annotations": about})
        done(maker, entry, top)

        maker = _Maker(f"foreign{suffix}", f"a Windows entry with a layer that its vendor alone holds{words}")
        entry = maker.child("good\n", AMD64)
        top = maker.index(entry, _windows(maker, "vendor\n"))
        maker.absent = {sha256(_packed("vendor\n"))}
        done(maker, entry, top)

        maker = _Maker(f"foreign-held{suffix}", f"the same, and the registry holds that layer{words}")
        entry = maker.child("good\n", AMD64)
        top = maker.index(entry, _windows(maker, "held\n"))
        done(maker, entry, top)

        maker = _Maker(f"unknown-entry{suffix}", f"an entry of a type that nobody knows{words}")
        entry = maker.child("good\n", AMD64)
        top = maker.index(entry, maker.blob(b"anything\n", "application/vnd.example.thing.v1"))
        done(maker, entry, top)

        maker = _Maker(f"nested{suffix}", f"an index within an index{words}")
        entry = maker.child("good\n", AMD64)
        inner = maker.index(entry)
        top = maker.index(inner, maker.child("arm64\n", ARM64))
        done(maker, entry, inner, top)
    return found


def _windows(maker: _Maker, text: str) -> dict[str, Any]:
    urls = ["http://127.0.0.1:1/vendor/layer"]
    media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    foreign = maker.blob(_packed(text), media_type, urls=urls)
    config = maker.config(text, "own\n", **WINDOWS)
    return {**maker.manifest(config=config, layers=[foreign, maker.layer("own\n")]), "platform": WINDOWS}


def _odd_manifests() -> list[OddImage]:
    found = []

    def image(name: str, about: str, **parts: Any) -> None:
        maker = _Maker(name, about)
        maker.manifest(**parts)
        found.append(maker.image())

    image("no-media-type", "a manifest without `mediaType`", mediaType=ABSENT)
    for name, layers, words in (
        ("layers-empty", [], "`layers: []`"),
        ("layers-null", None, "`layers: null`"),
        ("layers-absent", ABSENT, "no `layers`"),
    ):
        maker = _Maker(name, f"an image with {words}")
        maker.manifest(config=maker.config(), layers=layers)
        found.append(maker.image())
    odd = {"": "empty", "Ä ö": "Umlaute", "__proto__": "x", "k" * 300: "", "a b/c\n": "\u0000\u2028"}
    image("annotations", "annotations with odd keys and texts", annotations=odd)
    cases = {"com.Example": "1", "com.example": "2"}
    image("annotation-cases", "annotations whose keys differ in case only", annotations=cases)
    large = {"padding": "x" * (LARGE_MANIFEST - 700)}
    image("large-manifest", "a manifest of nearly 4 MiB", annotations=large)
    maker = _Maker("twice", "the same layer twice")
    maker.manifest(config=maker.config("hello\n", "hello\n"), layers=[maker.layer(), maker.layer()])
    found.append(maker.image())
    maker = _Maker("data", "descriptors with `data`")
    layer, config = maker.layer(data=_text(_packed("hello\n"))), maker.config("hello\n")
    config["data"] = _text(maker.blobs[config["digest"]])
    maker.manifest(config=config, layers=[layer])
    found.append(maker.image())
    there = {"mediaType": OCI.manifest, "digest": sha256(b"somewhere else"), "size": 14}
    image("subject", "an image about another one that is not there", subject=there)
    maker = _Maker("referrer", "an image with a signature that refers to it")
    subject = maker.manifest()
    empty, signature = maker.blob(b"{}", EMPTY), maker.blob(b"signed\n", "application/vnd.example.signature.v1")
    maker.manifest(config=empty, layers=[signature], subject=subject, artifactType="application/vnd.example.signature")
    maker.manifests.reverse()
    found.append(maker.image(subject))
    return found


def _odd_contents() -> list[OddImage]:
    found = []

    def image(name: str, about: str, family: Family = OCI, **config: Any) -> None:
        maker = _Maker(name, about, family)
        maker.manifest(config=maker.config("hello\n", **config))
        found.append(maker.image())

    image("appended", 'a config with `"os": "", "architecture": ""`, as `crane append` makes it', DOCKER,
          os="", architecture="")  # fmt: skip
    image("labels", "labels that differ in case only", config={"Labels": {"Maintainer": "a", "maintainer": "b"}})
    padding = random.Random(1).randbytes(LARGE_CONFIG // 2).hex()
    image("large-config", "a config of 12 MB", config={"Labels": {"padding": padding}})
    for name, about, packed, media_type in (
        ("zstd", "layers compressed by zstd", _zstd(_plain("hello\n")), f"{OCI.layer}+zstd"),
        ("uncompressed", "layers that are not compressed", _plain("hello\n"), OCI.layer),
    ):
        maker = _Maker(name, about)
        maker.manifest(config=maker.config("hello\n"), layers=[maker.blob(packed, media_type)])
        found.append(maker.image())
    maker = _Maker("zero", "a layer of no bytes")
    config = maker.config(rootfs={"type": "layers", "diff_ids": [sha256(b"")]})
    maker.manifest(config=config, layers=[maker.blob(b"", OCI.layer)])
    found.append(maker.image())
    maker = _Maker("sha512", "a layer named by SHA-512")
    packed = _packed("hello\n")
    digest = f"sha512:{hashlib.sha512(packed).hexdigest()}"
    maker.blobs[digest] = packed
    layer = {"mediaType": OCI.layer_gzip, "digest": digest, "size": len(packed)}
    maker.manifest(config=maker.config("hello\n"), layers=[layer])
    found.append(maker.image())
    return found


def _artifacts() -> list[OddImage]:
    typed = _Maker("artifact", "an artifact with an empty config of a type of its own")
    content = typed.blob(b"anything\n", "application/vnd.example.content.v1")
    typed.manifest(config=typed.blob(b"{}", "application/vnd.example.config.v1+json"), layers=[content])
    empty = _Maker("artifact-type", "an artifact that only `artifactType` tells")
    nothing = empty.blob(b"{}", EMPTY)
    empty.manifest(config=nothing, layers=[nothing], artifactType="application/vnd.example.thing.v1")
    return [typed.image(), empty.image()]


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout
