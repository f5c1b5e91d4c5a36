"""Chart repositories' indexes, and the form of charts as OCI artifacts."""

import json
import shutil
from pathlib import Path

import pytest

from builder.charts.fetch import artifact, entries, local, select, urls
from builder.charts.version_ranges import newest
from builder.recipe.lock import Origin
from installer.chart.archive import unpacked
from installer.chart.helm import Chart
from installer.errors import ContentError, NotFoundError, RecipeError
from installer.oci import media_types
from installer.oci.digest import Digest
from tests.parts.chart_repository import pack, web_chart
from tests.parts.charts import CHARTS

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


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("1.2.3", "1.2.3"),
        ("1.3.0-rc.1", "1.3.0-rc.1"),
        ("1.2", "1.2.3"),
        ("v1.2.3", "1.2.3"),
        ("^1.2.0", "1.2.3"),
        ("~1.2", "1.2.3"),
        (">=1, <1.2.3", "1.2.2"),
        ("*", "1.2.3"),
        (">=1.2.3-0", "1.3.0-rc.1"),
    ],
)
def test_a_range_is_the_newest_version_that_fits(asked: str, taken: str) -> None:
    """Prereleases only where the range names one, as Helm has it."""
    assert select(entries(INDEX, "index.yaml"), "web", asked, BASE)["version"] == taken


@pytest.mark.parametrize("version", ["1.2.4", "^2", ">=1.3"])
def test_versions_that_are_not_there_are_refused_with_those_that_are(version: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        select(entries(INDEX, "index.yaml"), "web", version, BASE)
    assert caught.value.hint == "the newest there: 1.2.3, 1.2.2."


@pytest.mark.parametrize("version", ["latest", "^^1", "1.2.3.4.5"])
def test_what_is_no_range_is_refused(version: str) -> None:
    with pytest.raises(RecipeError, match="neither a version nor a range"):
        select(entries(INDEX, "index.yaml"), "web", version, BASE)


def test_the_newest_is_told_by_helm() -> None:
    versions = ["1.9.0", "1.10.0", "1.10.0-rc.1", "v1.2.0", "not a version", "2.0.0+b.1", "01.2.3"]
    assert newest("1", versions) == "1.10.0"
    assert newest(">1", versions) == "2.0.0+b.1"
    assert newest("1.2.0", versions) == "v1.2.0"
    assert newest("not a version", versions) == "not a version"
    assert newest("^3", []) == ""


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
        (["https://charts.example.com/a%2fb/./c.tgz?"], ["https://charts.example.com/a%2fb/./c.tgz?"]),
        (["oci://r.example/charts/web:1.2.3", "oci://u:p@r.example/x"], ["oci://r.example/charts/web:1.2.3"]),
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


def test_a_folder_is_packed_as_helm_does_and_always_the_same(tmp_path: Path) -> None:
    for place in ("first", "second"):
        folder = tmp_path / place / "demo-app"
        shutil.copytree(CHARTS / "demo-app", folder)
        (folder / ".helmignore").write_text("*.secret\n")
        (folder / "password.secret").write_text("hidden")
    (tmp_path / "first" / "demo-app" / "Chart.yaml").touch()
    origin, archive = local(tmp_path / "first" / "demo-app", "demo-app")
    assert origin == Origin("folder", "demo-app")
    assert local(tmp_path / "second" / "demo-app", "demo-app")[1] == archive
    names = unpacked(archive, "demo-app", ContentError)
    assert "demo-app/templates/deployment.yaml" in names
    assert "demo-app/password.secret" not in names
    assert Chart.load(archive).name == "demo-app"
    with pytest.raises(ContentError, match="no chart that can be packed"):
        local(tmp_path, "nothing")
