"""Indexes as people publish them, each twice: one platform of it is wanted, or all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.parts.images import DOCKER, OCI
from tests.parts.odd_maker import ABSENT, AMD64, ARM64, Maker, packed, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.odd_maker import OddImage

WINDOWS = {"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.2113"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
GOOD = "good\n"
"""The layer of the entry that is wanted."""


def odd_indexes() -> Iterator[OddImage]:
    """All of them."""
    for make, name, about in (
        (_two, "index", "an OCI index"),
        (_list, "list", "a Docker manifest list"),
        (_mixed, "index-of-docker", "an OCI index of Docker images"),
        (_annotated, "annotated", "an index with annotations and `artifactType`, without `mediaType`"),
        (_same, "same", "an index that names one manifest for two platforms"),
        (_no_architecture, "no-architecture", 'an entry with `"architecture": ""` beside a good one'),
        (_attested, "attested", "an entry without platform, and its attestation"),
        (_foreign, "foreign", "a Windows entry with a layer that its vendor alone holds"),
        (_held, "foreign-held", "the same, where the registry holds that layer"),
        (_unknown, "unknown-entry", "an entry of a type that nobody knows"),
        (_nested, "nested", "an index within an index"),
    ):
        one = Maker(name, f"{about}, one platform")
        yield one.one(make(one)[0])
        all_of_it = Maker(f"{name}-whole", f"{about}, whole")
        yield all_of_it.whole(*make(all_of_it))
    empty = Maker("index-empty", "an index without entries, whole")
    yield empty.nothing(empty.index())


def _two(maker: Maker) -> list[dict[str, Any]]:
    """As all below: the entry for linux/amd64, and the indexes above it."""
    entry = maker.child(GOOD, AMD64)
    return [entry, maker.index(entry, maker.child("other\n", ARM64))]


def _list(maker: Maker) -> list[dict[str, Any]]:
    maker.family = DOCKER
    return _two(maker)


def _mixed(maker: Maker) -> list[dict[str, Any]]:
    maker.family = DOCKER
    entry, other = maker.child(GOOD, AMD64), maker.child("other\n", ARM64)
    maker.family = OCI
    return [entry, maker.index(entry, other)]


def _annotated(maker: Maker) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, AMD64)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "other:1"}
    parts = {"annotations": {"com.example": "1"}, "artifactType": "application/vnd.example.bundle"}
    return [entry, maker.index(entry, maker.child("other\n", ARM64), **parts, mediaType=ABSENT)]


def _same(maker: Maker) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, AMD64)
    return [entry, maker.index(entry, {**entry, "platform": ARM64})]


def _no_architecture(maker: Maker) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, AMD64)
    return [entry, maker.index(entry, maker.child("other\n", {"os": "linux", "architecture": ""}))]


def _attested(maker: Maker) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, None)
    about = {"vnd.docker.reference.digest": entry["digest"], "vnd.docker.reference.type": "attestation-manifest"}
    statement = maker.blob(b'{"_type":"https://in-toto.io/Statement/v0.1"}', "application/vnd.in-toto+json")
    attestation = maker.manifest(config=maker.config(**UNKNOWN), layers=[statement])
    return [entry, maker.index(entry, {**attestation, "platform": UNKNOWN, "annotations": about})]


def _foreign(maker: Maker) -> list[dict[str, Any]]:
    maker.absent = {sha256(packed("vendor\n"))}
    return _windows(maker, "vendor\n")


def _held(maker: Maker) -> list[dict[str, Any]]:
    return _windows(maker, "held\n")


def _windows(maker: Maker, text: str) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, AMD64)
    media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    foreign = maker.blob(packed(text), media_type, urls=["http://127.0.0.1:1/vendor/layer"])
    layers = [foreign, maker.layer("own\n")]
    windows = maker.manifest(config=maker.config(text, "own\n", **WINDOWS), layers=layers)
    return [entry, maker.index(entry, {**windows, "platform": WINDOWS})]


def _unknown(maker: Maker) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, AMD64)
    return [entry, maker.index(entry, maker.blob(b"anything\n", "application/vnd.example.thing.v1"))]


def _nested(maker: Maker) -> list[dict[str, Any]]:
    entry = maker.child(GOOD, AMD64)
    inner = maker.index(entry)
    return [entry, inner, maker.index(inner, maker.child("other\n", ARM64))]
