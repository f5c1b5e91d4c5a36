"""Images as people publish them, the odd ones among them, and artifacts: each of a few kB, all bytes fixed."""

from __future__ import annotations

import hashlib
import json
import random
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.parts.images import DOCKER, OCI
from tests.parts.odd_indexes import odd_indexes
from tests.parts.odd_maker import ABSENT, ARM64, Maker, packed, plain, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.odd_maker import OddImage

LARGE_CONFIG = 12_000_000
LIMIT = 4 * 1024 * 1024
"""Larger manifests need not be taken by a registry (distribution-spec 1.1, "Pushing Manifests")."""
EMPTY = "application/vnd.oci.empty.v1+json"


def odd_images() -> list[OddImage]:
    """All of them, each name once."""
    found = [*_plain_ones(), *odd_indexes(), *_manifests(), *_configs(), *_layers(), *_artifacts(), *_referrers()]
    assert len({odd.name for odd in found}) == len(found)
    return found


def _plain_ones() -> Iterator[OddImage]:
    for maker in (Maker("oci", "an OCI image"), Maker("docker", "a Docker image", DOCKER)):
        maker.manifest()
        yield maker.image()


def _manifests() -> Iterator[OddImage]:
    odd = {"": "empty", "Ä ö": "Umlaute", "__proto__": "x", "k" * 300: "", "a b/c\n": "\u0000\u2028"}
    there = {"mediaType": OCI.manifest, "digest": sha256(b"somewhere else"), "size": 14}
    for name, about, parts in (
        ("no-media-type", "a manifest without `mediaType`", {"mediaType": ABSENT}),
        ("annotations", "annotations with odd keys and texts", {"annotations": odd}),
        (
            "annotation-cases",
            "annotations whose keys differ in case only",
            {"annotations": {"com.Example": "1", "com.example": "2"}},
        ),
        ("large-manifest", "a manifest of nearly 4 MiB", {"annotations": {"padding": "x" * (LIMIT - 800)}}),
        ("larger-manifest", "a manifest of more than 4 MiB", {"annotations": {"padding": "x" * (LIMIT + 800)}}),
        ("subject", "an image about another one that is not there", {"subject": there}),
    ):
        maker = Maker(name, about)
        maker.manifest(**parts)
        yield maker.image()
    for name, about, layers in (
        ("layers-empty", "an image with `layers: []`", []),
        ("layers-null", "an image with `layers: null`", None),
        ("layers-absent", "an image without `layers`", ABSENT),
    ):
        maker = Maker(name, about)
        maker.manifest(config=maker.config(), layers=layers)
        yield maker.image()
    maker = Maker("indented", "a manifest in indented lines, with a newline at its end")
    maker.manifest()
    compacted = maker.manifests.pop()
    maker.raw(json.dumps(json.loads(compacted.raw), indent=3).encode() + b"\n", compacted.media_type)
    yield maker.image()
    maker = Maker("data", "descriptors with `data`")
    layer, config = maker.layer(data=_text(packed("hello\n"))), maker.config("hello\n")
    maker.manifest(config={**config, "data": _text(maker.blobs[config["digest"]])}, layers=[layer])
    yield maker.image()
    maker = Maker("mixed", "an OCI manifest of Docker's config and layers", DOCKER)
    config, layer = maker.config("hello\n"), maker.layer()
    document = {"schemaVersion": 2, "mediaType": OCI.manifest, "config": config, "layers": [layer]}
    maker.put(document, OCI.manifest)
    yield maker.image()


