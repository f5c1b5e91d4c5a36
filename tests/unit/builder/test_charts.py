"""Chart repositories' indexes, and the form of charts as OCI artifacts."""

import json
from pathlib import Path

import pytest

from builder.charts.discover import resource_release
from builder.charts.fetch import artifact, entries, select, urls
from installer.chart.helm import Chart
from installer.errors import ContentError, NotFoundError, RecipeError
from installer.oci import media_types
from installer.oci.digest import Digest
from tests.parts.chart_repository import pack, web_chart

BASE = "https://charts.example.com/stable"
INDEX = b"""
apiVersion: v1
generated: 2026-01-01T00:00:00Z
entries:
  web:
  - {name: web, version: 1.3.0-rc.1, created: 2026-01-01T00:00:00.123456789Z, urls: [web-1.3.0-rc.1.tgz]}
  - {name: web, version: 1.2.3, digest: abc, urls: [web-1.2.3.tgz]}
  - {name: web, version: 1.2.2, urls: ["https://elsewhere.example.com/a?b=c"]}
"""


def test_the_exact_version_is_taken() -> None:
    index = entries(INDEX, "index.yaml")
    assert select(index, "web", "1.2.3", BASE)["digest"] == "abc"


@pytest.mark.parametrize("version", ["1.2", "^1.2.0", "v1.2.3", "latest", ""])
def test_ranges_are_refused(version: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        select(entries(INDEX, "index.yaml"), "web", version, BASE)
    assert caught.value.hint == "versions are exact; the newest there: 1.2.3, 1.2.2."


def test_an_unknown_chart_is_refused_with_those_there_are() -> None:
    with pytest.raises(NotFoundError) as caught:
        select(entries(INDEX, "index.yaml"), "wbe", "1", BASE)
    assert caught.value.hint == "it has: web."


@pytest.mark.parametrize(
    "raw", [b"", b"<html></html>", b"[]", b"entries: []", b"a: 1\na: 2", b"\xff\xfe", b"a: !!python/x 1"]
)
def test_what_is_no_index_is_refused(raw: bytes) -> None:
    with pytest.raises(ContentError):
        entries(raw, "index.yaml")


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (["web.tgz"], [f"{BASE}/web.tgz"]),
        (["/web.tgz"], ["https://charts.example.com/web.tgz"]),
        (["http://other.example.com/x?a=b", "file:///etc/passwd", 7], ["http://other.example.com/x?a=b"]),
        (["https://user:word@other.example.com/x"], []),
        ("web.tgz", []),
        (None, []),
    ],
)
def test_urls_are_relative_to_the_repository(listed: object, found: list[str]) -> None:
    assert urls({"urls": listed}, BASE) == found


def test_the_artifact_is_always_the_same_and_helm_takes_it(tmp_path: Path) -> None:
    archive = pack(web_chart("registry.example.com"), tmp_path).read_bytes()
    chart = Chart.load(archive)
    config, raw = artifact(chart)
    assert artifact(Chart.load(archive)) == (config, raw)
    manifest = json.loads(raw)
    assert manifest["config"] == {
        "mediaType": media_types.HELM_CONFIG,
        "digest": Digest.of(config).text,
        "size": len(config),
    }
    (layer,) = manifest["layers"]
    assert layer == {"mediaType": media_types.HELM_CHART, "digest": Digest.of(archive).text, "size": len(archive)}
    assert json.loads(config)["name"] == "web"


def test_a_resource_names_release_namespace_and_values() -> None:
    raw = b"kind: X\nmetadata: {name: wandb, namespace: prod}\nspec: {values: {a: y}}\n"
    assert resource_release(raw, "wandb.yaml") == ("wandb", "prod", {"a": True})
    assert resource_release(b"metadata: {name: w}\nspec: {}", "w")[1:] == ("default", {})


@pytest.mark.parametrize(
    "raw", [b"", b"metadata: {}", b"spec: {}", b"metadata: {name: a}", b"metadata: {name: a}\nspec: {values: []}"]
)
def test_what_is_no_resource_is_refused(raw: bytes) -> None:
    with pytest.raises(RecipeError):
        resource_release(raw, "wandb.yaml")
