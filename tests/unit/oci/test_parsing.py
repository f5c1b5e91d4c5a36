"""Digests, references, manifests and their JSON: what is accepted, and every hostile form that is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from installer import strict_json
from installer.errors import ContentError, UsageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import (
    MAX_DESCRIPTORS,
    MAX_MANIFEST,
    MAX_SIZE,
    Descriptor,
    Index,
    Manifest,
    Platform,
    parse_manifest,
)
from installer.oci.reference import DigestRef, Repository, TagRef, parse_reference, parse_repository

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


def descriptor(**more: Any) -> dict[str, Any]:
    return {"mediaType": media_types.OCI_LAYER, "digest": SHA, "size": 5, **more}


def manifest(**more: Any) -> dict[str, Any]:
    config = descriptor(mediaType=media_types.OCI_CONFIG)
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": config,
        "layers": [descriptor()],
        **more,
    }


def index(**more: Any) -> dict[str, Any]:
    items = [descriptor(mediaType=media_types.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})]
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": items, **more}


def raw(document: object) -> bytes:
    return json.dumps(document).encode()


class TestDigest:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            HEX,
            f"sha256:{HEX[:-1]}",
            f"sha256:{HEX}0",
            f"sha256:{HEX.upper()}",
            f"SHA256:{HEX}",
            f"sha256:{HEX}\n",
            f"\nsha256:{HEX}",
            f"sha256: {HEX[1:]}",
            f"sha512:{HEX}{HEX}",
            f"md5:{HEX[:32]}",
            f"sha256:../../{HEX[6:]}",
            f"sha256:{HEX[:-1]}\N{ARABIC-INDIC DIGIT ONE}",
            f"sha256:{HEX[:-1]}\0",
            "sha256:" + "g" * 64,
            "sha256:" * 10_000,
        ],
    )
    def test_one_spelling_only(self, text: str) -> None:
        with pytest.raises(ContentError, match="not a sha256 digest") as caught:
            Digest(text)
        assert len(caught.value.message) < 500
        assert caught.value.message.isprintable()

    def test_of_nothing(self) -> None:
        assert Digest.of(b"").hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        Digest.of(b"x").check(memoryview(b"x"), "x")
        with pytest.raises(ContentError, match=r"a thing: expected sha256:2d.*found sha256:a1"):
            Digest.of(b"x").check(b"y", "a thing")


class TestReference:
    @pytest.mark.parametrize(
        ("text", "full"),
        [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("docker.io/redis", "docker.io/library/redis:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b"),
            ("registry.site/a/b/c:1.0", "registry.site/a/b/c:1.0"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (f"redis@{SHA}", f"docker.io/library/redis@{SHA}"),
            (f"redis:7@{SHA}", f"docker.io/library/redis:7@{SHA}"),
            (f"h.x:1/a__b/c-d.e@{SHA}", f"h.x:1/a__b/c-d.e@{SHA}"),
            ("HOST/a", "HOST/a:latest"),
        ],
    )
    def test_full_names(self, text: str, full: str) -> None:
        assert str(parse_reference(text)) == full
        assert str(parse_reference(full)) == full

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ":",
            "@",
            "/",
            "a:",
            ":b",
            "a//b",
            "/a",
            "a/",
            "A",
            "a/B",
            "a:b:c",
            "a b",
            "a\n",
            "a:b\n",
            "a:\x1b[31m",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "../a",
            "h.x/../a",
            "h.x/%2e%2e/a",
            "h.x/a?b",
            "h.x/a#b",
            "user@h.x/a",
            "http://h.x/a",
            "h.x:port/a",
            "h.x:123456/a",
            "h..x/a",
            "-h.x/a",
            "a:.b",
            "a:" + "t" * 129,
            "h.x/" + "a" * 256,
            f"a@{SHA}x",
            f"a@{SHA}\n",
            f"a@sha512:{HEX}{HEX}",
            f"a@@{SHA}",
            "é",
            "h.x/é",
            "h.x/a:é",
        ],
    )
    def test_malformed(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse_reference(text)
        assert caught.value.message.isprintable()

    def test_selectors(self) -> None:
        repository = parse_repository("h.x/a")
        assert TagRef(repository, "1").selector == "1"
        assert DigestRef(repository, Digest(SHA), "1").selector == SHA
        with pytest.raises(UsageError):
            DigestRef(repository, Digest(SHA), "a/b")
        with pytest.raises(UsageError):
            Repository("h.x\r\nX-Header: y", "a")


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            b'{"a":1,"a":1}',
            b'{"x":{"a":1,"a":2}}',
            b'{"layers":1,"Layers":2}',
            b'{"digest":1,"d\\u0069gest":1}',
            b'{"s":1,"\xc5\xbf":2}',
            b'{"k":1,"\xe2\x84\xaa":2}',
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":-Infinity}',
            b'{"a":1}x',
            b'{"a":1}{"b":2}',
            b"\xef\xbb\xbf{}",
            b'{"a":"\xff"}',
            '{"a":1}'.encode("utf-16"),
            b"",
            b"{",
            b"{'a':1}",
            b'{"a":1,}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"1" * 100_000,
        ],
    )
    def test_what_two_readers_could_read_differently(self, text: bytes) -> None:
        with pytest.raises(ContentError, match="the thing"):
            strict_json.parse(text, "the thing", ContentError)

    def test_below_unknown_keys_others_are_free(self) -> None:
        for text in (b'{"x":{"a":1,"A":2}}', b'{"x":[[{"a":{"k":1,"K":2}}]]}', b'{"x":{"a":1,"a":2}}'):
            assert strict_json.parse(text, "x", ContentError, known=()) == json.loads(text)
            with pytest.raises(ContentError, match=r"differ only in case|stands twice"):
                strict_json.parse(text, "x", ContentError, known={"x", "a"})
        with pytest.raises(ContentError, match="differ only in case"):
            strict_json.parse(b'{"a":1,"A":2}', "x", ContentError, known=())

    def test_what_is_plain(self) -> None:
        assert strict_json.parse(b' {"a":[1,null,"\xc3\xa9"],"b":{"a":2}}\n', "x", ContentError) == {
            "a": [1, None, "é"],
            "b": {"a": 2},
        }


class TestManifest:
    def test_a_manifest(self) -> None:
        data = raw(manifest(annotations={"k": "v"}))
        found = parse_manifest(data, media_types.OCI_MANIFEST)
        assert isinstance(found, Manifest)
        assert found.raw == data
        assert found.descriptor == Descriptor(media_types.OCI_MANIFEST, Digest.of(data), len(data))
        # Configuration and layer have the same digest here: one blob.
        assert [blob.size for blob in found.blobs] == [5]

    def test_an_index(self) -> None:
        found = parse_manifest(raw(index()), f"{media_types.OCI_INDEX}; charset=utf-8")
        assert isinstance(found, Index)
        assert found.manifests[0].platform == Platform("linux", "amd64")

    def test_the_type_may_stand_in_one_place_only(self) -> None:
        document = manifest()
        del document["mediaType"]
        assert isinstance(parse_manifest(raw(document), media_types.OCI_MANIFEST), Manifest)

    def test_only_layers_that_may_stay_at_their_vendor_are_not_needed(self) -> None:
        layers = [
            descriptor(mediaType=kind, digest=f"sha256:{n:064}") for n, kind in enumerate(media_types.FOREIGN_LAYERS)
        ]
        found = parse_manifest(raw(manifest(layers=[descriptor(), *layers])), media_types.OCI_MANIFEST)
        assert isinstance(found, Manifest)
        assert [blob.digest.text for blob in found.blobs if found.needs(blob)] == [SHA]
        assert len(found.blobs) == 1 + len(layers)

    def test_a_type_that_nobody_knows_is_no_error_in_an_index(self) -> None:
        unknown = descriptor(mediaType="application/vnd.example.thing")
        found = parse_manifest(raw(index(manifests=[*index()["manifests"], unknown])), media_types.OCI_INDEX)
        assert isinstance(found, Index)
        assert [item.media_type for item in found.children] == [media_types.OCI_MANIFEST]
        assert [item.media_type for item in found.blobs] == ["application/vnd.example.thing"]
        assert not found.needs(found.blobs[0])

    @pytest.mark.parametrize("layers", [{}, {"layers": None}])
    def test_no_layers_are_written_in_three_ways(self, layers: dict[str, None]) -> None:
        document = {key: value for key, value in manifest().items() if key != "layers"}
        found = parse_manifest(raw({**document, **layers}), media_types.OCI_MANIFEST)
        assert isinstance(found, Manifest)
        assert found.layers == ()

    @pytest.mark.parametrize(
        "declared", ["", "text/plain", "application/json; charset=utf-8", media_types.DOCKER_MANIFEST]
    )
    def test_what_a_manifest_says_itself_goes_before_what_its_server_says(self, declared: str) -> None:
        assert parse_manifest(raw(manifest()), declared).descriptor.media_type == media_types.OCI_MANIFEST

    @pytest.mark.parametrize("stated", [{}, {"mediaType": None}, {"mediaType": ""}])
    def test_what_neither_says_its_content_does(self, stated: dict[str, str | None]) -> None:
        for document, kind in ((manifest(), media_types.OCI_MANIFEST), (index(), media_types.OCI_INDEX)):
            del document["mediaType"]
            assert parse_manifest(raw({**document, **stated}), "text/plain").descriptor.media_type == kind

    @pytest.mark.parametrize(
        "platform", [{}, {"os": "linux"}, {"os": "linux", "architecture": ""}, {"os": "linux", "architecture": "a/b"}]
    )
    def test_a_platform_that_names_none(self, platform: dict[str, str]) -> None:
        entries = [descriptor(mediaType=media_types.OCI_MANIFEST, platform=platform)]
        found = parse_manifest(raw(index(manifests=entries)), media_types.OCI_INDEX)
        assert isinstance(found, Index)
        assert found.manifests[0].platform is None

    def test_free_keys_may_differ_in_case_only(self) -> None:
        texts = {"Config": "1", "config": "2", "none": None}
        free: Any = {"annotations": texts, "x-other": {"size": 1, "Size": [{"a": 1, "A": 2}]}}
        layers = [descriptor(**free)]
        found = parse_manifest(raw(manifest(layers=layers, **free)), media_types.OCI_MANIFEST)
        assert isinstance(found, Manifest)
        assert found.layers[0].annotations == {**texts, "none": ""}

    @pytest.mark.parametrize(
        ("document", "kind"),
        [
            # One document that is both kinds (CVE-2021-41190).
            ({**manifest(), "manifests": index()["manifests"]}, media_types.OCI_MANIFEST),
            ({**index(), "layers": []}, media_types.OCI_INDEX),
            ({**index(), "config": descriptor()}, media_types.OCI_INDEX),
            ({**manifest(), "fsLayers": []}, media_types.OCI_MANIFEST),
            ({**index(), "fsLayers": []}, media_types.OCI_INDEX),
            # Delivered as something else than it says.
            (manifest(), media_types.OCI_INDEX),
            (index(), media_types.OCI_MANIFEST),
            (manifest(mediaType="application/vnd.oci.artifact.manifest.v1+json"), media_types.OCI_MANIFEST),
            ({"schemaVersion": 2, **{key: [] for key in ("manifests", "config")}}, "text/plain"),
            ({"schemaVersion": 2}, "text/plain"),
            (manifest(mediaType=media_types.OCI_INDEX), media_types.OCI_MANIFEST),
            (manifest(mediaType=[media_types.OCI_MANIFEST]), media_types.OCI_MANIFEST),
            # Other versions.
            (manifest(schemaVersion=1), media_types.OCI_MANIFEST),
            (manifest(schemaVersion="2"), media_types.OCI_MANIFEST),
            ({key: value for key, value in manifest().items() if key != "schemaVersion"}, media_types.OCI_MANIFEST),
            # Parts of the wrong kind.
            ([], media_types.OCI_MANIFEST),
            (None, media_types.OCI_MANIFEST),
            (manifest(config=None), media_types.OCI_MANIFEST),
            (manifest(config=[]), media_types.OCI_MANIFEST),
            (manifest(layers={}), media_types.OCI_MANIFEST),
            (manifest(layers=[None]), media_types.OCI_MANIFEST),
            (manifest(layers=[descriptor()] * (MAX_DESCRIPTORS + 1)), media_types.OCI_MANIFEST),
            (index(manifests="x"), media_types.OCI_INDEX),
        ],
    )
    def test_refused_documents(self, document: object, kind: str) -> None:
        with pytest.raises(ContentError) as caught:
            parse_manifest(raw(document), kind)
        assert caught.value.hint

    @pytest.mark.parametrize(
        "change",
        [
            {"size": -1},
            {"size": MAX_SIZE + 1},
            {"size": 2**63},
            {"size": 5.0},
            {"size": "5"},
            {"size": True},
            {"size": None},
            {"digest": f"{SHA}\n"},
            {"digest": f"sha256:{HEX.upper()}"},
            {"digest": "sha256:../../../etc/passwd"},
            {"digest": None},
            {"digest": 5},
            {"mediaType": None},
            {"mediaType": 5},
            {"annotations": ["a"]},
            {"annotations": {"a": 5}},
            {"platform": []},
            {"platform": {"os": 5, "architecture": "amd64"}},
        ],
    )
    def test_refused_descriptors(self, change: dict[str, Any]) -> None:
        with pytest.raises(ContentError) as caught:
            parse_manifest(raw(manifest(layers=[descriptor(**change)])), media_types.OCI_MANIFEST)
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("key", "others"),
        [
            (b'"layers": [', b'"Layers": [], "layers": ['),
            (b'"digest"', b'"Digest": "x", "digest"'),
            (b'"os"', b'"OS": "x", "os"'),
        ],
    )
    def test_keys_that_go_reads_differently(self, key: bytes, others: bytes) -> None:
        layers = [descriptor(platform={"os": "linux", "architecture": "amd64"})]
        text = raw(manifest(layers=layers)).replace(key, others, 1)
        assert others in text
        with pytest.raises(ContentError, match="differ only in case"):
            parse_manifest(text, media_types.OCI_MANIFEST)

    def test_size_limit(self) -> None:
        data = raw(manifest())
        assert (
            parse_manifest(data + b" " * (MAX_MANIFEST - len(data)), media_types.OCI_MANIFEST).descriptor.size
            == 4194304
        )
        with pytest.raises(ContentError, match="at most 4194304"):
            parse_manifest(data + b" " * (MAX_MANIFEST - len(data) + 1), media_types.OCI_MANIFEST)

    def test_embedded_data_is_not_believed(self) -> None:
        found = parse_manifest(raw(manifest(layers=[descriptor(data="ZXZpbA==")])), media_types.OCI_MANIFEST)
        assert isinstance(found, Manifest)


class TestPlatform:
    @pytest.mark.parametrize(
        ("has", "wanted", "serves"),
        [
            ("linux/amd64", "linux/amd64", True),
            ("linux/arm64", "linux/arm64/v8", True),
            ("linux/arm64/v8", "linux/arm64", True),
            ("linux/arm/v7", "linux/arm", True),
            ("linux/arm/v7", "linux/arm/v6", False),
            ("linux/amd64", "linux/arm64", False),
            ("windows/amd64", "linux/amd64", False),
        ],
    )
    def test_serves(self, has: str, wanted: str, *, serves: bool) -> None:
        assert Platform.parse(has).serves(Platform.parse(wanted)) is serves

    @pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "linux/a/b/c", "//"])
    def test_malformed(self, text: str) -> None:
        with pytest.raises(UsageError):
            Platform.parse(text)