def _configs() -> Iterator[OddImage]:
    padding = random.Random(1).randbytes(LARGE_CONFIG // 2).hex()
    for name, about, family, parts in (
        (
            "appended",
            'a config with `"os": "", "architecture": ""`, as `crane append` makes it',
            DOCKER,
            {"os": "", "architecture": ""},
        ),
        ("labels", "labels that differ in case only", OCI, {"config": {"Labels": {"By": "a", "by": "b"}}}),
        ("large-config", "a config of 12 MB", OCI, {"config": {"Labels": {"padding": padding}}}),
        ("other-platform", "an image for linux/arm64 alone", OCI, ARM64),
    ):
        maker = Maker(name, about, family)
        maker.manifest(config=maker.config("hello\n", **parts))
        yield maker.image()
    maker = Maker("empty-config", "an image whose config is `{}`")
    maker.manifest(config=maker.blob(b"{}", OCI.config))
    yield maker.image()


def _layers() -> Iterator[OddImage]:
    for name, about, content, media_type in (
        ("zstd", "layers in zstd", _zstd(plain("hello\n")), f"{OCI.layer}+zstd"),
        ("uncompressed", "layers that are not compressed", plain("hello\n"), OCI.layer),
        ("encrypted", "an encrypted layer", b"nobody can read this\n", f"{OCI.layer_gzip}+encrypted"),
        ("wasm", "a layer of a type of its own", b"\0asm\1\0\0\0", "application/vnd.wasm.content.layer.v1+wasm"),
    ):
        maker = Maker(name, about)
        maker.manifest(config=maker.config("hello\n"), layers=[maker.blob(content, media_type)])
        yield maker.image()
    maker = Maker("zero", "a layer of no bytes")
    config = maker.config(rootfs={"type": "layers", "diff_ids": [sha256(b"")]})
    maker.manifest(config=config, layers=[maker.blob(b"", OCI.layer)])
    yield maker.image()
    maker = Maker("twice", "the same layer twice")
    maker.manifest(config=maker.config("hello\n", "hello\n"), layers=[maker.layer(), maker.layer()])
    yield maker.image()
    maker = Maker("two-types", "the same layer under two media types")
    other = {**maker.layer(), "mediaType": DOCKER.layer_gzip}
    maker.manifest(config=maker.config("hello\n", "hello\n"), layers=[maker.layer(), other])
    yield maker.image()
    maker = Maker("wrong-size", "a layer that has more bytes than its descriptor says")
    layer = maker.layer()
    maker.manifest(layers=[{**layer, "size": layer["size"] - 1}])
    yield maker.image()
    maker = Maker("sha512", "a layer named by SHA-512")
    content = packed("hello\n")
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    maker.blobs[digest] = content
    layer = {"mediaType": OCI.layer_gzip, "digest": digest, "size": len(content)}
    maker.manifest(config=maker.config("hello\n"), layers=[layer])
    yield maker.image()


def _artifacts() -> Iterator[OddImage]:
    for name, about, config in (
        ("artifact", "an artifact with an empty config of a type of its own", b"{}"),
        ("artifact-zero", "an artifact with a config of no bytes", b""),
    ):
        maker = Maker(name, about)
        content = maker.blob(b"anything\n", "application/vnd.example.content.v1")
        maker.manifest(config=maker.blob(config, "application/vnd.example.config.v1"), layers=[content])
        yield maker.image()
    # What is a manifest elsewhere lies here as a blob.
    maker = Maker("artifact-of-manifest", "an artifact whose content is the manifest of the first image")
    (manifest,) = next(_plain_ones()).manifests
    content = maker.blob(manifest.raw, "application/json")
    maker.manifest(config=maker.blob(b"{}", EMPTY), layers=[content], artifactType="application/vnd.example.copy")
    yield maker.image()
    maker = Maker("artifact-type", "an artifact that only `artifactType` tells")
    nothing = maker.blob(b"{}", EMPTY)
    maker.manifest(config=nothing, layers=[nothing], artifactType="application/vnd.example.thing.v1")
    yield maker.image()


def _referrers() -> Iterator[OddImage]:
    maker = Maker("referrer", "an image with a signature that refers to it")
    subject = maker.manifest()
    empty, signature = maker.blob(b"{}", EMPTY), maker.blob(b"signed\n", "application/vnd.example.signature.v1")
    maker.manifest(config=empty, layers=[signature], subject=subject, artifactType="application/vnd.example.signature")
    maker.manifests.reverse()
    yield maker.image(subject)
    maker = Maker("cosign", "an image with a signature under the tag that cosign 2 gives it")
    subject = maker.manifest()
    payload: Any = maker.blob(b"signed\n", "application/vnd.dev.cosign.simplesigning.v1+json")
    config = maker.blob(b'{"architecture":"","os":""}', OCI.config)
    maker.manifest(config=config, layers=[{**payload, "annotations": {"dev.cosignproject.cosign/signature": "MEQ="}}])
    maker.manifests.reverse()
    maker.manifests[0] = replace(maker.manifests[0], tag=f"{subject['digest'].replace(':', '-')}.sig")
    yield maker.image(subject)


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _zstd(data: bytes) -> bytes:
    """A frame of one block as it is (RFC 8878, section 3.1.1), of at most 128 KiB."""
    header = (0xFD2FB528).to_bytes(4, "little") + b"\xa0" + len(data).to_bytes(4, "little")
    return header + (len(data) << 3 | 1).to_bytes(3, "little") + data
